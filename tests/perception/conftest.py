"""An analytic RGB-D scene: a table, a ball or a box on it, and a hand made of small balls, all ray-cast exactly."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.evidence import HandEvidence

CAMERA = CameraModel(np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), 320, 240)
TABLE, OBJECT, HAND = 1, 2, 3
COLORS = {0: (90, 90, 90), TABLE: (120, 80, 50), OBJECT: (40, 90, 160), HAND: (205, 150, 120)}


@dataclass(frozen=True)
class Scene:
    """One frame with its truth: labels (H, W), and the hand's evidence or None."""

    frame: Frame
    labels: np.ndarray
    hand: HandEvidence | None


def _rays() -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    flat = CAMERA.normalise(np.stack([columns, rows], axis=-1))
    return np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1)


def _sphere(rays: np.ndarray, center: np.ndarray, radius: float) -> np.ndarray:
    a, b = (rays**2).sum(-1), rays @ center
    discriminant = b**2 - a * (center @ center - radius**2)
    return np.where(discriminant > 0, (b - np.sqrt(np.maximum(discriminant, 0))) / a, np.inf)


def _hand_points(origin: np.ndarray) -> np.ndarray:
    """21 keypoints of a flat right hand, back to the camera, fingers to the image's top; m, camera frame."""
    points = [np.zeros(3)]
    for finger, (side, reach, bones) in enumerate(
        [(-0.03, 0.03, 0.03), (-0.025, 0.09, 0.025), (0.0, 0.095, 0.03), (0.02, 0.09, 0.027), (0.04, 0.08, 0.02)]
    ):
        direction = np.array([-0.7, -0.7, 0.0]) if finger == 0 else np.array([side * 2.0, -1.0, 0.0])
        direction /= np.linalg.norm(direction)
        points += [np.array([side, -reach, 0.0]) + k * bones * direction for k in range(4)]
    return np.array(points) + origin


def build_scene(
    object_center: tuple[float, float, float] = (0.0, 0.02, 0.6),
    radius: float = 0.045,
    hand_origin: tuple[float, float, float] | None = None,
    stamp: int = 0,
    seed: int = 0,
) -> Scene:
    """Ray-cast the scene; the table lies 0.1 m below the axis and is seen from 35 degrees above."""
    rng = np.random.default_rng(seed)
    rays = _rays()
    normal = np.array([0.0, -np.cos(np.deg2rad(35)), -np.sin(np.deg2rad(35))])
    on_table = np.array([0.0, 0.02, 0.6]) - 0.045 * normal
    along = rays @ normal
    layers = {TABLE: np.where(along < 0, (on_table @ normal) / along, np.inf)}
    layers[OBJECT] = _sphere(rays, np.array(object_center), radius)
    hand = None
    if hand_origin is not None:
        keypoints = _hand_points(np.array(hand_origin))
        chains = [(0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (0, 9, 10, 11, 12), (0, 13, 14, 15, 16), (0, 17, 18, 19, 20)]
        distance = np.full(rays.shape[:2], np.inf)
        for a, b in itertools.chain.from_iterable(itertools.pairwise(chain) for chain in chains):
            for share in np.linspace(0, 1, 12):
                center = keypoints[a] + share * (keypoints[b] - keypoints[a])
                u, v = np.round(CAMERA.project(center)).astype(int)
                near = np.s_[max(v - 12, 0) : max(v + 13, 0), max(u - 12, 0) : max(u + 13, 0)]
                hit = _sphere(rays[near], center, 0.013 if a == 0 else 0.009)
                distance[near] = np.minimum(distance[near], hit)
        layers[HAND] = distance
        pixels = CAMERA.project(keypoints).astype(np.float32)
        box = np.concatenate([pixels.min(0) - 5, pixels.max(0) + 5])
        relative = (keypoints - keypoints.mean(0)).astype(np.float32)
        hand = HandEvidence("right", 0.99, 0.99, box, pixels, relative, None, 1)
    stack = np.stack([np.full(rays.shape[:2], 5.0), *layers.values()])
    labels = np.array([0, *layers])[stack.argmin(0)]
    depth = stack.min(0)
    depth = np.where(labels > 0, depth + rng.normal(0, 0.001, depth.shape), 0.0).astype(np.float32)
    color = np.array([COLORS[k] for k in range(4)])[labels] + rng.normal(0, 4, (*labels.shape, 3))
    return Scene(Frame(stamp, np.clip(color, 0, 255).astype(np.uint8), CAMERA, depth), labels, hand)


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """The scene's builder."""
    return build_scene


@pytest.fixture
def samples() -> Path:
    """Folder of the recorded clips."""
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "samples"
    folder = Path(os.environ.get("GRASP_NODES_SAMPLES", default))
    if not folder.is_dir():
        pytest.skip(f"recorded clips not found in {folder}: set GRASP_NODES_SAMPLES")
    return folder
