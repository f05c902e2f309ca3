"""What an image says about the rigid pose of a mesh, as residuals and their derivatives, compiled.

Three robust residuals, each in units of its standard deviation, so that the normal matrix is an information matrix:

1. points on the projected outline of the mesh, in the distance field of the mask;
2. points on the mask's outline, along the normal of the nearest projected outline point;
3. depth points: far from the solution in the object's signed distance field; near it, in front of the plane of the face
   that the point's pixel shows. Only the latter knows the two sides of a thin wall apart.

A step is (x, y, z, rotation about x, y, z), m and rad, along the camera's axes, the rotation about the mesh's centre.
Where the normal matrix has a seventh row, that is the mask's fatness, px of the window: by how much the mask reaches
beyond the object all around. A mask's errors are mostly of this kind.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

MAX_SAMPLES = 4096
_NEAREST_DEPTH = 0.02
_FORESHORTENED = 0.3


class SolverMesh(NamedTuple):
    """A rigid mesh as the solver reads it; lengths in m, object frame.

    vertices (V, 3), faces (F, 3), edges (E, 2), edge_faces (E, 2; -1 = none), centre (3,): of the bounding box.
    grid, grid_origin (3,), grid_spacing: its signed distance.
    """

    vertices: np.ndarray
    faces: np.ndarray
    edges: np.ndarray
    edge_faces: np.ndarray
    centre: np.ndarray
    grid: np.ndarray
    grid_origin: np.ndarray
    grid_spacing: float


class SolverImage(NamedTuple):
    """What was seen, in the pixels of a working window.

    intrinsics (4,): fx, fy, cx, cy. distance (H, W) float32: to the mask's outline, px, negative inside.
    ignored (H, W) uint8: 1 where something hides the object. mask (H, W) uint8.
    bounds (4,): x_min, y_min, x_max, y_max of the camera's image, px of the window; nothing is known outside.
    contour (N, 2): points on the mask's outline, px. points (M, 3): depth points of the object, m, camera frame.
    """

    intrinsics: np.ndarray
    distance: np.ndarray
    ignored: np.ndarray
    mask: np.ndarray
    bounds: np.ndarray
    contour: np.ndarray
    points: np.ndarray


class SolverWeights(NamedTuple):
    """Standard deviations and robust scales.

    contour_sigma, contour_scale: px; beyond the scale an outline point loses its pull (Cauchy).
    depth_sigma, depth_scale: m; beyond the scale a depth point is an outlier (Geman-McClure).
    contour_count, depth_count: how many independent observations each kind is worth.
    use_visible: depth points are compared with the face that is seen, where there is one.
    """

    contour_sigma: float
    contour_scale: float
    depth_sigma: float
    depth_scale: float
    contour_count: float
    depth_count: float
    use_visible: bool


class SolverWork(NamedTuple):
    """Memory that is used again for every pose.

    camera (V, 3), m, and pixels (V, 2): the projected vertices. front (F,): which faces look away or towards.
    cover (H, W) uint8, inverse (H, W) 1/m, face_of (H, W): what the mesh covers, its inverse depth, and the face.
    sample (S, 2), normal (S, 2), jacobian (S, 2, 6), length (S,): points on the outline, px.
    """

    camera: np.ndarray
    pixels: np.ndarray
    front: np.ndarray
    cover: np.ndarray
    inverse: np.ndarray
    face_of: np.ndarray
    sample: np.ndarray
    normal: np.ndarray
    jacobian: np.ndarray
    length: np.ndarray


@njit(cache=True)
def project_mesh(
    rotation: np.ndarray, centre: np.ndarray, mesh: SolverMesh, image: SolverImage, work: SolverWork
) -> bool:
    """Vertices to camera frame and pixels; false when one is too close to the camera or behind it."""
    fx, fy, cx, cy = image.intrinsics[0], image.intrinsics[1], image.intrinsics[2], image.intrinsics[3]
    for i in range(len(mesh.vertices)):
        a = mesh.vertices[i, 0] - mesh.centre[0]
        b = mesh.vertices[i, 1] - mesh.centre[1]
        c = mesh.vertices[i, 2] - mesh.centre[2]
        x = rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c + centre[0]
        y = rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c + centre[1]
        z = rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c + centre[2]
        if not z > _NEAREST_DEPTH:
            return False
        work.camera[i, 0], work.camera[i, 1], work.camera[i, 2] = x, y, z
        work.pixels[i, 0], work.pixels[i, 1] = fx * x / z + cx, fy * y / z + cy
    return True


@njit(cache=True)
def _covered(cover: np.ndarray, x: float, y: float) -> int:
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    if column < 0 or row < 0 or row >= cover.shape[0] or column >= cover.shape[1]:
        return -1
    return cover[row, column]


@njit(cache=True)
def sample_outline(centre: np.ndarray, mesh: SolverMesh, image: SolverImage, work: SolverWork) -> int:
    """Points on the visible outline of the projected and covered mesh, about two pixels apart."""
    for i in range(len(mesh.faces)):
        a, b, c = work.pixels[mesh.faces[i, 0]], work.pixels[mesh.faces[i, 1]], work.pixels[mesh.faces[i, 2]]
        work.front[i] = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]) > 0
    fx, fy, cx, cy = image.intrinsics[0], image.intrinsics[1], image.intrinsics[2], image.intrinsics[3]
    count = 0
    for e in range(len(mesh.edges)):
        first, second = mesh.edge_faces[e, 0], mesh.edge_faces[e, 1]
        if second >= 0 and work.front[first] == work.front[second]:
            continue
        a, b = mesh.edges[e, 0], mesh.edges[e, 1]
        dx = work.pixels[b, 0] - work.pixels[a, 0]
        dy = work.pixels[b, 1] - work.pixels[a, 1]
        length = math.sqrt(dx * dx + dy * dy)
        whole = math.sqrt(
            (work.camera[b, 0] - work.camera[a, 0]) ** 2
            + (work.camera[b, 1] - work.camera[a, 1]) ** 2
            + (work.camera[b, 2] - work.camera[a, 2]) ** 2
        )
        # An edge that runs along the line of sight shows in no direction that means anything.
        if length < 1e-6 or length < _FORESHORTENED * whole * fx / work.camera[a, 2]:
            continue
        nx, ny = dy / length, -dx / length
        parts = min(16, 1 + int(0.5 * length))
        for k in range(parts):
            if count == MAX_SAMPLES:
                return count
            s = (k + 0.5) / parts
            x = work.camera[a, 0] * (1 - s) + work.camera[b, 0] * s
            y = work.camera[a, 1] * (1 - s) + work.camera[b, 1] * s
            z = work.camera[a, 2] * (1 - s) + work.camera[b, 2] * s
            u, v = fx * x / z + cx, fy * y / z + cy
            one, other = _covered(work.cover, u + nx, v + ny), _covered(work.cover, u - nx, v - ny)
            if one == other and one != -1:
                continue
            work.sample[count, 0], work.sample[count, 1] = u, v
            outward = -1.0 if one == 1 or other == 0 else 1.0
            work.normal[count, 0], work.normal[count, 1] = outward * nx, outward * ny
            work.length[count] = length / parts
            px, py, pz = x - centre[0], y - centre[1], z - centre[2]
            row = work.jacobian[count]
            gx, gz = fx / z, -fx * x / (z * z)
            row[0, 0], row[0, 1], row[0, 2] = gx, 0.0, gz
            row[0, 3], row[0, 4], row[0, 5] = gz * py, gx * pz - gz * px, -gx * py
            gy, gz = fy / z, -fy * y / (z * z)
            row[1, 0], row[1, 1], row[1, 2] = 0.0, gy, gz
            row[1, 3], row[1, 4], row[1, 5] = gz * py - gy * pz, -gz * px, gy * px
            count += 1
    return count


@njit(cache=True)
def _add(normal: np.ndarray, gradient: np.ndarray, row: np.ndarray, residual: float, weight: float) -> None:
    for i in range(len(row)):
        gradient[i] += weight * residual * row[i]
        for j in range(i + 1):
            normal[i, j] += weight * row[i] * row[j]


@njit(cache=True)
def _add_outline(
    image: SolverImage,
    weights: SolverWeights,
    fatness: float,
    work: SolverWork,
    count: int,
    normal: np.ndarray,
    gradient: np.ndarray,
) -> float:
    """Residual 1: the mesh's outline in the distance field of the mask."""
    height, width = image.distance.shape
    total = 0.0
    for i in range(count):
        total += work.length[i]
    scale2 = weights.contour_scale**2
    unit = 0.5 * weights.contour_count / (weights.contour_sigma**2 * max(total, 1e-9))
    cost, row = 0.0, np.ones(len(gradient))
    for i in range(count):
        u, v = work.sample[i, 0], work.sample[i, 1]
        if u < image.bounds[0] or v < image.bounds[1] or u > image.bounds[2] or v > image.bounds[3]:
            continue
        x, y = min(max(u, 0.0), width - 1.001), min(max(v, 0.0), height - 1.001)
        column, line = int(x), int(y)
        if image.ignored[int(y + 0.5), int(x + 0.5)]:
            continue
        s, t = x - column, y - line
        d00, d01 = image.distance[line, column], image.distance[line, column + 1]
        d10, d11 = image.distance[line + 1, column], image.distance[line + 1, column + 1]
        residual = (d00 * (1 - s) + d01 * s) * (1 - t) + (d10 * (1 - s) + d11 * s) * t
        gx = (d01 - d00) * (1 - t) + (d11 - d10) * t
        gy = (d10 - d00) * (1 - s) + (d11 - d01) * s
        beyond = math.sqrt((u - x) ** 2 + (v - y) ** 2)
        if beyond > 0.01:
            residual += beyond
            gx, gy = (u - x) / beyond, (v - y) / beyond
        residual += fatness
        ratio = 1 + residual * residual / scale2
        part = unit * work.length[i]
        cost += part * scale2 * math.log(ratio)
        # An outline that slides along itself changes nothing: only the part along its normal counts.
        nx, ny = work.normal[i, 0], work.normal[i, 1]
        slope = gx * nx + gy * ny
        for k in range(6):
            row[k] = slope * (nx * work.jacobian[i, 0, k] + ny * work.jacobian[i, 1, k])
        _add(normal, gradient, row, residual, part / ratio)
    return cost


@njit(cache=True)
def _add_mask_outline(
    image: SolverImage,
    weights: SolverWeights,
    fatness: float,
    work: SolverWork,
    count: int,
    normal: np.ndarray,
    gradient: np.ndarray,
) -> float:
    """Residual 2: the mask's outline along the normals of the mesh's outline."""
    if not len(image.contour):
        return 0.0
    scale2 = weights.contour_scale**2
    unit = 0.5 * weights.contour_count / (weights.contour_sigma**2 * len(image.contour))
    cost, row = 0.0, np.ones(len(gradient))
    for i in range(len(image.contour)):
        u, v = image.contour[i, 0], image.contour[i, 1]
        nearest, best = 1e18, 0
        for k in range(count):
            squared = (work.sample[k, 0] - u) ** 2 + (work.sample[k, 1] - v) ** 2
            if squared < nearest:
                nearest, best = squared, k
        nx, ny = work.normal[best, 0], work.normal[best, 1]
        residual = (work.sample[best, 0] - u) * nx + (work.sample[best, 1] - v) * ny
        aside = max(nearest - residual * residual, 0.0)
        residual += fatness
        # The whole distance is what costs; only its part along the normal can be moved by this edge.
        ratio = 1 + (aside + residual * residual) / scale2
        cost += unit * scale2 * math.log(ratio)
        for k in range(6):
            row[k] = nx * work.jacobian[best, 0, k] + ny * work.jacobian[best, 1, k]
        _add(normal, gradient, row, residual, unit / ratio)
    return cost


@njit(cache=True)
def _visible_distance(
    point: np.ndarray,
    rotation: np.ndarray,
    centre: np.ndarray,
    mesh: SolverMesh,
    image: SolverImage,
    work: SolverWork,
    slope: np.ndarray,
) -> float:
    """Distance (m) of a point in front of the face that its pixel shows; of the nearest surface if it shows none.

    `slope` gets its gradient, camera axes. The window must be covered with faces.
    """
    column = math.floor(image.intrinsics[0] * point[0] / point[2] + image.intrinsics[2] + 0.5)
    row = math.floor(image.intrinsics[1] * point[1] / point[2] + image.intrinsics[3] + 0.5)
    inside = 0 <= column < work.cover.shape[1] and 0 <= row < work.cover.shape[0]
    if not inside or not work.cover[row, column]:
        return _point_distance(point, rotation, centre, mesh, slope)
    face = work.face_of[row, column]
    a, b, c = work.camera[mesh.faces[face, 0]], work.camera[mesh.faces[face, 1]], work.camera[mesh.faces[face, 2]]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    slope[0], slope[1], slope[2] = nx / length, ny / length, nz / length
    return slope[0] * (point[0] - a[0]) + slope[1] * (point[1] - a[1]) + slope[2] * (point[2] - a[2])


@njit(cache=True)
def _add_depth(
    rotation: np.ndarray,
    centre: np.ndarray,
    mesh: SolverMesh,
    image: SolverImage,
    weights: SolverWeights,
    work: SolverWork,
    normal: np.ndarray,
    gradient: np.ndarray,
) -> float:
    """Residual 3: depth points and the object's surface."""
    if not len(image.points):
        return 0.0
    scale2 = weights.depth_scale**2
    unit = weights.depth_count / (weights.depth_sigma**2 * len(image.points))
    cost, row = 0.0, np.zeros(len(gradient))
    slope = np.empty(3)
    for i in range(len(image.points)):
        if weights.use_visible:
            residual = _visible_distance(image.points[i], rotation, centre, mesh, image, work, slope)
        else:
            residual = _point_distance(image.points[i], rotation, centre, mesh, slope)
        px, py, pz = image.points[i, 0] - centre[0], image.points[i, 1] - centre[1], image.points[i, 2] - centre[2]
        nx, ny, nz = slope[0], slope[1], slope[2]
        row[0], row[1], row[2] = -nx, -ny, -nz
        row[3], row[4], row[5] = ny * pz - nz * py, nz * px - nx * pz, nx * py - ny * px
        squared = residual * residual
        ratio = 1 + squared / scale2
        cost += unit * squared / ratio
        _add(normal, gradient, row, residual, unit / (ratio * ratio))
    return cost


@njit(cache=True)
def _point_distance(
    point: np.ndarray, rotation: np.ndarray, centre: np.ndarray, mesh: SolverMesh, slope: np.ndarray
) -> float:
    """Signed distance (m) of a point, camera frame, to the posed mesh; `slope` gets its gradient, camera axes."""
    x, y, z = point[0] - centre[0], point[1] - centre[1], point[2] - centre[2]
    a = rotation[0, 0] * x + rotation[1, 0] * y + rotation[2, 0] * z + mesh.centre[0]
    b = rotation[0, 1] * x + rotation[1, 1] * y + rotation[2, 1] * z + mesh.centre[1]
    c = rotation[0, 2] * x + rotation[1, 2] * y + rotation[2, 2] * z + mesh.centre[2]
    value = _look_up_distance(mesh.grid, mesh.grid_origin, mesh.grid_spacing, a, b, c, slope)
    x, y, z = slope[0], slope[1], slope[2]
    slope[0] = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
    slope[1] = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z
    slope[2] = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
    return value


@njit(cache=True)
def _look_up_distance(
    grid: np.ndarray, origin: np.ndarray, spacing: float, a: float, b: float, c: float, slope: np.ndarray
) -> float:
    """Trilinear distance and its gradient, as SignedDistanceGrid.query; beyond the grid the direction away from it."""
    x, y, z = (a - origin[0]) / spacing, (b - origin[1]) / spacing, (c - origin[2]) / spacing
    x0 = min(max(x, 0.0), grid.shape[0] - 1.0)
    y0 = min(max(y, 0.0), grid.shape[1] - 1.0)
    z0 = min(max(z, 0.0), grid.shape[2] - 1.0)
    i, j, k = min(int(x0), grid.shape[0] - 2), min(int(y0), grid.shape[1] - 2), min(int(z0), grid.shape[2] - 2)
    u, v, w = x0 - i, y0 - j, z0 - k
    d000, d001 = grid[i, j, k], grid[i, j, k + 1]
    d010, d011 = grid[i, j + 1, k], grid[i, j + 1, k + 1]
    d100, d101 = grid[i + 1, j, k], grid[i + 1, j, k + 1]
    d110, d111 = grid[i + 1, j + 1, k], grid[i + 1, j + 1, k + 1]
    d00, d01 = d000 + (d001 - d000) * w, d010 + (d011 - d010) * w
    d10, d11 = d100 + (d101 - d100) * w, d110 + (d111 - d110) * w
    d0, d1 = d00 + (d01 - d00) * v, d10 + (d11 - d10) * v
    slope[0] = (d1 - d0) / spacing
    slope[1] = ((d01 - d00) * (1 - u) + (d11 - d10) * u) / spacing
    low = (d001 - d000) * (1 - v) + (d011 - d010) * v
    high = (d101 - d100) * (1 - v) + (d111 - d110) * v
    slope[2] = (low * (1 - u) + high * u) / spacing
    value = d0 + (d1 - d0) * u
    beyond = math.sqrt((x - x0) ** 2 + (y - y0) ** 2 + (z - z0) ** 2)
    if beyond > 1e-9:
        slope[0], slope[1], slope[2] = (x - x0) / beyond, (y - y0) / beyond, (z - z0) / beyond
        value += beyond * spacing
    return value


@njit(cache=True)
def accumulate(
    rotation: np.ndarray,
    centre: np.ndarray,
    mesh: SolverMesh,
    image: SolverImage,
    weights: SolverWeights,
    fatness: float,
    work: SolverWork,
    normal: np.ndarray,
    gradient: np.ndarray,
) -> float:
    """Cost of a projected and covered pose; half of its derivatives go to `normal` and `gradient`, of 6 or 7 rows."""
    cost = 0.0
    if weights.contour_count > 0:
        count = sample_outline(centre, mesh, image, work)
        if count == 0:
            return np.inf
        cost += _add_outline(image, weights, fatness, work, count, normal, gradient)
        cost += _add_mask_outline(image, weights, fatness, work, count, normal, gradient)
    cost += _add_depth(rotation, centre, mesh, image, weights, work, normal, gradient)
    for i in range(len(gradient)):
        for j in range(i):
            normal[j, i] = normal[i, j]
    return cost


@njit(cache=True)
def explain(
    rotation: np.ndarray,
    centre: np.ndarray,
    mesh: SolverMesh,
    image: SolverImage,
    work: SolverWork,
    depth_scale: float,
) -> tuple[float, float, float]:
    """Overlap with the mask, agreement and root mean square of the depth points, of a projected and covered pose."""
    both, either = 0, 0
    for y in range(image.mask.shape[0]):
        for x in range(image.mask.shape[1]):
            if image.mask[y, x] or (work.cover[y, x] and not image.ignored[y, x]):
                either += 1
                both += image.mask[y, x] and work.cover[y, x]
    count = len(image.points)
    if count == 0:
        return both / max(either, 1), 1.0, np.nan
    total, squares, inliers = 0.0, 0.0, 0
    slope = np.empty(3)
    for i in range(count):
        d = _visible_distance(image.points[i], rotation, centre, mesh, image, work, slope)
        total += 1 / (1 + (d / depth_scale) ** 2)
        if abs(d) < 3 * depth_scale:
            squares += d * d
            inliers += 1
    return both / max(either, 1), total / count, math.sqrt(squares / inliers) if inliers else np.nan
