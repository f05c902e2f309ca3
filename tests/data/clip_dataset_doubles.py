"""Hands and files for the tests of the readers of recorded clips; the open hand stands in for MANO."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
import trimesh

from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandOutput, HandParams, Side

SIDES: tuple[Side, ...] = ("right", "left")


@cache
def hand_models() -> dict[Side, HandModel]:
    return {side: load_hand_model(side, OPEN_HAND_FILE, torch.float64) for side in SIDES}


def posed(side: Side, pose: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> HandOutput:
    """One hand of 16 axis-angle rotations (48,), as MANO's own code takes them."""
    orient, bends, shape, shift = (
        torch.tensor(np.asarray(c, float)[None]) for c in (pose[:3], pose[3:], betas, transl)
    )
    return hand_models()[side](HandParams(orient, bends, shape, shift, torch.ones(1).double(), side))


def write_image(path: Path, image: np.ndarray) -> None:
    """RGB or one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def write_mesh(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box((0.06, 0.08, 0.1)).export(path)


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), np.uint8)
