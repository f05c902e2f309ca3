"""A closed solid out of points: their convex hull without what is known to be free."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.columns import bounds
from grasp_nodes.geometry.iso_surface import surface_nets
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.objects.clouds.cells import Neighbours
from grasp_nodes.objects.clouds.distances import distance_from
from grasp_nodes.objects.clouds.moments import farthest
from grasp_nodes.objects.model import ObjectModel

NODES = 48
"""Of the grid along the longest side."""
PADDING = 0.02
"""m, of the grid beyond the hull."""
_NUM_POINTS = 2048
_NEAR_HULL = 4.0
"""Nodes: farther outside of the hull its distance is counted in nodes."""
_LANES = 64
_MOST_CORNERS = 500
"""Of a hull that is measured from; of more points those count that lie farthest in as many directions."""

FreeSpace = Callable[[np.ndarray], np.ndarray]
"""(N, 3), m, to (N,) whether these points are known to be free."""


def hull_mesh(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The convex hull of points (N, 3): vertices (V, 3) and outward faces (F, 3).

    Raises:
        InputError: the points lie in a plane.
    """
    try:
        hull = ConvexHull(points)
    except QhullError as error:
        raise InputError("cloud: its points lie in a plane, so they enclose nothing to hold") from error
    number = np.full(len(points), -1)
    number[hull.vertices] = np.arange(len(hull.vertices))
    vertices, faces = points[hull.vertices], number[hull.simplices]
    corner = vertices[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    inward = (normal * hull.equations[:, :3]).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return vertices, faces.astype(np.int64)


def solid_distance(points: np.ndarray, free: FreeSpace | None, nodes: int = NODES) -> SignedDistanceGrid:
    """The signed distance to the hull of points (N, 3), m, without what is free."""
    low, high = bounds(points)
    low, high = low - PADDING, high + PADDING
    spacing = float((high - low).max() / (nodes - 1))
    size = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    values = _hull_distance(points, low, spacing, size)
    if free is not None:
        inside = np.argwhere(values < 0)
        carved = values >= 0
        carved[tuple(inside.T)] = free(low + spacing * inside)
        values = np.maximum(values, _carved_distance(carved, values, spacing))
    values = _largest_part(values)
    return SignedDistanceGrid(torch.from_numpy(values).float(), torch.from_numpy(low).float(), spacing)


def _hull_distance(points: np.ndarray, low: np.ndarray, spacing: float, size: np.ndarray) -> np.ndarray:
    """Distance to the hull at the nodes of a grid: exact inside, outside to half a node or better."""
    vertices, faces = hull_mesh(_outermost(points) if len(points) > _MOST_CORNERS else points)
    corner = vertices[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1)
    normal, corner = normal[length > 1e-14] / length[length > 1e-14, None], corner[length > 1e-14]
    planes = np.column_stack([normal, ((corner[:, 0] - low) * normal).sum(axis=1)])
    # So many that they fill rows: some are there twice.
    rows = np.arange(-(-len(planes) // _LANES) * _LANES) % len(planes)
    planes = np.ascontiguousarray(planes[rows].T.reshape(4, -1, _LANES), np.float32)
    nx, ny, nz = (int(one) for one in size)
    values = _largest_height(planes, spacing, nx, ny, nz, _NEAR_HULL * spacing)
    outside = distance_from(values < 0) * spacing - 0.5 * spacing
    return np.where(values < 0, values, np.maximum(values, outside))


def _outermost(points: np.ndarray) -> np.ndarray:
    """Of points (N, 3) those that lie farthest in some direction: a ball's hull loses 0.2 mm of 40 by the rest."""
    number = np.arange(_MOST_CORNERS)
    height, turn = 1 - (2 * number + 1) / _MOST_CORNERS, number * np.pi * (3 - np.sqrt(5))
    across = np.sqrt(1 - height**2)
    directions = np.stack([across * np.cos(turn), across * np.sin(turn), height], axis=1)
    chosen: np.ndarray = points[farthest(points, directions)]
    return chosen


@njit(cache=True, fastmath=True)
def _largest_height(planes: np.ndarray, spacing: float, nx: int, ny: int, nz: int, enough: float) -> np.ndarray:
    """Of each node of a grid at the origin the height above the plane that it is highest above, if that is not enough.

    Args:
        planes: (4, rows, lanes) float32, unit normals and offsets, m. enough: m, what is higher need not be exact.
    """
    values = np.empty((nx, ny, nz), np.float32)
    step, rows = np.float32(spacing), planes.shape[1]
    rise, slope = np.empty((rows, _LANES), np.float32), planes[2]
    most = np.empty(_LANES, np.float32)
    last_row, last_lane = 0, 0
    for i in range(nx):
        x = step * np.float32(i)
        for j in range(ny):
            y = step * np.float32(j)
            for row in range(rows):
                for lane in range(_LANES):
                    rise[row, lane] = planes[0, row, lane] * x + planes[1, row, lane] * y - planes[3, row, lane]
            for k in range(nz):
                z = step * np.float32(k)
                # Outside, a node is mostly above the plane that its neighbour is above.
                best = rise[last_row, last_lane] + slope[last_row, last_lane] * z
                if best <= enough:
                    best = _highest(rise, slope, z, most)
                    if best > enough:
                        last_row, last_lane = _first_above(rise, slope, z, enough)
                values[i, j, k] = best
    return values


@njit(cache=True, fastmath=True)
def _highest(rise: np.ndarray, slope: np.ndarray, z: np.float32, most: np.ndarray) -> float:
    """The largest of ``rise + slope * z``, both (rows, lanes); most: (lanes,), to work in."""
    for lane in range(_LANES):
        most[lane] = rise[0, lane] + slope[0, lane] * z
    for row in range(1, rise.shape[0]):
        for lane in range(_LANES):  # a known number of them, so that they are worked out together
            most[lane] = max(most[lane], rise[row, lane] + slope[row, lane] * z)
    best = most[0]
    for lane in range(1, _LANES):
        best = max(best, most[lane])
    return best


@njit(cache=True)
def _first_above(rise: np.ndarray, slope: np.ndarray, z: np.float32, enough: float) -> tuple[int, int]:
    for row in range(rise.shape[0]):
        for lane in range(_LANES):
            if rise[row, lane] + slope[row, lane] * z > enough:
                return row, lane
    return 0, 0


def shell_free(points: np.ndarray, reach: float, floor: Callable[[np.ndarray], np.ndarray] | None) -> FreeSpace:
    """Free space about a thing that was seen from all sides: what comes in from outside through no gap of its points.

    Args:
        points: (N, 3), m. reach: m, gaps up to twice of it are closed.
        floor: whether nothing comes in at points (N, 3): the table; None = there is none.

    Returns:
        For nodes of one grid, in its order, all of those inside of the hull.
    """
    near = Neighbours(points, reach)

    def free(nodes: np.ndarray) -> np.ndarray:
        step = np.min([np.diff(np.unique(np.round(nodes[:, k], 9))).min() for k in range(3)])
        cell = np.round((nodes - nodes.min(axis=0)) / step).astype(int) + 1
        known = np.zeros(cell.max(axis=0) + 2, bool)
        known[tuple(cell.T)] = True
        open_space = np.zeros_like(known)
        open_space[tuple(cell.T)] = ~near.within(nodes, reach)
        if floor is not None:
            open_space[tuple(cell.T)] &= ~floor(nodes)
        entry = ndimage.binary_dilation(~known) & open_space
        flooded = ndimage.binary_propagation(entry, mask=open_space) if entry.any() else entry
        # The flood stops before the points by the reach; a wall between two floods stays two nodes thick.
        grown = distance_from(flooded) * step < reach - 1.25 * step
        return (flooded | grown)[tuple(cell.T)]

    return free


def make_cloud_object(grid: SignedDistanceGrid, object_id: str, seed: int = 0) -> ObjectModel:
    """An object out of its signed distance.

    Raises:
        InputError: nothing is inside.
    """
    values = grid.values.numpy()
    within = np.argwhere(values < 0)
    if not len(within):
        raise InputError("cloud: its points enclose nothing to hold")
    # The surface passes between nodes inside and their neighbours.
    first, last = np.maximum(within.min(axis=0) - 1, 0), within.max(axis=0) + 2
    part = values[tuple(slice(a, b) for a, b in zip(first, last, strict=True))].astype(np.float64)
    vertices, faces = surface_nets(part, grid.origin.numpy() + grid.spacing * first, grid.spacing)
    points, normals, _ = sample_surface(vertices, faces, _NUM_POINTS, seed)
    return ObjectModel(
        object_id,
        vertices.astype(np.float32),
        faces,
        grid,
        points.astype(np.float32),
        normals.astype(np.float32),
    )


def _carved_distance(carved: np.ndarray, hull: np.ndarray, spacing: float) -> np.ndarray:
    """Signed distance to the border of what is carved, positive in it; outside of the hull it says nothing."""
    opened = ndimage.binary_opening(carved, iterations=1) | (hull >= 0)
    if not (opened & (hull < 0)).any():
        return np.full(hull.shape, -np.inf)
    distance = distance_from(~opened) - distance_from(opened)
    smooth = ndimage.gaussian_filter((distance - np.sign(distance) * 0.5) * spacing, 0.7)
    # Near the hull's own border the exact distance to the hull decides.
    near = distance_from(opened & (hull < -spacing)) <= 3
    return np.where(near, smooth, -np.inf)


def _largest_part(values: np.ndarray) -> np.ndarray:
    label, count = ndimage.label(values < 0)
    if count < 2:
        return values
    sizes = np.bincount(label.reshape(-1))[1:]
    other = (label > 0) & (label != 1 + int(sizes.argmax()))
    return np.where(other, np.abs(values) + 1e-6, values)
