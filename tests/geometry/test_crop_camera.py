"""The virtual camera of crops, against projections of points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.crop_camera import CropCamera, turn_forward

CAMERA = CameraModel(np.array([[600.0, 0, 319.5], [0, 590.0, 239.5], [0, 0, 1]]), 640, 480)
WIDE = CameraModel(CAMERA.camera_k, 640, 480, np.array([0.1, -0.05, 0.001, 0.002, 0.01]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-0.9, 0.9), min_size=2, max_size=2))
def test_the_turn_brings_a_direction_forward_by_the_shortest_way(plane: list[float]) -> None:
    direction = np.array([*plane, 1.0])
    turn = turn_forward(direction)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    np.testing.assert_allclose(turn @ direction, [0, 0, np.linalg.norm(direction)], atol=1e-12)
    angle = np.arccos(np.clip(direction[2] / np.linalg.norm(direction), -1, 1))
    assert Rotation.from_matrix(turn).magnitude() == pytest.approx(angle, abs=1e-7)


def test_a_direction_backwards_is_refused() -> None:
    with pytest.raises(InputError, match="in front"):
        turn_forward(np.array([0.0, 0.0, -1.0]))


@pytest.mark.parametrize("camera", [CAMERA, WIDE], ids=["pinhole", "distorted"])
@pytest.mark.parametrize("box", [(100, 80, 220, 240), (500, 300, 700, 520), (10, 20, 60, 30)])
def test_points_are_where_the_cut_image_shows_them(camera: CameraModel, box: tuple[int, ...]) -> None:
    """A bright dot at the projection of a point is found at the crop's projection of the turned point."""
    crop = CropCamera.around(np.array(box, float), camera, 128)
    middle = camera.unproject(np.array([0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3])]), np.array(0.7))
    point = middle + np.array([0.004, -0.006, 0.02])
    pixel = camera.project(point)
    y, x = np.mgrid[: camera.height, : camera.width]
    dot = 255 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / (2 * 2.0**2))
    cut = crop.cut(dot.astype(np.float32), camera)
    rows, columns = np.mgrid[:128, :128]
    found = np.array([(columns * cut).sum(), (rows * cut).sum()]) / cut.sum()
    np.testing.assert_allclose(found, crop.camera.project(crop.R_crop_camera @ point), atol=0.6)


def test_the_box_fills_the_crop_and_not_more() -> None:
    box = np.array([200.0, 100.0, 420.0, 260.0])
    crop = CropCamera.around(box, CAMERA, 96)
    corners = CAMERA.unproject(np.array([[box[0], 180.0], [box[2], 180.0]]), np.ones(2))
    pixels = crop.camera.project(corners @ crop.R_crop_camera.T)
    reach = np.abs(pixels - crop.middle).max()
    assert 0.5 * 96 - 1 <= reach <= 0.5 * 96 + 1e-6


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 9, 5, 12), (0, 0, np.nan, 4)])
def test_a_box_without_extent_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="box"):
        CropCamera.around(np.array(box, float), CAMERA, 64)


def test_beyond_the_image_is_the_border_value() -> None:
    image = np.full((480, 640, 3), 200, np.uint8)
    cut = CropCamera.around(np.array([-100.0, 100, 100, 300]), CAMERA, 64).cut(image, CAMERA, border=7)
    assert (cut[:, :4] == 7).all()
    assert (cut[:, -4:] == 200).all()
