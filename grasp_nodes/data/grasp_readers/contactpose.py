"""ContactPose: 50 people, 25 printed objects, two intents, each grasp with MANO fits and a thermal contact map.

Brahmbhatt et al., "ContactPose: A Dataset of Grasps with Object Contact and Hand Pose", ECCV 2020. One recording::

    contactpose_data/full<P>_<use|handoff>/<object>/annotations.json     joints, which hands are there, do they move
                                                    mano_fits_15.json    [left, right]: pose, betas, mTc, valid
                                                    <object>.ply         mesh in m, contact as grey vertex colours
    object_models/<object>.ply                                           mesh in mm, the same frame

A fit's pose is 3 numbers of global orientation and 10 or 15 PCA coefficients about MANO's mean pose. ``mTc`` takes the
recording's hand frame to MANO's; a hand that moves against the object has ``hTo`` per video frame, for the others the
hand frame is the object's.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from grasp_nodes.data.grasp_readers.mano_hands import (
    Recording,
    label_grasps,
    require_mano,
    rest_wrist,
    rotation_matrices,
)
from grasp_nodes.data.grasp_readers.mesh_units import mesh_scale
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import quaternion_to_matrix
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, Side

logger = logging.getLogger(__name__)

SOURCE = "contactpose"
Intent = Literal["use", "handoff"]
_SESSION = re.compile(r"full(\d+)_(use|handoff)")
_WITHOUT_OBJECT = ("hands", "palm_print")
_CONTACT_MAPS = "contact_maps"


def read_contactpose(
    folder: str | Path,
    hand: HandModel | None = None,
    side: Side = "right",
    num_pca: int = 15,
    intents: Collection[Intent] = ("use", "handoff"),
    participants: Collection[int] | None = None,
    only_one_hand: bool = True,
    frame: int = 0,
) -> LabelledGrasps:
    """ContactPose's grasps by one hand, in the frame of the object's mesh.

    ``sequence`` is ``full<P>_<intent>``, ``subject`` the participant's number. `contact_map_path` gives the contact
    map of a row. The attribute ``without_fit`` counts recordings that have no such MANO fit.

    Args:
        folder: ContactPose's ``data``, or ``contactpose_data`` itself.
        hand: MANO; None = the user's. side: which hand.
        num_pca: which fits, 10 or 15.
        intents, participants: which recordings; None = all.
        only_one_hand: leave out recordings in which the other hand takes part, as Perturbed ContactPose does.
        frame: of the video, for a hand that moves against the object.

    Raises:
        MissingFileError: no such folder, or no MANO. InputError: no such recording in it, or a broken one (named).
    """
    hand = require_mano(hand, side, "ContactPose")
    root = require(SOURCE, Path(folder), "folder")
    sessions = root / "contactpose_data" if (root / "contactpose_data").is_dir() else root
    recordings, seen, without_fit = [], 0, 0
    for path in sorted(sessions.glob("full*_*/*")):
        session = _SESSION.fullmatch(path.parent.name)
        if session is None or not path.is_dir() or path.name in _WITHOUT_OBJECT:
            continue
        seen += 1
        if session[2] not in intents or (participants is not None and int(session[1]) not in participants):
            continue
        if not (path / f"mano_fits_{num_pca}.json").is_file():
            without_fit += 1
            continue
        recording = _read_recording(path, session[1], hand, num_pca, only_one_hand, frame)
        if recording is not None:
            recordings.append(recording)
    if not seen:
        require(SOURCE, sessions / "full1_use" / "apple", "recording")
    names = {str(recording.object_name) for recording in recordings}
    return label_grasps(
        SOURCE,
        hand,
        recordings,
        {name: _find_object(sessions, name) for name in names},
        {
            "without_fit": str(without_fit),
            _CONTACT_MAPS: str(sessions),
            "licence": "MIT; the 3D models have licences of their own",
        },
    )


def contact_map_path(grasps: LabelledGrasps, row: int) -> Path:
    """Where the contact map of a grasp is: a mesh in m whose grey vertex colour is the contact, 0 = not measured.

    The file is there if it was downloaded.

    Raises:
        InputError: the grasps are not ContactPose's.
    """
    if grasps.source != SOURCE or _CONTACT_MAPS not in grasps.attributes:
        raise InputError(f"{grasps.source}: only ContactPose has contact maps")
    name = grasps.objects[grasps.object_index[row]].name
    return Path(grasps.attributes[_CONTACT_MAPS]) / str(grasps.sequence[row]) / name / f"{name}.ply"


def _read_recording(
    path: Path, participant: str, hand: HandModel, num_pca: int, only_one_hand: bool, frame: int
) -> Recording | None:
    """One grasp; None where that hand is not there, or the other one is there too and must not be."""
    number, other = (1, 0) if hand.side == "right" else (0, 1)
    fits_file, notes_file = path / f"mano_fits_{num_pca}.json", path / "annotations.json"
    fits, notes = _read_json(fits_file), _read_json(notes_file)
    try:
        fit, notes_hand = fits[number], notes["hands"][number]
        if not (fit["valid"] and notes_hand["valid"]) or (only_one_hand and notes["hands"][other]["valid"]):
            return None
        pose, betas = _numbers(fit["pose"], 3 + num_pca), _numbers(fit["betas"], NUM_BETAS)
        object_to_mano = _matrix(fit["mTc"])
        if notes_hand.get("moving"):
            frames = notes["frames"]
            if not 0 <= frame < len(frames):
                raise InputError(f"{notes_file}: frame {frame} is not one of its {len(frames)}")
            object_to_mano = object_to_mano @ _matrix(frames[frame]["hTo"][number])
    except InputError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: {fits_file.name} or {notes_file.name} is not as ContactPose writes it "
            f"({type(error).__name__}: {error})"
        ) from error
    coefficients = torch.from_numpy(pose[None, 3:]).to(hand.hands_mean)
    return Recording(
        orientation=rotation_matrices(pose[None, :3]),
        wrist=rest_wrist(hand, betas[None]),
        hand_pose=hand.pose_from_pca(coefficients).cpu().numpy().astype(np.float64),
        betas=betas[None],
        object_rotation=object_to_mano[None, :3, :3],
        object_translation=object_to_mano[None, :3, 3],
        object_name=path.name,
        subject=participant,
        sequence=path.parent.name,
        frame=np.array([frame]),
    )


def _read_json(path: Path) -> Any:
    require(SOURCE, path)
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def _numbers(values: Any, count: int) -> np.ndarray:
    numbers = np.array([float(value) for value in values])
    if len(numbers) != count:
        raise TypeError(f"expected {count} numbers, got {len(numbers)}")
    return numbers


def _matrix(pose: Any) -> np.ndarray:
    """(4, 4) of a translation and a quaternion w, x, y, z."""
    matrix = np.eye(4)
    quaternion = torch.from_numpy(_numbers(pose["rotation"], 4)[[1, 2, 3, 0]])
    matrix[:3, :3] = quaternion_to_matrix(quaternion).numpy()
    matrix[:3, 3] = _numbers(pose["translation"], 3)
    return matrix


def _find_object(sessions: Path, name: str) -> GraspedObject:
    """Its mesh: the 3D model, or where this was not downloaded a contact map's mesh."""
    candidates = [
        sessions.parent / "object_models" / f"{name}.ply",
        *sorted(sessions.glob(f"full*_*/{name}/{name}.ply")),
    ]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        logger.warning(
            "%s: neither a 3D model (%s) nor a contact map of %s; its grasps have no mesh",
            sessions,
            candidates[0],
            name,
        )
        return GraspedObject(name, category=name)
    return GraspedObject(name, str(found), mesh_scale(found), category=name)
