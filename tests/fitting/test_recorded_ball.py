"""A recorded ball that a person turns: the fitted centre against a sphere fitted to the stereo depth alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from grasp_nodes.data.sources import open_source
from grasp_nodes.fitting.frame_fitter import FrameFitter
from grasp_nodes.fitting.reconstruction import ClipReconstructor, ReconstructionSettings
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.loading import load_object
from grasp_nodes.perception.clip_perceiver import ClipPerceiver
from grasp_nodes.perception.clip_segmenter import ClipObjectSegmenter
from grasp_nodes.perception.depth_segmenter import DepthObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker
from grasp_nodes.perception.model_files import find_hand_models
from grasp_nodes.perception.perceiver import Perceiver

ROOT = Path(__file__).parents[2]
CLIP = Path(os.environ.get("GRASP_NODES_SAMPLES", ROOT.parent / "shared" / "samples")) / "ball_stereo"
RADIUS = 0.117
REACH = 1.15
NEAR_SURFACE = 0.012

pytestmark = [
    pytest.mark.samples,
    pytest.mark.slow,
    pytest.mark.skipif(not CLIP.is_dir(), reason=f"no recording in {CLIP}"),
    pytest.mark.skipif(find_hand_models() is None, reason="the hand models are absent: make models"),
]


def sphere_center(frame: Frame, near: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Centre (3,) of a sphere of the ball's radius, by consensus and then robust least squares on the depth points.

    `near` only says which part of the image to look at.
    """
    rows, columns = np.nonzero((frame.depth > 0.2) & (frame.depth < 0.9))
    middle, focal = frame.camera.project(near), frame.camera.camera_k[0, 0]
    around = np.hypot(columns - middle[0], rows - middle[1]) < REACH * RADIUS * focal / near[2]
    pixels = np.stack([columns, rows], axis=1)[around]
    points = frame.camera.unproject(pixels, frame.depth[rows, columns][around])
    sample = points[generator.choice(len(points), 3000)]
    best, most = near, 0
    for _ in range(200):
        corners = sample[generator.choice(len(sample), 4, replace=False)]
        matrix = 2 * (corners[1:] - corners[0])
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        center = np.linalg.solve(matrix, (corners[1:] ** 2).sum(1) - (corners[0] ** 2).sum())
        if abs(np.linalg.norm(corners[0] - center) - RADIUS) > 0.02:
            continue
        votes = int((np.abs(np.linalg.norm(sample - center, axis=1) - RADIUS) < 0.004).sum())
        if votes > most:
            best, most = center, votes
    surface = sample[np.abs(np.linalg.norm(sample - best, axis=1) - RADIUS) < NEAR_SURFACE]
    fitted = least_squares(
        lambda center: np.linalg.norm(surface - center, axis=1) - RADIUS, best, loss="cauchy", f_scale=0.003
    )
    return fitted.x


def test_ball_and_hand_are_followed() -> None:
    ball = load_object(f"sphere:{RADIUS}", object_id="ball")
    foreground = ForegroundFinder()
    segmenter = DepthObjectSegmenter("ball", None, 2 * RADIUS, foreground)
    landmarker = LitertHandLandmarker(LandmarkerOptions(max_hands=1), find_hand_models())
    perceiver = Perceiver(landmarker, segmenter, foreground)
    fitter = FrameFitter(ball, {"right": load_hand_model("right"), "left": load_hand_model("left")})
    generator = np.random.default_rng(0)
    errors, hands = [], 0
    frames = list(open_source(str(CLIP), f"sphere:{RADIUS}"))
    for frame in frames:
        evidence = perceiver.perceive(frame)
        hands += bool(evidence.hands)
        state = fitter.update(evidence, frame.depth)
        assert state.objects, "the ball was lost"
        center = state.objects[0].T_camera_object[:3, 3]
        errors.append(np.linalg.norm(center - sphere_center(frame, center, generator)))
    assert len(frames) == 40
    assert hands >= 20
    assert np.sqrt(np.mean(np.square(errors))) < 0.015


def test_ball_and_hand_are_reconstructed_by_windows() -> None:
    ball = load_object(f"sphere:{RADIUS}", object_id="ball")
    foreground = ForegroundFinder()
    segmenter = ClipObjectSegmenter("ball", diameter=2 * RADIUS, foreground=foreground)
    landmarker = LitertHandLandmarker(LandmarkerOptions(max_hands=1), find_hand_models())
    hands = {"right": load_hand_model("right"), "left": load_hand_model("left")}
    perceiver = ClipPerceiver(landmarker, segmenter, foreground=foreground)
    reconstructor = ClipReconstructor(perceiver, hands, {"ball": ball}, ReconstructionSettings())
    frames = list(open_source(str(CLIP), f"sphere:{RADIUS}"))
    states = [state for window in reconstructor.reconstruct(frames) for state in window.states]
    generator = np.random.default_rng(0)
    errors = []
    for frame, state in zip(frames, states, strict=True):
        for item in state.objects:
            center = item.T_camera_object[:3, 3]
            errors.append(np.linalg.norm(center - sphere_center(frame, center, generator)))
    assert len(errors) >= 36, "the ball was lost"
    assert np.sqrt(np.mean(np.square(errors))) < 0.015
    assert sum(bool(state.hands) for state in states) >= 36
