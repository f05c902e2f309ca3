"""Plays a recording or a camera as ROS topics, with the truth where it is known, and says when it has ended."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from grasp_msgs.msg import HandObjectState
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String

from grasp_nodes.nodes.conversions.fields import from_time
from grasp_nodes.nodes.node_base import LATCHED, RELIABLE, GraspNode
from grasp_nodes.nodes.parameters import SourceParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.source_status import TOPIC as STATUS_TOPIC
from grasp_nodes.nodes.source_status import SourceStatus, to_message

if TYPE_CHECKING:
    from grasp_nodes.data.sources import FrameSource
    from grasp_nodes.geometry.camera import Frame

COLOR, COLOR_INFO = "camera/color/image_raw", "camera/color/camera_info"
DEPTH, DEPTH_INFO = "camera/depth/image_raw", "camera/depth/camera_info"
CLOUD = "camera/depth/points"
TRUTH, ANSWERS = "truth/state", "hand_object/state"
FIRST_STAMP = 1_000_000_000
"""ns; what a recording that starts at 0 is moved to."""
SETTLE_S = 1.0
"""s that the graph gets to connect all its topics once those of this node are connected."""
REALTIME_WAIT_S = 15.0
"""s that a recording at pace realtime waits for somebody who answers."""
LINGER_S = 1.0
"""s that the last messages get to arrive before the node ends."""


class SourceNode(GraspNode[SourceParameters]):
    """Plays frames on a thread of its own; the node's callbacks only note which frames were answered."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("source_node", SourceParameters, **node_options)
        self._color = self.advertise(Image, COLOR)
        self._color_info = self.advertise(CameraInfo, COLOR_INFO)
        self._cloud: Any = None
        self._depth: Any = None
        self._depth_info: Any = None
        self._truth: Any = None
        self._status_publisher = self.advertise(String, STATUS_TOPIC, LATCHED)
        self._status = SourceStatus(source=self.settings.source or "default", seed=self.settings.seed)
        self._changed = threading.Condition()
        self._in_flight: OrderedDict[int, float] = OrderedDict()
        self._answered = 0
        self._stopping = False
        self._is_crowded = False
        self._waiting_for = "the source is being opened"
        self.subscribe(HandObjectState, ANSWERS, self._on_answer, while_disabled=True)
        self.create_timer(1.0, self._check_alone)
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)
        self._thread.start()

    def silence_reason(self) -> str:
        """What the player waits for."""
        return self._waiting_for

    def on_enabled(self) -> None:
        """Wake the player."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> bool:
        """Stop the player."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout=1.0)
        return not self._thread.is_alive()

    def on_reset(self, stamp: int | None = None) -> None:  # noqa: ARG002 - the interface
        """Wait no longer for the frames that are under way."""
        with self._changed:
            self._in_flight.clear()
            self._changed.notify_all()

    def _check_alone(self) -> None:
        """Two sources on one topic mix their frames: the answers fit neither."""
        others = self.publishers_of(COLOR) - 1
        if others > 0 and not self._is_crowded:
            self._is_crowded = True
            self.get_logger().warning(
                f"{others} more {'publishes' if others == 1 else 'publish'} {self.resolve_topic_name(COLOR)}: another "
                "demo or camera on this ROS domain, here or on the network; give each its ROS_DOMAIN_ID or namespace"
            )

    # -- answers

    def _on_answer(self, message: HandObjectState) -> None:
        stamp = from_time(message.header.stamp)
        with self._changed:
            if self._in_flight.pop(stamp, None) is not None:
                self._answered += 1
            self._changed.notify_all()

    def _count_lost(self) -> None:
        """Give up on frames whose answer is overdue."""
        now = time.monotonic()
        for stamp in [stamp for stamp, deadline in self._in_flight.items() if now > deadline]:
            self._in_flight.pop(stamp)
            self.drop(ANSWERS, "unanswered frame", f"no answer in time to the frame of {stamp / 1e9:.6f} s")

    def _deadline(self) -> float:
        """When the answer to a frame that is sent now is overdue; the first ones may take long, while models load."""
        first = 0.0 if self._answered else self.settings.start_timeout_s
        return time.monotonic() + max(self.settings.answer_timeout_s, first)

    # -- the player's thread

    def _run(self) -> None:
        try:
            source = self._open()
            answered = self.settings.pace == "answered" or (self.settings.pace == "auto" and not source.is_live)
            self._describe(source, answered)
            if not source.is_live:
                self._wait_for_graph(answered)
            offset = self._play(source, answered, 0)
            while self.settings.loop and not self._stopping and not source.is_live:
                self._announce(loops=self._status.loops + 1, frames_sent=0)
                offset = self._play(source, answered, offset)
            source.close()
            if not self._stopping:
                self._end(answered)
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything: the node ends with a message
            self._announce(finished=True, error=str(error))
            self._sleep(LINGER_S)
            self.fail(error)

    def _open(self) -> FrameSource:
        from grasp_nodes.data.sources import open_source

        settings = self.settings
        self.get_logger().info(f"opening {self._status.source!r}")
        uri = "" if settings.source == "default" else settings.source
        return open_source(uri, settings.object, settings.frames, settings.seed, settings.field_of_view)

    def _describe(self, source: FrameSource, answered: bool) -> None:
        if source.has_depth:
            self._cloud = self.advertise(PointCloud2, CLOUD)
            self._depth = self.advertise(Image, DEPTH)
            self._depth_info = self.advertise(CameraInfo, DEPTH_INFO)
        if source.has_truth:
            self._truth = self.advertise(HandObjectState, TRUTH, RELIABLE)
        total = 0 if source.is_live else len(source)
        self._announce(
            frames_total=total,
            object=source.object_spec,
            object_id=source.object_id,
            object_scale=self.settings.object_scale if self.settings.object else source.object_scale,
            has_truth=source.has_truth,
            has_depth=source.has_depth,
            is_metric=source.camera.is_metric,
        )
        camera = source.camera
        pace = "each frame when earlier ones are answered" if answered else f"at {self._rate(source):g} Hz"
        self.facts |= {"source": self._status.source, "frames": str(total or "unknown"), "pace": pace}
        self.get_logger().info(
            f"playing {self._status.source!r}: {total or 'endless'} frames of {camera.width}x{camera.height} at "
            f"{source.fps:g} Hz, {'with' if source.has_depth else 'no'} depth, "
            f"{'with' if source.has_truth else 'no'} truth, object {source.object_spec or 'none'}, {pace}"
        )

    def _announce(self, **changes: Any) -> None:
        self._status = replace(self._status, **changes)
        self.publish(self._status_publisher, STATUS_TOPIC, to_message(self._status))

    def _rate(self, source: FrameSource) -> float:
        return self.settings.rate or source.fps

    def _wait_for_graph(self, answered: bool) -> None:
        """Wait until somebody listens and answers; then let their other topics connect.

        At pace realtime nobody has to answer: the wait is short.
        """
        patience = self.settings.start_timeout_s if answered else min(self.settings.start_timeout_s, REALTIME_WAIT_S)
        deadline = time.monotonic() + patience
        while not self._stopping and time.monotonic() < deadline:
            clouds = 0 if self._cloud is None else self._cloud.get_subscription_count()
            if not self._color.get_subscription_count() + clouds:
                self._waiting_for = f"nobody subscribes to {COLOR}"
            elif not self.publishers_of(ANSWERS):
                self._waiting_for = f"nobody publishes {ANSWERS}"
            else:
                self._sleep(SETTLE_S)
                return
            self._sleep(0.05)
        if answered and not self._stopping:
            self.warn_sometimes(f"{self._waiting_for} after {patience:g} s: playing anyway", ("", "graph"))

    def _play(self, source: FrameSource, answered: bool, offset: int) -> int:
        """One pass; returns the offset (ns) that the stamps of the next pass take."""
        period = 1.0 / self._rate(source)
        due = time.monotonic()
        last = offset
        for index, frame in enumerate(source):
            self._wait_while_disabled()
            if answered:
                self._wait_for_room(self.settings.in_flight)
            elif not source.is_live:
                self._sleep(due - time.monotonic())
                due = max(due + period, time.monotonic() - period)
            if self._stopping:
                break
            if index == 0 and frame.stamp + offset <= 0:
                offset += FIRST_STAMP - frame.stamp
            last = self._send(source, frame, offset)
        return last + round(1e9 * period) - source.first_stamp if last else offset

    def _send(self, source: FrameSource, frame: Frame, offset: int) -> int:
        from grasp_nodes.nodes.conversions.images import to_camera_info, to_image

        stamp = time.time_ns() if self.settings.restamp else frame.stamp + offset
        camera = frame.camera
        with self._changed:
            self._in_flight[stamp] = self._deadline()
            if len(self._in_flight) > 1000:
                self._in_flight.popitem(last=False)
        truth = source.truth(frame.stamp) if self._truth is not None else None
        if truth is not None:
            from grasp_nodes.nodes.conversions.states import to_state

            self.publish(self._truth, TRUTH, to_state(replace(truth, stamp=stamp)))
        self.publish(self._color_info, COLOR_INFO, to_camera_info(camera, stamp))
        if frame.depth is not None and self._depth is not None:
            self.publish(self._depth_info, DEPTH_INFO, to_camera_info(camera, stamp))
            self.publish(self._depth, DEPTH, to_image(frame.depth, "32FC1", stamp, camera.frame_id))
            if self._cloud.get_subscription_count():
                from grasp_nodes.nodes.conversions.clouds import frame_to_cloud

                self.publish(self._cloud, CLOUD, frame_to_cloud(frame, stamp))
        self.publish(self._color, COLOR, to_image(frame.color, "rgb8", stamp, camera.frame_id))
        self._announce(frames_sent=self._status.frames_sent + 1)
        self.useful()
        return stamp

    def _wait_while_disabled(self) -> None:
        self._waiting_for = "disabled"
        with self._changed:
            while not self.enabled and not self._stopping:
                self._changed.wait(0.5)

    def _wait_for_room(self, allowed: int) -> None:
        """Wait until fewer than `allowed` frames are unanswered."""
        self._waiting_for = f"no answer on {ANSWERS}"
        with self._changed:
            while len(self._in_flight) >= allowed and not self._stopping:
                self._changed.wait(0.1)
                self._count_lost()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            while not self._stopping and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _end(self, answered: bool) -> None:
        if answered:
            self._wait_for_room(1)
        self._announce(loops=self._status.loops + 1, finished=True)
        self.get_logger().info(f"finished: {self._status.frames_sent} frames sent, {self._answered} answered")
        self._sleep(LINGER_S)
        self.finished.set()


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(SourceNode, args)


if __name__ == "__main__":
    sys.exit(main())
