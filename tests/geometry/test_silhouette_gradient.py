"""Silhouette errors and their gradients against polygon clipping, super-sampled images and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from manifold3d import CrossSection, FillRule

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.silhouette import rasterise_mask
from grasp_nodes.geometry.silhouette_gradient import SilhouetteLoss
from grasp_nodes.objects.shapes import mug

HEIGHT, WIDTH = 48, 64
CAMERA = CameraModel(np.array([[110.0, 0, 31.3], [0, 105.0, 22.8], [0, 0, 1]]), WIDTH, HEIGHT)


def rectangle(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


WINDOW = CrossSection([rectangle(-0.5, -0.5, WIDTH - 0.5, HEIGHT - 0.5)], FillRule.Positive)


def covered_polygon(pixels, depths, faces):
    """Union of the triangles in front of the camera, by Clipper's booleans."""
    faces = faces[(depths[faces] >= 1e-3).all(axis=1)]
    corners = pixels[faces]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    area = ax * by - ay * bx
    corners = np.where(area[:, None, None] < 0, corners[:, ::-1], corners)[area != 0]
    return CrossSection(list(corners), FillRule.Positive) ^ WINDOW


def clipped_error(pixels, depths, faces, target, keep):
    """The error of binary masks by polygon booleans."""
    rows, columns = np.nonzero(keep)
    squares = {
        wanted: [rectangle(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for y, x in zip(rows, columns, strict=True)
                 if target[y, x] == wanted]
        for wanted in (False, True)
    }  # fmt: skip
    covered = covered_polygon(pixels, depths, faces)
    outside = CrossSection(squares[False], FillRule.Positive)
    inside = CrossSection(squares[True], FillRule.Positive)
    return ((covered ^ outside).area() + (inside - covered).area()) / len(rows)


def closed_mug():
    mesh = mug(sections=24)
    return np.array(mesh.vertices) - mesh.bounds.mean(axis=0), np.array(mesh.faces)


def open_mug():
    vertices, faces = closed_mug()
    return vertices, faces[::3]


def ball():
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.05)
    return np.array(mesh.vertices), np.array(mesh.faces)


def ring():
    mesh = trimesh.creation.torus(0.05, 0.015, major_sections=20, minor_sections=10)
    return np.array(mesh.vertices), np.array(mesh.faces)


def two_boxes():
    """Closed, and one goes through the other."""
    first, second = trimesh.creation.box((0.1, 0.03, 0.03)), trimesh.creation.box((0.03, 0.1, 0.04))
    second.apply_translation([0.02, 0.01, 0.005])
    both = trimesh.util.concatenate([first, second])
    return np.array(both.vertices), np.array(both.faces)


def inside_out_ball():
    vertices, faces = ball()
    return vertices, faces[:, ::-1].copy()


def soup():
    rng = np.random.default_rng(5)
    return rng.normal(0, 0.05, (40, 3)), rng.permuted(np.tile(np.arange(40), (30, 1)), axis=1)[:, :3]


SHAPES = {f.__name__: f for f in (closed_mug, open_mug, ball, ring, two_boxes, inside_out_ball, soup)}
PLACES = {"inside": (0.0, 0.0, 0.4), "across the border": (0.09, -0.06, 0.35), "around the camera": (0.01, 0.01, 0.03)}


def posed(shape, place, seed):
    vertices, faces = SHAPES[shape]()
    rotation = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[:3, :3]
    points = vertices @ rotation.T + np.array(PLACES[place])
    focal, centre = CAMERA.camera_k[[0, 1], [0, 1]], CAMERA.camera_k[:2, 2]
    return points[:, :2] / points[:, 2:] * focal + centre, points[:, 2], faces


def masks(seed):
    rng = np.random.default_rng(100 + seed)
    return rng.random((HEIGHT, WIDTH)) < 0.5, rng.random((HEIGHT, WIDTH)) < 0.8


def evaluate(pixels, depths, faces, target, keep):
    moved = torch.tensor(pixels[None], dtype=torch.float64, requires_grad=True)
    loss = SilhouetteLoss(faces, torch.tensor(target[None]), torch.tensor(keep[None]))
    error = loss(moved, torch.tensor(depths[None]))
    error.sum().backward()
    return float(error.detach()), moved.grad[0].numpy()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", SHAPES)
def test_error_is_the_area_that_polygon_clipping_gives(shape, place):
    for seed in range(2):
        pixels, depths, faces = posed(shape, place, seed)
        target, keep = masks(seed)
        error, _ = evaluate(pixels, depths, faces, target, keep)
        assert error == pytest.approx(clipped_error(pixels, depths, faces, target, keep), abs=1e-8)


@pytest.mark.parametrize("place", ["inside", "across the border"])
@pytest.mark.parametrize("shape", ["closed_mug", "open_mug", "ring", "two_boxes", "inside_out_ball", "soup"])
def test_gradient_is_the_derivative_of_the_clipped_area(shape, place):
    pixels, depths, faces = posed(shape, place, 7)
    target, keep = masks(7)
    _, gradient = evaluate(pixels, depths, faces, target, keep)
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = rng.normal(size=pixels.shape)
        step = 1e-4
        ahead = clipped_error(pixels + step * direction, depths, faces, target, keep)
        behind = clipped_error(pixels - step * direction, depths, faces, target, keep)
        expected = (ahead - behind) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(expected, abs=2e-3 * np.abs(gradient * direction).sum())


@pytest.mark.parametrize("shape", ["closed_mug", "ring"])
def test_error_with_soft_masks_is_that_of_a_super_sampled_image(shape):
    pixels, depths, faces = posed(shape, "inside", 3)
    rng = np.random.default_rng(3)
    target, keep = rng.random((HEIGHT, WIDTH)), rng.random((HEIGHT, WIDTH))
    samples = 16
    fine = rasterise_mask((pixels[None] + 0.5) * samples - 0.5, depths[None], faces, HEIGHT * samples, WIDTH * samples)
    share = fine[0].reshape(HEIGHT, samples, WIDTH, samples).mean(axis=(1, 3))
    expected = (keep * (share * (1 - target) ** 2 + (1 - share) * target**2)).sum() / keep.sum()
    error, _ = evaluate(pixels, depths, faces, target, keep)
    assert error == pytest.approx(expected, abs=5e-5)


def test_square_of_closed_form():
    # A square of 4.5 px by 3 px whose right half lies on the target: its left edge wants to move right.
    pixels = rectangle(4.5, 2.5, 9.0, 5.5)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    target = np.zeros((10, 16), bool)
    target[:, 6:] = True
    error, gradient = evaluate(pixels, np.ones(4), faces, target, np.ones_like(target))
    # Columns 6 to 15 are wanted: 10 x 10 px; covered are 1 px too much and 3.5 px of what is wanted, 3 px high.
    assert error == pytest.approx((3 * 1.0 + 100 - 3 * 3.5) / 160)
    # Per px: the left edge sweeps 3 px of what is wrong, the right one 3 px of what is wanted, half by each vertex.
    np.testing.assert_allclose(gradient[:, 0] * 160, [-1.5, -1.5, -1.5, -1.5])
    # Of the upper edge 1 px is wrong and 3.5 px are wanted: moving it down costs 2.5, of which the share of each vertex
    # is its mean weight along the pieces.
    wrong, wanted = np.array([1.0, 0.0]), np.array([0.0, 0.0])
    for start, stop, kind in ((0.0, 1 / 4.5, wrong), (1 / 4.5, 1.0, wanted)):
        right = 0.5 * (stop**2 - start**2)
        kind[:] = 4.5 * np.array([stop - start - right, right])
    np.testing.assert_allclose(gradient[[0, 1], 1] * 160, wanted - wrong)
    np.testing.assert_allclose(gradient[[3, 2], 1] * 160, wrong - wanted)


def test_hidden_pixels_do_not_matter():
    pixels, depths, faces = posed("closed_mug", "inside", 0)
    target, keep = masks(0)
    keep[:, 30:] = False
    error, gradient = evaluate(pixels, depths, faces, target, keep)
    changed = target.copy()
    changed[:, 30:] ^= True
    again, same = evaluate(pixels, depths, faces, changed, keep)
    assert error == again
    np.testing.assert_array_equal(gradient, same)
    assert np.abs(gradient).max() > 0
    alone = (pixels[:, 0] > 30) & ~np.isin(np.arange(len(pixels)), faces[(pixels[faces, 0] < 30).any(axis=1)])
    assert alone.any()
    assert (gradient[alone] == 0).all()


def test_images_of_a_batch_are_independent_and_upstream_gradients_scale():
    poses = [posed("ring", "inside", seed) for seed in range(3)]
    faces = poses[0][2]
    target, keep = (np.stack(images) for images in zip(*[masks(seed) for seed in range(3)], strict=True))
    loss = SilhouetteLoss(torch.tensor(faces), torch.tensor(target), torch.tensor(keep))
    moved = torch.tensor(np.stack([pose[0] for pose in poses]), requires_grad=True)
    depths = torch.tensor(np.stack([pose[1] for pose in poses]))
    factors = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    errors = loss(moved, depths)
    (errors * factors).sum().backward()
    for k, pose in enumerate(poses):
        error, gradient = evaluate(*pose, target[k], keep[k])
        assert float(errors[k].detach()) == pytest.approx(error)
        np.testing.assert_allclose(moved.grad[k].numpy(), float(factors[k]) * gradient, atol=1e-15)


def test_following_the_gradient_finds_the_target():
    pixels, depths, faces = posed("closed_mug", "inside", 2)
    target = rasterise_mask(pixels[None], depths[None], faces, HEIGHT, WIDTH)
    loss = SilhouetteLoss(faces, torch.tensor(target), torch.ones(target.shape))
    shift = torch.tensor([6.0, -4.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        loss(torch.tensor(pixels[None]) + shift, torch.tensor(depths[None])).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.97
    # The target is known to the pixel only.
    assert shift.detach().norm() < 0.2


def test_a_diverged_mesh_spoils_its_own_image_only():
    pixels, depths, faces = posed("ring", "inside", 0)
    target, keep = masks(0)
    lost = pixels.copy()
    lost[3] = np.nan
    moved = torch.tensor(np.stack([pixels, pixels, 1e20 * pixels, lost]), requires_grad=True)
    depth = torch.tensor(np.stack([depths, np.full_like(depths, np.nan), depths, depths]))
    both = [torch.tensor(np.stack([image] * 4)) for image in (target, keep)]
    errors = SilhouetteLoss(faces, *both)(moved, depth)
    errors[0].backward()
    assert torch.isfinite(errors[0])
    assert torch.isnan(errors[1:]).all()
    assert moved.grad.isfinite().all()


def test_an_object_out_of_sight_covers_nothing():
    pixels, depths, faces = posed("ring", "inside", 0)
    target, keep = masks(0)
    for where, depth in ((pixels + 500, depths), (pixels, -depths)):
        error, gradient = evaluate(where, depth, faces, target, keep)
        assert error == pytest.approx((target & keep).sum() / keep.sum())
        assert (gradient == 0).all()


def test_images_of_which_nothing_is_kept_cost_nothing():
    pixels, depths, faces = posed("ring", "inside", 0)
    target, _ = masks(0)
    error, gradient = evaluate(pixels, depths, faces, target, np.zeros_like(target))
    assert error == 0
    assert (gradient == 0).all()


def test_wrong_shapes_are_named():
    faces = np.array([[0, 1, 2]])
    image = torch.zeros(1, 4, 4)
    with pytest.raises(InputError, match="keep"):
        SilhouetteLoss(faces, image, torch.zeros(1, 4, 5))
    with pytest.raises(InputError, match="finite"):
        SilhouetteLoss(faces, image, image * float("nan"))
    with pytest.raises(InputError, match="1 target images"):
        SilhouetteLoss(faces, image, image)(torch.zeros(2, 3, 2), torch.ones(2, 3))
    with pytest.raises(InputError, match="3 vertices"):
        SilhouetteLoss(faces, image, image)(torch.zeros(1, 2, 2), torch.ones(1, 2))
    with pytest.raises(InputError, match="faces"):
        SilhouetteLoss(np.zeros((0, 3), int), image, image)
