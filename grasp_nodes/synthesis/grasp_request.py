"""One request for grasps of one object: how many, where, from which side; and what is made of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.contact.interaction import Grasp, GraspGenerator, GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import CHUNK, check_request, chunk_seed
from grasp_nodes.synthesis.suitable import generate_suitable

LARGEST_COUNT = 10_000
TIPS = (4, 8, 12, 16, 20)
"""Keypoints: the ends of the fingers."""
TOUCHES = 0.01
"""m from the surface: so near a fingertip counts as touching where it is."""
_FEWEST_TRIES, _FIRST_TRIES, _MOST_TRIES = 16, 2, 12
"""Where some do not suit: grasps that are made at first, at least and for each one wanted, and for each one at most."""
_SPARE = 1.5
"""So many more are made than seem to be needed."""


@dataclass(frozen=True)
class GraspRequest:
    """What is wanted, in the object's frame, m and rad.

    count: 0 gives none. region_center, region_extent: (3,), a box in which a finger has to touch; None = anywhere.
    approach: (3,), the direction in which the hand reaches, from its wrist to the middle of its fingertips; None = any.
    approach_angle: the largest one between the two. contact_maps: of so many, the best.
    table: normal (3,), up, and offset (m) of the plane ``normal @ x == offset``: no joint or fingertip may be below it.
    """

    count: int
    seed: int = 0
    region_center: np.ndarray | None = None
    region_extent: np.ndarray | None = None
    approach: np.ndarray | None = None
    approach_angle: float = math.pi / 4
    contact_maps: int = 16
    table: tuple[np.ndarray, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.count <= LARGEST_COUNT:
            raise InputError(f"count: expected 0 to {LARGEST_COUNT} grasps, got {self.count}")
        check_request(1, self.seed)
        if self.approach is not None and not (np.isfinite(self.approach).all() and np.any(self.approach)):
            raise InputError(f"approach: expected a direction, got {np.asarray(self.approach).tolist()}")
        if not 0 < self.approach_angle <= math.pi:
            raise InputError(f"approach_angle: expected more than 0 and at most pi rad, got {self.approach_angle}")

    @property
    def is_choosy(self) -> bool:
        """Whether grasps are taken only where or as they are wanted."""
        return any(one is not None for one in (self.approach, self.region_center, self.table))


def propose(
    generator: GraspGenerator, object_model: ObjectModel, request: GraspRequest, models: Mapping[Side, HandModel]
) -> GraspSet:
    """At most `request.count` grasps, the best first, of those that suit the request; never one with NaN.

    Args:
        generator: of a method. object_model: the object. models: of both sides, for the contact maps.
    """
    start = time.perf_counter()
    if not request.count:
        found = GraspSet(object_model.object_id, "", request.seed, 0.0, [])
    elif request.is_choosy:
        found = _chosen(generator, object_model, request)
    else:
        found = generator.generate(object_model, request.count, request.seed)
        found = replace(found, grasps=[one for one in found.grasps if suits(one, object_model, request)])
    grasps = sorted(found.grasps, key=lambda one: -one.score)[: request.count]
    touched = with_contact_maps(grasps[: request.contact_maps], object_model, models)
    return replace(
        found,
        seed=request.seed,
        mesh_resource=object_model.mesh_resource,
        grasps=[*touched, *grasps[request.contact_maps :]],
        duration=time.perf_counter() - start,
    )


def _chosen(generator: GraspGenerator, object_model: ObjectModel, request: GraspRequest) -> GraspSet:
    """Grasps that suit, as many as are wanted or more; more are tried where few of the first suit."""
    found: GraspSet | None = None
    kept: list[Grasp] = []
    most = _MOST_TRIES * max(request.count, _FEWEST_TRIES)
    tried, tries, number = 0, min(max(_FIRST_TRIES * request.count, _FEWEST_TRIES), CHUNK), 0
    while tries > 0:
        seed = chunk_seed(request.seed, number)
        found = generate_suitable(generator, object_model, tries, seed, lambda one: suits(one, object_model, request))
        kept += found.grasps
        tried, number = tried + tries, number + 1
        missing = request.count - len(kept)
        share = (len(kept) + 0.5) / tried
        tries = min(math.ceil(_SPARE * missing / share), CHUNK, most - tried)
    assert found is not None
    return replace(found, grasps=kept)


def suits(grasp: Grasp, object_model: ObjectModel, request: GraspRequest) -> bool:
    """Whether a grasp is finite, comes from where it should, and touches where it should."""
    keypoints = grasp.hand.keypoints
    if not np.isfinite(keypoints).all():
        return False
    if request.table is not None and (keypoints @ request.table[0] - request.table[1]).min() < 0:
        return False
    if request.approach is not None:
        wanted = np.asarray(request.approach, np.float64)
        reach = reach_direction(keypoints)
        if reach @ wanted < math.cos(request.approach_angle) * float(np.linalg.norm(wanted)):
            return False
    if request.region_center is None or request.region_extent is None:
        return True
    tips = keypoints[list(TIPS)]
    distance, gradient = object_model.signed_distance.query(tips)
    # Keypoints lie under the skin: what counts is the place on the surface nearest to them.
    places = tips - distance[:, None] * gradient
    inside = (np.abs(places - request.region_center) <= 0.5 * np.asarray(request.region_extent)).all(axis=1)
    return bool((inside & (np.abs(distance) < TOUCHES)).any())


def reach_direction(keypoints: np.ndarray) -> np.ndarray:
    """Unit vector (3,) from the wrist to the middle of the fingertips of keypoints (21, 3)."""
    reach = keypoints[list(TIPS)].mean(axis=0) - keypoints[0]
    return reach / max(float(np.linalg.norm(reach)), 1e-9)


def with_contact_maps(
    grasps: Sequence[Grasp], object_model: ObjectModel, models: Mapping[Side, HandModel]
) -> list[Grasp]:
    """The grasps with where their hands and the object touch."""
    result = list(grasps)
    for side, model in models.items():
        rows = [k for k, one in enumerate(grasps) if one.hand.params.side == side]
        if not rows:
            continue
        faces = closed_faces(model.faces.cpu().numpy())
        hands = stack_hands([grasps[k] for k in rows]).to(dtype=model.dtype, device=model.device)
        with torch.no_grad():
            posed = [
                part.cpu().numpy()
                for first in range(0, len(rows), CHUNK)
                for part in model(hands[first : first + CHUNK]).vertices
            ]
        # Each map is a compiled search that leaves the interpreter to others meanwhile.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            maps = pool.map(
                partial(compute_contact_map, hand_faces=faces, object_model=object_model, hand_side=side), posed
            )
            for k, found in zip(rows, maps, strict=True):
                result[k] = replace(grasps[k], contact_map=found)
    return result


def shifted(grasps: Sequence[Grasp], offset: np.ndarray) -> list[Grasp]:
    """The same grasps in a frame with the same axes, in which this one's origin is at `offset` (3,), m."""
    result = []
    for one in grasps:
        state = one.hand
        params = replace(state.params, transl=state.params.transl + state.params.transl.new_tensor(offset))
        poses = state.joint_poses.copy()
        poses[:, :3] += offset
        hand = replace(state, params=params, keypoints=state.keypoints + offset, joint_poses=poses)
        contact = one.contact_map
        if contact is not None:
            contact = replace(contact, points=(contact.points + offset).astype(np.float32))
        result.append(replace(one, hand=hand, contact_map=contact))
    return result
