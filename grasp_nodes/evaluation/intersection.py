"""Volume that hand and object share: exact by columns, and CPF's solid intersection volume in voxels."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.evaluation.solid import Solid, check_hands, finite_hands
from grasp_nodes.geometry.columns import bounds, common_lengths, mesh_columns
from grasp_nodes.geometry.winding import winding_number_grid

COLUMN_SPACING = 0.001
"""m; the resolution of the papers (FastGrasp, CHOIR), here of columns instead of voxels."""
LEAST_COLUMNS = 4000
"""Shared volumes that fewer columns meet are measured again with finer ones, as else small ones would be noise."""
FINEST_SPACING = 2e-5
_ODD_TURN = Rotation.from_rotvec([0.3719, 0.5413, -0.2357]).as_matrix()
"""Keeps the lines from running along flat faces, and their rows along straight edges, of boxes and cylinders in their
own frames: there the error of a midpoint rule would not average out."""


def intersection_volume(
    hand_vertices: np.ndarray, hand_faces: np.ndarray, solid: Solid, spacing: float = COLUMN_SPACING
) -> np.ndarray:
    """Penetration volume (FastGrasp), intersection volume (CHOIR): volume of the space inside both hand and object.

    The papers count 1 mm voxels; here parallel lines 1 mm apart cross both meshes and the common length on each is
    exact, which leaves the error of a midpoint rule in two dimensions. Where few lines meet the shared space the
    measurement is repeated with finer ones. A hand that intersects itself counts once.

    Args:
        hand_vertices: (B, V, 3), m, object frame. hand_faces: (F, 3) int, closed, outward.
        spacing: m, largest distance of two lines.

    Returns:
        (B,) m^3, NaN for a hand with NaN.

    Raises:
        InputError: wrong shapes or an open hand.
    """
    vertices = check_hands(hand_vertices, hand_faces)
    good = finite_hands(vertices)
    return np.array(
        [
            _shared_volume(vertices[i], hand_faces, solid.vertices, solid.faces, spacing) if good[i] else np.nan
            for i in range(len(vertices))
        ]
    )


def _shared_volume(
    vertices_a: np.ndarray, faces_a: np.ndarray, vertices_b: np.ndarray, faces_b: np.ndarray, spacing: float
) -> float:
    a, b = vertices_a @ _ODD_TURN, vertices_b @ _ODD_TURN
    (low_a, high_a), (low_b, high_b) = bounds(a), bounds(b)
    low, high = np.maximum(low_a, low_b), np.minimum(high_a, high_b)
    if not (high > low).all():
        return 0.0
    # Lines along the longest side: the fewest. A cyclic order of axes keeps the faces' orientation.
    order = (np.argmax(high - low) + np.array([1, 2, 3])) % 3
    a, b, low, high = a[:, order], b[:, order], low[order][:2], high[order][:2]
    spacing = max(min(spacing, float(np.sqrt(np.prod(high - low) / LEAST_COLUMNS))), FINEST_SPACING)
    while True:
        size = np.maximum(np.ceil((high - low) / spacing).astype(int), 1) + 1
        origin = low - 0.5 * spacing
        shape = (int(size[0]), int(size[1]))
        length = common_lengths(
            mesh_columns(a, faces_a, origin, spacing, shape), mesh_columns(b, faces_b, origin, spacing, shape)
        )
        met = np.flatnonzero(length)
        if not len(met) or len(met) >= LEAST_COLUMNS // 2 or spacing <= FINEST_SPACING:
            return float(length.sum() * spacing**2)
        index = np.stack(np.divmod(met, shape[1]), axis=1)
        low, high = origin + (index.min(axis=0) - 1) * spacing, origin + (index.max(axis=0) + 1) * spacing
        spacing = max(spacing * float(np.sqrt(len(met) / LEAST_COLUMNS)), FINEST_SPACING)


def solid_intersection_volume(
    hand_vertices: np.ndarray, hand_faces: np.ndarray, solid: Solid, resolution: int = 80
) -> np.ndarray:
    """Solid intersection volume (SIV) of CPF, section 6.2: the object in 80^3 voxels, volume of those inside the hand.

    The voxels divide the cube over the object's longest side; one belongs to the object, and to the hand, when its
    centre does.

    Args:
        hand_vertices: (B, V, 3), m, object frame. hand_faces: (F, 3) int, closed, outward.
        resolution: voxels along the longest side.

    Returns:
        (B,) m^3, NaN for a hand with NaN.
    """
    vertices = check_hands(hand_vertices, hand_faces)
    good = finite_hands(vertices)
    low, extent = solid.vertices.min(axis=0), np.ptp(solid.vertices, axis=0)
    edge = float(extent.max() / resolution)
    # The last voxels along the shorter sides may reach beyond the object.
    size = np.maximum(np.ceil(extent / edge - 1e-9).astype(int), 1)
    origin = low + 0.5 * edge + 1e-7 * edge * np.array([0.4142, 0.7321, 0.2361])
    shape = (int(size[0]), int(size[1]), int(size[2]))
    filled = winding_number_grid(solid.vertices, solid.faces, origin, edge, shape) > 0
    counts = [
        np.count_nonzero(filled & (winding_number_grid(vertices[i], hand_faces, origin, edge, shape) > 0))
        if good[i]
        else np.nan
        for i in range(len(vertices))
    ]
    return np.array(counts, np.float64) * edge**3
