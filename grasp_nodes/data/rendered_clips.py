"""The default clip: an open hand picks up, turns and puts down a mug; RGB-D with exact truth, rendered at first run."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.clip_files import (
    FRAME_NAME,
    ClipInfo,
    ClipTruth,
    write_clip_info,
    write_image,
    write_truth,
)
from grasp_nodes.data.motion import DURATION, PALM_ANGLE, ClipVariation, camera_pose, clip_pose
from grasp_nodes.data.mug_grasp import HandGrasp, find_mug_grasp
from grasp_nodes.data.shading import LABEL_FOREARM, LABEL_HAND, LABEL_OBJECT, Studio, StudioImage
from grasp_nodes.data.skin import SkinnedArm
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, box_pixels, pixel_rays
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.shapes import mug
from grasp_nodes.paths import cache_dir

RENDER_VERSION = 2
"""Raised whenever the pictures change, so that cached clips are made again."""
FPS = 30
MAX_FRAMES = int(DURATION * FPS)
START_STAMP = 1_700_000_000_000_000_000
DEPTH_UNIT = 0.001
DEPTH_NOISE = 0.001
"""m at `NOISE_DISTANCE`, growing with the square of the distance as stereo does."""
NOISE_DISTANCE = 0.65
EDGE_STEP = 0.015
"""m: neighbouring depths that differ by more lose half of their measurements."""
OBJECT_ID = "mug"
OBJECT_FILE = "objects/mug.obj"
FOLDERS = {"color": ".jpg", "depth": ".png", "labels": ".png"}
PROCESSES = 2

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def default_clip(frames: int = MAX_FRAMES, seed: int = 0, progress: Progress | None = None) -> Path:
    """The folder of the default clip; rendered now if the cache does not hold it.

    Frames are written one by one, so that an interrupted rendering goes on where it stopped.

    Args:
        frames: the first so many of the 150 frames (5 s at 30 Hz) of the same motion.
        seed: 0 is the plain clip; others vary view, motion, colours and noise a little.
        progress: called with the frames that are done and `frames`.

    Raises:
        InputError: frames outside of 1..150 or a negative seed.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError(f"frames: expected 1 to {MAX_FRAMES}, got {frames}")
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, got {seed}")
    model = _open_hand()
    key = f"mug-v{RENDER_VERSION}-{model.fingerprint[:8]}-seed{seed}"
    parent = cache_dir("clips")
    target = parent / f"{key}-{frames}"
    if (target / "clip.json").is_file():
        return target
    work = parent / f"{key}.frames"
    for name in (*FOLDERS, "objects"):
        (work / name).mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(frames) if not all(path.is_file() for path in _frame_files(work, i))]
    if missing:
        _log.info("rendering %d frames of the default clip into %s", len(missing), work)
        _render_missing(work, seed, missing, frames, progress)
    _publish(work, target, frames, seed)
    return target


def _frame_files(folder: Path, frame: int) -> list[Path]:
    return [folder / name / (FRAME_NAME.format(frame) + suffix) for name, suffix in FOLDERS.items()]


def _render_missing(work: Path, seed: int, missing: Sequence[int], frames: int, progress: Progress | None) -> None:
    done = frames - len(missing)
    if progress:
        progress(done, frames)
    # Processes and not threads: half of the time is numpy under the interpreter's lock. Spawned: torch and Open3D do
    # not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(PROCESSES, len(missing)), context, _start_worker, (str(work), seed, _grasp()))
    try:
        tasks = [pool.submit(_render_to_files, frame) for frame in missing]
        for task in as_completed(tasks):
            task.result()
            done += 1
            if progress:
                progress(done, frames)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Path, _Stage] | None = None
"""What a rendering process keeps from frame to frame."""


def _start_worker(work: str, seed: int, shape_and_grasp: tuple[trimesh.Trimesh, HandGrasp]) -> None:
    global _worker
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker = Path(work), _Stage(seed, _open_hand(), *shape_and_grasp)


def _render_to_files(frame: int) -> None:
    assert _worker is not None
    work, stage = _worker
    image = stage.image(frame)
    color, depth, labels = _frame_files(work, frame)
    write_image(color, image.color)
    write_image(depth, measured_depth(image.depth, np.random.default_rng([stage.seed, 4, frame])))
    write_image(labels, image.labels)


def _publish(work: Path, target: Path, frames: int, seed: int) -> None:
    """Make the clip's folder out of rendered frames (hard links where possible) and give it its name at once."""
    stage = _stage(seed)
    folder = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.rmtree(folder, ignore_errors=True)
    for name in (*FOLDERS, "objects"):
        (folder / name).mkdir(parents=True)
    for frame in range(frames):
        for source in _frame_files(work, frame):
            place = folder / source.relative_to(work)
            try:
                os.link(source, place)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, place)
    stage.mug.export(folder / OBJECT_FILE, include_normals=False)
    write_truth(folder, stage.truth(frames))
    extra = {
        "source": "rendered by grasp_nodes",
        "render_version": RENDER_VERSION,
        "seed": seed,
        "depth_noise_m": DEPTH_NOISE,
        "labels": {"background": 0, "hand": 1, "object": 2, "forearm": 3, "table": 4},
        "hand_model_id": stage.model.model_id,
        "hand_fingerprint": stage.model.fingerprint,
    }
    write_clip_info(folder, ClipInfo(frames, FPS, stage.camera, DEPTH_UNIT, {OBJECT_ID: OBJECT_FILE}, extra))
    try:
        folder.rename(target)
    except OSError:
        if not (target / "clip.json").is_file():
            raise
        shutil.rmtree(folder)  # another process was faster


def measured_depth(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a depth camera would say: noise, lost edges, counts of `DEPTH_UNIT`.

    Args:
        depth: (H, W), m, exact; inf or 0 = nothing there.

    Returns:
        (H, W) uint16, 0 = no measurement.
    """
    exact = np.where(np.isfinite(depth), depth, 0.0)
    noise = DEPTH_NOISE * (exact / NOISE_DISTANCE) ** 2 * rng.standard_normal(depth.shape)
    kernel = np.ones((3, 3), np.uint8)
    edge = cv2.dilate(exact, kernel) - cv2.erode(exact, kernel) > EDGE_STEP
    lost = (edge & (rng.random(depth.shape) < 0.5)) | (exact <= 0)
    counts = np.round((exact + noise) / DEPTH_UNIT)
    return np.where(lost | (counts > np.iinfo(np.uint16).max), 0, counts).astype(np.uint16)


def clip_camera() -> CameraModel:
    """640 x 480, 56 degrees wide, no distortion."""
    return CameraModel(np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]]), 640, 480)


def _open_hand() -> HandModel:
    return load_hand_model("right", OPEN_HAND_FILE, torch.float64)


@lru_cache(maxsize=1)
def _grasp() -> tuple[trimesh.Trimesh, HandGrasp]:
    shape = mug()
    return shape, find_mug_grasp(load_hand_model("right", OPEN_HAND_FILE), shape, float(PALM_ANGLE))


@lru_cache(maxsize=1)
def _stage(seed: int) -> _Stage:
    shape, grasp = _grasp()
    return _Stage(seed, _open_hand(), shape, grasp)


@dataclass
class _PosedHand:
    """The hand of one frame in the camera's frame."""

    params: HandParams
    vertices: np.ndarray
    keypoints: np.ndarray
    joint_frames: np.ndarray


class _Stage:
    """Everything that the frames of one seed share."""

    def __init__(self, seed: int, model: HandModel, shape: trimesh.Trimesh, grasp: HandGrasp) -> None:
        self.model, self.mug, self.grasp = model, shape, grasp
        self.variation = ClipVariation.of_seed(seed)
        self.camera = clip_camera()
        self.T_camera_world = camera_pose(self.variation)
        self.seed = seed
        self._arm = SkinnedArm(model)
        self._wrist = (model.arrays.J_regressor @ model.arrays.v_template)[0]

    def image(self, frame: int) -> StudioImage:
        """Render one frame."""
        arm, shape = self._meshes(self.hand(frame), self.object_pose(frame))
        labels = [
            np.where(self._arm.is_forearm, LABEL_FOREARM, LABEL_HAND).astype(np.uint8),
            np.full(len(shape.faces), LABEL_OBJECT, np.uint8),
        ]
        return _studio(self.seed).render([arm, shape], labels, frame)

    def hand(self, frame: int) -> _PosedHand:
        """The exact hand."""
        pose = clip_pose(frame / FPS, self.grasp, self.variation)
        T_camera_hand = self.T_camera_world @ pose.T_world_hand
        # HandParams turn about the wrist joint, T_camera_hand about the model's origin
        transl = T_camera_hand[:3, :3] @ self._wrist + T_camera_hand[:3, 3] - self._wrist
        params = replace(
            HandParams.zeros(1, "right", torch.float64),
            global_orient=torch.from_numpy(Rotation.from_matrix(T_camera_hand[:3, :3]).as_rotvec()[None]),
            hand_pose=torch.from_numpy(pose.hand_pose[None]),
            transl=torch.from_numpy(transl[None]),
        )
        with torch.no_grad():
            output = self.model(params)
        return _PosedHand(
            params, output.vertices[0].numpy(), output.keypoints[0].numpy(), output.joint_frames[0].numpy()
        )

    def object_pose(self, frame: int) -> np.ndarray:
        """T_camera_object (4, 4)."""
        return self.T_camera_world @ clip_pose(frame / FPS, self.grasp, self.variation).T_world_mug

    def truth(self, frames: int) -> ClipTruth:
        """The exact trajectory."""
        hands = [self.hand(i) for i in range(frames)]
        objects = np.stack([self.object_pose(i) for i in range(frames)])
        joints = np.stack([hand.joint_frames for hand in hands])
        quaternions = Rotation.from_matrix(joints[..., :3, :3].reshape(-1, 3, 3)).as_quat().reshape(frames, 16, 4)
        rows = {
            name: np.concatenate([getattr(hand.params, name).numpy() for hand in hands])
            for name in ("global_orient", "hand_pose", "betas", "transl", "scale")
        }
        return ClipTruth(
            stamps=START_STAMP + np.round(np.arange(frames) * 1e9 / FPS).astype(np.int64),
            **rows,
            side="right",
            keypoints=np.stack([hand.keypoints for hand in hands]),
            T_camera_object=objects,
            object_id=OBJECT_ID,
            hand_visible=np.array([self._visible_share(*pair) for pair in zip(hands, objects, strict=True)]),
            model_id=self.model.model_id,
            model_fingerprint=self.model.fingerprint,
            joint_poses=np.concatenate([joints[..., :3, 3], quaternions], axis=-1),
        )

    def _meshes(self, hand: _PosedHand, T_camera_object: np.ndarray) -> tuple[RenderMesh, RenderMesh]:
        skin = self._arm.vertices(hand.vertices, hand.joint_frames[0])
        colors = np.clip(self._arm.colors * self.variation.skin_tone, 0, 1)
        placed = self.mug.vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        return (
            RenderMesh(skin, self._arm.faces, colors),
            RenderMesh(placed, self.mug.faces, np.array(self.variation.mug_color)),
        )

    def _visible_share(self, hand: _PosedHand, T_camera_object: np.ndarray) -> float:
        """Rays on a coarse grid that is wider than the image: those that meet the hand before object and border."""
        bare = RenderMesh(hand.vertices, self.model.arrays.faces, np.ones(3))
        placed = self.mug.vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        outline = self.camera.project(hand.vertices)
        x0, y0 = np.floor(outline.min(axis=0)).astype(int)
        x1, y1 = np.ceil(outline.max(axis=0)).astype(int) + 1
        rays = pixel_rays(self.camera, box_pixels((int(x0), int(y0), int(x1), int(y1)))[::3])
        alone = RayScene([bare], threads=1).cast(rays).mesh == 0
        first = RayScene([bare, RenderMesh(placed, self.mug.faces, np.ones(3))], threads=1).cast(rays).mesh == 0
        pixels = self.camera.project(rays)
        inside = ((pixels >= -0.5) & (pixels <= [self.camera.width - 0.5, self.camera.height - 0.5])).all(axis=1)
        return float((first & inside).sum() / max(int(alone.sum()), 1))


@lru_cache(maxsize=1)
def _studio(seed: int) -> Studio:
    return Studio(clip_camera(), camera_pose(ClipVariation.of_seed(seed)), seed)
