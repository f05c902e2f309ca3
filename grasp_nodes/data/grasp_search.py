"""Looks for grasps of one object: many hands are placed, their fingers closed, the best of them refined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from grasp_nodes.data.grasp_kinds import RECIPES, KindRecipe
from grasp_nodes.data.grasp_placement import against_palm, surface_pairs
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_closing import ALL_JOINTS, OUTER_JOINTS, FingerCloser
from grasp_nodes.fitting.grasp_energy import ContactGoal, GraspEnergy
from grasp_nodes.fitting.grasp_hand import GraspHand, GraspPose
from grasp_nodes.fitting.grasp_refine import RefineSettings, refine_poses
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.hand.parameters import NUM_BETAS
from grasp_nodes.hand.preshapes import HandPreshapes, palmward
from grasp_nodes.hand.preshapes import angles as angles_of
from grasp_nodes.objects.model import ObjectModel


@dataclass(frozen=True)
class SearchSettings:
    """Of the search.

    shape: standard deviation of betas, cut at `widest_shape`.
    jitter: rad, standard deviation of the pre-shapes' angles. clearance: m, by which pads start off the surface.
    close_depth: m, that a closing finger may be in the object.
    """

    shape: float = 0.8
    widest_shape: float = 2.0
    jitter: float = 0.06
    clearance: float = 0.003
    close_depth: float = 0.001
    refine: RefineSettings = field(default_factory=RefineSettings)


class GraspSearch:
    """Candidates of grasps of one object.

    Args:
        hand: in the search's variables, all vertices. model, solid: the object. settings: of the search.
    """

    def __init__(
        self, hand: GraspHand, model: ObjectModel, solid: Solid, settings: SearchSettings | None = None
    ) -> None:
        self._hand, self._model = hand, model
        self._settings = settings or SearchSettings()
        self._closer, self._preshapes = FingerCloser(hand), HandPreshapes.of_model(hand.model)
        self._center = torch.from_numpy(solid.center_of_volume).to(hand.model.dtype)
        self._patches = sorted({name for recipe in RECIPES.values() for name in (*recipe.required, *recipe.optional)})

    def candidates(
        self, counts: Mapping[GraspKind, int], generator: torch.Generator
    ) -> tuple[GraspPose | None, list[GraspKind]]:
        """Refined hands, not yet tested.

        Args:
            counts: hands wanted of each kind; fewer where the object is nowhere narrow enough.
            generator: of every chance.

        Returns:
            B hands, None if there are none, and the kind of each.
        """
        parts, kinds = [], []
        with torch.no_grad():
            for kind, count in counts.items():
                placed = self._place(RECIPES[kind], RECIPES[kind].tried * count, generator)
                if placed is None:
                    continue
                closed = self._close(RECIPES[kind], placed)
                energy = self._energy(closed, [kind] * len(closed))(closed.angles, *self._hand.posed(closed))
                best = energy.topk(min(count, len(closed)), largest=False).indices
                parts.append(closed[best])
                kinds += [kind] * len(best)
        if not parts:
            return None, []
        pose = GraspPose.joined(parts)
        goal = self._goal(kinds)
        return refine_poses(self._hand, pose, self._model.signed_distance, goal, self._settings.refine), kinds

    def _place(self, recipe: KindRecipe, count: int, generator: torch.Generator) -> GraspPose | None:
        if recipe.placement == "palm":
            closing = torch.empty(count).uniform_(*recipe.closing, generator=generator)
            angles = self._jittered(angles_of(recipe.kind, closing), generator)
            return against_palm(self._model, angles, self._shapes(count, generator), generator, recipe.gap)
        pairs = surface_pairs(self._model, count, recipe.gap[1], generator, self._center)
        if not len(pairs.thumb):
            return None
        closing = self._preshapes.closing(recipe.kind, pairs.gap + 2 * self._settings.clearance)
        roll, curl = torch.rand(2, len(closing), generator=generator)
        hands, _ = self._preshapes.placed(
            recipe.kind,
            closing,
            pairs.thumb,
            pairs.finger,
            palmward(pairs.finger - pairs.thumb, 2 * torch.pi * roll),
            self._shapes(len(closing), generator),
            curl,
        )
        pose = self._hand.pose(hands)
        return pose.with_angles(self._jittered(pose.angles, generator))

    def _shapes(self, count: int, generator: torch.Generator) -> Tensor:
        s = self._settings
        return (s.shape * torch.randn(count, NUM_BETAS, generator=generator)).clamp(-s.widest_shape, s.widest_shape)

    def _jittered(self, angles: Tensor, generator: torch.Generator) -> Tensor:
        angles = angles + self._settings.jitter * torch.randn(angles.shape, generator=generator)
        return torch.minimum(torch.maximum(angles, self._hand.low), self._hand.high)

    def _close(self, recipe: KindRecipe, pose: GraspPose) -> GraspPose:
        distance, depth = self._model.signed_distance, self._settings.close_depth
        moving = torch.from_numpy(recipe.closing_fingers)
        every, outer = (self._closer.directions(joints) for joints in (ALL_JOINTS, OUTER_JOINTS))
        if recipe.placement == "palm":
            pose = self._closer.close(pose, distance, every, (0.0, 1.5), 12, depth, moving)
            return self._closer.close(pose, distance, outer, (0.0, 0.6), 6, depth, moving)
        return self._closer.close(pose, distance, every, (-0.2, 0.6), 13, depth, moving)

    def _energy(self, pose: GraspPose, kinds: list[GraspKind]) -> GraspEnergy:
        return GraspEnergy(
            self._hand, self._model.signed_distance, self._goal(kinds), pose.angles, self._settings.refine.energy
        )

    def _goal(self, kinds: list[GraspKind]) -> ContactGoal:
        required, optional = (
            torch.tensor([[getattr(RECIPES[kind], name).get(patch, 0.0) for patch in self._patches] for kind in kinds])
            for name in ("required", "optional")
        )
        return ContactGoal(self._patches, required, optional, kinds)
