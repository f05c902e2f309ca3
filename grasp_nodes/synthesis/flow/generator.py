"""`fastgrasp-flow`: grasps of an object out of noise in a few steps; the object is encoded once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from grasp_nodes.contact.hand_states import make_grasps, stack_params
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.kinds import KINDS, GraspKind
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams, Side
from grasp_nodes.learning.recent import Recent
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import check_request, chunk_seed
from grasp_nodes.synthesis.flow.asked_kinds import kinds_in_turn, with_kinds
from grasp_nodes.synthesis.flow.fields import ManyObjects, OneObject
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns
from grasp_nodes.synthesis.flow.guidance import Guidance, GuidanceSettings
from grasp_nodes.synthesis.flow.network import FlowNetwork, Wishes, kind_numbers
from grasp_nodes.synthesis.flow.sampling import Conditions, sample_vectors
from grasp_nodes.synthesis.flow.seen_objects import SeenObject, object_digest
from grasp_nodes.synthesis.flow.trained import METHOD, load_flow
from grasp_nodes.synthesis.samplers import FlowSampler

AT_ONCE = 256
"""Hands that are sampled together; a multiple of the frames' four half turns."""
_BLOCK = 64
"""Rows of noise that are drawn together, whether all are needed or not."""
_KEPT = 64
"""Objects whose codes are remembered."""
REFLECTION = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


@dataclass(frozen=True)
class FlowGenerationSettings:
    """How grasps are drawn.

    sampler: steps. kinds: that are asked for, in turn. side: of the hands. betas: (10,), their shape; None = the mean.
    guidance: None = without.
    """

    sampler: FlowSampler = field(default_factory=FlowSampler)
    kinds: tuple[GraspKind, ...] = ("power", "precision")
    side: Side = "right"
    betas: tuple[float, ...] | None = None
    guidance: GuidanceSettings | None = field(default_factory=GuidanceSettings)

    def __post_init__(self) -> None:
        kind_numbers(self.kinds)
        if not self.kinds:
            raise InputError(f"kinds of grasps: expected some of {', '.join(KINDS)}, got none")
        if self.betas is not None and len(self.betas) != NUM_BETAS:
            raise InputError(f"betas: expected {NUM_BETAS} numbers, got {len(self.betas)}")


class FlowGenerator:
    """Proposes grasps, in no order: whoever wants scores ranks them.

    Args:
        network: trained, in evaluation mode. models: hands of the sides wanted, of the network's model, on its device.
        settings: how grasps are drawn. method: name of the sets of grasps.
    """

    def __init__(
        self,
        network: FlowNetwork,
        models: Mapping[Side, HandModel],
        settings: FlowGenerationSettings | None = None,
        method: str = METHOD,
    ) -> None:
        self._network, self._models, self._method = network, models, method
        self.settings = settings or FlowGenerationSettings()
        self._seen: Recent[bytes, SeenObject] = Recent(_KEPT)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps.

        Raises:
            InputError: a count below 1, or a negative seed.
        """
        start = time.perf_counter()
        hands = self.hands(object_model, count, seed)
        grasps = with_kinds(make_grasps(hands, self._models[hands.side]), self.settings.kinds)
        return GraspSet(
            *(object_model.object_id, self._method, seed, time.perf_counter() - start, grasps),
            mesh_resource=object_model.mesh_resource,
        )

    @torch.no_grad()
    def hands(self, object_model: ObjectModel, count: int, seed: int) -> HandParams:
        """`count` hands, object frame; the first ten of a hundred begin with the noise of the ten.

        Guidance makes more of how sums were rounded, which depends on how many are drawn at once: then half of them are
        within a millimetre of the ten. Without it they are the ten, and so are they for the same count.

        Raises:
            InputError: as `generate`.
        """
        check_request(count, seed)
        seen = self._encoded(object_model)
        parts = []
        for first in range(0, count, AT_ONCE):
            noise = draw_noise(first, min(AT_ONCE, count - first), self._network.coder.size, seed)
            parts.append(self._sampled(object_model, seen, noise.to(seen.center), first))
        return stack_params(parts)

    @torch.no_grad()
    def hands_of_each(self, objects: Sequence[ObjectModel], seed: int) -> HandParams:
        """One hand for each of B objects, in the frame of its own.

        Raises:
            InputError: no objects, or a negative seed.
        """
        check_request(len(objects), seed)
        like, parts = self._network.coder.mean, []
        for first in range(0, len(objects), AT_ONCE):
            some = objects[first : first + AT_ONCE]
            framed = [self._framed(one) for one in some]
            number = torch.arange(len(some), device=like.device)
            turns = torch.stack([turns[k % len(FLIPS)] for k, (turns, _) in enumerate(framed)])
            centers = torch.stack([center for _, center in framed])
            stack = StackedDistances.of([one.signed_distance for one in some]).to(like.device)
            distances = ManyObjects(stack, number, turns.mT, centers)
            wishes = self._wishes(len(some), like)
            conditions = Conditions.of_each(self._network.encode(distances, len(some)), wishes)
            noise = draw_noise(first, len(some), self._network.coder.size, seed).to(like)
            parts.append(self._drawn(distances, conditions, noise))
        return stack_params(parts)

    def _sampled(self, object_model: ObjectModel, seen: SeenObject, noise: Tensor, first: int) -> HandParams:
        wishes = self._wishes(len(FLIPS) * len(self.settings.kinds), noise)
        number = torch.arange(first, first + len(noise), device=noise.device) % len(wishes.kind)
        groups, group = torch.unique(number, return_inverse=True)
        conditions = Conditions(seen.codes[groups % len(FLIPS)], wishes.rows(groups), group)
        grid = object_model.signed_distance.to(noise.device)
        distances = OneObject(grid, seen.turns.mT[number % len(FLIPS)], seen.center.expand(len(noise), -1))
        return self._drawn(distances, conditions, noise)

    def _drawn(self, distances: OneObject | ManyObjects, conditions: Conditions, noise: Tensor) -> HandParams:
        network, s = self._network, self.settings
        betas = conditions.wishes.betas[conditions.group]
        guide = Guidance(network, distances, betas, s.guidance) if s.guidance is not None else None
        vectors = sample_vectors(network, distances, conditions, noise, s.sampler, guide)
        if guide is not None:
            vectors = guide.settle(vectors)
        parts = network.coder.parts_of(vectors, betas)
        if s.side == "right":
            return network.coder.hands(parts.turned(distances.turn).shifted(distances.shift))
        # The network knows right hands: it saw the mirrored object, and what it drew is mirrored back.
        mirror = REFLECTION.to(noise)
        return mirrored(network.coder.hands(parts.turned(mirror @ distances.turn).shifted(distances.shift @ mirror)))

    def _wishes(self, count: int, like: Tensor) -> Wishes:
        """Of hands whose frames come in turn, and after each round of them the next kind."""
        kinds = kind_numbers(kinds_in_turn(self.settings.kinds, 0, count))
        betas = like.new_tensor(self.settings.betas or [0.0] * NUM_BETAS).expand(count, -1)
        return Wishes(torch.from_numpy(kinds).to(like.device), betas)

    def _encoded(self, object_model: ObjectModel) -> SeenObject:
        key = object_digest(object_model) + self.settings.side.encode()
        return self._seen.of(key, lambda: self._encode(object_model))

    def _encode(self, object_model: ObjectModel) -> SeenObject:
        turns, center = self._framed(object_model)
        distances = OneObject(object_model.signed_distance.to(center.device), turns.mT, center.expand(len(turns), -1))
        return SeenObject(turns, center, self._network.encode(distances, len(turns)))

    def _framed(self, object_model: ObjectModel) -> tuple[Tensor, Tensor]:
        """(4, 3, 3), into the frames that an object is seen in, and (3,), m, their origin."""
        like = self._network.coder.mean
        points = torch.from_numpy(object_model.points).to(like)
        mirror = REFLECTION.to(like) if self.settings.side == "left" else torch.eye(3).to(like)
        return FLIPS.to(like) @ principal_turns((points @ mirror)[None]) @ mirror, points.mean(dim=0)


def make_flow(models: Mapping[Side, HandModel], guided: bool = True) -> Method:
    """The method as it is registered.

    Raises:
        MissingFileError: its weights are not there. InputError: they are damaged, or of another hand.
    """
    network, weights = load_flow(models["right"])
    settings = FlowGenerationSettings(guidance=GuidanceSettings() if guided else None)
    name = METHOD + ("" if guided else "-unguided")
    generator = FlowGenerator(network, models, settings, name)
    version = f"{weights.sha256[:16]} {hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    return Method(name, generator, device=str(models["right"].device), version=version)


def draw_noise(first: int, count: int, size: int, seed: int) -> Tensor:
    """Standard normal noise (count, size) of the grasps number `first` and following; float32 on the CPU.

    That of a grasp follows from the seed and its number alone.
    """
    blocks = range(first // _BLOCK, -(-(first + count) // _BLOCK))
    drawn = [torch.randn(_BLOCK, size, generator=torch.Generator().manual_seed(chunk_seed(seed, k))) for k in blocks]
    skipped = first - blocks.start * _BLOCK
    return torch.cat(drawn)[skipped : skipped + count]


def mirrored(hands: HandParams) -> HandParams:
    """Right hands as left ones, reflected along x."""

    def turned(pose: Tensor) -> Tensor:
        return torch.from_numpy(mirror_pose(pose.cpu().numpy())).to(pose)

    return replace(
        hands,
        global_orient=turned(hands.global_orient),
        hand_pose=turned(hands.hand_pose),
        transl=hands.transl * torch.diag(REFLECTION).to(hands.transl),
        side="left",
    )
