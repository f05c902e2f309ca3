"""Derivatives of the pose residuals against finite differences, and the solver's small parts against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting import pose_residuals
from grasp_nodes.fitting.object_fit import make_solver_mesh
from grasp_nodes.fitting.pose_residuals import SolverImage, SolverMesh, SolverWeights
from grasp_nodes.fitting.pose_solver import PosePrior, PoseProblem, refine_poses, rotation_matrix, rotation_vector
from grasp_nodes.geometry.silhouette import mask_contour, mask_signed_distance, rasterise_depth
from grasp_nodes.objects.loading import load_object

FOCAL, WIDTH, HEIGHT = 120.0, 96, 80
CENTRE = np.array([0.02, -0.01, 0.4])
ROTATION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory) -> SolverMesh:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_solver_mesh(load_object("box:0.06,0.1,0.16", resolution=40))


@pytest.fixture(scope="module")
def image(mesh) -> SolverImage:
    """The box seen at the pose above."""
    camera = (mesh.vertices - mesh.centre) @ ROTATION.T + CENTRE
    pixels = camera[:, :2] / camera[:, 2:] * FOCAL + [48, 40]
    depth, _ = rasterise_depth(pixels[None], camera[None, :, 2], mesh.faces, HEIGHT, WIDTH)
    mask = depth[0] > 0
    y, x = np.nonzero(mask)
    z = depth[0][mask].astype(float)
    points = np.stack([(x - 48) / FOCAL * z, (y - 40) / FOCAL * z, z], axis=1)[::7]
    return SolverImage(
        intrinsics=np.array([FOCAL, FOCAL, 48.0, 40.0]),
        distance=mask_signed_distance(mask),
        ignored=np.zeros(mask.shape, np.uint8),
        mask=mask.astype(np.uint8),
        bounds=np.array([0.0, 0.0, WIDTH - 1, HEIGHT - 1]),
        contour=mask_contour(mask)[::2].copy(),
        points=np.ascontiguousarray(points),
    )


def weights(**changes: float) -> SolverWeights:
    values = {
        "contour_sigma": 1.0,
        "contour_scale": 3.0,
        "depth_sigma": 0.003,
        "depth_scale": 0.02,
        "contour_count": 50.0,
        "depth_count": 50.0,
        "use_visible": False,
    }
    return SolverWeights(**{**values, **changes})


def moved(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return Rotation.from_rotvec(step[3:]).as_matrix() @ ROTATION, CENTRE + step[:3]


def cost_and_gradient(step, mesh, image, choice, prior=None):
    cost, normal, gradient = PoseProblem(mesh, image).evaluate(*moved(step), choice, prior)
    return cost, gradient, normal


def numeric_gradient(step, mesh, image, choice, prior=None, size=1e-6):
    """Half of the cost's slope: the gradient of a sum of squares without its factor two."""
    costs = [
        cost_and_gradient(step + sign * size * axis, mesh, image, choice, prior)[0]
        for axis in np.eye(6)
        for sign in (1, -1)
    ]
    return np.diff(np.reshape(costs, (6, 2)), axis=1)[:, 0] / (-4 * size)


OFFSET = np.array([0.004, -0.003, 0.006, 0.05, -0.04, 0.06])


@pytest.mark.parametrize("use_visible", [False, True])
def test_depth_gradient(mesh, image, use_visible):
    choice = weights(contour_count=0.0, use_visible=use_visible)
    _, gradient, normal = cost_and_gradient(OFFSET, mesh, image, choice)
    expected = numeric_gradient(OFFSET, mesh, image, choice, size=1e-7)
    np.testing.assert_allclose(gradient, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())
    assert np.linalg.eigvalsh(normal).min() > 0


def test_prior_gradient(mesh, image):
    choice = weights(contour_count=0.0, depth_count=0.0)
    prior = PosePrior(ROTATION, CENTRE, np.diag([1 / 0.02**2] * 3 + [1 / 0.1**2] * 3))
    cost, gradient, normal = cost_and_gradient(OFFSET, mesh, image, choice, prior)
    assert cost == pytest.approx((OFFSET[:3] ** 2).sum() / 0.02**2 + (OFFSET[3:] ** 2).sum() / 0.1**2)
    np.testing.assert_allclose(gradient, numeric_gradient(OFFSET, mesh, image, choice, prior), rtol=1e-5)
    np.testing.assert_allclose(np.diag(normal), [1 / 0.02**2] * 3 + [1 / 0.1**2] * 3)


def test_outline_samples_lie_on_the_silhouette_and_move_as_their_jacobian_says(mesh, image):
    def sample(step):
        rotation, centre = moved(step)
        problem = PoseProblem(mesh, image)
        assert problem._place(rotation, centre, with_faces=False)
        work = problem._work
        count = pose_residuals.sample_outline(centre, mesh, image, work)
        return work.sample[:count].copy(), work.jacobian[:count].copy(), work.normal[:count].copy()

    points, jacobian, normal = sample(np.zeros(6))
    on_outline = [abs(image.distance[round(y), round(x)]) for x, y in points]
    assert max(on_outline) < 1.5
    # The samples go around the whole outline.
    gaps = np.linalg.norm(image.contour[:, None] - points[None], axis=-1).min(axis=1)
    assert gaps.max() < 3
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1)
    for axis in range(6):
        step = np.zeros(6)
        step[axis] = 1e-6
        forward, backward = sample(step)[0], sample(-step)[0]
        np.testing.assert_allclose((forward - backward) / 2e-6, jacobian[:, :, axis], rtol=1e-4, atol=1e-3)


def test_every_residual_leads_back_to_the_true_pose(mesh, image):
    for choice, tolerance in (
        (weights(contour_count=0.0), (0.002, 1.0)),
        (weights(depth_count=0.0), (0.008, 2.5)),
        (weights(), (0.002, 1.0)),
    ):
        rotation, centre = moved(OFFSET)
        rotations, centres = rotation[None].copy(), centre[None].copy()
        used = image if choice.depth_count else image._replace(points=np.zeros((0, 3)))
        costs = refine_poses(rotations, centres, mesh, used, choice, 30, 1e-7)
        assert costs[0] <= cost_and_gradient(OFFSET, mesh, used, choice)[0]
        assert np.linalg.norm(centres[0] - CENTRE) < tolerance[0]
        assert np.rad2deg(Rotation.from_matrix(rotations[0] @ ROTATION.T).magnitude()) < tolerance[1]
        np.testing.assert_allclose(rotations[0] @ rotations[0].T, np.eye(3), atol=1e-12)


def test_more_evaluations_never_cost_more(mesh, image):
    start_rotation, start_centre = moved(4 * OFFSET)
    last = np.inf
    for iterations in range(0, 20, 3):
        rotations, centres = start_rotation[None].copy(), start_centre[None].copy()
        costs = refine_poses(rotations, centres, mesh, image, weights(), iterations, 0.0)
        assert costs[0] <= last
        last = costs[0]


def test_a_pose_behind_the_camera_costs_infinitely_and_stays(mesh, image):
    rotations, centres = np.eye(3)[None].copy(), np.array([[0.0, 0.0, -0.4]])
    costs = refine_poses(rotations, centres, mesh, image, weights(), 5, 1e-6)
    assert np.isinf(costs[0])
    np.testing.assert_array_equal(centres, [[0, 0, -0.4]])
    overlap, agreement, rms = PoseProblem(mesh, image).explain(rotations[0], centres[0], 0.005)
    assert overlap == agreement == 0
    assert np.isnan(rms)


def test_the_true_pose_explains_the_image(mesh, image):
    problem = PoseProblem(mesh, image)
    overlap, agreement, rms = problem.explain(ROTATION, CENTRE, 0.005)
    assert overlap > 0.999
    assert agreement > 0.98
    assert rms < 0.001
    worse_overlap, worse_agreement, worse_rms = problem.explain(*moved(OFFSET), 0.005)
    assert worse_overlap < overlap - 0.01
    assert worse_agreement < agreement - 0.05
    assert worse_rms > rms
    hidden = image.ignored.copy()
    hidden[:, 60:] = 1
    half = image._replace(ignored=hidden, mask=np.where(hidden, 0, image.mask).astype(np.uint8))
    # What the hand covers counts neither for nor against.
    assert PoseProblem(mesh, half).explain(ROTATION, CENTRE, 0.005)[0] > 0.999


def test_the_two_sides_of_a_thin_wall_are_told_apart(tmp_path_factory):
    """Noise behind the front of a 2 mm sheet is not noise in front of its back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        sheet = make_solver_mesh(load_object("box:0.1,0.1,0.002"))
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-0.03, 0.03, (2, 400))
    points = np.stack([x, y, 0.3 - 0.001 + rng.normal(scale=0.003, size=400)], axis=1)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:60, 28:68] = 1
    seen = SolverImage(
        np.array([FOCAL, FOCAL, 48.0, 40.0]),
        mask_signed_distance(mask > 0),
        np.zeros_like(mask),
        mask,
        np.array([0.0, 0.0, WIDTH - 1, HEIGHT - 1]),
        mask_contour(mask > 0),
        points,
    )
    offsets = []
    for use_visible in (True, False):
        choice = weights(contour_count=0.0, use_visible=use_visible, depth_scale=0.012)
        _, centre, _, _ = PoseProblem(sheet, seen).refine(np.eye(3), np.array([0, 0, 0.302]), choice, 30, 1e-7)
        offsets.append(abs(centre[2] - 0.3))
    assert offsets[0] < 0.0005
    assert offsets[1] > 2 * offsets[0]


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-6, 0.5, 3.0])
def test_single_rotations_agree_with_scipy(angle):
    vector = angle * np.array([0.6, -0.64, 0.48])
    matrix = rotation_matrix(vector)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rotation_vector(matrix), vector, atol=1e-9)
