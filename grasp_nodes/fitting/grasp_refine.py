"""Polishes grasps: a finger line search, then some small steps of Adam on the grasp's energy.

Small steps matter: rates of 0.02 rad kick fingers off the object, from where only long runs bring them back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from grasp_nodes.fitting.grasp_closing import ALL_JOINTS, FingerCloser
from grasp_nodes.fitting.grasp_energy import ContactGoal, EnergyWeights, GraspEnergy
from grasp_nodes.fitting.grasp_hand import GraspHand, GraspPose
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.pads import contact_patches
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.model import ObjectModel

_OPTIONAL = 0.35
"""Weight of skin other than the pads, where it is near."""


@dataclass(frozen=True)
class RefineSettings:
    """Of steps of Adam on a grasp's energy: as the search for grasps makes them.

    steps: of Adam. rate: rad per step of angles, of the turn a half of it; shift_rate: m per step.
    cooled_from: share of the steps after which rates fall to `cooled`.
    snap_span: rad, how far the line search opens and closes a finger first. snap_steps: places that it tries.
    snap_depth: m, that a finger may be in the object there. near: m, from the surface to a pad that ought to touch.
    energy: weights of the terms.
    """

    steps: int = 40
    rate: float = 0.005
    shift_rate: float = 0.0004
    cooled_from: float = 0.7
    cooled: float = 0.3
    snap_span: tuple[float, float] = (-0.45, 0.35)
    snap_steps: int = 17
    snap_depth: float = 0.001
    near: float = 0.015
    energy: EnergyWeights = field(default_factory=EnergyWeights)


POLISH_SETTINGS = RefineSettings(rate=0.006, energy=EnergyWeights(penetration=6e4, flesh=6e4, skin=0.001))
"""Of the polish: twice as hard as the search, which takes a fifth off the depth and keeps as many grasps good. Three
times as hard, one grasp in twenty loses its hold."""


class GraspPolisher:
    """Improves hands of any origin where they are: fingers onto the surface and out of it, balanced and natural.

    Pads that are near the surface after the line search are meant to touch, other skin may. A hand of which nothing
    is near the surface stays as it was.

    Args:
        model: of the hands, full, of either side. settings: steps and rates.
    """

    def __init__(self, model: HandModel, settings: RefineSettings | None = None) -> None:
        self._hand, self._settings = GraspHand(model), settings or POLISH_SETTINGS
        self._closer = FingerCloser(self._hand)

    def __call__(self, hands: HandParams, object_model: ObjectModel) -> HandParams:
        """Polish B hands, in the object's frame, on the model's device.

        Raises:
            InputError: hands of another side, dtype or scale than the model's.
        """
        self._hand.check(hands)
        if not len(hands):
            return hands
        s, hand, distance = self._settings, self._hand, object_model.signed_distance
        with torch.no_grad():
            bend = self._closer.directions(ALL_JOINTS)
            pose = self._closer.close(
                hand.pose(hands), distance, bend, s.snap_span, s.snap_steps, s.snap_depth, only_to_touch=True
            )
            signed = distance(hand.posed(pose)[0])
        refined = hand.params(refine_poses(hand, pose, distance, self._goal(signed), s))
        # Adam makes full steps of the faintest slope: what has nothing near would creep.
        near = (signed.amin(dim=1) < s.near)[:, None]
        return replace(
            hands,
            global_orient=torch.where(near, refined.global_orient, hands.global_orient),
            hand_pose=torch.where(near, refined.hand_pose, hands.hand_pose),
            transl=torch.where(near, refined.transl, hands.transl),
        )

    def _goal(self, signed: Tensor) -> ContactGoal:
        patches = contact_patches(self._hand.model)
        required = [
            (signed[:, patches[name]].amin(dim=1) < self._settings.near).to(signed.dtype)
            if name.endswith("_pad")
            else signed.new_zeros(len(signed))
            for name in patches
        ]
        optional = signed.new_tensor([0.0 if name.endswith("_pad") else _OPTIONAL for name in patches])
        return ContactGoal(tuple(patches), torch.stack(required, dim=1), optional)


def refine_poses(
    hand: GraspHand,
    pose: GraspPose,
    distance: SignedDistanceGrid,
    goal: ContactGoal,
    settings: RefineSettings,
) -> GraspPose:
    """Steps of Adam on `GraspEnergy` over angles, turn and place; angles stay within the limits or where they were.

    Args:
        hand: in the search's variables. pose: B hands. distance: to the object. goal: contacts.
        settings: steps and rates.
    """
    energy = GraspEnergy(hand, distance, goal, pose.angles, settings.energy)
    low, high = torch.minimum(hand.low, pose.angles), torch.maximum(hand.high, pose.angles)
    angles = pose.angles.clone().requires_grad_(True)
    turn = torch.zeros_like(pose.position).requires_grad_(True)
    shift = torch.zeros_like(pose.position).requires_grad_(True)
    optimiser = torch.optim.Adam(
        [
            {"params": [angles], "lr": settings.rate},
            {"params": [turn], "lr": 0.5 * settings.rate},
            {"params": [shift], "lr": settings.shift_rate},
        ],
        betas=(0.9, 0.99),
    )
    for step in range(settings.steps):
        optimiser.zero_grad(set_to_none=True)
        vertices, keypoints = hand.posed(pose.moved(angles, turn, shift))
        energy(angles, vertices, keypoints).sum().backward()
        optimiser.step()
        with torch.no_grad():
            angles.copy_(torch.minimum(torch.maximum(angles, low), high))
        if step == int(settings.cooled_from * settings.steps):
            for group in optimiser.param_groups:
                group["lr"] *= settings.cooled
    with torch.no_grad():
        return pose.moved(angles.detach(), turn.detach(), shift.detach())
