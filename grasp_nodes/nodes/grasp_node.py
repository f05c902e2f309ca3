"""An object in, as a cloud or a mesh; human grasps of it out, or without an object those of one that is imagined."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from grasp_msgs.msg import ContactMap, GraspArray, HandModelInfo, HandObjectState
from grasp_msgs.srv import GenerateGrasps
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.learning.recent import Recent
from grasp_nodes.nodes.node_base import LATCHED, GraspNode, latched
from grasp_nodes.nodes.parameters import GraspParameters
from grasp_nodes.nodes.process import run_node
from grasp_nodes.nodes.worker import InferenceWorker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grasp_nodes.contact.interaction import Grasp, GraspSet
    from grasp_nodes.evaluation.harness.protocols import Method
    from grasp_nodes.hand.model import HandModel
    from grasp_nodes.hand.parameters import Side
    from grasp_nodes.objects.model import ObjectModel
    from grasp_nodes.synthesis.named_methods import JointMethod
    from grasp_nodes.viewer.posed_hands import HandPoser

CLOUD, GRASPS, CONTACT = "object_cloud", "grasps", "contact_map"
STATE = "hand_object/state"
MARKERS, MODEL_INFO, SERVICE = "markers", "hand_model_info", "generate_grasps"
KEPT_METHODS = 4
"""Methods that stay loaded: each has its networks in memory."""


@dataclass(frozen=True)
class Target:
    """An object that is to be grasped.

    origin: (3,), m, of its frame in that of the header. text: how it came about. table: below it, in its frame, see
    `GraspRequest`. method: that imagined it, and makes grasps of it alone.
    """

    model: ObjectModel
    origin: np.ndarray
    header: Any
    text: str = ""
    table: tuple[np.ndarray, float] | None = None
    method: Method | None = None


class GraspProposalNode(GraspNode[GraspParameters]):
    """Answers clouds as they come, and requests, one after the other on a worker."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("grasp_node", GraspParameters, **node_options)
        self._hand_models: dict[Side, HandModel] = {}
        self._network_models: dict[Side, HandModel] | None = None
        self._methods: Recent[str, Method] = Recent(KEPT_METHODS)
        self._joint_methods: Recent[str, JointMethod] = Recent(KEPT_METHODS)
        self._mesh: ObjectModel | None = None
        self._poser: HandPoser | None = None
        self._last_cloud: PointCloud2 | None = None
        self._closing = threading.Event()
        self._outputs = {
            GRASPS: self.advertise(GraspArray, GRASPS, LATCHED),
            CONTACT: self.advertise(ContactMap, CONTACT),
            MARKERS: self.advertise(MarkerArray, MARKERS, LATCHED),
            MODEL_INFO: self.advertise(HandModelInfo, MODEL_INFO, latched(2)),
        }
        self._worker: InferenceWorker[tuple[PointCloud2, float]] = InferenceWorker(
            "grasping", self._prepare, self._work, self.fail, self.settings.queue_size
        )
        self.subscribe(PointCloud2, CLOUD, self._on_cloud)
        self.create_service(GenerateGrasps, SERVICE, self._on_request)
        self._worker.start()

    def silence_reason(self) -> str:
        """Which of the inputs is missing."""
        if not self._worker.ready:
            return "hands and networks are being loaded, and numerical code is compiled the first time"
        if CLOUD not in self.statistics.inputs:
            return f"no message on {CLOUD} ({self.publishers_of(CLOUD)} publishers) and no request on {SERVICE}"
        return "clouds stopped coming"

    def on_reset(self, stamp: int | None = None) -> None:  # noqa: ARG002 - the interface
        """Forget the last cloud."""
        self._last_cloud = None

    def close(self) -> bool:
        """Stop the worker."""
        self._closing.set()
        return self._worker.stop()

    # -- inputs (the executor's thread)

    def _on_cloud(self, message: PointCloud2) -> None:
        self.checked_stamp(CLOUD, message.header)
        self._last_cloud = message
        if self.settings.answer_clouds and self._worker.submit((message, time.monotonic())) is not None:
            self.statistics.dropped("newer cloud came")

    def _on_request(self, request: Any, response: Any) -> Any:
        """Waits for the worker: a service of rclpy answers when its callback returns."""
        self.statistics.received(SERVICE)
        if not self.enabled:
            response.success, response.message = False, "the node is disabled: call ~/enable"
            return response
        done = threading.Event()

        def work() -> None:
            try:
                self._answer(request, response)
            except GraspNodesError as error:
                response.success, response.message = False, str(error)
            except Exception as error:  # noqa: BLE001 - whoever asked is told, whatever it was
                response.success, response.message = False, f"{type(error).__name__}: {error}"
            finally:
                done.set()

        self._worker.call(work)
        while not done.wait(0.05):
            if self.asked_to_stop() or self._closing.is_set() or self.finished.is_set():
                response.success, response.message = False, "the node is ending"
                break
        if not response.success:
            self.statistics.dropped("refused request")
            self.warn_sometimes(f"{SERVICE}: {response.message}", (SERVICE, "refused"))
        return response

    # -- work (the worker's thread)

    def _prepare(self) -> None:
        import torch

        from grasp_nodes.hand.files import load_hand_model
        from grasp_nodes.nodes.conversions.hand_model import to_hand_model_info

        settings = self.settings
        torch.set_num_threads(settings.threads)
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("parameter 'device': cuda, but torch sees no CUDA device here; expected cpu")
        sides: tuple[Side, ...] = ("left", "right")
        for side in sides:
            model = load_hand_model(side, settings.hand_model or None)
            self.facts |= {"hand model": model.model_id, f"hand model {side} sha256": model.fingerprint}
            self.publish(self._outputs[MODEL_INFO], MODEL_INFO, to_hand_model_info(model))
            self._hand_models[side] = model
        if device == "cuda":
            self._network_models = {
                side: load_hand_model(side, settings.hand_model or None).to(device) for side in sides
            }
        self.facts["device"] = device
        if settings.object:
            from grasp_nodes.objects.clouds.observed import check_width
            from grasp_nodes.objects.loading import load_object

            self._mesh = load_object(settings.object, scale=settings.object_scale)
            check_width(settings.object, self._mesh.vertices)
        method = self._method(settings.method)
        self._tell_method(method)
        self._rehearse(method)
        self.get_logger().info(
            f"ready: method {method.name}, hand {self.facts['hand model']}, device {method.device}, "
            f"{'working' if self.enabled else 'disabled: call ~/enable'}"
        )
        if settings.publish_state:
            # Only now: a source that waits for somebody to answer starts to play when it sees this topic.
            self._outputs[STATE] = self.advertise(HandObjectState, STATE)
        if self._mesh is not None and self.enabled:
            self.guard("object", self._grasp_mesh)

    def _method(self, name: str) -> Method:
        """A method, loaded once; networks run where the device parameter says, baselines on the CPU."""
        from grasp_nodes.synthesis.named_methods import LIVE, make_named_method

        return self._methods.of(name, lambda: make_named_method(name, self._hand_models, self._network_models, LIVE))

    def _tell_method(self, method: Method) -> None:
        self.facts["method"] = f"{method.name} {method.version}".strip()

    def _rehearse(self, method: Method) -> None:
        """Take clouds to the message of a grasp: the first real cloud is not the one that waits for compilers."""
        from grasp_nodes.nodes.conversions.clouds import to_cloud
        from grasp_nodes.objects.clouds.rehearsal import rehearsal_clouds

        for points in rehearsal_clouds():
            request = GenerateGrasps.Request(cloud=to_cloud(points, 0, "rehearsal"))
            # On no table: how often a slow method would have to try is not known.
            target = replace(self._cloud_target(request, request.cloud), table=None)
            if method.generator is not None:
                self._grasps_of(target, request, 1, method)

    def _work(self, item: tuple[PointCloud2, float]) -> None:
        message, arrived = item
        self.guard(CLOUD, self._grasp_cloud, message)
        self.statistics.latency(time.monotonic() - arrived)

    def _grasp_cloud(self, message: PointCloud2) -> None:
        request = GenerateGrasps.Request(cloud=message, seed=self.settings.seed)
        try:
            target = self._cloud_target(request, message)
        except InputError as error:
            self.useful(str(error))
            self._publish_none(message.header, str(error))
            raise
        try:
            self._propose(target, request, self.settings.count, answers_cloud=True)
        except GraspNodesError as error:
            self._publish_none(message.header, str(error))
            raise

    def _grasp_mesh(self) -> None:
        request = GenerateGrasps.Request(seed=self.settings.seed)
        self._propose(self._find_target(request), request, self.settings.count)

    def _answer(self, request: Any, response: Any) -> None:
        target = self._find_target(request)
        found = self._propose(target, request, self.settings.count)
        response.grasps = found[0]
        response.success = bool(found[0].grasps)
        response.message = "; ".join(part for part in (found[1], target.text) if part)

    def _find_target(self, request: Any) -> Target:
        from grasp_nodes.nodes.conversions.grasp_requests import read_scale
        from grasp_nodes.nodes.conversions.states import object_frame
        from grasp_nodes.nodes.mesh_roots import allowed_mesh
        from grasp_nodes.objects.clouds.observed import check_width
        from grasp_nodes.objects.loading import load_object

        if request.mesh_resource and len(request.cloud.data):
            raise InputError("GenerateGrasps: expected a mesh or a cloud, got both")
        model = None
        if request.mesh_resource:
            path = allowed_mesh(request.mesh_resource, self.settings.mesh_roots)
            model = load_object(path, request.object_id or None, read_scale(request))
            check_width(path, model.vertices)
        elif len(request.cloud.data) or request.cloud.width:
            return self._cloud_target(request, request.cloud)
        elif self._last_cloud is not None:
            return self._cloud_target(request, self._last_cloud)
        elif self._mesh is not None:
            model = self._mesh
        method, text = None, ""
        if model is None:
            model, method = self._imagined(request)
            text = "the object was imagined"
        header = GraspArray().header
        header.stamp, header.frame_id = self.get_clock().now().to_msg(), object_frame(model.object_id)
        return Target(model, np.zeros(3), header, text, method=method)

    def _imagined(self, request: Any) -> tuple[ObjectModel, Method]:
        """An object out of nothing, where a request names a method that makes one, and the method for grasps of it."""
        from grasp_nodes.nodes.conversions.grasp_requests import to_grasp_request
        from grasp_nodes.objects.kept_meshes import keep_mesh
        from grasp_nodes.paths import cache_dir
        from grasp_nodes.synthesis.named_methods import is_joint, make_joint_method

        # A cloud without points is one that shows nothing; nobody who sends it wants to get an object out of the blue.
        if request.cloud.fields or not is_joint(request.method):
            raise InputError(
                f"GenerateGrasps: expected a mesh_resource or a cloud; none came on {CLOUD} before, and the parameter "
                "object is empty; a request with none of them that names the method jhod gets an object of its own"
            )
        asked = to_grasp_request(request, self.settings.count, np.zeros(3), self.settings.max_contact_maps)
        joint = self._joint_methods.of(
            request.method, lambda: make_joint_method(request.method, self._hand_models, self._network_models)
        )
        model, method = joint.imagine(asked.seed)
        named = replace(model, object_id=request.object_id or f"imagined-{asked.seed}")
        return keep_mesh(named, cache_dir("imagined")), method

    def _cloud_target(self, request: Any, message: PointCloud2) -> Target:
        from grasp_nodes.nodes.conversions.clouds import cloud_to_points
        from grasp_nodes.nodes.conversions.grasp_requests import to_cloud_options
        from grasp_nodes.objects.clouds.observed import object_from_cloud

        settings = self.settings
        options = to_cloud_options(request, settings.cloud_scale, settings.table, settings.completion)
        found = object_from_cloud(cloud_to_points(message), options, request.object_id or "cloud")
        table = None
        if found.table is not None and settings.avoid_table:
            table = found.table.normal, float(found.table.offset - found.table.normal @ found.origin)
        text = "; ".join([found.completion, *found.remarks])
        return Target(found.model, found.origin, message.header, text, table)

    def _propose(self, target: Target, request: Any, count: int, answers_cloud: bool = False) -> tuple[GraspArray, str]:
        """Make, publish and return grasps, in the frame of the target's header, and a word about their number."""
        method = target.method or self._method(request.method or self.settings.method)
        self._tell_method(method)
        found, message, wanted = self._grasps_of(target, request, count, method)
        self.publish(self._outputs[GRASPS], GRASPS, message)
        if self._outputs[CONTACT].get_subscription_count():
            for grasp in message.grasps[: self.settings.max_contact_maps]:
                self.publish(self._outputs[CONTACT], CONTACT, grasp.contact_map)
        if self.settings.publish_markers and self._outputs[MARKERS].get_subscription_count():
            self._publish_markers(found, target)
        if answers_cloud:
            self._publish_state(target.header, found.grasps[:1], f"the best of {len(found.grasps)} grasps")
        number = len(found.grasps)
        text = "" if number == wanted else f"{number} of {wanted} grasps were found"
        self.useful("" if number else text or "no grasps were asked for")
        self.facts["object"] = "; ".join(part for part in (target.model.object_id, target.text) if part)
        return message, text or ("" if number else "no grasps were asked for")

    def _grasps_of(self, target: Target, request: Any, count: int, method: Method) -> tuple[GraspSet, GraspArray, int]:
        """Grasps in the frame of the target's header, the message of them, and how many were wanted."""
        from grasp_nodes.nodes.conversions.grasp_requests import to_grasp_request
        from grasp_nodes.nodes.conversions.grasps import to_grasp_array
        from grasp_nodes.synthesis.grasp_request import propose, shifted

        asked = to_grasp_request(request, count, target.origin, self.settings.max_contact_maps)
        if method.generator is None:
            raise InputError(f"method {method.name}: {method.missing}")
        found = propose(method.generator, target.model, replace(asked, table=target.table), self._hand_models)
        found = replace(found, method=method.name, grasps=shifted(found.grasps, target.origin))
        return found, to_grasp_array(found, target.header), asked.count

    def _publish_none(self, header: Any, reason: str) -> None:
        """Say that there are no grasps of this cloud's object: the last ones are of another."""
        message = GraspArray(header=header, object_id="cloud", method=self.settings.method)
        self.publish(self._outputs[GRASPS], GRASPS, message)
        self._publish_state(header, (), reason)

    def _publish_state(self, header: Any, grasps: Sequence[Grasp], text: str) -> None:
        """The best grasp as a hand in the cloud's frame."""
        from grasp_nodes.contact.interaction import FitStatus
        from grasp_nodes.contact.interaction import HandObjectState as State
        from grasp_nodes.nodes.conversions.fields import from_time
        from grasp_nodes.nodes.conversions.states import to_state

        if STATE not in self._outputs:
            return
        maps = [one.contact_map for one in grasps if one.contact_map is not None]
        status = FitStatus.OK if grasps else FitStatus.NOTHING
        hands = [replace(one.hand, score=1.0) for one in grasps]
        state = State(from_time(header.stamp), header.frame_id, hands, (), maps, {}, status, text)
        self.publish(self._outputs[STATE], STATE, to_state(state))

    def _publish_markers(self, found: GraspSet, target: Target) -> None:
        from grasp_nodes.nodes.conversions.grasp_markers import grasp_markers
        from grasp_nodes.viewer.posed_hands import HandPoser

        if self._poser is None:
            self._poser = HandPoser(self.settings.hand_model or None)
        shown = found.grasps[: self.settings.max_markers]
        markers = grasp_markers(target.header, target.model, target.origin, shown, self._poser)
        self.publish(self._outputs[MARKERS], MARKERS, MarkerArray(markers=markers))


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(GraspProposalNode, args)


if __name__ == "__main__":
    sys.exit(main())
