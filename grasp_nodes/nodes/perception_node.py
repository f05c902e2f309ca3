"""Images in, evidence out: hands with landmarks and masks, and the visible pixels of the object."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from grasp_msgs.msg import Evidence
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.depth_input import DEPTH, DepthInput
from grasp_nodes.nodes.frame_pairing import StampPairing
from grasp_nodes.nodes.node_base import GraspNode
from grasp_nodes.nodes.object_segmenters import ObjectHint, choose_backend, make_segmenter, parse_box
from grasp_nodes.nodes.parameters import PerceptionParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.source_status import SourceStatus, watch_object, watch_source
from grasp_nodes.nodes.worker import InferenceWorker

try:
    from vision_msgs.msg import Detection2DArray
except ImportError:
    # The package is optional; without it boxes cannot come from another detector.
    Detection2DArray = None

if TYPE_CHECKING:
    from grasp_nodes.geometry.camera import Frame
    from grasp_nodes.perception.evidence import HandLandmarker, ObjectSegmenter
    from grasp_nodes.perception.given_evidence import GivenEvidence
    from grasp_nodes.perception.perceiver import Perceiver

COLOR, COLOR_INFO = "camera/color/image_raw", "camera/color/camera_info"
OBJECT_MASK, OBJECT_DETECTIONS, GIVEN = "object_mask", "object_detections", "hand_evidence"
EVIDENCE = "evidence"


class PerceptionNode(GraspNode[PerceptionParameters]):
    """Pairs colour, camera_info and depth by stamp and runs perception on a worker."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("perception_node", PerceptionParameters, **node_options)
        settings = self.settings
        self._landmarker: HandLandmarker
        self._perceiver: Perceiver | None = None
        self._segmenter: ObjectSegmenter | None = None
        self._given: GivenEvidence | None = None
        self._hint = ObjectHint(box=parse_box(settings.object_box))
        self._has_depth = False
        self._is_metric = settings.camera_is_metric
        self._pairing = StampPairing(COLOR, round(settings.sync_slop_s * 1e9), self.statistics.dropped)
        self._publisher = self.advertise(Evidence, EVIDENCE)
        self._worker: InferenceWorker[dict[str, Any]] = InferenceWorker(
            "perception", self._prepare, self._work, self.fail, settings.queue_size
        )
        if settings.image_transport == "compressed":
            self.subscribe(CompressedImage, f"{COLOR}/compressed", self._on_color)
        else:
            self.subscribe(Image, COLOR, self._on_color)
        self.subscribe(CameraInfo, COLOR_INFO, self._on_info)
        self._depth = DepthInput(self, settings.use_depth, self._add)
        self._masked = settings.object_backend == "topic"
        if self._masked:
            self.subscribe(Image, OBJECT_MASK, self._on_mask)
        self._is_given = "evidence" in (settings.hand_backend, settings.object_backend)
        if self._is_given:
            self.subscribe(Evidence, GIVEN, self._on_given)
        if Detection2DArray is not None:
            self.subscribe(Detection2DArray, OBJECT_DETECTIONS, self._on_detections)
        self._worker.start()
        watch_object(self, self._on_object)
        watch_source(self, self._on_source)

    def silence_reason(self) -> str:
        """Which of the inputs is missing."""
        if not self._worker.ready:
            return "models are being loaded"
        inputs = self.statistics.inputs
        for topic in (COLOR, COLOR_INFO):
            if topic not in inputs and f"{topic}/compressed" not in inputs:
                return f"no message on {topic} ({self.publishers_of(topic)} publishers)"
        if self._depth.wanted and DEPTH not in inputs:
            return f"no message on {DEPTH} ({self.publishers_of(DEPTH)} publishers); colour alone: use_depth:=never"
        for topic in self._from_others():
            if topic not in inputs:
                return f"no message on {topic} ({self.publishers_of(topic)} publishers)"
        if self._pairing.waiting(COLOR):
            others = "".join(f", {topic}" for topic in self._from_others())
            return f"stamps of image, camera_info, depth{others} differ by more than sync_slop_s"
        return "images stopped coming"

    def on_reset(self, stamp: int | None = None) -> None:
        """Forget tracks and images that wait."""
        if stamp is None:
            self._pairing.reset()
        else:
            self._pairing.rewind(stamp)
        self._worker.call(self._reset_perceiver)

    def close(self) -> bool:
        """Stop the worker."""
        return self._worker.stop()

    # -- inputs (the executor's thread)

    def _on_color(self, message: Any) -> None:
        self._add(COLOR, self.checked_stamp(COLOR, message.header), message)

    def _on_info(self, message: CameraInfo) -> None:
        self._add(COLOR_INFO, self.stamp_of(message.header), message)

    def _on_mask(self, message: Image) -> None:
        self._add(OBJECT_MASK, self.stamp_of(message.header), message)

    def _on_given(self, message: Evidence) -> None:
        self._add(GIVEN, self.stamp_of(message.header), message)

    def _from_others(self) -> list[str]:
        """Topics of other programs that have to say something about every image."""
        return [topic for topic, wanted in ((OBJECT_MASK, self._masked), (GIVEN, self._is_given)) if wanted]

    def _on_detections(self, message: Any) -> None:
        """The best box starts the search for the object, unless one is known already."""
        scored = [
            (max((result.hypothesis.score for result in found.results), default=0.0), number)
            for number, found in enumerate(message.detections)
        ]
        if self._hint.box is not None or not scored:
            return
        box = message.detections[max(scored)[1]].bbox
        x, y = box.center.position.x, box.center.position.y
        corners = [x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2]
        self._worker.call(lambda: self._change_hint(replace(self._hint, box=corners)))

    def _add(self, topic: str, stamp: int, message: Any) -> None:
        self._pairing.add(topic, stamp, message)
        wanted = [COLOR_INFO]
        if self._depth.wanted:
            wanted.append(DEPTH)
        for group in self._pairing.take([*wanted, *self._from_others()]):
            group["arrived"] = time.monotonic()
            if self._worker.submit(group) is not None:
                self.statistics.dropped("newer image came")

    # -- work (the worker's thread)

    def _prepare(self) -> None:
        # The first image does not have to wait for what is imported only when it comes.
        import grasp_nodes.objects.loading
        import grasp_nodes.perception.depth_segmenter
        import grasp_nodes.perception.perceiver  # noqa: F401
        from grasp_nodes.perception.given_evidence import GivenEvidence

        started, settings = time.monotonic(), self.settings
        self._given = GivenEvidence(round(settings.sync_slop_s * 1e9)) if self._is_given else None
        self.facts["device"] = "cpu"
        if settings.hand_backend == "evidence":
            assert self._given is not None
            self._landmarker = self._given
        else:
            self._load_landmarker()
        hands = self.facts.get("hand model", GIVEN)
        self.get_logger().info(
            f"ready after {time.monotonic() - started:.1f} s: hands by {hands}, object by {settings.object_backend}, "
            f"depth {settings.use_depth}, device cpu, "
            f"{'working' if self.enabled else 'disabled: call ~/enable'}"
        )

    def _load_landmarker(self) -> None:
        from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker
        from grasp_nodes.perception.model_files import LANDMARK_MODEL, SHA256, fetch_hand_models

        settings = self.settings
        options = LandmarkerOptions(
            max_hands=settings.max_hands, hand_threshold=settings.min_hand_score, threads=settings.threads
        )
        files = fetch_hand_models()
        self._landmarker = LitertHandLandmarker(options, files)
        self.facts |= {"hand model": str(files.landmark), "hand model sha256": SHA256[LANDMARK_MODEL]}

    def _on_object(self, spec: str, object_id: str, scale: float) -> None:
        self._worker.call(lambda: self.guard("object", self._learn_object, spec, object_id, scale))

    def _on_source(self, status: SourceStatus) -> None:
        self._is_metric = self.settings.camera_is_metric and status.is_metric

    def _learn_object(self, spec: str, object_id: str, scale: float) -> None:
        from grasp_nodes.objects.loading import load_object

        model = load_object(spec, object_id or None, scale)
        extent = model.points.max(axis=0) - model.points.min(axis=0)
        self._change_hint(replace(self._hint, object_id=model.object_id, diameter=float(extent.max())))

    def _change_hint(self, hint: ObjectHint) -> None:
        self._hint, self._perceiver = hint, None

    def _reset_perceiver(self) -> None:
        if self._perceiver is not None:
            self._perceiver.reset()

    def _perceiver_for(self, has_depth: bool) -> Perceiver:
        """The perceiver of the chosen back end; chosen anew when depth arrives for the first time."""
        from grasp_nodes.perception.foreground import ForegroundFinder
        from grasp_nodes.perception.perceiver import Perceiver

        self._has_depth |= has_depth
        backend = choose_backend(self.settings.object_backend, self._has_depth, self._hint.box is not None)
        if self._perceiver is None or self.facts.get("object backend") != backend:
            foreground = ForegroundFinder()
            self._segmenter = make_segmenter(backend, self.settings, self._hint, foreground, self._given)
            self._perceiver = Perceiver(self._landmarker, self._segmenter, foreground)
            self.facts["object backend"] = backend
        return self._perceiver

    def _work(self, group: dict[str, Any]) -> None:
        self.guard(COLOR, self._perceive, group)

    def _perceive(self, group: dict[str, Any]) -> None:
        from grasp_nodes.nodes.conversions.evidence import from_evidence, to_evidence
        from grasp_nodes.nodes.conversions.images import image_to_mask
        from grasp_nodes.perception.object_mask import MaskObjectSegmenter

        frame = self._frame(group)
        perceiver = self._perceiver_for(frame.depth is not None)
        if isinstance(self._segmenter, MaskObjectSegmenter):
            self._segmenter.set_mask(image_to_mask(group[OBJECT_MASK]), frame.stamp)
        if self._given is not None:
            self._given.give(from_evidence(group[GIVEN]))
        evidence = perceiver.perceive(frame)
        self.publish(self._publisher, EVIDENCE, to_evidence(evidence))
        self.statistics.latency(time.monotonic() - group["arrived"])
        self.useful("" if evidence.hands or evidence.objects else self._unseen())

    def _unseen(self) -> str:
        return f"no hand with a score of {self.settings.min_hand_score:g} or more and no object is seen in the images"

    def _frame(self, group: dict[str, Any]) -> Frame:
        from grasp_nodes.geometry.camera import Frame
        from grasp_nodes.nodes.conversions.images import compressed_to_rgb, image_to_rgb, to_camera_model

        message = group[COLOR]
        color = image_to_rgb(message) if hasattr(message, "encoding") else compressed_to_rgb(message)
        camera = to_camera_model(group[COLOR_INFO], self._is_metric)
        if color.shape[:2] != (camera.height, camera.width):
            raise InputError(
                f"image is {color.shape[1]}x{color.shape[0]} but camera_info says {camera.width}x{camera.height}"
            )
        return Frame(group["stamp"], color, camera, self._depth.read(group.get(DEPTH), camera.width, camera.height))


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(PerceptionNode, args)


if __name__ == "__main__":
    sys.exit(main())
