"""Grasps of JointDiffusion and of its keypoint baseline: noisy ones refined, new ones made."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from grasp_nodes.contact.choir.field import ChoirField, anchor_distances, object_distances
from grasp_nodes.contact.choir.gaussians import NUMBERS, ContactGaussians
from grasp_nodes.contact.choir.space import ChoirFrame, ChoirSpace
from grasp_nodes.contact.hand_states import make_grasps, stack_params
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.fitting.choir.choir_fit import NETWORK_FIT, REFINED_FIT, ChoirFit, ChoirFitSettings, FittedHands
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.anchors import NUM_ANCHORS, anchors_of
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.learning.weights import WeightCard
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import CHUNK, check_request, chunk_seed
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns
from grasp_nodes.synthesis.jointdiffusion.batches import AXIS_POINTS, FIELD_POINTS, hand_turns
from grasp_nodes.synthesis.jointdiffusion.grid_distances import distances_by_grid
from grasp_nodes.synthesis.jointdiffusion.keypoints import PointScene, keypoints_of_numbers
from grasp_nodes.synthesis.jointdiffusion.network import Scene
from grasp_nodes.synthesis.jointdiffusion.trained import (
    JOINT,
    KEYPOINT,
    TrainedJoint,
    TrainedKeypoints,
    load_joint,
    load_keypoints,
)
from grasp_nodes.synthesis.jointdiffusion.training import joint_denoiser, keypoint_denoiser
from grasp_nodes.synthesis.samplers import DiffusionSampler
from grasp_nodes.synthesis.samplers import Method as SamplingMethod
from grasp_nodes.synthesis.schedules import NoiseSchedule
from grasp_nodes.synthesis.suffixes import HandModels
from grasp_nodes.synthesis.vector_generator import object_points

SAMPLING_STEPS = 10
KEYPOINT_DEVIATION = 0.004
"""m, of what the keypoint baseline tells."""


@dataclass(frozen=True)
class FieldSampling:
    """method, eta: see `DiffusionSampler`. steps: calls of the network; None = all for DDPM, 10 for the others.

    spread, refined_spread: of the noise that new and refined hands start from; 1 = standard normal, as in the paper.
    With somewhat less, new hands are a little more alike and hold better (docs/choir.md). Without any, a refined hand
    is the mean of what the true one may be rather than one draw of it: in a noisy grasp there is more to be undecided
    about than a draw should decide at random.
    """

    method: SamplingMethod = "ddim"
    steps: int | None = None
    eta: float = 0.0
    spread: float = 0.7
    refined_spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("spread", "refined_spread"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected 0 to 1, got {getattr(self, name)}")

    def sampler(self, schedule: NoiseSchedule) -> DiffusionSampler:
        """Of a schedule."""
        steps = self.steps or (len(schedule) if self.method == "ddpm" else min(SAMPLING_STEPS, len(schedule)))
        return DiffusionSampler(schedule, self.method, steps, eta=self.eta)


@dataclass(frozen=True)
class View:
    """How B scenes of one object are seen: a point x of the object's frame is at ``turn (x - center)``.

    turn: (B, 3, 3). center: (3,), m.
    """

    turn: Tensor
    center: Tensor

    def seen(self, points: Tensor) -> Tensor:
        """Points (B, P, 3) or (P, 3) of the object's frame, as (B, P, 3)."""
        return ((points - self.center) @ self.turn.mT).contiguous()

    def back(self, hands: HandParams, model: HandModel) -> HandParams:
        """Hands of the view in the object's frame."""
        transform = torch.eye(4).repeat(len(self.turn), 1, 1)
        transform[:, :3, :3], transform[:, :3, 3] = self.turn.mT, self.center
        return move_hands(hands, transform, model)


class SceneNetwork(Protocol):
    """What the two methods do between scenes and hands."""

    def hands(
        self, object_model: ObjectModel, view: View, noisy: HandParams | None, noise: Tensor, generator: torch.Generator
    ) -> HandParams:
        """B hands in the object's frame, of noise (B, size), refined from noisy ones or new."""
        ...

    @property
    def size(self) -> int:
        """Numbers of noise that a hand starts from."""
        ...


class FieldGrasps:
    """Refines grasps and makes new ones with a network; right hands.

    Args:
        method: its name. network: see there. model: the hand. aligned: whether scenes are seen from the noisy hand,
            and without one along the object's axes; otherwise turned at random.
        sampling: whose spreads are of the noise. version: changes with the hands. card: of the weights.
    """

    def __init__(
        self,
        method: str,
        network: SceneNetwork,
        model: HandModel,
        aligned: bool,
        sampling: FieldSampling,
        version: str = "",
        card: WeightCard | None = None,
    ) -> None:
        self.method, self.network, self.model, self.version = method, network, model, version
        self.card = card
        self._aligned, self._sampling = aligned, sampling

    def refine(self, hands: HandParams, object_model: ObjectModel, seed: int = 0) -> HandParams:
        """One refined hand for each noisy one, all at once; a larger batch does not change the first ones.

        Args:
            hands: B hands of the model's side, object frame.

        Raises:
            InputError: hands of the other side, or NaN.
        """
        if hands.side != self.model.side:
            raise InputError(f"{self.method}: refines {self.model.side} hands, got {hands.side} ones")
        parts = (hands.global_orient, hands.hand_pose, hands.betas, hands.transl)
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise InputError(f"{self.method}: hands hold NaN or infinite numbers; leave them out")
        own, found = hands.to(dtype=self.model.dtype, device="cpu"), []
        _, center = object_points(object_model, AXIS_POINTS)
        for number, first in enumerate(range(0, len(hands), CHUNK)):
            some = own[first : first + CHUNK]
            generator = torch.Generator().manual_seed(chunk_seed(seed, number))
            noise = self._sampling.refined_spread * self._noise(generator)[: len(some)]
            turn = hand_turns(some) if self._aligned else random_rotations(CHUNK, generator)[: len(some)]
            found.append(self.network.hands(object_model, View(turn, center), some, noise, generator))
        return stack_params(found) if found else own

    def __call__(self, hands: HandParams, object_model: ObjectModel) -> HandParams:
        """As `refine`, always with the same seed: what follows a generator."""
        return self.refine(hands, object_model)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` new grasps in no order; the first ones of a larger count are those of a smaller one.

        Raises:
            InputError: a count below 1 or far too large, or a negative seed.
        """
        check_request(count, seed)
        started = time.perf_counter()
        points, center = object_points(object_model, AXIS_POINTS)
        axes = principal_turns(points[None])
        hands = []
        for number, first in enumerate(range(0, count, CHUNK)):
            generator = torch.Generator().manual_seed(chunk_seed(seed, number))
            here = min(CHUNK, count - first)
            noise = self._sampling.spread * self._noise(generator)[:here]
            turn = (
                FLIPS[torch.arange(CHUNK) % len(FLIPS)] @ axes if self._aligned else random_rotations(CHUNK, generator)
            )
            hands.append(self.network.hands(object_model, View(turn[:here], center), None, noise, generator))
        grasps = make_grasps(stack_params(hands), self.model)
        duration = time.perf_counter() - started
        return GraspSet(object_model.object_id, self.method, seed, duration, grasps, object_model.mesh_resource)

    def _noise(self, generator: torch.Generator) -> Tensor:
        """(CHUNK, size), standard normal: as much for few hands as for many, so that the first ones stay the same."""
        return torch.randn(CHUNK, self.network.size, generator=generator)


class JointScenes:
    """JointDiffusion as a `SceneNetwork`: field and contacts by diffusion, the hand by test-time optimisation.

    Args:
        trained: the network. model: the hand, on the CPU. sampling: of the diffusion.
        fit, refined: of new hands and of refined ones. touching: whether stage 2 draws and pushes skin to the surface.
    """

    def __init__(
        self,
        trained: TrainedJoint,
        model: HandModel,
        sampling: FieldSampling,
        fit: ChoirFitSettings = NETWORK_FIT,
        refined: ChoirFitSettings = REFINED_FIT,
        touching: bool = True,
    ) -> None:
        self.network, self.space, self.model = trained.network, trained.space, model
        config = trained.network.config
        schedule = NoiseSchedule.make(config.noise_schedule, config.noise_steps, config.prediction)
        self._sampler = sampling.sampler(schedule)
        self._new, self._refined = (ChoirFit(model, trained.space, one) for one in (fit, refined))
        self._touching = touching

    @property
    def size(self) -> int:
        """As `SceneNetwork`."""
        return self.network.size

    @torch.no_grad()
    def field(
        self, object_model: ObjectModel, view: View, noisy: HandParams | None, noise: Tensor, generator: torch.Generator
    ) -> tuple[ChoirField, ContactGaussians]:
        """What the network tells: fields and contacts in the view."""
        network, space, batch = self.network, self.space, len(noise)
        points, _ = object_points(object_model, FIELD_POINTS)
        item = view.seen(points.expand(batch, -1, -1))
        places = None
        if noisy is not None:
            places = view.seen(anchors_of(self.model).positions(self.model(noisy).vertices))
        frame = space.frame(torch.zeros(batch, 3), item, places)
        distance = field_to_object(space, object_model, view, item, frame, network.config.grid_distance)
        device = network.field_mean.device
        told = network.object_numbers(space.remapped(distance.float()).to(device))
        rough = torch.zeros_like(told)
        if places is not None:
            rough = network.hand_numbers(space.remapped(anchor_distances(space, places, frame)).to(device))
        scene = Scene(told, rough, torch.full((batch,), noisy is not None, device=device))
        denoiser = joint_denoiser(network, scene)
        on_device = torch.Generator(device).manual_seed(int(torch.randint(1 << 62, (1,), generator=generator)))
        found = self._sampler(denoiser, noise.to(device), on_device).cpu()
        hand = space.distances(network.hand_remapped(found[:, : len(space)].to(device)).cpu())
        contacts = ContactGaussians.of_numbers(found[:, len(space) :].unflatten(1, (NUM_ANCHORS, NUMBERS)))
        return ChoirField(distance, hand, frame, space.fingerprint), contacts

    def hands(
        self, object_model: ObjectModel, view: View, noisy: HandParams | None, noise: Tensor, generator: torch.Generator
    ) -> HandParams:
        """As `SceneNetwork`."""
        field, contacts = self.field(object_model, view, noisy, noise, generator)
        fit = self._new if noisy is None else self._refined
        fitted = fit.stage1(field, None if noisy is None else noisy.betas)
        placed = view.back(fitted.hands, self.model)
        if not self._touching:
            return placed
        aims = fitted.anchors @ view.turn.double() + view.center.double()
        there = FittedHands(placed, fitted.cost, fitted.steps, aims)
        return fit.stage2(there, contacts.turned(view.turn.mT), object_model).hands


class KeypointScenes:
    """The keypoint baseline as a `SceneNetwork`.

    Args:
        trained: the network. model: the hand, on the CPU. sampling: of the diffusion. fit: of the hands.
    """

    def __init__(
        self,
        trained: TrainedKeypoints,
        model: HandModel,
        sampling: FieldSampling,
        fit: ChoirFitSettings = NETWORK_FIT,
    ) -> None:
        self.network, self.model = trained.network, model
        config = trained.network.config
        schedule = NoiseSchedule.make(config.noise_schedule, config.noise_steps, config.prediction)
        self._sampler = sampling.sampler(schedule)
        self._fit = ChoirFit(model, ChoirSpace(), fit)

    @property
    def size(self) -> int:
        """As `SceneNetwork`."""
        return self.network.size

    @torch.no_grad()
    def hands(
        self, object_model: ObjectModel, view: View, noisy: HandParams | None, noise: Tensor, generator: torch.Generator
    ) -> HandParams:
        """As `SceneNetwork`."""
        device = next(self.network.parameters()).device
        points, _ = object_points(object_model, self.network.config.points)
        item = view.seen(points.expand(len(noise), -1, -1))
        places = torch.zeros(len(noise), self.size // 3, 3)
        if noisy is not None:
            posed = self.model(noisy)
            anchors = anchors_of(self.model).positions(posed.vertices)
            places = view.seen(torch.cat([posed.keypoints, anchors], dim=1))
        has_hand = torch.full((len(noise),), noisy is not None, device=device)
        denoiser = keypoint_denoiser(self.network, PointScene(item.to(device), places.to(device), has_hand))
        on_device = torch.Generator(device).manual_seed(int(torch.randint(1 << 62, (1,), generator=generator)))
        found = keypoints_of_numbers(self._sampler(denoiser, noise.to(device), on_device).cpu())
        betas = None if noisy is None else noisy.betas
        return view.back(self._fit.from_keypoints(found, KEYPOINT_DEVIATION, betas).hands, self.model)


def field_to_object(
    space: ChoirSpace, object_model: ObjectModel, view: View, item: Tensor, frame: ChoirFrame, by_grid: bool
) -> Tensor:
    """(B, K), scaled units, from basis points to an object, as the network was trained with.

    Args:
        item: (B, P, 3), m, the object's points in the view. by_grid: looked up in its signed distance grid.
    """
    if not by_grid:
        return object_distances(space, item, frame)
    basis = space.basis_like(item).expand(len(item), -1, -1)
    there = frame.metric(basis) @ view.turn + view.center
    return distances_by_grid(object_model.signed_distance, there) * frame.factor[:, None]


def make_joint(models: HandModels, folder: Path | None = None) -> Method:
    """The registered method ``jointdiffusion``.

    Raises:
        MissingFileError, InputError: as `load_joint`.
    """
    grasps = load_refiner(JOINT, models["right"], folder)
    return Method(JOINT, grasps, device=models["right"].device.type, version=grasps.version)


def make_keypoint(models: HandModels, folder: Path | None = None) -> Method:
    """The registered method ``keypoint``; errors as `load_keypoints`."""
    grasps = load_refiner(KEYPOINT, models["right"], folder)
    return Method(KEYPOINT, grasps, device=models["right"].device.type, version=grasps.version)


def load_refiner(
    name: str, model: HandModel, folder: Path | None = None, sampling: FieldSampling | None = None
) -> FieldGrasps:
    """One of the two networks, ready to refine and to make grasps.

    Args:
        name: ``jointdiffusion`` or ``keypoint``. model: the hand, on the device that the network is to run on.
        folder: of the weights; None = the installed ones. sampling: of the diffusion, None = the defaults.

    Raises:
        InputError: another name; and, with MissingFileError, as `load_joint`.
    """
    sampling = sampling or FieldSampling()
    # Hands are posed and fitted on the CPU, wherever the network runs.
    own = model if model.device.type == "cpu" else HandModel(model.arrays, model.dtype)
    if name == JOINT:
        joint = load_joint(model, folder)
        scenes: SceneNetwork = JointScenes(joint, own, sampling)
        facing, weights = joint.network.config.facing, joint.weights
    elif name == KEYPOINT:
        keypoints = load_keypoints(model, folder)
        scenes = KeypointScenes(keypoints, own, sampling)
        facing, weights = keypoints.network.config.facing, keypoints.weights
    else:
        raise InputError(f"method {name!r}: does not refine grasps; expected {JOINT} or {KEYPOINT}")
    told = hashlib.sha256(repr(sampling).encode()).hexdigest()[:8]
    version = f"{name} {weights.sha256[:12]} {told}"
    return FieldGrasps(name, scenes, own, facing == "aligned", sampling, version, weights.card)
