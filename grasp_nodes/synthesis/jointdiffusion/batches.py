"""Grasps as CHOIR fields for training: each batch made on the fly, with noise and turns of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.choir.field import anchor_distances, object_distances
from grasp_nodes.contact.choir.gaussians import ContactSkin, encode_contacts, skin_contact
from grasp_nodes.contact.choir.space import ChoirFrame, ChoirSpace
from grasp_nodes.data.grasp_batches import GraspSplit, SteppedRandomness, split_by_object
from grasp_nodes.data.grasp_readers.perturbation import NOISE_LEVELS, NoiseLevel, perturb
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.object_distances import ObjectDistances, measure_objects
from grasp_nodes.data.object_surfaces import ObjectSurfaces, sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, random_rotations
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.registry import SPEC_PREFIX, check_not_held_out, parse_name
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns
from grasp_nodes.synthesis.jointdiffusion.config import Facing
from grasp_nodes.synthesis.jointdiffusion.grid_distances import distances_by_stack

Modality = Literal["both", "refinement", "synthesis"]
Division = Literal["both", "objects", "hands"]
SURFACE_POINTS = 4096
"""As the paper's keypoint baseline has them."""
FIELD_POINTS = 2048
"""To the nearest of which the object's distances are."""
AXIS_POINTS = 512
"""From which principal axes are told."""


@dataclass(frozen=True)
class FieldOptions:
    """What training grasps become.

    modality: of a sample: with a noisy hand, without, or one as often as the other. level: of the noise, an index into
    `NOISE_LEVELS`; -1 = any deviation up to those of the highest level, another one for each batch.
    facing, grid_distance: see `JointConfig`.
    """

    modality: Modality = "both"
    level: int = 2
    facing: Facing = "random"
    grid_distance: bool = False

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise InputError(f"modality: expected one of {', '.join(get_args(Modality))}, got {self.modality!r}")
        if not -1 <= self.level < len(NOISE_LEVELS):
            raise InputError(f"level: expected -1 (any) to {len(NOISE_LEVELS) - 1}, got {self.level}")


@dataclass(frozen=True, eq=False)
class GraspFields:
    """A set of grasps, and all that fields are made of.

    grasps: of one hand. model: that hand, on the CPU. split: of the rows. surfaces, distances: of the objects.
    """

    grasps: LabelledGrasps
    model: HandModel
    split: GraspSplit
    surfaces: ObjectSurfaces
    distances: ObjectDistances
    what: str

    @staticmethod
    def of_grasps(
        grasps: LabelledGrasps,
        model: HandModel,
        validation: float = 0.05,
        division: Division = "both",
        leave_out: tuple[str, ...] = (),
        seed: int = 0,
        report: Callable[[str, int, int], None] | None = None,
    ) -> GraspFields:
        """Make a set ready.

        Args:
            validation: share that is held out: of the objects, or of the hands (`split_by_hand`).
            division: ``objects``: unseen ones are validated on; ``hands``: unseen hands on objects that were seen;
                ``both``: neither is trained on, unseen objects are validated on.
            leave_out: families that are not trained on. report: is told what is done, how much, and of how much.

        Raises:
            InputError: grasps of another hand, or of held-out objects. MissingFileError: a mesh that is not there.
        """
        if division not in get_args(Division):
            raise InputError(f"division: expected one of {', '.join(get_args(Division))}, got {division!r}")
        check_not_held_out([parse_name(one.mesh) for one in grasps.objects if one.mesh.startswith(SPEC_PREFIX)])
        grasps.check_hand_model(model)

        def told(what: str) -> Callable[[int, int], None] | None:
            return None if report is None else lambda done, total: report(what, done, total)

        surfaces = sample_surfaces(grasps.objects, SURFACE_POINTS, progress=told("sampling surfaces"))
        distances = measure_objects(grasps.objects, told("distances to objects"))
        split = held_out_split(grasps, division, validation, seed, leave_out)
        what = f"{grasps.source}: {len(split.training)} grasps, held out by {division}"
        return GraspFields(grasps, model, split, surfaces, distances, what)


def held_out_split(
    grasps: LabelledGrasps, division: Division, share: float, seed: int = 0, leave_out: tuple[str, ...] = ()
) -> GraspSplit:
    """The rows that training sees and those that it is validated on; see `GraspFields.of_grasps`.

    Raises:
        InputError: as `split_by_object`.
    """
    if division == "hands":
        return split_by_hand(grasps, share, seed)
    split = split_by_object(grasps, share, seed, leave_out)
    if division == "objects":
        return split
    unseen = split_by_hand(grasps, share, seed).validation
    return replace(split, training=np.setdiff1d(split.training, unseen))


def split_by_hand(grasps: LabelledGrasps, share: float, seed: int) -> GraspSplit:
    """Split a set so that no hand (betas) is on two sides; objects are on both. Stands for a split by subjects."""
    hands, of_grasp = np.unique(grasps.hands.betas.numpy(), axis=0, return_inverse=True)
    validates = np.random.default_rng([seed, 17]).permutation(len(hands)) < round(share * len(hands))
    held = validates[of_grasp.reshape(-1)]
    return GraspSplit(np.flatnonzero(~held), np.flatnonzero(held), np.zeros(0, np.int64))


class FieldBatches:
    """Batches of rows of a set: a function of the step.

    Args:
        fields: the set. space: of the fields. options: of the samples.
        points_only: without fields and contacts, which are most of the work and which the keypoint baseline ignores.
    """

    def __init__(
        self, fields: GraspFields, space: ChoirSpace, options: FieldOptions, points_only: bool = False
    ) -> None:
        self.fields, self.space, self.options, self._points_only = fields, space, options, points_only
        self._skin = ContactSkin.of_model(fields.model)
        self._basis = torch.from_numpy(space.basis).float()
        self._points = torch.from_numpy(fields.surfaces.points)
        self._centers = torch.from_numpy(fields.surfaces.centers)

    def of_rows(self, rows: np.ndarray, step: SteppedRandomness) -> dict[str, Tensor]:
        """The batch of rows of the set, with the noise and turns of a step.

        For B grasps: ``has_hand`` (B,) bool; ``keypoints`` and ``noisy_keypoints`` (B, 53, 3), and ``points``
        (B, P, 3), m, in the axes of the field, about the object's centre; ``row`` (B,). Unless `points_only` also
        ``field``, ``object``, ``noisy`` (B, K), remapped, and ``contacts`` (B, 32, 10), numbers.
        """
        batch, model = self.fields.grasps[np.asarray(rows, np.int64)], self.fields.model
        rng, options = step.rng(stream=4), self.options
        hands = batch.hands.to(dtype=model.dtype)
        noisy = perturb(batch, self._level(rng), int(rng.integers(1 << 31)), model.hands_components.numpy()).hands
        has_hand = torch.from_numpy(_with_hand(len(batch), options.modality, rng))
        index = torch.from_numpy(batch.object_index)
        # Sampled along the list of faces; in another order at each step, any run of them is spread over the object.
        order = torch.from_numpy(rng.permutation(self._points.shape[1]))
        points, center = self._points[index][:, order], self._centers[index]
        turn = self._turns(points, noisy, has_hand, rng, step)
        with torch.no_grad():
            clean, rough = model(hands), model(noisy.to(dtype=model.dtype))

        def seen(there: Tensor) -> Tensor:
            return ((there - center[:, None]) @ turn.mT).contiguous()

        vertices, item = seen(clean.vertices), seen(points)
        places = self._skin.anchors.positions(vertices)
        noisy_places = seen(self._skin.anchors.positions(rough.vertices))
        found = {
            "has_hand": has_hand,
            "keypoints": torch.cat([seen(clean.keypoints), places], dim=1),
            "noisy_keypoints": torch.cat([seen(rough.keypoints), noisy_places], dim=1),
            "points": item,
            "row": torch.from_numpy(np.asarray(rows, np.int64)),
        }
        if self._points_only:
            return found
        about = torch.zeros_like(center)
        frame = self.space.frame(about, item, noisy_places)
        alone = self.space.frame(about, item)
        frame = ChoirFrame(about, torch.where(has_hand, frame.factor, alone.factor))
        distances = self.fields.distances
        back, shift = distances.turns[index], distances.shifts[index]
        signed = distances.stack((clean.vertices - shift[:, None]) @ back, index)
        return found | {
            "field": self.space.remapped(anchor_distances(self.space, places, frame)),
            "noisy": self.space.remapped(anchor_distances(self.space, noisy_places, frame)),
            "object": self.space.remapped(self._to_objects(index, item, turn, center, frame)),
            "contacts": encode_contacts(self._skin, vertices, skin_contact(signed)).numbers(),
        }

    def _level(self, rng: np.random.Generator) -> NoiseLevel:
        if self.options.level >= 0:
            return NOISE_LEVELS[self.options.level]
        most, share = NOISE_LEVELS[-1], float(rng.uniform())
        return NoiseLevel(share * most.translation, share * most.rotation, share * most.pca)

    def _turns(
        self, points: Tensor, noisy: HandParams, has_hand: Tensor, rng: np.random.Generator, step: SteppedRandomness
    ) -> Tensor:
        """(B, 3, 3): from the frame of the grasps to that of the fields."""
        if self.options.facing == "random":
            return random_rotations(len(points), step.generator(stream=2))
        flips = FLIPS[torch.from_numpy(rng.integers(len(FLIPS), size=len(points)))]
        alone = flips @ principal_turns(points[:, :AXIS_POINTS])
        return torch.where(has_hand[:, None, None], hand_turns(noisy), alone)

    def _to_objects(self, index: Tensor, item: Tensor, turn: Tensor, center: Tensor, frame: ChoirFrame) -> Tensor:
        """(B, K), scaled units."""
        if not self.options.grid_distance:
            return object_distances(self.space, item[:, :FIELD_POINTS].contiguous(), frame)
        distances = self.fields.distances
        metric = frame.metric(self._basis.expand(len(index), -1, -1)) @ turn + center[:, None]
        back, shift = distances.turns[index], distances.shifts[index]
        found = distances_by_stack(distances.stack, (metric - shift[:, None]) @ back, index)
        return found * frame.factor[:, None]


def hand_turns(hands: HandParams) -> Tensor:
    """(B, 3, 3): from the frame of hands to one in which the hand stands as in its rest pose."""
    return axis_angle_to_matrix(hands.global_orient.float()).mT


def _with_hand(count: int, modality: Modality, rng: np.random.Generator) -> np.ndarray:
    if modality != "both":
        return np.full(count, modality == "refinement")
    return rng.permutation(count) < count // 2 + int(count % 2 and rng.uniform() < 0.5)
