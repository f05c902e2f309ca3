"""A depth camera over a table with one object on it, rendered as asked for; the object turns between frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.interaction import HandObjectState, ObjectState
from grasp_nodes.data.depth_sensor import DEPTH_UNIT, measured_depth
from grasp_nodes.data.frame_source import FrameSourceBase
from grasp_nodes.data.resting import resting_poses
from grasp_nodes.data.shading import LABEL_OBJECT, Studio
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.geometry.rendering import RenderMesh
from grasp_nodes.objects.clouds.observed import check_width
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.registry import SPEC_PREFIX, TRAINING_FAMILIES

FPS = 2.0
TURN = 0.35
"""rad, between frames."""
ELEVATION, DISTANCE = np.deg2rad(38.0), 0.6
TARGET_HEIGHT = 0.05
_LOWEST = 0.03
"""m: flatter things hardly stand off the table's noise."""
_COLORS = ((0.30, 0.45, 0.62), (0.62, 0.32, 0.26), (0.35, 0.52, 0.33), (0.70, 0.58, 0.30))


class TableSource(FrameSourceBase):
    """One object, seen obliquely from above.

    Args:
        object_spec: mesh or shape; '' = a procedural one by the seed. frames: 0 = one. seed: of object, turn and noise.

    Raises:
        InputError, MissingFileError: an object that cannot be used.
    """

    has_depth = True
    has_truth = True

    def __init__(self, object_spec: str = "", frames: int = 0, seed: int = 0) -> None:
        camera = CameraModel(np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]]), 640, 480)
        super().__init__(FPS, camera)
        self._rng = np.random.default_rng([seed, 77])
        self._seed, self._count = seed, frames or 1
        self.first_stamp = 1_000_000_000
        self.object_spec = object_spec or self._random_spec()
        model = load_object(self.object_spec)
        self.object_id = model.object_id
        self._vertices, self._faces = model.vertices.astype(np.float64), model.faces
        poses = resting_poses(Solid.of(model))
        if not poses:  # a ball stands as well one way as another
            poses = [np.eye(4)]
            poses[0][2, 3] = -self._vertices[:, 2].min()
        self._T_table_object = next((one for one in poses if self._height(one) > _LOWEST), poses[0])
        self._turn = float(self._rng.uniform(0, 2 * np.pi))
        self._T_camera_world = _camera_pose()
        self._studio = Studio(camera, self._T_camera_world, seed)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(number) for number in range(self._count))

    def frame(self, number: int) -> Frame:
        """One picture with depth."""
        pose = self.pose(number)
        vertices = self._vertices @ pose[:3, :3].T + pose[:3, 3]
        color = np.array(_COLORS[self._seed % len(_COLORS)])
        # The studio's first mesh is skin: here a speck behind the camera.
        speck = RenderMesh(np.array([[0, 0, -1.0], [1e-3, 0, -1.0], [0, 1e-3, -1.0]]), np.array([[0, 1, 2]]), color)
        meshes = [speck, RenderMesh(vertices, self._faces, color)]
        labels = [np.full(1, LABEL_OBJECT, np.uint8), np.full(len(self._faces), LABEL_OBJECT, np.uint8)]
        image = self._studio.render(meshes, labels, number)
        depth = measured_depth(image.depth, np.random.default_rng([self._seed, 78, number])) * np.float32(DEPTH_UNIT)
        return Frame(self._stamp(number), image.color, self.camera, depth.astype(np.float32))

    def pose(self, number: int) -> np.ndarray:
        """T_camera_object (4, 4) of a frame."""
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec([0, 0, self._turn + TURN * number]).as_matrix()
        return self._T_camera_world @ turn @ self._T_table_object

    def truth(self, stamp: int) -> HandObjectState | None:
        """The object's pose; there is no hand."""
        number = round((stamp - self.first_stamp) * FPS / 1e9)
        if not 0 <= number < self._count or self._stamp(number) != stamp:
            return None
        placed = ObjectState(
            self.object_id, self.pose(number), score=1.0, mesh_resource=self.object_spec, is_metric=True
        )
        return HandObjectState(stamp, self.camera.frame_id, objects=(placed,))

    def _stamp(self, number: int) -> int:
        return self.first_stamp + round(number * 1e9 / FPS)

    def _height(self, pose: np.ndarray) -> float:
        return float(np.ptp(self._vertices @ pose[2, :3]))

    def _random_spec(self) -> str:
        """A procedural object of training's families that a hand can hold."""
        while True:
            family = TRAINING_FAMILIES[int(self._rng.integers(len(TRAINING_FAMILIES)))]
            spec = f"{SPEC_PREFIX}{family}:{int(self._rng.integers(1000))}"
            try:
                check_width(spec, load_object(spec).vertices)
            except InputError:
                continue
            return spec


def _camera_pose() -> np.ndarray:
    """T_camera_world (4, 4): it looks along +y, down to the table."""
    back = np.array([0.0, -np.cos(ELEVATION), np.sin(ELEVATION)])
    rotation = np.stack([[1.0, 0.0, 0.0], np.cross(-back, [1.0, 0.0, 0.0]), -back])
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ (np.array([0.0, 0.0, TARGET_HEIGHT]) + DISTANCE * back)
    return pose
