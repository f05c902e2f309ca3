from __future__ import annotations

import builtins

import cv2
import numpy as np
import pytest

from grasp_nodes.errors import InputError, MissingDependencyError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker, search_places
from grasp_nodes.perception.model_files import find_hand_models
from grasp_nodes.perception.palm_detection import palm_anchors
from grasp_nodes.perception.tflite import TfliteNetwork

WIDTH, HEIGHT = 320, 240
CAMERA = CameraModel(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), WIDTH, HEIGHT)
ANCHORS = palm_anchors()
HAND_IN_CROP = np.random.default_rng(0).uniform(40, 184, (21, 2))


class FakeNetworks:
    """Stands for both networks: a palm at one anchor, and fixed landmarks in every crop."""

    def __init__(self):
        self.visible, self.right, self.palm_calls, self.twin = True, 0.9, 0, False

    def palm(self, _image):
        self.palm_calls += 1
        raw, logits = np.zeros((len(ANCHORS), 18), np.float32), np.full((len(ANCHORS), 1), -9.0, np.float32)
        index = 24 * 12 * 2 + 24
        raw[index, 5], raw[index, 9] = 10.0, -10.0  # wrist below, middle knuckle above
        neighbour = index + 6
        raw[[index, neighbour], 2:4] = 20.0
        raw[neighbour, 5], raw[neighbour, 9] = 10.0, -10.0
        if self.visible:
            logits[index] = 4.0
            logits[neighbour] = 3.0 if self.twin else -9.0
        return [raw, logits]

    def landmark(self, _image):
        points = np.concatenate([HAND_IN_CROP, np.zeros((21, 1))], axis=1).astype(np.float32)
        presence = np.array([0.95 if self.visible else 0.01], np.float32)
        return [points.reshape(-1), presence, np.array([self.right], np.float32), np.zeros(63, np.float32)]


def blank(stamp=0):
    return Frame(stamp, np.zeros((HEIGHT, WIDTH, 3), np.uint8), CAMERA)


def landmarker(networks, **options):
    options = {"max_hands": 1, "search_tries": 0, **options}
    return LitertHandLandmarker(
        LandmarkerOptions(**options), palm_network=networks.palm, landmark_network=networks.landmark
    )


def test_a_followed_hand_needs_no_palm_detection():
    networks = FakeNetworks()
    finder = landmarker(networks)
    first = finder.detect(blank())
    assert len(first) == 1
    before = networks.palm_calls
    for t in range(5):
        (hand,) = finder.detect(blank(t))
        assert hand.track_id == first[0].track_id
    assert networks.palm_calls == before


def test_pixels_are_corner_coordinates_less_one_half():
    networks = FakeNetworks()
    finder = landmarker(networks)
    (hand,) = finder.detect(blank())
    region = finder._tracks[0].region  # the place that the next image is cropped from
    expected = finder.landmarks(blank().color, region).points - 0.5
    (again,) = finder.detect(blank())
    np.testing.assert_allclose(again.keypoints, expected, atol=1e-3)
    assert (again.box[:2] < hand.keypoints.max(0)).all()


def test_the_side_is_a_vote_over_the_track():
    networks = FakeNetworks()
    finder = landmarker(networks)
    for _ in range(10):
        finder.detect(blank())
    networks.right = 0.1  # one wrong image does not turn the hand
    (hand,) = finder.detect(blank())
    assert hand.side == "right"
    assert hand.side_score == pytest.approx((10 * 0.9 + 0.1) / 11)
    for _ in range(60):
        (hand,) = finder.detect(blank())
    assert hand.side == "left"
    assert hand.side_score == pytest.approx(0.9)


def test_mirrored_images_swap_the_side():
    (hand,) = landmarker(FakeNetworks(), mirrored=True).detect(blank())
    assert hand.side == "left"


def test_a_hand_that_comes_back_keeps_its_track_for_a_while():
    networks = FakeNetworks()
    finder = landmarker(networks, remember_images=5)
    (first,) = finder.detect(blank())
    networks.visible = False
    for _ in range(3):
        assert not finder.detect(blank())
    networks.visible = True
    (back,) = finder.detect(blank())
    assert back.track_id == first.track_id
    networks.visible = False
    for _ in range(8):
        finder.detect(blank())
    networks.visible = True
    (new,) = finder.detect(blank())
    assert new.track_id != first.track_id


def test_the_wider_search_is_rationed_and_goes_on_where_it_stopped():
    networks = FakeNetworks()
    networks.visible = False
    finder = landmarker(networks, search_tries=2)
    for _ in range(4):
        before = networks.palm_calls
        assert not finder.detect(blank())
        assert networks.palm_calls - before == 3  # the whole image, and two places
    places = search_places(WIDTH, HEIGHT)
    assert len({(place.center, place.size, round(place.angle, 3)) for place in places}) == len(places)


def test_two_regions_on_one_hand_are_one_hand():
    networks = FakeNetworks()
    networks.twin = True
    finder = landmarker(networks, max_hands=2)
    assert len(finder._palms.detect(blank().color)) == 2
    assert len(finder.detect(blank())) == 1


@pytest.mark.parametrize(
    "options",
    [{"palm_threshold": 0.0}, {"hand_threshold": 1.0}, {"max_hands": 0}, {"threads": 0}, {"search_tries": -1}],
)
def test_options_are_checked(options):
    with pytest.raises(InputError, match=next(iter(options))):
        LandmarkerOptions(**options)


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def without_litert(name, *args, **kwargs):
        if name.startswith("ai_edge_litert"):
            raise ImportError("No module named 'ai_edge_litert'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_litert)
    with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[hands\]"):
        TfliteNetwork(tmp_path / "any.tflite")


@pytest.fixture
def real_landmarker():
    pytest.importorskip("ai_edge_litert", reason="needs the extra [hands]")
    try:
        files = find_hand_models()
    except (InputError, MissingFileError) as error:
        pytest.skip(str(error))
    if files is None:
        pytest.skip("hand models are not in the cache: 'make test' fetches them")
    return LitertHandLandmarker(LandmarkerOptions(max_hands=1), files)


@pytest.mark.samples
def test_a_right_hand_is_found_in_the_video(real_landmarker, samples):
    video = cv2.VideoCapture(str(samples / "hand_video.mp4"))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    found, right, ids = 0, 0, set()
    for index in np.linspace(0, count - 1, 40).astype(int):
        video.set(cv2.CAP_PROP_POS_FRAMES, int(index))
        ok, image = video.read()
        assert ok
        height, width = image.shape[:2]
        camera = CameraModel(np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]), width, height)
        frame = Frame(int(index), np.ascontiguousarray(image[:, :, ::-1]), camera)
        hands = real_landmarker.detect(frame)
        found += bool(hands)
        right += bool(hands) and hands[0].side == "right"
        ids |= {hand.track_id for hand in hands}
        for hand in hands:
            assert np.isfinite(hand.keypoints).all()
            assert hand.keypoints_3d.shape == (21, 3)
    assert found >= 38
    assert right == found
    assert len(ids) <= 3


@pytest.mark.samples
def test_the_mirrored_video_shows_a_left_hand(real_landmarker, samples):
    """Also: landmarks of the mirrored image are the mirrored landmarks, to a few pixels."""
    video = cv2.VideoCapture(str(samples / "hand_video.mp4"))
    ok, image = video.read()
    assert ok
    height, width = image.shape[:2]
    camera = CameraModel(np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]), width, height)
    (hand,) = real_landmarker.detect(Frame(0, np.ascontiguousarray(image[:, :, ::-1]), camera))
    real_landmarker.reset()
    (mirrored,) = real_landmarker.detect(Frame(0, np.ascontiguousarray(image[:, ::-1, ::-1]), camera))
    assert (hand.side, mirrored.side) == ("right", "left")
    back = mirrored.keypoints * [-1, 1] + [width - 1, 0]
    assert np.linalg.norm(back - hand.keypoints, axis=1).mean() < 0.02 * width
