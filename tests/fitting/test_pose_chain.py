"""The least squares over all frames: derivatives against finite differences, and what the motion prior does alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.object_fit import make_solver_mesh
from grasp_nodes.fitting.object_observation import ObjectObservation, observe_object
from grasp_nodes.fitting.pose_chain import ChainFrame, fit_chain, marginal_covariance
from grasp_nodes.fitting.pose_residuals import SolverMesh, SolverWeights
from grasp_nodes.fitting.pose_solver import PoseProblem, rotation_matrix
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.silhouette import rasterise_mask
from grasp_nodes.objects.loading import load_object

CAMERA = CameraModel(np.array([[300.0, 0, 160], [0, 300.0, 120], [0, 0, 1]]), 320, 240)
WEIGHTS = SolverWeights(1.0, 2.5, 0.003, 0.012, 60.0, 100.0, False)
ROTATION = Rotation.from_euler("xyz", [30, 40, 10], degrees=True).as_matrix()
CENTRE = np.array([0.01, -0.02, 0.5])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory) -> SolverMesh:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_solver_mesh(load_object("box:0.04,0.06,0.12"))


def see(mesh: SolverMesh, rotation: np.ndarray, centre: np.ndarray, grow: int = 0) -> ObjectObservation:
    points = (mesh.vertices - mesh.centre) @ rotation.T + centre
    pixels = CAMERA.project(points)
    mask = np.zeros((240, 320), bool)
    # The mesh is convex: its silhouette, grown by a square, is the union of its silhouettes moved within the square.
    for x in range(-grow, grow + 1):
        for y in range(-grow, grow + 1):
            mask |= rasterise_mask((pixels + [x, y])[None], points[None, :, 2], mesh.faces, 240, 320)[0]
    observation = observe_object(CAMERA, mask, reach=0.2)
    assert observation is not None
    return observation


def test_derivative_by_fatness(mesh):
    problem = PoseProblem(mesh, see(mesh, ROTATION, CENTRE, grow=1).image)
    rotation, centre = rotation_matrix(np.array([0.03, -0.02, 0.04])) @ ROTATION, CENTRE + [0.002, 0.001, 0.01]
    step = 1e-4
    costs = [problem.evaluate_with_fatness(rotation, centre, f, WEIGHTS)[0] for f in (0.7 - step, 0.7 + step)]
    _, normal, gradient = problem.evaluate_with_fatness(rotation, centre, 0.7, WEIGHTS)
    assert 2 * gradient[6] == pytest.approx((costs[1] - costs[0]) / (2 * step), rel=1e-4)
    np.testing.assert_allclose(normal, normal.T)
    plain = problem.evaluate(rotation, centre, WEIGHTS)
    with_zero = problem.evaluate_with_fatness(rotation, centre, 0.0, WEIGHTS)
    assert plain[0] == pytest.approx(with_zero[0])
    np.testing.assert_allclose(plain[1], with_zero[1][:6, :6])


@pytest.mark.parametrize("grow", [0, 2])
def test_a_fat_mask_is_called_fat(mesh, grow):
    """Grown by two pixels, a mask says that the object is nearer; the mask's own unknown takes it up."""
    observation = see(mesh, ROTATION, CENTRE, grow)
    frames = [ChainFrame(observation.image, WEIGHTS, 1.0, fatness=3.0)]
    chain = fit_chain(ROTATION[None], CENTRE[None], mesh, frames, np.zeros(1))
    assert chain.fatness[0] == pytest.approx(1.2 * grow, abs=0.6)
    assert abs(chain.centres[0, 2] - CENTRE[2]) < 0.006


def test_hidden_frames_lie_between_their_neighbours(mesh):
    """Carried at a steady pace: three frames without an image, guessed at the first one's place."""
    count = 9
    centres = CENTRE + np.outer(np.arange(count), [0.004, 0.0, 0.001])
    rotations = np.stack([rotation_matrix(np.array([0.0, 0.05, 0.02]) * t) @ ROTATION for t in range(count)])
    frames = [
        ChainFrame(None if t in (3, 4, 5) else see(mesh, rotations[t], centres[t]).image, WEIGHTS) for t in range(count)
    ]
    guess, guess_rotations = centres.copy(), rotations.copy()
    guess[3:6], guess_rotations[3:6] = centres[2], rotations[2]
    chain = fit_chain(guess_rotations, guess, mesh, frames, np.arange(count) / 30)
    np.testing.assert_allclose(chain.centres[3:6], centres[3:6], atol=0.004)
    angles = Rotation.from_matrix(chain.rotations[3:6] @ rotations[3:6].transpose(0, 2, 1)).magnitude()
    assert angles.max() < 0.06
    deviation = np.sqrt(chain.covariance[:, 0, 0])
    assert deviation[4] > 2 * deviation[0]
    assert deviation[4] > deviation[3]


def test_frames_of_no_trust_do_not_pull(mesh):
    far = see(mesh, ROTATION, CENTRE + [0.1, 0, 0])
    good = see(mesh, ROTATION, CENTRE)
    frames = [
        ChainFrame(good.image, WEIGHTS),
        ChainFrame(far.image, WEIGHTS, trust=0.0),
        ChainFrame(good.image, WEIGHTS),
    ]
    starts = np.tile(ROTATION, (3, 1, 1)), np.tile(CENTRE, (3, 1))
    chain = fit_chain(*starts, mesh, frames, np.arange(3) / 30)
    np.testing.assert_allclose(chain.centres, np.tile(CENTRE, (3, 1)), atol=0.003)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_marginal_covariance_is_the_inverse(count):
    rng = np.random.default_rng(count)
    # Each frame with the next two, as accelerations couple them.
    factor = np.zeros((6 * count, 6 * count))
    for t in range(count):
        for other in range(t, min(t + 3, count)):
            factor[6 * t : 6 * t + 6, 6 * other : 6 * other + 6] = rng.normal(size=(6, 6))
    matrix = factor.T @ factor + 5 * np.eye(6 * count)
    blocks = np.zeros((3, count, 6, 6))
    for offset in range(3):
        for t in range(count - offset):
            row = 6 * (t + offset)
            blocks[offset, t] = matrix[row : row + 6, 6 * t : 6 * t + 6]
    regular = matrix + np.diag(np.tile([1.0, 1.0, 1.0, 0.1, 0.1, 0.1], count))
    inverse = np.linalg.inv(regular)
    expected = np.stack([inverse[6 * t : 6 * t + 6, 6 * t : 6 * t + 6] for t in range(count)])
    np.testing.assert_allclose(marginal_covariance(blocks), expected, rtol=1e-8, atol=1e-12)
