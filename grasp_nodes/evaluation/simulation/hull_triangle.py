"""How far a triangle is from a convex hull, where, and the shallowest way out where they overlap; compiled.

E. Gilbert, D. Johnson, S. Keerthi, "A fast procedure for computing the distance between complex objects in
three-dimensional space", 1988, started from the corners found last time; its parts as in C. Ericson, "Real-time
collision detection". Where the two overlap, every direction along which the shallowest way out can lie: the hull's
faces, the triangle's, and pairs of edges.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

FAR, APART, OVERLAP = 0, 1, 2
_WEIGHTS, _TRIAL = 4, 5
_ROUNDS = 40
_CONVERGED = 1e-9
"""Of the squared distance."""
_TOUCHING = 1e-16
"""m^2."""


@njit(cache=True, error_model="numpy")
def closest_points(
    triangle: np.ndarray,
    hull: np.ndarray,
    reach: float,
    pairs: np.ndarray,
    towards: np.ndarray,
    on_hull: np.ndarray,
    on_triangle: np.ndarray,
    simplex: np.ndarray,
) -> tuple[int, float]:
    """FAR and a lower bound, m, of a distance beyond reach; APART and the distance; or OVERLAP.

    Args:
        triangle: (3, 3) m. hull: (V, 3) m. reach: m.
        pairs: (4,) int, 3 v + c of the vertices v and corners c that the last answer came from, then -1; overwritten.
        towards: (3,) m, filled where APART: from triangle to hull. on_hull, on_triangle: (3,) m, likewise.
        simplex: (6, 4), overwritten: up to four differences of such pairs, their weights, and room for others.
    """
    count = 0
    while count < 4 and pairs[count] >= 0:
        _put(simplex, count, pairs[count], triangle, hull)
        count += 1
    if count > 0:
        count = _reduce(simplex, pairs, count, towards)
    if count == 0:
        for k in range(3):
            towards[k] = hull[0, k] - triangle[0, k]
    length, before = 0.0, math.inf
    for _ in range(_ROUNDS):
        length = towards[0] ** 2 + towards[1] ** 2 + towards[2] ** 2
        if length < _TOUCHING:
            return OVERLAP, 0.0
        pair, gap = _support(triangle, hull, towards)
        if gap > 0 and gap * gap > reach * reach * length:
            return FAR, gap / math.sqrt(length)
        if count > 0 and (length - gap <= _CONVERGED * length or length >= before or _among(pair, pairs, count)):
            break
        before = length if count > 0 else math.inf
        pairs[count] = pair
        _put(simplex, count, pair, triangle, hull)
        count = _reduce(simplex, pairs, count + 1, towards)
        if count == 0:
            return OVERLAP, 0.0
    for k in range(3):
        on_hull[k] = on_triangle[k] = 0.0
        for i in range(count):
            on_hull[k] += simplex[_WEIGHTS, i] * hull[pairs[i] // 3, k]
            on_triangle[k] += simplex[_WEIGHTS, i] * triangle[pairs[i] % 3, k]
    return APART, math.sqrt(length)


@njit(cache=True, error_model="numpy", inline="always")
def _support(triangle: np.ndarray, hull: np.ndarray, towards: np.ndarray) -> tuple[int, float]:
    """The vertex and the corner that are nearest along a direction, and how far apart they are, times its length."""
    low, nearest = math.inf, 0
    for i in range(len(hull)):
        along = towards[0] * hull[i, 0] + towards[1] * hull[i, 1] + towards[2] * hull[i, 2]
        if along < low:
            low, nearest = along, i
    high, farthest = -math.inf, 0
    for i in range(3):
        along = towards[0] * triangle[i, 0] + towards[1] * triangle[i, 1] + towards[2] * triangle[i, 2]
        if along > high:
            high, farthest = along, i
    return 3 * nearest + farthest, low - high


@njit(cache=True, error_model="numpy", inline="always")
def _among(pair: int, pairs: np.ndarray, count: int) -> bool:
    found = False
    for i in range(count):
        found |= pairs[i] == pair
    return found


@njit(cache=True, error_model="numpy", inline="always")
def _put(simplex: np.ndarray, at: int, pair: int, triangle: np.ndarray, hull: np.ndarray) -> None:
    for k in range(3):
        simplex[at, k] = hull[pair // 3, k] - triangle[pair % 3, k]


@njit(cache=True, error_model="numpy")
def _reduce(simplex: np.ndarray, pairs: np.ndarray, count: int, towards: np.ndarray) -> int:
    """The corners that the simplex's point nearest to the origin needs, to the front; 0 = the origin is inside.

    A row of simplex becomes their weights and towards the point.
    """
    needed = 0
    inside = not _nearest_of_simplex(simplex, count)
    for k in range(3):
        towards[k] = 0.0
    for i in range(count):
        if simplex[_WEIGHTS, i] > 0 and not inside:
            simplex[_WEIGHTS, needed], pairs[needed] = simplex[_WEIGHTS, i], pairs[i]
            for k in range(3):
                towards[k] += simplex[_WEIGHTS, needed] * simplex[i, k]
                simplex[needed, k] = simplex[i, k]
            needed += 1
    for i in range(needed, 4):
        pairs[i] = -1
    return needed


@njit(cache=True, error_model="numpy")
def _nearest_of_simplex(simplex: np.ndarray, count: int) -> bool:
    """Weights of the point of 1 to 4 corners nearest to the origin; False = the origin is inside."""
    for i in range(4):
        simplex[_WEIGHTS, i] = 0.0
    if count == 1:
        simplex[_WEIGHTS, 0] = 1.0
    elif count == 2:
        length = along = 0.0
        for k in range(3):
            side = simplex[1, k] - simplex[0, k]
            length += side * side
            along -= simplex[0, k] * side
        simplex[_WEIGHTS, 1] = min(1.0, max(0.0, along / length))
        simplex[_WEIGHTS, 0] = 1.0 - simplex[_WEIGHTS, 1]
    elif count == 3:
        _nearest_of_triangle(simplex, 0, 1, 2, _WEIGHTS)
    else:
        best = math.inf
        for left_out in range(4):
            i, j, k = (left_out + 1) % 4, (left_out + 2) % 4, (left_out + 3) % 4
            a0, a1, a2 = simplex[j, 0] - simplex[i, 0], simplex[j, 1] - simplex[i, 1], simplex[j, 2] - simplex[i, 2]
            b0, b1, b2 = simplex[k, 0] - simplex[i, 0], simplex[k, 1] - simplex[i, 1], simplex[k, 2] - simplex[i, 2]
            n0, n1, n2 = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
            origin = -(n0 * simplex[i, 0] + n1 * simplex[i, 1] + n2 * simplex[i, 2])
            other = (
                n0 * (simplex[left_out, 0] - simplex[i, 0])
                + n1 * (simplex[left_out, 1] - simplex[i, 1])
                + n2 * (simplex[left_out, 2] - simplex[i, 2])
            )
            if origin * other > 0:
                continue
            _nearest_of_triangle(simplex, i, j, k, _TRIAL)
            length = 0.0
            for c in range(3):
                at = 0.0
                for corner in range(4):
                    at += simplex[_TRIAL, corner] * simplex[corner, c]
                length += at * at
            if length < best:
                best = length
                for corner in range(4):
                    simplex[_WEIGHTS, corner] = simplex[_TRIAL, corner]
        return best < math.inf
    return True


@njit(cache=True, error_model="numpy")
def _nearest_of_triangle(corner: np.ndarray, i: int, j: int, k: int, row: int) -> None:
    """Weights, in a row, of corners i, j, k for the point nearest to the origin (Ericson, section 5.1.5)."""
    for c in range(4):
        corner[row, c] = 0.0
    d1 = d2 = d3 = d4 = d5 = d6 = 0.0
    for c in range(3):
        a, b = corner[j, c] - corner[i, c], corner[k, c] - corner[i, c]
        d1 -= a * corner[i, c]
        d2 -= b * corner[i, c]
        d3 -= a * corner[j, c]
        d4 -= b * corner[j, c]
        d5 -= a * corner[k, c]
        d6 -= b * corner[k, c]
    if d1 <= 0 and d2 <= 0:
        corner[row, i] = 1.0
        return
    if d3 >= 0 and d4 <= d3:
        corner[row, j] = 1.0
        return
    third = d1 * d4 - d3 * d2
    if third <= 0 and d1 >= 0 and d3 <= 0:
        corner[row, j] = d1 / (d1 - d3)
        corner[row, i] = 1.0 - corner[row, j]
        return
    if d6 >= 0 and d5 <= d6:
        corner[row, k] = 1.0
        return
    second = d5 * d2 - d1 * d6
    if second <= 0 and d2 >= 0 and d6 <= 0:
        corner[row, k] = d2 / (d2 - d6)
        corner[row, i] = 1.0 - corner[row, k]
        return
    first = d3 * d6 - d5 * d4
    if first <= 0 and d4 >= d3 and d5 >= d6:
        corner[row, k] = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        corner[row, j] = 1.0 - corner[row, k]
        return
    whole = first + second + third
    corner[row, j], corner[row, k] = second / whole, third / whole
    corner[row, i] = 1.0 - corner[row, j] - corner[row, k]


@njit(cache=True, error_model="numpy", inline="always")
def heights(planes: np.ndarray, point: np.ndarray, height: np.ndarray) -> None:
    """height: (F,) m, filled: of a point (3,) above each of planes (4, F), outward unit normals and offsets."""
    x, y, z = point[0], point[1], point[2]
    for f in range(len(height)):
        height[f] = planes[0, f] * x + planes[1, f] * y + planes[2, f] * z - planes[3, f]


@njit(cache=True, error_model="numpy", inline="always")
def above_faces(triangle: np.ndarray, planes: np.ndarray, center_height: np.ndarray) -> tuple[float, int, int]:
    """How far above a hull's faces a triangle's lowest corner is, m, where that is most; that face, and the corner.

    Args:
        triangle: (3, 3) m. planes: (4, F). center_height: (F,) m, of the triangle's centre above each face.
    """
    best, face, corner = -math.inf, 0, 0
    for f in range(len(center_height)):
        # No triangle's lowest corner is higher than its centre.
        if center_height[f] <= best:
            continue
        low, lowest = math.inf, 0
        for c in range(3):
            height = (
                planes[0, f] * triangle[c, 0] + planes[1, f] * triangle[c, 1] + planes[2, f] * triangle[c, 2]
            ) - planes[3, f]
            if height < low:
                low, lowest = height, c
        if low > best:
            best, face, corner = low, f, lowest
    return best, face, corner


@njit(cache=True, error_model="numpy")
def shallowest_exit(
    triangle: np.ndarray,
    hull: np.ndarray,
    planes: np.ndarray,
    edges: np.ndarray,
    center_height: np.ndarray,
    start: tuple[float, int, int],
    normal: np.ndarray,
    on_hull: np.ndarray,
    on_triangle: np.ndarray,
) -> float:
    """How deep a triangle that overlaps a hull is in it, m, negative, along the direction in which it is shallowest.

    Positive where a direction parts them.

    Args:
        triangle: (3, 3) m. hull: (V, 3) m. planes: (4, F), outward unit normals and offsets of its faces.
        edges: (E, 4) int, the two corners and the two faces of each edge.
        center_height: (F,) m, of the triangle's centre above each face. start: what `above_faces` found, not positive.
        normal: (3,), filled: out of the hull. on_hull, on_triangle: (3,) m, filled.
    """
    best, face, corner = start
    for k in range(3):
        normal[k] = planes[k, face]
        on_triangle[k] = triangle[corner, k]
        on_hull[k] = triangle[corner, k] - best * normal[k]
    best = _through_the_triangle(triangle, hull, best, normal, on_hull, on_triangle)
    return _across_edges(triangle, hull, planes, edges, center_height, best, normal, on_hull, on_triangle)


@njit(cache=True, error_model="numpy")
def _through_the_triangle(
    triangle: np.ndarray,
    hull: np.ndarray,
    best: float,
    normal: np.ndarray,
    on_hull: np.ndarray,
    on_triangle: np.ndarray,
) -> float:
    """`shallowest_exit` along the triangle's own normal, either way, if that is shallower than best."""
    a0, a1, a2 = triangle[1, 0] - triangle[0, 0], triangle[1, 1] - triangle[0, 1], triangle[1, 2] - triangle[0, 2]
    b0, b1, b2 = triangle[2, 0] - triangle[0, 0], triangle[2, 1] - triangle[0, 1], triangle[2, 2] - triangle[0, 2]
    n0, n1, n2 = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
    length = math.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
    if length < 1e-14:
        return best
    n0, n1, n2 = n0 / length, n1 / length, n2 / length
    base = n0 * triangle[0, 0] + n1 * triangle[0, 1] + n2 * triangle[0, 2]
    low, high, lowest, highest = math.inf, -math.inf, 0, 0
    for i in range(len(hull)):
        height = n0 * hull[i, 0] + n1 * hull[i, 1] + n2 * hull[i, 2] - base
        if height < low:
            low, lowest = height, i
        if height > high:
            high, highest = height, i
    side, chosen = -1.0, lowest
    if -high > low:
        side, chosen, low = 1.0, highest, -high
    if low <= best:
        return best
    normal[0], normal[1], normal[2] = side * n0, side * n1, side * n2
    for k in range(3):
        on_hull[k] = hull[chosen, k]
        on_triangle[k] = on_hull[k] + low * normal[k]
    return low


@njit(cache=True, error_model="numpy")
def _across_edges(
    triangle: np.ndarray,
    hull: np.ndarray,
    planes: np.ndarray,
    edges: np.ndarray,
    center_height: np.ndarray,
    best: float,
    normal: np.ndarray,
    on_hull: np.ndarray,
    on_triangle: np.ndarray,
) -> float:
    """`shallowest_exit` along the common perpendicular of two edges, if that is shallower than best."""
    at_edge, at_side = -1, 0
    for e in range(len(edges)):
        f, g = edges[e, 2], edges[e, 3]
        # Along a direction between the two faces' normals the centre is at least as deep as below the nearer of them.
        if max(center_height[f], center_height[g]) <= best:
            continue
        i, j = edges[e, 0], edges[e, 1]
        x, y, z = hull[j, 0] - hull[i, 0], hull[j, 1] - hull[i, 1], hull[j, 2] - hull[i, 2]
        for c in range(3):
            d, o = (c + 1) % 3, (c + 2) % 3
            s, t, u = (
                triangle[d, 0] - triangle[c, 0],
                triangle[d, 1] - triangle[c, 1],
                triangle[d, 2] - triangle[c, 2],
            )
            # The perpendicular is outward of the hull's edge where it lies between the two faces' normals.
            above = planes[0, f] * s + planes[1, f] * t + planes[2, f] * u
            below = planes[0, g] * s + planes[1, g] * t + planes[2, g] * u
            if above * below >= 0:
                continue
            n0, n1, n2 = y * u - z * t, z * s - x * u, x * t - y * s
            length = math.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
            if length < 1e-12:
                continue
            outward = (
                n0 * (planes[0, f] + planes[0, g])
                + n1 * (planes[1, f] + planes[1, g])
                + n2 * (planes[2, f] + planes[2, g])
            )
            if outward < 0:
                length = -length
            n0, n1, n2 = n0 / length, n1 / length, n2 / length
            height = (
                n0 * (triangle[c, 0] - hull[i, 0])
                + n1 * (triangle[c, 1] - hull[i, 1])
                + n2 * (triangle[c, 2] - hull[i, 2])
            )
            if height <= best:
                continue
            rest = (
                n0 * (triangle[o, 0] - triangle[c, 0])
                + n1 * (triangle[o, 1] - triangle[c, 1])
                + n2 * (triangle[o, 2] - triangle[c, 2])
            )
            if rest < 0:
                continue
            best, at_edge, at_side = height, e, c
            normal[0], normal[1], normal[2] = n0, n1, n2
    if at_edge >= 0:
        i, j, c, d = edges[at_edge, 0], edges[at_edge, 1], at_side, (at_side + 1) % 3
        aa = ab = bb = ar = br = 0.0
        for k in range(3):
            a, b, r = hull[j, k] - hull[i, k], triangle[d, k] - triangle[c, k], triangle[c, k] - hull[i, k]
            aa += a * a
            ab += a * b
            bb += b * b
            ar += a * r
            br += b * r
        share = min(1.0, max(0.0, (ab * ar - aa * br) / (aa * bb - ab * ab)))
        for k in range(3):
            on_triangle[k] = triangle[c, k] + share * (triangle[d, k] - triangle[c, k])
            on_hull[k] = on_triangle[k] - best * normal[k]
    return best
