"""Images, depth, masks and clouds in every encoding, with padding and foreign byte order, and what is refused."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.nodes.conversions import clouds, images
from grasp_nodes.nodes.conversions.fields import set_array

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def make_image(pixels, encoding, padding=0, big=False):
    """A message built by hand: rows with padding, in either byte order."""
    ordered = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")))
    rows = ordered.reshape(len(pixels), -1).view(np.uint8)
    padded = np.hstack([rows, np.full((len(rows), padding), 0xAB, np.uint8)])
    message = Image(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, is_bigendian=int(big), step=padded.shape[1]
    )
    set_array(message, "data", padded)
    return message


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, np.full((6, 8), 255, np.uint8)])),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full((6, 8), 255, np.uint8)])),
        ("8UC3", RGB[..., ::-1]),
    ],
)
def test_colour_encodings_give_the_same_picture(encoding, pixels, padding):
    np.testing.assert_array_equal(images.image_to_rgb(make_image(pixels, encoding, padding)), RGB)


def test_grey_is_three_equal_channels():
    grey = RGB[..., 0]
    np.testing.assert_array_equal(images.image_to_rgb(make_image(grey, "mono8")), np.dstack([grey] * 3))


@pytest.mark.parametrize(("encoding", "luma", "chroma"), [("yuv422", 1, 0), ("yuv422_yuy2", 0, 1)])
def test_yuv_of_a_uniform_picture(encoding, luma, chroma):
    color = np.full((4, 6, 3), (200, 60, 30), np.uint8)
    # ITU-R BT.601 video range, which sensor drivers send, from full range.
    packed = np.zeros((4, 6, 2), np.uint8)
    red, green, blue = 200 / 255, 60 / 255, 30 / 255
    packed[..., luma] = round(16 + 65.481 * red + 128.553 * green + 24.966 * blue)
    packed[:, ::2, chroma] = round(128 - 37.797 * red - 74.203 * green + 112.0 * blue)
    packed[:, 1::2, chroma] = round(128 + 112.0 * red - 93.786 * green - 18.214 * blue)
    back = images.image_to_rgb(make_image(packed, encoding)).astype(int)
    assert np.abs(back - color).max() <= 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.booleans(), st.sampled_from(["16UC1", "mono16"]))
def test_millimetres_become_metres(seed, padding, big, encoding):
    depth = np.random.default_rng(seed).integers(0, 2**16, (5, 7), dtype=np.uint16)
    metres = images.image_to_depth(make_image(depth, encoding, 2 * padding, big))
    assert metres.dtype == np.float32
    np.testing.assert_allclose(metres, depth / 1000.0, rtol=1e-6)


@pytest.mark.parametrize("big", [False, True])
def test_depth_in_metres_keeps_only_measurements(big):
    depth = np.array([[0.5, 0, np.nan], [np.inf, -1, 2.25]], np.float32)
    np.testing.assert_array_equal(
        images.image_to_depth(make_image(depth, "32FC1", 8, big)), np.array([[0.5, 0, 0], [0, 0, 2.25]], np.float32)
    )


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("mono8", RGB[..., 0]),
        ("32FC1", RGB[..., 0].astype(np.float32)),
        ("16UC1", RGB[..., 0] * np.uint16(7)),
    ],
)
def test_pixels_survive(encoding, pixels):
    message = images.to_image(pixels, encoding, 12_000_000_345, "camera")
    np.testing.assert_array_equal(images.read_image(message), pixels)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (12, 345, "camera")


def test_mask_is_where_the_picture_is_not_black():
    mask = RGB[..., 0] > 128
    np.testing.assert_array_equal(images.image_to_mask(make_image(mask.astype(np.uint8) * 255, "mono8")), mask)


def spoiled(field, value):
    message = make_image(RGB, "rgb8")
    if field == "data":
        set_array(message, "data", value)
    else:
        setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (spoiled("encoding", "bayer_rggb8"), "bayer_rggb8"),
        (spoiled("encoding", "32FC1"), "32FC1"),
        (spoiled("step", 23), "step 23"),
        (spoiled("height", 7), "144 bytes; 8x7 rgb8 with step 24 takes 168"),
        (spoiled("width", 9), "9 rgb8 pixels takes 27 bytes"),
        (spoiled("width", 0), "size 0x6"),
        (spoiled("width", 2**32 - 1), "size 4294967295x6"),
        (spoiled("data", np.zeros(0, np.uint8)), "0 bytes"),
    ],
)
def test_malformed_image_is_refused_by_name(message, names):
    with pytest.raises(InputError, match=names):
        images.image_to_rgb(message)


def test_colour_is_not_depth():
    with pytest.raises(InputError, match="'rgb8' is not understood; expected 16UC1"):
        images.image_to_depth(make_image(RGB, "rgb8"))


def test_compressed_picture_survives_nearly():
    smooth = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_LINEAR)
    back = images.compressed_to_rgb(images.rgb_to_compressed(smooth, 5, "camera", quality=95))
    assert np.abs(back.astype(int) - smooth).mean() < 6


@pytest.mark.parametrize("data", [b"", b"not a picture", bytes(1000)])
def test_bytes_that_are_no_picture_are_refused(data):
    message = CompressedImage(format="jpeg")
    set_array(message, "data", np.frombuffer(data, np.uint8))
    with pytest.raises(InputError, match="'jpeg'"):
        images.compressed_to_rgb(message)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_cloud_survives(seed, count):
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    np.testing.assert_array_equal(clouds.cloud_to_points(clouds.to_cloud(points, 5, "camera")), points)


def test_cloud_with_other_fields_padding_and_byte_order():
    layout = np.dtype(
        {"names": ["x", "y", "z"], "formats": [">f8", ">f8", ">f4"], "offsets": [4, 12, 20], "itemsize": 32}
    )
    values = np.zeros((2, 3), layout)
    points = RNG.normal(size=(2, 3, 3))
    points[0, 0, 1] = np.nan
    for axis, name in enumerate("xyz"):
        values[name] = points[..., axis]
    rows = np.hstack([values.view(np.uint8).reshape(2, -1), np.zeros((2, 16), np.uint8)])
    kinds = {"x": PointField.FLOAT64, "y": PointField.FLOAT64, "z": PointField.FLOAT32}
    message = PointCloud2(
        height=2,
        width=3,
        point_step=32,
        row_step=112,
        is_bigendian=True,
        fields=[
            PointField(name=name, offset=int(layout.fields[name][1]), datatype=kinds[name], count=1)
            for name in ("z", "y", "x")
        ],
    )
    set_array(message, "data", rows)
    expected = points.reshape(-1, 3)[1:]
    expected = expected[np.isfinite(expected).all(axis=1)]
    np.testing.assert_allclose(clouds.cloud_to_points(message)[: len(expected)], expected, rtol=1e-6)
    assert len(clouds.cloud_to_points(message)) == 5


def test_cloud_without_z_is_refused():
    message = clouds.to_cloud(np.zeros((1, 3)), 5, "camera")
    message.fields = message.fields[:2]
    with pytest.raises(InputError, match="x, y and z"):
        clouds.cloud_to_points(message)


def test_frame_becomes_a_coloured_cloud():
    camera = CameraModel(np.array([[50.0, 0, 3.5], [0, 50, 2.5], [0, 0, 1]]), 8, 6)
    depth = np.zeros((6, 8), np.float32)
    depth[2, 5] = 0.75
    message = clouds.frame_to_cloud(Frame(5, RGB, camera, depth), 5)
    np.testing.assert_allclose(clouds.cloud_to_points(message), [[0.75 * 1.5 / 50, 0.75 * -0.5 / 50, 0.75]], rtol=1e-6)
    packed = np.asarray(message.data).view("<u4")[3]
    assert tuple((int(packed) >> shift) & 255 for shift in (16, 8, 0)) == tuple(RGB[2, 5].tolist())
