"""PointCloud2 messages <-> arrays of points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.nodes.conversions.fields import read_array, set_array, to_header

ELEMENTS = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}


MOST_POINTS = 10_000_000
"""Of a cloud that is read: the largest scanners send five."""


def to_cloud(points: np.ndarray, stamp: int, frame_id: str, colors: np.ndarray | None = None) -> PointCloud2:
    """Cloud of points as float32 x, y, z and, where there are colours, rgb packed as rviz expects it.

    Args:
        points: (N, 3), m. colors: (N, 3) uint8, RGB.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points: expected shape (N, 3), got {points.shape}")
    data = np.empty((len(points), 3 if colors is None else 4), "<f4")
    data[:, :3] = points
    if colors is not None:
        packed = colors.astype("<u4") << np.array([16, 8, 0], "<u4")
        data[:, 3] = packed.sum(axis=1, dtype="<u4").view("<f4")
    names = ("x", "y", "z", "rgb")[: data.shape[1]]
    message = PointCloud2(
        header=to_header(stamp, frame_id),
        height=1,
        width=len(data),
        fields=[
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(names)
        ],
        is_bigendian=False,
        point_step=data.itemsize * data.shape[1],
        row_step=data.nbytes,
        is_dense=bool(np.isfinite(data[:, :3]).all()),
    )
    set_array(message, "data", data.reshape(-1).view(np.uint8))
    return message


def frame_to_cloud(frame: Frame, stamp: int) -> PointCloud2:
    """Coloured cloud of the measured pixels of a frame with depth, in the camera's frame."""
    if frame.depth is None:
        raise InputError("a frame without depth has no points")
    rows, columns = np.nonzero(frame.depth)
    points = frame.camera.unproject(np.stack([columns, rows], axis=-1), frame.depth[rows, columns])
    return to_cloud(points, stamp, frame.camera.frame_id, frame.color[rows, columns])


def cloud_to_points(message: PointCloud2) -> np.ndarray:
    """Finite points of a cloud: (N, 3) float32, m.

    Raises:
        InputError: no x, y, z fields, sizes that contradict each other, or more than `MOST_POINTS`.
    """
    return _points(_rows(message, dict.fromkeys("xyz")))[0]


def cloud_to_colored_points(message: PointCloud2) -> tuple[np.ndarray, np.ndarray | None]:
    """`cloud_to_points` with their colours, (N, 3) uint8, RGB; None where there is no field rgb of four bytes."""
    packed = next((each for each in message.fields if each.name == "rgb"), None)
    if packed is None or packed.datatype not in (PointField.FLOAT32, PointField.UINT32, PointField.INT32):
        return cloud_to_points(message), None
    # Four bytes, whatever they are called: as a number of floating point they mean nothing.
    rows = _rows(message, {**dict.fromkeys("xyz"), "rgb": "u4"})
    points, kept = _points(rows)
    shifted = rows["rgb"][kept, None].astype(np.uint32) >> np.array([16, 8, 0], np.uint32)
    return points, (shifted & 255).astype(np.uint8)


def _points(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) float32 of the N rows that are finite, and their numbers."""
    points = np.stack([rows[name].astype(np.float32) for name in "xyz"], axis=-1)
    kept = np.flatnonzero(np.isfinite(points).all(axis=1))
    return points[kept], kept


def _rows(message: PointCloud2, wanted: Mapping[str, str | None]) -> np.ndarray:
    """Fields of all points as a structured array; wanted: formats by name, None = the message's own."""
    if message.width * message.height > MOST_POINTS:
        raise InputError(
            f"cloud: {message.width}x{message.height} points, at most {MOST_POINTS} are taken: thin it first"
        )
    fields = {field.name: field for field in message.fields}
    missing = [name for name in wanted if name not in fields]
    if missing:
        raise InputError(f"cloud: expected the fields x, y and z, got {sorted(fields) or 'none'}")
    order = ">" if message.is_bigendian else "<"
    formats = []
    for name, given in wanted.items():
        element = given or ELEMENTS.get(fields[name].datatype)
        if element is None:
            raise InputError(f"cloud field {name!r}: datatype {fields[name].datatype} is not known")
        if fields[name].offset + np.dtype(element).itemsize > message.point_step:
            raise InputError(
                f"cloud field {name!r}: offset {fields[name].offset} does not fit point_step {message.point_step}"
            )
        formats.append(order + element)
    data = read_array(message, "data", np.uint8)
    row = message.width * message.point_step
    if message.row_step < row or data.size != message.row_step * message.height:
        raise InputError(
            f"cloud data has {data.size} bytes; {message.width}x{message.height} points of {message.point_step} bytes "
            f"with row_step {message.row_step} take {max(message.row_step, row) * message.height}"
        )
    layout = np.dtype(
        {
            "names": list(wanted),
            "formats": formats,
            "offsets": [fields[name].offset for name in wanted],
            "itemsize": message.point_step,
        }
    )
    return np.ascontiguousarray(data.reshape(message.height, message.row_step)[:, :row]).reshape(-1).view(layout)
