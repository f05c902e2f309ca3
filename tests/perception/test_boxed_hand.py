"""A hand whose box is given: where the network is sent to look, and what of it is believed."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.boxed_hand import BoxedHandLandmarker
from grasp_nodes.perception.boxes import box_iou
from grasp_nodes.perception.hand_landmarks import Landmarks
from grasp_nodes.perception.region import Region

CAMERA = CameraModel(np.array([[200.0, 0, 99.5], [0, 200.0, 99.5], [0, 0, 1]]), 200, 200)
FRAME = Frame(0, np.zeros((200, 200, 3), np.uint8), CAMERA)
HAND = np.random.default_rng(0).uniform([70, 90], [110, 150], (21, 2))
BOX = np.concatenate([HAND.min(axis=0), HAND.max(axis=0)])


class Network:
    """Sees the hand in every region that holds its centre."""

    def __init__(self, right: float = 0.9, elsewhere: bool = False) -> None:
        self.right, self.elsewhere = right, elsewhere
        self.looks: list[Region] = []

    def landmarks(self, image: np.ndarray, region: Region) -> Landmarks:
        self.looks.append(region)
        centre = HAND.mean(axis=0)
        inside = bool((region.box[:2] < centre).all() and (region.box[2:] > centre).all())
        points = HAND + (0 if not self.elsewhere else [0, -80]) + 0.5
        return Landmarks(points, np.zeros((21, 3)), 0.9 if inside else 0.1, self.right)


def test_the_hand_of_the_box_is_found_where_it_is() -> None:
    network = Network()
    hands = BoxedHandLandmarker(network, lambda _: BOX).detect(FRAME)
    assert len(hands) == 1
    np.testing.assert_allclose(hands[0].keypoints, HAND, atol=1e-4)
    assert box_iou(hands[0].box, BOX[None])[0] > 0.6
    # Eight orientations around the box's centre are tried where there is none to go on from.
    centre = (BOX[:2] + BOX[2:]) / 2 + 0.5
    angles = {round(look.angle, 3) for look in network.looks if np.allclose(look.center, centre)}
    assert len(angles) == 8


def test_no_box_no_hand() -> None:
    network = Network()
    assert BoxedHandLandmarker(network, lambda frame: None).detect(FRAME) == ()
    assert network.looks == []


def test_landmarks_far_from_the_box_are_not_believed() -> None:
    assert BoxedHandLandmarker(Network(elsewhere=True), lambda frame: BOX).detect(FRAME) == ()


@pytest.mark.parametrize(("votes", "side"), [([0.9, 0.9, 0.2], "right"), ([0.1, 0.1, 0.8], "left")])
def test_the_side_is_a_vote_until_it_is_reset(votes: list[float], side: str) -> None:
    network = Network()
    landmarker = BoxedHandLandmarker(network, lambda frame: BOX)
    for right in votes:
        network.right = right
        found = landmarker.detect(FRAME)
    assert found[0].side == side
    landmarker.reset()
    assert landmarker.detect(FRAME)[0].side == ("right" if votes[-1] > 0.5 else "left")
