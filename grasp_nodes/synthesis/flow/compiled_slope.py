"""What a hand feels, and the slope of what guidance costs, as compiled loops over hands: no graph, no small tensors.

The mathematics is that of `HandPoints` and `Guidance.energy`, in float64. The slope is written out backwards: forces at
points become forces and moments of joints, which add up along the fingers (the adjoint of recursive kinematics:
Featherstone, "Rigid Body Dynamics Algorithms", 2008), and a moment at a joint, seen through the left Jacobian of its
rotation, is the slope of its axis and angle.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.geometry.signed_distance import query_grid

POSITION, ORIENT, POSE = 0, 3, 9
"""First places in a vector: of the position, of the orientation in 6D and of the pose."""
_SMALL_ANGLE = 1e-3
"""rad, below which sines are told by their series."""
_LEAST_LENGTH = 1e-12
LEAST_STEEPNESS = 1e-6
"""Of a squared slope that a step is divided by."""


class Terms(NamedTuple):
    """How N points hang on the hand: each is a sum of terms, a share of a place that one joint carries.

    first: (N + 1,) int64: the terms of point n are ``first[n]:first[n + 1]``. joint: (T,) int64. share: (T,).
    parents: (16,) int64, of the joints. pads: of the first points, the pads of five fingers, so many each.
    """

    first: np.ndarray
    joint: np.ndarray
    share: np.ndarray
    parents: np.ndarray
    pads: int


class Code(NamedTuple):
    """How a vector (D,) is read.

    mean, deviation: (D,): ``number = vector * deviation + mean``. basis: (D - 9, 45) and offset: (45,), rad: axes and
    angles of the joints are ``offset + numbers @ basis``.
    """

    mean: np.ndarray
    deviation: np.ndarray
    basis: np.ndarray
    offset: np.ndarray


class Shapes(NamedTuple):
    """Of U shapes of the hand; hand k has shape ``k % U``.

    joints: (U, 16, 3), m, at rest. local: (U, T, 3), m, each term's place at rest, from its joint.
    below: (U, N), m, how far points are below the skin. pivot: (U, 3), m, the point whose position a vector tells.
    """

    joints: np.ndarray
    local: np.ndarray
    below: np.ndarray
    pivot: np.ndarray


class Objects(NamedTuple):
    """Grids of K objects, and which of them B hands are at.

    values, starts, shapes, origins, spacings: `StackedDistances.arrays`. which: (B,) int64. turn: (B, 3, 3) and shift:
    (B, 3), m: a point x of a hand's frame is at ``turn x + shift`` of its object's.
    """

    values: np.ndarray
    starts: np.ndarray
    shapes: np.ndarray
    origins: np.ndarray
    spacings: np.ndarray
    which: np.ndarray
    turn: np.ndarray
    shift: np.ndarray


class Cost(NamedTuple):
    """Numbers of `GuidanceSettings`, and the length that costs 1, m."""

    tolerated: float
    near: float
    touch: float
    pace: float
    unit: float


class _Posed(NamedTuple):
    """One hand, written again for each of them.

    numbers: (D,), of the vector. orient: (3, 3), the hand's own frame to that which its vector is in. into: (3, 3), to
    the object's. angles: (15, 3), rad. In the hand's own frame: turned (16, 3, 3) and placed (16, 3), m, of the joints;
    carried (T, 3), m, of the terms; places (N, 3), m, of the points. there: (N, 3), m, the points in the object's.
    """

    numbers: np.ndarray
    orient: np.ndarray
    into: np.ndarray
    angles: np.ndarray
    turned: np.ndarray
    placed: np.ndarray
    carried: np.ndarray
    places: np.ndarray
    there: np.ndarray


@njit(cache=True, nogil=True)
def feel(
    vectors: np.ndarray, terms: Terms, code: Code, shapes: Shapes, objects: Objects
) -> tuple[np.ndarray, np.ndarray]:
    """Clearances (B, N), m, and their slopes (B, N, 3) in the hands' own frames, of vectors (B, D)."""
    points = len(terms.first) - 1
    clearance, slope = np.empty((len(vectors), points)), np.empty((len(vectors), points, 3))
    hand = _workspace(terms, code)
    for row in range(len(vectors)):
        _pose(vectors[row], row, terms, code, shapes, objects, hand)
        distance, gradient = _asked(row, objects, hand)
        below = shapes.below[row % len(shapes.below)]
        a = hand.into
        for n in range(points):
            clearance[row, n] = distance[n] - below[n]
            for i in range(3):
                slope[row, n, i] = a[0, i] * gradient[n, 0] + a[1, i] * gradient[n, 1] + a[2, i] * gradient[n, 2]
    return clearance, slope


@njit(cache=True, nogil=True)
def descend(
    vectors: np.ndarray, terms: Terms, code: Code, shapes: Shapes, objects: Objects, cost: Cost, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Polyak's steps down the energy.

    Args:
        vectors: (B, D). rounds: 1 or more, so many steps.

    Returns:
        moved (B, D); energy (B,) and slope (B, D) where the last step began.
    """
    moved, energy, slope = vectors.copy(), np.empty(len(vectors)), np.zeros(vectors.shape)
    hand = _workspace(terms, code)
    for row in range(len(moved)):
        vector, own = moved[row], slope[row]
        for _ in range(rounds):
            energy[row] = _energy_and_slope(vector, row, terms, code, shapes, objects, cost, hand, own)
            if energy[row] == 0.0:
                break
            steepness = 0.0
            for i in range(len(own)):
                steepness += own[i] * own[i]
            pace = cost.pace * energy[row] / max(steepness, LEAST_STEEPNESS)
            for i in range(len(own)):
                vector[i] -= pace * own[i]
    return moved, energy, slope


@njit(cache=True)
def _workspace(terms: Terms, code: Code) -> _Posed:
    joints, points = len(terms.parents), len(terms.first) - 1
    return _Posed(
        np.empty(len(code.mean)),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((joints - 1, 3)),
        np.empty((joints, 3, 3)),
        np.empty((joints, 3)),
        np.empty((len(terms.joint), 3)),
        np.empty((points, 3)),
        np.empty((points, 3)),
    )


@njit(cache=True)
def _pose(
    vector: np.ndarray, row: int, terms: Terms, code: Code, shapes: Shapes, objects: Objects, hand: _Posed
) -> None:
    """Fill `hand` with the hand of a vector (D,), the one of this row."""
    shape = row % len(shapes.joints)
    rest, local, pivot = shapes.joints[shape], shapes.local[shape], shapes.pivot[shape]
    for i in range(len(vector)):
        hand.numbers[i] = vector[i] * code.deviation[i] + code.mean[i]
    _gram_schmidt(hand.numbers, hand.orient)
    flat = hand.angles.reshape(-1)
    flat[:] = code.offset
    for i in range(len(code.basis)):
        number = hand.numbers[POSE + i]
        for k in range(len(flat)):
            flat[k] += number * code.basis[i, k]
    turned, placed = hand.turned, hand.placed
    for i in range(3):
        placed[0, i] = rest[0, i]
        for k in range(3):
            turned[0, i, k] = 1.0 if i == k else 0.0
    for j in range(1, len(terms.parents)):
        p = terms.parents[j]
        x, y, z = rest[j, 0] - rest[p, 0], rest[j, 1] - rest[p, 1], rest[j, 2] - rest[p, 2]
        _turn(turned[p], hand.angles[j - 1], turned[j])
        for i in range(3):
            placed[j, i] = placed[p, i] + turned[p, i, 0] * x + turned[p, i, 1] * y + turned[p, i, 2] * z
    into, turn, shift = hand.into, objects.turn[row], objects.shift[row]
    for i in range(3):
        for k in range(3):
            into[i, k] = (
                turn[i, 0] * hand.orient[0, k] + turn[i, 1] * hand.orient[1, k] + turn[i, 2] * hand.orient[2, k]
            )
    x, y, z = hand.numbers[POSITION], hand.numbers[POSITION + 1], hand.numbers[POSITION + 2]
    px, py, pz = pivot[0], pivot[1], pivot[2]
    for n in range(len(hand.places)):
        cx, cy, cz = 0.0, 0.0, 0.0
        for t in range(terms.first[n], terms.first[n + 1]):
            j, share = terms.joint[t], terms.share[t]
            lx, ly, lz = local[t, 0], local[t, 1], local[t, 2]
            tx = placed[j, 0] + turned[j, 0, 0] * lx + turned[j, 0, 1] * ly + turned[j, 0, 2] * lz
            ty = placed[j, 1] + turned[j, 1, 0] * lx + turned[j, 1, 1] * ly + turned[j, 1, 2] * lz
            tz = placed[j, 2] + turned[j, 2, 0] * lx + turned[j, 2, 1] * ly + turned[j, 2, 2] * lz
            hand.carried[t, 0], hand.carried[t, 1], hand.carried[t, 2] = tx, ty, tz
            cx, cy, cz = cx + share * tx, cy + share * ty, cz + share * tz
        hand.places[n, 0], hand.places[n, 1], hand.places[n, 2] = cx, cy, cz
        cx, cy, cz = cx - px, cy - py, cz - pz
        for i in range(3):
            hand.there[n, i] = into[i, 0] * cx + into[i, 1] * cy + into[i, 2] * cz
            hand.there[n, i] += turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] * z + shift[i]


@njit(cache=True)
def _asked(row: int, objects: Objects, hand: _Posed) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N,), m, of a posed hand's points to the object of this row, and gradients (N, 3) in its frame."""
    k = objects.which[row]
    x, y, z = objects.shapes[k, 0], objects.shapes[k, 1], objects.shapes[k, 2]
    grid = objects.values[objects.starts[k] : objects.starts[k] + x * y * z].reshape((x, y, z))
    return query_grid(grid, objects.origins[k], objects.spacings[k], hand.there)


@njit(cache=True)
def _energy_and_slope(
    vector: np.ndarray,
    row: int,
    terms: Terms,
    code: Code,
    shapes: Shapes,
    objects: Objects,
    cost: Cost,
    hand: _Posed,
    slope: np.ndarray,
) -> float:
    """The energy of a vector (D,); its slope (D,) is written."""
    _pose(vector, row, terms, code, shapes, objects, hand)
    distance, gradient = _asked(row, objects, hand)
    clearance = distance - shapes.below[row % len(shapes.below)]
    energy, by_clearance = _energy(clearance, terms.pads, cost)
    slope[:] = 0.0
    if energy == 0.0:
        return energy
    # "Forces" point up the energy. Moments are about the origin until a joint asks for its own.
    forces, moments = np.zeros(hand.placed.shape), np.zeros(hand.placed.shape)
    a, carried = hand.into, hand.carried
    for n in range(len(clearance)):
        if by_clearance[n] == 0.0:
            continue
        gx, gy, gz = gradient[n, 0], gradient[n, 1], gradient[n, 2]
        fx = by_clearance[n] * (a[0, 0] * gx + a[1, 0] * gy + a[2, 0] * gz)
        fy = by_clearance[n] * (a[0, 1] * gx + a[1, 1] * gy + a[2, 1] * gz)
        fz = by_clearance[n] * (a[0, 2] * gx + a[1, 2] * gy + a[2, 2] * gz)
        for t in range(terms.first[n], terms.first[n + 1]):
            j, share = terms.joint[t], terms.share[t]
            forces[j, 0] += share * fx
            forces[j, 1] += share * fy
            forces[j, 2] += share * fz
            moments[j, 0] += share * (carried[t, 1] * fz - carried[t, 2] * fy)
            moments[j, 1] += share * (carried[t, 2] * fx - carried[t, 0] * fz)
            moments[j, 2] += share * (carried[t, 0] * fy - carried[t, 1] * fx)
    by_angles = np.empty(hand.angles.shape)
    for j in range(len(forces) - 1, 0, -1):  # parents have smaller numbers
        p = terms.parents[j]
        _slope_of_angles(hand.angles[j - 1], hand.turned[p], hand.placed[j], forces[j], moments[j], by_angles[j - 1])
        for i in range(3):
            forces[p, i] += forces[j, i]
            moments[p, i] += moments[j, i]
    flat = by_angles.reshape(-1)
    for i in range(len(code.basis)):
        for k in range(len(flat)):
            slope[POSE + i] += code.basis[i, k] * flat[k]
    _slope_of_place(hand, forces[0], moments[0], shapes.pivot[row % len(shapes.pivot)], slope)
    for i in range(len(slope)):
        slope[i] *= code.deviation[i]
    return energy


@njit(cache=True)
def _energy(clearance: np.ndarray, pads: int, cost: Cost) -> tuple[float, np.ndarray]:
    """`Guidance.energy` of clearances (N,), m, and its slope by them (N,), 1/m."""
    energy, slope = 0.0, np.zeros(len(clearance))
    for n in range(len(clearance)):
        deep = (-clearance[n] - cost.tolerated) / cost.unit
        if deep > 0.0:
            energy += deep * deep
            slope[n] = -2.0 * deep / cost.unit
    for finger in range(5):
        nearest = finger * pads + int(np.argmin(clearance[finger * pads : (finger + 1) * pads]))
        gap = clearance[nearest]
        if 0.0 < gap < cost.near:
            energy += cost.touch * (gap / cost.unit) ** 2
            slope[nearest] += 2.0 * cost.touch * gap / cost.unit**2
    return energy, slope


@njit(cache=True)
def _gram_schmidt(numbers: np.ndarray, orient: np.ndarray) -> None:
    """Write the rotation (3, 3) of a vector's numbers, as `rotation_6d_to_matrix`."""
    ax, ay, az = numbers[ORIENT], numbers[ORIENT + 1], numbers[ORIENT + 2]
    length = max(math.sqrt(ax * ax + ay * ay + az * az), _LEAST_LENGTH)
    ax, ay, az = ax / length, ay / length, az / length
    bx, by, bz = numbers[ORIENT + 3], numbers[ORIENT + 4], numbers[ORIENT + 5]
    along = ax * bx + ay * by + az * bz
    bx, by, bz = bx - along * ax, by - along * ay, bz - along * az
    length = max(math.sqrt(bx * bx + by * by + bz * bz), _LEAST_LENGTH)
    bx, by, bz = bx / length, by / length, bz / length
    orient[0, 0], orient[1, 0], orient[2, 0] = ax, ay, az
    orient[0, 1], orient[1, 1], orient[2, 1] = bx, by, bz
    orient[0, 2], orient[1, 2], orient[2, 2] = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@njit(cache=True)
def _turn(parent: np.ndarray, angles: np.ndarray, turned: np.ndarray) -> None:
    """Write ``parent @ exp(angles)``, by Rodrigues' formula."""
    x, y, z = angles[0], angles[1], angles[2]
    squared = x * x + y * y + z * z
    sine, cosine = 1.0 - squared / 6.0, 0.5 - squared / 24.0
    if squared > _SMALL_ANGLE**2:
        angle = math.sqrt(squared)
        sine, cosine = math.sin(angle) / angle, (1.0 - math.cos(angle)) / squared
    r00, r01, r02 = 1.0 - cosine * (y * y + z * z), cosine * x * y - sine * z, cosine * x * z + sine * y
    r10, r11, r12 = cosine * x * y + sine * z, 1.0 - cosine * (x * x + z * z), cosine * y * z - sine * x
    r20, r21, r22 = cosine * x * z - sine * y, cosine * y * z + sine * x, 1.0 - cosine * (x * x + y * y)
    for i in range(3):
        a, b, c = parent[i, 0], parent[i, 1], parent[i, 2]
        turned[i, 0] = a * r00 + b * r10 + c * r20
        turned[i, 1] = a * r01 + b * r11 + c * r21
        turned[i, 2] = a * r02 + b * r12 + c * r22


@njit(cache=True)
def _slope_of_angles(
    angles: np.ndarray,
    parent: np.ndarray,
    placed: np.ndarray,
    force: np.ndarray,
    moment: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Write the slope (3,) by a joint's axis and angle: J^T parent^T (moment about the joint).

    J is the left Jacobian: ``exp(angles + d) = exp(J d) exp(angles)``.
    """
    mx = moment[0] - (placed[1] * force[2] - placed[2] * force[1])
    my = moment[1] - (placed[2] * force[0] - placed[0] * force[2])
    mz = moment[2] - (placed[0] * force[1] - placed[1] * force[0])
    ux = parent[0, 0] * mx + parent[1, 0] * my + parent[2, 0] * mz
    uy = parent[0, 1] * mx + parent[1, 1] * my + parent[2, 1] * mz
    uz = parent[0, 2] * mx + parent[1, 2] * my + parent[2, 2] * mz
    x, y, z = angles[0], angles[1], angles[2]
    squared = x * x + y * y + z * z
    second, third = 0.5 - squared / 24.0, 1.0 / 6.0 - squared / 120.0
    if squared > _SMALL_ANGLE**2:
        angle = math.sqrt(squared)
        second, third = (1.0 - math.cos(angle)) / squared, (angle - math.sin(angle)) / (squared * angle)
    cx, cy, cz = y * uz - z * uy, z * ux - x * uz, x * uy - y * ux
    slope[0] = ux - second * cx + third * (y * cz - z * cy)
    slope[1] = uy - second * cy + third * (z * cx - x * cz)
    slope[2] = uz - second * cz + third * (x * cy - y * cx)


@njit(cache=True)
def _slope_of_place(hand: _Posed, force: np.ndarray, moment: np.ndarray, pivot: np.ndarray, slope: np.ndarray) -> None:
    """Write the slope by position and orientation (first 9 numbers).

    Args:
        hand: posed. force, moment: (3,) of the whole hand, about its origin, in its frame. pivot: (3,), m.
    """
    orient = hand.orient
    # About the pivot, along the axes of the hand; these are the columns of the orientation.
    first = moment[0] - (pivot[1] * force[2] - pivot[2] * force[1])
    second = moment[1] - (pivot[2] * force[0] - pivot[0] * force[2])
    third = moment[2] - (pivot[0] * force[1] - pivot[1] * force[0])
    long, over, across = 0.0, 0.0, 0.0
    for i in range(3):
        a, b = hand.numbers[ORIENT + i], hand.numbers[ORIENT + 3 + i]
        long += a * a
        over += orient[i, 0] * b
        across += orient[i, 1] * b
    long, across = max(math.sqrt(long), _LEAST_LENGTH), max(across, _LEAST_LENGTH)
    for i in range(3):
        slope[POSITION + i] = orient[i, 0] * force[0] + orient[i, 1] * force[1] + orient[i, 2] * force[2]
        turning = third * orient[i, 1] - (second + first * over / across) * orient[i, 2]
        slope[ORIENT + i] = turning / long
        slope[ORIENT + 3 + i] = first * orient[i, 2] / across
