"""Roles, sides, surfaces and tips of robot hands."""

import re

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import is_watertight
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.retargeting.robot_description import parse_description
from grasp_nodes.retargeting.robot_hand import make_robot_hand


def nameless(hand):
    """The same hand with links and joints that are only numbered, in another order."""
    text = hand.description.path.read_text()
    names = sorted({*re.findall(r'(?:link|joint) name="(\w+)"', text)}, key=lambda name: (len(name), name))
    for number, name in enumerate(names):
        text = re.sub(rf'"{name}"', f'"n{number}"', text)
    return make_robot_hand(parse_description(text))


def test_fingers_and_side_are_found_by_geometry_where_names_say_nothing(generic, generic_left):
    for hand in (generic, generic_left):
        other = nameless(hand)
        assert other.finger_names == FINGERS
        assert other.side == hand.side
        np.testing.assert_allclose(other.T_body_palm, hand.T_body_palm, atol=1e-9)
        np.testing.assert_allclose(
            other.kinematics.body_poses(other.open_joints)[[f.tip_body for f in other.fingers], :3, 3],
            hand.kinematics.body_poses(hand.open_joints)[[f.tip_body for f in hand.fingers], :3, 3],
        )


def test_tips_are_the_frames_that_the_description_has_there(generic):
    links = generic.kinematics.link_poses(generic.rest)
    expected = [links[f"{name}_tip"][:3, 3] for name in generic.finger_names]
    np.testing.assert_allclose(generic.fingertips(generic.rest), expected, atol=3e-4)


def test_surface_points_lie_on_the_skin_and_look_outwards(generic):
    surface = generic.surface
    middle = np.array([surface.points[surface.body == body].mean(axis=0) for body in surface.body])
    outward = ((surface.points - middle) * surface.normals).sum(axis=1)
    assert (outward > 0).mean() > 0.9
    for finger in generic.fingers:
        own = surface.points[surface.body == finger.tip_body]
        # Cylinder and balls of 8.5 (9.5) mm about the x axis: nothing lies inside of them.
        off_axis = np.linalg.norm(own[:, 1:], axis=1)
        assert off_axis.max() < 0.0096
        assert np.all((off_axis > 0.0075) | (own[:, 0] < 0) | (own[:, 0] > finger.tip[0] - 0.0096))


def test_skin_is_closed_and_fine(generic):
    skin = generic.skin(generic.rest)
    assert is_watertight(generic.skin_faces)
    corner = skin[generic.skin_faces]
    assert np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=2).max() < 0.008
    assert len(generic.skin_body) == len(skin)


def test_an_arm_is_no_hand():
    text = (
        "<robot name='arm'><link name='a'><visual><geometry><sphere radius='0.1'/></geometry></visual></link>"
        "<link name='b'/><joint name='j' type='continuous'><parent link='a'/><child link='b'/></joint></robot>"
    )
    with pytest.raises(InputError, match="fewer than two fingers"):
        make_robot_hand(parse_description(text))
