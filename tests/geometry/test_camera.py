"""The camera against OpenCV, closed forms and round trips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame

K = np.array([[600.0, 0.0, 321.5], [0.0, 590.0, 238.25], [0.0, 0.0, 1.0]])
LENSES = {
    "none": ("plumb_bob", []),
    "plumb_bob": ("plumb_bob", [0.08, -0.15, 0.001, -0.002, 0.05]),
    "rational_polynomial": ("rational_polynomial", [0.3, -0.1, 0.0005, -0.0003, 0.02, 0.25, -0.05, 0.01]),
    "equidistant": ("equidistant", [0.02, -0.01, 0.003, -0.001]),
}


def camera(lens: str = "none") -> CameraModel:
    model, coefficients = LENSES[lens]
    return CameraModel(K, 640, 480, np.array(coefficients), model)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_agrees_with_opencv(lens):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-0.2, 0.2, (50, 2)), rng.uniform(0.4, 1.5, (50, 1))], axis=1)
    model, coefficients = LENSES[lens]
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    coefficients = np.array(coefficients) if coefficients else np.zeros(4)
    expected, _ = project(points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), K, coefficients)
    np.testing.assert_allclose(camera(lens).project(points), expected.reshape(-1, 2), atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
@given(st.floats(20, 620), st.floats(20, 460), st.floats(0.1, 5.0))
@settings(max_examples=50, deadline=None)
def test_pixels_come_back(lens, x, y, depth):
    pixel = np.array([[x, y]])
    point = camera(lens).unproject(pixel, np.array([depth]))
    assert point[0, 2] == depth
    np.testing.assert_allclose(camera(lens).project(point), pixel, atol=1e-3)


def test_pinhole_in_closed_form():
    np.testing.assert_allclose(camera().project(np.array([0.1, -0.2, 0.5])), [0.2 * 600 + 321.5, -0.4 * 590 + 238.25])
    skewed = CameraModel(K + np.array([[0, 5.0, 0], [0, 0, 0], [0, 0, 0]]), 640, 480)
    pixel = skewed.project(np.array([0.1, -0.2, 0.5]))
    np.testing.assert_allclose(pixel, [0.2 * 600 - 0.4 * 5 + 321.5, -0.4 * 590 + 238.25])
    np.testing.assert_allclose(skewed.normalise(pixel), [0.2, -0.4])


def test_points_behind_have_no_pixel():
    pixels = camera().project(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], K[:2, 2])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 5, 3)])
def test_batches_keep_their_shape(shape):
    points = np.random.default_rng(1).uniform(0.2, 1.0, shape)
    for lens in LENSES:
        pixels = camera(lens).project(points)
        assert pixels.shape == (*shape[:-1], 2)
        back = camera(lens).unproject(pixels, points[..., 2])
        assert back.shape == shape


def test_uncalibrated_cameras_are_refused():
    with pytest.raises(InputError, match="not calibrated"):
        CameraModel(np.zeros((3, 3)), 640, 480)
    with pytest.raises(InputError, match="finite"):
        CameraModel(np.full((3, 3), np.nan), 640, 480)
    with pytest.raises(InputError, match="size"):
        CameraModel(K, 0, 480)
    with pytest.raises(InputError, match="thin_prism"):
        CameraModel(K, 640, 480, np.zeros(4), "thin_prism")
    with pytest.raises(InputError, match="coefficients"):
        CameraModel(K, 640, 480, np.zeros(3))


def test_frames_must_match_their_camera():
    color = np.zeros((480, 640, 3), np.uint8)
    Frame(0, color, camera(), np.zeros((480, 640), np.float32))
    with pytest.raises(InputError, match="color"):
        Frame(0, color[:-1], camera())
    with pytest.raises(InputError, match="depth"):
        Frame(0, color, camera(), np.zeros((480, 640), np.uint16))
