"""The hands and objects that were detected in EPIC-KITCHENS-100 with the detector of Shan et al. (CVPR 2020).

Certain, from the authors' library (https://github.com/epic-kitchens/epic-kitchens-100-hand-object-bboxes): a file
``P01_01.pkl`` is a pickled list with one protobuf message (as bytes) for each frame. Fields by number: frame: 1 video,
2 frame number, 3 hands, 4 objects; hand: 1 box, 2 score, 3 state, 4 offset to its object, 5 side (0 left, 1 right);
object: 1 box, 2 score; box: left, top, right, bottom as shares of the image's size. Frame 1 is frame_0000000001.jpg.
Scores go down to 0.1 for hands and 0.01 for objects; the authors advise 0.5.

Messages are read by the rules of protobuf's wire format, without its library; a field that is 0 is not written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grasp_nodes.data.grasp_readers.pickles import read_pickle
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import Side

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_SIDES: tuple[Side, Side] = ("left", "right")


@dataclass(frozen=True)
class DetectedBox:
    """box: (4,) left, top, right, bottom as shares of width and height. score in [0, 1]. side: of a hand, else None."""

    box: np.ndarray
    score: float
    side: Side | None = None


@dataclass(frozen=True)
class FrameDetections:
    """What was detected in one frame."""

    number: int
    hands: tuple[DetectedBox, ...]
    objects: tuple[DetectedBox, ...]


def read_detections(path: Path) -> dict[int, FrameDetections]:
    """The detections of a video by the frame's number.

    Raises:
        InputError: it is no such file; nothing in it is run.
    """
    messages = read_pickle(path, "list of detections")
    if not isinstance(messages, list) or not all(isinstance(one, bytes) for one in messages):
        raise InputError(f"{path}: expected a list of messages (bytes), got a {type(messages).__name__}")
    try:
        found = [_frame(message) for message in messages]
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise InputError(f"{path}: a detection is not a protobuf message ({type(error).__name__}: {error})") from error
    return {one.number: one for one in found}


def _frame(message: bytes) -> FrameDetections:
    number, hands, objects = 0, [], []
    for field, value in _fields(message):
        if field == 2:
            number = _whole(value)
        elif field == 3:
            hands.append(_detected(_inner(value), is_hand=True))
        elif field == 4:
            objects.append(_detected(_inner(value), is_hand=False))
    return FrameDetections(number, tuple(hands), tuple(objects))


def _detected(message: bytes, is_hand: bool) -> DetectedBox:
    box, score, side = np.zeros(4), 0.0, 0
    for field, value in _fields(message):
        if field == 1:
            for part, share in _fields(_inner(value)):
                if 1 <= part <= 4:
                    box[part - 1] = _real(share)
        elif field == 2:
            score = _real(value)
        elif field == 5 and is_hand:
            side = _whole(value)
    return DetectedBox(box, score, _SIDES[side] if is_hand else None)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field: a whole number, or the bytes of everything else."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(message):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _whole(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TypeError("expected a whole number")
    return value


def _inner(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("expected a message")
    return value


def _real(value: int | bytes) -> float:
    return float(struct.unpack("<f", _inner(value))[0])
