"""Polishes grasps: a finger line search, then some small steps of Adam on the grasp's energy.

Small steps matter: rates of 0.02 rad kick fingers off the object, from where only long runs bring them back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from grasp_nodes.fitting.grasp_energy import ContactGoal, EnergyWeights, GraspEnergy
from grasp_nodes.fitting.grasp_hand import GraspHand, GraspPose
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid


@dataclass(frozen=True)
class RefineSettings:
    """Of the polish.

    steps: of Adam. rate: rad per step of angles, of the turn a half of it; shift_rate: m per step.
    cooled_from: share of the steps after which rates fall to `cooled`.
    snap_span: rad, how far the line search opens and closes a finger first. snap_steps: places that it tries.
    """

    steps: int = 40
    rate: float = 0.005
    shift_rate: float = 0.0004
    cooled_from: float = 0.7
    cooled: float = 0.3
    snap_span: tuple[float, float] = (-0.45, 0.35)
    snap_steps: int = 17
    weights: EnergyWeights = field(default_factory=EnergyWeights)


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
    energy = GraspEnergy(hand, distance, goal, pose.angles, settings.weights)
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
