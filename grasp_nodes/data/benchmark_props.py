"""What else stands on the table: clutter, and in some clips something between camera and hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grasp_nodes.data.benchmark_plan import ClipPlan, Prop
from grasp_nodes.data.resting import resting_poses
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.objects.registry import ObjectName, family_mesh

TALL = ("bottle", "vase", "glass", "box", "cylinder", "mug")
CLUTTER = ("box", "bottle", "mug", "cylinder", "bowl", "phone", "frustum", "vase")
CLEARANCE = 0.02
PLACES = 40


def add_props(plan: ClipPlan, skin: np.ndarray, rng: np.random.Generator) -> ClipPlan | None:
    """The plan with things around it that nothing touches.

    Args:
        plan: without props. skin: (T, V, 3), m, camera: hand and arm of all frames.

    Returns:
        None where there is no room for what was asked.
    """
    T_world_camera = np.linalg.inv(plan.T_camera_world)
    objects = plan.object_poses()
    placed = plan.vertices[::7] @ objects[:, :3, :3].transpose(0, 2, 1) + objects[:, None, :3, 3]
    moving = np.concatenate([skin.reshape(-1, 3), placed.reshape(-1, 3)]) @ T_world_camera[:3, :3].T
    moving += T_world_camera[:3, 3]
    props: list[Prop] = []
    camera = T_world_camera[:3, 3]
    if plan.request.occlusion == "prop":
        hand = skin[:, :778].reshape(-1, 3).mean(axis=0) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
        occluder = _placed(rng, TALL, moving, props, camera, (hand, camera))
        if occluder is None:
            return None
        props.append(occluder)
    for _ in range(int(rng.integers(4))):
        thing = _placed(rng, CLUTTER, moving, props, camera, None)
        if thing is not None:
            props.append(thing)
    return replace(plan, props=tuple(props))


def _placed(
    rng: np.random.Generator,
    families: tuple[str, ...],
    moving: np.ndarray,
    others: list[Prop],
    camera: np.ndarray,
    between: tuple[np.ndarray, np.ndarray] | None,
) -> Prop | None:
    name = ObjectName(families[int(rng.integers(len(families)))], int(rng.integers(1000)))
    vertices, faces = family_mesh(name)
    poses = resting_poses(Solid(vertices, faces, str(name)))
    if not poses:
        return None
    heights = [float((vertices @ pose[2, :3] + pose[2, 3]).max()) for pose in poses]
    pose = poses[int(np.argmax(heights)) if between else int(rng.integers(min(2, len(poses))))]
    standing = vertices @ pose[:3, :3].T + pose[:3, 3]
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    standing = standing @ rotation.T
    radius, height = float(np.linalg.norm(standing[:, :2], axis=1).max()), float(standing[:, 2].max())
    obstacles = [moving, *(prop.vertices for prop in others), camera[None]]
    for _ in range(PLACES):
        if between:
            # Where the line from the hand to the camera passes over the table at the height of the thing.
            hand, eye = between
            share = rng.uniform(0.1, 0.55)
            place = hand + share * (eye - hand)
            if place[2] > height + 0.04:
                continue
            place = place[:2] + rng.normal(0, 0.02, 2)
        else:
            angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.14, 0.42)
            place = away * np.array([np.cos(angle), np.sin(angle)])
        near = [
            (np.linalg.norm(points[:, :2] - place, axis=1) < radius + CLEARANCE) & (points[:, 2] < height + CLEARANCE)
            for points in obstacles
        ]
        too_near_to_camera = np.linalg.norm(camera[:2] - place) < radius + 0.18 and camera[2] < height + 0.15
        if not any(hits.any() for hits in near) and not too_near_to_camera:
            return Prop(str(name), standing + [*place, 0.0], faces)
    return None
