"""The grasp energy: its gradient against finite differences, and hands and objects whose terms are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.fitting.grasp_energy import ContactGoal, EnergyWeights, GraspEnergy
from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.naturalness import unnaturalness
from grasp_nodes.hand.pads import contact_patches
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.preshapes import angles as preshape

HAND = GraspHand(load_hand_model("right", OPEN_HAND_FILE, torch.float64))
PATCHES = contact_patches(HAND.model)
TERMS = ("penetration", "flesh", "contact", "balance", "self_contact", "natural", "prior")
FAR = 1.0
BENT = {f"{finger}_bend_{k}": (35.0, 40.0, 20.0)[k] for finger in FINGERS[1:] for k in range(3)}


def only(*terms, **changes):
    """Weights of one for some terms, zero for the others."""
    return EnergyWeights(**{name: float(name in terms) for name in TERMS}, **changes)


def ball(center, radius):
    """An exact distance, with second derivatives: what a grid of infinite resolution would be."""
    at = torch.as_tensor(center, dtype=torch.float64)
    return lambda points: (points - at).norm(dim=-1) - radius


def plate(height, thickness):
    return lambda points: (points[..., 1] - height).abs() - thickness / 2


def goal(*required, optional=(), kinds=None):
    names = (*required, *optional)
    weight = torch.tensor([float(name in required) for name in names], dtype=torch.float64)
    return ContactGoal(names, weight, 0.4 * (1 - weight), kinds)


def hands(count=1, **degrees):
    pose = HAND.pose(HandParams.zeros(count, dtype=torch.float64))
    return pose.with_angles(pose.angles + torch.from_numpy(HAND.freedom.values(**degrees)))


def energy_of(pose, distance, goals, weights, start=None):
    energy = GraspEnergy(HAND, distance, goals, pose.angles.detach() if start is None else start, weights)
    return energy(pose.angles, *HAND.posed(pose))


def skin_at(**places):
    """Vertices (1, 778, 3) far away but for patches that are single points, and keypoints far apart."""
    vertices = torch.full((1, 778, 3), FAR, dtype=torch.float64)
    for name, point in places.items():
        vertices[0, PATCHES[name]] = torch.as_tensor(point, dtype=torch.float64)
    keypoints = FAR * torch.arange(2, 23, dtype=torch.float64)[None, :, None].expand(1, 21, 3)
    return vertices, keypoints


def at_points(distance, goals, weights, **places):
    zero = torch.zeros(1, len(HAND.freedom.names), dtype=torch.float64)
    return GraspEnergy(HAND, distance, goals, zero, weights)(zero, *skin_at(**places)).item()


def moving(pose, function):
    """Gradient and finite differences of a function of the pose in angles, turn and place of one hand."""
    count = len(HAND.freedom.names)
    zero = torch.zeros(1, count + 6, dtype=torch.float64)

    def at(x):
        return function(pose.moved(pose.angles + x[:, :count], x[:, count : count + 3], x[:, count + 3 :]))

    x = zero.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(at(x).sum(), x)
    step = 1e-6
    with torch.no_grad():
        numeric = [
            (at(zero + step * one) - at(zero - step * one)).item() / (2 * step)
            for one in torch.eye(count + 6, dtype=torch.float64)[:, None]
        ]
    return gradient[0].numpy(), np.array(numeric)


CENTER, RADIUS = HAND.pivot.numpy() + [-0.03, -0.02, 0.0], 0.03
GOALS = goal("thumb_pad", "index_pad", "middle_pad", optional=("palm", "ring_proximal"))


@pytest.mark.parametrize("term", [*TERMS, "all"])
def test_gradient_is_that_of_finite_differences(term):
    pose = hands(**BENT, index_spread=12, middle_spread=-14, thumb_bend_0=50, thumb_twist=-53, thumb_bend_1=60)
    start = pose.angles - 0.1
    # Nearness of patches that may touch, and the middle of the forces, are held: without them the rest is exact.
    goals, weights = (GOALS, only(term)) if term != "all" else (GOALS, EnergyWeights(balance=0.0))
    if term in ("contact", "all"):
        goals = goal("thumb_pad", "index_pad", "middle_pad")
    if term == "balance":  # all patches are in a large ball: near = 1; one patch: no lever
        goals, distance = goal("index_pad", "palm"), ball(CENTER + [0.0, -0.3, 0.0], 0.4)
        weights = only(term, lever=1e6)
    else:
        distance = ball(CENTER, RADIUS)
    gradient, numeric = moving(pose, lambda moved: energy_of(moved, distance, goals, weights, start))
    scale = np.abs(numeric).max()
    assert scale > 0
    np.testing.assert_allclose(gradient, numeric, atol=2e-5 * scale, rtol=1e-4)


def test_gradient_on_a_grid_is_that_of_its_interpolation():
    axis = torch.linspace(-0.15, 0.15, 101, dtype=torch.float32)
    at = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    center = torch.from_numpy(CENTER)
    grid = SignedDistanceGrid((at - center.float()).norm(dim=-1) - RADIUS, torch.full((3,), -0.15), 0.003)
    pose, goals = hands(**BENT), goal("thumb_pad", "index_pad")
    weights = EnergyWeights(balance=0.0)
    gradient, numeric = moving(pose, lambda moved: energy_of(moved, grid, goals, weights, pose.angles))
    np.testing.assert_allclose(gradient, numeric, atol=0.01 * np.abs(numeric).max())  # cells have kinks
    exact = energy_of(pose, ball(CENTER, RADIUS), goals, EnergyWeights())
    torch.testing.assert_close(energy_of(pose, grid, goals, EnergyWeights()), exact, rtol=0.05, atol=0)


def test_nothing_penetrates_outside_and_depth_is_squared_beyond_the_skin():
    pose = hands(**BENT)
    away = energy_of(pose, ball([0.0, 1.0, 0.0], 0.03), GOALS, only("penetration", "flesh", "self_contact", "balance"))
    assert away.item() < 1e-6
    vertices = HAND.posed(pose)[0][0].numpy()
    signed = np.linalg.norm(vertices - CENTER, axis=1) - RADIUS
    weights = EnergyWeights()
    expected = (np.maximum(-signed - weights.skin, 0) ** 2).sum()
    assert expected > 0
    found = energy_of(pose, ball(CENTER, RADIUS), GOALS, only("penetration")).item()
    assert found == pytest.approx(expected)
    thick = energy_of(pose, ball(CENTER, RADIUS), GOALS, only("penetration", skin=0.05)).item()
    assert thick == 0


def test_a_finger_through_a_thin_plate_hurts_though_no_skin_is_deep():
    pose = hands()
    vertices, keypoints = HAND.posed(pose)
    index = keypoints[0, 5:9, 1].mean().item()
    through, beside = plate(index, 0.003), plate(index - 0.05, 0.003)
    assert through(vertices).min() >= -0.0015
    weights = EnergyWeights()
    skin = energy_of(pose, through, GOALS, only("penetration")).item() * weights.penetration
    flesh = energy_of(pose, through, GOALS, only("flesh")).item() * weights.flesh
    assert energy_of(pose, beside, GOALS, only("flesh")).item() == 0
    assert flesh > 5
    assert flesh > 20 * skin
    # It pushes out: half a finger further it is less.
    less = energy_of(pose, plate(index - 0.004, 0.003), GOALS, only("flesh")).item() * weights.flesh
    assert less < 0.7 * flesh


def test_a_finger_that_lies_on_the_surface_does_not_hurt():
    pose = hands()
    lowest = HAND.posed(pose)[0][0, :, 1].min().item()
    touching = energy_of(pose, plate(lowest - 0.01 + 0.001, 0.02), GOALS, only("penetration", "flesh"))
    assert touching.item() == 0


def test_contact_is_the_distance_to_rest_a_little_inside():
    weights, distance = only("contact", press=0.001), ball([0.0, 0.0, 0.0], 0.03)
    for x, gap in ((0.029, 0.0), (0.030, 0.001), (0.035, 0.006), (0.02, 0.009)):
        found = at_points(distance, goal("index_pad"), weights, index_pad=[x, 0, 0])
        assert found == pytest.approx(gap, abs=1e-12)
    both = at_points(
        distance, goal("index_pad", "thumb_pad"), weights, index_pad=[0.035, 0, 0], thumb_pad=[0, 0.031, 0]
    )
    assert both == pytest.approx(0.008)


def test_patches_that_may_touch_are_attracted_only_when_near():
    weights, distance = only("contact", press=0.0, reach=0.01), ball([0.0, 0.0, 0.0], 0.03)
    for gap in (0.001, 0.01, 0.05):
        found = at_points(distance, goal(optional=("palm",)), weights, palm=[0.03 + gap, 0, 0])
        assert found == pytest.approx(0.4 * np.exp(-gap / 0.01) * gap)
    required = at_points(distance, goal("palm"), weights, palm=[0.08, 0, 0])
    assert required == pytest.approx(0.05)


def test_the_nearest_skin_of_a_patch_counts():
    distance, rows = ball([0.0, 0.0, 0.0], 0.03), PATCHES["index_pad"]
    vertices, keypoints = skin_at()
    vertices[0, rows] = torch.tensor([0.06, 0.0, 0.0], dtype=torch.float64)
    vertices[0, rows[0]] = torch.tensor([0.031, 0.0, 0.0], dtype=torch.float64)
    zero = torch.zeros(1, len(HAND.freedom.names), dtype=torch.float64)
    energy = GraspEnergy(HAND, distance, goal("index_pad", optional=("palm",)), zero, only("contact", press=0.0))
    assert energy(zero, vertices, keypoints).item() == pytest.approx(0.001, rel=0.01)


def balance(distance, goals=None, **places):
    return at_points(distance, goals or goal(*places), only("balance", lever=0.03), **places)


def test_antipodal_contacts_balance_and_contacts_on_one_side_do_not():
    distance = ball([0.0, 0.0, 0.0], 0.03)
    line = np.array([0.6, 0.0, 0.8]) * 0.03
    assert balance(distance, thumb_pad=line, index_pad=-line) < 1e-5
    assert balance(distance, thumb_pad=line) == pytest.approx(1.0)
    assert balance(distance, thumb_pad=line, index_pad=line) == pytest.approx(4.0)
    across = np.array([0.0, 0.03, 0.0])
    assert balance(distance, thumb_pad=line, index_pad=across) > 1.9
    third = {
        name: 0.03 * np.array([np.cos(angle), np.sin(angle), 0.0])
        for name, angle in zip(("thumb_pad", "index_pad", "middle_pad"), 2 * np.pi / 3 * np.arange(3), strict=True)
    }
    assert balance(distance, **third) < 1e-5


def test_forces_that_are_not_in_line_turn_the_object():
    slab = plate(0.0, 0.02)
    opposed = balance(slab, thumb_pad=[0, -0.01, 0], index_pad=[0, 0.01, 0])
    shifted = balance(slab, thumb_pad=[0, -0.01, 0], index_pad=[0.03, 0.01, 0])
    assert opposed < 1e-5
    assert shifted == pytest.approx(1.0)  # a pair of unit forces one lever apart
    assert balance(slab, thumb_pad=[0, -0.01, 0], index_pad=[0.015, 0.01, 0]) == pytest.approx(0.25)


def test_skin_that_does_not_touch_does_not_push():
    distance, line = ball([0.0, 0.0, 0.0], 0.03), np.array([0.03, 0.0, 0.0])
    with_far = balance(
        distance,
        goal("thumb_pad", "index_pad", optional=("palm",)),
        thumb_pad=line,
        index_pad=-line,
        palm=[0.0, 0.0, 0.4],
    )
    assert with_far < 1e-6


def test_self_contact_is_the_overlap_beyond_what_flesh_gives():
    apart, crossed = hands(), hands(index_spread=14, middle_spread=-14)
    away = ball([0.0, 1.0, 0.0], 0.03)
    assert energy_of(apart, away, GOALS, only("self_contact")).item() == 0
    weights = EnergyWeights()
    spheres = HAND.spheres
    centres = spheres.centres(HAND.posed(crossed)[1])[0].numpy()
    one, other = spheres.pairs.numpy()
    radius = spheres.radius.numpy()
    overlap = radius[one] + radius[other] - np.linalg.norm(centres[one] - centres[other], axis=1)
    expected = (np.maximum(overlap - weights.give, 0) ** 2).sum()
    assert expected > 0
    assert energy_of(crossed, away, GOALS, only("self_contact")).item() == pytest.approx(expected)


def test_kinds_change_naturalness_and_nothing_else():
    angles = torch.cat([preshape("pinch", torch.tensor([0.5], dtype=torch.float64))] * 3)
    pose, distance = hands(3).with_angles(angles), ball(CENTER, RADIUS)
    every = {
        kinds: energy_of(pose, distance, replace(GOALS, kinds=kinds), EnergyWeights())
        for kinds in (None, "pinch", ("power", "pinch", None))
    }
    without = {
        kinds: energy_of(pose, distance, replace(GOALS, kinds=kinds), EnergyWeights(natural=0.0)) for kinds in every
    }
    weight = EnergyWeights().natural
    for kinds, found in every.items():
        torch.testing.assert_close(without[kinds], without[None], atol=0, rtol=0)
        listed = kinds if kinds is None or isinstance(kinds, str) else list(kinds)
        torch.testing.assert_close(found - without[kinds], weight * unnaturalness(angles, listed))
    assert every["pinch"][0] < every[None][0] - 1e-6
    mixed = every["power", "pinch", None]
    torch.testing.assert_close(mixed[1], every["pinch"][1])
    torch.testing.assert_close(mixed[2], every[None][2])


def test_the_prior_is_the_way_from_the_start():
    pose = hands()
    start = pose.angles - 0.2
    found = energy_of(pose, ball(CENTER, RADIUS), GOALS, only("prior"), start).item()
    assert found == pytest.approx(0.04 * len(HAND.freedom.names))


def test_the_energy_of_a_moved_scene_is_the_same():
    """Turning hand and object together changes nothing."""
    pose = hands(**BENT, thumb_spread=-30)
    rotation = axis_angle_to_matrix(torch.tensor([0.4, -0.9, 1.3], dtype=torch.float64))
    shift = torch.tensor([0.1, -0.2, 0.05], dtype=torch.float64)
    center = torch.from_numpy(CENTER)
    moved = replace(pose, orient=rotation @ pose.orient, position=pose.position @ rotation.T + shift)
    here = energy_of(pose, ball(center, RADIUS), GOALS, EnergyWeights())
    there = energy_of(moved, ball(rotation @ center + shift, RADIUS), GOALS, EnergyWeights())
    torch.testing.assert_close(there, here, rtol=1e-4, atol=0)


def test_required_and_optional_may_differ_by_hand():
    pose, distance = hands(2, **BENT), ball(CENTER, RADIUS)
    names = ("thumb_pad", "index_pad")
    each = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    nothing = torch.zeros(2, dtype=torch.float64)
    together = energy_of(pose, distance, ContactGoal(names, each, nothing), EnergyWeights())
    for row in range(2):
        alone = energy_of(pose, distance, ContactGoal(names, each[row], nothing), EnergyWeights())
        torch.testing.assert_close(together[row], alone[row])
    assert (together[0] - together[1]).abs() > 1e-3
