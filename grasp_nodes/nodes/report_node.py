"""Compares answers with the truth, measures rate and latency, and writes a report when the source has ended."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections import OrderedDict, deque
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grasp_msgs.msg import HandObjectState
from sensor_msgs.msg import CameraInfo

from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.nodes.node_base import GraspNode
from grasp_nodes.nodes.parameters import ReportParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.source_status import SourceStatus, watch_object, watch_source

if TYPE_CHECKING:
    from grasp_nodes.evaluation.clip_score import ClipScore

COLOR_INFO, STATE, TRUTH = "camera/color/camera_info", "hand_object/state", "truth/state"
VERSIONED = ("grasp_nodes", "torch", "numpy", "opencv-python-headless", "ai-edge-litert")
KEPT_FRAMES = 100_000


class ReportNode(GraspNode[ReportParameters]):
    """Collects frames, truths and answers by stamp; scores them in time order when a pass of the source is over."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("report_node", ReportParameters, **node_options)
        self._object: tuple[str, str, float] = ("", "", 1.0)
        self._status: SourceStatus | None = None
        self._finished_at: float | None = None
        self._is_written = self._is_stopped = False
        if self.settings.report_file:
            check_writable(Path(self.settings.report_file))
        self._start_pass()
        watch_object(self, self._on_object)
        watch_source(self, self._on_status)
        self.subscribe(CameraInfo, COLOR_INFO, self._on_frame)
        self.subscribe(HandObjectState, TRUTH, self._on_truth)
        self.subscribe(HandObjectState, STATE, self._on_state)
        self.create_timer(0.1, self._check_finished)
        self.get_logger().info(f"ready: the report goes to {self.settings.report_file or 'the log'}")

    def silence_reason(self) -> str:
        """Which of the inputs is missing."""
        if not self._frames:
            return f"no message on {COLOR_INFO} ({self.publishers_of(COLOR_INFO)} publishers)"
        return f"no message on {STATE} ({self.publishers_of(STATE)} publishers)"

    def on_reset(self, stamp: int | None = None) -> None:  # noqa: ARG002 - a jump needs no more than a reset
        """Forget the frames of this pass."""
        self._start_pass()

    def close(self) -> bool:
        """Report what there is when the node is stopped before the source has ended.

        Without the accuracy: to compare all frames with the truth takes longer than a node may take to end.
        """
        if self._frames and not self._is_written:
            self._is_stopped = True
            self._report(final=True)
        return True

    # -- inputs

    def _start_pass(self) -> None:
        self._frames: OrderedDict[int, float] = OrderedDict()
        self._truths: dict[int, HandObjectState] = {}
        self._found: dict[int, bool] = {}
        self._states: dict[int, HandObjectState] = {}
        self._latencies: deque[float] = deque(maxlen=KEPT_FRAMES)
        self._arrivals: deque[float] = deque(maxlen=KEPT_FRAMES)

    def _on_object(self, spec: str, object_id: str, scale: float) -> None:
        self._object = (spec, object_id, scale)

    def _on_status(self, status: SourceStatus) -> None:
        before, self._status = self._status, status
        if status.finished:
            self._finished_at = self._finished_at or time.monotonic()
        elif self._finished_at is not None:
            # Another source, after the one that has finished.
            self._finished_at, self._is_written = None, False
            self._start_pass()
        elif before is not None and status.loops > before.loops:
            self._report(final=False)
            self._start_pass()

    def _on_frame(self, message: CameraInfo) -> None:
        self._frames[self.stamp_of(message.header)] = time.monotonic()
        if len(self._frames) > KEPT_FRAMES:
            old, _ = self._frames.popitem(last=False)
            for by_stamp in (self._truths, self._found, self._states):
                by_stamp.pop(old, None)

    def _on_truth(self, message: HandObjectState) -> None:
        self._truths[self.stamp_of(message.header)] = message

    def _on_state(self, message: HandObjectState) -> None:
        now, stamp = time.monotonic(), self.stamp_of(message.header)
        self._found[stamp] = bool(message.hands) and message.status == HandObjectState.STATUS_OK
        if self._truths or self._status is None or self._status.has_truth:
            # A camera may run for days, and there is nothing to compare its states with.
            self._states[stamp] = message
        self._arrivals.append(now)
        if stamp in self._frames:
            self._latencies.append(now - self._frames[stamp])
        self.useful()

    def _check_finished(self) -> None:
        if self._finished_at is None or self._is_written:
            return
        latest = max(self._finished_at, self._arrivals[-1] if self._arrivals else 0.0)
        all_answered = bool(self._frames) and self._frames.keys() <= self._found.keys()
        if all_answered or time.monotonic() - latest > self.settings.grace_s:
            self._report(final=True)
            if self.settings.exit_when_finished:
                self.finished.set()

    # -- report

    def _report(self, final: bool) -> None:
        report = self._measure()
        report["loops"] = self._status.loops if self._status else 0
        report["complete"] = final and not self._is_stopped and self._status is not None and self._status.finished
        text = json.dumps(report)
        self.get_logger().info(f"report: {text}")
        if self.settings.report_file:
            try:
                write_whole(Path(self.settings.report_file), text + "\n")
            except OSError as error:
                self.fail(InputError(f"report {self.settings.report_file}: could not be written: {error}"))
        self._is_written = final

    def _measure(self) -> dict[str, Any]:
        answered = [self._found[stamp] for stamp in self._frames if stamp in self._found]
        report: dict[str, Any] = {
            "frames_in": len(self._frames),
            "frames_out": len(answered),
            "found_share": round(sum(answered) / len(self._frames), 4) if self._frames else 0.0,
        }
        span = self._arrivals[-1] - self._arrivals[0] if len(self._arrivals) > 1 else 0.0
        report["fps"] = round((len(self._arrivals) - 1) / span, 2) if span > 0 else 0.0
        if self._latencies:
            report["latency_p50_ms"] = round(1e3 * sorted(self._latencies)[len(self._latencies) // 2], 1)
        if self._truths and not self._is_stopped:
            try:
                report.update({name: round(value, 4) for name, value in self._score().items()})
            except GraspNodesError as error:
                self.get_logger().error(f"the answers cannot be compared with the truth: {error}")
        if self._status is not None:
            report.update(source=self._status.source, seed=self._status.seed, is_metric=self._status.is_metric)
            if self._status.error:
                report["error"] = self._status.error
        report["device"] = self.settings.device
        report["versions"] = versions()
        return report

    def _score(self) -> dict[str, float]:
        from grasp_nodes.nodes.conversions.states import from_state

        score = self._make_score()
        for stamp in self._frames:
            if self.asked_to_stop():
                self._is_stopped = True
                self.get_logger().warning("stopped while comparing answers with the truth: no accuracy in the report")
                return {}
            truth = self._truths.get(stamp)
            if truth is None or not truth.hands:
                continue
            answer = self._states.get(stamp)
            score.update(None if answer is None else from_state(answer), from_state(truth))
        return score.summary()

    def _make_score(self) -> ClipScore:
        from grasp_nodes.evaluation.clip_score import ClipScore
        from grasp_nodes.evaluation.true_contact import TrueContact
        from grasp_nodes.objects.loading import load_object

        spec, object_id, scale = self._object
        if not spec:
            raise InputError("the object is not known: give the parameter object")
        model = load_object(spec, object_id or None, scale)
        return ClipScore(object_points=model.points, contact_at=TrueContact(model), contact_points=model.points)


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    found = {"python": platform.python_version(), "ros": os.environ.get("ROS_DISTRO", "embedded")}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_writable(path: Path) -> None:
    """Find out before the work, not after it, whether a file can be written.

    Raises:
        InputError: it cannot.
    """
    if path.is_dir():
        raise InputError(f"parameter 'report_file': {path} is a folder; expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"parameter 'report_file': {path} cannot be written: {error}") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(ReportNode, args)


if __name__ == "__main__":
    sys.exit(main())
