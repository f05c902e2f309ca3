"""GRAB: whole bodies grasping 51 objects, 120 frames a second (Taheri et al., ECCV 2020).

A sequence is a .npz of dictionaries. Its hands are MANO's with a rest mesh of the subject's own in place of a shape,
and angles that count from the flat hand. Two things are unusual: the object's rotation acts on row vectors,
``vertices @ R(global_orient) + transl``, so the object is turned by the transposed matrix; and the contact of each
object vertex is the number of the body part that touches it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from grasp_nodes.data.grasp_readers.mano_hands import (
    Recording,
    fit_betas,
    label_grasps,
    require_mano,
    rotation_matrices,
    template_wrist,
)
from grasp_nodes.data.grasp_readers.mesh_units import mesh_scale
from grasp_nodes.data.grasp_readers.pickles import field_of, numbers_of, read_object_npz
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.grasp_readers.smplx_hand import find_smplx_model, hand_of_body
from grasp_nodes.data.grasp_readers.splits import grab_split
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, Side
from grasp_nodes.objects.loading import read_mesh

CONTACT_PARTS: dict[Side, frozenset[int]] = {
    "right": frozenset({22, *range(41, 56)}),
    "left": frozenset({21, *range(26, 41)}),
}
"""Numbers of a hand's palm and fingers among GRAB's 55 body parts; 0 = no contact."""
_MEMBER: dict[Side, str] = {"right": "rhand", "left": "lhand"}

Shape = Literal["fitted", "mean"]


@dataclass
class _Subject:
    """A subject's hand: its wrist at rest (3,) m, betas (10,) and what the betas leave over, m."""

    wrist: np.ndarray
    betas: np.ndarray
    residual: float


def read_grab(
    folder: str | Path,
    hand: HandModel | None = None,
    *,
    side: Side = "right",
    hand_from: Literal["mano", "smplx"] = "mano",
    smplx_folder: str | Path | None = None,
    shape: Shape = "fitted",
    framerate: float | None = 10.0,
    contact_vertices: int = 1,
    subjects: Collection[str] = (),
    objects: Collection[str] = (),
) -> LabelledGrasps:
    """The frames of GRAB in which a hand touches the object.

    Args:
        folder: that holds ``grab`` and ``tools``, as GRAB's own script unpacks them; or ``grab`` itself.
        hand: MANO of that side; None = the user's.
        side: which hand.
        hand_from: ``mano`` = the hand that GRAB fitted alone; ``smplx`` = the hand of its whole body, by the chain of
            joints from pelvis to wrist, which needs the user's SMPL-X.
        smplx_folder: of SMPLX_MALE.npz and SMPLX_FEMALE.npz, for ``smplx``.
        shape: ``fitted`` = the betas nearest to the subject's own hand mesh; ``mean`` = zeros.
        framerate: Hz, to which the 120 are thinned; None = all frames.
        contact_vertices: vertices of the object that the hand has to touch; 0 = frames without contact, too.
        subjects: such as ``s1``; empty = all. objects: such as ``mug``; empty = all.

    Raises:
        MissingFileError: GRAB, its tools, MANO or SMPL-X is not there; the message says where it comes from.
        InputError: a file is not what it should be, or nothing is chosen.
    """
    if hand_from not in ("mano", "smplx") or shape not in ("fitted", "mean"):
        raise InputError(
            f"hand_from: expected 'mano' or 'smplx', got {hand_from!r}; shape: expected 'fitted' or 'mean', got "
            f"{shape!r}"
        )
    hand = require_mano(hand, side, "GRAB")
    root = _root(Path(folder))
    files = sorted(require("grab", root / "grab", "folder").glob("s*/*.npz"))
    if not files:
        require("grab", root / "grab" / "s1" / "airplane_fly_1.npz")
    files = [
        path
        for path in files
        if (not subjects or path.parent.name in subjects) and (not objects or _object_of(path) in objects)
    ]
    people: dict[str, _Subject] = {}
    grasped: dict[str, GraspedObject] = {}
    recordings = []
    without_contact = 0
    for path in files:
        members = {"body", "contact", "framerate", "gender", "object", _MEMBER[side]}
        data = read_object_npz(path, "GRAB sequence", only=members)
        if path.parent.name not in people:
            people[path.parent.name] = _subject(hand, root, data, path, side, shape)
        if _object_of(path) not in grasped:
            grasped[_object_of(path)] = _object(root, data, path)
        frames = _thinned(data, path, framerate)
        touched = _touched(data, path, side, frames) >= contact_vertices
        without_contact += int((~touched).sum())
        person, frames = people[path.parent.name], frames[touched]
        if hand_from == "smplx":
            recordings.append(_from_body(hand, root, data, path, person, frames, smplx_folder))
        else:
            recordings.append(_from_hand(hand, data, path, person, frames))
    residuals = [one.residual for one in people.values()]
    return label_grasps(
        "grab",
        hand,
        recordings,
        grasped,
        {
            "hand_from": hand_from,
            "framerate": "as recorded" if framerate is None else f"{framerate:g} Hz",
            "without_contact": str(without_contact),
            "betas": f"{shape}; the subjects' own meshes differ from it by up to {1000 * max(residuals):.2f} mm (rms)"
            if residuals
            else shape,
        },
    )


def _root(folder: Path) -> Path:
    """The folder above ``grab``."""
    require("grab", folder, "folder")
    return folder.parent if folder.name == "grab" and not (folder / "grab").is_dir() else folder


def _object_of(path: Path) -> str:
    return path.stem.split("_")[0]


def _inside(root: Path, data: dict[str, Any], path: Path, *field: str) -> Path:
    """A file that a sequence names, below the data set's folder."""
    name = PurePosixPath(str(field_of(data, field[0], path, *field[1:])))
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{path}: {'.'.join(field)} names {name}, which is outside of {root}")
    return require("grab", root / name)


def _subject(hand: HandModel, root: Path, data: dict[str, Any], path: Path, side: Side, shape: Shape) -> _Subject:
    file = _inside(root, data, path, _MEMBER[side], "vtemp")
    template, _ = read_mesh(file)
    betas, residual = fit_betas(hand, template, str(file))
    wrist = template_wrist(hand, template)
    if shape == "fitted":
        return _Subject(wrist, betas, residual)
    mean = hand.arrays.v_template - hand.arrays.v_template.mean(0)
    distance = np.sqrt(((template - template.mean(0) - mean) ** 2).sum(1).mean())
    return _Subject(wrist, np.zeros(NUM_BETAS), float(distance))


def _object(root: Path, data: dict[str, Any], path: Path) -> GraspedObject:
    mesh = _inside(root, data, path, "object", "object_mesh")
    name = _object_of(path)
    return GraspedObject(name, str(mesh), mesh_scale(mesh), category=name, split=grab_split(name))


def _frame_count(data: dict[str, Any], path: Path) -> int:
    return len(numbers_of(data, (None, 3), path, "object", "params", "transl"))


def _thinned(data: dict[str, Any], path: Path, framerate: float | None) -> np.ndarray:
    """Indices of the frames to keep."""
    count = _frame_count(data, path)
    if framerate is None:
        return np.arange(count)
    recorded = float(numbers_of(data, (), path, "framerate"))
    if not 0 < framerate <= recorded:
        raise InputError(f"framerate: expected more than 0 and at most the recorded {recorded:g} Hz, got {framerate}")
    return np.unique(np.floor(np.arange(0, count, recorded / framerate)).astype(np.int64))


def _touched(data: dict[str, Any], path: Path, side: Side, frames: np.ndarray) -> np.ndarray:
    """For each of the frames, how many vertices of the object the hand touches."""
    count = _frame_count(data, path)
    parts = np.asarray(field_of(data, "contact", path, "object"))
    if parts.ndim != 2 or len(parts) != count or parts.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: contact.object: expected a body part per frame and vertex, ({count}, V) numbers, got "
            f"{parts.shape} {parts.dtype}"
        )
    return np.isin(parts[frames], list(CONTACT_PARTS[side])).sum(1)


def _from_hand(hand: HandModel, data: dict[str, Any], path: Path, person: _Subject, frames: np.ndarray) -> Recording:
    """Out of the parameters of the hand alone."""
    member = _MEMBER[hand.side]
    count = _frame_count(data, path)
    orient = numbers_of(data, (count, 3), path, member, "params", "global_orient")
    transl = numbers_of(data, (count, 3), path, member, "params", "transl")
    pose = _hand_pose(hand, data, path, count)
    wrist = transl[frames] + person.wrist
    return _recording(data, path, person, frames, (rotation_matrices(orient[frames]), wrist, pose[frames]))


def _from_body(
    hand: HandModel,
    root: Path,
    data: dict[str, Any],
    path: Path,
    person: _Subject,
    frames: np.ndarray,
    smplx_folder: str | Path | None,
) -> Recording:
    """Out of the parameters of the whole body."""
    model = find_smplx_model(smplx_folder, str(field_of(data, "gender", path)))
    template, _ = read_mesh(_inside(root, data, path, "body", "vtemp"))
    body = {
        name: numbers_of(data, (_frame_count(data, path), None), path, "body", "params", name)[frames]
        for name in ("global_orient", "body_pose", "transl", f"{hand.side}_hand_pose")
    }
    return _recording(data, path, person, frames, hand_of_body(model, template, body, hand.side))


def _recording(
    data: dict[str, Any],
    path: Path,
    person: _Subject,
    frames: np.ndarray,
    placed: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Recording:
    """Of a hand's orientation, wrist and pose in the chosen frames."""
    translation = numbers_of(data, (None, 3), path, "object", "params", "transl")
    turned = numbers_of(data, (len(translation), 3), path, "object", "params", "global_orient")
    return Recording(
        *placed,
        betas=person.betas,
        object_rotation=rotation_matrices(turned[frames]).swapaxes(1, 2),
        object_translation=translation[frames],
        object_name=_object_of(path),
        subject=path.parent.name,
        sequence=path.stem,
        frame=frames,
    )


def _hand_pose(hand: HandModel, data: dict[str, Any], path: Path, count: int) -> np.ndarray:
    """(T, 45) rad, from the full pose, or from the principal components that it was fitted in."""
    member = _MEMBER[hand.side]
    params = field_of(data, member, path, "params")
    if isinstance(params, dict) and "fullpose" in params:
        return numbers_of(data, (count, NUM_POSE), path, member, "params", "fullpose")
    coefficients = numbers_of(data, (count, None), path, member, "params", "hand_pose")
    if coefficients.shape[1] > NUM_POSE:
        raise InputError(f"{path}: {member}.params.hand_pose: {coefficients.shape[1]} components, MANO has {NUM_POSE}")
    return coefficients @ hand.arrays.hands_components[: coefficients.shape[1]]
