"""The objects of the benchmark's clips and the grasps that may hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.data.synthetic_grasps import find_grasps, open_grasp_hand, synthesize_grasps
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.geometry.rotations import matrix_to_axis_angle
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.kinds import KINDS, GraspKind
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.registry import FAMILIES, HELD_OUT_SEED, ObjectName, family_mesh

MADE_HERE = 60
"""Grasps that are looked for on an object that the published set does not hold."""
DEEPEST = 0.0018
"""m, of a vertex of the hand inside the object, and..."""
DEEPEST_IN_HAND = 0.003
"""m, of the object's surface inside the hand."""
_REFLECTION = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class GraspedSolid:
    """An object and N hands of one side that hold it, all in the object's frame.

    name: of the object. family: such as ``mug``, or the mesh file's stem. kinds: N.
    """

    name: str
    family: str
    solid: Solid
    hands: HandParams
    kinds: list[GraspKind]


def grasped_family(family: str, side: Side, rng: np.random.Generator, seed: int) -> GraspedSolid:
    """One object of a family, with shallow grasps of the published set or, for what it does not hold, made here.

    A left hand holds the mirror image of the object.

    Args:
        family: of the registry; of those that are held out, and now and then of others, seeds that training never
            sees. rng: chooses the object. seed: of grasps that are made.
    """
    published = _of_family(family)
    if FAMILIES[family].held_out or not published or rng.random() < 0.15:
        name = ObjectName(family, HELD_OUT_SEED + int(rng.integers(1000)))
        grasps = synthesize_grasps(name, MADE_HERE, seed)
    else:
        number = int(rng.choice(published))
        grasps = open_grasps_once().of_object(number)
        grasps = replace(grasps, objects=[grasps.objects[number]], object_index=np.zeros(len(grasps), np.int64))
        name = _name_of(grasps.objects[0])
    vertices, faces = family_mesh(name)
    return _on_mesh(str(name), family, vertices, faces, grasps, side)


def grasped_mesh(path: Path, side: Side, seed: int) -> GraspedSolid:
    """An object of a mesh file, in m, with grasps that are made here."""
    model = load_object(str(path))
    hand = open_grasp_hand()
    found = find_grasps(hand, model, MADE_HERE, torch.Generator().manual_seed(seed))
    count = len(found.kinds)
    grasps = LabelledGrasps(
        *("made here", found.hands, hand.model.model_id, hand.model.fingerprint),
        [GraspedObject(path.stem)],
        np.zeros(count, np.int64),
        np.array([KINDS.index(kind) for kind in found.kinds], np.int64),
        *(np.full(count, ""), np.full(count, ""), np.arange(count)),
        found.metrics,
    )
    return _on_mesh(path.stem, path.stem, model.vertices.astype(np.float64), model.faces, grasps, side)


@lru_cache(maxsize=1)
def open_grasps_once() -> LabelledGrasps:
    """The published set, read once."""
    return open_grasps(open_hand("right").fingerprint)


@lru_cache(maxsize=2)
def open_hand(side: Side) -> HandModel:
    """The open hand in double precision."""
    return load_hand_model(side, OPEN_HAND_FILE, torch.float64)


@lru_cache(maxsize=32)
def _of_family(family: str) -> list[int]:
    return [i for i, one in enumerate(open_grasps_once().objects) if one.category == family]


def _name_of(one: GraspedObject) -> ObjectName:
    family, _, seed = one.name.partition(":")
    return ObjectName(family, int(seed))


def _on_mesh(
    name: str, family: str, vertices: np.ndarray, faces: np.ndarray, grasps: LabelledGrasps, side: Side
) -> GraspedSolid:
    """The shallow grasps in the mesh's own frame, mirrored with it for a left hand."""
    shallow = (grasps.metrics["penetration_depth"] < DEEPEST) & (grasps.metrics["object_depth"] < DEEPEST_IN_HAND)
    grasps = grasps[shallow]
    kinds = [KINDS[kind] for kind in grasps.kind]
    if side == "left":
        grasps = grasps.mirrored()
        vertices, faces = vertices @ _REFLECTION, faces[:, ::-1]
        transform = grasps.objects[0].transform[:3, :3] @ _REFLECTION
    else:
        transform = grasps.objects[0].transform[:3, :3]
    hands = _turned(grasps.hands.to(torch.float64), transform.T)
    return GraspedSolid(name, family, Solid(vertices, faces, name), hands, kinds)


def _turned(hands: HandParams, rotation: np.ndarray) -> HandParams:
    """Hands after a rotation (3, 3) about the origin."""
    if not len(hands):
        return hands
    return moved(hands, np.broadcast_to(homogeneous(rotation, np.zeros(3)), (len(hands), 4, 4)) @ rest_frames(hands))


def rest_frames(hands: HandParams) -> np.ndarray:
    """(B, 4, 4), T_x_hand: from the hands' rest frame to the frame x that their parameters are given in."""
    wrist = _wrists(hands)
    rotation = Rotation.from_rotvec(hands.global_orient.numpy()).as_matrix()
    frames = np.tile(np.eye(4), (len(hands), 1, 1))
    frames[:, :3, :3] = rotation
    # The parameters turn about the wrist joint, the frames about the model's origin.
    frames[:, :3, 3] = wrist + hands.transl.numpy() - np.einsum("bij,bj->bi", rotation, wrist)
    return frames


def moved(hands: HandParams, frames: np.ndarray) -> HandParams:
    """The same hands with other rest frames (B, 4, 4)."""
    wrist = _wrists(hands)
    transl = np.einsum("bij,bj->bi", frames[:, :3, :3], wrist) + frames[:, :3, 3] - wrist
    orient = matrix_to_axis_angle(torch.from_numpy(np.ascontiguousarray(frames[:, :3, :3])))
    return replace(hands, global_orient=orient, transl=torch.from_numpy(transl))


def _wrists(hands: HandParams) -> np.ndarray:
    """(B, 3), m, wrist joint of the shaped hands at rest."""
    arrays = open_hand(hands.side).arrays
    shaped = arrays.v_template + np.einsum("vij,bj->bvi", arrays.shapedirs, hands.betas.numpy())
    return np.einsum("v,bvi->bi", arrays.J_regressor[0], shaped)


def homogeneous(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(4, 4) of a rotation (3, 3) and a position (3,)."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose
