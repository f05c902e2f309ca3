"""`jhod`: grasps of a given object, by the joint diffusion with the object kept clean."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.hand_states import make_grasps, stack_params
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams, Side
from grasp_nodes.learning.recent import Recent
from grasp_nodes.objects.loading import LARGEST_EXTENT, SMALLEST_EXTENT
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import check_request
from grasp_nodes.synthesis.flow.asked_kinds import kinds_in_turn, with_kinds
from grasp_nodes.synthesis.flow.fields import OneObject
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns
from grasp_nodes.synthesis.flow.generator import draw_noise
from grasp_nodes.synthesis.flow.guidance import GuidanceSettings
from grasp_nodes.synthesis.flow.network import Wishes, kind_numbers
from grasp_nodes.synthesis.flow.seen_objects import SeenObject, object_digest
from grasp_nodes.synthesis.jhod.batches import ordered_latents
from grasp_nodes.synthesis.jhod.sampling import guided_hands
from grasp_nodes.synthesis.jhod.trained import METHOD, TrainedJhod, load_jhod
from grasp_nodes.synthesis.samplers import DiffusionSampler
from grasp_nodes.synthesis.samplers import Method as SamplerMethod

AT_ONCE = 128
"""Hands that are sampled together; a multiple of the frames' four half turns."""
LEAST_POINTS = 64
"""Of a cloud without faces; the same ones are taken again until there are as many as the auto-encoder wants."""
_KEPT = 32
_ADDED_NOISE = 7919


@dataclass(frozen=True)
class JhodSettings:
    """How grasps are drawn.

    sampler, eta: see `DiffusionSampler`. steps: calls of the network; 0 = one for each of the schedule's times, as in
    the paper. kinds: that are asked for, in turn, where the network is told. guidance: of predictions on the way, and
    of the hands at the end; None = without.
    """

    sampler: SamplerMethod = "ddim"
    steps: int = 12
    eta: float = 0.0
    kinds: tuple[GraspKind, ...] = ("power", "precision")
    guidance: GuidanceSettings | None = field(default_factory=GuidanceSettings)

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.kinds:
            raise InputError(f"settings of {METHOD}: expected 0 steps or more and some kind of grasp, got {self}")
        kind_numbers(self.kinds)


PAPER_SAMPLING = JhodSettings("ddpm", 0, guidance=None)
UNGUIDED_SAMPLING = JhodSettings(guidance=None)


class JhodGenerator:
    """Proposes grasps, in no order: whoever wants scores ranks them.

    Args:
        trained: networks. models: hand models of both sides. settings: how grasps are drawn. method: name of the sets.
    """

    def __init__(
        self,
        trained: TrainedJhod,
        models: Mapping[Side, HandModel],
        settings: JhodSettings | None = None,
        method: str = METHOD,
    ) -> None:
        self._trained, self._models, self._method = trained, models, method
        self.settings = settings or JhodSettings()
        network = trained.network
        self._sampler = DiffusionSampler(
            network.schedule, self.settings.sampler, self.settings.steps or network.steps, eta=self.settings.eta
        )
        self._seen: Recent[bytes, SeenObject] = Recent(_KEPT)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps; the first ten of a hundred begin with the noise of the ten, see `FlowGenerator.hands`.

        Raises:
            InputError: a count below 1 or a negative seed, or an object that cannot be seen (`cloud_of`).
        """
        start = time.perf_counter()
        hands = self.hands(object_model, count, seed)
        grasps = make_grasps(hands, self._models["right"])
        if self._trained.network.config.told:
            grasps = with_kinds(grasps, self.settings.kinds)
        return GraspSet(
            *(object_model.object_id, self._method, seed, time.perf_counter() - start, grasps),
            mesh_resource=object_model.mesh_resource,
        )

    @torch.no_grad()
    def hands(self, object_model: ObjectModel, count: int, seed: int) -> HandParams:
        """`count` right hands, object frame.

        Raises:
            InputError: as `generate`.
        """
        check_request(count, seed)
        seen, network = self._encoded(object_model), self._trained.network
        parts = []
        for first in range(0, count, AT_ONCE):
            size = min(AT_ONCE, count - first)
            noise = draw_noise(first, size, network.hand_tokens.size, seed).to(seen.center)
            generator = torch.Generator(noise.device).manual_seed(seed + _ADDED_NOISE * (first + 1))
            parts.append(self._drawn(object_model, seen, noise, first, generator))
        return stack_params(parts)

    def _drawn(
        self, object_model: ObjectModel, seen: SeenObject, noise: Tensor, first: int, generator: torch.Generator
    ) -> HandParams:
        network, kinds = self._trained.network, kind_numbers(kinds_in_turn(self.settings.kinds, first, len(noise)))
        frame = torch.arange(first, first + len(noise), device=noise.device) % len(FLIPS)
        wishes = Wishes(torch.from_numpy(kinds).to(noise.device), noise.new_zeros(len(noise), NUM_BETAS))
        grid = object_model.signed_distance.to(noise.device)
        distances = OneObject(grid, seen.turns.mT[frame], seen.center.expand(len(noise), -1))
        vectors = guided_hands(
            *(network, seen.codes[frame], wishes, distances, noise, self._sampler, self.settings.guidance), generator
        )
        parts = network.coder.parts_of(vectors, wishes.betas)
        return network.coder.hands(parts.turned(distances.turn).shifted(distances.shift))

    def _encoded(self, object_model: ObjectModel) -> SeenObject:
        return self._seen.of(object_digest(object_model), lambda: self._encode(object_model))

    def _encode(self, object_model: ObjectModel) -> SeenObject:
        network, encoder = self._trained.network, self._trained.encoder
        points = torch.from_numpy(cloud_of(object_model, encoder.config.points)).to(network.latent_mean)
        center = points.mean(dim=0)
        turns = FLIPS.to(points) @ principal_turns(points[None])
        framed = (points - center) @ turns.mT
        return SeenObject(turns, center, network.encode_object(ordered_latents(encoder, framed)))


def cloud_of(object_model: ObjectModel, count: int) -> np.ndarray:
    """Points (count, 3) float32, m, of an object's surface, always the same ones.

    Raises:
        InputError: fewer than 64 points, some that are not finite, or a size that no hand grasps.
    """
    points, name = object_model.points, object_model.object_id
    if len(points) < count and len(object_model.faces):
        points = sample_surface(object_model.vertices.astype(np.float64), object_model.faces, count, 0)[0]
    return checked_cloud(points, count, name)


def checked_cloud(points: np.ndarray, count: int, name: str = "cloud") -> np.ndarray:
    """Points (count, 3) float32 of any number of points (N, 3), m, however many.

    Raises:
        InputError: as `cloud_of`.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < LEAST_POINTS:
        raise InputError(f"{name}: expected at least {LEAST_POINTS} points (N, 3), got shape {points.shape}")
    rng = np.random.default_rng(13)
    # Every point once and then again, in another order, until there are enough.
    rounds = [rng.permutation(len(points)) for _ in range(-(-count // len(points)))]
    wrong = int((~np.isfinite(points).all(axis=1)).sum())
    if wrong:
        raise InputError(f"{name}: {wrong} of {len(points)} points are NaN or infinite: leave them out first")
    extent = float(np.ptp(points, axis=0).max())
    if not SMALLEST_EXTENT <= extent <= LARGEST_EXTENT:
        raise InputError(
            f"{name}: its longest side is {extent:.4g} m, expected {SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g}: points "
            "are taken in metres; give the factor from their unit (scale)"
        )
    return np.asarray(points[np.concatenate(rounds)[:count]], np.float32)


def make_jhod(models: Mapping[Side, HandModel], settings: JhodSettings | None = None, name: str = METHOD) -> Method:
    """The method as it is registered.

    Raises:
        MissingFileError: its weights are not there. InputError: they are damaged, or of another hand.
    """
    trained = load_jhod(models["right"])
    generator = JhodGenerator(trained, models, settings, name)
    version = f"{trained.version} {hashlib.sha256(repr(generator.settings).encode()).hexdigest()[:8]}"
    return Method(name, generator, device=str(models["right"].device), version=version)
