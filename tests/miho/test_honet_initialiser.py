"""HoNet as the beginning of a joint fit: tracks of a window, with a network that says the same of every crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.reconstruction import ClipReconstructor, ReconstructionSettings
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.miho.frame_views import FrameViewer
from grasp_nodes.miho.honet import SMALL_HONET, HoNet, HoNetOutput
from grasp_nodes.miho.initialiser import HoNetInitialiser
from grasp_nodes.miho.pipeline import MihoPipeline
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence, ObservedFrame

CAMERA = CameraModel(np.array([[500.0, 0, 159.5], [0, 500.0, 119.5], [0, 0, 1]]), 320, 240)
WITHOUT_HAND = 2


class Shaped(HoNet):
    """Says another shape of every image; all else is the same."""

    def __init__(self) -> None:
        super().__init__(SMALL_HONET)
        self.calls = 0

    def forward(self, images: Tensor, condition: Tensor | None = None) -> HoNetOutput:
        count = len(images)
        self.calls += 1
        eye = torch.eye(3).expand(count, 3, 3)
        return HoNetOutput(
            *(torch.zeros(count, 2), torch.zeros(count), eye, torch.zeros(count, 15)),
            *(torch.full((count, 10), 0.2 * self.calls), torch.zeros(count, 2), torch.zeros(count), eye),
        )


def observed(stamp: int) -> ObservedFrame:
    """A left hand that moves to the right; none in frame `WITHOUT_HAND`."""
    keypoints = np.random.default_rng(0).uniform([80, 60], [180, 160], (21, 2)).astype(np.float32) + [8 * stamp, 0]
    box = np.array([80, 60, 180, 160], np.float32)
    hand = HandEvidence("left", 0.9, 0.8, box, keypoints.astype(np.float32), track_id=7)
    thing = ObjectEvidence("ball", 0.7, np.array([170, 100, 230, 150], np.float32))
    evidence = Evidence(stamp, CAMERA, (hand,) if stamp != WITHOUT_HAND else (), (thing,))
    return ObservedFrame(evidence, color=np.full((240, 320, 3), 90, np.uint8))


class Perceiver:
    def reset(self) -> None:
        pass

    def perceive(self, frames: list[Frame]) -> list[ObservedFrame]:
        return [observed(frame.stamp) for frame in frames]


@pytest.fixture(scope="module")
def hands() -> dict[Side, HandModel]:
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object("sphere:0.03")


def tracks_of(
    hands: dict[Side, HandModel], ball: ObjectModel, count: int, before: tuple[list[HandTrack], list[ObjectTrack]]
) -> tuple[HandTrack, ObjectTrack]:
    initialiser = HoNetInitialiser(hands, {"ball": ball}, MihoPipeline(hands, Shaped()))
    (hand,), (thing,) = initialiser.initialise([observed(k) for k in range(count)], *before)
    return hand, thing


def test_a_window_has_one_hand_of_one_shape_at_the_wrists_that_were_told(
    hands: dict[Side, HandModel], ball: ObjectModel
) -> None:
    hand, thing = tracks_of(hands, ball, 5, ([], []))
    assert (hand.params.side, hand.track_id, len(hand), len(thing)) == ("left", 7, 5, 5)
    assert hand.seen.tolist() == [k != WITHOUT_HAND for k in range(5)]
    assert not hand.lost.any()
    assert not thing.lost.any()
    torch.testing.assert_close(hand.params.betas, torch.full((5, 10), 0.2 * 2.5))  # four frames: 0.2, 0.4, 0.6, 0.8
    viewer = FrameViewer(hands, {"ball": ball}, MihoPipeline(hands, Shaped()))
    frame = observed(0)
    assert frame.color is not None
    alone = viewer.view(frame.color, frame.evidence)
    assert alone is not None
    wrist = hands["left"].joints(alone.hands_in_camera(hands["left"]))[0][0, 0]
    torch.testing.assert_close(hands["left"].joints(hand.params)[0][0, 0], wrist, atol=1e-5, rtol=0)
    np.testing.assert_allclose(thing.T_camera_object[0], alone.T_camera_object)
    nearest = hand.params.transl[WITHOUT_HAND - 1]
    torch.testing.assert_close(hand.params.transl[WITHOUT_HAND], nearest)


def test_what_the_window_before_knows_stays(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    first, thing = tracks_of(hands, ball, 5, ([], []))
    known = replace(first.part(0, 2), track_id=3)
    placed = thing.part(0, 2)
    placed = replace(placed, scale=1.3)
    hand, later = tracks_of(hands, ball, 5, ([known], [placed]))
    assert hand.track_id == 3
    assert later.scale == 1.3
    torch.testing.assert_close(hand.params.transl[:2], known.params.transl)
    torch.testing.assert_close(hand.params.betas, known.params.betas[:1].expand(5, -1))
    assert len(hand) == len(later) == 5


def test_a_hand_that_left_is_carried_and_images_are_needed(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    initialiser = HoNetInitialiser(hands, {"ball": ball}, MihoPipeline(hands, Shaped()))
    first, thing = tracks_of(hands, ball, 2, ([], []))
    empty = observed(WITHOUT_HAND)
    (hand,), (later,) = initialiser.initialise([observed(0), observed(1), empty], [first], [thing])
    assert hand.seen.tolist() == [True, True, False]
    torch.testing.assert_close(hand.params.transl[2], first.params.transl[1])
    np.testing.assert_allclose(later.T_camera_object[2], thing.T_camera_object[1])
    assert initialiser.initialise([empty], [], [])[0] == []
    with pytest.raises(InputError, match="images"):
        initialiser.initialise([replace(observed(0), color=None)], [], [])


def test_what_comes_later_has_rows_of_the_frames_before(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    """A hand that enters after the first window, and an object that only then is looked for."""
    _, thing = tracks_of(hands, ball, 2, ([], []))
    hand, later = tracks_of(hands, ball, 4, ([], [thing]))
    assert (len(hand), len(later), hand.track_id) == (4, 4, 7)
    assert hand.seen.tolist() == [False, False, False, True], "frame 2 has no hand"
    assert not hand.lost.any()
    torch.testing.assert_close(hand.params.transl, hand.params.transl[3:].expand(4, 3))
    first, _ = tracks_of(hands, ball, 2, ([], []))
    _, entered = tracks_of(hands, ball, 4, ([first], []))
    assert entered.seen.tolist() == [False, False, False, True]
    np.testing.assert_allclose(entered.T_camera_object[0], entered.T_camera_object[3])


def test_a_clip_begins_where_the_network_says(hands: dict[Side, HandModel], ball: ObjectModel) -> None:
    """Without a joint fit after it the states are what was told, in overlapping windows."""
    settings = ReconstructionSettings(window=4, overlap=1, independent=True)
    initialiser = HoNetInitialiser(hands, {"ball": ball}, MihoPipeline(hands, Shaped()))
    clip = ClipReconstructor(Perceiver(), hands, {"ball": ball}, settings, initialiser=initialiser)
    frames = [Frame(k, np.full((240, 320, 3), 90, np.uint8), CAMERA) for k in range(9)]
    states = [state for window in clip.reconstruct(iter(frames)) for state in window.states]
    assert [state.stamp for state in states] == list(range(9))
    assert {state.hands[0].params.side for state in states if state.hands} == {"left"}
    viewer = FrameViewer(hands, {"ball": ball}, MihoPipeline(hands, Shaped()))
    for number in (0, 3, 8):
        frame = observed(number)
        assert frame.color is not None
        view = viewer.view(frame.color, frame.evidence)
        assert view is not None
        np.testing.assert_allclose(states[number].objects[0].T_camera_object, view.T_camera_object, atol=1e-6)
