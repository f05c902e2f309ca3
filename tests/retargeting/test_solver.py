"""The solver's gradient, by finite differences of its cost, with all terms at work."""

import numpy as np

from grasp_nodes.retargeting.solver import Bounds, Contacts, Obstacle, Vectors, _move_base, linearise
from grasp_nodes.retargeting.solver_skin import solver_skin

STEP = 1e-7


def terms(hand, ball, rng):
    count = len(hand.fingers)
    tips = np.array([finger.tip_body for finger in hand.fingers])
    points = np.array([finger.tip for finger in hand.fingers])
    vectors = Vectors(
        np.concatenate([tips, tips]),
        np.concatenate([points, points]),
        np.concatenate([np.full(count, -1), np.roll(tips, 1)]),
        np.concatenate([points, np.roll(points, 1, axis=0)]),
        rng.normal(size=(2 * count, 3)) * 0.05,
        rng.uniform(0.5, 2.0, 2 * count),
    )
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    contacts = Contacts(tips, 0.035 * normals, normals, rng.normal(size=count) * 0.002, rng.uniform(0.5, 2.0, count))
    values, origin = ball.signed_distance.arrays
    obstacle = Obstacle(values, origin, float(ball.signed_distance.spacing), 0.7, 0.001)
    return vectors, contacts, obstacle


def test_gradient_of_all_terms(generic, ball):
    rng, kinematics, skin = np.random.default_rng(4), generic.kinematics, solver_skin(generic)
    vectors, contacts, obstacle = terms(generic, ball, rng)
    driven = generic.rest + 0.3 * (kinematics.upper - generic.rest)
    place = np.array([-0.07, 0.01, 0.03])  # the palm is in the ball
    n = len(driven)
    bounds = Bounds(
        kinematics.lower,
        kinematics.upper,
        generic.rest,
        np.full(n, 0.02),
        np.eye(3),
        np.zeros(3),
        np.array([0.09, 0.0, 0.0]),
        0.3,
        0.05,
        True,
    )
    fixed = (kinematics.chain, skin, vectors, contacts, obstacle, bounds)
    H, g = np.zeros((n + 6, n + 6)), np.zeros(n + 6)

    def cost(step):
        turn, moved = np.eye(3), np.zeros(3)
        _move_base(np.eye(3), place, bounds.center, step[n:], turn, moved)
        return linearise(*fixed, driven + step[:n], turn, moved, np.zeros((n + 6, n + 6)), np.zeros(n + 6))

    at = linearise(*fixed, driven, np.eye(3), place, H, g)
    assert at == cost(np.zeros(n + 6))
    slopes = np.array([(cost(STEP * row) - cost(-STEP * row)) / (2 * STEP) for row in np.eye(n + 6)])
    # The nearest surface point, and the cell of the distance grid, may change within the step.
    np.testing.assert_allclose(g, slopes, rtol=5e-3, atol=5e-3 * np.abs(slopes).max())
    np.testing.assert_allclose(H, H.T, atol=1e-12)
    assert np.linalg.eigvalsh(H).min() > -1e-12
