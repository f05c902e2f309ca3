"""Image, CompressedImage and CameraInfo messages <-> numpy arrays and `CameraModel`."""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.nodes.conversions.fields import read_array, set_array, to_header

LAYOUTS: dict[str, tuple[type[np.generic], int]] = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1),
    "8UC3": (np.uint8, 3),
    "yuv422": (np.uint8, 2),
    "uyvy": (np.uint8, 2),
    "yuv422_yuy2": (np.uint8, 2),
    "yuyv": (np.uint8, 2),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}
"""Element type and channels of each encoding that is understood (sensor_msgs/image_encodings)."""

TO_RGB: dict[str, int | None] = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}
MILLIMETRE_ENCODINGS = ("16UC1", "mono16")
MAX_PIXELS = 100_000_000


def read_image(message: Image) -> np.ndarray:
    """Pixels as they were sent: step, padding and byte order are honoured.

    Returns:
        (H, W) or (H, W, C) in the machine's byte order; a view of the message where no conversion was needed.

    Raises:
        InputError: unknown encoding, or sizes that contradict each other.
    """
    if message.encoding not in LAYOUTS:
        raise InputError(
            f"image encoding {message.encoding!r} is not understood; expected one of {', '.join(LAYOUTS)}: "
            "convert it first, for instance with image_proc"
        )
    element, channels = LAYOUTS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if not height or not width or height * width > MAX_PIXELS:
        raise InputError(f"image size {width}x{height} ({message.encoding}) is not usable")
    dtype = np.dtype(element)
    row = width * channels * dtype.itemsize
    if step < row or step % dtype.itemsize:
        raise InputError(
            f"image step {step} is wrong: a row of {width} {message.encoding} pixels takes {row} bytes or more"
        )
    data = read_array(message, "data", np.uint8)
    if data.size != step * height:
        raise InputError(
            f"image data has {data.size} bytes; {width}x{height} {message.encoding} with step {step} takes "
            f"{step * height}"
        )
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder(">" if message.is_bigendian else "<")
    pixels = data.reshape(height, step)[:, :row]
    if dtype.itemsize > 1:
        pixels = np.ascontiguousarray(pixels).view(dtype).astype(element, copy=False)
    return pixels.reshape(height, width) if channels == 1 else pixels.reshape(height, width, channels)


def image_to_rgb(message: Image) -> np.ndarray:
    """Colour pixels.

    Returns:
        (H, W, 3) uint8, RGB, contiguous.

    Raises:
        InputError: not a colour or 8-bit grey image, or malformed.
    """
    if message.encoding in LAYOUTS and message.encoding not in TO_RGB:
        raise InputError(
            f"image encoding {message.encoding!r} is not a colour image; expected one of {', '.join(TO_RGB)}"
        )
    pixels = np.ascontiguousarray(read_image(message))
    code = TO_RGB[message.encoding]
    return pixels if code is None else cv2.cvtColor(pixels, code)


def image_to_depth(message: Image) -> np.ndarray:
    """Depth along the optical axis: 16UC1 in millimetres or 32FC1 in metres (REP-118).

    Returns:
        (H, W) float32, m; 0 where nothing was measured (0, NaN, infinite or negative).

    Raises:
        InputError: another encoding, or malformed.
    """
    pixels = read_image(message)
    if message.encoding in MILLIMETRE_ENCODINGS:
        return pixels.astype(np.float32) * np.float32(0.001)
    if message.encoding != "32FC1":
        raise InputError(f"depth encoding {message.encoding!r} is not understood; expected 16UC1 (mm) or 32FC1 (m)")
    return np.where(np.isfinite(pixels) & (pixels > 0), pixels, np.float32(0))


def image_to_mask(message: Image) -> np.ndarray:
    """A mask: (H, W) bool, true where the pixel is not 0.

    Raises:
        InputError: the image has more than one channel, or is malformed.
    """
    pixels = read_image(message)
    if pixels.ndim != 2:
        raise InputError(f"mask encoding {message.encoding!r} is not understood; expected mono8 or 8UC1")
    return pixels != 0


def compressed_to_rgb(message: CompressedImage) -> np.ndarray:
    """Colour pixels of a JPEG or PNG image: (H, W, 3) uint8, RGB.

    Raises:
        InputError: the data is not a picture.
    """
    data = read_array(message, "data", np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InputError(
            f"compressed image with format {message.format!r} and {data.size} bytes cannot be decoded; "
            "expected jpeg or png"
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def rgb_to_compressed(color: np.ndarray, stamp: int, frame_id: str, quality: int = 90) -> CompressedImage:
    """JPEG message of a (H, W, 3) uint8 RGB picture."""
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(color, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise InputError(f"picture of shape {color.shape} cannot be encoded as JPEG")
    message = CompressedImage(header=to_header(stamp, frame_id), format="rgb8; jpeg compressed bgr8")
    set_array(message, "data", data)
    return message


def to_image(pixels: np.ndarray, encoding: str, stamp: int, frame_id: str) -> Image:
    """Image message of pixels.

    Args:
        pixels: (H, W) or (H, W, C) of the encoding's element type.
        encoding: a key of `LAYOUTS`.
        stamp: ns.

    Raises:
        InputError: the array does not fit the encoding.
    """
    if encoding not in LAYOUTS:
        raise InputError(f"image encoding {encoding!r} is not understood; expected one of {', '.join(LAYOUTS)}")
    element, channels = LAYOUTS[encoding]
    if pixels.dtype != element or pixels.shape[2:] != ((channels,) if channels > 1 else ()) or pixels.ndim < 2:
        raise InputError(f"image: {pixels.dtype} {pixels.shape} does not fit the encoding {encoding!r}")
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    message = Image(
        header=to_header(stamp, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.shape[1] * channels * pixels.itemsize,
    )
    set_array(message, "data", np.ascontiguousarray(little).reshape(-1).view(np.uint8))
    return message


def to_camera_info(camera: CameraModel, stamp: int) -> CameraInfo:
    """CameraInfo of a camera that is not rectified further: R = identity, P = [K | 0]."""
    message = CameraInfo(
        header=to_header(stamp, camera.frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
    )
    set_array(message, "d", camera.distortion)
    set_array(message, "k", camera.camera_k)
    set_array(message, "r", np.eye(3))
    set_array(message, "p", np.hstack([camera.camera_k, np.zeros((3, 1))]))
    return message


def to_camera_model(message: CameraInfo, is_metric: bool = True) -> CameraModel:
    """The camera that a CameraInfo describes; binning and region of interest are applied.

    Args:
        is_metric: false when the focal length in the message is known to be a guess.

    Raises:
        InputError: K is zero (not calibrated), or a value is impossible.
    """
    camera_k = read_array(message, "k", np.float64, (3, 3)).copy()
    if not camera_k.any():
        raise InputError(
            "camera_info: K is all zeros, the camera is not calibrated: calibrate it, or let the driver load its "
            "calibration file"
        )
    width, height = message.width, message.height
    if message.roi.width and message.roi.height:
        camera_k[:2, 2] -= (message.roi.x_offset, message.roi.y_offset)
        width, height = message.roi.width, message.roi.height
    binning = np.array([max(message.binning_x, 1), max(message.binning_y, 1)])
    if (binning > 1).any():
        # Pixel centres lie on integers: column u of the full image is column (u + 0.5) / b - 0.5 of the binned one.
        camera_k[0, :2] /= binning[0]
        camera_k[1, 1] /= binning[1]
        camera_k[:2, 2] = (camera_k[:2, 2] + 0.5) / binning - 0.5
        width, height = int(width // binning[0]), int(height // binning[1])
    if width * height > MAX_PIXELS:
        raise InputError(f"camera_info: size {width}x{height} is not usable")
    return CameraModel(
        camera_k=camera_k,
        width=int(width),
        height=int(height),
        distortion=read_array(message, "d", np.float64).copy(),
        distortion_model=message.distortion_model,
        frame_id=message.header.frame_id,
        is_metric=is_metric,
    )
