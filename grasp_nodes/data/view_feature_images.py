"""Training images of the network behind the default Fréchet distance: real grasps, and the same ones disturbed.

One archive per object, so that the work can be stopped and gone on with; what an archive holds depends on the settings,
the object and its grasps alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.evaluation.view_features import VERSION
from grasp_nodes.evaluation.view_images import GraspViews
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.npz import read_npz, write_npz

SHIFT = 0.03
"""m, deviation of each coordinate of the hand's place at level 1."""
TURN = np.deg2rad(35.0)
"""rad, deviation of each coordinate of the rotation about the wrist at level 1."""
BEND = 0.5
"""rad, deviation of each coordinate of the joints' rotations at level 1."""
LOWEST_LEVEL = 0.05
PARTS = ("shift", "turn", "bend")
SAMPLES_FILE = "samples_{number:05d}.npz"


@dataclass(frozen=True, eq=False)
class ViewSamples:
    """N images with what is to be told from them.

    images: (N, 3, 3, 64, 64) uint8. kind: (N,) int64 into `KINDS`, -1 = not labelled. object: (N,) int64, which of the
    set. level: (N,) float32, 0 for a real grasp, up to 1 for the most disturbed.
    """

    images: np.ndarray
    kind: np.ndarray
    object: np.ndarray
    level: np.ndarray

    def __len__(self) -> int:
        return len(self.level)


def disturb(hands: HandParams, levels: np.ndarray, rng: np.random.Generator) -> HandParams:
    """Hands shifted, turned about the wrist, and bent, by noise that grows with a level.

    Each hand gets one, two or all three of the disturbances, so that none stands for the others.

    Args:
        hands: B hands, float32. levels: (B,), 0..1. rng: of the noise.
    """
    count = len(hands)
    chosen = rng.random((count, len(PARTS))) < 0.6
    spared = np.flatnonzero(~chosen.any(axis=1))
    chosen[spared, rng.integers(len(PARTS), size=len(spared))] = True
    amount = torch.from_numpy((chosen * levels[:, None]).astype(np.float32))

    def noise(size: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=(count, size)).astype(np.float32))

    turn = axis_angle_to_matrix(amount[:, 1:2] * TURN * noise(3))
    return HandParams(
        matrix_to_axis_angle(turn @ axis_angle_to_matrix(hands.global_orient)),
        hands.hand_pose + amount[:, 2:3] * BEND * noise(hands.hand_pose.shape[1]),
        hands.betas,
        hands.transl + amount[:, :1] * SHIFT * noise(3),
        hands.scale,
        hands.side,
    )


def draw_samples(
    grasps: LabelledGrasps,
    model: HandModel,
    per_object: int,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> ViewSamples:
    """Images of grasps of every object, each once real and once disturbed.

    Args:
        grasps: of the hand model and its side, with meshes. model: float32.
        per_object: grasps of an object at most, by lot. seed: of the lot and the noise.
        folder: where finished objects are kept; it must exist. progress: is told objects done and in all.

    Raises:
        InputError: an object without a mesh, or files of other settings.
    """
    if not len(grasps):
        raise InputError("training images: the set holds no grasps")
    numbers = [int(k) for k in np.unique(grasps.object_index)]
    parts = []
    for done, number in enumerate(numbers):
        own = grasps.of_object(number)
        rng = np.random.default_rng([seed, number])
        own = own[rng.permutation(len(own))[:per_object]]
        item = _evaluated(grasps, number)
        path = folder / SAMPLES_FILE.format(number=number)
        key = _key(item, own, model, seed)
        arrays = read_npz(path, "file of training images") if path.is_file() else {}
        if str(arrays.get("key")) != key:
            arrays = {"key": np.array(key), **_draw(item, own, model, rng)}
            write_npz(path, arrays)
        parts.append(arrays)
        if progress is not None:
            progress(done + 1, len(numbers))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in ("images", "kind", "level")}
    sizes = [len(part["level"]) for part in parts]
    return ViewSamples(**joined, object=np.repeat(np.array(numbers), sizes))


def _evaluated(grasps: LabelledGrasps, number: int) -> EvaluatedObject:
    one = grasps.objects[number]
    if not one.mesh:
        raise InputError(f"{grasps.source}: object {one.name} has no mesh: its grasps cannot be drawn")
    return EvaluatedObject(one.name, one.category, one.mesh, one.scale, transform=one.transform)


def _key(item: EvaluatedObject, grasps: LabelledGrasps, model: HandModel, seed: int) -> str:
    """Equal where the same images would be drawn."""
    settings = {"version": VERSION, "seed": seed, "noise": [SHIFT, TURN, BEND, LOWEST_LEVEL], **item.describe()}
    content = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model.fingerprint.encode())
    hands = grasps.hands
    for value in (hands.global_orient, hands.hand_pose, hands.betas, hands.transl, hands.scale):
        content.update(value.numpy().tobytes())
    content.update(grasps.kind.tobytes())
    return content.hexdigest()


def _draw(
    item: EvaluatedObject, grasps: LabelledGrasps, model: HandModel, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Images of real grasps, then of the same disturbed."""
    levels = rng.uniform(LOWEST_LEVEL, 1.0, len(grasps)).astype(np.float32)
    with torch.no_grad():
        real = model(grasps.hands).vertices.numpy()
        moved = model(disturb(grasps.hands, levels, rng)).vertices.numpy()
    return {
        "images": GraspViews(item.build(), threads=1)(np.concatenate([real, moved])),
        "kind": np.concatenate([grasps.kind, grasps.kind]),
        "level": np.concatenate([np.zeros_like(levels), levels]),
    }
