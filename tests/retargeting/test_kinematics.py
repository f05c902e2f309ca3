"""Forward kinematics and Jacobians against pinocchio, closed forms and finite differences."""

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.retargeting.kinematics import Kinematics
from grasp_nodes.retargeting.robot_description import parse_description

STEP = 1e-6


def arm(second="", kind="revolute"):
    """Two links of 0.3 m in a plane, and a third that slides or follows."""
    return Kinematics.of(
        parse_description(
            "<robot name='arm'><link name='base'/><link name='upper'/><link name='lower'/><link name='tool'/>"
            "<joint name='one' type='revolute'><parent link='base'/><child link='upper'/><axis xyz='0 0 2'/>"
            "<limit lower='-2' upper='2' velocity='1'/></joint>"
            f"<joint name='two' type='{kind}'><origin xyz='0.3 0 0'/><parent link='upper'/><child link='lower'/>"
            f"<axis xyz='0 0 1'/><limit lower='-1' upper='1' velocity='3'/>{second}</joint>"
            "<joint name='end' type='fixed'><origin xyz='0.3 0 0'/><parent link='lower'/><child link='tool'/></joint>"
            "</robot>"
        )
    )


def test_two_links_in_a_plane():
    a, b = 0.7, -0.4
    tool = arm().link_poses(np.array([a, b]))["tool"]
    expected = 0.3 * np.array([np.cos(a) + np.cos(a + b), np.sin(a) + np.sin(a + b), 0])
    np.testing.assert_allclose(tool[:3, 3], expected, atol=1e-12)


def test_a_joint_that_slides():
    tool = arm(kind="prismatic").link_poses(np.array([0.5, 0.2]))["tool"]
    np.testing.assert_allclose(tool[:3, 3], [0.6 * np.cos(0.5), 0.6 * np.sin(0.5), 0.2], atol=1e-12)


def test_a_follower_follows_and_narrows_limits():
    kinematics = arm("<mimic joint='one' multiplier='-2' offset='0.2'/>")
    assert kinematics.driven_names == ("one",)
    np.testing.assert_allclose(kinematics.expand(np.array([0.3])), [0.3, -0.4])
    # -1 <= 0.2 - 2 q <= 1, and it turns twice as fast.
    np.testing.assert_allclose([kinematics.lower[0], kinematics.upper[0]], [-0.4, 0.6])
    assert kinematics.velocity[0] == 1.0
    tool = kinematics.link_poses(np.array([0.3]))["tool"]
    np.testing.assert_allclose(tool[:2, 3], 0.3 * np.array([np.cos(0.3) + np.cos(-0.1), np.sin(0.3) + np.sin(-0.1)]))


def test_followers_without_a_common_value_or_in_a_circle_are_refused():
    with pytest.raises(InputError, match="no value of joint 'one'"):
        arm("<mimic joint='one' multiplier='1' offset='9'/>")
    text = (
        "<robot name='r'><link name='a'/><link name='b'/><link name='c'/>"
        "<joint name='j' type='continuous'><parent link='a'/><child link='b'/><mimic joint='k'/></joint>"
        "<joint name='k' type='continuous'><parent link='b'/><child link='c'/><mimic joint='j'/></joint></robot>"
    )
    with pytest.raises(InputError, match="circle"):
        Kinematics.of(parse_description(text))


def test_every_link_is_where_pinocchio_puts_it(generic):
    pin = pytest.importorskip("pinocchio")
    kinematics = generic.kinematics
    model = pin.buildModelFromUrdf(str(generic.description.path))
    data, rng = model.createData(), np.random.default_rng(1)
    for _ in range(5):
        driven = rng.uniform(kinematics.lower, kinematics.upper)
        values = np.zeros(model.nq)
        for name, value in zip(kinematics.joint_names, kinematics.expand(driven), strict=True):
            values[model.joints[model.getJointId(name)].idx_q] = value
        pin.framesForwardKinematics(model, data, values)
        for name, pose in kinematics.link_poses(driven).items():
            np.testing.assert_allclose(data.oMf[model.getFrameId(name)].homogeneous, pose, atol=1e-12)


def test_jacobian_by_finite_differences(generic):
    kinematics, rng = generic.kinematics, np.random.default_rng(2)
    driven = rng.uniform(kinematics.lower, kinematics.upper)
    for finger in generic.fingers:
        found = kinematics.jacobian(driven, finger.tip_body, finger.tip)
        for k in range(kinematics.num_driven):
            there, back = driven.copy(), driven.copy()
            there[k] += STEP
            back[k] -= STEP
            row = generic.finger_names.index(finger.name)
            slope = (generic.fingertips(there)[row] - generic.fingertips(back)[row]) / (2 * STEP)
            np.testing.assert_allclose(found[:, k], slope, atol=1e-8)
