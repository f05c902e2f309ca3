"""How much of a mesh a camera sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, box_pixels, pixel_rays


def visible_share(camera: CameraModel, mesh: RenderMesh, others: Sequence[RenderMesh], step: int = 3) -> float:
    """Share of a mesh's outline that neither other meshes nor the image's border hide.

    Args:
        camera: without distortion. mesh, others: in its frame, m, in front of it.
        step: every so many pixels of the outline's box a ray is cast; the box may be wider than the image.

    Returns:
        In [0, 1].
    """
    outline = camera.project(mesh.vertices)
    x0, y0 = np.floor(outline.min(axis=0)).astype(int)
    x1, y1 = np.ceil(outline.max(axis=0)).astype(int) + 1
    rays = pixel_rays(camera, box_pixels((int(x0), int(y0), int(x1), int(y1)))[::step])
    alone = RayScene([mesh], threads=1).cast(rays).mesh == 0
    first = RayScene([mesh, *others], threads=1).cast(rays).mesh == 0
    pixels = camera.project(rays)
    inside = ((pixels >= -0.5) & (pixels <= [camera.width - 0.5, camera.height - 0.5])).all(axis=1)
    return float((first & inside).sum() / max(int(alone.sum()), 1))
