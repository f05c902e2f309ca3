"""A robot hand on the page: one mesh per body, moved by its pose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

ROBOT = (88, 94, 104)


class PageRobot:
    """Meshes of a robot's bodies in the page's scene, hidden until they are placed.

    Args:
        server: the page's.
        parts: vertices (V, 3) m, in the body's frame, and faces (F, 3), of each body; one without a shape has none.
        order: of its switch among the page's controls, None = below all that are there.
    """

    def __init__(self, server: Any, parts: Sequence[tuple[np.ndarray, np.ndarray]], order: float | None = None) -> None:
        self._shown = server.gui.add_checkbox("show robot", True, order=order)
        self._meshes = [
            server.scene.add_mesh_simple(
                f"/robot/body_{number}",
                np.asarray(vertices, np.float32),
                np.asarray(faces, np.uint32),
                color=ROBOT,
                side="double",
                visible=False,
            )
            if len(faces)
            else None
            for number, (vertices, faces) in enumerate(parts)
        ]

    def place(self, poses: np.ndarray) -> None:
        """Show the bodies.

        Args:
            poses: (B, 4, 4) m, in the camera's frame.
        """
        turns = np.roll(Rotation.from_matrix(poses[:, :3, :3]).as_quat(), 1, axis=1)  # wxyz
        for mesh, pose, turn in zip(self._meshes, poses, turns, strict=True):
            if mesh is not None:
                mesh.position, mesh.wxyz, mesh.visible = pose[:3, 3], turn, self._shown.value

    def hide(self) -> None:
        """Nothing is known of the robot."""
        for mesh in self._meshes:
            if mesh is not None:
                mesh.visible = False
