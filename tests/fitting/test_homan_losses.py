"""HOMan's error terms: one case of known answer for each, and gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.homan.losses import (
    WEIGHTS,
    centroid_loss,
    collision_loss,
    collision_unit,
    contact_zones,
    distances_to_object,
    local_contact_loss,
    overlapping_pairs,
    pca_loss,
    pixel_boxes,
    projected_vertex_loss,
    rigid_centroids,
    scale_loss,
    smoothness_loss,
)
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import FINGERS, TIP_VERTICES

FRAMES = 4


@pytest.fixture(scope="module")
def field():
    box = trimesh.creation.box((0.06, 0.08, 0.1))
    return SignedDistanceGrid.from_mesh(np.array(box.vertices), np.array(box.faces), resolution=26)


def motion(seed, frames=FRAMES):
    generator = torch.Generator().manual_seed(seed)
    rotation = axis_angle_to_matrix(torch.randn(frames, 3, generator=generator, dtype=torch.float64))
    return rotation, torch.randn(frames, 3, generator=generator, dtype=torch.float64)


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_weights_are_those_of_the_paper():
    expected = {"obj": 1, "v2d": 50, "pca": 0.004, "scale": 0.001, "smooth": 2000, "centroid": 1, "local": 1}
    assert dict(WEIGHTS) == {**expected, "col": 0.001}


def test_projected_vertices_count_in_shares_of_the_image():
    seen = 100 * random(0, FRAMES, 50, 2)
    moved = seen + torch.tensor([3.0, -4.0])
    assert float(projected_vertex_loss(moved, seen, 640)) == pytest.approx((5 / 640) ** 2)
    # A frame without evidence says nothing, and leaves what the others say as it was.
    moved[1] += 1000
    observed = torch.tensor([True, False, True, True])
    assert float(projected_vertex_loss(moved, seen, 640, observed)) == pytest.approx(0.75 * (5 / 640) ** 2)


def test_pose_coefficients_count_by_their_mean_square():
    coefficients = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 2.0]], requires_grad=True)
    loss = pca_loss(coefficients)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(3.0)
    torch.testing.assert_close(coefficients.grad, coefficients.detach() / 3)


def test_scales_count_by_their_relative_deviation():
    assert float(scale_loss(torch.tensor([0.22, 0.9]), torch.tensor([0.2, 1.0]))) == pytest.approx(0.01)
    assert float(scale_loss(torch.tensor([1.0]))) == 0


def test_smoothness_of_constant_velocity_is_its_square():
    start = random(1, 30, 3)
    step = torch.tensor([0.003, 0.0, -0.004], dtype=torch.float64)
    track = torch.stack([start + k * step for k in range(6)])
    assert float(smoothness_loss(track)) == pytest.approx(0.005**2)
    # Without the third and fourth frame: three frames' movement at once counts as three of one frame each would.
    kept = track[[0, 1, 4, 5]]
    assert float(smoothness_loss(kept, torch.tensor([1, 3, 1]))) == pytest.approx((1 + 3 + 1) / 3 * 0.005**2)
    assert float(smoothness_loss(track[:1])) == 0


def test_smoothness_pulls_each_frame_to_its_neighbours():
    track = random(2, 3, 1, 3).requires_grad_()
    smoothness_loss(track).backward()
    middle = track.detach()
    torch.testing.assert_close(track.grad[1], 2 * middle[1] - middle[0] - middle[2])


def test_centroids_count_where_boxes_overlap():
    hand = torch.zeros(FRAMES, 3, dtype=torch.float64, requires_grad=True)
    item = torch.tensor([[0.3, 0.0, 0.4]], dtype=torch.float64).repeat(FRAMES, 1).requires_grad_()
    overlap = torch.tensor([True, False, True, False])
    loss = centroid_loss(hand, item, overlap)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.25 / 2)
    torch.testing.assert_close(hand.grad, -0.5 * item.detach() * overlap[:, None])
    assert item.grad is None
    centroid_loss(hand, item, overlap, object_moves=True).backward()
    torch.testing.assert_close(item.grad, 0.5 * item.detach() * overlap[:, None])


def test_the_centroid_moves_the_rigid_hand_alone():
    shape = random(3, FRAMES, 20, 3).requires_grad_()
    scale = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    rotation, translation = motion(3)
    rotation.requires_grad_()
    translation.requires_grad_()
    centre = rigid_centroids(shape, rotation, translation, scale)
    posed = scale * (shape @ rotation.transpose(1, 2)) + translation[:, None]
    torch.testing.assert_close(centre, posed.mean(dim=1))
    centroid_loss(centre, torch.zeros(FRAMES, 3), torch.ones(FRAMES)).backward()
    assert shape.grad is None
    assert scale.grad is None
    torch.testing.assert_close(translation.grad, 2 * centre.detach() / FRAMES)
    assert rotation.grad.abs().max() > 0.01


def test_pairs_interact_where_their_boxes_touch():
    hands = torch.tensor([[[0.0, 0, 10, 10], [50, 50, 60, 60]]])
    objects = torch.tensor([[[10.0, 5, 20, 8], [0, 11, 60, 49], [45, 40, 70, 55], [math.nan, 0, 60, 60]]])
    expected = [[[True, False, False, False], [False, False, True, False]]]
    assert overlapping_pairs(hands, objects).tolist() == expected


def test_boxes_are_tight_and_without_gradient():
    pixels = torch.tensor([[[3.0, 9.0], [-1.0, 4.0], [2.0, 12.0]]], requires_grad=True)
    boxes = pixel_boxes(pixels)
    assert boxes.tolist() == [[-1.0, 4.0, 3.0, 12.0]]
    assert not boxes.requires_grad


def test_distance_to_a_moving_object_is_that_in_its_own_frame(field):
    rotation, translation = motion(4)
    # Beside the middle of the box's +y side, 4 mm out and 3 mm in; the box is twice as large as its field's.
    local = torch.tensor([[0.002, 0.084, 0.004], [-0.01, 0.077, 0.0]], dtype=torch.float64)
    points = local @ rotation.transpose(1, 2) + translation[:, None]
    distances = distances_to_object(points, field, rotation, translation, scale=2.0)
    expected = torch.tensor([0.004, -0.003], dtype=torch.float64).expand(FRAMES, 2)
    torch.testing.assert_close(distances, expected, atol=2e-6, rtol=0)


def test_collision_is_the_sum_of_depths():
    distances = torch.tensor([[-0.002, 0.01, -0.005], [0.003, 0.0, 0.2]], requires_grad=True)
    loss = collision_loss(distances, unit=0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((0.002 + 0.005) / 0.1 / 2)
    torch.testing.assert_close(distances.grad, torch.tensor([[-5.0, 0, -5.0], [0, 0, 0]]))


def test_collisions_unit_is_half_the_enlarged_box():
    assert collision_unit(torch.tensor([[0.0, 0, 0], [0.05, 0.1, 0.02]])) == pytest.approx(0.06)


def test_zones_that_almost_touch_are_drawn_and_what_is_inside_is_pushed():
    distances = torch.tensor([[0.004, 0.02, -0.003, 0.5, 0.001]], requires_grad=True)
    zones = [torch.tensor([0, 1]), torch.tensor([2, 4]), torch.tensor([3])]
    loss = local_contact_loss(distances, zones)
    loss.backward()
    # The first zone's nearest vertex is 4 mm away; the second touches already; the third is far: saturated.
    attraction = 0.01 * (math.tanh(0.4) + 0 + math.tanh(50)) / 3
    repulsion = 0.02 * math.tanh(0.003 / 0.02) / 5
    assert float(loss.detach()) == pytest.approx(0.5 * (attraction + repulsion))
    slope_out, slope_in = 0.5 / 3 / math.cosh(0.4) ** 2, -0.5 / 5 / math.cosh(0.15) ** 2
    torch.testing.assert_close(distances.grad, torch.tensor([[slope_out, 0.0, slope_in, 0.0, 0.0]]))


def test_contact_needs_zones():
    with pytest.raises(InputError, match="zones"):
        local_contact_loss(torch.zeros(1, 5), [])


@pytest.mark.parametrize("side", ["right", "left"])
def test_contact_zones_are_the_five_pads_and_the_palm(side):
    model = load_hand_model(side)
    zones = contact_zones(model)
    assert len(zones) == len(FINGERS) + 1
    assert len(torch.cat(zones).unique()) == sum(len(zone) for zone in zones)
    rest, tips = model.arrays.v_template, model.arrays.v_template[list(TIP_VERTICES.values())]
    distance = np.stack([np.linalg.norm(rest[zone] - tips[:, None], axis=-1).mean(axis=1) for zone in zones])
    # Each fingertip has a zone of its own beside it, the palm is far from all of them.
    assert sorted(distance.argmin(axis=0)) == sorted(set(range(6)) - {int(distance.min(axis=1).argmax())})
    assert (distance.min(axis=0) < 0.015).all()
    assert distance.min(axis=1).max() > 0.04


@pytest.mark.parametrize("loss", ["collision", "contact"])
def test_gradients_of_collision_and_contact_are_finite_differences(field, loss):
    rotation, translation = motion(5)
    generator = torch.Generator().manual_seed(6)
    local = (torch.rand(FRAMES, 60, 3, generator=generator, dtype=torch.float64) - 0.5) * 0.13
    vertices = local @ rotation.transpose(1, 2) + translation[:, None]
    zones = [torch.arange(0, 6), torch.arange(6, 8), torch.tensor([8]), torch.tensor([9]), torch.tensor([10, 11])]
    scale = torch.tensor(1.05, dtype=torch.float64)
    given = [vertices, rotation, translation, scale]

    def evaluate(vertices, rotation, translation, scale):
        distances = distances_to_object(vertices, field, rotation, translation, scale)
        return collision_loss(distances, 0.07) if loss == "collision" else local_contact_loss(distances, zones)

    leaves = [value.clone().requires_grad_() for value in given]
    evaluate(*leaves).backward()
    with torch.no_grad():
        for which, leaf in enumerate(leaves):
            for seed in range(3):
                direction = random(10 + seed, *leaf.shape)
                step = 1e-8
                ahead, behind = list(given), list(given)
                ahead[which] = given[which] + step * direction
                behind[which] = given[which] - step * direction
                expected = float(evaluate(*ahead) - evaluate(*behind)) / (2 * step)
                assert abs(expected) > 1e-5
                assert float((leaf.grad * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_losses_do_not_grow_with_the_length_of_the_clip(field):
    rotation, translation = motion(7, 1)
    vertices = 0.02 * random(8, 1, 40, 3) @ rotation.transpose(1, 2) + translation[:, None]

    def all_losses(frames):
        posed = vertices.repeat(frames, 1, 1)
        distances = distances_to_object(posed, field, rotation.repeat(frames, 1, 1), translation.repeat(frames, 1))
        return torch.stack(
            [
                projected_vertex_loss(posed[..., :2], posed[..., :2] + 3, 640),
                pca_loss(posed[..., 0]),
                smoothness_loss(posed + 0.01 * torch.arange(frames)[:, None, None]),
                centroid_loss(posed.mean(1), torch.zeros(frames, 3), torch.ones(frames)),
                collision_loss(distances),
                local_contact_loss(distances, [torch.arange(5)]),
            ]
        )

    short, long = all_losses(3), all_losses(12)
    assert (short > 0).all()
    torch.testing.assert_close(short, long)
