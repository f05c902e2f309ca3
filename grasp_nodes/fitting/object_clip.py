"""The poses of a known object over a clip, or a window of it, from masks and, where there is one, depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.object_fit import ObjectPoseFitter
from grasp_nodes.fitting.tracks import ObjectTrack
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import ObservedFrame


def initialise_object(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    *,
    seed: int = 0,
    candidates: int = 50,  # noqa: ARG001
    use_depth: bool = True,
    previous: ObjectTrack | None = None,  # noqa: ARG001
) -> ObjectTrack:
    """Follow one object through frames of one camera.

    Raises:
        InputError: no frames, or an image has not its camera's size.
    """
    if not frames:
        raise InputError("frames: expected at least one frame, got none")
    fitter = ObjectPoseFitter(object_model, seed)
    poses, scores, ious, seen = [], [], [], []
    for frame in frames:
        masks = [hand.mask for hand in frame.evidence.hands if hand.mask is not None]
        own = [one for one in frame.evidence.objects if one.object_id in ("", object_model.object_id)]
        estimate = fitter.update(
            frame.evidence.camera,
            own[0].mask if own else None,
            frame.depth if use_depth else None,
            np.logical_or.reduce(masks) if masks else None,
        )
        held = estimate is None or estimate.is_held
        poses.append(np.eye(4) if estimate is None else estimate.T_camera_object)
        seen.append(not held)
        scores.append(0.0 if estimate is None else estimate.score)
        ious.append(np.nan if estimate is None or held else estimate.iou)
    known = np.cumsum(seen) > 0
    return ObjectTrack(
        object_id=object_model.object_id,
        T_camera_object=np.stack(poses),
        seen=np.array(seen),
        score=np.array(scores),
        iou=np.array(ious),
        lost=~known,
        scale=object_model.scale,
    )
