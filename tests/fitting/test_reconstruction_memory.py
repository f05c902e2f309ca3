"""The real reconstructor with the real perception keeps nothing of windows that are done."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch

from grasp_nodes.fitting.homan.settings import JointFitSettings
from grasp_nodes.fitting.reconstruction import ClipReconstructor, ReconstructionSettings
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.perception.clip_perceiver import ClipPerceiver
from grasp_nodes.perception.clip_segmenter import ClipObjectSegmenter
from grasp_nodes.perception.evidence import HandEvidence
from grasp_nodes.perception.foreground import ForegroundFinder

WIDTH, HEIGHT, RADIUS = 160, 120, 0.04
CAMERA = CameraModel(np.array([[170.0, 0, 79.5], [0, 170.0, 59.5], [0, 0, 1]]), WIDTH, HEIGHT)
WINDOW, NEW, WINDOWS, WARM = 5, 3, 8, 2
"""Frames of a window, new ones in each after the first, windows, and those after which memory is counted."""


class Landmarks:
    """Says where the hand of the frame is, and nothing that it would have to remember."""

    def __init__(self) -> None:
        self.model = load_hand_model("right")

    def points(self, stamp: int) -> np.ndarray:
        swing = 0.03 * np.sin(0.4 * stamp / 1e9 * 15)
        params = replace(HandParams.zeros(1), transl=torch.tensor([[swing - 0.06, 0.0, 0.5]], dtype=torch.float32))
        with torch.no_grad():
            return self.model(params).keypoints[0].double().numpy()

    def detect(self, frame: Frame) -> list[HandEvidence]:
        pixels = CAMERA.project(self.points(frame.stamp)).astype(np.float32)
        box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]).astype(np.float32)
        return [HandEvidence("right", 0.95, 0.95, box, pixels, None, None, 1)]

    def reset(self) -> None:
        pass


def picture(landmarks: Landmarks, row: int) -> Frame:
    """A hand of discs that swings with a ball before a wall."""
    stamp = round(row * 1e9 / 15)
    points = landmarks.points(stamp)
    color = np.random.default_rng(0).integers(90, 110, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    depth = np.full((HEIGHT, WIDTH), 0.8, np.float32)
    middle = points[9] + [0.06, 0.0, 0.02]
    for point, radius, shade in (*((one, 0.012, (220, 170, 140)) for one in points), (middle, RADIUS, (40, 80, 200))):
        at = tuple(int(value) for value in CAMERA.project(point).round())
        size = round(170 * radius / float(point[2]))
        cv2.circle(color, at, size, shade, -1)
        cv2.circle(depth, at, size, float(point[2]) - radius / 2, -1)
    return Frame(stamp, color, CAMERA, depth)


def test_memory_does_not_grow_with_the_clip() -> None:
    landmarks, ball = Landmarks(), load_object(f"sphere:{RADIUS}")
    foreground = ForegroundFinder()
    segmenter = ClipObjectSegmenter("sphere", None, 2 * RADIUS, foreground, True)
    settings = ReconstructionSettings(window=WINDOW, overlap=1, candidates=2, joint=JointFitSettings(iterations=(1, 1)))
    reconstructor = ClipReconstructor(
        ClipPerceiver(landmarks, segmenter, foreground=foreground),
        {"right": landmarks.model},
        {"sphere": ball},
        settings,
    )

    def frames() -> Iterator[Frame]:
        for row in range(WINDOW + (WINDOWS - 1) * NEW):
            yield picture(landmarks, row)

    used, seen = [], {"hands": 0, "objects": 0}
    tracemalloc.start()
    try:
        for window in reconstructor.reconstruct(frames()):
            seen["hands"] += sum(bool(state.hands) for state in window.states)
            seen["objects"] += sum(bool(state.objects) for state in window.states)
            del window
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len(used) == WINDOWS
    assert min(seen.values()) > WINDOW * WINDOWS / 3, "hand and object are followed, or nothing would be kept anyway"
    one_frame = HEIGHT * WIDTH * (3 + 4)
    # A mask kept of each window would be more than a tenth of a frame; the last window carries nothing on.
    growth = (used[-2] - used[WARM]) / (WINDOWS - 2 - WARM)
    assert growth < 0.1 * one_frame
