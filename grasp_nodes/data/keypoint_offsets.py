"""Where the landmark network sees the 21 points relative to the hand model's keypoints.

The network was trained on people's annotations: its knuckles lie on the skin and its wrist nearer to the palm than any
hand model's joints. Rendered hands with known joints tell the difference, as constant offsets in the joints' frames.

    python -m grasp_nodes.data.keypoint_offsets -o grasp_nodes/fitting/keypoint_offsets.json
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.finger_bends import FingerBends
from grasp_nodes.data.mug_grasp import HandGrasp, find_mug_grasp
from grasp_nodes.data.rendered_clips import clip_camera
from grasp_nodes.data.shading import photograph, skin_shader
from grasp_nodes.data.skin import SkinnedArm
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.geometry.rendering import DEFAULT_LIGHT, RayScene, RenderMesh, draw_meshes
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.shapes import mug
from grasp_nodes.perception.evidence import HandLandmarker
from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker

FORMAT, VERSION = "grasp_nodes/keypoint_offsets", 1
KEYPOINT_JOINTS = (0, 13, 14, 15, 15, 1, 2, 3, 3, 4, 5, 6, 6, 10, 11, 12, 12, 7, 8, 9, 9)
"""Joint in whose frame each keypoint's offset is constant; a tip moves with the last joint of its finger."""
BONE_FRAME = (
    "axes of the keypoint's joint frame; in the rest pose of the right hand -x is distal, +y the back of the hand, "
    "+z the thumb's side. Left hand: negate x."
)
MUG_RADII = (0.030, 0.033, 0.041)
"""m; not that of the default clip, whose grasp must not take part in what it is judged with."""
FLAT = ((4.0, 6.0, 4.0), (5.0, 5.0, 5.0, -5.0, 0.0))
CURLED = ((40.0, 45.0, 28.0), (10.0, 20.0, 25.0, -30.0, 0.0))
"""deg: bends of the fingers; bends, spread and twist of the thumb."""
POSE_NOISE = 0.07
MAX_MEAN_ERROR = 25.0
"""px: views in which the network is further off have found something else."""
RIDGE = 1e-3
"""Weight of zero offsets against one view of one px error at 1 px/mm."""
ROBUST_PX = 2.0
PALM_DEPTH, KNUCKLE_DEPTH, FINGER_DEPTH = 0.026, 0.018, 0.013
"""m: a keypoint that is deeper behind the skin in front of it is hidden by another part of the hand."""
VISIBLE_DEPTH = np.array([PALM_DEPTH] * 3 + [KNUCKLE_DEPTH, FINGER_DEPTH] + 4 * ([KNUCKLE_DEPTH] + 3 * [FINGER_DEPTH]))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One rendered hand that the network found; right hand, camera frame.

    keypoints: (21, 3), m. frames: (21, 3, 3), orientation of each keypoint's joint. seen: (21, 2), px, the network's
    points. depth: (21,), m, of the skin that is seen there, NaN where it is not the hand.
    visible: (21,) bool, keypoints that nothing hides; where the network has to guess, it says nothing about offsets.
    """

    keypoints: np.ndarray
    frames: np.ndarray
    seen: np.ndarray
    depth: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class OffsetFit:
    """offsets: (21, 3), m. skin_depth: (21,), m. Residuals (px) are means over views that took no part in a fit."""

    offsets: np.ndarray
    skin_depth: np.ndarray
    views: int
    residual_before: float
    residual_after: float


class OffsetStudio:
    """Renders random hands and asks the network."""

    def __init__(self, model: HandModel, landmarker: HandLandmarker, seed: int) -> None:
        """Prepare meshes and grasps.

        Args:
            model: the right hand. landmarker: the network. seed: of poses, views and backgrounds.
        """
        self._model, self._landmarker, self._seed = model, landmarker, seed
        self._arm = SkinnedArm(model)
        with torch.no_grad():
            rest = model(HandParams.zeros(1, "right", model.dtype)).keypoints[0].double().numpy()
        self._middle = 0.5 * (rest[0] + rest[9])
        self._bends = FingerBends.of_right_hand(rest)
        self._camera = clip_camera()
        self._light = np.array(DEFAULT_LIGHT) / np.linalg.norm(DEFAULT_LIGHT)
        self._grasps = [self._grasp(radius) for radius in MUG_RADII]

    def view(self, number: int, mirrored: bool) -> View | None:
        """Render one hand; None where the network does not find it.

        Args:
            number: which view. mirrored: show the network the mirror image, a left hand.
        """
        rng = np.random.default_rng([self._seed, number])
        held = self._grasps[number // 2 % len(self._grasps)] if number % 2 else None
        pose = self._free_pose(rng) if held is None else held[0].hand_pose
        T_camera_hand = self._camera_pose(rng)
        params = replaced(
            HandParams.zeros(1, "right", self._model.dtype),
            hand_pose=torch.as_tensor(pose[None], dtype=self._model.dtype),
        )
        with torch.no_grad():
            output = self._model(params)
        frames = output.joint_frames[0].double().numpy()
        skin = self._arm.vertices(output.vertices[0].double().numpy(), frames[0])
        meshes = [RenderMesh(_placed(T_camera_hand, skin), self._arm.faces, self._arm.colors * rng.uniform(0.8, 1.1))]
        if held is not None:
            vertices, faces = held[1], held[2]
            T_hand_object = np.linalg.inv(held[0].T_object_hand)
            meshes.append(RenderMesh(_placed(T_camera_hand @ T_hand_object, vertices), faces, rng.uniform(0.2, 0.8, 3)))
        color, depth = self._render(meshes, rng)
        seen = self._ask(color, mirrored)
        if seen is None:
            return None
        keypoints = _placed(T_camera_hand, output.keypoints[0].double().numpy())
        in_front = keypoints[:, 2] - _sample(depth, self._camera.project(keypoints))
        return View(
            keypoints,
            T_camera_hand[:3, :3] @ frames[list(KEYPOINT_JOINTS), :3, :3],
            seen,
            _sample(depth, seen),
            in_front < VISIBLE_DEPTH,
        )

    def _grasp(self, radius: float) -> tuple[HandGrasp, np.ndarray, np.ndarray]:
        shape = mug(radius=radius)
        return find_mug_grasp(self._model, shape, np.pi), np.asarray(shape.vertices), np.asarray(shape.faces)

    def _free_pose(self, rng: np.random.Generator) -> np.ndarray:
        share = rng.uniform(0, 1)
        values = (1 - share) * self._bends.uniform(*FLAT) + share * self._bends.uniform(*CURLED)
        values += rng.normal(0, POSE_NOISE, len(values))
        return self._bends.pose(np.clip(values, self._bends.low, self._bends.high))

    def _camera_pose(self, rng: np.random.Generator) -> np.ndarray:
        """T_camera_hand: back and thumb side of the hand, fingers anywhere in the upper half of the image."""
        around, along = np.deg2rad(rng.uniform(-15, 110)), np.deg2rad(rng.uniform(-35, 35))
        toward = np.array([np.sin(along), np.cos(along) * np.sin(around), np.cos(along) * np.cos(around)])
        up = np.array([-1.0, 0.0, 0.0])
        down = -(up - up @ toward * toward)
        down /= np.linalg.norm(down)
        rotation = np.stack([np.cross(down, -toward), down, -toward])
        rotation = Rotation.from_rotvec([0, 0, np.deg2rad(rng.uniform(-95, 95))]).as_matrix() @ rotation
        T_camera_hand = np.eye(4)
        T_camera_hand[:3, :3] = rotation
        place = np.array([rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06), rng.uniform(0.45, 0.8)])
        T_camera_hand[:3, 3] = place - rotation @ self._middle
        return T_camera_hand

    def _render(self, meshes: list[RenderMesh], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Colours (H, W, 3) uint8 and depth of the skin (H, W), NaN elsewhere."""
        size = (self._camera.height, self._camera.width)
        clutter = cv2.GaussianBlur(rng.normal(size=(*size, 3)), (0, 0), rng.uniform(5, 40))
        canvas = np.clip(rng.uniform(0.25, 0.75, 3) + 0.12 * clutter / clutter.std(), 0, 1)
        pixels, hits = draw_meshes(RayScene(meshes), self._camera, canvas, self._light, skin_shader(self._light), 2)
        depth = np.full(size, np.nan)
        depth[pixels[:, 1], pixels[:, 0]] = np.where(hits.mesh == 0, hits.depth, np.nan)
        return photograph(canvas, rng), depth

    def _ask(self, color: np.ndarray, mirrored: bool) -> np.ndarray | None:
        """(21, 2) px of the hand of the right side, seen a second time as a followed hand is."""
        if mirrored:
            color = np.ascontiguousarray(color[:, ::-1])
        self._landmarker.reset()
        frame = Frame(0, color, self._camera)
        hands = self._landmarker.detect(frame) and self._landmarker.detect(frame)
        if not hands or hands[0].side != ("left" if mirrored else "right"):
            return None
        seen = hands[0].keypoints.astype(np.float64)
        return np.stack([self._camera.width - 1 - seen[:, 0], seen[:, 1]], axis=1) if mirrored else seen


def fit_offsets(views: Sequence[View], camera_k: np.ndarray) -> np.ndarray:
    """Offsets (21, 3), m, that best explain where the network saw the points (robust Gauss-Newton, Cauchy weights).

    Args:
        views: at least ten. camera_k: (3, 3), of all views.
    """
    keypoints = np.stack([view.keypoints for view in views])
    frames = np.stack([view.frames for view in views])
    seen = np.stack([view.seen for view in views])
    visible = np.stack([view.visible for view in views])
    focal = camera_k[[0, 1], [0, 1]]
    offsets = np.zeros((keypoints.shape[1], 3))
    for _ in range(12):
        points = keypoints + np.einsum("vkij,kj->vki", frames, offsets)
        depth = points[..., 2:]
        residual = seen - (points[..., :2] / depth * focal + camera_k[:2, 2])
        project = np.zeros((*points.shape[:2], 2, 3))
        project[..., 0, 0], project[..., 1, 1] = focal[0] / depth[..., 0], focal[1] / depth[..., 0]
        project[..., 2] = -points[..., :2] * focal / depth**2
        jacobian = np.einsum("vkpi,vkij->vkpj", project, frames)
        weight = visible / (1 + (np.linalg.norm(residual, axis=-1) / (2 * ROBUST_PX)) ** 2)
        normal = np.einsum("vk,vkpi,vkpj->kij", weight, jacobian, jacobian)
        normal += RIDGE * len(views) * 1e6 * np.eye(3)
        right = np.einsum("vk,vkpi,vkp->ki", weight, jacobian, residual) - RIDGE * len(views) * 1e6 * offsets
        offsets = offsets + np.linalg.solve(normal, right[..., None])[..., 0]
    return offsets


def fit_skin_depth(views: Sequence[View], offsets: np.ndarray) -> np.ndarray:
    """(21,) m: median distance along the optical axis from the seen skin to the point behind it."""
    points = np.stack([view.keypoints + np.einsum("kij,kj->ki", view.frames, offsets) for view in views])
    behind = points[..., 2] - np.stack([view.depth for view in views])
    behind = np.where(np.stack([view.visible for view in views]), behind, np.nan)
    return np.clip(np.nanmedian(behind, axis=0), 0, VISIBLE_DEPTH)


def residual_px(views: Sequence[View], offsets: np.ndarray, camera_k: np.ndarray) -> float:
    """Mean distance (px) between the network's visible points and the keypoints moved by `offsets`."""
    points = np.stack([view.keypoints + np.einsum("kij,kj->ki", view.frames, offsets) for view in views])
    pixels = points[..., :2] / points[..., 2:] * camera_k[[0, 1], [0, 1]] + camera_k[:2, 2]
    distance = np.linalg.norm(pixels - np.stack([view.seen for view in views]), axis=-1)
    return float(distance[np.stack([view.visible for view in views])].mean())


def measure(views: Sequence[View], camera_k: np.ndarray) -> OffsetFit:
    """Fit on all views; residuals come from two fits of one half each, tested on the other."""
    good = [view for view in views if residual_px([view], np.zeros((21, 3)), camera_k) < MAX_MEAN_ERROR]
    if len(good) < 20:
        raise GraspNodesError(f"keypoint offsets: the network found the hand in {len(good)} views, 20 are needed")
    offsets = fit_offsets(good, camera_k)
    halves = good[: len(good) // 2], good[len(good) // 2 :]
    after = [residual_px(test, fit_offsets(train, camera_k), camera_k) for train, test in (halves, halves[::-1])]
    before = residual_px(good, np.zeros((21, 3)), camera_k)
    return OffsetFit(offsets, fit_skin_depth(good, offsets), len(good), before, float(np.mean(after)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="Measure the offsets between landmark network and hand model.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--views", type=int, default=120, help="hands to render; each is also shown mirrored")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = load_hand_model("right", OPEN_HAND_FILE)
    studio = OffsetStudio(model, LitertHandLandmarker(LandmarkerOptions(max_hands=1)), options.seed)
    tries = [studio.view(number, mirrored) for number in range(options.views) for mirrored in (False, True)]
    views = [view for view in tries if view is not None]
    fit = measure(views, clip_camera().camera_k)
    _log.info(
        "hand found in %d of %d pictures, %d used; %.1f px before, %.1f px after",
        len(views),
        len(tries),
        fit.views,
        fit.residual_before,
        fit.residual_after,
    )
    table = {
        "format": FORMAT,
        "version": VERSION,
        "bone_frame": BONE_FRAME,
        "joints": list(KEYPOINT_JOINTS),
        "offsets": np.round(fit.offsets, 5).tolist(),
        "skin_depth": np.round(fit.skin_depth, 5).tolist(),
        "hand_model_id": model.model_id,
        "hand_fingerprint": model.fingerprint,
        "views": fit.views,
        "pictures": len(tries),
        "seed": options.seed,
        "residual_px_before": round(fit.residual_before, 2),
        "residual_px_after": round(fit.residual_after, 2),
        "provenance": f"python -m grasp_nodes.data.keypoint_offsets --views {options.views} --seed {options.seed}",
    }
    options.output.write_text(json.dumps(table, indent=1) + "\n")


def _placed(T_target_source: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ T_target_source[:3, :3].T + T_target_source[:3, 3]


def _sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Values (N,) of an image (H, W) at the nearest pixels, NaN outside."""
    x, y = np.round(pixels).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
    values = np.full(len(pixels), np.nan)
    values[inside] = image[y[inside], x[inside]]
    return values


if __name__ == "__main__":
    main()
