"""Closed surfaces out of points that lie on one: alpha shapes, and the boundary of what the points enclose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy import ndimage
from scipy.spatial import Delaunay, QhullError, cKDTree

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.iso_surface import surface_nets
from grasp_nodes.geometry.mesh import is_watertight, signed_volume

LEAST_POINTS = 16
_MET = 0.97
"""Share of the points that a closed alpha shape has to hold."""
_SCALLOP = 0.9
"""Of the reach: so far from points the front of balls about them is on average; between two it is nearer."""


_RADII = (1.5, 2.0, 3.0, 4.5, 6.0, 9.0, 12.0, 18.0)
"""Of the balls of alpha shapes that are tried, in spacings of the points."""
_REACH = 1.2
"""Of balls about points that close the gaps between them, in spacings."""
_FULL = 0.8
"""Share of the enclosed volume below which an alpha shape is but a skin."""
Kind = Literal["alpha", "enclosed"]


class PointSurface(NamedTuple):
    """A closed surface. kind: how it was made.

    vertices: (V, 3) float64, m. faces: (F, 3) int64, outward.
    """

    vertices: np.ndarray
    faces: np.ndarray
    kind: Kind


def closed_surface(points: np.ndarray, prefer: Kind = "alpha") -> PointSurface:
    """The solid whose surface points (N, 3), m, lie on: the finest alpha shape that is closed, whole and full.

    Where no alpha shape is, or if `prefer` says so, it is what the points enclose (`enclosed_surface`).

    Raises:
        InputError: too few points, some that are not finite, or they enclose nothing.
    """
    points = checked_points(points)
    spacing = point_spacing(points)
    body = enclosed_surface(points, _REACH * spacing)
    if prefer == "alpha":
        found = AlphaShapes(points).closed([factor * spacing for factor in _RADII], _FULL * signed_volume(*body))
        if found is not None:
            return PointSurface(*found, "alpha")
    return PointSurface(*body, "enclosed")


def point_spacing(points: np.ndarray, share: float = 0.98) -> float:
    """m, from a point to its fourth neighbour: that of the sparsest but for a few of them."""
    distance = cKDTree(points).query(points, k=min(5, len(points)))[0][:, -1]
    return float(np.quantile(distance, share))


class AlphaShapes:
    """Alpha shapes (Edelsbrunner et al., 1983) of one cloud: boundaries of the tetrahedra that fit into a ball.

    Args:
        points: (N, 3), m.

    Raises:
        InputError: too few points, some that are not finite, or all in a plane.
    """

    def __init__(self, points: np.ndarray) -> None:
        self._points = checked_points(points)
        try:
            self._cells = Delaunay(self._points).simplices
        except QhullError as error:
            raise InputError("surface of points: they lie in a plane, so they enclose nothing") from error
        self._radius = _circumradius(self._points[self._cells])

    def __call__(self, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """The shape for balls of a radius, m; no manifold where tetrahedra meet in an edge or a corner only.

        Returns:
            vertices (V, 3) float64 and outward faces (F, 3) int64; both empty where no tetrahedron fits.
        """
        points, cells = self._points, self._cells[self._radius <= radius]
        # The face opposite each corner; wound so that it looks away from it.
        faces = np.concatenate([np.delete(cells, k, axis=1) for k in range(4)])
        corner, opposite = points[faces], points[np.concatenate([cells[:, k] for k in range(4)])]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        inward = (normal * (opposite - corner[:, 0])).sum(axis=1) > 0
        faces[inward] = faces[inward][:, ::-1]
        _, first, count = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
        outer = faces[first[count == 1]]
        used, numbers = np.unique(outer, return_inverse=True)
        return points[used], numbers.reshape(-1, 3).astype(np.int64)

    def closed(self, radii: Sequence[float], volume: float = 0.0) -> tuple[np.ndarray, np.ndarray] | None:
        """The shape of the first of some radii that is one closed surface, of a volume, m^3, with nearly all points."""
        for radius in radii:
            vertices, faces = self(radius)
            if len(faces) and is_watertight(faces) and _one_piece(faces, len(vertices)):
                inside = np.unique(self._cells[self._radius <= radius])
                if len(inside) >= _MET * len(self._points) and signed_volume(vertices, faces) >= volume:
                    return vertices, faces
        return None


def enclosed_surface(points: np.ndarray, reach: float, nodes: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """The boundary of what cannot be reached from outside between points (N, 3), always closed.

    Balls about the points close gaps of up to twice the reach; what a flood from outside does not enter is the body,
    made thinner by the reach again. Walls that have points on both sides stay, however thin.

    Args:
        points: m. reach: m, radius of the balls. nodes: of the grid along the longest side.

    Returns:
        vertices (V, 3) float64 and outward faces (F, 3) int64, of the largest part.

    Raises:
        InputError: too few points, some that are not finite, or nothing is enclosed.
    """
    points = checked_points(points)
    low, high = points.min(axis=0) - 2.0 * reach, points.max(axis=0) + 2.0 * reach
    spacing = float((high - low).max()) / (nodes - 1)
    low, high = low - 2.0 * spacing, high + 2.0 * spacing
    size = np.ceil((high - low) / spacing).astype(int) + 1
    grid = low + spacing * np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    distance = cKDTree(points).query(grid.reshape(-1, 3))[0].reshape(size)
    outside = ndimage.label(distance > reach)[0]
    outside = outside == outside[0, 0, 0]
    # From the flood's front the surface is the reach away. Near the front the balls' own distance is smooth.
    depth = ndimage.distance_transform_edt(~outside) * spacing - 0.5 * spacing
    front = np.where(outside, distance - reach, -depth)
    values = front + _SCALLOP * reach
    inside, found = ndimage.label(values < 0)
    if not found:
        raise InputError("surface of points: they enclose nothing")
    largest = 1 + int(np.bincount(inside.ravel())[1:].argmax())
    values = np.where((values < 0) & (inside != largest), 0.25 * spacing, values)
    return surface_nets(values, low, spacing)


def checked_points(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) as float64.

    Raises:
        InputError: too few of them, another shape, or some that are not finite.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < LEAST_POINTS:
        raise InputError(f"surface of points: expected at least {LEAST_POINTS} of shape (N, 3), got {points.shape}")
    wrong = int((~np.isfinite(points).all(axis=1)).sum())
    if wrong:
        raise InputError(f"surface of points: {wrong} of {len(points)} points are NaN or infinite")
    return points


def _circumradius(corners: np.ndarray) -> np.ndarray:
    """(T,), m, of tetrahedra (T, 4, 3); infinite where they are flat."""
    edges = corners[:, 1:] - corners[:, :1]
    squared = (edges**2).sum(axis=2)
    volume = np.einsum("ti,ti->t", edges[:, 0], np.cross(edges[:, 1], edges[:, 2]))
    summed = (
        squared[:, :1] * np.cross(edges[:, 1], edges[:, 2])
        + squared[:, 1:2] * np.cross(edges[:, 2], edges[:, 0])
        + squared[:, 2:] * np.cross(edges[:, 0], edges[:, 1])
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = np.linalg.norm(summed, axis=1) / (2.0 * np.abs(volume))
    return np.where(np.isfinite(radius), radius, np.inf)


def _one_piece(faces: np.ndarray, count: int) -> bool:
    """Whether a surface hangs together: a cavity, or a second body, is a piece of its own."""
    pairs = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sp.coo_matrix((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    return bool(sp.csgraph.connected_components(graph, directed=False)[0] == 1)
