"""Human hands in, joints of a robot hand out."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, cast

from geometry_msgs.msg import PoseArray, PoseStamped
from grasp_msgs.msg import GraspArray, HandObjectState, HandPoseArray
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.nodes.node_base import LATCHED, GraspNode
from grasp_nodes.nodes.parameters import RetargetingParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.source_status import watch_object
from grasp_nodes.nodes.worker import InferenceWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from grasp_nodes.contact.interaction import HandObjectState as HandObjectNoun
    from grasp_nodes.hand.parameters import Side
    from grasp_nodes.objects.model import ObjectModel
    from grasp_nodes.retargeting.retargeter import FrameRetargeter, RetargetSettings
    from grasp_nodes.retargeting.robot_hand import RobotHand
    from grasp_nodes.retargeting.robot_states import RobotHandState
    from grasp_nodes.retargeting.state_retargeter import StateRetargeter

STATE, HANDS, GRASPS = "hand_object/state", "hands", "grasps"
JOINTS, BASE, DESCRIPTION, MARKERS = "robot/joint_states", "robot/base_pose", "robot_description", "robot/markers"
GRASP_POSES, GRASP_JOINTS = "robot/grasp_poses", "robot/grasp_joints"
TF_QOS = QoSProfile(depth=100)


class RetargetingNode(GraspNode[RetargetingParameters]):
    """Answers states, or poses of hands, and sets of grasps, on a worker."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("retargeting_node", RetargetingParameters, **node_options)
        settings = self.settings
        self._retargeter: StateRetargeter | None = None
        self._for_grasps: StateRetargeter | None = None
        self._objects: dict[str, ObjectModel] = {}
        self._prefix = settings.frame_prefix or f"robot_{settings.side}/"
        self._outputs = {
            JOINTS: self.advertise(JointState, JOINTS),
            BASE: self.advertise(PoseStamped, BASE),
            DESCRIPTION: self.advertise(String, DESCRIPTION, LATCHED),
            MARKERS: self.advertise(MarkerArray, MARKERS),
            GRASP_POSES: self.advertise(PoseArray, GRASP_POSES, LATCHED),
            GRASP_JOINTS: self.advertise(JointTrajectory, GRASP_JOINTS, LATCHED),
        }
        self._tf = self.create_publisher(TFMessage, "/tf", TF_QOS) if settings.publish_tf else None
        self._worker: InferenceWorker[Callable[[], None]] = InferenceWorker(
            "retargeting", self._prepare, lambda work: work(), self.fail, settings.queue_size
        )
        self._followed = STATE if settings.follow == "state" else HANDS
        if settings.follow == "state":
            self.subscribe(HandObjectState, STATE, self._on_followed)
        else:
            self.subscribe(HandPoseArray, HANDS, self._on_followed)
        self.subscribe(GraspArray, GRASPS, self._on_grasps, LATCHED)
        self._worker.start()
        watch_object(self, self._on_object)

    def silence_reason(self) -> str:
        """Which of the inputs is missing."""
        if not self._worker.ready:
            return "the robot hand is being loaded"
        if self._followed not in self.statistics.inputs:
            return f"no message on {self._followed} ({self.publishers_of(self._followed)} publishers)"
        return f"messages on {self._followed} stopped coming"

    def on_reset(self, stamp: int | None = None) -> None:  # noqa: ARG002 - the interface
        """Forget the last frame."""
        self._worker.call(self._reset)

    def close(self) -> bool:
        """Stop the worker."""
        return self._worker.stop()

    # -- inputs (the executor's thread)

    def _on_followed(self, message: Any) -> None:
        self.checked_stamp(self._followed, message.header)
        arrived = time.monotonic()
        if self._worker.submit(lambda: self.guard(self._followed, self._follow, message, arrived)) is not None:
            self.statistics.dropped("newer state came")

    def _on_grasps(self, message: GraspArray) -> None:
        self.checked_stamp(GRASPS, message.header)
        self._worker.call(lambda: self.guard(GRASPS, self._answer_grasps, message))

    def _on_object(self, spec: str, object_id: str, scale: float) -> None:
        self._worker.call(lambda: self.guard("object", self._take_object, spec, object_id, scale))

    # -- work (the worker's thread)

    def _prepare(self) -> None:
        from grasp_nodes.retargeting.hand_catalogue import find_robot_hand, open_robot_hand
        from grasp_nodes.retargeting.retargeter import Mode, Retargeter, RetargetSettings, Wrist
        from grasp_nodes.retargeting.robot_description import described_with_uris
        from grasp_nodes.retargeting.state_retargeter import StateRetargeter

        parameters, started = self.settings, time.monotonic()
        self.get_logger().info("loading; at the very first run the solver is compiled, which takes a minute or so")
        side = cast("Side", parameters.side)
        hand = open_robot_hand(parameters.robot, side)
        settings = RetargetSettings(
            cast(Mode, parameters.mode),
            cast(Wrist, parameters.wrist),
            parameters.smoothing,
            parameters.velocity_limits,
            parameters.scale,
            parameters.fingertip_offset,
            parameters.squeeze,
        )
        path = find_robot_hand(parameters.robot, side)
        self.publish(self._outputs[DESCRIPTION], DESCRIPTION, String(data=described_with_uris(path)))
        own = Retargeter(hand, RetargetSettings(squeeze=parameters.squeeze))
        own.warm_up()
        self._for_grasps = StateRetargeter(own, self._load_hand_model)
        self._retargeter = StateRetargeter(self._follower(hand, settings), self._load_hand_model)
        self.facts |= {
            "robot": hand.name,
            "robot side": hand.side,
            "description": str(path),
            "joints": f"{len(hand.kinematics.joint_names)}, {hand.kinematics.num_driven} driven",
        }
        self.get_logger().info(
            f"ready after {time.monotonic() - started:.1f} s: {hand.name}, {self.facts['joints']}, mode "
            f"{parameters.mode}, {'working' if self.enabled else 'disabled: call ~/enable'}"
        )

    def _follower(self, hand: RobotHand, settings: RetargetSettings) -> FrameRetargeter:
        if self.settings.backend == "own":
            from grasp_nodes.retargeting.retargeter import Retargeter

            return Retargeter(hand, settings)
        from grasp_nodes.retargeting.dex_retargeting_backend import DexRetargeting

        return DexRetargeting(hand, settings)

    def _load_hand_model(self) -> Any:
        from grasp_nodes.hand.files import load_hand_model

        return load_hand_model(cast("Side", self.settings.side), self.settings.hand_model or None)

    def _take_object(self, spec: str, object_id: str, scale: float) -> None:
        from grasp_nodes.objects.loading import load_object

        try:
            model = load_object(spec, object_id or None, scale)
        except GraspNodesError as error:
            if self.settings.object:
                self.fail(error)
                return
            raise
        self._objects[model.object_id] = model
        if self._retargeter is not None:
            self._retargeter.add_object(model)

    def _reset(self) -> None:
        if self._retargeter is not None:
            self._retargeter.reset()

    def _follow(self, message: Any, arrived: float) -> None:
        if self._retargeter is None:
            return
        state = self._read(message)
        robot = self._retargeter.update(state)
        if robot is None:
            self.useful(state.status_text or f"no {self.settings.side} hand was seen")
            return
        self._publish_robot(robot, self._retargeter.retargeter.hand, message.header)
        self.statistics.latency(time.monotonic() - arrived)
        self.useful()

    def _read(self, message: Any) -> HandObjectNoun:
        if self.settings.follow == "state":
            from grasp_nodes.nodes.conversions.states import from_state

            return from_state(message)
        from grasp_nodes.contact.interaction import HandObjectState as HandObjectNoun
        from grasp_nodes.nodes.conversions.hands import from_hand_pose_array

        hands = from_hand_pose_array(message)
        return HandObjectNoun(self.stamp_of(message.header), message.header.frame_id, hands)

    def _publish_robot(self, robot: RobotHandState, hand: RobotHand, header: Any) -> None:
        from grasp_nodes.nodes.conversions.robots import (
            to_base_pose,
            to_joint_state,
            to_link_transforms,
            to_robot_marker,
        )

        self.publish(self._outputs[JOINTS], JOINTS, to_joint_state(robot, hand, header))
        self.publish(self._outputs[BASE], BASE, to_base_pose(robot, header))
        if self._tf is not None:
            self.publish(self._tf, "/tf", TFMessage(transforms=to_link_transforms(robot, hand, header, self._prefix)))
        if self.settings.publish_markers and self._outputs[MARKERS].get_subscription_count():
            markers = MarkerArray(markers=[to_robot_marker(robot, hand, header)])
            self.publish(self._outputs[MARKERS], MARKERS, markers)

    def _answer_grasps(self, message: GraspArray) -> None:
        from dataclasses import replace

        from grasp_nodes.nodes.conversions.grasps import from_grasp_array
        from grasp_nodes.nodes.conversions.robots import to_grasp_messages

        if self._for_grasps is None:
            return
        grasps = from_grasp_array(message)
        # The mesh that a message names is not opened: whoever can publish could name any file.
        known = list(self._objects.values())
        model = self._objects.get(grasps.object_id, known[0] if len(known) == 1 else None)
        if model is None:
            raise InputError(
                f"the surface of the object {grasps.object_id!r} is not known here: give its mesh as parameter 'object'"
            )
        asked = replace(grasps, grasps=grasps.grasps[: self.settings.max_grasps])
        found = self._for_grasps.of_grasps(asked, model)
        if len(found.grasps) < len(asked.grasps):
            self.statistics.dropped("grasp of the other hand")
        poses, joints = to_grasp_messages(found, message.header)
        self.publish(self._outputs[GRASP_POSES], GRASP_POSES, poses)
        self.publish(self._outputs[GRASP_JOINTS], GRASP_JOINTS, joints)
        self.useful("" if found.grasps else f"no grasp by a {self.settings.side} hand among {len(asked.grasps)}")


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(RetargetingNode, args)


if __name__ == "__main__":
    sys.exit(main())
