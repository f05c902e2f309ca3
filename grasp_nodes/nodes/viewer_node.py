"""Shows images, hands, objects and contact on a page in the browser."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from grasp_msgs.msg import HandObjectState
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2

from grasp_nodes.nodes.node_base import HARDWARE_ID, RELIABLE, GraspNode
from grasp_nodes.nodes.parameters import ViewerParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.source_status import watch_object
from grasp_nodes.nodes.worker import InferenceWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from grasp_nodes.retargeting.robot_hand import RobotHand
    from grasp_nodes.viewer.page import ViewerPage

COLOR, COLOR_INFO, STATE = "camera/color/image_raw", "camera/color/camera_info", "hand_object/state"
JOINTS, BASE = "robot/joint_states", "robot/base_pose"
CLOUD = "object_cloud"
QUEUE_SIZE = 8
FORGOTTEN_SECONDS = 10.0
"""After which what a node said in /diagnostics, mostly once a second, counts no more: it has ended."""


class ViewerNode(GraspNode[ViewerParameters]):
    """Hands what arrives to the page, on a worker, so that a slow page slows nobody else."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("viewer_node", ViewerParameters, **node_options)
        self._page: ViewerPage | None = None
        self._robot: RobotHand | None = None
        self._robot_messages: dict[str, tuple[int, Any]] = {}
        self._reasons: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._worker: InferenceWorker[Callable[[], None]] = InferenceWorker(
            "page", self._prepare, lambda show: show(), self.fail, QUEUE_SIZE
        )
        self.subscribe(Image, COLOR, self._on_image)
        self.subscribe(CameraInfo, COLOR_INFO, self._on_info)
        self.subscribe(HandObjectState, STATE, self._on_state)
        if self.settings.robot:
            self.subscribe(JointState, JOINTS, self._on_robot_part(JOINTS))
            self.subscribe(PoseStamped, BASE, self._on_robot_part(BASE))
        if self.settings.show_cloud:
            self.subscribe(PointCloud2, CLOUD, self._on_cloud)
        self.subscribe(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._worker.start()
        watch_object(self, self._on_object)
        self.create_timer(1.0, self._show_status)

    def silence_reason(self) -> str:
        """Which of the inputs is missing."""
        if not self._worker.ready:
            return "the page is being opened"
        for topic in (COLOR, STATE):
            if topic not in self.statistics.inputs:
                return f"no message on {topic} ({self.publishers_of(topic)} publishers)"
        return "images and states stopped coming"

    def close(self) -> bool:
        """Stop serving the page."""
        has_ended = self._worker.stop()
        if self._page is not None:
            self._page.close()
        return has_ended

    # -- inputs (the executor's thread)

    def _show(self, topic: str, work: Callable[..., None], *arguments: Any) -> None:
        if self._worker.submit(lambda: self.guard(topic, work, *arguments)) is not None:
            self.statistics.dropped("page is behind")

    def _on_image(self, message: Image) -> None:
        self._show(COLOR, self._show_image, message)

    def _on_info(self, message: CameraInfo) -> None:
        self._show(COLOR_INFO, self._show_camera, message)

    def _on_state(self, message: HandObjectState) -> None:
        self._show(STATE, self._show_state, message)

    def _on_cloud(self, message: PointCloud2) -> None:
        self._show(CLOUD, self._show_cloud, message)

    def _on_robot_part(self, topic: str) -> Callable[[Any], None]:
        """Joints and base of one stamp are shown together."""

        def take(message: Any) -> None:
            self._robot_messages[topic] = self.stamp_of(message.header), message
            newest = list(self._robot_messages.values())
            if len(newest) == 2 and newest[0][0] == newest[1][0]:
                self._show(JOINTS, self._show_robot, self._robot_messages[JOINTS][1], self._robot_messages[BASE][1])

        return take

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self.get_fully_qualified_name()
        graph = own.rpartition("/")[0]
        for status in message.status:
            namespace, _, node = status.name.rpartition("/")
            # The topic is shared by all graphs of the network.
            if status.hardware_id != HARDWARE_ID or status.name == own or namespace != graph:
                continue
            with self._lock:
                self._reasons[node] = time.monotonic(), status.message

    def _on_object(self, spec: str, object_id: str, scale: float) -> None:
        self._worker.call(lambda: self.guard("object", self._show_object, spec, object_id, scale))

    # -- page (the worker's thread)

    def _prepare(self) -> None:
        from grasp_nodes.viewer.page import ViewerPage

        settings = self.settings
        self._page = ViewerPage(settings.port, settings.host, settings.hand_model or None, settings.show_trails)
        self.facts["page"] = self._page.address
        if settings.robot:
            self._load_robot()
        self.get_logger().info(f"page at {self._page.address}")
        if settings.open_browser:
            from grasp_nodes.viewer.browser import open_in_browser

            open_in_browser(self._page.address)

    def _load_robot(self) -> None:
        from grasp_nodes.retargeting.hand_catalogue import open_robot_hand

        self._robot = open_robot_hand(self.settings.robot, "left" if self.settings.robot_side == "left" else "right")
        if self._page is not None:
            self._page.set_robot(self._robot.look_parts)

    def _show_robot(self, joints: JointState, base: PoseStamped) -> None:
        from grasp_nodes.nodes.conversions.robots import from_base_pose, from_joint_state

        if self._page is not None and self._robot is not None:
            driven = from_joint_state(joints, self._robot)
            self._page.update_robot(self._robot.kinematics.body_poses(driven, from_base_pose(base)))

    def _show_image(self, message: Image) -> None:
        from grasp_nodes.nodes.conversions.images import image_to_rgb

        if self._page is not None:
            self._page.update_image(image_to_rgb(message), self.stamp_of(message.header))

    def _show_cloud(self, message: PointCloud2) -> None:
        from grasp_nodes.nodes.conversions.clouds import cloud_to_colored_points

        if self._page is not None:
            self._page.set_cloud(*cloud_to_colored_points(message))

    def _show_camera(self, message: CameraInfo) -> None:
        from grasp_nodes.nodes.conversions.images import to_camera_model

        if self._page is not None:
            self._page.set_camera(to_camera_model(message))

    def _show_state(self, message: HandObjectState) -> None:
        from grasp_nodes.nodes.conversions.states import from_state

        if self._page is None:
            return
        started = time.monotonic()
        self._page.update_state(from_state(message))
        self.statistics.latency(time.monotonic() - started)
        self.useful()

    def _show_object(self, spec: str, object_id: str, scale: float) -> None:
        from grasp_nodes.objects.loading import load_object

        if self._page is not None:
            self._page.set_object(load_object(spec, object_id or None, scale))

    def _show_status(self) -> None:
        if self._page is None:
            return
        rates = {f"{topic}, Hz": rate.hertz() for topic, rate in list(self.statistics.inputs.items())}
        inputs = self.statistics.inputs
        age = inputs[STATE].age() if STATE in inputs else None
        quiet = age is None or age > self.settings.silence_warn_s
        oldest = time.monotonic() - FORGOTTEN_SECONDS
        with self._lock:
            self._reasons = {node: said for node, said in self._reasons.items() if said[0] > oldest}
            reasons = [f"{node}: {reason}" for node, (_, reason) in self._reasons.items() if reason != "working"]
        text = ("; ".join(reasons) or f"nothing on {STATE}") if quiet else ""
        page = self._page
        self._worker.call(lambda: self.guard("page", page.set_status, text, rates))


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ViewerNode, args)


if __name__ == "__main__":
    sys.exit(main())
