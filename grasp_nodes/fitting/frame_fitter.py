"""Evidence of one frame after the other to hands, object and their contact: the first, frame-by-frame solver."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.contact.computation import CONTACT_THRESHOLD, compute_contact_map
from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.given_poses import GivenPoses, starts_of
from grasp_nodes.fitting.hand_contact import ObjectSurface
from grasp_nodes.fitting.hand_fit import HandFit, HandFitOptions, HandFitter
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_search import UnexplainedHandError
from grasp_nodes.fitting.object_fit import ObjectPoseEstimate, ObjectPoseFitter
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameFitterOptions:
    """How frames are fitted."""

    hand: HandFitOptions = field(default_factory=HandFitOptions)
    min_hand_score: float = 0.5
    """Hands with a lower score are not fitted."""
    min_object_score: float = 0.2
    """Object poses with a lower score are not refined against."""
    contact_refinement: bool = True
    """Whether the object's surface corrects the hand."""
    contact_threshold: float = CONTACT_THRESHOLD
    """m; distance at which contact is one half."""
    hold_time: float = 1.0
    """s for which the last answer is repeated when something is lost."""
    held_decay: float = 0.9
    """Factor on the score of an answer for every frame in which it is repeated."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("min_hand_score", "min_object_score", "held_decay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        if not self.contact_threshold > 0 or self.hold_time < 0:
            raise InputError("contact_threshold: expected > 0, and hold_time: expected >= 0")


@dataclass
class _FollowedHand:
    fitter: HandFitter
    stamp: int
    state: HandState | None = None
    vertices: np.ndarray | None = None


class FrameFitter:
    """Hands, object and contact from evidence in time order."""

    def __init__(
        self,
        object_model: ObjectModel | None,
        hand_models: Mapping[Side, HandModel],
        options: FrameFitterOptions | None = None,
    ) -> None:
        """Prepare the models.

        Args:
            object_model: the object that is handled; None = hands alone.
            hand_models: by side; hands of a side without a model are not fitted.
            options: how frames are fitted.

        Raises:
            InputError: no hand model at all.
        """
        if not hand_models:
            raise InputError("hand_models: expected a model for 'right', 'left' or both, got none")
        self.options = options or FrameFitterOptions()
        self._models = dict(hand_models)
        self._closed = {side: closed_faces(model.faces.cpu().numpy()) for side, model in hand_models.items()}
        self._object_model = object_model
        self._object_fitter = None if object_model is None else ObjectPoseFitter(object_model, self.options.seed)
        self.reset()

    def reset(self) -> None:
        """Forget everything that was followed."""
        self._hands: dict[tuple[int, Side], _FollowedHand] = {}
        self._object: ObjectState | None = None
        self._object_stamp = 0
        self._stamp: int | None = None
        if self._object_fitter is not None:
            self._object_fitter.reset()

    def warm_up(self) -> None:
        """Fit one made-up frame and forget it: what is compiled on first use is compiled before frames wait for it."""
        camera = CameraModel(np.array([[300.0, 0.0, 159.5], [0.0, 300.0, 119.5], [0.0, 0.0, 1.0]]), 320, 240)
        columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        disc = (columns - 200) ** 2 + (rows - 120) ** 2 < 30**2
        depth = np.full(disc.shape, 0.5, np.float32)
        side: Side = next(iter(self._models))
        skeleton = HandFitter(self._models[side], self.options.hand).skeleton
        at_rest = HandConfiguration(np.eye(3), np.array([0.0, 0.0, 0.5]), np.zeros(skeleton.num_dofs))
        keypoints = camera.project(pose_keypoints(skeleton, at_rest)).astype(np.float32)
        box = np.array([170.0, 90.0, 230.0, 150.0], np.float32)
        hand = HandEvidence(side, 1.0, 1.0, box, keypoints, None, ~disc, 0)
        for stamp in (0, 1):
            evidence = Evidence(stamp, camera, (hand,), (ObjectEvidence("", 1.0, box, disc),))
            self.update(evidence, depth)
        self.reset()

    def update(
        self, evidence: Evidence, depth: np.ndarray | None = None, given: GivenPoses | None = None
    ) -> HandObjectState:
        """The state of one frame.

        Args:
            evidence: what was seen; a stamp before the last one starts anew.
            depth: (H, W) float32, m, registered to the evidence's camera, 0 or NaN = no measurement; None = colour.
            given: poses from elsewhere, from which the fit starts.

        Returns:
            OK: something was seen and nothing had to be repeated for lack of it. HELD: the last answer is repeated for
            the hand, or for all there is. NOTHING: no answer.

        Raises:
            InputError: evidence or depth that cannot be used.
        """
        if self._stamp is not None and evidence.stamp < self._stamp:
            self.reset()
        self._stamp = evidence.stamp
        residuals: dict[str, float] = {}
        given = given or GivenPoses()
        estimate = self._fit_object(evidence, depth, residuals, given.T_camera_object)
        seen = [hand for hand in evidence.hands if hand.score >= self.options.min_hand_score]
        fresh = {
            self._fit_hand(hand, evidence, depth, estimate, residuals, start)
            for hand, start in starts_of(seen, given.hands, evidence.camera, self._models)
        } - {None}
        held = self._hold_hands(fresh, evidence.stamp)
        self._after_hands(estimate is not None, fresh)
        hands = [followed.state for followed in self._hands.values() if followed.state is not None]
        objects = [] if self._object is None else [self._object]
        status, text = self._status(bool(fresh), held, estimate)
        return HandObjectState(
            stamp=evidence.stamp,
            frame_id=evidence.camera.frame_id,
            hands=tuple(sorted(hands, key=lambda hand: -hand.score)),
            objects=tuple(objects),
            contact_maps=tuple(self._contact_maps()),
            residuals=residuals,
            status=status,
            status_text=text,
        )

    # -- object

    def _fit_object(
        self,
        evidence: Evidence,
        depth: np.ndarray | None,
        residuals: dict[str, float],
        start: np.ndarray | None,
    ) -> ObjectPoseEstimate | None:
        """The object's pose where it was seen in this frame; keeps or repeats its state."""
        if self._object_fitter is None or self._object_model is None:
            return None
        seen = _object_evidence(evidence, self._object_model.object_id)
        masks = [hand.mask for hand in evidence.hands if hand.mask is not None]
        occluder = np.logical_or.reduce(masks) if masks else None
        estimate = self._object_fitter.update(
            evidence.camera, None if seen is None else seen.mask, depth, occluder, start
        )
        if estimate is None or estimate.is_held:
            self._hold_object(evidence.stamp)
            return None
        self._object_stamp = evidence.stamp
        self._object = ObjectState(
            object_id=self._object_model.object_id,
            T_camera_object=estimate.T_camera_object,
            covariance=estimate.covariance,
            scale=self._object_model.scale,
            score=float(np.clip(estimate.score, 0.0, 1.0)),
            mesh_resource=self._object_model.mesh_resource,
            is_metric=evidence.camera.is_metric,
        )
        residuals["object_iou"] = float(estimate.iou)
        if np.isfinite(estimate.depth_rms):
            residuals["object_depth_rms_m"] = float(estimate.depth_rms)
        return estimate

    def _hold_object(self, stamp: int) -> None:
        if self._object is None:
            return
        if (stamp - self._object_stamp) * 1e-9 > self.options.hold_time:
            self._object = None
            return
        self._object = replace(self._object, score=self._object.score * self.options.held_decay)

    # -- hands

    def _fit_hand(
        self,
        hand: HandEvidence,
        evidence: Evidence,
        depth: np.ndarray | None,
        estimate: ObjectPoseEstimate | None,
        residuals: dict[str, float],
        start: HandParams | None,
    ) -> tuple[int, Side] | None:
        side: Side = "left" if hand.side == "left" else "right"
        model = self._models.get(side)
        if model is None:
            return None
        key = (hand.track_id, side)
        followed = self._hands.get(key)
        if followed is None:
            followed = _FollowedHand(HandFitter(model, self.options.hand), evidence.stamp)
            self._forget_other_side(key)
        try:
            fit = followed.fitter.update(evidence.camera, hand, depth, evidence.stamp, self._surface(estimate), start)
        except UnexplainedHandError as error:
            # A false hit of the landmark network must not cost the object and the other hand their answer.
            logger.info("hand %d (%s) left out: %s", hand.track_id, side, error)
            return None
        followed.stamp = evidence.stamp
        followed.state, followed.vertices = self._hand_state(model, fit, hand.track_id)
        self._hands[key] = followed
        prefix = f"{side}_hand_{hand.track_id}"
        residuals[f"{prefix}_landmark_rms_m"] = fit.landmark_error
        if np.isfinite(fit.skin_error):
            residuals[f"{prefix}_skin_m"] = fit.skin_error
        return key

    def _surface(self, estimate: ObjectPoseEstimate | None) -> ObjectSurface | None:
        """The object for the hand to touch, where its pose can be believed."""
        if estimate is None or self._object_model is None or not self.options.contact_refinement:
            return None
        if estimate.score < self.options.min_object_score:
            return None
        return ObjectSurface(self._object_model, estimate.T_camera_object)

    def _forget_other_side(self, key: tuple[int, Side]) -> None:
        """A track is one hand: when the vote about its side turns, the old answer goes."""
        self._hands = {other: hand for other, hand in self._hands.items() if other[0] != key[0]}

    @staticmethod
    def _hand_state(model: HandModel, fit: HandFit, track_id: int) -> tuple[HandState, np.ndarray]:
        params = fit.params.to(device=model.device, dtype=model.dtype)
        with torch.no_grad():
            output = model(params)
        frames = output.joint_frames[0].cpu().numpy().astype(np.float64)
        quaternions = Rotation.from_matrix(frames[:, :3, :3]).as_quat()
        state = HandState(
            params=fit.params,
            keypoints=output.keypoints[0].cpu().numpy().astype(np.float64),
            joint_poses=np.concatenate([frames[:, :3, 3], quaternions], axis=1),
            model_id=model.model_id,
            model_fingerprint=model.fingerprint,
            track_id=track_id,
            score=float(np.clip(fit.score, 0.0, 1.0)),
            is_metric=fit.is_metric,
        )
        return state, output.vertices[0].cpu().numpy().astype(np.float64)

    def _hold_hands(self, fresh: set[tuple[int, Side] | None], stamp: int) -> bool:
        """Repeat the hands that were not seen, and forget those that are gone; whether any is repeated."""
        held = False
        for key, followed in list(self._hands.items()):
            if key in fresh:
                continue
            replaced = any(other in fresh for other in self._hands if other[1] == key[1])
            if replaced or (stamp - followed.stamp) * 1e-9 > self.options.hold_time:
                del self._hands[key]
            elif followed.state is not None:
                followed.state = replace(followed.state, score=followed.state.score * self.options.held_decay)
                held = True
        return held

    def _after_hands(self, object_seen: bool, fresh: set[tuple[int, Side] | None]) -> None:
        """For what hands and object say of each other in this frame.

        Args:
            object_seen: the object's pose is of this frame. fresh: hands that were fitted in this frame.
        """

    # -- contact and status

    def _contact_maps(self) -> list[ContactMap]:
        if self._object is None or self._object_model is None:
            return []
        rotation, translation = self._object.T_camera_object[:3, :3], self._object.T_camera_object[:3, 3]
        maps = []
        for (track_id, side), followed in self._hands.items():
            if followed.vertices is not None:
                in_object = (followed.vertices - translation) @ rotation
                maps.append(
                    compute_contact_map(
                        in_object,
                        self._closed[side],
                        self._object_model,
                        self.options.contact_threshold,
                        side,
                        track_id,
                        anchors_of(self._models[side]),
                    )
                )
        return maps

    def _status(self, any_fresh: bool, any_held: bool, estimate: ObjectPoseEstimate | None) -> tuple[FitStatus, str]:
        if not self._hands and self._object is None:
            return FitStatus.NOTHING, "no hand and no object was found"
        object_text = ""
        if self._object_model is not None and estimate is None:
            object_text = "object not seen" + (": its last pose is repeated" if self._object is not None else "")
        if any_fresh:
            return FitStatus.OK, object_text
        if any_held:
            return FitStatus.HELD, "; ".join(filter(None, ["hand not seen: its last pose is repeated", object_text]))
        if estimate is not None:
            return FitStatus.OK, "no hand was found"
        return FitStatus.HELD, object_text


def _object_evidence(evidence: Evidence, object_id: str) -> ObjectEvidence | None:
    """The object of that name, else the best one: a segmenter need not know names."""
    named = [found for found in evidence.objects if found.object_id == object_id]
    return next(iter(named or evidence.objects), None)
