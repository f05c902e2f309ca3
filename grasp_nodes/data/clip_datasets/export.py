"""A part of a recorded sequence as a clip folder, so that what works with clip folders works with data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import trimesh

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_files import (
    FRAME_NAME,
    ClipInfo,
    ClipTruth,
    write_clip_info,
    write_image,
    write_truth,
)
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.objects.loading import load_object

DEPTH_UNIT = 0.000125
"""m per count of what is written; a distance of more than 8.19 m is left out."""


def export_clip(source: RecordingSource, folder: Path, frames: int = 0) -> Path:
    """Write the longest run of frames in which one hand and one object are annotated; clip.json comes last.

    Which share of the hand can be seen is not annotated: it is written as 1.

    Args:
        source: of a data set, with truth. folder: made. frames: the first so many of such a run, 0 = all.

    Returns:
        `folder`.

    Raises:
        InputError: no frame has both. MissingFileError, InputError: an image or the object cannot be read.
    """
    rows, states = _annotated_run(source, frames)
    for part in ("color", "objects", *(["depth"] if source.has_depth else [])):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        _write_frame(folder, FRAME_NAME.format(number), source.frame(row))
    model = load_object(source.object_spec, source.object_id, source.object_scale)
    mesh = Path("objects") / f"{source.object_id}.obj"
    trimesh.Trimesh(model.vertices, model.faces, process=False).export(folder / mesh)
    write_truth(folder, _truth(states))
    unit = DEPTH_UNIT if source.has_depth else None
    info = ClipInfo(len(rows), source.fps, source.camera, unit, {source.object_id: str(mesh)}, {"view": "recorded"})
    write_clip_info(folder, info)
    return folder


def _annotated_run(source: RecordingSource, limit: int) -> tuple[list[int], list[HandObjectState]]:
    best: list[tuple[int, HandObjectState]] = []
    run: list[tuple[int, HandObjectState]] = []
    for row, stamp in enumerate(source.stamps):
        state = source.truth(stamp)
        if state is None or len(state.hands) != 1 or len(state.objects) != 1:
            run = []
            continue
        run.append((row, state))
        best = run if len(run) > len(best) else best
        if len(run) == limit:
            break
    if not best:
        raise InputError(
            "no frame has a hand and an object in its annotations; hands of this data set need MANO's own files, set "
            "GRASP_NODES_HAND_MODEL to their folder"
        )
    return [row for row, _ in best], [state for _, state in best]


def _write_frame(folder: Path, name: str, frame: Frame) -> None:
    write_image(folder / "color" / f"{name}.png", frame.color)
    if frame.depth is not None:
        counts = np.round(frame.depth / DEPTH_UNIT)
        write_image(folder / "depth" / f"{name}.png", np.where(counts < 2**16, counts, 0).astype(np.uint16))


def _truth(states: Sequence[HandObjectState]) -> ClipTruth:
    hands, items = [state.hands[0] for state in states], [state.objects[0] for state in states]

    def column(name: str) -> np.ndarray:
        return torch.cat([getattr(hand.params, name) for hand in hands]).double().numpy()

    return ClipTruth(
        stamps=np.array([state.stamp for state in states], np.int64),
        global_orient=column("global_orient"),
        hand_pose=column("hand_pose"),
        betas=column("betas"),
        transl=column("transl"),
        scale=column("scale"),
        side=hands[0].params.side,
        keypoints=np.stack([hand.keypoints for hand in hands]),
        T_camera_object=np.stack([item.T_camera_object for item in items]),
        object_id=items[0].object_id,
        hand_visible=np.ones(len(states)),
        model_id=hands[0].model_id,
        model_fingerprint=hands[0].model_fingerprint,
        joint_poses=np.stack([hand.joint_poses for hand in hands]),
    )
