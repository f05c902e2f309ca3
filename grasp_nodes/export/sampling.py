"""A demonstration of constant rate from what was recorded: the nearest recorded frame at every tick.

Nothing is made up: where a frame is missing or a hand was not seen, the last known value is repeated and
`observation.tracked` is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import (
    ACTION,
    BETAS,
    CONTACT,
    HAND,
    HAND_SIZE,
    KEYPOINTS,
    OBJECT,
    STATE,
    TRACKED,
    Column,
    Demonstration,
    JointTrack,
    Recording,
    StateRow,
)
from grasp_nodes.export.state_rows import CONTACT_SIZE
from grasp_nodes.hand.anchors import REGION_NAMES
from grasp_nodes.hand.keypoints import KEYPOINT_NAMES
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_KEYPOINTS, NUM_POSE

SIDES = ("auto", "right", "left")
STATES = ("auto", "robot", "hand")
AS_RECORDED = 0.02
"""A recorded rate that differs by less from a whole number of Hz is taken for it, and frames are taken as they are."""
GAP = 1.5
"""Periods from one frame to the next from which on a frame is missing."""
LATE = 0.75
"""Periods by which a recorded frame may be away from the tick that it stands for."""
HIGHEST_RATE = 1000
MOST_FRAMES = 10_000_000
_HAND = "hand"
"""Where the hand's parameters wait until it is known whether they are the state."""
_AXES = ("x", "y", "z")
_POSE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw")


@dataclass(frozen=True)
class SamplingOptions:
    """fps: 1/s, 0 = as recorded. side: of the hand, or auto: that seen in most frames. object_id: '' = that seen most.

    state: what `observation.state` holds, robot or hand; auto: a robot's joints where they were recorded.
    """

    fps: int = 0
    side: str = "auto"
    object_id: str = ""
    state: str = "auto"

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise InputError(f"--side: expected one of {', '.join(SIDES)}, got {self.side!r}")
        if self.state not in STATES:
            raise InputError(f"--state: expected one of {', '.join(STATES)}, got {self.state!r}")
        if not 0 <= self.fps <= HIGHEST_RATE:
            raise InputError(f"--fps: expected a whole number of Hz up to {HIGHEST_RATE}, got {self.fps}")


@dataclass(frozen=True)
class Sampled:
    """demonstration: of constant rate. repeated: frames for which nothing was recorded. unseen: without their hand."""

    demonstration: Demonstration
    repeated: int
    unseen: int


def recorded_rate(stamps: np.ndarray) -> float:
    """1/s, from the median period of increasing stamps (ns); 0 of less than two."""
    periods = np.diff(stamps)
    periods = periods[periods > 0]
    return float(1e9 / np.median(periods)) if len(periods) else 0.0


def main_side(states: Sequence[StateRow]) -> str:
    """The side of the hand that is seen in most frames; '' if there is none."""
    seen = Counter(side for state in states for side in {hand.side for hand in state.hands})
    return max(sorted(seen), key=seen.__getitem__) if seen else ""


def main_object(states: Sequence[StateRow]) -> str:
    """The object that is seen in most frames; '' if there is none."""
    seen = Counter(name for state in states for name in {found.object_id for found in state.objects})
    return max(sorted(seen), key=seen.__getitem__) if seen else ""


def sample(recording: Recording, task: str, options: SamplingOptions) -> Sampled:
    """Make the demonstration.

    Args:
        recording: whose stamps increase. task: what is done.

    Raises:
        InputError: nothing that could be shown: no hand and no robot, or a single frame.
    """
    side = main_side(recording.states) if options.side == "auto" else options.side
    object_id = options.object_id or main_object(recording.states)
    with_robot = recording.joints is not None and options.state != "hand"
    if options.state == "robot" and not with_robot:
        raise InputError(f"{recording.source}: --state robot: the recording has no joints (sensor_msgs/msg/JointState)")
    states = _with_hand(recording, side, with_robot)
    times = np.array([state.stamp for state in states], np.int64)
    if not len(times) and recording.joints is not None:
        times = recording.picture_stamps if len(recording.picture_stamps) else recording.joints.stamps
    if len(times) < 2:
        raise InputError(f"{recording.source}: expected two frames or more, got {len(times)}")
    fps = options.fps or _whole_rate(recording.source, times)
    rows, late = _ticks(recording.source, times, fps)
    stamps = times[rows]
    columns: dict[str, Column] = {}
    unseen = 0
    if states:
        columns, unseen = _state_columns([states[row] for row in rows], side, object_id, late)
    if with_robot and recording.joints is not None:
        if _HAND in columns:
            columns[HAND] = columns.pop(_HAND)
        columns[STATE] = Column(_interpolated(recording.joints, stamps), recording.joints.names)
    else:
        columns[STATE] = columns.pop(_HAND)
    columns[ACTION] = _action(columns[STATE], recording.commands if with_robot else None, stamps)
    pictures = recording.pictures if len(recording.picture_stamps) else None
    demonstration = Demonstration(
        recording.name,
        task,
        fps,
        stamps,
        {name: columns[name] for name in sorted(columns)},
        side,
        object_id,
        recording.is_metric,
        pictures,
        nearest(recording.picture_stamps, stamps) if pictures is not None else np.zeros(0, np.int64),
    )
    return Sampled(demonstration, int(late.sum()), unseen)


def nearest(sorted_stamps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the stamp nearest to each that is wanted; of two as near, the earlier."""
    after = np.clip(np.searchsorted(sorted_stamps, wanted), 1, max(len(sorted_stamps) - 1, 1))
    if len(sorted_stamps) == 1:
        return np.zeros(len(wanted), np.int64)
    before = after - 1
    return np.where(wanted - sorted_stamps[before] <= sorted_stamps[after] - wanted, before, after)


def _with_hand(recording: Recording, side: str, with_robot: bool) -> list[StateRow]:
    """The states from the first to the last with the hand; with a robot all of them."""
    states = list(recording.states)
    if with_robot or not states:
        return states
    seen = [row for row, state in enumerate(states) if any(hand.side == side for hand in state.hands)]
    if not seen:
        told = f"no {side} hand" if side else "no hand"
        raise InputError(f"{recording.source}: {told} was found in any of its {len(states)} frames")
    return states[seen[0] : seen[-1] + 1]


def _whole_rate(source: str, times: np.ndarray) -> int:
    rate = recorded_rate(times)
    if not 0.5 <= rate <= HIGHEST_RATE:
        raise InputError(f"{source}: recorded at {rate:.3g} Hz; give the data set's rate with --fps")
    return max(round(rate), 1)


def _ticks(source: str, times: np.ndarray, fps: int) -> tuple[np.ndarray, np.ndarray]:
    """Row of the recorded frame at every tick, and whether it is too far away to count as one of its own."""
    periods = np.diff(times) * (fps / 1e9)
    rate = recorded_rate(times)
    if abs(rate - fps) < AS_RECORDED * fps and (periods < GAP).all():
        return np.arange(len(times)), np.zeros(len(times), bool)
    count = int(np.floor((int(times[-1]) - int(times[0])) * (fps / 1e9) + 1e-6)) + 1
    if count > MOST_FRAMES:
        raise InputError(f"{source}: {count} frames at {fps} Hz: its stamps jump, or it is too long")
    ticks = times[0] + np.round(np.arange(count) * (1e9 / fps)).astype(np.int64)
    rows = nearest(times, ticks)
    late = np.abs(times[rows] - ticks) * (fps / 1e9) > LATE
    # A frame that is missing is the last one again, never one from the future.
    rows[late] = np.searchsorted(times, ticks[late], side="right") - 1
    return rows, late


def _state_columns(
    states: Sequence[StateRow], side: str, object_id: str, late: np.ndarray
) -> tuple[dict[str, Column], int]:
    count = len(states)
    hand, betas = np.full((count, HAND_SIZE), np.nan), np.full((count, NUM_BETAS), np.nan)
    keypoints, pose = np.full((count, NUM_KEYPOINTS * 3), np.nan), np.full((count, 7), np.nan)
    contact, tracked = np.zeros((count, CONTACT_SIZE)), np.zeros((count, 2))
    for row, state in enumerate(states):
        is_new = not state.is_held and not late[row]
        found = max((one for one in state.hands if one.side == side), key=lambda one: one.score, default=None)
        if found is not None:
            hand[row], betas[row], keypoints[row] = found.params, found.betas, found.keypoints.reshape(-1)
            tracked[row, 0] = is_new
        thing = next((one for one in state.objects if one.object_id == object_id), None)
        if thing is not None:
            pose[row] = thing.pose
            tracked[row, 1] = is_new
        touched = state.contact.get((side, object_id))
        if touched is not None:
            contact[row] = touched
    unseen = int((tracked[:, 0] == 0).sum())
    columns = {TRACKED: Column(_float32(tracked), ("hand", "object"))}
    if np.isfinite(hand).any():
        columns[_HAND] = Column(_carried(hand), _hand_names(side))
        columns[BETAS] = Column(_carried(betas), tuple(f"{side}.beta_{index}" for index in range(NUM_BETAS)))
        names = tuple(f"{side}.{name}.{axis}" for name in KEYPOINT_NAMES for axis in _AXES)
        columns[KEYPOINTS] = Column(_carried(keypoints), names)
        columns[CONTACT] = Column(_float32(contact), (*(f"{side}.{name}" for name in REGION_NAMES), f"{side}.any"))
    if np.isfinite(pose).any():
        columns[OBJECT] = Column(_carried(_continuous(pose)), tuple(f"object.{name}" for name in _POSE_NAMES))
    return columns, unseen


def _hand_names(side: str) -> tuple[str, ...]:
    names = [f"{part}.{axis}" for part in ("transl", "global_orient") for axis in _AXES]
    names += [f"hand_pose.{index}" for index in range(NUM_POSE)]
    return tuple(f"{side}.{name}" for name in names)


def _carried(values: np.ndarray) -> np.ndarray:
    """Rows that are unknown become the last known one; before the first, that one."""
    known = np.isfinite(values).all(axis=1)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return _float32(values[np.where(last < 0, int(np.argmax(known)), last)])


def _continuous(pose: np.ndarray) -> np.ndarray:
    """The same rotations, of the two signs of each quaternion that nearer to the one before."""
    known = np.flatnonzero(np.isfinite(pose).all(axis=1))
    turns = pose[known, 3:]
    flips = np.where((turns[1:] * turns[:-1]).sum(axis=1) < 0, -1.0, 1.0)
    signs = np.cumprod(np.concatenate([[1.0], flips])) if len(known) else np.zeros(0)
    result = pose.copy()
    result[known, 3:] = turns * signs[:, None]
    return result


def _interpolated(track: JointTrack, stamps: np.ndarray) -> np.ndarray:
    # From the first stamp on, or float64 would round nanoseconds since 1970 to a quarter of a microsecond.
    own, wanted = (track.stamps - track.stamps[0]).astype(float), (stamps - track.stamps[0]).astype(float)
    return _float32(np.stack([np.interp(wanted, own, position) for position in track.positions.T], axis=1))


def _action(state: Column, commands: JointTrack | None, stamps: np.ndarray) -> Column:
    """What was commanded; else the state of the next frame, the last one's own."""
    if commands is not None:
        return Column(_interpolated(commands, stamps), commands.names)
    return Column(np.concatenate([state.values[1:], state.values[-1:]]), state.names)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
