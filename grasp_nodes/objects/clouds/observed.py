"""From a cloud of points to an object that generators take: found, completed, closed, or refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.columns import bounds
from grasp_nodes.objects.clouds import cleaning, clusters, completion, solid
from grasp_nodes.objects.clouds.cells import Neighbours, thinned
from grasp_nodes.objects.clouds.moments import covariance, inside
from grasp_nodes.objects.clouds.table import (
    SMALLEST_TABLE,
    THICKNESS,
    Plane,
    Table,
    above_table,
    carries,
    largest_plane,
)
from grasp_nodes.objects.clouds.view import View
from grasp_nodes.objects.model import ObjectModel

LARGEST_WIDTH = 0.15
"""m, of the narrowest side: a hand that spans 0.2 m between the tips of thumb and little finger holds no more."""
LARGEST_LENGTH = 0.5
SMALLEST_LENGTH = 0.01
_FLAT, _STRAIGHT = 0.0015, 0.003
"""m, standard deviation of points across a plane, a line."""
_SLENDER = 0.1
"""The same as a share of that along it: a tiny thing is not a line."""
_SEEN_FROM_ONE_SIDE = 0.15
"""Share of hidden points: of a cloud from all sides it is about one half."""
_HIDDEN_BEHIND = 0.02
"""m."""
_MOST_PLANES = 3
_NEAR = 0.008
"""m: two voxels of the overview."""
TABLES = ("auto", "always", "never")
COMPLETIONS = ("auto", "mirror", "none")


@dataclass(frozen=True)
class CloudOptions:
    """How the object is looked for in a cloud; everything in the cloud's frame, m.

    scale: factor of the cloud to metres. region_center, region_extent: (3,), only points in this box count.
    table: ``auto``, ``always`` or ``never`` a table is taken away; auto: if it is larger than a thing to hold.
    near: (3,), the object is the thing nearest to it; None: the largest.
    completion: ``auto``: by symmetry what was seen from one side, ``mirror``: always, ``none``: never.
    center, extent: (3,), of the whole object where they are known. viewpoint: (3,), of the camera; None = unknown.
    """

    scale: float = 1.0
    region_center: np.ndarray | None = None
    region_extent: np.ndarray | None = None
    table: str = "auto"
    near: np.ndarray | None = None
    completion: str = "auto"
    center: np.ndarray | None = None
    extent: np.ndarray | None = None
    viewpoint: np.ndarray | None = None
    seed: int = 0


@dataclass(frozen=True)
class ObservedObject:
    """An object out of a cloud.

    model: its frame has the cloud's axes and its origin in the middle of the object. origin: (3,), m, that middle in
    the cloud's frame. completion: how the side that was not seen came about. points: (N, 3), m, of the object, in the
    cloud's frame. table: that it stands on, None = none was found. remarks: what whoever asked should know.
    """

    model: ObjectModel
    origin: np.ndarray
    completion: str
    points: np.ndarray
    table: Plane | None
    remarks: tuple[str, ...] = ()


def object_from_cloud(
    cloud: np.ndarray, options: CloudOptions | None = None, object_id: str = "cloud"
) -> ObservedObject:
    """The object that a cloud shows.

    Args:
        cloud: (N, 3), m (or see `CloudOptions.scale`), any order; NaN and (0, 0, 0) = not measured.

    Raises:
        InputError: too few or too many points, millimetres, a line, a plane, nothing on the table, or a thing that no
            hand can hold; the message says which and what to do.
    """
    options = options or CloudOptions()
    _check_options(options)
    points = cleaning.checked_points(cloud, options.scale)
    viewpoint = np.zeros(3) if options.viewpoint is None else np.asarray(options.viewpoint, np.float64)
    if options.region_center is not None and options.region_extent is not None:
        points = points[cleaning.within_box(points, options.region_center, options.region_extent)]
        if len(points) < cleaning.FEWEST_POINTS:
            raise InputError(f"cloud: only {len(points)} points are in the region of interest")
    _check_length(points)
    _check_shape(points)
    scene = cleaning.overview(points, options.seed)
    free_of_planes, planes = _without_planes(scene, viewpoint, options)
    standing = scene[free_of_planes]
    found = clusters.things(standing) if len(standing) else []
    if not found:
        raise InputError(
            "cloud: there is no thing in it: "
            + ("nothing stands on the table" if planes else "no points hang together")
        )
    chosen = clusters.choose_thing(standing, found, options.near)
    others = np.concatenate([scene[~free_of_planes], np.delete(standing, chosen, axis=0)])
    plane = _below(standing[chosen], planes)
    remarks = []
    if len(found) > 1:
        how = "the largest" if options.near is None else "the one nearest to the place that was given"
        remarks.append(f"{len(found)} things were seen, this is {how}")
    seen, spacing = cleaning.without_outliers(_all_of(points, standing[chosen], planes))
    _check_size(seen)
    # Of a flat thing on a table the height is known all the same.
    _check_shape(seen, may_be_flat=plane is not None)
    whole, free, said = _completed(seen, spacing, others, viewpoint, plane, options)
    grid = solid.solid_distance(whole, free)
    origin = _middle(whole)
    grid = replace(grid, origin=grid.origin - grid.origin.new_tensor(origin))
    model = solid.make_cloud_object(grid, object_id, options.seed)
    check_width(object_id, whole)
    return ObservedObject(model, origin, said, seen, plane, tuple(remarks))


def check_width(name: str, vertices: np.ndarray) -> None:
    """Refuse what no hand can hold.

    Args:
        name: of the object, for the message. vertices: (V, 3), m, its own, or points all over it.

    Raises:
        InputError: its narrowest side is too wide; the message says how wide.
    """
    corners = np.asarray(vertices, np.float64)
    if np.ptp(corners @ _main_axes(corners), axis=0).min() <= LARGEST_WIDTH:
        return
    width = narrowest_side(corners)
    if width > LARGEST_WIDTH:
        raise InputError(
            f"{name}: it measures {width:.3f} m where it is narrowest, a hand holds at most "
            f"{LARGEST_WIDTH:g} m: there are no grasps of it"
        )


def narrowest_side(vertices: np.ndarray) -> float:
    """m, distance of the two parallel planes nearest to each other between which (V, 3) fits (by the hull's faces)."""
    hull, faces = solid.hull_mesh(vertices)
    corner = hull[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1)
    normal = normal[length > 1e-12] / length[length > 1e-12, None]
    best = np.inf
    for part in np.array_split(normal, max(len(normal) // 500, 1)):
        best = min(best, float(np.ptp(hull @ part.T, axis=0).min()))
    return best


def _main_axes(points: np.ndarray) -> np.ndarray:
    """(3, 3): directions in its columns along which points (N, 3) spread most and least."""
    axes: np.ndarray = np.linalg.eigh(covariance(points))[1]
    return axes


def _without_planes(scene: np.ndarray, viewpoint: np.ndarray, options: CloudOptions) -> tuple[np.ndarray, list[Plane]]:
    """(N,) which points of the scene may be the object, and the planes about it: a table, a wall behind it."""
    free = np.ones(len(scene), bool)
    beside = ~free
    planes: list[Plane] = []
    for _ in range(0 if options.table == "never" else _MOST_PLANES):
        left = scene[free]
        table = largest_plane(left, viewpoint, options.seed) if len(left) >= cleaning.FEWEST_POINTS else None
        if table is None or not (_is_table(left, table) or (options.table == "always" and not planes)):
            break
        planes.append(table.plane)
        # A single plane is the table itself: what is beside it stands on something else.
        free[free] = above_table(left, table) if len(planes) == 1 else table.plane.height(left) > THICKNESS
        if len(planes) == 1:
            beside = ~free & (table.plane.height(scene) > THICKNESS)
    if len(planes) > 1:
        free |= beside & np.all([plane.height(scene) > THICKNESS for plane in planes], axis=0)
    if options.table == "always" and not planes:
        raise InputError("cloud: there is no plane in it that could be the table")
    return free, planes


def _is_table(points: np.ndarray, table: Table) -> bool:
    return bool(table.sides[1] >= SMALLEST_TABLE and carries(points, table))


def _all_of(points: np.ndarray, thing: np.ndarray, planes: list[Plane]) -> np.ndarray:
    """The thing's points of the whole cloud (N, 3), thinned, by those (M, 3) that the overview has of it."""
    low, high = bounds(thing)
    fine = thinned(points[inside(points, low - _NEAR, high + _NEAR)], cleaning.VOXEL)
    for plane in planes:
        fine = fine[plane.height(fine) > THICKNESS]
    return fine[Neighbours(thing, _NEAR).within(fine, _NEAR)]


def _below(points: np.ndarray, planes: list[Plane]) -> Plane | None:
    """The plane that points (N, 3) stand on: the one that they come nearest to."""
    return min(planes, key=lambda plane: abs(float(np.percentile(plane.height(points), 2))), default=None)


def _completed(
    seen: np.ndarray,
    spacing: float,
    others: np.ndarray,
    viewpoint: np.ndarray,
    plane: Plane | None,
    options: CloudOptions,
) -> tuple[np.ndarray, solid.FreeSpace, str]:
    """All points of the object, what is free, and how that came about."""
    low, high = bounds(seen)
    view = None
    if not ((viewpoint > low - 0.02) & (viewpoint < high + 0.02)).all():
        view = View(seen, viewpoint, spacing, others)
        if options.completion != "mirror" and view.hidden_share(seen, _HIDDEN_BEHIND) > _SEEN_FROM_ONE_SIDE:
            view = None
    if view is None or options.completion == "none":
        reach = max(2.5 * spacing, 0.006)
        whole, said = _boxed(_to_table(seen, plane), options), "seen from all sides: nothing was added"
        if options.completion == "none":
            said = completion.NOTHING.text
        return whole, solid.shell_free(whole, reach, _floor(plane, reach)), said
    up = None if plane is None else plane.normal
    found = completion.complete_by_symmetry(seen, view, up, spacing, options.center, options.seed)
    parts = [seen] + [seen @ motion[:3, :3].T + motion[:3, 3] for motion in found.motions]
    whole = np.concatenate(parts)
    if plane is not None and not len(found.motions):
        whole = np.concatenate([whole, _on_table(seen, plane)])

    def free(nodes: np.ndarray) -> np.ndarray:
        result = view.free(nodes)
        for motion in found.motions:
            # What is free before the side that was seen is free before its image, too.
            result |= view.free((nodes - motion[:3, 3]) @ motion[:3, :3])
        return result

    said = found.text
    if plane is not None and plane.height(whole).min() > 2 * THICKNESS:
        # It touches the table, but nothing of that was seen: as round below as above.
        below = _upside_down(whole, plane)
        whole, said = np.concatenate([whole, below[~free(below)]]), f"{said}; its underside is its upper side mirrored"
    return _boxed(_to_table(whole, plane), options), free, said


def _to_table(points: np.ndarray, plane: Plane | None) -> np.ndarray:
    """With the points down on the table below those that are hardly above it: the table took them away."""
    if plane is None:
        return points
    height = plane.height(points)
    low = (height < 2 * THICKNESS) & (height > 0)
    return np.concatenate([points, points[low] - height[low, None] * plane.normal])


def _upside_down(points: np.ndarray, plane: Plane) -> np.ndarray:
    height = plane.height(points)
    return points + (np.percentile(height, 99.5) - 2 * height)[:, None] * plane.normal


def _on_table(points: np.ndarray, plane: Plane) -> np.ndarray:
    return points - plane.height(points)[:, None] * plane.normal


def _boxed(points: np.ndarray, options: CloudOptions) -> np.ndarray:
    """Within the extent that was given, and up to its sides where they are known."""
    if options.center is None or options.extent is None:
        return points
    half = 0.5 * np.asarray(options.extent, np.float64)
    within = points[cleaning.within_box(points, options.center, 2 * half + 0.01)]
    if len(within) < cleaning.FEWEST_POINTS // 2:
        raise InputError("cloud: hardly any point is in the object's box that was given: is it in the cloud's frame?")
    middles = np.concatenate([np.diag(half), -np.diag(half)]) + options.center
    return np.concatenate([within, middles])


def _floor(plane: Plane | None, reach: float) -> solid.FreeSpace | None:
    return None if plane is None else lambda nodes: plane.height(nodes) < reach


def _middle(points: np.ndarray) -> np.ndarray:
    low, high = bounds(points)
    return 0.5 * (low + high)


def _check_options(options: CloudOptions) -> None:
    if options.table not in TABLES:
        raise InputError(f"table: expected one of {', '.join(TABLES)}, got {options.table!r}")
    if options.completion not in COMPLETIONS:
        raise InputError(f"completion: expected one of {', '.join(COMPLETIONS)}, got {options.completion!r}")
    if not (np.isfinite(options.scale) and options.scale > 0):
        raise InputError(f"cloud scale: expected a positive number, got {options.scale}")
    for name in ("region_extent", "extent"):
        value = getattr(options, name)
        if value is not None and not (np.isfinite(value).all() and (np.asarray(value) > 0).all()):
            raise InputError(f"{name}: expected three positive numbers (m), got {np.asarray(value).tolist()}")


def _check_shape(points: np.ndarray, may_be_flat: bool = False) -> None:
    """Raises InputError for a line or a plane."""
    deviation = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance(points)), 0.0))[::-1]
    if deviation[1] < min(_STRAIGHT, _SLENDER * deviation[0]):
        raise InputError("cloud: its points lie on a line: there is nothing to hold")
    if not may_be_flat and deviation[2] < min(_FLAT, _SLENDER * deviation[1]):
        raise InputError(
            "cloud: its points lie in a plane: a flat thing, or a single face of one; look at it from another side"
        )


def _length(points: np.ndarray) -> float:
    """m, of the longest side along the axes."""
    low, high = bounds(points)
    return float((high - low).max())


def _check_size(points: np.ndarray) -> None:
    length = _length(points)
    if length > LARGEST_LENGTH:
        raise InputError(
            f"cloud: the thing in it is {length:.2f} m long, a hand holds things up to {LARGEST_LENGTH:g} m: there are "
            "no grasps of it; if it stands on a table or among others, give the region of interest"
        )


def _check_length(points: np.ndarray) -> None:
    length = _length(points)
    if length < SMALLEST_LENGTH:
        raise InputError(f"cloud: its {len(points)} points are within {length * 1000:.2g} mm: are these metres?")
