"""The contacts that Bullet 3 keeps between a hand's mesh and the convex hulls of an object.

Hundreds of triangles of a hand may touch a hull. Bullet visits them in the order of its tree, keeps at most four points
per hull for as long as they stay together, and lets a new one take the place of another so that the deepest stays and
the area they span is large. What a grasp scores depends more on which four than on anything else, so that a simulator
that is to agree with PyBullet needs the same four. Written after Bullet's documented behaviour and its source, which
has the zlib licence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.evaluation.simulation.bullet_scene import MARGIN, Hulls, Triangles
from grasp_nodes.evaluation.simulation.hull_triangle import (
    APART,
    FAR,
    above_faces,
    closest_points,
    heights,
    shallowest_exit,
)

POINTS = 4
"""Contacts per hull."""


ON_OBJECT, AT, ON_HAND, NORMAL, DISTANCE = 0, 3, 6, 9, 12
"""Where a contact has its point of the object in the object's frame; where that is now, and the point of the hand; the
normal from hand to object; and the distance, m, negative where the two overlap."""


class Contacts(NamedTuple):
    """What is remembered from step to step, for P hulls and T triangles.

    points: (P, 4, 13), columns as above, of which the first used: (P,) count. pairs: (P, T, 4), as of `closest_points`.
    clear: (P, T) m, that each triangle was at least away when the hull had travelled so far less; travel: (P,) m.
    pose: (4, 3), rotation and position of the last step.
    """

    points: np.ndarray
    used: np.ndarray
    pairs: np.ndarray
    clear: np.ndarray
    travel: np.ndarray
    pose: np.ndarray


def no_contacts(hulls: Hulls, triangles: Triangles) -> Contacts:
    """Before the first step, the object where it starts."""
    hull_count, count = len(hulls.radius), len(triangles.radius)
    return Contacts(
        np.zeros((hull_count, POINTS, DISTANCE + 1)),
        np.zeros(hull_count, np.int64),
        np.full((hull_count, count, 4), -1, np.int32),
        _apart(hulls.center, hulls.radius, triangles.center, triangles.radius),
        np.zeros(hull_count),
        np.vstack([np.eye(3), np.zeros((1, 3))]),
    )


@njit(cache=True, error_model="numpy")
def _apart(first: np.ndarray, radius: np.ndarray, second: np.ndarray, other_radius: np.ndarray) -> np.ndarray:
    """Distances (P, T), m, between spheres."""
    apart = np.empty((len(first), len(second)))
    for p in range(len(first)):
        for t in range(len(second)):
            square = 0.0
            for k in range(3):
                square += (first[p, k] - second[t, k]) ** 2
            apart[p, t] = math.sqrt(square) - radius[p] - other_radius[t]
    return apart


@njit(cache=True, error_model="numpy")
def update_contacts(
    hulls: Hulls, triangles: Triangles, contacts: Contacts, rotation: np.ndarray, position: np.ndarray
) -> None:
    """Bullet's contacts with the object at rotation (3, 3) and position (3,) m, from those of the step before."""
    turned = 0.0
    for i in range(3):
        for k in range(3):
            turned += (rotation[i, k] - contacts.pose[i, k]) ** 2
    turned = math.sqrt(turned)
    for p in range(len(hulls.radius)):
        contacts.used[p] = _refresh(contacts.points[p], contacts.used[p], hulls.threshold, rotation, position)
        moved = 0.0
        for k in range(3):
            shift = position[k] - contacts.pose[3, k]
            for c in range(3):
                shift += (rotation[k, c] - contacts.pose[k, c]) * hulls.center[p, c]
            moved += shift * shift
        contacts.travel[p] += math.sqrt(moved) + turned * hulls.radius[p]
        _visit(hulls, triangles, contacts, p, rotation, position)
        contacts.used[p] = _refresh(contacts.points[p], contacts.used[p], hulls.threshold, rotation, position)
    contacts.pose[:3], contacts.pose[3] = rotation, position


@njit(cache=True, error_model="numpy")
def _visit(
    hulls: Hulls, triangles: Triangles, contacts: Contacts, p: int, rotation: np.ndarray, position: np.ndarray
) -> None:
    """Add the contacts of one hull with every triangle within reach."""
    reach, travel = hulls.threshold + 2 * MARGIN, contacts.travel[p]
    vertices = hulls.vertices[hulls.first_vertex[p] : hulls.first_vertex[p + 1]]
    planes = hulls.planes[4 * hulls.first_plane[p] : 4 * hulls.first_plane[p + 1]].reshape((4, -1))
    edges = hulls.edges[hulls.first_edge[p] : hulls.first_edge[p + 1]]
    height, triangle, simplex = np.empty(planes.shape[1]), np.empty((3, 3)), np.empty((6, 4))
    low, high, center = np.empty(3), np.empty(3), np.empty(3)
    normal, on_hull, on_triangle, towards = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for k in range(3):
        at, half = position[k], MARGIN
        for c in range(3):
            at += rotation[k, c] * hulls.middle[p, c]
            half += abs(rotation[k, c]) * (hulls.half[p, c] + 2 * MARGIN)
        low[k], high[k] = at - half, at + half
    clear, pairs, points, used = contacts.clear[p], contacts.pairs[p], contacts.points[p], contacts.used[p]
    corners, centers, lows, highs = triangles.corners, triangles.center, triangles.low, triangles.high
    for t in range(len(clear)):
        if clear[t] - travel > reach:
            continue
        if not _overlap(lows, highs, t, low, high):
            continue
        for k in range(3):
            center[k] = triangle[0, k] = triangle[1, k] = triangle[2, k] = 0.0
            for i in range(3):
                center[k] += rotation[i, k] * (centers[t, i] - position[i])
                for c in range(3):
                    triangle[c, k] += rotation[i, k] * (corners[t, c, i] - position[i])
        heights(planes, center, height)
        distance = _meet(
            triangle,
            vertices,
            planes,
            edges,
            height,
            reach,
            pairs[t],
            simplex,
            normal,
            on_hull,
            on_triangle,
            towards,
        )
        if distance > reach:
            clear[t] = distance + travel
        elif distance - 2 * MARGIN <= hulls.threshold:
            for k in range(3):
                on_hull[k] += MARGIN * normal[k]
            used = _add(points, used, hulls.threshold, on_hull, normal, distance - 2 * MARGIN, rotation, position)
    contacts.used[p] = used


@njit(cache=True, error_model="numpy", inline="always")
def _overlap(lows: np.ndarray, highs: np.ndarray, t: int, low: np.ndarray, high: np.ndarray) -> bool:
    """Does a box, of two corners (3,), overlap the t-th of boxes (T, 3)?"""
    apart = False
    for k in range(3):
        apart |= lows[t, k] > high[k] or highs[t, k] < low[k]
    return not apart


@njit(cache=True, error_model="numpy", inline="always")
def _meet(
    triangle: np.ndarray,
    vertices: np.ndarray,
    planes: np.ndarray,
    edges: np.ndarray,
    height: np.ndarray,
    reach: float,
    pairs: np.ndarray,
    simplex: np.ndarray,
    normal: np.ndarray,
    on_hull: np.ndarray,
    on_triangle: np.ndarray,
    towards: np.ndarray,
) -> float:
    """The distance of a triangle from a hull, m, negative where they overlap, or, beyond reach, a lower bound of it.

    Args:
        normal: (3,), filled: the hull's, outward. on_hull: (3,) m, filled. The other arrays are overwritten.
    """
    start = above_faces(triangle, planes, height)
    distance = start[0]
    if distance > reach or _on_face(triangle, planes, start, normal, on_hull):
        return distance
    if distance <= 0:
        distance = shallowest_exit(triangle, vertices, planes, edges, height, start, normal, on_hull, on_triangle)
    if distance > 0:
        found, gap = closest_points(triangle, vertices, reach, pairs, towards, on_hull, on_triangle, simplex)
        if found == APART:
            distance = gap
            for k in range(3):
                normal[k] = -towards[k] / gap
        elif found == FAR:
            return gap
    return distance


@njit(cache=True, error_model="numpy", inline="always")
def _on_face(
    triangle: np.ndarray, planes: np.ndarray, start: tuple[float, int, int], normal: np.ndarray, on_hull: np.ndarray
) -> bool:
    """Is the point of the hull nearest to a triangle below its lowest corner, on the face that it is highest above?

    Fills the face's normal and that point.
    """
    distance, face, corner = start
    if distance <= 0:
        return False
    for k in range(3):
        normal[k] = planes[k, face]
        on_hull[k] = triangle[corner, k] - distance * normal[k]
    x, y, z = on_hull[0], on_hull[1], on_hull[2]
    for f in range(planes.shape[1]):
        if planes[0, f] * x + planes[1, f] * y + planes[2, f] * z - planes[3, f] > 1e-9:
            return False
    return True


@njit(cache=True, error_model="numpy")
def _refresh(points: np.ndarray, used: int, threshold: float, rotation: np.ndarray, position: np.ndarray) -> int:
    """Distances of one hull's contacts as it is now; how many are left without those that came apart."""
    for c in range(used):
        _place(points[c], rotation, position)
        points[c, DISTANCE] = 0.0
        for k in range(3):
            points[c, DISTANCE] += (points[c, AT + k] - points[c, ON_HAND + k]) * points[c, NORMAL + k]
    for c in range(used - 1, -1, -1):
        aside = 0.0
        for k in range(3):
            between = points[c, ON_HAND + k] - points[c, AT + k]
            aside += (between + points[c, NORMAL + k] * points[c, DISTANCE]) ** 2
        if points[c, DISTANCE] > threshold or aside > threshold**2:
            used -= 1
            points[c] = points[used]
    return used


@njit(cache=True, error_model="numpy")
def _place(contact: np.ndarray, rotation: np.ndarray, position: np.ndarray) -> None:
    for k in range(3):
        contact[AT + k] = position[k]
        for i in range(3):
            contact[AT + k] += rotation[k, i] * contact[ON_OBJECT + i]


@njit(cache=True, error_model="numpy")
def _add(
    points: np.ndarray,
    used: int,
    threshold: float,
    place: np.ndarray,
    outward: np.ndarray,
    distance: float,
    rotation: np.ndarray,
    position: np.ndarray,
) -> int:
    """A new contact, in place of one nearby or of one of four; how many there are then.

    Args:
        place: (3,) m, on the hull, and outward: (3,), its normal, in the object's frame. distance: m.
    """
    chosen, nearest = -1, threshold**2
    for c in range(used):
        apart = 0.0
        for k in range(3):
            apart += (points[c, ON_OBJECT + k] - place[k]) ** 2
        if apart < nearest:
            chosen, nearest = c, apart
    if chosen < 0:
        chosen = used if used < POINTS else _least_needed(points, place, distance)
        used = min(used + 1, POINTS)
    contact = points[chosen]
    contact[DISTANCE] = distance
    for k in range(3):
        contact[ON_OBJECT + k] = place[k]
        contact[NORMAL + k] = 0.0
        for i in range(3):
            contact[NORMAL + k] -= rotation[k, i] * outward[i]
    _place(contact, rotation, position)
    for k in range(3):
        contact[ON_HAND + k] = contact[AT + k] - distance * contact[NORMAL + k]
    return used


@njit(cache=True, error_model="numpy")
def _least_needed(points: np.ndarray, place: np.ndarray, distance: float) -> int:
    """The one of four without which the others and the new one span most, but not the deepest if it is deeper."""
    deepest, least = -1, distance
    for c in range(POINTS):
        if points[c, DISTANCE] < least:
            deepest, least = c, points[c, DISTANCE]
    chosen, widest = 0, 0.0
    for c in range(POINTS):
        if c == deepest:
            continue
        i, j, o = (1 if c == 0 else 0), (3 if c < 3 else 2), (2 if c < 2 else 1)
        a0, a1, a2 = place[0] - points[i, 0], place[1] - points[i, 1], place[2] - points[i, 2]
        b0, b1, b2 = points[j, 0] - points[o, 0], points[j, 1] - points[o, 1], points[j, 2] - points[o, 2]
        area = (a1 * b2 - a2 * b1) ** 2 + (a2 * b0 - a0 * b2) ** 2 + (a0 * b1 - a1 * b0) ** 2
        if area > widest:
            chosen, widest = c, area
    return chosen
