"""Weak hands of states go to a refiner; its answers are taken only where they are better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import HandObjectState, ObjectState
from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.data.grasp_readers.perturbation import NOISE_LEVELS, perturb
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.fitting.weak_hands import AFTER, BEFORE, WeakHandRefiner
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.loading import load_object, make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.jointdiffusion.batches import held_out_split
from grasp_nodes.synthesis.jointdiffusion.grasps import load_refiner

RADIUS = 0.035


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model("right")


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object(f"sphere:{RADIUS}")


def hand_over(model: HandModel, gap: float) -> HandParams:
    """A flat hand whose skin is so far, m, from the ball at the origin."""
    hands = HandParams.zeros(1)
    vertices = model(hands).vertices[0].detach().numpy()
    middle = model(hands).keypoints[0, [0, 9]].mean(dim=0).detach().numpy()
    vertices = vertices - [middle[0], 0.0, middle[2]]
    low, high = 0.0, 0.3
    for _ in range(40):  # the height at which the skin has just this gap
        height = 0.5 * (low + high)
        least = np.linalg.norm(vertices + [0.0, height, 0.0], axis=1).min() - RADIUS
        low, high = (height, high) if least < gap else (low, height)
    return replace(hands, transl=torch.tensor([[-middle[0], high, -middle[2]]], dtype=torch.float32))


def state_of(model: HandModel, ball: ObjectModel, hands: HandParams, score: float = 0.9) -> HandObjectState:
    """In a camera's frame that is turned against the object's."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec([0.3, 2.0, -0.5]).as_matrix(), [0.1, -0.2, 0.6]
    seen = move_hands(hands, pose, model)
    hand = replace(hand_states(seen, model)[0], track_id=4, score=score)
    vertices = model(hands).vertices[0].detach().double().numpy()
    contact = compute_contact_map(vertices, closed_faces(model.faces.numpy()), ball, hand_track_id=4)
    return HandObjectState(7, "camera", (hand,), (ObjectState("sphere", pose),), (contact,), {"fit": 1.0})


def refiner(model: HandModel, ball: ObjectModel, shift: tuple[float, float, float]) -> WeakHandRefiner:
    """Answers with the hand moved by so much, m, in the object's frame."""

    def refine(hands: HandParams, item: ObjectModel) -> HandParams:
        assert item is ball
        return replace(hands, transl=hands.transl + torch.tensor(shift))

    return WeakHandRefiner({"right": model}, {"sphere": ball}, refine)


def depth_of(model: HandModel, ball: ObjectModel, state: HandObjectState) -> float:
    back = move_hands(state.hands[0].params, np.linalg.inv(state.objects[0].T_camera_object), model)
    return max(0.0, -float(ball.signed_distance(model(back).vertices).min()))


def test_a_hand_deep_in_the_object_is_refined_and_both_depths_are_told(model: HandModel, ball: ObjectModel) -> None:
    state = state_of(model, ball, hand_over(model, -0.012))
    (found,) = refiner(model, ball, (0.0, 0.010, 0.0)).refine([state])
    assert found.residuals["fit"] == 1.0
    assert found.residuals[BEFORE] == pytest.approx(depth_of(model, ball, state), abs=1e-5)
    assert found.residuals[AFTER] == pytest.approx(depth_of(model, ball, found), abs=1e-5)
    assert found.residuals[BEFORE] > 0.01 > 0.004 > found.residuals[AFTER]
    assert (found.hands[0].track_id, found.hands[0].score) == (4, 0.9)
    distance = np.linalg.norm(found.hands[0].keypoints - state.hands[0].keypoints, axis=1)
    np.testing.assert_allclose(distance, 0.010, atol=1e-5)
    # The contact map follows the hand.
    assert found.contact_maps[0].hand_signed_distance.min() == pytest.approx(-found.residuals[AFTER], abs=1e-4)


def test_hands_that_are_well_or_far_away_stay(model: HandModel, ball: ObjectModel) -> None:
    lift = refiner(model, ball, (0.0, 0.010, 0.0))
    well, far = (state_of(model, ball, hand_over(model, gap)) for gap in (-0.002, 0.05))
    assert lift.refine([well, far]) == [well, far]


def test_a_hand_that_is_hardly_seen_is_refined(model: HandModel, ball: ObjectModel) -> None:
    state = state_of(model, ball, hand_over(model, 0.008), score=0.1)
    (found,) = refiner(model, ball, (0.0, -0.006, 0.0)).refine([state])
    assert found is not state
    assert found.residuals[BEFORE] == found.residuals[AFTER] == 0.0


@pytest.mark.parametrize("shift", [(0.0, -0.01, 0.0), (0.0, 0.2, 0.0), (float("nan"), 0.0, 0.0)])
def test_worse_answers_are_not_taken(model: HandModel, ball: ObjectModel, shift: tuple[float, float, float]) -> None:
    state = state_of(model, ball, hand_over(model, -0.012))
    assert refiner(model, ball, shift).refine([state]) == [state]


def test_left_hands_and_unknown_objects_stay(model: HandModel, ball: ObjectModel) -> None:
    state = state_of(model, ball, hand_over(model, -0.012))

    def refused(hands: HandParams, item: ObjectModel) -> HandParams:
        raise AssertionError("must not be asked")

    known = WeakHandRefiner({"right": model}, {"cube": ball}, refused)
    assert known.refine([state]) == [state]
    other = WeakHandRefiner({"right": model}, {"sphere": ball}, refused, sides=("left",))
    assert other.refine([state]) == [state]


def test_the_shipped_network_brings_weak_hands_closer_to_the_truth(model: HandModel) -> None:
    grasps = open_grasps(model.fingerprint)
    unseen = held_out_split(grasps, "both", 0.05).validation
    item = grasps.objects[int(grasps.object_index[unseen[0]])]
    own = grasps[unseen[grasps.object_index[unseen] == grasps.object_index[unseen[0]]][:24]]
    noisy = perturb(own, NOISE_LEVELS[1], 3, model.hands_components.numpy()).hands.to(dtype=model.dtype)
    thing = make_object(*object_mesh(item), "thing")
    states = [replace(state_of(model, thing, noisy[k : k + 1], score=0.1), contact_maps=()) for k in range(len(noisy))]
    states = [replace(state, objects=(replace(state.objects[0], object_id="thing"),)) for state in states]
    refine = load_refiner("jointdiffusion", model)
    found = WeakHandRefiner({"right": model}, {"thing": thing}, refine).refine(states)
    changed = [k for k, state in enumerate(found) if BEFORE in state.residuals]
    assert len(changed) >= 4
    pose = states[0].objects[0].T_camera_object
    truth = model(move_hands(own.hands.to(dtype=model.dtype), pose, model)).keypoints.detach().numpy()

    def off(of: list[HandObjectState]) -> float:
        return float(np.mean([np.linalg.norm(of[k].hands[0].keypoints - truth[k], axis=1).mean() for k in changed]))

    assert off(found) < 0.6 * off(states)
    for k in changed:
        assert found[k].residuals[AFTER] <= found[k].residuals[BEFORE]
        assert found[k].residuals[AFTER] == pytest.approx(depth_of(model, thing, found[k]), abs=1e-5)
