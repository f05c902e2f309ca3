"""What is left of a state in which a fit has diverged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.finite_states import drop_not_finite
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.hand.parameters import HandParams, Side


def hand(side: Side) -> HandState:
    return HandState(HandParams.zeros(1, side), np.zeros((21, 3)), np.zeros((16, 7)), "m", "f", track_id=1)


def contact(object_id: str, side: str) -> ContactMap:
    zeros = np.zeros(2, np.float32)
    return ContactMap(object_id, np.zeros((2, 3), np.float32), zeros, zeros, zeros, zeros, 0.005, side, 1)


def whole() -> HandObjectState:
    maps = [contact(name, side) for side in ("right", "left") for name in ("mug", "box")]
    hands = (hand("right"), hand("left"))
    objects = (ObjectState("mug", np.eye(4)), ObjectState("box", np.eye(4)))
    return HandObjectState(7, "cam", hands, objects, tuple(maps), {"px": 1.0}, FitStatus.OK, "fine")


def test_a_good_state_stays_the_same_object() -> None:
    state = whole()
    assert drop_not_finite(state) is state


def test_a_covariance_that_is_no_number_becomes_unknown() -> None:
    state = replace(whole(), objects=(ObjectState("mug", np.eye(4), np.full((6, 6), np.nan)),), contact_maps=())
    kept = drop_not_finite(state)
    assert [(item.object_id, item.covariance) for item in kept.objects] == [("mug", None)]
    assert (kept.status, kept.status_text) == (FitStatus.OK, "fine")


@pytest.mark.parametrize("field", ["global_orient", "hand_pose", "betas", "transl", "scale"])
def test_a_hand_with_a_nan_goes_with_its_contact(field: str) -> None:
    state = whole()
    bad = getattr(state.hands[0].params, field).clone()
    bad.view(-1)[-1] = torch.nan
    broken = replace(state.hands[0], params=replace(state.hands[0].params, **{field: bad}))
    kept = drop_not_finite(replace(state, hands=(broken, state.hands[1])))
    assert [one.params.side for one in kept.hands] == ["left"]
    assert [(one.hand_side, one.object_id) for one in kept.contact_maps] == [("left", "mug"), ("left", "box")]
    assert kept.status == FitStatus.OK
    assert kept.status_text == "fine; the fit diverged: right hand lost"
    assert kept.stamp == 7


def test_an_object_at_infinity_goes_with_its_contact() -> None:
    state = whole()
    kept = drop_not_finite(replace(state, objects=(ObjectState("mug", np.full((4, 4), np.inf)), state.objects[1])))
    assert [item.object_id for item in kept.objects] == ["box"]
    assert {one.object_id for one in kept.contact_maps} == {"box"}
    assert "mug lost" in kept.status_text


def test_without_hands_a_state_is_held_and_without_anything_it_is_nothing() -> None:
    state = whole()
    lost = tuple(replace(one, keypoints=np.full((21, 3), np.nan)) for one in state.hands)
    assert drop_not_finite(replace(state, hands=lost)).status == FitStatus.HELD
    gone = tuple(replace(item, scale=np.nan) for item in state.objects)
    empty = drop_not_finite(replace(state, hands=lost, objects=gone))
    assert empty.status == FitStatus.NOTHING
    assert not empty.contact_maps


def test_a_contact_map_or_a_residual_alone_goes_without_a_word() -> None:
    state = whole()
    bad = replace(state.contact_maps[0], signed_distance=np.full(2, np.nan, np.float32))
    maps = (bad, *state.contact_maps[1:])
    kept = drop_not_finite(replace(state, contact_maps=maps, residuals={"px": 1.0, "iou": np.nan}))
    assert len(kept.contact_maps) == 3
    assert kept.residuals == {"px": 1.0}
    assert kept.status_text == "fine"
