"""Renders one clip of the benchmark and tells its truth."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.benchmark_looks import clip_look
from grasp_nodes.data.benchmark_motion import FPS
from grasp_nodes.data.benchmark_objects import open_hand
from grasp_nodes.data.benchmark_plan import ClipPlan, pose_hands
from grasp_nodes.data.benchmark_search import prop_meshes
from grasp_nodes.data.clip_files import ClipInfo, ClipTruth
from grasp_nodes.data.depth_sensor import DEPTH_NOISE, DEPTH_UNIT
from grasp_nodes.data.shading import (
    LABEL_BACKGROUND,
    LABEL_FOREARM,
    LABEL_HAND,
    LABEL_OBJECT,
    Coating,
    Studio,
    StudioImage,
)
from grasp_nodes.data.skin import SkinnedArm
from grasp_nodes.data.visibility import visible_share
from grasp_nodes.evaluation.penetration import hand_signed_distance
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.geometry.rendering import RenderMesh

RENDER_VERSION = 2
"""Raised whenever the pictures or the truth change, so that cached clips are made again."""
START_STAMP = 1_700_000_000_000_000_000
CONTACT = 0.005
"""m, nearest vertex of the hand: nearer is contact."""
NOISE = (1.0, 2.0)
"""Of the depth camera, relative to that of the default clip."""


class BenchmarkStage:
    """`ClipStage` of a plan."""

    def __init__(self, plan: ClipPlan) -> None:
        request = plan.request
        rng = np.random.default_rng([request.seed, 6, request.index])
        self.plan, self.seed = plan, int(rng.integers(2**31))
        self.depth_noise = float(rng.uniform(*NOISE))
        half = np.ptp(plan.vertices, axis=0) / 2
        self._look = clip_look(rng, half, plan.wrist_bend, len(plan.props))
        self.object_id = plan.family
        self._file = f"objects/{self.object_id}.obj"

    def image(self, frame: int) -> StudioImage:
        """Render one frame."""
        plan = self.plan
        output, pose = pose_hands(plan.hands(frame + 1)[frame:]), plan.object_poses(frame + 1)[frame]
        skin = self._arm.vertices(output.vertices[0].numpy(), output.joint_frames[0, 0].numpy())
        thing = plan.vertices @ pose[:3, :3].T + pose[:3, 3]
        props = prop_meshes(plan, self._look.props)
        labels = [
            np.where(self._arm.is_forearm, LABEL_FOREARM, LABEL_HAND).astype(np.uint8),
            np.full(len(plan.faces), LABEL_OBJECT, np.uint8),
            *(np.full(len(prop.faces), LABEL_BACKGROUND, np.uint8) for prop in props),
        ]
        meshes = [
            RenderMesh(skin, self._arm.faces, np.clip(self._arm.colors, 0, 1)),
            RenderMesh(thing, plan.faces, np.ones(3)),
            *props,
        ]
        return self._studio.render(meshes, labels, frame, {1: Coating(plan.vertices, self._look.coat)})

    def truth(self, frames: int) -> ClipTruth:
        """The exact trajectory."""
        plan = self.plan
        hands, objects = plan.hands(frames), plan.object_poses(frames)
        output, model = pose_hands(hands), open_hand(plan.request.side)
        joints = output.joint_frames.numpy()
        quaternions = Rotation.from_matrix(joints[..., :3, :3].reshape(-1, 3, 3)).as_quat().reshape(frames, 16, 4)
        return ClipTruth(
            stamps=START_STAMP + np.round(np.arange(frames) * 1e9 / FPS).astype(np.int64),
            global_orient=hands.global_orient.numpy(),
            hand_pose=hands.hand_pose.numpy(),
            betas=hands.betas.numpy(),
            transl=hands.transl.numpy(),
            scale=hands.scale.numpy(),
            side=plan.request.side,
            keypoints=output.keypoints.numpy(),
            T_camera_object=objects,
            object_id=self.object_id,
            hand_visible=np.array(
                [self._visible_share(*pair) for pair in zip(output.vertices.numpy(), objects, strict=True)]
            ),
            model_id=model.model_id,
            model_fingerprint=model.fingerprint,
            joint_poses=np.concatenate([joints[..., :3, 3], quaternions], axis=-1),
        )

    def info(self, frames: int) -> ClipInfo:
        """What clip.json says."""
        plan, model = self.plan, open_hand(self.plan.request.side)
        request = plan.request
        extra = {
            "source": "rendered by grasp_nodes",
            "render_version": RENDER_VERSION,
            "seed": request.seed,
            "index": request.index,
            "view": request.view,
            "occlusion": request.occlusion,
            "occluded_share": round(1 - float(self.truth(frames).hand_visible.mean()), 4),
            "contact_share": round(float(self.contact(frames).mean()), 4),
            "family": plan.family,
            "object": plan.object_name,
            "hand_side": request.side,
            "motion": request.course,
            "props": [prop.name for prop in plan.props],
            "noise": round(self.depth_noise, 4),
            "depth_noise_m": DEPTH_NOISE * self.depth_noise,
            "labels": {"background": 0, "hand": 1, "object": 2, "forearm": 3, "table": 4},
            "hand_model_id": model.model_id,
            "hand_fingerprint": model.fingerprint,
        }
        return ClipInfo(frames, FPS, plan.camera, DEPTH_UNIT, {self.object_id: self._file}, extra)

    def meshes(self) -> dict[str, trimesh.Trimesh]:
        """The object by its file's name."""
        return {self._file: trimesh.Trimesh(self.plan.vertices, self.plan.faces, process=False)}

    def contact(self, frames: int) -> np.ndarray:
        """(T,) bool, whether any vertex of the hand is within 5 mm of the object."""
        objects = self.plan.object_poses(frames)
        vertices = pose_hands(self.plan.hands(frames)).vertices.numpy()
        local = np.einsum("tvi,tij->tvj", vertices - objects[:, None, :3, 3], objects[:, :3, :3])
        return hand_signed_distance(local, Solid(self.plan.vertices, self.plan.faces)).min(axis=1) < CONTACT

    def _visible_share(self, vertices: np.ndarray, pose: np.ndarray) -> float:
        plan = self.plan
        bare = RenderMesh(vertices, open_hand(plan.request.side).arrays.faces, np.ones(3))
        thing = RenderMesh(plan.vertices @ pose[:3, :3].T + pose[:3, 3], plan.faces, np.ones(3))
        return visible_share(plan.camera, bare, [thing, *prop_meshes(plan)])

    @cached_property
    def _arm(self) -> SkinnedArm:
        return SkinnedArm(open_hand(self.plan.request.side), betas=self.plan.betas, look=self._look.arm)

    @cached_property
    def _studio(self) -> Studio:
        return Studio(self.plan.camera, self.plan.T_camera_studio, self.seed, self._look.studio)
