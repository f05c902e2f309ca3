"""Frames, angles and limits of the hand against scipy's Euler angles, the posed hand and its mirror image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import CPF_LIMITS, CPF_THUMB_UP, DegreesOfFreedom, HandAnatomy, mirror_pose
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, JOINT_NAMES
from grasp_nodes.hand.parameters import HandParams

SIDES = ("right", "left")
MODELS = {side: load_hand_model(side, OPEN_HAND_FILE, torch.float64) for side in SIDES}
ANATOMY = {side: HandAnatomy.of_model(MODELS[side]) for side in SIDES}
KNUCKLES = [JOINT_NAMES.index(f"{finger}_mcp") - 1 for finger in FINGERS[1:]]
THUMB = JOINT_NAMES.index("thumb_cmc") - 1


def keypoints(side, hand_pose):
    params = HandParams.zeros(1, side, torch.float64)
    return MODELS[side](replace(params, hand_pose=hand_pose.reshape(1, 45))).keypoints[0].numpy()


def some_angles(seed, count=50):
    most = torch.tensor([np.pi, 0.49 * np.pi, np.pi])
    return (2 * torch.rand(count, 15, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1) * most


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("thumb_up", [None, CPF_THUMB_UP])
def test_frames_are_rotations_along_the_bones(side, thumb_up):
    anatomy = ANATOMY[side] if thumb_up is None else HandAnatomy.of_model(MODELS[side], thumb_up=thumb_up)
    frames = anatomy.frames
    np.testing.assert_allclose(frames.transpose(0, 2, 1) @ frames, np.tile(np.eye(3), (15, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(frames), 1.0)
    rest = keypoints(side, torch.zeros(45, dtype=torch.float64))
    for index, finger in enumerate(FINGERS):
        bones = np.diff(rest[1 + 4 * index : 5 + 4 * index], axis=0)
        twist = frames[np.array(FINGER_JOINTS[finger]) - 1, :, 0]
        cosine = (bones * twist).sum(axis=1) / np.linalg.norm(bones, axis=1)
        # Mirroring an axis of rotation turns it about x instead of reflecting it: the left hand's twist points to
        # the tip.
        np.testing.assert_allclose(cosine, -1.0 if side == "right" else 1.0, atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_angles_are_scipys_euler_angles_in_the_frame(side):
    angles = some_angles(1)
    pose = ANATOMY[side].hand_pose(angles)
    turned = Rotation.from_rotvec(pose.reshape(-1, 3).numpy()).as_matrix().reshape(-1, 15, 3, 3)
    local = ANATOMY[side].frames.transpose(0, 2, 1) @ turned @ ANATOMY[side].frames
    expected = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_euler("XYZ").reshape(-1, 15, 3)
    np.testing.assert_allclose(expected, angles.numpy(), atol=1e-9)
    np.testing.assert_allclose(ANATOMY[side].angles(pose).numpy(), angles.numpy(), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_any_pose_survives_the_way_through_its_angles(seed):
    pose = torch.randn(4, 45, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    back = ANATOMY["right"].hand_pose(ANATOMY["right"].angles(pose))
    for ours, theirs in zip(back.reshape(-1, 3), pose.reshape(-1, 3), strict=True):
        between = Rotation.from_rotvec(ours.numpy()) * Rotation.from_rotvec(theirs.numpy()).inv()
        assert between.magnitude() < 1e-9


def test_derivatives_are_finite_differences():
    anatomy = ANATOMY["right"]
    pose = 0.5 * torch.randn(1, 45, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    angles = anatomy.angles(pose)
    assert torch.autograd.gradcheck(anatomy.angles, pose.requires_grad_())
    assert torch.autograd.gradcheck(anatomy.hand_pose, angles.requires_grad_())
    flat = torch.zeros(1, 45, dtype=torch.float64, requires_grad=True)
    anatomy.angles(flat).square().sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_equal_angles_give_mirrored_hands():
    angles = 0.4 * some_angles(3, 1)[0]
    pose = {side: ANATOMY[side].hand_pose(angles) for side in SIDES}
    np.testing.assert_allclose(pose["left"], mirror_pose(pose["right"].numpy()), atol=1e-12)
    np.testing.assert_allclose(
        keypoints("left", pose["left"]), keypoints("right", pose["right"]) * [-1, 1, 1], atol=1e-9
    )


@pytest.mark.parametrize("side", SIDES)
def test_each_angle_moves_the_hand_as_its_name_says(side):
    anatomy, rest = ANATOMY[side], keypoints(side, torch.zeros(45, dtype=torch.float64))
    middle = JOINT_NAMES.index("middle_mcp") - 1

    def moved(joint, component, angle=0.4):
        angles = torch.zeros(15, 3, dtype=torch.float64)
        angles[joint, component] = angle
        return keypoints(side, anatomy.hand_pose(angles))

    tip = moved(middle, 2)[12] - rest[12]
    assert tip[1] < -0.02  # bends to the palm, which looks along -y
    assert abs(tip[2]) < 0.2 * abs(tip[1])
    aside = moved(middle, 1)[12] - rest[12]
    assert abs(aside[2]) > 0.02  # splays within the palm's plane
    assert abs(aside[1]) < 0.1 * abs(aside[2])
    np.testing.assert_allclose(moved(middle, 0)[9:11], rest[9:11], atol=1e-12)  # a twist leaves the bone where it is
    assert moved(THUMB, 1)[4, 1] < rest[4, 1] - 0.01  # opposes


def test_limits_open_exactly_the_joints_that_move():
    anatomy = ANATOMY["right"]
    free = anatomy.high > anatomy.low
    assert free[:, 2].all()
    assert sorted(np.flatnonzero(free[:, 1])) == sorted([*KNUCKLES, THUMB])
    assert list(np.flatnonzero(free[:, 0])) == [THUMB]
    published = HandAnatomy.of_model(MODELS["right"], limits=CPF_LIMITS, thumb_up=CPF_THUMB_UP)
    assert published.high.max() == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(published.high[KNUCKLES, 1], np.deg2rad(5))
    np.testing.assert_allclose(published.low[THUMB], np.deg2rad([-45, -15, 0]))


def test_what_lies_beyond_the_limits_is_measured_with_its_sign():
    anatomy = ANATOMY["left"]
    low, high = torch.from_numpy(anatomy.low), torch.from_numpy(anatomy.high)
    assert not anatomy.beyond_limits((low + high) / 2).any()
    np.testing.assert_allclose(anatomy.beyond_limits(high + 0.1), 0.1)
    np.testing.assert_allclose(anatomy.beyond_limits(low - 0.2), -0.2)


def unit_axis_cost(side, pose):
    """CPF's equation 10 with scipy's logarithm and Euler angles, joint by joint, for rotations far from zero."""
    frames, cost = ANATOMY[side].frames, {"twist": 0.0, "splay": 0.0, "bend": 0.0}
    for joint, vector in enumerate(pose.reshape(15, 3)):
        local = frames[joint].T @ Rotation.from_rotvec(vector).as_matrix() @ frames[joint]
        axis = Rotation.from_matrix(local).as_rotvec()
        axis /= np.linalg.norm(axis)
        cost["twist"] += abs(axis[0])
        cost["splay"] += 0.0 if JOINT_NAMES[joint + 1].endswith(("_mcp", "_cmc")) and joint != 13 else abs(axis[1])
        cost["bend"] += max(0.0, Rotation.from_matrix(local).as_euler("XYZ")[2] - np.pi / 2)
    return cost


@pytest.mark.parametrize("side", SIDES)
def test_the_anatomical_cost_is_the_papers(side):
    assert JOINT_NAMES[14] == "thumb_mcp"  # joint 13 of the 15 is no knuckle in the paper
    pose = 1.4 * torch.randn(6, 45, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    costs = ANATOMY[side].costs(pose)
    expected = [unit_axis_cost(side, one.numpy()) for one in pose]
    # The axis fades in below 0.05 rad: joints that hardly turn make the only difference.
    np.testing.assert_allclose(costs.twist, [cost["twist"] for cost in expected], rtol=5e-3)
    np.testing.assert_allclose(costs.splay, [cost["splay"] for cost in expected], rtol=5e-3)
    np.testing.assert_allclose(costs.bend, [cost["bend"] for cost in expected], atol=1e-9)
    torch.testing.assert_close(costs.paper, costs.twist + costs.splay + costs.bend)


@pytest.mark.parametrize("side", SIDES)
def test_bends_within_a_right_angle_cost_nothing_and_everything_else_does(side):
    anatomy = ANATOMY[side]

    def costs(component, angle, joints=slice(None)):
        angles = torch.zeros(1, 15, 3, dtype=torch.float64)
        angles[:, joints, component] = np.deg2rad(angle)
        return anatomy.costs(anatomy.hand_pose(angles))

    assert float(costs(2, 80).paper) == pytest.approx(0.0, abs=1e-9)
    assert float(costs(2, 100, [0]).bend) == pytest.approx(np.deg2rad(10))
    assert float(costs(0, 30).twist) == pytest.approx(15, rel=0.01)
    assert float(costs(1, 30).splay) == pytest.approx(10, rel=0.01)  # five knuckles are free
    assert float(costs(1, 10, KNUCKLES).paper) == pytest.approx(0.0, abs=1e-9)
    assert float(costs(1, 20, [KNUCKLES[0]]).limits) == pytest.approx(np.deg2rad(6))
    assert float(costs(2, -15, [KNUCKLES[0]]).limits) == pytest.approx(np.deg2rad(10))


def test_the_cost_has_exact_derivatives_and_none_at_rest():
    anatomy = ANATOMY["right"]
    pose = 0.8 * torch.randn(2, 45, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def total(values):
        costs = anatomy.costs(values)
        return costs.paper, costs.limits

    assert torch.autograd.gradcheck(total, pose.requires_grad_())
    flat = torch.zeros(1, 45, dtype=torch.float64, requires_grad=True)
    costs = anatomy.costs(flat)
    (costs.paper + costs.limits).sum().backward()
    assert float(costs.paper.detach()) == 0.0
    assert torch.isfinite(flat.grad).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SIDES))
def test_a_projected_pose_is_anatomical_and_stays(seed, side):
    anatomy = ANATOMY[side]
    pose = 0.7 * torch.randn(3, 45, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    projected = anatomy.project(pose)
    angles = anatomy.angles(projected)
    assert (angles >= torch.from_numpy(anatomy.low) - 1e-9).all()
    assert (angles <= torch.from_numpy(anatomy.high) + 1e-9).all()
    assert float(anatomy.costs(projected).limits.max()) < 1e-8
    torch.testing.assert_close(anatomy.project(projected), projected, rtol=0, atol=1e-9)
    within = anatomy.hand_pose(torch.from_numpy(np.random.default_rng(seed).uniform(anatomy.low, anatomy.high)))
    torch.testing.assert_close(anatomy.project(within), within, rtol=0, atol=1e-9)
    # What was free before keeps its angle: only what was cut changes.
    before = anatomy.angles(pose)
    kept = anatomy.beyond_limits(before) == 0
    torch.testing.assert_close(angles[kept], before[kept], rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_one_degree_of_freedom_is_one_angle(side):
    anatomy = ANATOMY[side]
    dofs = DegreesOfFreedom.of_anatomy(anatomy)
    assert len(dofs.names) == len(set(dofs.names)) == 21
    component = {"bend": 2, "spread": 1, "twist": 0}
    for row, name in enumerate(dofs.names):
        value = dofs.low[row] + 0.8 * (dofs.high[row] - dofs.low[row])
        angles = anatomy.angles(torch.from_numpy(dofs.pose(value * np.eye(21)[row]))).numpy()
        kind = component[name.split("_")[1]]
        expected = np.zeros((15, 3))
        expected[dofs.joint[row] - 1, kind] = value if kind == 2 else -value
        np.testing.assert_allclose(angles, expected, atol=1e-9, err_msg=name)
        assert not anatomy.beyond_limits(torch.from_numpy(angles)).abs().max() > 1e-9


def test_degrees_of_freedom_are_linear_and_found_again():
    dofs = DegreesOfFreedom.of_anatomy(ANATOMY["right"])
    values = np.random.default_rng(0).uniform(dofs.low, dofs.high, (5, 21))
    np.testing.assert_allclose(dofs.nearest(dofs.pose(values)), values, atol=1e-12)
    for joint in range(1, 16):
        own = slice(dofs.first[joint], dofs.first[joint + 1])
        np.testing.assert_allclose(
            dofs.pose(values)[:, 3 * joint - 3 : 3 * joint], values[:, own] @ dofs.axes[own], atol=1e-12
        )
    # Second order of the exponential map: bend and spread at once twist by half of their product.
    bend, spread = (values[:, [dofs.names.index(f"{f}_{kind}") for f in FINGERS[1:]]] for kind in ("bend_0", "spread"))
    angles = ANATOMY["right"].angles(torch.from_numpy(dofs.pose(values))).numpy()
    np.testing.assert_allclose(np.abs(angles[:, KNUCKLES, 0]), np.abs(0.5 * bend * spread), atol=np.deg2rad(1))


def test_keypoints_that_are_no_hand_are_named():
    with pytest.raises(InputError, match=r"rest keypoints.*\(20, 3\)"):
        HandAnatomy.of_keypoints(np.zeros((20, 3)))
    with pytest.raises(InputError, match="neighbours of the thumb"):
        HandAnatomy.of_keypoints(np.zeros((21, 3)))
