"""``python -m grasp_nodes.objects.families sheet.png``: some objects of every family, and those that are held out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RenderMesh, contact_sheet, render_meshes
from grasp_nodes.objects.registry import FAMILIES, HELD_OUT_SEED, ObjectName, family_mesh, heldout_names

DISTANCE = 1.2
"""m, of the camera from the object: near to a parallel projection, so that sizes can be compared."""
WIDTH = 0.29
"""m, that a picture shows."""
COLORS = {False: (0.62, 0.67, 0.74), True: (0.86, 0.62, 0.40)}
"""Of training's objects and of those that are held out."""


def picture(name: ObjectName, pixels: int) -> np.ndarray:
    """(pixels, pixels, 3) uint8: the object from above its front, all objects on one scale."""
    vertices, faces = family_mesh(name)
    tilt = cv2.Rodrigues(np.deg2rad([118.0, 0.0, 0.0]))[0] @ cv2.Rodrigues(np.deg2rad([0.0, 0.0, -35.0]))[0]
    points = vertices @ tilt.T + [0, 0, DISTANCE]
    focal, middle = pixels * DISTANCE / WIDTH, (pixels - 1) / 2
    camera = CameraModel(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]), pixels, pixels)
    mesh = RenderMesh(points, faces, np.array(COLORS[name.held_out]), smooth=False)
    image = render_meshes([mesh], camera, threads=1).color
    return cv2.putText(image.copy(), str(name), (4, pixels - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (40, 40, 40), 1, 16)


def main() -> int:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(prog="python -m grasp_nodes.objects.families", description=__doc__)
    parser.add_argument("output", type=Path, help="a PNG")
    parser.add_argument("--per-family", type=int, default=6, help="objects of each family that training may see")
    parser.add_argument("--pixels", type=int, default=104, help="edge of one picture")
    options = parser.parse_args()
    shown = [
        ObjectName(name, k) for name, kin in FAMILIES.items() if not kin.held_out for k in range(options.per_family)
    ]
    shown += heldout_names()
    assert all(name.seed < HELD_OUT_SEED or name.held_out for name in shown)
    sheet = contact_sheet([picture(name, options.pixels) for name in shown], 2 * options.per_family)
    return 0 if cv2.imwrite(str(options.output), sheet[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]) else 1


if __name__ == "__main__":
    sys.exit(main())
