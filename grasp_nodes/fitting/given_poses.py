"""Poses of hands and object that other networks found: where the fit of a frame starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.perception.evidence import HandEvidence

FAR = 0.5
"""Share of the evidence's box by which a given hand's keypoints may be away from those that were seen."""
LEAST_DEPTH = 0.02
"""m; hands nearer to the camera than this cannot be compared with the image."""


@dataclass(frozen=True)
class GivenPoses:
    """Of one frame, camera frame.

    hands: batches of one, MANO's parameters; their shape and scale are not taken over.
    T_camera_object: (4, 4), m, of the object's mesh, or None.
    """

    hands: Sequence[HandParams] = ()
    T_camera_object: np.ndarray | None = None


def starts_of(
    seen: Sequence[HandEvidence], given: Sequence[HandParams], camera: CameraModel, models: Mapping[Side, HandModel]
) -> list[tuple[HandEvidence, HandParams | None]]:
    """Each hand that was seen with the given pose that lies nearest to it in the image, each pose once.

    Args:
        seen: evidence of hands. given: poses from elsewhere. camera: of the evidence. models: by side.
    """
    pixels = [_pixels(params, camera, models) for params in given]
    pairs = sorted(
        (
            (_apart(place, hand.keypoints), row, column)
            for row, hand in enumerate(seen)
            for column, place in enumerate(pixels)
            if place is not None and hand.side in ("unknown", given[column].side)
        )
    )
    chosen: dict[int, int] = {}
    for apart, row, column in pairs:
        if apart < FAR and row not in chosen and column not in chosen.values():
            chosen[row] = column
    return [(hand, given[chosen[row]] if row in chosen else None) for row, hand in enumerate(seen)]


def _apart(place: np.ndarray, keypoints: np.ndarray) -> float:
    """Mean distance of keypoints (21, 2), px, as a share of the hand's larger side."""
    size = max(float(np.ptp(keypoints, axis=0).max()), 1.0)
    return float(np.linalg.norm(place - keypoints, axis=1).mean()) / size


def _pixels(params: HandParams, camera: CameraModel, models: Mapping[Side, HandModel]) -> np.ndarray | None:
    """Keypoints (21, 2), px, of a given hand; None where it is not in front of the camera."""
    model = models.get(params.side)
    if model is None:
        return None
    with torch.no_grad():
        points = model(params.to(device=model.device, dtype=model.dtype)).keypoints[0].cpu().double().numpy()
    return np.asarray(camera.project(points)) if (points[:, 2] > LEAST_DEPTH).all() else None
