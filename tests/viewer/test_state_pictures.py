"""Pictures of states, and the video of them."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import HandObjectState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.overlay_video import OverlayVideo
from grasp_nodes.viewer.state_pictures import StatePainter

SIZE = 120


@pytest.fixture(scope="module")
def rod() -> ObjectModel:
    """Long in x, short in y and z."""
    return load_object("box:0.2,0.02,0.02")


def at(place: tuple[float, float, float], scale: float = 1.0) -> HandObjectState:
    pose = np.eye(4)
    pose[:3, 3] = place
    return HandObjectState(0, "cam", objects=(ObjectState("box", pose, scale=scale),))


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Columns and rows that something was drawn in."""
    drawn = np.any(picture < 250, axis=2)
    columns, rows = (np.flatnonzero(np.any(drawn, axis=axis)) for axis in (0, 1))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_the_side_view_sees_depth_and_not_breadth(rod: ObjectModel) -> None:
    painter = StatePainter([rod])
    columns, rows = extent(painter.side_view(at((0.0, 0.0, 0.5)), SIZE))
    assert columns == pytest.approx(rows, abs=2)  # along x it is seen end on
    turned = at((0.0, 0.0, 0.5))
    pose = turned.objects[0].T_camera_object.copy()
    pose[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    turned = replace(turned, objects=(replace(turned.objects[0], T_camera_object=pose),))
    columns, rows = extent(painter.side_view(turned, SIZE))
    assert columns > 6 * rows


def test_far_is_right_when_seen_from_the_right_and_left_when_seen_from_the_left(rod: ObjectModel) -> None:
    model = load_hand_model("right")
    for x, place in ((0.15, "right"), (-0.15, "left")):
        params = replace(HandParams.zeros(1), transl=torch.tensor([[x, 0.0, 0.3]]))
        hand = replace(hand_states(params, model)[0], track_id=1)
        state = replace(at((0.0, 0.0, 0.6)), hands=(hand,))
        painter = StatePainter([rod])
        both = painter.side_view(state, SIZE)
        # The rod alone is blue; its columns are those of a picture with the hand that are bluer than red.
        blue = np.flatnonzero((both[..., 2].astype(int) - both[..., 0] > 10).any(0))
        red = np.flatnonzero((both[..., 0].astype(int) - both[..., 2] > 10).any(0))
        assert (blue.mean() > red.mean()) == (place == "right")


def test_pictures_beside_each_other_have_one_scale(rod: ObjectModel) -> None:
    painter, near, far = StatePainter([rod]), at((0.0, 0.0, 0.5)), at((0.0, 0.0, 0.7))
    alone = extent(painter.side_view(near, SIZE))
    pictures = [painter.side_view(near, SIZE, (far,)), painter.side_view(far, SIZE, (near,))]
    assert extent(pictures[0]) == pytest.approx(extent(pictures[1]), abs=1)
    assert extent(pictures[0])[1] < 0.7 * alone[1]
    # 0.2 m farther away, ten times their thickness: ten of them lie between.
    columns = [np.flatnonzero((picture < 250).any(axis=2).any(axis=0)).mean() for picture in pictures]
    assert columns[1] - columns[0] == pytest.approx(10 * extent(pictures[0])[1], rel=0.2)
    assert (painter.side_view(HandObjectState(0, "cam"), SIZE, (near,)) == 255).all()


def test_an_empty_state_is_white(rod: ObjectModel) -> None:
    assert (StatePainter([rod]).side_view(HandObjectState(0, "cam"), SIZE) == 255).all()


def test_a_mesh_in_millimetres_is_as_large_as_one_in_metres(rod: ObjectModel) -> None:
    in_file_units = replace(rod, scale=0.001)
    camera = CameraModel(np.array([[200.0, 0, 59.5], [0, 200.0, 59.5], [0, 0, 1]]), SIZE, SIZE)
    frame = Frame(0, np.full((SIZE, SIZE, 3), 255, np.uint8), camera)
    plain = StatePainter([rod]).overlay(frame, at((0.0, 0.0, 0.5)))
    scaled = StatePainter([in_file_units]).overlay(frame, at((0.0, 0.0, 0.5), scale=0.001))
    np.testing.assert_array_equal(plain, scaled)
    assert extent(plain)[0] == pytest.approx(200 * 0.2 / 0.49, abs=2)


def test_a_video_holds_its_pictures_also_of_odd_size(tmp_path: Path) -> None:
    video = OverlayVideo(tmp_path / "a.mp4", 10.0, 65, 49)
    shades = [30, 120, 210]
    for shade in shades:
        video.write(np.full((49, 65, 3), (shade, 128, 255 - shade), np.uint8))
    assert list(tmp_path.glob("a.mp4")) == []
    video.close()
    video.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    reader = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    for shade in shades:
        good, picture = reader.read()
        assert good
        assert picture.shape == (50, 66, 3)
        assert np.abs(picture[20, 30, ::-1].astype(int) - [shade, 128, 255 - shade]).max() < 12
    assert not reader.read()[0]


def test_a_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path) -> None:
    """OpenCV itself keeps quiet."""
    noise = np.random.default_rng(0)
    video = OverlayVideo(tmp_path / "a.mp4", 10.0, 96, 72)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        for _ in range(40):
            video.write(noise.integers(0, 255, (72, 96, 3), dtype=np.uint8))
        with pytest.raises(OSError, match=r"only 0 of 40 pictures of a.mp4 were written; is the disk full"):
            video.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_large_pictures_are_shrunk_and_not_distorted(tmp_path: Path) -> None:
    video = OverlayVideo(tmp_path / "a.mp4", 10.0, 1080, 810)
    picture = np.zeros((810, 1080, 3), np.uint8)
    picture[:, 540:] = 200
    video.write(picture)
    video.close()
    good, back = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()
    assert good
    assert back.shape == (540, 720, 3)
    assert back[:, 350].max() < 30
    assert back[:, 370].min() > 170


def test_a_picture_of_another_size_is_refused_and_a_discarded_video_leaves_nothing(tmp_path: Path) -> None:
    video = OverlayVideo(tmp_path / "a.mp4", 10.0, 64, 48)
    with pytest.raises(InputError, match="64"):
        video.write(np.zeros((48, 32, 3), np.uint8))
    video.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="could not be written"):
        OverlayVideo(tmp_path / "none" / "a.mp4", 10.0, 64, 48)
