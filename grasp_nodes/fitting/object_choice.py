"""Which of the things in a clip is the object: the one that the known mesh explains, and that a hand is at.

Segmenters take what stands out, and distractors do. Every thing that they follow competes, and with depth everything
that stands off the table and is no hand: the mesh is placed on it in a few frames, followed through the clip, and what
agrees and contradicts is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.guided_following import GuidedFollower, GuidedMotion, Pose
from grasp_nodes.fitting.mask_motion import longest_rest
from grasp_nodes.fitting.object_initialise import initialise_object_pose
from grasp_nodes.fitting.object_motions import rotation_angles
from grasp_nodes.fitting.object_observation import observe_object
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.predicted_object import Scene
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.objects.symmetry import LARGEST_SHARE, NEARLY_ALL
from grasp_nodes.perception.evidence import ObservedFrame

_Item = TypeVar("_Item")

KEY_FRAMES = 5
"""Frames of a window in which the mesh is placed on every thing."""
_ROTATIONS, _BALL_ROTATIONS, _BALL_TURNS = 24, 4, 12
"""Rotations that are tried on a thing, those of a ball, and random turns that tell a ball."""
_DEPTH_STEP = 0.03
"""Relative step of depth between neighbouring pixels that separates two things."""
_LARGEST_THING, _SMALLEST_THING, _SMALLEST_PART = 2.0, 120, 40
"""Times the object's diameter, px, and px of a part of a thing that something divides."""
_MOST_THINGS, _MOST_GROUPS = 8, 4
"""Things of a frame, and groups of parts, the largest of which the mesh is placed on: noisy depth has hundreds."""
_IN_FRONT = 0.03
"""m; by how much what hides a thing is nearer."""
_SAME_MASK = 0.6
_FOLLOWED, _FOLLOWED_PLACES = 6, 4
"""Motions that are followed, and how many of them are of different places before any is of another turn in one.

A thing that looks a little like the mesh from everywhere has many turns; the object itself must not wait behind them.
"""
_SAME_PLACE, _SAME_TURN = 0.3, 0.5
"""Share of the diameter, and rad, below which two poses of a frame are one."""
_SCORE_MARGIN = 0.35
MOVES, AT_HAND = 0.08, 0.04
"""Score that a thing gains if it leaves its place, and if it is at a hand all the time: distractors stay."""
AWAY = 0.15
"""What it loses if no hand ever comes near: nothing moves it."""
SHOWN, _WHOLE = 0.3, 0.4
"""What a motion loses of which nothing shows even in its best frames, and the share of a silhouette that is enough.

A mesh that is supposed to be behind everything is contradicted by nothing.
"""
_MOVED, _NEAR, _AWAY = 0.03, 0.16, 0.3
"""m."""
_BEST_SHARE = 0.25
_DENSE, _TRIED = 5_000, 250
"""Points on the surface that stand for it, and that are compared."""


@dataclass(frozen=True)
class Placed:
    """The mesh on a thing of one frame. score: of the sighting, less where little of the mesh shows."""

    frame: int
    pose: Pose
    score: float


class SameSurface:
    """Tells whether two poses put a mesh's surface in one place, as turned copies of a sphere do."""

    def __init__(self, mesh: SolverMesh) -> None:
        dense, _, _ = sample_surface(mesh.vertices - mesh.centre, mesh.faces, _DENSE, 0)
        self._tree, self._tried = cKDTree(dense), dense[:: _DENSE // _TRIED]
        self._reach = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
        between, _ = self._tree.query(self._tried, k=2)
        self._apart = float(between[:, 1].mean()) + LARGEST_SHARE * self._reach
        turns = Rotation.random(_BALL_TURNS, random_state=0).as_matrix()
        self.is_ball = all(self((np.eye(3), np.zeros(3)), (turn, np.zeros(3))) for turn in turns)
        """Whether every rotation looks the same, so that none needs to be searched."""

    def place(self, first: Pose, second: Pose) -> bool:
        """Whether the poses are near each other, however turned."""
        return bool(np.linalg.norm(first[1] - second[1]) <= _SAME_PLACE * self._reach)

    def __call__(self, first: Pose, second: Pose) -> bool:
        """Whether the poses are near each other, and turned by little or by a symmetry."""
        if not self.place(first, second):
            return False
        turn = first[0].T @ second[0]
        if float(rotation_angles(first[0], second[0])) < _SAME_TURN:
            return True
        distance, _ = self._tree.query(self._tried @ turn.T)
        return float(np.quantile(distance, NEARLY_ALL)) < self._apart


def choose_motion(
    mesh: SolverMesh,
    frames: Sequence[ObservedFrame],
    scenes: Sequence[Scene | None],
    follower: GuidedFollower,
    palms: Sequence[np.ndarray] = (),
    *,
    seed: int = 0,
    extra: Sequence[Placed] = (),
) -> list[GuidedMotion]:
    """Motions of the mesh on the things of a clip with depth, best first; none where it is on nothing.

    Args:
        mesh: the object. frames, scenes: of the window. follower: of the mesh through these scenes.
        palms: of each hand (T, 4, 4), camera frame, NaN where not known.
        seed: of the rotations that are tried. extra: places that compete too.
    """
    same = SameSurface(mesh)
    placed = [*extra, *place_on_things(mesh, frames, scenes, follower, seed, same)]
    placed.sort(key=lambda one: -one.score)
    placed = [one for one in placed if one.score >= placed[0].score - _SCORE_MARGIN]
    motions: list[GuidedMotion] = []
    for most, is_known in ((_FOLLOWED_PLACES, same.place), (_FOLLOWED, same)):
        for one in placed:
            if len(motions) == most:
                break
            followed = [(motion.rotations[one.frame], motion.centres[one.frame]) for motion in motions]
            if not any(is_known(pose, one.pose) for pose in followed):
                motions.append(follower.follow(one.frame, one.pose))
    rests = longest_rest([frame.camera_moves for frame in frames])
    return sorted(motions, key=lambda motion: -rate(motion, palms, rests))


def rate(motion: GuidedMotion, palms: Sequence[np.ndarray] = (), rests: np.ndarray | None = None) -> float:
    """How well a motion explains the clip, and whether it is of what a hand moves.

    The object itself fits exactly in some frames, a thing of about its shape nearly in all.

    Args:
        motion: of T frames. palms: of each hand (T, 4, 4), camera frame, NaN where not known.
        rests: (T,) bool, frames before a camera at rest, whose places tell what moves; None = all.
    """
    seen = np.array([one is not None for one in motion.sightings])
    if not seen.any():
        return 0.0
    places = motion.centres[seen if rests is None else seen & rests]
    moved = 0.0
    if len(places):
        moved = float(np.percentile(np.linalg.norm(places - np.median(places, axis=0), axis=1), 80))
    near, closest = 0.0, 0.0 if not palms else np.inf
    for palm in palms:
        gap = np.nan_to_num(np.linalg.norm(palm[:, :3, 3] - motion.centres, axis=1), nan=1.0)
        near, closest = max(near, float(np.mean(gap < _NEAR))), min(closest, float(gap.min()))
    few = max(1, int(_BEST_SHARE * np.count_nonzero(seen)))
    best = np.sort(motion.scores[seen])[-few:].mean()
    shown = float(np.sort(motion.visible[seen])[-few:].mean())
    return (
        0.5 * (motion.mean_score + float(best))
        + MOVES * min(moved / _MOVED, 1.0)
        + AT_HAND * near
        - AWAY * (closest > _AWAY)
        - _concealed(shown)
    )


def _concealed(visible_share: float) -> float:
    """What a pose loses of which so much shows."""
    return SHOWN * (1.0 - min(visible_share / _WHOLE, 1.0))


def place_on_things(
    mesh: SolverMesh,
    frames: Sequence[ObservedFrame],
    scenes: Sequence[Scene | None],
    follower: GuidedFollower,
    seed: int,
    same: SameSurface,
) -> list[Placed]:
    """The mesh on every thing of a few frames."""
    reach = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    answer: list[Placed] = []
    known: list[np.ndarray] = []
    for frame in np.unique(np.linspace(0, len(frames) - 1, KEY_FRAMES).round().astype(int)):
        scene = scenes[frame]
        if scene is None:
            continue
        masks = [found.mask for found in frames[frame].evidence.objects if found.mask is not None]
        for mask in [*masks, *things_off_table(scene, reach)]:
            if any(_overlap(mask, other) > _SAME_MASK for other in known):
                continue
            known.append(mask)
            answer += _place(mesh, scene, mask, follower, int(frame), reach, seed, same)
    return answer


def things_off_table(scene: Scene, reach: float) -> list[np.ndarray]:
    """Masks (H, W) bool of what hangs together in depth, is off the table and no hand, and could be the object.

    Of very many the largest, in metres, are told.

    Args:
        reach: m, the object's diameter.
    """
    depth = scene.depth
    step = np.float32(_DEPTH_STEP) * depth
    free = scene.raised & ~scene.hand
    linked = free.copy()
    linked[:, 1:] &= (np.abs(np.diff(depth, axis=1)) < step[:, 1:]) | ~free[:, :-1]
    linked[1:] &= (np.abs(np.diff(depth, axis=0)) < step[1:]) | ~free[:-1]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(linked.astype(np.uint8), connectivity=4)
    things: list[int] = []
    parts: list[int] = []
    places: list[np.ndarray] = []
    extent = np.zeros(count)
    camera_k = scene.camera.camera_k
    focal = float(camera_k[0, 0])
    for index in range(1, count):
        x, y, width, height, area = stats[index]
        if area < _SMALLEST_PART:
            continue
        own = labels[y : y + height, x : x + width] == index
        distance = float(np.median(depth[y : y + height, x : x + width][own]))
        size = float(np.hypot(width, height)) * distance / focal
        if size > _LARGEST_THING * reach:
            continue
        extent[index] = area * (distance / focal) ** 2
        if area >= _SMALLEST_THING:
            things.append(index)
        if size < reach:
            parts.append(index)
            places.append(scene.camera.unproject(np.array([x + 0.5 * width, y + 0.5 * height]), np.array(distance)))
    groups = [[parts[k] for k in group] for group in _groups(np.array(places), reach)]
    chosen = _largest(things, [float(extent[index]) for index in things], _MOST_THINGS)
    kept: list[np.ndarray] = []
    for group in _largest(groups, [float(extent[group].sum()) for group in groups], len(groups)):
        if len(kept) == _MOST_GROUPS:
            break
        mask = np.isin(labels, group)
        if not any(_overlap(mask, other) > _SAME_MASK for other in kept):
            kept.append(mask)
    return [labels == index for index in chosen] + kept


def _largest(items: Sequence[_Item], sizes: Sequence[float], count: int) -> list[_Item]:
    """The `count` largest, largest first."""
    return [items[index] for index in np.argsort(-np.asarray(sizes), kind="stable")[:count]]


def _groups(places: np.ndarray, reach: float) -> list[list[int]]:
    """Parts (N, 3), m, that may be of one object which something in front divides: each with its neighbours."""
    groups: list[list[int]] = []
    for place in places:
        near = np.flatnonzero(np.linalg.norm(places - place, axis=1) < reach).tolist()
        if len(near) > 1 and near not in groups:
            groups.append(near)
    return groups


def _place(
    mesh: SolverMesh,
    scene: Scene,
    mask: np.ndarray,
    follower: GuidedFollower,
    frame: int,
    reach: float,
    seed: int,
    same: SameSurface,
) -> list[Placed]:
    distance = float(np.median(scene.depth[mask & (scene.depth > 0)])) if (scene.depth[mask] > 0).any() else 0.0
    in_front = scene.raised & (scene.depth > 0) & (scene.depth < distance - _IN_FRONT)
    hidden = (scene.hand | in_front) & ~mask
    fine = observe_object(scene.camera, mask, scene.depth, hidden, reach=reach, seed=seed, window=120)
    coarse = observe_object(
        scene.camera, mask, scene.depth, hidden, reach=reach, seed=seed, window=72, contour_points=80, depth_points=150
    )
    if fine is None or coarse is None:
        return []
    found = initialise_object_pose(mesh, coarse, fine, seed, _BALL_ROTATIONS if same.is_ball else _ROTATIONS)
    poses = [(found.rotation, found.centre)]
    for rotation, centre in zip(found.other_rotations, found.other_centres, strict=True):
        if len(poses) < 3 and rotation_angles(np.stack([r for r, _ in poses]), rotation).min() > _SAME_TURN:
            poses.append((rotation, centre))
    answer: list[Placed] = []
    for start in poses:
        if any(same(start, one.pose) for one in answer):
            continue
        pose, sighting = follower.settle(frame, start)
        if sighting is not None and sighting.agreeing >= _SMALLEST_THING:
            answer.append(Placed(frame, pose, sighting.score - _concealed(sighting.visible_share)))
    return answer


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    either = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / max(either, 1)
