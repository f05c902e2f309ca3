"""Whether the camera moves, told from images of which it is known."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.camera_motion import CameraWatch
from grasp_nodes.perception.clip_perceiver import ClipPerceiver
from grasp_nodes.perception.evidence import HandEvidence

HEIGHT, WIDTH = 240, 320
CAMERA = CameraModel(np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), WIDTH, HEIGHT)
BALL, HAND = (520, 360), (600, 380)
"""px in the whole scene, which rests."""


def whole_scene(seed: int = 0, contrast: float = 40.0) -> np.ndarray:
    """(720, 960, 3) uint8: a table with texture, a ball on it, and a hand beside the ball."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (720, 960)).astype(np.float32), (0, 0), 4)
    texture *= contrast / texture.std()
    picture = np.clip(120 + texture[..., None] + np.zeros(3), 0, 255).astype(np.uint8)
    cv2.circle(picture, BALL, 30, (40, 90, 160), -1)
    cv2.circle(picture, HAND, 35, (205, 150, 120), -1)
    return picture


def seen_from(picture: np.ndarray, corners: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """What a camera sees whose top left corner (T, 2), px, goes over the scene; with its noise."""
    rng = np.random.default_rng(seed)
    images = []
    for x, y in corners:
        move = np.array([[1.0, 0, -x], [0, 1.0, -y]])
        part = cv2.warpAffine(picture, move, (WIDTH, HEIGHT)).astype(np.float32)
        images.append(np.clip(part + rng.normal(0, 2, part.shape), 0, 255).astype(np.uint8))
    return images


def path(speed: float, frames: int = 12) -> np.ndarray:
    """(T, 2) px, at so many px per frame."""
    return np.array([380.0, 240.0]) + np.outer(np.arange(frames), speed * np.array([0.8, 0.6]))


@pytest.mark.parametrize("speed", [1.5, 4.0, 12.0])
def test_a_camera_that_moves_is_seen_to(speed: float) -> None:
    assert CameraWatch().moves(seen_from(whole_scene(), path(speed))).all()


def test_a_camera_that_turns_about_its_axis_is_seen_to() -> None:
    picture = whole_scene()
    images = []
    for t in range(8):
        turn = cv2.getRotationMatrix2D((480, 360), 2.0 * t, 1.0)
        images.append(cv2.warpAffine(picture, turn, (960, 720))[240:480, 320:640])
    assert CameraWatch().moves(images).all()


def test_near_things_pass_faster_than_far_ones() -> None:
    far, near = (seen_from(whole_scene(seed), path(speed)) for seed, speed in ((0, 3.0), (1, 4.2)))
    images = [np.vstack([one[: HEIGHT // 2], other[HEIGHT // 2 :]]) for one, other in zip(far, near, strict=True)]
    assert CameraWatch().moves(images).all()


@pytest.mark.parametrize("speed", [1.5, 4.0])
@pytest.mark.parametrize("share", [0.08, 0.2, 0.33])
@pytest.mark.parametrize("place", [(0.5, 0.5), (1.0, 0.5), (1.0, 0.0)])
def test_what_goes_with_a_moving_camera_does_not_hide_its_motion(
    speed: float, share: float, place: tuple[float, float]
) -> None:
    """As hands and what they hold do before a camera on a head."""
    images = seen_from(whole_scene(), path(speed, 8))
    assert CameraWatch().moves([with_block(image, share, place) for image in images]).all()


@pytest.mark.parametrize("place", [(1.0, 0.5), (1.0, 1.0), (0.5, 0.5)])
def test_what_moves_in_half_of_the_image_is_no_moving_camera(place: tuple[float, float]) -> None:
    """A hand with an object of much texture before a wall of as much."""
    wall = seen_from(whole_scene(), path(0.0, 10))
    images = [with_block(image, 0.5, place, step=4 * t) for t, image in enumerate(wall)]
    assert not CameraWatch().moves(images).any()


def with_block(image: np.ndarray, share: float, place: tuple[float, float], step: int = 0) -> np.ndarray:
    """A part of another scene, which has moved on by a step (px), before that share of the image."""
    height, width = (int(edge * share**0.5) for edge in (HEIGHT, WIDTH))
    row, column = int(place[0] * (HEIGHT - height)), int(place[1] * (WIDTH - width))
    image[row : row + height, column : column + width] = whole_scene(5)[300:][:height, 400 - step :][:, :width]
    return image


@pytest.mark.parametrize("frames", [5, 6])
def test_the_last_frames_of_a_window_count_like_the_others(frames: int) -> None:
    """So slow that it shows over two frames only."""
    assert CameraWatch().moves(seen_from(whole_scene(), path(0.75, frames))).all()


def test_a_pause_between_windows_is_one() -> None:
    there, back = path(5.0, 5), path(5.0, 5) + path(5.0, 5)[-1] - path(5.0, 1)
    corners = np.concatenate([there, np.tile(there[-1:], (6, 1)), back[1:]])
    images = seen_from(whole_scene(), corners)
    watch = CameraWatch()
    assert not CameraWatch().moves(images[7:11]).any()
    first = watch.moves(images[:7])
    assert first[:5].all()
    assert watch.moves(images[7:]).all()


def test_noise_is_no_motion() -> None:
    rng = np.random.default_rng(0)
    images = [np.clip(rng.normal(120, 12, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for _ in range(12)]
    assert not CameraWatch().moves(images).any()


def test_a_camera_at_rest_is_not_taken_to_move_by_an_arm_or_its_shadow() -> None:
    images = seen_from(whole_scene(), path(0.0, 15))
    for t, image in enumerate(images):
        left = 10 * t
        image[:, left + 90 : left + 200] = (0.6 * image[:, left + 90 : left + 200]).astype(np.uint8)
        stripes = np.where(np.arange(90) // 6 % 2, 150, 200).astype(np.uint8)
        image[:200, left : left + 90] = stripes[None, :, None]
    assert not CameraWatch().moves(images).any()


def test_without_texture_nothing_is_seen_to_move() -> None:
    assert not CameraWatch().moves([np.full((HEIGHT, WIDTH, 3), 128, np.uint8)] * 6).any()
    assert CameraWatch().moves([]).shape == (0,)
    assert not CameraWatch().moves(seen_from(whole_scene(), path(0.0, 1))).any()


def test_only_frames_about_which_it_moves() -> None:
    corners = np.concatenate([np.tile(path(0, 1), (10, 1)), path(5.0, 7)[1:], np.tile(path(5.0, 7)[-1:], (10, 1))])
    found = CameraWatch().moves(seen_from(whole_scene(), corners))
    assert not found[:8].any()
    assert found[10:16].all()
    assert not found[19:].any()


def test_motion_between_two_windows_counts_and_a_new_clip_begins_anew() -> None:
    here, there = seen_from(whole_scene(), path(0.0, 4)), seen_from(whole_scene(), path(0.0, 4) + [8.0, 4.0])
    watch = CameraWatch()
    assert not watch.moves(here).any()
    assert watch.moves(there).tolist() == [True, False, False, False]
    watch.reset()
    assert not watch.moves(here).any()


class KnownHand:
    """`HandLandmarker` that is told where the camera looks."""

    def __init__(self, corners: np.ndarray) -> None:
        self._corners = corners

    def detect(self, frame: Frame) -> Sequence[HandEvidence]:
        rng = np.random.default_rng(0)
        middle = np.array(HAND) - self._corners[frame.stamp // 33_000_000]
        keypoints = (middle + rng.uniform(-30, 30, (21, 2))).astype(np.float32)
        box = np.concatenate([keypoints.min(0), keypoints.max(0)])
        return [HandEvidence("right", 0.99, 0.99, box, keypoints)]

    def reset(self) -> None:
        pass


@pytest.mark.parametrize(("speed", "moves"), [(4.0, True), (0.0, False)])
def test_evidence_of_a_clip_says_whether_its_camera_moves(speed: float, moves: bool) -> None:
    """Ball and hand rest; only the camera may move."""
    corners = path(speed)
    frames = [Frame(t * 33_000_000, image, CAMERA, None) for t, image in enumerate(seen_from(whole_scene(), corners))]
    perceiver = ClipPerceiver(KnownHand(corners))
    observed = perceiver.perceive(frames[:6]) + perceiver.perceive(frames[6:])
    assert [one.camera_moves for one in observed] == [moves] * len(frames)
