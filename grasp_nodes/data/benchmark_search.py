"""Finding a plan that meets a request: grasps, resting poses, motions and cameras are drawn until all checks pass.

What is checked is geometry alone: nothing enters anything else, all that should be seen is in the image, the hand is
seen from the side that was asked for. Whether a network finds the hand is never asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.benchmark_motion import FPS, MAX_FRAMES, ClipMotion
from grasp_nodes.data.benchmark_objects import (
    GraspedSolid,
    grasped_family,
    grasped_mesh,
    homogeneous,
    open_hand,
    rest_frames,
)
from grasp_nodes.data.benchmark_plan import (
    ClipPlan,
    ClipRequest,
    mean_direction,
    palm_middle,
    pose_hands,
    studio_camera,
    view_of,
)
from grasp_nodes.data.benchmark_props import add_props
from grasp_nodes.data.resting import resting_poses
from grasp_nodes.data.skin import ArmLook, SkinnedArm
from grasp_nodes.data.visibility import visible_share
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.evaluation.penetration import hand_signed_distance, object_depth_in_hand
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RenderMesh
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.keypoints import WRIST_LOOP, closed_faces
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.hand.preshapes import HandPreshapes, angles
from grasp_nodes.objects.registry import TRAINING_FAMILIES

OBJECTS = 4
"""Objects of a family that are tried for one clip before another family is, and..."""
TRIALS = 80
"""plans on each of them."""
CAMERAS = 96
WIDTH, HEIGHT = 640, 480
MAX_PENETRATION = 0.002
MAX_OBJECT_DEPTH = 0.004
MAX_STEP = 1.5 / FPS
"""m, of any vertex of the hand from frame to frame."""
ABOVE_TABLE = 0.002
FROM_CAMERA = 0.16
"""m, of hand and arm."""
ELEVATION = np.deg2rad([14.0, 62.0])
DISTANCE = (0.45, 0.90)
LEAST_VISIBLE = 0.2
"""Of hand and object, mean over frames that are looked at."""
BEHIND_OBJECT = ("palm", "fingertips")
HIDDEN_BY_OBJECT = 0.12
"""Of the hand's outline, in the frame that hides most, where the view looks at the inside of the hand."""
LOOKED_AT = (0, 8, 15, 22, 29)
FOREARM_RISE = np.deg2rad([4.0, 75.0])


def find_plan(request: ClipRequest) -> ClipPlan:
    """The plan of one clip; the same for the same request.

    Some objects cannot be grasped where they lie, as plates on a table: then another family takes their place, but
    never that of a mesh which the user named.

    Raises:
        GraspNodesError: none was found.
    """
    rng = np.random.default_rng([request.seed, 5, request.index])
    others, is_mesh = rng.permutation(TRAINING_FAMILIES), bool(Path(request.object_name).suffix)
    for name in (request.object_name, *(() if is_mesh else others)):
        for attempt in range(OBJECTS):
            if is_mesh:
                grasped = grasped_mesh(Path(name), request.side, request.seed + attempt)
            else:
                grasped = grasped_family(str(name), request.side, rng, request.seed)
            if grasped.kinds:
                finder = _Finder(request, grasped, rng)
                plan = next((plan for plan in (finder.tried() for _ in range(TRIALS)) if plan is not None), None)
                if plan is not None:
                    return plan
    if is_mesh:
        raise GraspNodesError(
            f"{request.object_name}: no motion seen from {request.view!r} (clip {request.index}, seed {request.seed}) "
            "passed the checks: can one hand grasp it as it rests on a table? Then ask for another seed"
        )
    raise GraspNodesError(
        f"clip {request.index} of seed {request.seed}: no motion seen from {request.view!r} passed the checks, "
        "neither with what was asked for nor with any other family; ask for another seed"
    )


class _Finder:
    """Draws plans with one object."""

    def __init__(self, request: ClipRequest, grasped: GraspedSolid, rng: np.random.Generator) -> None:
        self._request, self._grasped, self._rng = request, grasped, rng
        self._frames = rest_frames(grasped.hands)
        self._vertices = pose_hands(grasped.hands).vertices.numpy()
        self._resting = resting_poses(grasped.solid)[:5]
        self._faces = open_hand(request.side).arrays.faces

    def tried(self) -> ClipPlan | None:
        """A plan, None if it fails a check."""
        rng = self._rng
        if not self._resting:
            return None
        standing = self._resting[int(rng.integers(len(self._resting)))]
        heights = self._vertices @ standing[2, :3] + standing[2, 3]
        rows = np.flatnonzero(heights.min(axis=1) > ABOVE_TABLE)
        if not len(rows):
            return None
        row = int(rng.choice(rows))
        bend = self._wrist_bend(standing @ self._frames[row])
        if bend is None:
            return None
        motion = self._motion(standing, row)
        plan = self._seen(row, bend, motion)
        if plan is None or not self._possible(plan):
            return None
        plan = add_props(plan, self._hand_and_arm(plan), rng)
        return plan if plan is not None and self._visible(plan) else None

    def _wrist_bend(self, T_world_hand: np.ndarray) -> np.ndarray | None:
        """The smallest of some bends, a little varied, with which the forearm rises from the table."""
        sign = -1.0 if self._request.side == "left" else 1.0
        flexions = np.deg2rad([0, 15, -15, 30, -30, 45, -45]) + self._rng.normal(0, 0.06)
        deviation = self._rng.normal(0, 0.1)
        for flexion in flexions:
            bend = np.array([0.0, sign * deviation, sign * flexion])
            forearm = T_world_hand[:3, :3] @ Rotation.from_rotvec(bend).apply([sign, 0, 0])
            rise = np.arcsin(np.clip(forearm[2], -1, 1))
            if FOREARM_RISE[0] < rise < FOREARM_RISE[1]:
                return bend
        return None

    def _motion(self, standing: np.ndarray, row: int) -> ClipMotion:
        rng, course = self._rng, self._request.course
        sign = -1.0 if self._request.side == "left" else 1.0
        T_world_hand = standing @ self._frames[row]
        to_wrist, out_of_back = sign * T_world_hand[:3, 0], T_world_hand[:3, 1]
        away = rng.uniform(0.1, 1) * out_of_back + rng.uniform(0.1, 1) * to_wrist + rng.uniform(0, 0.6) * np.eye(3)[2]
        away *= rng.uniform(0.12, 0.20) / np.linalg.norm(away)
        axis = rng.normal(size=3) + rng.choice([0, 2]) * np.eye(3)[2] + rng.choice([0, 2]) * to_wrist
        largest = 45 if course == "pick_and_place" else 90
        turn = np.deg2rad(rng.uniform(20, largest)) * axis / np.linalg.norm(axis)
        closed = self._grasped.hands.hand_pose[row].numpy()
        return ClipMotion(
            standing,
            self._frames[row],
            closed,
            self._opened(closed, self._grasped.kinds[row]),
            course,
            rng.uniform(-0.04, 0.04) if course != "pick_and_place" else 0.0,
            np.array([*rng.uniform(-0.05, 0.05, 2), rng.uniform(0.06, 0.18)]),
            turn,
            self._grasped.solid.center_of_volume,
            away,
            rng.normal(0, 0.12, 3),
        )

    def _opened(self, closed: np.ndarray, kind: GraspKind) -> np.ndarray:
        """The kind's pre-shape, more or less open; resting fingers move with it."""
        shapes = HandPreshapes.of_model(open_hand("right"))
        wide = shapes.hand_pose(angles(kind, torch.tensor([self._rng.uniform(0, 0.2)])))[0].numpy()
        if self._request.side == "left":
            wide = mirror_pose(wide[None])[0]
        return closed + self._rng.uniform(0.75, 1.0) * (wide - closed)

    def _seen(self, row: int, bend: np.ndarray, motion: ClipMotion) -> ClipPlan | None:
        """The plan with the first camera that sees the asked side."""
        rng, request = self._rng, self._request
        hands = np.stack([motion.at(frame).T_world_hand for frame in range(MAX_FRAMES)])
        objects = np.stack([motion.at(frame).T_world_object for frame in range(MAX_FRAMES)])
        middle = self._grasped.solid.center_of_volume
        places = [
            hands[:, :3, :3] @ palm_middle(request.side) + hands[:, :3, 3],
            objects[:, :3, :3] @ middle + objects[:, :3, 3],
        ]
        target = np.mean(places, axis=(0, 1))
        focal = rng.uniform(520, 700)
        center = [(WIDTH - 1) / 2 + rng.uniform(-8, 8), (HEIGHT - 1) / 2 + rng.uniform(-8, 8)]
        camera = CameraModel(np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]]), WIDTH, HEIGHT)
        for _ in range(CAMERAS):
            turn = Rotation.from_rotvec([0, 0, rng.uniform(-np.pi, np.pi)]).as_matrix()
            T_studio_world = homogeneous(turn, np.zeros(3))
            aim = turn @ target + rng.normal(0, 0.015, 3)
            distance = rng.uniform(*DISTANCE)
            if request.occlusion == "border":
                side = rng.choice([-1, 1]) * rng.uniform(0.24, 0.38) * WIDTH / focal * distance
                aim = aim + ([side, 0, 0] if rng.random() < 0.7 else [0, 0, 0.6 * side])
            T_camera_studio = studio_camera(rng.uniform(*ELEVATION), distance, rng.normal(0, 0.05), aim)
            direction = mean_direction(T_camera_studio @ T_studio_world @ hands, request.side)
            if view_of(direction, request.side) == request.view:
                grasped = self._grasped
                return ClipPlan(
                    request=request,
                    object_name=grasped.name,
                    family=grasped.family,
                    vertices=grasped.solid.vertices,
                    faces=grasped.solid.faces,
                    betas=grasped.hands.betas[row].numpy(),
                    wrist_bend=bend,
                    motion=motion,
                    camera=camera,
                    T_studio_world=T_studio_world,
                    T_camera_studio=T_camera_studio,
                )
        return None

    def _hand_and_arm(self, plan: ClipPlan) -> np.ndarray:
        """(T, V, 3), camera; the first 778 are the hand's."""
        output = pose_hands(plan.hands())
        arm = SkinnedArm(
            open_hand(self._request.side),
            subdivisions=0,
            betas=plan.betas,
            look=ArmLook(wrist_bend=tuple(plan.wrist_bend)),
        )
        pairs = zip(output.vertices.numpy(), output.joint_frames[:, 0].numpy(), strict=True)
        return np.stack([arm.vertices(vertices, frame) for vertices, frame in pairs])

    def _possible(self, plan: ClipPlan) -> bool:
        skin = self._hand_and_arm(plan)
        hand = skin[:, : len(self._vertices[0])]
        if np.linalg.norm(skin, axis=2).min() < FROM_CAMERA or hand[..., 2].min() < FROM_CAMERA:
            return False
        if np.linalg.norm(np.diff(hand, axis=0), axis=2).max() > MAX_STEP:
            return False
        T_world_camera = np.linalg.inv(plan.T_camera_world)
        if (skin @ T_world_camera[2, :3] + T_world_camera[2, 3]).min() < ABOVE_TABLE:
            return False
        objects = plan.object_poses()
        placed = plan.vertices @ objects[:, :3, :3].transpose(0, 2, 1) + objects[:, None, :3, 3]
        if (placed @ T_world_camera[2, :3] + T_world_camera[2, 3]).min() < -1e-6:
            return False
        if self._ends_in_image(plan, skin[:, -len(WRIST_LOOP) :]):
            return False
        return self._framed(plan, hand, placed) and self._free(skin, objects)

    def _ends_in_image(self, plan: ClipPlan, elbow: np.ndarray) -> bool:
        """Whether the cut at the arm's far end (T, V, 3), camera, could be seen."""
        ahead = elbow[elbow[..., 2] > 0.01]
        pixels = plan.camera.project(ahead)
        return bool(((pixels > -1) & (pixels < [WIDTH, HEIGHT])).all(axis=1).any())

    def _framed(self, plan: ClipPlan, hand: np.ndarray, placed: np.ndarray) -> bool:
        size = np.array([WIDTH - 1, HEIGHT - 1])

        def inside(points: np.ndarray) -> np.ndarray:
            pixels = plan.camera.project(points.reshape(-1, 3)).reshape(*points.shape[:2], 2)
            return ((pixels > 0) & (pixels < size)).all(axis=2).mean(axis=1)

        hands, objects = inside(hand), inside(placed)
        if self._request.occlusion == "border":
            return bool(0.4 < hands.mean() < 0.92 and hands.min() > 0.05 and objects.min() > 0.5)
        return bool(hands.mean() > 0.97 and hands.min() > 0.8 and objects.min() > 0.98)

    def _free(self, skin: np.ndarray, objects: np.ndarray) -> bool:
        """Whether neither hand nor forearm enter the object."""
        local = np.einsum("tvi,tij->tvj", skin - objects[:, None, :3, 3], objects[:, :3, :3])
        relative = np.abs(np.diff(local, axis=0)).max(axis=(1, 2)) > 1e-9
        rows = np.concatenate([[0], 1 + np.flatnonzero(relative)])
        solid, count = self._grasped.solid, self._vertices.shape[1]
        if hand_signed_distance(local[rows], solid).min() < -MAX_PENETRATION:
            return False
        depth = object_depth_in_hand(local[rows][:, :count], closed_faces(self._faces), solid)
        return bool(depth.max() < MAX_OBJECT_DEPTH)

    def _visible(self, plan: ClipPlan) -> bool:
        """Whether enough of hand and object is seen, and as much is hidden by props as was asked for."""
        shares = np.array([plan_visibility(plan, frame) for frame in LOOKED_AT])
        hand, thing, without = shares.mean(axis=0)
        if hand < LEAST_VISIBLE or thing < LEAST_VISIBLE:
            return False
        if self._request.view in BEHIND_OBJECT and shares[:, 2].min() > 1 - HIDDEN_BY_OBJECT:
            return False
        hidden = without - hand
        return bool(0.08 < hidden < 0.5) if self._request.occlusion == "prop" else bool(hidden < 0.05)


def plan_visibility(plan: ClipPlan, frame: int) -> tuple[float, float, float]:
    """Visible shares of the hand and of the object, and of the hand if there were no props."""
    hands, pose = plan.hands(frame + 1), plan.object_poses(frame + 1)[-1]
    faces = open_hand(plan.request.side).arrays.faces
    hand = RenderMesh(pose_hands(hands[-1:]).vertices[0].numpy(), faces, np.ones(3))
    thing = RenderMesh(plan.vertices @ pose[:3, :3].T + pose[:3, 3], plan.faces, np.ones(3))
    props = prop_meshes(plan)
    return (
        visible_share(plan.camera, hand, [thing, *props], 5),
        visible_share(plan.camera, thing, [hand, *props], 5),
        visible_share(plan.camera, hand, [thing], 5),
    )


def prop_meshes(plan: ClipPlan, colors: Sequence[tuple[float, float, float]] | None = None) -> list[RenderMesh]:
    """The props in the camera's frame."""
    shown = colors or [(1.0, 1.0, 1.0)] * len(plan.props)
    to_camera = plan.T_camera_world
    return [
        RenderMesh(prop.vertices @ to_camera[:3, :3].T + to_camera[:3, 3], prop.faces, np.array(color))
        for prop, color in zip(plan.props, shown, strict=True)
    ]
