"""The contact-aware solver: contact is kept where positions alone lose it, and nothing goes into the object."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.loading import load_object
from grasp_nodes.retargeting.contact_targets import ContactTargets, contact_targets
from grasp_nodes.retargeting.judgement import HoldJudge, judge_contact, kept_report
from grasp_nodes.retargeting.retargeter import Retargeter, RetargetSettings
from grasp_nodes.retargeting.state_retargeter import StateRetargeter

OBJECTS, PER_OBJECT = 2, 2


@pytest.fixture(scope="module")
def sets():
    """Sets of recorded grasps with their objects."""
    model = load_hand_model("right")
    grasps, found = open_grasps(model.fingerprint), []
    for number in np.random.default_rng(2).permutation(len(grasps.objects))[:OBJECTS]:
        item, own = grasps.objects[number], np.flatnonzero(grasps.object_index == number)[:PER_OBJECT]
        hands = move_hands(grasps[own].hands, np.repeat(np.linalg.inv(item.transform)[None], len(own), axis=0), model)
        shape = load_object(item.mesh, item.name, item.scale)
        found.append((shape, GraspSet(item.name, "recorded", 0, 0.0, make_grasps(hands, model))))
    return found


def judged(hand, mode, sets):
    worker = StateRetargeter(Retargeter(hand, RetargetSettings(mode)), lambda: load_hand_model("right"))
    kept = []
    for shape, grasps in sets:
        robot, solid = worker.of_grasps(grasps, shape), Solid.of(shape)
        for one, source in zip(robot.grasps, grasps.grasps, strict=True):
            driven = hand.kinematics.reduce(one.positions)
            kept.append(judge_contact(hand, driven, one.T_object_base, worker.grasp_targets(source, shape), solid))
    return kept_report(kept)


def test_contact_is_kept_better_than_by_positions(generic, sets):
    contact, position = judged(generic, "contact", sets), judged(generic, "position", sets)
    assert contact["contact_kept_share"] >= 0.9
    assert contact["contact_point_kept_share"] >= 0.9
    assert contact["contact_point_kept_share"] >= position["contact_point_kept_share"]
    assert contact["penetration_mm"] < 3.0


def test_targets_are_where_the_hand_touches(ball):
    model = load_hand_model("right")
    # A vertex of the index finger's tip touches the ball from above.
    with torch.no_grad():
        vertices = model(HandParams.zeros(1).to(dtype=model.dtype)).vertices[0].double().numpy()
    anchors = anchors_of(model)
    tip = anchors.vertex_region == 5
    lowest = vertices[tip][vertices[tip][:, 1].argmin()]
    moved = vertices - lowest + [0.0, 0.0355, 0.0]
    contact = compute_contact_map(moved, closed_faces(model.faces.numpy()), ball, anchors=anchors)
    targets = contact_targets(contact, ball)
    row = np.flatnonzero(targets.region == 5)
    assert len(row) == 1
    np.testing.assert_allclose(np.linalg.norm(targets.point, axis=1), 0.035, atol=3e-4)
    np.testing.assert_allclose(targets.normal, targets.point / 0.035, atol=0.15)
    assert targets.weight[row[0]] == targets.weight.max()
    assert targets.of_fingertips[row[0]]
    blank = replace(contact, region=np.full(len(contact.points), 255, np.uint8))
    with pytest.raises(InputError, match="regions were not computed"):
        contact_targets(blank, ball)
    with pytest.raises(InputError, match="expected one of 'ball'"):
        contact_targets(replace(contact, object_id="cube"), ball)


def test_judge_measures_a_known_depth(generic, ball):
    driven = generic.open_joints
    tip = generic.fingertips(driven)[generic.finger_names.index("middle")]
    T = np.eye(4)
    T[:3, 3] = [-0.035 + 0.004, 0.0, 0.0] - tip  # the open middle finger points 4 mm into the ball
    found = judge_contact(generic, driven, T, _only_middle(ball), Solid.of(ball))
    assert found.depth == pytest.approx(0.004, abs=7e-4)
    assert found.fingertip_distance[0] == pytest.approx(-0.004, abs=7e-4)


def _only_middle(ball):
    row = int(np.linalg.norm(ball.points + [0.035, 0, 0], axis=1).argmin())
    return ContactTargets(np.array([8]), ball.points[[row]], ball.normals[[row]], np.zeros(1), np.ones(1))


def test_an_open_hand_beside_the_ball_does_not_hold_it(generic, ball):
    pytest.importorskip("mujoco")
    T = np.eye(4)
    T[:3, 3] = [0.0, 0.0, 0.3]
    assert not HoldJudge(generic, Solid.of(ball))([generic.open_joints], [T])[0]
