"""ROS recordings (MCAP, db3, ROS 1 .bag) as frames, without ROS: colour, camera_info and, where recorded, depth."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grasp_nodes.data.frame_source import DEFAULT_FIELD_OF_VIEW, FrameSourceBase, guessed_camera, limited
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel, Frame

COLOR_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
SYNC_SLOP = 20_000_000
"""ns between a colour image and the depth image that belongs to it."""
TO_RGB = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
}
QUANTISED_HEADER = struct.Struct("<iff")
"""What compressed_depth_image_transport writes before its PNG: format, and factor and offset of the inverse depth."""
DEPTH_TYPES = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}


class BagSource(FrameSourceBase):
    """One colour topic of a recording, with the depth topic that is registered to it.

    stamps: ns, of the frames.
    """

    def __init__(
        self,
        path: str | Path,
        object_spec: str = "",
        frames: int = 0,
        color_topic: str = "",
        depth_topic: str = "",
        info_topic: str = "",
        field_of_view: float = DEFAULT_FIELD_OF_VIEW,
    ) -> None:
        """Open the recording, choose topics and index their messages.

        Args:
            path: an .mcap or .db3 file, a rosbag2 folder, or a ROS 1 .bag file.
            object_spec: mesh or shape of the object. frames: use only the first so many, 0 = all.
            color_topic, depth_topic, info_topic: '' = the first one that looks right; depth may be absent.
            field_of_view: deg, for a recording without camera_info.

        Raises:
            MissingFileError: there is no such recording.
            InputError: it cannot be read, or lacks the topic; the message lists the topics it has.
        """
        self.path = Path(path)
        if not self.path.exists():
            raise MissingFileError(f"{path}: not found; expected an .mcap, .db3 or .bag file or a rosbag2 folder")
        self._topics: dict[str, str] = {}
        with self._reader() as reader:
            self._topics = {connection.topic: str(connection.msgtype) for connection in reader.connections}
            self._color = self._choose(color_topic, _is_color, "colour image")
            self._depth = self._choose(depth_topic, _is_depth, "depth image", required=bool(depth_topic))
            self._info = self._choose(info_topic, _is_info, "camera_info", required=bool(info_topic), near=self._color)
            stamps = self._stamps(reader, self._color)
            if not stamps:
                raise InputError(f"{path}: topic {self._color} holds no messages")
            self._count = limited(len(stamps), frames)
            self.first_stamp, self.stamps = stamps[0], stamps[: self._count]
            fps = 30.0
            if len(stamps) > 1 and stamps[-1] > stamps[0]:
                fps = 1e9 * (len(stamps) - 1) / (stamps[-1] - stamps[0])
            super().__init__(fps, self._camera(reader, field_of_view))
            self.has_depth = bool(self._depth) and bool(self._stamps(reader, self._depth))
        self.object_spec = object_spec

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        """Frames in time order; a frame whose depth was not recorded within `SYNC_SLOP` has none."""
        with self._reader() as reader:
            depth = _Lookahead(self._messages(reader, self._depth)) if self._depth else None
            last = -1
            for stamp, message in islice(self._messages(reader, self._color), self._count):
                if stamp <= last:
                    raise InputError(
                        f"{self.path}: stamps of {self._color} jump back from {last} to {stamp} ns: sort or cut the bag"
                    )
                last = stamp
                image = decode_color(message, f"{self.path} {self._color}")
                nearest = depth.nearest(stamp) if depth else None
                try:
                    pixels = None if nearest is None else decode_depth(nearest, f"{self.path} {self._depth}")
                    yield Frame(stamp, image, self.camera, pixels)
                except InputError as error:
                    raise InputError(f"{self.path} {self._color} at {stamp} ns: {error}") from error

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        """The open recording; whatever a damaged one makes rosbags raise becomes an InputError."""
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

        try:
            with AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
                yield reader
        except InputError:
            raise
        except Exception as error:  # rosbags checks little: changed bytes can raise anything from any of its layers
            raise InputError(f"{self.path}: cannot be read as a recording: {type(error).__name__}: {error}") from error

    def _choose(self, asked: str, fits: Any, what: str, required: bool = True, near: str = "") -> str:
        listing = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(self._topics.items())) or "none"
        if asked:
            if asked not in self._topics:
                raise InputError(f"{self.path}: no topic {asked}; the recording has: {listing}")
            return asked
        found = sorted(topic for topic, kind in self._topics.items() if fits(topic, kind))
        if not found and required:
            raise InputError(f"{self.path}: no {what} topic; the recording has: {listing}")
        folder = near.rsplit("/", 1)[0]
        found.sort(key=lambda topic: (not topic.startswith(folder), "color" not in topic and "rgb" not in topic, topic))
        return found[0] if found else ""

    def _messages(self, reader: Any, topic: str) -> Iterator[tuple[int, Any]]:
        connections = [connection for connection in reader.connections if connection.topic == topic]
        for connection, _, data in reader.messages(connections):
            message = reader.deserialize(data, connection.msgtype)
            yield _stamp(message), message

    def _stamps(self, reader: Any, topic: str) -> list[int]:
        """ns, without decoding the images: all these messages begin with a header."""
        connections = [connection for connection in reader.connections if connection.topic == topic]
        return [_stamp_of_bytes(data, reader.is2) for _, _, data in reader.messages(connections)]

    def _camera(self, reader: Any, field_of_view: float) -> CameraModel:
        _, first = next(self._messages(reader, self._color))
        height, width = decode_color(first, f"{self.path} {self._color}").shape[:2]
        info = next((message for _, message in self._messages(reader, self._info)), None) if self._info else None
        if info is None:
            return guessed_camera(width, height, field_of_view)
        matrix = getattr(info, "k", None)
        distortion = getattr(info, "d", None)
        if matrix is None:  # ROS 1 writes these names in capitals
            matrix, distortion = info.K, info.D
        try:
            return CameraModel(
                np.asarray(matrix, np.float64).reshape(3, 3),
                int(info.width),
                int(info.height),
                np.asarray(distortion, np.float64),
                str(info.distortion_model),
                str(info.header.frame_id) or "camera_color_optical_frame",
            )
        except InputError as error:
            raise InputError(f"{self.path} {self._info}: {error}") from error


class _Lookahead:
    """Depth messages in time order, held until the colour image that they belong to comes by."""

    def __init__(self, messages: Iterator[tuple[int, Any]]) -> None:
        self._messages = messages
        self._held: list[tuple[int, Any]] = []

    def nearest(self, stamp: int) -> Any | None:
        """The message nearest to a stamp (ns) within `SYNC_SLOP`; stamps must be asked in time order."""
        while not self._held or self._held[-1][0] < stamp + SYNC_SLOP:
            following = next(self._messages, None)
            if following is None:
                break
            self._held.append(following)
        keys = [key for key, _ in self._held]
        self._held = self._held[bisect_left(keys, stamp - SYNC_SLOP) :]
        if not self._held:
            return None
        key, message = min(self._held, key=lambda item: abs(item[0] - stamp))
        return message if abs(key - stamp) <= SYNC_SLOP else None


def decode_color(message: Any, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage; `name` is for error messages.

    Raises:
        InputError: an encoding that is no colour image, or data of the wrong size.
    """
    if not hasattr(message, "encoding"):
        image = _decompress(np.asarray(message.data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{name}: {len(message.data)} bytes of format {message.format!r} are not an image")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if message.encoding not in TO_RGB:
        raise InputError(f"{name}: encoding {message.encoding!r}; expected a colour image, one of {sorted(TO_RGB)}")
    channels, conversion = TO_RGB[message.encoding]
    pixels = _rows(message, name, channels)[:, : message.width * channels]
    image = np.ascontiguousarray(pixels.reshape(message.height, message.width, channels))
    return image if conversion is None else cv2.cvtColor(image, conversion)


def decode_depth(message: Any, name: str) -> np.ndarray:
    """(H, W) float32, m, of 16UC1 millimetres or 32FC1 metres (REP-118), raw or compressed; 0 = no measurement.

    Raises:
        InputError: another encoding, or data of the wrong size.
    """
    if not hasattr(message, "encoding"):
        return _decompress_depth(message, name)
    if message.encoding not in DEPTH_TYPES:
        raise InputError(f"{name}: encoding {message.encoding!r}; expected depth as one of {sorted(DEPTH_TYPES)}")
    kind, unit = DEPTH_TYPES[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    rows = np.ascontiguousarray(_rows(message, name, dtype.itemsize)[:, : message.width * dtype.itemsize])
    depth = rows.view(dtype).astype(np.float32) * np.float32(unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _decompress_depth(message: Any, name: str) -> np.ndarray:
    """Depth, m, of a PNG of 16 bits as compressed_depth_image_transport writes it, with or without its header."""
    data = np.asarray(message.data, np.uint8)
    start = data.tobytes().find(b"\x89PNG")
    image = _decompress(data[start:], cv2.IMREAD_UNCHANGED) if start >= 0 else None
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(f"{name}: format {message.format!r} is not a depth image; expected a PNG of 16 bits")
    if not str(message.format).startswith("32FC1"):
        return image.astype(np.float32) * np.float32(0.001)
    # Depth in metres is stored as quantised inverse depth; the header ends with the two numbers of the quantisation.
    if start != QUANTISED_HEADER.size:
        raise InputError(f"{name}: format {message.format!r} lacks the header of {QUANTISED_HEADER.size} bytes")
    _, factor, offset = QUANTISED_HEADER.unpack(data[:start].tobytes())
    inverse = image.astype(np.float32) - np.float32(offset)
    known = (image > 0) & (inverse > 0)
    return np.divide(np.float32(factor), inverse, out=np.zeros_like(inverse), where=known)


def _decompress(data: np.ndarray, mode: int) -> np.ndarray | None:
    """The picture in some bytes, None where there is none."""
    try:
        return cv2.imdecode(data, mode) if len(data) else None
    except cv2.error:  # a picture that claims more pixels than OpenCV allows
        return None


def _rows(message: Any, name: str, pixel_bytes: int) -> np.ndarray:
    """(H, step) uint8."""
    data = np.asarray(message.data, np.uint8)
    sizes_agree = message.step >= message.width * pixel_bytes > 0 and data.size == message.step * message.height
    if not sizes_agree or not data.size:
        raise InputError(
            f"{name}: {data.size} bytes do not hold {message.width}x{message.height} {message.encoding} with step "
            f"{message.step}"
        )
    return data.reshape(message.height, message.step)


def _stamp_of_bytes(data: bytes, is_ros2: bool) -> int:
    """ns, of a serialised message that begins with std_msgs/Header: CDR behind its 4 bytes, ROS 1 behind ``seq``."""
    order = "<" if not is_ros2 or data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(order + "iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _is_color(topic: str, kind: str) -> bool:
    return kind in COLOR_TYPES and "depth" not in topic.lower() and "mask" not in topic.lower()


def _is_depth(topic: str, kind: str) -> bool:
    return kind in COLOR_TYPES and "depth" in topic.lower()


def _is_info(topic: str, kind: str) -> bool:
    return kind == INFO_TYPE and "depth" not in topic.lower()
