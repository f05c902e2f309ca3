"""Records topics to an MCAP bag, with the definitions of all message types in it."""

from __future__ import annotations

import importlib
import itertools
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.bag_recording import BagRecording
from grasp_nodes.nodes.node_base import GraspNode, latched, qos_profile
from grasp_nodes.nodes.parameters import RecorderParameters
from grasp_nodes.nodes.process import run_node

TYPES = {
    "camera/color/image_raw": "sensor_msgs/msg/Image",
    "camera/color/camera_info": "sensor_msgs/msg/CameraInfo",
    "camera/depth/image_raw": "sensor_msgs/msg/Image",
    "camera/depth/camera_info": "sensor_msgs/msg/CameraInfo",
    "evidence": "grasp_msgs/msg/Evidence",
    "hand_object/state": "grasp_msgs/msg/HandObjectState",
    "hands": "grasp_msgs/msg/HandPoseArray",
    "objects/pose": "grasp_msgs/msg/ObjectPose",
    "contact_map": "grasp_msgs/msg/ContactMap",
    "hand_model_info": "grasp_msgs/msg/HandModelInfo",
    "markers": "visualization_msgs/msg/MarkerArray",
    "truth/state": "grasp_msgs/msg/HandObjectState",
    "source/status": "std_msgs/msg/String",
    "robot/joint_states": "sensor_msgs/msg/JointState",
    "robot/joint_commands": "sensor_msgs/msg/JointState",
    "robot/base_pose": "geometry_msgs/msg/PoseStamped",
    "robot_description": "std_msgs/msg/String",
    "grasps": "grasp_msgs/msg/GraspArray",
    "/tf": "tf2_msgs/msg/TFMessage",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
LATCHED_TOPICS = ("hand_model_info", "source/status", "robot_description")
EVERYTHING = "all"
"""Entry of the parameter `topics` that stands for all of `TYPES`."""
LOOK_S = 0.5
"""s between looks at the room that is left."""


class RecorderNode(GraspNode[RecorderParameters]):
    """Records from its start (parameter autostart) or from ~/start, until ~/stop, a full disk, or its end.

    ~/save_demo keeps what was recorded so far as a demonstration of its own and goes on with the next.
    """

    def __init__(self, **node_options: Any) -> None:
        super().__init__("recorder_node", RecorderParameters, **node_options)
        self._recording: BagRecording | None = None
        self._recording_lock = threading.Lock()
        self._began = 0.0
        entries = [name for entry in self.settings.topics for name in (TYPES if entry == EVERYTHING else (entry,))]
        self._topics = dict(parse_topic(entry) for entry in entries)
        for topic, message_type in self._topics.items():
            self.subscribe(load_type(message_type), topic, self._writer_of(topic), self._qos_of(topic), raw=True)
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/save_demo", self._on_save_demo)
        self.create_timer(LOOK_S, self._check_room)
        if self.enabled:
            self._start()

    def silence_reason(self) -> str:
        """Which topics never came."""
        if self._recording is None:
            return "not recording: call ~/start"
        absent = [topic for topic in self._topics if topic not in self.statistics.inputs]
        return f"no message on {', '.join(absent)}" if absent else "all topics stopped"

    def on_enabled(self) -> None:
        """Recording follows ~/enable."""
        if self.enabled:
            self._start()
        else:
            self._stop()

    def close(self) -> bool:
        """Finish the bag."""
        self._stop()
        return True

    def _qos_of(self, topic: str) -> QoSProfile:
        if topic in LATCHED_TOPICS:
            return latched(self.settings.input_depth)
        return qos_profile(self.settings.input_reliability, self.settings.input_depth)

    def _writer_of(self, topic: str) -> Any:
        def write(message: Any) -> None:
            with self._recording_lock:
                if self._recording is None:
                    return
                try:
                    self._recording.write(self.resolve_topic_name(topic), time.time_ns(), bytes(message))
                except OSError as error:
                    failure: OSError | None = error
                else:
                    failure = None
            if failure is None:
                self.useful()
            else:
                self._give_up(f"the bag cannot be written any more ({failure.strerror or failure})")

        return write

    def _start(self) -> str:
        with self._recording_lock:
            if self._recording is not None:
                return f"already recording to {self._recording.folder}"
            folder = Path(self.settings.output or f"grasp_nodes_{datetime.now():%Y_%m_%d-%H_%M_%S_%f}").resolve()
            recording = BagRecording(folder, salvages=True)
            if room := self._too_little_room(recording):
                recording.discard()
                raise InputError(room)
            for topic, message_type in self._topics.items():
                recording.add_topic(self.resolve_topic_name(topic), message_type)
            self._recording, self._began = recording, time.monotonic()
        self.facts["bag"] = str(folder)
        self.facts.pop("stopped", None)
        text = f"recording {len(self._topics)} topics to {folder}"
        self.get_logger().info(text)
        return text

    def _stop(self, as_demo: bool = False) -> str:
        """Finish the bag, under its own name or that of the next demonstration; returns what to tell of it."""
        with self._recording_lock:
            recording, self._recording = self._recording, None
        if recording is None:
            return "not recording"
        seconds = time.monotonic() - self._began
        try:
            if as_demo:
                demo = {"task": self.settings.task, "messages": recording.messages, "seconds": round(seconds, 3)}
                folder = recording.close(_next_demo(recording.folder), demo)
            else:
                folder = recording.close()
        except OSError as error:
            text = f"bag {recording.folder}: not finished, there is no room even for its end ({error})"
            self.get_logger().error(text)
            return text
        text = f"wrote {recording.messages} messages to {folder}"
        self.get_logger().info(text)
        return text

    def _give_up(self, reason: str) -> None:
        """Stop for want of room, and say so; the node lives on."""
        text = f"recording stopped: {reason}; {self._stop()}"
        self.facts["stopped"] = text
        self.get_logger().error(text)
        self.set_enabled(False)

    def _check_room(self) -> None:
        recording = self._recording
        if recording is not None and (room := self._too_little_room(recording)):
            self._give_up(room)

    def _too_little_room(self, recording: BagRecording) -> str:
        """What is to be said of a disk that is nearly full; empty while there is room."""
        free, least = recording.free_bytes() / 1e6, self.settings.min_free_mb
        if free >= least:
            return ""
        return (
            f"{recording.folder.parent}: {free:.0f} MB are free, {least:.0f} MB have to stay so (parameter min_free_mb)"
        )

    def _on_start(self, _request: Any, response: Any) -> Any:
        try:
            response.message, response.success = self._start(), True
        except InputError as error:
            response.message, response.success = str(error), False
        else:
            self.set_enabled(True)
        return response

    def _on_stop(self, _request: Any, response: Any) -> Any:
        response.message, response.success = self._stop(), True
        self.set_enabled(False)
        return response

    def _on_save_demo(self, _request: Any, response: Any) -> Any:
        if self._recording is None:
            response.message, response.success = "not recording: call ~/start", False
            return response
        response.message, response.success = self._stop(as_demo=True), True
        try:
            response.message += f"; {self._start()}"
        except InputError as error:
            response.message += f"; recording has ended: {error}"
            self.set_enabled(False)
        return response


def _next_demo(folder: Path) -> Path:
    """The first name of a demonstration beside a bag that is not taken."""
    numbers = itertools.count()
    return next(
        path for number in numbers if not (path := folder.with_name(f"{folder.name}_demo_{number:03d}")).exists()
    )


def parse_topic(entry: str) -> tuple[str, str]:
    """Topic and message type of an entry of the parameter `topics`.

    Raises:
        InputError: the topic's type is neither given nor known.
    """
    topic, separator, message_type = entry.partition(":")
    if not separator:
        if topic not in TYPES:
            raise InputError(
                f"parameter 'topics': the type of {topic!r} is not known; write it as {topic}:package/msg/Type. "
                f"Known are {', '.join(TYPES)}"
            )
        return topic, TYPES[topic]
    if message_type.count("/") != 2:
        raise InputError(f"parameter 'topics': expected topic:package/msg/Type, got {entry!r}")
    return topic, message_type


def load_type(message_type: str) -> Any:
    """Class of a message type such as "sensor_msgs/msg/Image".

    Raises:
        InputError: its package is not installed or has no such message.
    """
    package, kind, name = message_type.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"message type {message_type!r} is not installed: {error}") from error


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RecorderNode, args)


if __name__ == "__main__":
    sys.exit(main())
