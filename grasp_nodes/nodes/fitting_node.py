"""Evidence in, hands, objects and contact out."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from grasp_msgs.msg import ContactMap, Evidence, HandModelInfo, HandObjectState, HandPoseArray, ObjectPose
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.nodes.depth_input import DEPTH, DepthInput
from grasp_nodes.nodes.frame_pairing import StampPairing
from grasp_nodes.nodes.node_base import GraspNode, latched
from grasp_nodes.nodes.parameters import FittingParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.source_status import watch_object
from grasp_nodes.nodes.worker import InferenceWorker

if TYPE_CHECKING:
    from grasp_nodes.contact.interaction import HandObjectState as HandObjectNoun
    from grasp_nodes.fitting.geo.state_refiner import GeoStateRefiner
    from grasp_nodes.fitting.given_poses import GivenPoses
    from grasp_nodes.fitting.streaming import StreamingFitter
    from grasp_nodes.fitting.weak_hands import WeakHandRefiner
    from grasp_nodes.hand.model import HandModel
    from grasp_nodes.hand.parameters import Side
    from grasp_nodes.objects.model import ObjectModel
    from grasp_nodes.viewer.colors import ContactColoring
    from grasp_nodes.viewer.posed_hands import HandPoser

EVIDENCE = "evidence"
STATE, HANDS, OBJECTS, CONTACT = "hand_object/state", "hands", "objects/pose", "contact_map"
GIVEN_HANDS, GIVEN_OBJECT = "hand_poses_in", "object_pose_in"
MARKERS, MODEL_INFO = "markers", "hand_model_info"
TF_QOS = QoSProfile(depth=100)


class FittingNode(GraspNode[FittingParameters]):
    """Pairs evidence and depth by stamp and runs the fit on a worker."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("fitting_node", FittingParameters, **node_options)
        settings = self.settings
        self._fitter: StreamingFitter | None = None
        self._refiner: GeoStateRefiner | WeakHandRefiner | None = None
        self._hand_models: dict[Side, HandModel] = {}
        self._poser: HandPoser | None = None
        self._object_model: ObjectModel | None = None
        self._pairing = StampPairing(EVIDENCE, round(settings.sync_slop_s * 1e9), self.statistics.dropped)
        self._outputs = {
            HANDS: self.advertise(HandPoseArray, HANDS),
            OBJECTS: self.advertise(ObjectPose, OBJECTS),
            CONTACT: self.advertise(ContactMap, CONTACT),
            MARKERS: self.advertise(MarkerArray, MARKERS),
            MODEL_INFO: self.advertise(HandModelInfo, MODEL_INFO, latched(2)),
        }
        self._tf = self.create_publisher(TFMessage, "/tf", TF_QOS) if settings.publish_tf else None
        self._worker: InferenceWorker[dict[str, Any]] = InferenceWorker(
            "fitting", self._prepare, self._work, self.fail, settings.queue_size
        )
        self.subscribe(Evidence, EVIDENCE, self._on_evidence)
        self._depth = DepthInput(self, settings.use_depth, self._add)
        self._given = []
        for wanted, kind, topic in (
            (settings.hand_poses_backend, HandPoseArray, GIVEN_HANDS),
            (settings.object_pose_backend, ObjectPose, GIVEN_OBJECT),
        ):
            if wanted == "topic":
                self._given.append(topic)
                self.subscribe(kind, topic, partial(self._on_given, topic))
        self._worker.start()
        watch_object(self, self._on_object)

    def silence_reason(self) -> str:
        """Which of the inputs is missing."""
        if not self._worker.ready:
            return "the hand model and the fit are being loaded"
        if EVIDENCE not in self.statistics.inputs:
            return f"no message on {EVIDENCE} ({self.publishers_of(EVIDENCE)} publishers)"
        for topic in self._given:
            if topic not in self.statistics.inputs:
                return f"no message on {topic} ({self.publishers_of(topic)} publishers)"
        if self._pairing.waiting(EVIDENCE):
            others = [*self._given, *([DEPTH] if self._depth.wanted else [])]
            return (
                f"no message on {' or '.join(others)} within sync_slop_s = {self.settings.sync_slop_s} s of the "
                "evidence; without depth: use_depth:=never"
            )
        return "evidence stopped coming"

    def on_reset(self, stamp: int | None = None) -> None:
        """Forget filters and evidence that waits."""
        if stamp is None:
            self._pairing.reset()
        else:
            self._pairing.rewind(stamp)
        self._worker.call(self._reset_fitter)

    def close(self) -> bool:
        """Stop the worker."""
        return self._worker.stop()

    # -- inputs (the executor's thread)

    def _on_evidence(self, message: Evidence) -> None:
        self._add(EVIDENCE, self.checked_stamp(EVIDENCE, message.header), message)

    def _on_given(self, topic: str, message: Any) -> None:
        self._add(topic, self.stamp_of(message.header), message)

    def _add(self, topic: str, stamp: int, message: Any) -> None:
        self._pairing.add(topic, stamp, message)
        for group in self._pairing.take([*self._given, *([DEPTH] if self._depth.wanted else [])]):
            group["arrived"] = time.monotonic()
            if self._worker.submit(group) is not None:
                self.statistics.dropped("newer evidence came")

    # -- work (the worker's thread)

    def _prepare(self) -> None:
        import torch

        started = time.monotonic()
        torch.set_num_threads(self.settings.threads)
        if self.settings.device == "cuda" and not torch.cuda.is_available():
            raise InputError("parameter 'device': cuda, but torch sees no CUDA device here; expected cpu")
        self.get_logger().info("loading; at the very first run numerical code is compiled, which takes a minute or two")
        self._load_hands()
        self._fitter = self._make_fitter()
        # Only now: a source that waits for somebody to answer starts to play when it sees this topic.
        self._outputs[STATE] = self.advertise(HandObjectState, STATE)
        self.facts["device"] = self.settings.device
        self.get_logger().info(
            f"ready after {time.monotonic() - started:.1f} s: hand {self.facts['hand model']}, object "
            f"{self.settings.object or 'as source/status says'}, depth {self.settings.use_depth}, device "
            f"{self.settings.device}, {'working' if self.enabled else 'disabled: call ~/enable'}"
        )

    def _on_object(self, spec: str, object_id: str, scale: float) -> None:
        self._worker.call(lambda: self.guard("object", self._change_object, spec, object_id, scale))

    def _change_object(self, spec: str, object_id: str, scale: float) -> None:
        from grasp_nodes.objects.loading import load_object

        self.useful("the object and its fit are being prepared; the first time it takes a minute or two")
        started = time.monotonic()
        try:
            self._object_model = load_object(spec, object_id or None, scale)
        except GraspNodesError as error:
            self.useful(f"the object cannot be used: {error}")
            if self.settings.object:
                # Hands go on without a clip's own object; the one that the user names is wanted.
                self.fail(error)
                return
            raise
        self._fitter = self._make_fitter()
        self.useful("no evidence came since the object was prepared")
        self.get_logger().info(
            f"object {self._object_model.object_id} from {spec} is ready after {time.monotonic() - started:.1f} s"
        )

    def _make_fitter(self) -> StreamingFitter:
        from grasp_nodes.fitting.frame_fitter import FrameFitterOptions
        from grasp_nodes.fitting.streaming import StreamingFitter, StreamingOptions

        settings = self.settings
        frame = FrameFitterOptions(
            min_hand_score=settings.min_hand_score,
            contact_threshold=settings.contact_threshold,
            hold_time=settings.hold_time_s,
            seed=settings.seed,
        )
        self._refiner = self._make_refiner()
        fitter = StreamingFitter(self._object_model, self._hand_models, StreamingOptions(frame, settings.window))
        fitter.warm_up()
        return fitter

    def _make_refiner(self) -> GeoStateRefiner | WeakHandRefiner | None:
        if self.settings.refine == "none" or self._object_model is None:
            return None
        from grasp_nodes.hand.files import load_hand_model

        # The solvers work on the CPU, wherever the fit's hand models are.
        models = {side: load_hand_model(side, self.settings.hand_model or None) for side in self._hand_models}
        objects = {self._object_model.object_id: self._object_model}
        if self.settings.refine == "geo":
            from grasp_nodes.fitting.geo.state_refiner import GeoStateRefiner

            return GeoStateRefiner(models, objects)
        from grasp_nodes.fitting.weak_hands import WeakHandRefiner
        from grasp_nodes.synthesis.jointdiffusion.grasps import load_refiner

        return WeakHandRefiner(models, objects, load_refiner(self.settings.refine, models["right"]))

    def _load_hands(self) -> None:
        from grasp_nodes.hand.files import load_hand_model
        from grasp_nodes.nodes.conversions.hand_model import to_hand_model_info

        path = self.settings.hand_model or None
        sides: tuple[Side, ...] = ("left", "right")
        for side in sides:
            model = load_hand_model(side, path).to(self.settings.device)
            self._hand_models[side] = model
            self.facts |= {"hand model": model.model_id, f"hand model {side} sha256": model.fingerprint}
            self.publish(self._outputs[MODEL_INFO], MODEL_INFO, to_hand_model_info(model))

    def _reset_fitter(self) -> None:
        if self._fitter is not None:
            self._fitter.reset()

    def _work(self, group: dict[str, Any]) -> None:
        self.guard(EVIDENCE, self._fit, group)

    def _fit(self, group: dict[str, Any]) -> None:
        from grasp_nodes.nodes.conversions.evidence import from_evidence

        if self._fitter is None:
            return
        evidence = from_evidence(group[EVIDENCE])
        depth = self._depth.read(group.get(DEPTH), evidence.camera.width, evidence.camera.height)
        state = self._fitter.update(evidence, depth, self._read_given(group))
        if self._refiner is not None:
            state = self._refiner.refine([state])[0]
        self._publish_state(state)
        self.statistics.latency(time.monotonic() - group["arrived"])
        self.useful("" if state.status == 0 else state.status_text or "neither a hand nor an object was fitted")

    def _read_given(self, group: dict[str, Any]) -> GivenPoses:
        """Poses from elsewhere; those that cannot be used are reported and counted, and the fit goes on without."""
        from grasp_nodes.fitting.given_poses import GivenPoses
        from grasp_nodes.nodes.conversions.given_poses import read_given_hands, read_given_object

        found: dict[str, Any] = {}
        for topic, field, read in (
            (GIVEN_HANDS, "hands", read_given_hands),
            (GIVEN_OBJECT, "T_camera_object", read_given_object),
        ):
            if topic in group:
                try:
                    found[field] = read(group[topic])
                except InputError as error:
                    self.drop(topic, f"bad {topic}", f"{error}; the fit starts without it")
        return GivenPoses(**found)

    def _publish_state(self, state: HandObjectNoun) -> None:
        from grasp_nodes.nodes.conversions.hands import to_hand_pose_array
        from grasp_nodes.nodes.conversions.states import to_state

        message = to_state(state)
        self.publish(self._outputs[STATE], STATE, message)
        self.publish(self._outputs[HANDS], HANDS, to_hand_pose_array(state.hands, message.header))
        for found in message.objects:
            self.publish(self._outputs[OBJECTS], OBJECTS, found)
        for contact in message.contact_maps:
            self.publish(self._outputs[CONTACT], CONTACT, contact)
        if self._tf is not None:
            self._publish_transforms(state, message.header)
        if self.settings.publish_markers and self._outputs[MARKERS].get_subscription_count():
            self._publish_markers(state, message.header)

    def _publish_transforms(self, state: HandObjectNoun, header: Any) -> None:
        from grasp_nodes.nodes.conversions.scene import to_transforms

        transforms = to_transforms(state, header)
        if transforms and self._tf is not None:
            self.publish(self._tf, "/tf", TFMessage(transforms=transforms))

    def _publish_markers(self, state: HandObjectNoun, header: Any) -> None:
        from grasp_nodes.nodes.conversions.scene import (
            TOUCHED,
            to_contact_marker,
            to_deletion,
            to_hand_marker,
            to_object_marker,
        )
        from grasp_nodes.viewer.posed_hands import HandPoser

        if self._poser is None:
            self._poser = HandPoser(self.settings.hand_model or None)
        markers = [to_deletion(header)]
        coloring = cast("ContactColoring", self.settings.contact_coloring)
        for number, hand in enumerate(state.hands):
            posed = self._poser.pose(hand, state)
            touched = self._poser.region_colors(hand.params.side) if coloring == "region" else TOUCHED
            markers.append(to_hand_marker(header, number, posed.vertices, posed.faces, posed.contact, touched))
        markers += [to_object_marker(header, number, found) for number, found in enumerate(state.objects)]
        placed = {found.object_id: found for found in state.objects}
        markers += [
            to_contact_marker(header, number, placed[contact.object_id], contact, coloring)
            for number, contact in enumerate(state.contact_maps)
            if contact.object_id in placed
        ]
        self.publish(self._outputs[MARKERS], MARKERS, MarkerArray(markers=markers))


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(FittingNode, args)


if __name__ == "__main__":
    sys.exit(main())
