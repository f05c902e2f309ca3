"""Files of grasps as a method to judge and as a set of objects to judge on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.data.grasp_files import check_meshes, read_grasps
from grasp_nodes.data.labelled_grasps import KINDS, GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject, object_resolution
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import FAMILIES, SPEC_PREFIX

GRASP_FILE = ".npz"


class FileGrasps:
    """Gives the grasps of a file as a generator would, on objects that may be turned or moved against the file's.

    Args:
        path: of labelled grasps. objects: that are judged on; an object of the file is one of them when both come from
            the same mesh at the same scale. models: of both sides.

    Raises:
        MissingFileError: no such file.
        InputError: it cannot be read, holds no grasps, or is of another hand model or of other procedural objects.
    """

    def __init__(self, path: Path, objects: Sequence[EvaluatedObject], models: Mapping[Side, HandModel]) -> None:
        self._path = path
        self._grasps = read_grasps(path, keep_not_finite=True)  # the judge counts them
        self._model = models[self._grasps.hands.side]
        check_hand(str(path), self._grasps, self._model)
        self._objects = {one.name: one for one in objects}
        self._numbers: dict[tuple[str, float], list[int]] = {}
        for number, one in enumerate(self._grasps.objects):
            if one.mesh:
                self._numbers.setdefault((one.mesh, one.scale), []).append(number)
        judged = {(one.mesh, one.scale) for one in objects}
        check_meshes(path, (one for one in self._grasps.objects if (one.mesh, one.scale) in judged))

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """The file's grasps of the object; where there are more than wanted, so many drawn by lot.

        Raises:
            InputError: the file has none of this object, or only of its mirror image.
        """
        item = self._objects[object_model.object_id]
        here = np.eye(4) if item.transform is None else item.transform
        numbers = self._numbers.get((item.mesh, item.scale), [])
        # The same mesh may lie in several frames; the grasps of its mirror image are not its own.
        motions = {number: here @ np.linalg.inv(self._grasps.objects[number].transform) for number in numbers}
        motions = {number: motion for number, motion in motions.items() if np.linalg.det(motion[:3, :3]) > 0}
        rows = np.flatnonzero(np.isin(self._grasps.object_index, list(motions)))
        if not len(rows):
            raise InputError(f"{self._path}: holds no grasps of {item.name} ({item.mesh}, scale {item.scale:g})")
        if len(rows) > count:
            rows = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
        chosen = self._grasps[rows]
        hands = move_hands(chosen.hands, np.stack([motions[int(k)] for k in chosen.object_index]), self._model)
        kinds = [KINDS[k] if k >= 0 else "" for k in chosen.kind]
        grasps = [replace(one, kind=kind) for one, kind in zip(make_grasps(hands, self._model), kinds, strict=True)]
        return GraspSet(object_model.object_id, self._grasps.source, seed, 0.0, grasps)


def check_hand(where: str, grasps: LabelledGrasps, model: HandModel) -> None:
    """Refuse grasps of another hand model: their parameters mean other hands here.

    Args:
        where: they come from, for the message.

    Raises:
        InputError: naming both models and the remedy.
    """
    own, given = model.fingerprint, grasps.hand_fingerprint
    if given == own or (not given and grasps.hand_model_id == model.model_id):
        return
    raise InputError(
        f"{where}: its grasps are of the hand model {grasps.hand_model_id} ({given[:12] or 'no fingerprint'}), the "
        f"loaded one is {model.model_id} ({own[:12]}): set GRASP_NODES_HAND_MODEL to the model that the file was made "
        "with"
    )


def file_objects(path: Path) -> list[EvaluatedObject]:
    """The objects that a file of grasps has grasps of, in the frames of their grasps.

    Raises:
        MissingFileError: no such file. InputError: it cannot be read, or names no meshes.
    """
    grasps = read_grasps(path, keep_not_finite=True)  # an object whose grasps are all NaN is an object, too
    used = [grasps.objects[k] for k in np.unique(grasps.object_index)]
    found = [_evaluated(one, grasps.source) for one in used if one.mesh]
    if not found:
        raise InputError(f"{path}: names no mesh of its objects: give the objects themselves with --objects")
    return found


def _evaluated(one: GraspedObject, source: str) -> EvaluatedObject:
    named = one.mesh.removeprefix(SPEC_PREFIX).partition(":")[0]
    family = named if one.mesh.startswith(SPEC_PREFIX) and named in FAMILIES else one.category or source
    at_rest = np.allclose(one.transform, np.eye(4))
    return EvaluatedObject(
        one.name,
        family,
        one.mesh,
        one.scale,
        transform=None if at_rest else np.asarray(one.transform, np.float64),
        resolution=object_resolution(family),
    )
