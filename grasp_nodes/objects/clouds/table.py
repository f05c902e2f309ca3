"""The table that an object stands on: the largest plane of a cloud, found by RANSAC (Fischler and Bolles, 1981)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.spatial import ConvexHull, QhullError

from grasp_nodes.objects.clouds.moments import farthest, near_plane, votes

THICKNESS = 0.006
"""m: so near to the plane is the table; depth cameras wave by as much."""
SMALLEST_TABLE = 0.25
"""m, of the shorter side of what is seen of it: a face of a thing to hold is smaller."""
_MOST_BELOW = 0.05
_HYPOTHESES, _TESTED_ON = 300, 3000
_REFITS = 3
_DIRECTIONS = 64
"""That the outline of what is seen of a table is looked for in."""


@dataclass(frozen=True)
class Plane:
    """Points x with ``normal @ x == offset``; normal: (3,), unit, up: towards the camera. offset: m."""

    normal: np.ndarray
    offset: float

    def height(self, points: np.ndarray) -> np.ndarray:
        """(N,), m, above the plane."""
        return points @ self.normal - self.offset


@dataclass(frozen=True)
class Table:
    """A plane, and which points of the cloud belong to it. sides: (2,), m, of what is seen of it, longer one first."""

    plane: Plane
    belongs: np.ndarray
    sides: np.ndarray


def largest_plane(points: np.ndarray, viewpoint: np.ndarray, seed: int = 0) -> Table | None:
    """The plane that holds the most points; None where no three points make one.

    Args:
        points: (N, 3), m. viewpoint: (3,), m, the side that its normal points to. seed: of the hypotheses.
    """
    rng = np.random.default_rng(seed)
    tested = points[rng.choice(len(points), min(_TESTED_ON, len(points)), replace=False)]
    corner = points[rng.integers(len(points), size=(_HYPOTHESES, 3))]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1)
    usable = length > 1e-9
    if not usable.any():
        return None
    normal = normal[usable] / length[usable, None]
    offset = (normal * corner[usable, 0]).sum(axis=1)
    best = int(votes(tested, normal, offset, THICKNESS).argmax())
    plane = Plane(normal[best], float(offset[best]))
    for _ in range(_REFITS):
        middle, spread = near_plane(points, plane.normal, plane.offset, THICKNESS)
        if not np.isfinite(spread).all():
            break
        direction = np.linalg.eigh(spread)[1][:, 0]
        plane = Plane(direction, float(direction @ middle))
    if plane.height(viewpoint[None])[0] < 0:
        plane = Plane(-plane.normal, -plane.offset)
    belongs = np.abs(plane.height(points)) < THICKNESS
    # As columns: whatever goes along them is faster so.
    across = _across(plane.normal) @ points[belongs].T
    axes = np.linalg.eigh(np.cov(across))[1] if across.shape[1] > 2 else np.eye(2)
    sides = np.ptp(np.percentile(axes.T @ across, [2, 98], axis=1), axis=0)
    return Table(plane, belongs, np.sort(sides)[::-1])


def above_table(points: np.ndarray, table: Table, margin: float = THICKNESS) -> np.ndarray:
    """(N,) whether points stand on the table: above the plane, and over what is seen of it."""
    above = table.plane.height(points) > margin
    above[above] = _over(points[above], points[table.belongs], table.plane.normal)
    return above


def carries(points: np.ndarray, table: Table) -> bool:
    """Whether a plane has hardly a point of the cloud (N, 3) below it, as a table; a slice through a thing has."""
    below = points[table.plane.height(points) < -2 * THICKNESS]
    under = _over(below, points[table.belongs], table.plane.normal)
    return bool(under.sum() < _MOST_BELOW * table.belongs.sum())


def _over(points: np.ndarray, seen: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(N,) whether points (N, 3) are above or below the hull of what is seen of the table (M, 3)."""
    axes = _across(normal)
    try:
        edges = ConvexHull(_outline(seen @ axes.T)).equations
    except QhullError:  # a line of points: there is nothing to be over
        return np.ones(len(points), bool)
    return _within(points, edges[:, :2] @ axes, edges[:, 2])


def _outline(places: np.ndarray) -> np.ndarray:
    """Of points in a plane (N, 2) those that lie farthest in some direction: a disk of 1 m loses 0.6 mm by the rest."""
    turns = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    outline: np.ndarray = places[farthest(places, np.stack([np.cos(turns), np.sin(turns)], axis=1))]
    return outline


@njit(cache=True)
def _within(points: np.ndarray, normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N,) whether points (N, 3) are on the inner side of all planes ``normal @ x + offset == 0``."""
    found = np.ones(len(points), np.bool_)
    for i in range(len(points)):
        for k in range(len(normals)):
            height = points[i, 0] * normals[k, 0] + points[i, 1] * normals[k, 1] + points[i, 2] * normals[k, 2]
            if height + offsets[k] > 0:
                found[i] = False
                break
    return found


def _across(normal: np.ndarray) -> np.ndarray:
    """(2, 3): two unit vectors in the plane."""
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])
