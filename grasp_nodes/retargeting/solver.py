"""One frame's least squares over driven joints and wrist, by Levenberg and Marquardt within bounds, compiled.

All residuals are lengths, m: what is no length is weighted by one. Variables are the n driven joints and, with a free
wrist, a shift and a turn of the base about the palm's middle. Terms:

- *vectors*: point on a body, minus another one or none, against a vector;
- *contacts*: the point of a body's surface that suits best against a point and a normal on the object;
- *penetration*: points of all surfaces that are inside the object, by its signed distance;
- *fingers*: balls of two fingers that are inside each other;
- *rest* and *wrist*: joints against a posture, the base against a pose.

Bounds (limits of position and, from the last frame, of velocity) are kept at every step: a variable at its bound whose
gradient points outwards is left out of the step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from grasp_nodes.geometry.signed_distance import query_grid
from grasp_nodes.retargeting.kinematics import Chain, add_direction_jacobian, add_point_jacobian, forward


class Skin(NamedTuple):
    """The hand's surface for the solver, see `Surface`.

    center: (B, 3) m and radius: (B,) m, of a ball around each body's points, -1 for a body without.
    ball_body: (K,) int64, ball_center: (K, 3) m, ball_radius: (K,) m, of the fingers. pairs: (P, 2) int64, of balls.
    """

    points: np.ndarray
    normals: np.ndarray
    start: np.ndarray
    center: np.ndarray
    radius: np.ndarray
    ball_body: np.ndarray
    ball_center: np.ndarray
    ball_radius: np.ndarray
    pairs: np.ndarray


class Vectors(NamedTuple):
    """V vector terms. Points (V, 3) m in their body's frame; tail_body -1 = no second point. weight: (V,)."""

    body: np.ndarray
    point: np.ndarray
    tail_body: np.ndarray
    tail_point: np.ndarray
    target: np.ndarray
    weight: np.ndarray


class Contacts(NamedTuple):
    """C contact terms. point, normal: (C, 3), on the object. gap: (C,) m, negative = pressed in. weight: (C,)."""

    body: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    gap: np.ndarray
    weight: np.ndarray


class Obstacle(NamedTuple):
    """The object's signed distance. weight 0 = none. depth: m, that costs nothing."""

    values: np.ndarray
    origin: np.ndarray
    spacing: float
    weight: float
    depth: float


class Bounds(NamedTuple):
    """lower, upper: (n,), of the driven joints. rest: (n,) posture and rest_weight: (n,), m per rad.

    turn: (3, 3), place: (3,) m: the base's pose that the wrist is held to. center: (3,) m, the palm's middle in the
    base's frame when the hand rests. place_weight; turn_weight: m per rad. free: whether the wrist moves.
    """

    lower: np.ndarray
    upper: np.ndarray
    rest: np.ndarray
    rest_weight: np.ndarray
    turn: np.ndarray
    place: np.ndarray
    center: np.ndarray
    place_weight: float
    turn_weight: float
    free: bool


class Now(NamedTuple):
    """The hand where the search is: poses and axes of `forward`, the palm's middle, n, and whether the wrist moves."""

    turn: np.ndarray
    place: np.ndarray
    axis: np.ndarray
    center: np.ndarray
    joints: int
    free: bool


class Effort(NamedTuple):
    """iterations: at most. tolerance: share of the cost; a smaller gain ends the search."""

    iterations: int
    tolerance: float


TANGENT = 0.6
"""Weight of a contact along the surface; across it is 1."""
FACING = 0.006
"""m; weight of the cosine between the normals of a contact."""
STRIDE = 2
"""Of so many points of a surface one is asked for its depth in the object."""
_FIRST_DAMPING = 1e-3
_MOST_DAMPING = 1e8


@njit(cache=True)
def solve(
    chain: Chain,
    skin: Skin,
    vectors: Vectors,
    contacts: Contacts,
    obstacle: Obstacle,
    bounds: Bounds,
    effort: Effort,
    driven: np.ndarray,
    base_turn: np.ndarray,
    base_place: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int]:
    """The driven joints (n,), the base's turn (3, 3) and place (3,), the cost in m^2, and the steps that were tried.

    Args:
        driven, base_turn, base_place: where the search begins.
    """
    n = len(driven)
    count = n + 6 if bounds.free else n
    H, g, trial_H, trial_g = np.zeros((count, count)), np.zeros(count), np.zeros((count, count)), np.zeros(count)
    v = np.minimum(np.maximum(driven, bounds.lower), bounds.upper)
    R, t = base_turn.copy(), base_place.copy()
    cost = linearise(chain, skin, vectors, contacts, obstacle, bounds, v, R, t, H, g)
    damping, tried = _FIRST_DAMPING, 0
    trial_v, trial_R, trial_t = v.copy(), R.copy(), t.copy()
    while tried < effort.iterations and damping < _MOST_DAMPING:
        tried += 1
        A, b = H.copy(), -g
        for k in range(count):
            A[k, k] += damping * H[k, k] + 1e-12
        for k in range(n):
            if (v[k] <= bounds.lower[k] and g[k] > 0) or (v[k] >= bounds.upper[k] and g[k] < 0):
                A[k, :] = 0.0
                A[:, k] = 0.0
                A[k, k] = 1.0
                b[k] = 0.0
        step = np.linalg.solve(A, b)
        for k in range(n):
            trial_v[k] = min(max(v[k] + step[k], bounds.lower[k]), bounds.upper[k])
        if bounds.free:
            _move_base(R, t, bounds.center, step[n:], trial_R, trial_t)
        # Nearly every step is taken, so that its derivatives are wanted, too.
        trial = linearise(chain, skin, vectors, contacts, obstacle, bounds, trial_v, trial_R, trial_t, trial_H, trial_g)
        if not trial < cost:
            damping *= 6.0
            continue
        gain, cost, damping = cost - trial, trial, max(damping * 0.2, 1e-9)
        v[:], R[:], t[:], H[:], g[:] = trial_v, trial_R, trial_t, trial_H, trial_g
        if gain < effort.tolerance * (cost + gain):
            break
    return v, R, t, cost, tried


@njit(cache=True)
def _move_base(
    R: np.ndarray, t: np.ndarray, center: np.ndarray, step: np.ndarray, new_R: np.ndarray, new_t: np.ndarray
) -> None:
    """Shift by step[:3] and turn by step[3:] about the palm's middle."""
    c = R @ center + t
    angle = math.sqrt(step[3] ** 2 + step[4] ** 2 + step[5] ** 2)
    E = np.eye(3)
    if angle > 1e-12:
        x, y, z = step[3] / angle, step[4] / angle, step[5] / angle
        K = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        E += math.sin(angle) * K + (1 - math.cos(angle)) * (K @ K)
    new_R[:] = E @ R
    new_t[:] = c + E @ (t - c) + step[:3]


@njit(cache=True)
def linearise(
    chain: Chain,
    skin: Skin,
    vectors: Vectors,
    contacts: Contacts,
    obstacle: Obstacle,
    bounds: Bounds,
    v: np.ndarray,
    R: np.ndarray,
    t: np.ndarray,
    H: np.ndarray,
    g: np.ndarray,
) -> float:
    """Half the sum of squared residuals; its Gauss-Newton Hessian and gradient are written into H and g."""
    turn, place, axis = forward(chain, v, R, t)
    now = Now(turn, place, axis, R @ bounds.center + t, len(v), bounds.free)
    H[:] = 0.0
    g[:] = 0.0
    cost = _add_vectors(chain, vectors, now, H, g)
    cost += _add_contacts(chain, skin, contacts, now, H, g)
    if obstacle.weight > 0.0:
        cost += _add_penetration(chain, skin, obstacle, now, H, g)
    cost += _add_fingers(chain, skin, now, H, g)
    return cost + _add_priors(bounds, v, R, now, H, g)


@njit(cache=True)
def _add_vectors(chain: Chain, vectors: Vectors, now: Now, H: np.ndarray, g: np.ndarray) -> float:
    cost, residual, tail = 0.0, np.empty(3), np.empty(3)
    J = np.zeros((3, len(g)))
    for k in range(len(vectors.body)):
        w = vectors.weight[k]
        if w == 0.0:
            continue
        a, b = vectors.body[k], vectors.tail_body[k]
        head = now.turn[a] @ vectors.point[k] + now.place[a]
        tail[:] = 0.0
        if b >= 0:
            tail[:] = now.turn[b] @ vectors.tail_point[k] + now.place[b]
        residual[:] = w * (head - tail - vectors.target[k])
        cost += 0.5 * float(residual @ residual)
        J[:] = 0.0
        add_point_jacobian(chain, now.place, now.axis, a, head, w, J)
        if b >= 0:
            add_point_jacobian(chain, now.place, now.axis, b, tail, -w, J)
        if now.free:
            if b >= 0:
                _add_wrist(head - tail, w, 0.0, now.joints, J)
            else:
                _add_wrist(head - now.center, w, 1.0, now.joints, J)
        _gather(J, residual, H, g)
    return cost


@njit(cache=True)
def _add_contacts(chain: Chain, skin: Skin, contacts: Contacts, now: Now, H: np.ndarray, g: np.ndarray) -> float:
    cost, J, spread = 0.0, np.zeros((3, len(g))), np.empty((3, 3))
    for k in range(len(contacts.body)):
        w, body = contacts.weight[k], contacts.body[k]
        if w == 0.0:
            continue
        normal = contacts.normal[k]
        # In the body's frame: the object's point is turned once instead of all of the surface.
        point = now.turn[body].T @ (contacts.point[k] - now.place[body])
        chosen, best = _suited(skin, body, point, now.turn[body].T @ normal, contacts.gap[k])
        cost += 0.5 * w * w * best
        at = now.turn[body] @ skin.points[chosen] + now.place[body]
        outward = now.turn[body] @ skin.normals[chosen]
        shift = at - contacts.point[k]
        across = shift @ normal
        residual = w * (TANGENT * (shift - across * normal) + (across - contacts.gap[k]) * normal)
        for i in range(3):
            for m in range(3):
                spread[i, m] = (1.0 - TANGENT) * normal[i] * normal[m]
            spread[i, i] += TANGENT
        J[:] = 0.0
        add_point_jacobian(chain, now.place, now.axis, body, at, w, J)
        if now.free:
            _add_wrist(at - now.center, w, 1.0, now.joints, J)
        _gather(spread @ J, residual, H, g)
        J[:] = 0.0
        add_direction_jacobian(chain, now.axis, body, outward, w * FACING, J)
        if now.free:
            _add_wrist(outward, w * FACING, 0.0, now.joints, J)
        _gather_row(normal @ J, w * FACING * (1.0 + outward @ normal), H, g)
    return cost


@njit(cache=True)
def _suited(skin: Skin, body: int, point: np.ndarray, normal: np.ndarray, gap: float) -> tuple[int, float]:
    """The surface point of a body that costs least against a point and normal, body frame, and that cost, m^2."""
    chosen, best = -1, np.inf
    for s in range(skin.start[body], skin.start[body + 1]):
        square, across, facing = 0.0, 0.0, 1.0
        for i in range(3):
            d = skin.points[s, i] - point[i]
            square += d * d
            across += d * normal[i]
            facing += skin.normals[s, i] * normal[i]
        off = across - gap
        value = off * off + TANGENT**2 * (square - across * across) + (FACING * facing) ** 2
        if value < best:
            chosen, best = s, value
    return chosen, best


@njit(cache=True)
def _add_penetration(chain: Chain, skin: Skin, obstacle: Obstacle, now: Now, H: np.ndarray, g: np.ndarray) -> float:
    cost, J, ball = 0.0, np.zeros((3, len(g))), np.empty((1, 3))
    for body in range(len(skin.radius)):
        if skin.radius[body] < 0.0:
            continue
        ball[0] = now.turn[body] @ skin.center[body] + now.place[body]
        far, _ = query_grid(obstacle.values, obstacle.origin, obstacle.spacing, ball)
        if far[0] > skin.radius[body]:
            continue
        points = skin.points[skin.start[body] : skin.start[body + 1] : STRIDE]
        at = np.empty((len(points), 3))
        for s in range(len(points)):
            for i in range(3):
                at[s, i] = now.place[body, i]
                for k in range(3):
                    at[s, i] += now.turn[body, i, k] * points[s, k]
        distance, slope = query_grid(obstacle.values, obstacle.origin, obstacle.spacing, at)
        for s in range(len(points)):
            off = -obstacle.weight * (distance[s] + obstacle.depth)
            if off <= 0.0:
                continue
            cost += 0.5 * off**2
            J[:] = 0.0
            add_point_jacobian(chain, now.place, now.axis, body, at[s], -obstacle.weight, J)
            if now.free:
                _add_wrist(at[s] - now.center, -obstacle.weight, 1.0, now.joints, J)
            _gather_row(slope[s] @ J, off, H, g)
    return cost


@njit(cache=True)
def _add_fingers(chain: Chain, skin: Skin, now: Now, H: np.ndarray, g: np.ndarray) -> float:
    cost, J = 0.0, np.zeros((3, len(g)))
    centers = np.empty_like(skin.ball_center)
    for k in range(len(centers)):
        body = skin.ball_body[k]
        centers[k] = now.turn[body] @ skin.ball_center[k] + now.place[body]
    for k in range(len(skin.pairs)):
        one, two = skin.pairs[k, 0], skin.pairs[k, 1]
        reach, square = skin.ball_radius[one] + skin.ball_radius[two], 0.0
        for i in range(3):
            square += (centers[one, i] - centers[two, i]) ** 2
        if square >= reach * reach or square < 1e-12:
            continue
        length = math.sqrt(square)
        cost += 0.5 * (reach - length) ** 2
        J[:] = 0.0
        add_point_jacobian(chain, now.place, now.axis, skin.ball_body[one], centers[one], -1.0, J)
        add_point_jacobian(chain, now.place, now.axis, skin.ball_body[two], centers[two], 1.0, J)
        _gather_row(((centers[one] - centers[two]) / length) @ J, reach - length, H, g)
    return cost


@njit(cache=True)
def _add_priors(bounds: Bounds, v: np.ndarray, R: np.ndarray, now: Now, H: np.ndarray, g: np.ndarray) -> float:
    cost, n = 0.0, now.joints
    for k in range(n):
        off = bounds.rest_weight[k] * (v[k] - bounds.rest[k])
        cost += 0.5 * off**2
        H[k, k] += bounds.rest_weight[k] ** 2
        g[k] += bounds.rest_weight[k] * off
    if not now.free:
        return cost
    off_place = now.center - (bounds.turn @ bounds.center + bounds.place)
    E = R @ bounds.turn.T
    p2, r2 = bounds.place_weight**2, bounds.turn_weight**2
    # 1 - cos of the turn, whose slope is sin: near zero that is half its square.
    cost += 0.5 * p2 * (off_place @ off_place) + 0.5 * r2 * (3.0 - E[0, 0] - E[1, 1] - E[2, 2])
    off_turn = 0.5 * np.array([E[2, 1] - E[1, 2], E[0, 2] - E[2, 0], E[1, 0] - E[0, 1]])
    for i in range(3):
        H[n + i, n + i] += p2
        g[n + i] += p2 * off_place[i]
        H[n + 3 + i, n + 3 + i] += r2
        g[n + 3 + i] += r2 * off_turn[i]
    return cost


@njit(cache=True)
def _add_wrist(arm: np.ndarray, weight: float, shifts: float, n: int, J: np.ndarray) -> None:
    """Columns of the wrist: of a point at `arm` from the palm's middle (shifts 1), or of a direction (shifts 0)."""
    for i in range(3):
        J[i, n + i] += weight * shifts
    J[0, n + 4] += weight * arm[2]
    J[0, n + 5] -= weight * arm[1]
    J[1, n + 3] -= weight * arm[2]
    J[1, n + 5] += weight * arm[0]
    J[2, n + 3] += weight * arm[1]
    J[2, n + 4] -= weight * arm[0]


@njit(cache=True)
def _gather(J: np.ndarray, residual: np.ndarray, H: np.ndarray, g: np.ndarray) -> None:
    for i in range(3):
        _gather_row(J[i], residual[i], H, g)


@njit(cache=True)
def _gather_row(row: np.ndarray, residual: float, H: np.ndarray, g: np.ndarray) -> None:
    """Add one residual's share; most columns of a row are zero, those of other fingers."""
    count = len(row)
    for i in range(count):
        if row[i] == 0.0:
            continue
        g[i] += row[i] * residual
        for k in range(count):
            H[i, k] += row[i] * row[k]
