"""A reconstructed clip as a bag: the messages that the live graph would have published, under its topics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.serialization import serialize_message
from tf2_msgs.msg import TFMessage

from grasp_nodes.nodes.bag_recording import BagRecording
from grasp_nodes.nodes.conversions.hand_model import to_hand_model_info
from grasp_nodes.nodes.conversions.hands import to_hand_pose_array
from grasp_nodes.nodes.conversions.images import rgb_to_compressed, to_camera_info
from grasp_nodes.nodes.conversions.scene import to_transforms
from grasp_nodes.nodes.conversions.states import to_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grasp_nodes.contact.interaction import HandObjectState
    from grasp_nodes.geometry.camera import Frame
    from grasp_nodes.hand.model import HandModel

FIRST_STAMP = 1_000_000_000
"""ns: where a clip's clock begins at 0, which in a header would mean "no time", the bag begins here."""
STATE, HANDS, OBJECTS = "/hand_object/state", "/hands", "/objects/pose"
CONTACT, MODEL_INFO, TRUTH, TRANSFORMS = "/contact_map", "/hand_model_info", "/truth/state", "/tf"
CAMERA_INFO, IMAGE = "/camera/color/camera_info", "/camera/color/image_raw/compressed"
TOPICS = {
    STATE: "grasp_msgs/msg/HandObjectState",
    HANDS: "grasp_msgs/msg/HandPoseArray",
    OBJECTS: "grasp_msgs/msg/ObjectPose",
    CONTACT: "grasp_msgs/msg/ContactMap",
    MODEL_INFO: "grasp_msgs/msg/HandModelInfo",
    TRANSFORMS: "tf2_msgs/msg/TFMessage",
    CAMERA_INFO: "sensor_msgs/msg/CameraInfo",
}


class TrajectoryRecording:
    """Writes states in time order to a bag folder, which appears whole when it is closed."""

    def __init__(
        self, folder: Path, hand_models: Iterable[HandModel], images: bool = False, truth: bool = False
    ) -> None:
        """Begin the bag.

        Args:
            folder: of the bag; must not exist. hand_models: of the states' hands, announced at the start.
            images: whether the pictures go into it, as JPEG. truth: whether true states do.

        Raises:
            InputError: the folder exists already or cannot be written.
        """
        self._bag = BagRecording(folder)
        self._images, self._hand_models = images, list(hand_models)
        self._offset: int | None = None
        topics = {**TOPICS, **({IMAGE: "sensor_msgs/msg/CompressedImage"} if images else {})}
        topics |= {TRUTH: TOPICS[STATE]} if truth else {}
        for topic, message_type in topics.items():
            self._bag.add_topic(topic, message_type)

    def write(self, frame: Frame, state: HandObjectState, truth: HandObjectState | None = None) -> None:
        """Append a frame.

        Args:
            frame: with its picture. state: of its stamp. truth: the true state, where it is known.
        """
        if self._offset is None:
            self._offset = FIRST_STAMP - state.stamp if state.stamp <= 0 else 0
            for model in self._hand_models:
                self._put(MODEL_INFO, state.stamp + self._offset, to_hand_model_info(model))
        stamp = state.stamp + self._offset
        message = to_state(_at(state, stamp))
        self._put(CAMERA_INFO, stamp, to_camera_info(frame.camera, stamp))
        if self._images:
            self._put(IMAGE, stamp, rgb_to_compressed(frame.color, stamp, frame.camera.frame_id))
        transforms = to_transforms(state, message.header)
        if transforms:
            self._put(TRANSFORMS, stamp, TFMessage(transforms=transforms))
        self._put(STATE, stamp, message)
        self._put(HANDS, stamp, to_hand_pose_array(state.hands, message.header))
        for found in message.objects:
            self._put(OBJECTS, stamp, found)
        for contact in message.contact_maps:
            self._put(CONTACT, stamp, contact)
        if truth is not None:
            self._put(TRUTH, stamp, to_state(_at(truth, stamp)))

    def discard(self) -> None:
        """Give up a bag that is not closed yet; nothing is left of it."""
        self._bag.discard()

    def close(self) -> Path:
        """Finish the bag; returns its folder."""
        return self._bag.close()

    def _put(self, topic: str, stamp: int, message: Any) -> None:
        self._bag.write(topic, stamp, bytes(serialize_message(message)))


def _at(state: HandObjectState, stamp: int) -> HandObjectState:
    return replace(state, stamp=stamp)
