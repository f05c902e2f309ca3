"""The default clip: an open hand picks up, turns and puts down a mug; RGB-D with exact truth, rendered at first run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.clip_files import ClipInfo, ClipTruth
from grasp_nodes.data.clip_production import CLIP_FILE, ClipJob, Progress, produce
from grasp_nodes.data.depth_sensor import DEPTH_NOISE, DEPTH_UNIT
from grasp_nodes.data.motion import DURATION, PALM_ANGLE, ClipVariation, camera_pose, clip_pose
from grasp_nodes.data.mug_grasp import HandGrasp, find_mug_grasp
from grasp_nodes.data.shading import LABEL_FOREARM, LABEL_HAND, LABEL_OBJECT, Studio, StudioImage
from grasp_nodes.data.skin import SkinnedArm
from grasp_nodes.data.visibility import visible_share
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RenderMesh
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
OBJECT_ID = "mug"
OBJECT_FILE = "objects/mug.obj"
PROCESSES = 2

_log = logging.getLogger(__name__)


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
    if (target / CLIP_FILE).is_file():
        return target
    # The search for the grasp is done once, here, and its answer goes to the processes.
    job = ClipJob(target, parent / f"{key}.frames", frames, partial(_make_stage, seed, _grasp()))
    _log.info("rendering the default clip into %s", job.work)
    produce([job], PROCESSES, progress)
    return target


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
    return _make_stage(seed, _grasp())


def _make_stage(seed: int, shape_and_grasp: tuple[trimesh.Trimesh, HandGrasp]) -> _Stage:
    return _Stage(seed, _open_hand(), *shape_and_grasp)


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
        self.depth_noise = 1.0
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

    def info(self, frames: int) -> ClipInfo:
        """What clip.json says."""
        extra = {
            "source": "rendered by grasp_nodes",
            "render_version": RENDER_VERSION,
            "seed": self.seed,
            "depth_noise_m": DEPTH_NOISE,
            "labels": {"background": 0, "hand": 1, "object": 2, "forearm": 3, "table": 4},
            "hand_model_id": self.model.model_id,
            "hand_fingerprint": self.model.fingerprint,
        }
        return ClipInfo(frames, FPS, self.camera, DEPTH_UNIT, {OBJECT_ID: OBJECT_FILE}, extra)

    def meshes(self) -> dict[str, trimesh.Trimesh]:
        """The mug by its file's name."""
        return {OBJECT_FILE: self.mug}

    def _meshes(self, hand: _PosedHand, T_camera_object: np.ndarray) -> tuple[RenderMesh, RenderMesh]:
        skin = self._arm.vertices(hand.vertices, hand.joint_frames[0])
        colors = np.clip(self._arm.colors * self.variation.skin_tone, 0, 1)
        placed = self.mug.vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        return (
            RenderMesh(skin, self._arm.faces, colors),
            RenderMesh(placed, self.mug.faces, np.array(self.variation.mug_color)),
        )

    def _visible_share(self, hand: _PosedHand, T_camera_object: np.ndarray) -> float:
        bare = RenderMesh(hand.vertices, self.model.arrays.faces, np.ones(3))
        placed = self.mug.vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        return visible_share(self.camera, bare, [RenderMesh(placed, self.mug.faces, np.ones(3))])


@lru_cache(maxsize=1)
def _studio(seed: int) -> Studio:
    return Studio(clip_camera(), camera_pose(ClipVariation.of_seed(seed)), seed)
