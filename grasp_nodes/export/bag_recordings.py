"""Bags (MCAP, db3, ROS 1) as recordings: states, the joints of a robot, and the camera's pictures, without ROS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.data.bag_source import COLOR_TYPES, BagSource
from grasp_nodes.data.message_types import typestore
from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import JointTrack, Recording, StateRow
from grasp_nodes.export.state_rows import row_of_message

STATE_TYPE = "grasp_msgs/msg/HandObjectState"
JOINT_TYPE = "sensor_msgs/msg/JointState"
MOST_MESSAGES = 5_000_000
"""States and joint states of one bag: half a day at 100 Hz. More is no demonstration."""


def read_bag(
    path: Path, state_topic: str = "", joint_topic: str = "", command_topic: str = "", with_pictures: bool = True
) -> Recording:
    """Read a bag.

    Args:
        path: bag folder or file. state_topic: of hands and objects; joint_topic: of the robot's joints; command_topic:
            of what they were told. Empty: the one of its type (commands: with "command" in its name), if there is one.
        with_pictures: whether the camera's frames are wanted.

    Raises:
        InputError: it cannot be read, lacks a topic, or several could be meant; the message lists them.
    """
    with _reader(path) as reader:
        kinds = {str(connection.topic): str(connection.msgtype) for connection in reader.connections}
        counts = dict.fromkeys(kinds, 0)
        for connection in reader.connections:
            counts[str(connection.topic)] += int(connection.msgcount)
        kinds = {topic: kind for topic, kind in kinds.items() if counts[topic]}
        state = _choose(path, kinds, STATE_TYPE, state_topic, "--state-topic", lambda topic: "truth" not in topic)
        joint = _choose(path, kinds, JOINT_TYPE, joint_topic, "--joint-topic", _is_joints)
        command = _choose(path, kinds, JOINT_TYPE, command_topic, "--command-topic", lambda topic: "command" in topic)
        if not state and not joint:
            raise InputError(
                f"{path}: holds neither states ({STATE_TYPE}) nor joints ({JOINT_TYPE}); the bag has: {_listing(kinds)}"
            )
        chosen = [topic for topic in (state, joint, command) if topic]
        if sum(counts[topic] for topic in chosen) > MOST_MESSAGES:
            raise InputError(f"{path}: more than {MOST_MESSAGES} messages on {', '.join(chosen)}: cut the bag")
        states: list[StateRow] = []
        is_metric = True
        joints: dict[str, list[tuple[int, Any]]] = {joint: [], command: []}
        connections = [connection for connection in reader.connections if connection.topic in chosen]
        for connection, received, data in reader.messages(connections):
            message = reader.deserialize(data, connection.msgtype)
            if connection.topic == state:
                states.append(_state(path, state, message))
                is_metric &= all(bool(one.is_metric) for one in (*message.hands, *message.objects))
            else:
                joints[connection.topic].append((_stamp(message, received), message))
    faults: list[str] = []
    joint_track = _joint_track(path, joint, joints[joint], faults) if joint else None
    command_track = _joint_track(path, command, joints[command], faults) if command else None
    pictures, stamps = None, np.zeros(0, np.int64)
    if with_pictures and any(kind in COLOR_TYPES and _is_color(topic) for topic, kind in kinds.items()):
        source = BagSource(path)
        pictures, stamps = source.__iter__, np.array(source.stamps, np.int64)
    return Recording(
        path.name if path.is_dir() else path.stem,
        str(path),
        states,
        joint_track,
        command_track,
        pictures,
        stamps,
        is_metric=is_metric,
        joint_faults=tuple(faults),
    )


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """The open bag; whatever a damaged one makes rosbags raise becomes an InputError."""
    from rosbags.highlevel import AnyReader

    try:
        with AnyReader([path], default_typestore=typestore()) as reader:
            yield reader
    except InputError:
        raise
    except Exception as error:  # rosbags checks little: changed bytes can raise anything from any of its layers
        raise InputError(f"{path}: cannot be read as a recording: {type(error).__name__}: {error}") from error


def _choose(path: Path, kinds: Mapping[str, str], kind: str, asked: str, option: str, fits: Any) -> str:
    found = sorted(topic for topic, one in kinds.items() if one == kind)
    if asked:
        if asked not in found:
            raise InputError(f"{path}: no topic {asked} of type {kind}; the bag has: {_listing(kinds)}")
        return asked
    likely = [topic for topic in found if fits(topic)]
    if len(likely) > 1:
        raise InputError(f"{path}: several topics could be meant ({', '.join(likely)}): name one with {option}")
    return likely[0] if likely else ""


def _listing(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{topic} ({kind})" for topic, kind in sorted(kinds.items())) or "no messages"


def _is_color(topic: str) -> bool:
    return "depth" not in topic.lower() and "mask" not in topic.lower()


def _state(path: Path, topic: str, message: Any) -> StateRow:
    try:
        return row_of_message(message)
    except InputError as error:
        raise InputError(f"{path} {topic}: {error}") from error


def _is_joints(topic: str) -> bool:
    """Neither what joints were told, nor joints of proposed grasps."""
    return "command" not in topic and "grasp" not in topic


def _stamp(message: Any, received: int) -> int:
    """ns; of a publisher that stamps nothing, when the message was received."""
    stamp = int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)
    return stamp or int(received)


def _joint_track(path: Path, topic: str, messages: list[tuple[int, Any]], faults: list[str]) -> JointTrack:
    """Positions in the order of the first message's names; what lacks a joint or goes back in time is left out."""
    names = tuple(str(name) for name in messages[0][1].name)
    if not names or len(set(names)) != len(names):
        raise InputError(f"{path} {topic}: expected joints of different names, got {', '.join(names) or 'none'}")
    order = {name: index for index, name in enumerate(names)}
    stamps: list[int] = []
    rows: list[np.ndarray] = []
    lacking = backwards = 0
    for stamp, message in messages:
        position = np.asarray(message.position, np.float64)
        said = [str(name) for name in message.name]
        if len(position) != len(said) or not set(names) <= set(said):
            lacking += 1
            continue
        if stamps and stamp <= stamps[-1]:
            backwards += 1
            continue
        row = np.empty(len(names))
        for name, value in zip(said, position, strict=True):
            if name in order:
                row[order[name]] = value
        stamps.append(stamp)
        rows.append(row)
    if not rows:
        raise InputError(f"{path} {topic}: no message has a position for each of {', '.join(names)}")
    if lacking:
        faults.append(f"{topic}: {lacking} messages lack a joint's position and are left out")
    if backwards:
        faults.append(f"{topic}: {backwards} messages are not later than the one before and are left out")
    return JointTrack(names, np.array(stamps, np.int64), np.array(rows))
