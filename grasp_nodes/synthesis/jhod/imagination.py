"""Objects out of nothing, with the hand that grasps them: JHOD's joint generation, as meshes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import Grasp
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.point_surfaces import Kind, closed_surface
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams, Side
from grasp_nodes.objects.clouds.observed import check_width
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import check_request
from grasp_nodes.synthesis.flow.asked_kinds import kinds_in_turn, with_kinds
from grasp_nodes.synthesis.flow.fields import ManyObjects
from grasp_nodes.synthesis.flow.generator import draw_noise
from grasp_nodes.synthesis.flow.guidance import GuidanceSettings
from grasp_nodes.synthesis.flow.network import Wishes, kind_numbers
from grasp_nodes.synthesis.jhod.batches import ordered_latents
from grasp_nodes.synthesis.jhod.generator import cloud_of
from grasp_nodes.synthesis.jhod.network import Tokens
from grasp_nodes.synthesis.jhod.point_autoencoder import LATENT
from grasp_nodes.synthesis.jhod.sampling import (
    from_midway,
    guided_hands,
    sample_objects,
    sample_pairs,
)
from grasp_nodes.synthesis.jhod.trained import METHOD, TrainedJhod, load_jhod
from grasp_nodes.synthesis.samplers import DiffusionSampler
from grasp_nodes.synthesis.samplers import Method as SamplerMethod

LARGEST_COUNT = 4096
_SETTLING_NOISE, _ADDED_NOISE = 104_729, 15_485_863
_TRIES = 8
"""Objects that are imagined, at most, until one has a closed surface."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImagineSettings:
    """How pairs are drawn.

    sampler, eta: see `DiffusionSampler`. steps: calls of the network; 0 = one for each of the schedule's times, as in
    the paper. kinds: of grasps that are asked for, in turn, where the network is told. surface: that is tried first.

    Beyond the paper: settle: share of the time to which the hand is noised again when the object is finished, to be
    drawn anew from there with the object clean, in `settle_steps`; 0 = it stays as it is. guidance: of that, as in
    `JhodSettings`.
    """

    sampler: SamplerMethod = "ddim"
    steps: int = 50
    eta: float = 0.0
    kinds: tuple[GraspKind, ...] = ("power", "precision")
    surface: Kind = "alpha"
    settle: float = 0.7
    settle_steps: int = 10
    guidance: GuidanceSettings | None = field(default_factory=GuidanceSettings)

    def __post_init__(self) -> None:
        if self.steps < 0 or self.settle_steps < 1 or not 0.0 <= self.settle <= 1.0 or not self.kinds:
            raise InputError(f"settings of imagine: expected steps, a kind of grasp and a settle of 0 to 1, got {self}")
        kind_numbers(self.kinds)


PAPER_IMAGINING = ImagineSettings("ddpm", 0, settle=0.0, guidance=None)
UNGUIDED_IMAGINING = ImagineSettings(guidance=None)


@dataclass(frozen=True, eq=False)
class Imagined:
    """A hand with its object, in the object's frame.

    grasp: the hand. points: (N, 3) float32, m, of the object as they were decoded. model: the object, closed; None
    where the points have no surface of an object, then `reason` says why. surface: how it was made.
    """

    grasp: Grasp
    points: np.ndarray
    model: ObjectModel | None
    surface: Kind | None = None
    reason: str = ""


class Imagination:
    """Draws hands with their objects.

    Args:
        trained: networks. models: hand models of both sides. settings: how pairs are drawn.
    """

    def __init__(
        self, trained: TrainedJhod, models: Mapping[Side, HandModel], settings: ImagineSettings | None = None
    ) -> None:
        self._trained, self._models = trained, models
        self.settings = settings or ImagineSettings()
        network = trained.network
        self._sampler = DiffusionSampler(
            network.schedule, self.settings.sampler, self.settings.steps or network.steps, eta=self.settings.eta
        )

    @torch.no_grad()
    def imagine(self, count: int, seed: int) -> list[Imagined]:
        """`count` pairs; the first ones of a larger count have the objects of a smaller one and its noise.

        Raises:
            InputError: a count below 1 or far too large, or a negative seed.
        """
        self._check(count, seed)
        network = self._trained.network
        wishes, generator = self._wishes(count), self._generator(seed)
        size = network.hand_tokens.size + LATENT * network.config.token
        noise = draw_noise(0, count, size, seed).to(network.latent_mean)
        split = network.hand_tokens.size
        start = Tokens(noise[:, :split], noise[:, split:].unflatten(1, (LATENT, network.config.token)))
        found = sample_pairs(network, start, wishes, self._sampler, generator)
        return self._finished(network.hand_tokens.decode(found.hand), found.object, wishes, seed)

    @torch.no_grad()
    def objects_for(self, hands: HandParams, seed: int) -> list[Imagined]:
        """An object for each of B right hands.

        Args:
            hands: in the frame of the object: its middle at the origin, its longest axis along x.

        Raises:
            InputError: left hands, none, or a negative seed.
        """
        network, count = self._trained.network, len(hands)
        self._check(count, seed)
        if hands.side != "right":
            raise InputError("imagine: expected right hands, got left ones: mirror them")
        coder = network.coder
        own = hands.to(dtype=coder.model.dtype, device=coder.model.device)
        parts = coder.parts(own)
        wishes = replace(self._wishes(count), betas=parts.betas)
        noise = draw_noise(0, count, LATENT * network.config.token, seed).to(network.latent_mean)
        items = sample_objects(
            network,
            coder.vectors(parts),
            noise.unflatten(1, (LATENT, network.config.token)),
            wishes,
            self._sampler,
            self._generator(seed),
        )
        points, models = self._surfaces(items)
        grasps = make_grasps(hands.to(device="cpu"), self._models["right"])
        return [Imagined(grasp, cloud, *model) for grasp, cloud, model in zip(grasps, points, models, strict=True)]

    def one_object(self, seed: int) -> tuple[ObjectModel, Grasp]:
        """An object that a hand can hold, and the hand that it was imagined with: the first of several that has both.

        Raises:
            InputError: a negative seed, or there is none among them.
        """
        for count in (1, _TRIES):
            for pair in self.imagine(count, seed):
                if pair.model is not None and _can_be_held(pair.model):
                    return pair.model, pair.grasp
        raise InputError(
            f"imagine: none of {_TRIES} imagined objects has a closed surface that a hand can hold: ask with another "
            f"seed, or train {METHOD} for longer"
        )

    def _finished(self, vectors: Tensor, items: Tensor, wishes: Wishes, seed: int) -> list[Imagined]:
        points, models = self._surfaces(items)
        whole = [number for number, (model, _, _) in enumerate(models) if model is not None]
        if self.settings.settle and whole:
            rows = torch.tensor(whole, device=vectors.device)
            own = [model for model, _, _ in models if model is not None]
            vectors = vectors.clone()
            vectors[rows] = self._settled(vectors[rows], own, wishes.rows(rows), whole, seed)
        coder = self._trained.network.coder
        hands = coder.hands(coder.parts_of(vectors, wishes.betas)).to(device="cpu")
        grasps = make_grasps(hands, self._models["right"])
        if self._trained.network.config.told:
            grasps = with_kinds(grasps, self.settings.kinds, each=1)
        return [Imagined(grasp, cloud, *model) for grasp, cloud, model in zip(grasps, points, models, strict=True)]

    def _settled(
        self, vectors: Tensor, models: Sequence[ObjectModel], wishes: Wishes, numbers: Sequence[int], seed: int
    ) -> Tensor:
        """Hands drawn anew from midway, each at its own finished object."""
        network, encoder, s = self._trained.network, self._trained.encoder, self.settings
        clouds = np.stack([cloud_of(one, encoder.config.points) for one in models])
        items = network.encode_object(ordered_latents(encoder, torch.from_numpy(clouds).to(vectors)))
        sampler, last = from_midway(network.schedule, s.settle, s.settle_steps)
        every = draw_noise(0, max(numbers) + 1, network.hand_tokens.size, seed + _SETTLING_NOISE)
        noise = every[list(numbers)].to(vectors)
        time = torch.full((len(vectors),), last + 1, device=vectors.device)
        start = network.noised(network.hand_tokens.encode(vectors), noise, time)
        stack = StackedDistances.of([one.signed_distance for one in models]).to(vectors.device)
        number = torch.arange(len(models), device=vectors.device)
        eye = torch.eye(3, device=vectors.device).expand(len(models), 3, 3)
        distances = ManyObjects(stack, number, eye, torch.zeros_like(vectors[:, :3]))
        return guided_hands(network, items, wishes, distances, start, sampler, s.guidance)

    def _surfaces(self, items: Tensor) -> tuple[np.ndarray, list[tuple[ObjectModel | None, Kind | None, str]]]:
        """Points (B, N, 3), m, of clean tokens, and each as an object, how its surface was made, or why it has none."""
        latents = self._trained.network.decode_object(items)
        parts = [self._trained.encoder.decode(some) for some in latents.split(16)]
        points = torch.cat(parts).float().cpu().numpy()
        # Surfaces and distances take longer than the network, mostly in calls that leave Python to other threads.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            names = (f"imagined-{number}" for number in range(len(points)))
            return points, list(pool.map(self._object, points, names))

    def _object(self, cloud: np.ndarray, name: str) -> tuple[ObjectModel | None, Kind | None, str]:
        try:
            found = closed_surface(cloud, self.settings.surface)
            # Hardly one of them is ever looked at again.
            return make_object(found.vertices, found.faces, name, cached=False), found.kind, ""
        except InputError as error:
            _log.info("%s: %s", name, error)
            return None, None, str(error)

    def _wishes(self, count: int) -> Wishes:
        like = self._trained.network.latent_mean
        kinds = torch.from_numpy(kind_numbers(kinds_in_turn(self.settings.kinds, 0, count, each=1)))
        return Wishes(kinds.to(like.device), like.new_zeros(count, NUM_BETAS))

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self._trained.network.latent_mean.device).manual_seed(seed + _ADDED_NOISE)

    @staticmethod
    def _check(count: int, seed: int) -> None:
        check_request(count, seed)
        if count > LARGEST_COUNT:
            raise InputError(f"count: expected 1 to {LARGEST_COUNT} pairs at once, got {count}")


def _can_be_held(model: ObjectModel) -> bool:
    try:
        check_width(model.object_id, model.vertices)
    except InputError as error:
        _log.info("%s", error)
        return False
    return True


def load_imagination(models: Mapping[Side, HandModel], settings: ImagineSettings | None = None) -> Imagination:
    """The method as it is installed.

    Raises:
        MissingFileError: its weights are not there. InputError: they are damaged, or of another hand.
    """
    return Imagination(load_jhod(models["right"]), models, settings)
