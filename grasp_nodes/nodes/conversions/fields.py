"""Array fields, stamps and headers of messages, alike on every runtime.

A real ``rclpy`` keeps ``uint8[]`` and ``float32[]`` as ``array.array`` (assigning a numpy array walks over its elements
in Python) and ``float32[48]`` as numpy; the embedded runtime keeps contiguous numpy of the exact type everywhere.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import ArrayLike
from std_msgs.msg import Header

from grasp_nodes.errors import InputError

NANOSECONDS = 1_000_000_000
MAX_SECONDS = 2**31


def set_array(message: Any, field: str, values: ArrayLike) -> None:
    """Fill an array field of numbers.

    Args:
        values: any shape, flattened row by row and cast to the field's element type.

    Raises:
        InputError: the field has a fixed length and `values` another.
    """
    current = getattr(message, field)
    if isinstance(current, array.array):
        flat = np.ascontiguousarray(values, dtype=np.dtype(current.typecode)).reshape(-1)
        setattr(message, field, array.array(current.typecode, flat.tobytes()))
        return
    flat = np.ascontiguousarray(values, dtype=np.asarray(current).dtype).reshape(-1)
    # Jazzy's messages check nothing unless $ROS_PYTHON_CHECK_FIELDS is set, and read a short array beyond its end.
    is_fixed = not message.get_fields_and_field_types()[field].startswith("sequence<")
    if is_fixed and flat.size != len(current):
        raise InputError(f"{type(message).__name__}.{field}: expected {len(current)} values, got {flat.size}")
    setattr(message, field, flat)


def read_array(message: Any, field: str, dtype: type[np.generic], shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    """An array field as numpy; a view of the message's memory where types agree, so copy before writing.

    Args:
        shape: shape to give it; one entry may be -1.

    Raises:
        InputError: the number of values does not fit `shape`.
    """
    values = np.asarray(getattr(message, field), dtype=dtype)
    fixed = int(np.prod([size for size in shape if size >= 0], dtype=np.int64))
    if (values.size % fixed if fixed else values.size) if -1 in shape else values.size != fixed:
        sizes = " x ".join(str(size) if size >= 0 else "n" for size in shape)
        raise InputError(f"{type(message).__name__}.{field}: expected {sizes} values, got {values.size}")
    return values.reshape(shape)


def to_time(stamp: int) -> Time:
    """Message of a time given in ns."""
    seconds, nanoseconds = divmod(int(stamp), NANOSECONDS)
    if not 0 <= seconds < MAX_SECONDS:
        raise InputError(f"stamp: {stamp} ns is outside what a message can carry (0 to 2^31 s)")
    return Time(sec=seconds, nanosec=nanoseconds)


def from_time(time: Time) -> int:
    """A time message in ns.

    Raises:
        InputError: its nanoseconds are not below 10^9 or its seconds are negative.
    """
    if not 0 <= time.nanosec < NANOSECONDS or time.sec < 0:
        raise InputError(f"stamp: {time.sec} s {time.nanosec} ns is not a time")
    return int(time.sec) * NANOSECONDS + int(time.nanosec)


def to_header(stamp: int, frame_id: str) -> Header:
    """Header of a stamp in ns and a frame."""
    return Header(stamp=to_time(stamp), frame_id=frame_id)


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """The same values, checked.

    Raises:
        InputError: one of them is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise InputError(f"{name}: expected finite numbers, got {int((~np.isfinite(values)).sum())} that are not")
    return values


def checked_share(name: str, value: float) -> float:
    """A score in [0, 1], checked.

    Raises:
        InputError: it is outside or NaN.
    """
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{name}: expected a number from 0 to 1, got {value}")
    return float(value)
