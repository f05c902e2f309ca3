"""Robot hands for states, trajectories and sets of grasps: finds the hand, its object and their contact in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import (
    Grasp,
    GraspSet,
    HandObjectState,
    HandObjectTrajectory,
    HandState,
    ObjectState,
)
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import NUM_REGIONS, anchors_of
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.retargeting.contact_targets import REACH, ContactTargets, contact_targets
from grasp_nodes.retargeting.retargeter import FrameRetargeter
from grasp_nodes.retargeting.robot_states import RobotGrasp, RobotGraspSet, RobotHandState, RobotTrajectory

_SAME_SIZE = 1e-3
"""Share by which an object's scale may differ from its model's."""


class StateRetargeter:
    """Follows the hand of one side through states.

    Args:
        retargeter: of one frame.
        load_hand_model: gives the human hand model of the robot's side; called only where a state has no contact map
            with regions. Without one such a state counts as one without contact.
    """

    def __init__(
        self,
        retargeter: FrameRetargeter,
        load_hand_model: Callable[[], HandModel] | None = None,
    ) -> None:
        self.retargeter = retargeter
        self._load_hand_model = load_hand_model
        self._hand_model: HandModel | None = None
        self._objects: dict[str, ObjectModel] = {}

    def add_object(self, object_model: ObjectModel) -> None:
        """An object that states may name."""
        self._objects[object_model.object_id] = object_model

    def reset(self) -> None:
        """Forget the last frame."""
        self.retargeter.reset()

    def update(self, state: HandObjectState) -> RobotHandState | None:
        """The robot hand of a state; None where no hand of the robot's side is in it.

        Of several hands of that side the first one counts.
        """
        human = next((each for each in state.hands if each.params.side == self.retargeter.hand.side), None)
        if human is None:
            return None
        found = self._held(state, human) if self.retargeter.settings.mode == "contact" else None
        if found is None:
            return self.retargeter.update(human, state.stamp, state.frame_id)
        pose, model, targets = found
        return self.retargeter.update(human, state.stamp, state.frame_id, pose.T_camera_object, model, targets)

    def targets(self, state: HandObjectState) -> ContactTargets | None:
        """What the state's contact asks of the robot, object frame; None without a hand near a known object."""
        human = next((each for each in state.hands if each.params.side == self.retargeter.hand.side), None)
        found = None if human is None else self._held(state, human)
        return None if found is None else found[2]

    def of_trajectory(self, trajectory: HandObjectTrajectory) -> RobotTrajectory:
        """The robot hand of every state with a hand of its side, in order, as one motion."""
        self.reset()
        states = [found for found in map(self.update, trajectory.states) if found is not None]
        hand = self.retargeter.hand
        return RobotTrajectory(trajectory.source, hand.name, hand.side, hand.kinematics.joint_names, states)

    def of_grasps(self, grasps: GraspSet, object_model: ObjectModel) -> RobotGraspSet:
        """A robot grasp for each grasp by a hand of the robot's side, each found by itself."""
        self.add_object(object_model)
        hand = self.retargeter.hand
        found = [
            RobotGrasp(state.positions, state.T_frame_base, number, {"residual_m": state.residual})
            for number, state in self._each_grasp(grasps.grasps, object_model)
        ]
        return RobotGraspSet(
            object_model.object_id,
            hand.name,
            hand.side,
            hand.kinematics.joint_names,
            found,
            object_model.mesh_resource,
        )

    def grasp_targets(self, grasp: Grasp, object_model: ObjectModel) -> ContactTargets | None:
        """`targets` of a grasp in the object's frame."""
        self.add_object(object_model)
        return self.targets(_grasp_state(grasp, object_model))

    def _each_grasp(self, grasps: Sequence[Grasp], object_model: ObjectModel) -> Iterator[tuple[int, RobotHandState]]:
        for number, grasp in enumerate(grasps):
            self.reset()
            state = self.update(_grasp_state(grasp, object_model))
            if state is not None:
                yield number, state

    # -- contact

    def _held(self, state: HandObjectState, human: HandState) -> tuple[ObjectState, ObjectModel, ContactTargets] | None:
        """The object that the hand is at, with what its contact asks for; of several the one with most contact."""
        best, weight = None, 0.0
        for pose in state.objects:
            model = self._objects.get(pose.object_id)
            if model is None:
                continue
            factor = pose.scale / model.scale
            if abs(factor - 1) > _SAME_SIZE:
                key = f"{pose.object_id} at {pose.scale:.4g}"
                if key not in self._objects:
                    self._objects[key] = replace(model.resized(factor), object_id=pose.object_id)
                model = self._objects[key]
            contact = self._contact(state, human, pose, model)
            if contact is None:
                continue
            targets = contact_targets(contact, model)
            total = float(targets.weight.sum())
            if len(targets.region) and total > weight:
                best, weight = (pose, model, targets), total
        return best

    def _contact(
        self, state: HandObjectState, human: HandState, pose: ObjectState, model: ObjectModel
    ) -> ContactMap | None:
        for contact in state.contact_maps:
            names_them = contact.object_id == pose.object_id and contact.hand_track_id == human.track_id
            if names_them and contact.hand_side == human.params.side and (contact.region < NUM_REGIONS).all():
                return contact
        if self._load_hand_model is None:
            return None
        T = pose.T_camera_object
        keypoints = (human.keypoints - T[:3, 3]) @ T[:3, :3]
        if model.signed_distance.query(keypoints)[0].min() > 2 * REACH:
            return None
        if self._hand_model is None:
            self._hand_model = self._load_hand_model()
        mine = self._hand_model
        if human.model_fingerprint and human.model_fingerprint != mine.fingerprint:
            raise InputError(
                f"retargeting: the hand is of the model {human.model_id} ({human.model_fingerprint[:12]}), the loaded "
                f"one is {mine.model_id} ({mine.fingerprint[:12]}): give the hand model that it was made with"
            )
        with torch.no_grad():
            vertices = mine(human.params.to(dtype=mine.dtype, device=mine.device)).vertices[0].double().cpu().numpy()
        return compute_contact_map(
            (vertices - T[:3, 3]) @ T[:3, :3],
            closed_faces(mine.faces.cpu().numpy()),
            model,
            hand_side=human.params.side,
            hand_track_id=human.track_id,
            anchors=anchors_of(mine),
        )


def _grasp_state(grasp: Grasp, object_model: ObjectModel) -> HandObjectState:
    """A grasp as a state in the object's frame."""
    maps = () if grasp.contact_map is None else (replace(grasp.contact_map, object_id=object_model.object_id),)
    pose = ObjectState(object_model.object_id, np.eye(4), scale=object_model.scale)
    return HandObjectState(0, "", (grasp.hand,), (pose,), maps)
