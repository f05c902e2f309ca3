"""Where a known object is in every frame of a window, with its mesh as the judge of what the images show.

The mesh is placed on everything that may be the object (`object_choice`) and followed by what it predicts
(`guided_following`), once with the masks of hands as they came and once with what the colours of hand and object say of
them (`skin_or_object`). The poses then give exact masks of the object and of what hides it, and those the final track.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from grasp_nodes.fitting.guided_following import GuidedFollower, GuidedMotion, whole_masks
from grasp_nodes.fitting.hand_nearby import hand_paths
from grasp_nodes.fitting.held_object import bridge_hidden, bridge_unseen
from grasp_nodes.fitting.mask_motion import longest_rest
from grasp_nodes.fitting.object_choice import Placed, choose_motion, rate
from grasp_nodes.fitting.object_clip import fit_motion, initialise_object
from grasp_nodes.fitting.object_fit import make_solver_mesh
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.predicted_object import Scene, Sighting, read_scenes
from grasp_nodes.fitting.skin_or_object import learn_colors, relabelled
from grasp_nodes.fitting.thing_choice import choose_thing
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.evidence import HIDING, ObjectEvidence, ObservedFrame

LEAST_RATE = 0.5
"""Rate of the best motion below which the mesh explains nothing, and the masks are all there is."""
_FIRM, _LOOSE = (0.002, 0.02), (0.02, 0.15)
"""m and rad that the final pose may differ from the guided one where nothing and where all of the object is seen."""
_OVERLAP_FRAMES = 3
_WELL_EXPLAINED = 0.85
"""Score of the last window's pose from which it is taken on without a search, if it goes on as well."""
_STILL_EXPLAINED, _STILL_LEAST = 0.95, 0.8
"""Shares of the score in the common frames that the later ones must have, on average and each: a handle that comes into
view is few pixels."""
_CONTRADICTED = 0.5
"""Share of the silhouette that contradicts a pose of which next to nothing is seen: the motion lost the object."""
_RECOLORED, _COLOR_MARGIN, _COLOR_ROUNDS = 3, 0.25, 2
"""Motions that are followed again by colour, how much worse than the best they may be, and how often."""


def initialise_guided_object(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    hands: Sequence[HandTrack] = (),
    hand_models: Mapping[Side, HandModel] | None = None,
    *,
    seed: int = 0,
    candidates: int = 50,
    use_depth: bool = True,
    previous: ObjectTrack | None = None,
) -> tuple[ObjectTrack, list[ObservedFrame]]:
    """Where one object is in every frame of a window.

    Args:
        object_model: the object. frames: of one camera, in time order, with all things that were followed.
        hands: tracks of the same frames: an object that they hide moves with them. hand_models: of their sides.
        seed: of everything random. candidates: random rotations per search by masks.
        use_depth: false ignores depth.
        previous: the track of the first of these frames, from the window before; its size is kept.

    Returns:
        The track, and the frames with the object's masks as its mesh shows them; the rest of their evidence stays.

    Raises:
        InputError: as :func:`initialise_object`.
    """
    if previous is not None and previous.scale != 1.0:
        track, shown = initialise_guided_object(
            object_model.resized(previous.scale),
            frames,
            hands,
            hand_models,
            seed=seed,
            candidates=candidates,
            use_depth=use_depth,
            previous=replace(previous, scale=1.0),
        )
        return replace(track, scale=previous.scale), shown
    palms = palm_poses(hands, hand_models or {})
    if use_depth and all(frame.depth is not None for frame in frames) and len(frames):
        answer = _by_depth(object_model, frames, palms, seed, previous)
        if answer is not None:
            return answer
    frames, _ = choose_thing(object_model, frames, palms, seed=seed)
    track = initialise_object(
        object_model,
        frames,
        seed=seed,
        candidates=candidates,
        use_depth=use_depth,
        previous=previous,
        hands=hand_paths(hands, hand_models or {}),
    )
    if len(frames) and not longest_rest([frame.camera_moves for frame in frames]).any():
        # Hand and object that rest move alike before a moving camera: that says nothing of one carrying the other.
        return track, list(frames)
    return bridge_unseen(track, palms, object_model.points.astype(np.float64).mean(axis=0)), list(frames)


def palm_poses(hands: Sequence[HandTrack], hand_models: Mapping[Side, HandModel]) -> list[np.ndarray]:
    """Pose of each hand's wrist (T, 4, 4), camera frame, NaN where the hand is lost."""
    answer = []
    for hand in hands:
        model = hand_models.get(hand.params.side)
        if model is None:
            continue
        with torch.no_grad():
            _, joints = model.joints(hand.params.to(dtype=model.dtype, device=model.device))
        poses = joints[:, 0].detach().cpu().numpy().astype(np.float64)
        poses[np.asarray(hand.lost, bool)] = np.nan
        answer.append(poses)
    return answer


def _by_depth(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    palms: Sequence[np.ndarray],
    seed: int,
    previous: ObjectTrack | None,
) -> tuple[ObjectTrack, list[ObservedFrame]] | None:
    mesh = make_solver_mesh(object_model)
    scenes = read_scenes(frames)
    follower = GuidedFollower(mesh, scenes, palms)
    before = _of_previous(previous, mesh, follower, len(frames))
    continued = _continued(before, follower, 0 if previous is None else min(len(previous), len(frames)))
    if continued is not None:
        motions = [continued]
    else:
        motions = choose_motion(mesh, frames, scenes, follower, palms, seed=seed, extra=before)
    rests = longest_rest([frame.camera_moves for frame in frames])
    if not motions or rate(motions[0], palms, rests) < LEAST_RATE:
        return None
    improved = [
        _with_colors(mesh, motion, scenes, palms, rests)
        for motion in motions[:_RECOLORED]
        if rate(motion, palms, rests) > rate(motions[0], palms, rests) - _COLOR_MARGIN
    ]
    motion, scenes = max(improved, key=lambda pair: rate(pair[0], palms, rests))
    motion = bridge_hidden(motion, GuidedFollower(mesh, scenes, palms), palms)
    guided = guided_frames(object_model.object_id, frames, scenes, motion.sightings)
    poses = _poses(motion, mesh)
    track = fit_motion(object_model, guided, poses, _freedom(motion), seed=seed)
    hidden = ~track.seen
    shown = track.T_camera_object.copy()
    shown[hidden] = poses[hidden]
    return replace(track, T_camera_object=shown), guided


def _with_colors(
    mesh: SolverMesh,
    motion: GuidedMotion,
    scenes: Sequence[Scene | None],
    palms: Sequence[np.ndarray],
    rests: np.ndarray,
) -> tuple[GuidedMotion, list[Scene | None]]:
    """A motion followed again in scenes in which the colours that it teaches tell hand and object apart."""
    found = list(scenes)
    for _ in range(_COLOR_ROUNDS):
        colors = learn_colors(scenes, motion.sightings)
        found = [None if scene is None else relabelled(scene, colors) for scene in scenes]
        follower = GuidedFollower(mesh, found, palms)
        start = int(np.argmax(motion.evidences))
        again = follower.follow(start, (motion.rotations[start], motion.centres[start]))
        motion = max(follower.seen_again(motion), again, key=lambda one: rate(one, palms, rests))
    return motion, found


def _of_previous(previous: ObjectTrack | None, mesh: SolverMesh, follower: GuidedFollower, count: int) -> list[Placed]:
    """Where the window before had the object, in those of its frames that say most."""
    if previous is None:
        return []
    usable = [t for t in range(min(len(previous), count)) if previous.seen[t] and not previous.lost[t]]
    placed = []
    for frame in usable:
        pose = previous.T_camera_object[frame]
        guess = (pose[:3, :3], pose[:3, :3] @ mesh.centre + pose[:3, 3])
        sighting = follower.look(frame, guess)
        if sighting is not None:
            placed.append(Placed(frame, guess, sighting.score))
    return sorted(placed, key=lambda one: -one.score)[:_OVERLAP_FRAMES]


def _continued(before: Sequence[Placed], follower: GuidedFollower, overlap: int) -> GuidedMotion | None:
    """The motion of the window before, followed through this one, while it explains the images: no search is needed.

    Args:
        before: its best places. overlap: frames that both windows have.
    """
    if not before or before[0].score < _WELL_EXPLAINED:
        return None
    motion = follower.follow(before[0].frame, before[0].pose)
    if any(one is None or _is_contradicted(one) for one in motion.sightings[overlap:]):
        return None
    shown = np.array([one is not None and one.is_enough for one in motion.sightings])
    usual = motion.scores[:overlap][shown[:overlap]]
    later = motion.scores[overlap:][shown[overlap:]]
    if not len(usual) or not len(later):
        return None
    least, mean = _STILL_LEAST * usual.mean(), _STILL_EXPLAINED * usual.mean()
    return motion if later.mean() > mean and later.min() > least else None


def _is_contradicted(sighting: Sighting) -> bool:
    """Whether next to nothing agrees because the object is not there, and not because something hides it."""
    return not sighting.is_enough and sighting.against > _CONTRADICTED * sighting.prediction.whole


def _poses(motion: GuidedMotion, mesh: SolverMesh) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(motion.centres), 1, 1))
    poses[:, :3, :3] = motion.rotations
    poses[:, :3, 3] = motion.centres - motion.rotations @ mesh.centre
    return poses


def _freedom(motion: GuidedMotion) -> np.ndarray:
    """(T, 2), m and rad: what is seen of the object may move it, what is hidden keeps its place."""
    share = np.clip(motion.visible * motion.scores / 0.5, 0, 1)[:, None]
    freedom: np.ndarray = np.array(_FIRM) * (1 - share) + np.array(_LOOSE) * share
    return freedom


def guided_frames(
    object_id: str,
    frames: Sequence[ObservedFrame],
    scenes: Sequence[Scene | None],
    sightings: Sequence[Sighting | None],
) -> list[ObservedFrame]:
    """The frames with the object's pixels, and those of what hides it, as sightings show them.

    Frames in which too little of the object is seen have no evidence of it.
    """
    answer = []
    for frame, scene, sighting in zip(frames, scenes, sightings, strict=True):
        objects: list[ObjectEvidence] = []
        hands = frame.evidence.hands
        if scene is not None and sighting is not None:
            mask, hiding = whole_masks(sighting, scene.depth.shape)
            box, hidden_box = box_of_mask(mask), box_of_mask(hiding)
            if sighting.is_enough and box is not None:
                objects.append(ObjectEvidence(object_id, sighting.score, box, mask))
                hands = tuple(h if h.mask is None else replace(h, mask=h.mask & ~mask) for h in hands)
            if hidden_box is not None:
                objects.append(ObjectEvidence(HIDING, 1.0, hidden_box, hiding, -1))
        answer.append(replace(frame, evidence=replace(frame.evidence, hands=hands, objects=tuple(objects))))
    return answer
