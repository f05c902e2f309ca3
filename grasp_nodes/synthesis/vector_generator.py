"""Hands out of networks that tell a coder's vectors, for an object that is read as points."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.hand_states import make_grasps, stack_params
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.object_encoders import KeptCodes
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import CHUNK, check_request, chunk_seed
from grasp_nodes.synthesis.flow.frames import FLIPS
from grasp_nodes.synthesis.principal_frames import flipped_turns


class VectorNetwork(Protocol):
    """What a method's networks do.

    noise_size: numbers of noise that a hand starts from. num_points: points of an object that it wants.
    principal: whether it sees objects in the frames of their principal axes (`principal_frames`).
    """

    noise_size: int
    num_points: int
    principal: bool

    def encode(self, points: Tensor) -> Tensor:
        """What it keeps of objects (B, C); points (B, P, 3), m, their middle at the origin."""
        ...

    def sample(self, points: Tensor, told: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Vectors (B, D) of standard normal noise (B, noise_size).

        Args:
            points: (B, P, 3), m, as for `encode`. told: (B, C), what `encode` kept of them.
            generator: of more noise, if it wants some; on the device of `noise`.
        """
        ...


class VectorGenerator:
    """Proposes grasps of a network, in no order: whoever wants scores ranks them. An object is encoded once.

    Args:
        method: its name. network: see there. coder: of the vectors; both on one device.
        version: changes with whatever changes the hands.
    """

    def __init__(self, method: str, network: VectorNetwork, coder: HandCoder, version: str = "") -> None:
        self.method, self.network, self.coder, self.version = method, network, coder, version
        self._codes = KeptCodes(network.encode)

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """`count` grasps; the first ones of a larger count are those of a smaller one.

        Raises:
            InputError: a count below 1 or far too large, or a negative seed.
        """
        check_request(count, seed)
        started = time.perf_counter()
        points, center = object_points(object_model, self.network.num_points)
        hands = []
        for number, first in enumerate(range(0, count, CHUNK)):
            # A whole chunk's noise, whether it is needed or not: the first grasps do not depend on the count.
            generator = torch.Generator().manual_seed(chunk_seed(seed, number))
            noise = torch.randn(CHUNK, self.network.noise_size, generator=generator)[: count - first]
            hands.append(self.hands(points[None], center[None], noise, chunk_seed(seed, number)))
        grasps = make_grasps(stack_params(hands).to(device="cpu"), self.coder.model)
        duration = time.perf_counter() - started
        return GraspSet(object_model.object_id, self.method, seed, duration, grasps, object_model.mesh_resource)

    @torch.no_grad()
    def hands(self, points: Tensor, centers: Tensor, noise: Tensor, seed: int) -> HandParams:
        """One hand for each row of noise.

        Args:
            points: (B, P, 3), m, in the objects' frames; or (1, P, 3), one object for all. centers: (B, 3) or (1, 3),
                m, the middle of each. noise: (B, noise_size), standard normal. seed: of noise that the network adds.

        Returns:
            B hands in the objects' frames, on the coder's device.
        """
        coder, count = self.coder, len(noise)
        generator = torch.Generator(coder.mean.device).manual_seed(seed)
        middle = centers.to(coder.mean)
        seen = points.to(coder.mean) - middle[:, None]
        turns = None
        if self.network.principal:
            turns = flipped_turns(seen, len(FLIPS) if len(seen) == 1 else count)
            seen = seen @ turns.mT
        told = self._codes(seen)
        rows = torch.arange(count, device=seen.device) % len(seen)
        parts = coder.parts_of(self.network.sample(seen[rows], told[rows], noise.to(coder.mean), generator))
        if turns is not None:
            parts = parts.turned(turns.mT[rows].to(parts.position))
        return coder.hands(parts.shifted(middle.expand(count, -1)))


def object_points(object_model: ObjectModel, count: int) -> tuple[Tensor, Tensor]:
    """Points of an object's surface, always the same ones, in no order, and the middle of all of its points.

    Returns:
        (count, 3), or fewer of an object without faces, and (3,), float32, m.
    """
    points = object_model.points
    center = points.mean(axis=0)
    if len(points) < count and len(object_model.faces):
        points = sample_surface(object_model.vertices.astype(np.float64), object_model.faces, count, 0)[0]
    # They were drawn along the list of faces: a run of them is a part of the object.
    chosen = np.random.default_rng(13).permutation(len(points))[:count]
    return torch.from_numpy(np.asarray(points[chosen], np.float32)), torch.from_numpy(np.asarray(center, np.float32))
