"""The poses of a known object over a clip, or a window of it, from masks and, where there is one, depth.

HOMan's recipe (rotations uniform in SO(3), distance from the boxes' diagonals, refinement against the mask, every next
frame from the previous one, the candidate whose overlap over the clip is best), in four steps: search in the frames
that say most; follow the distinct candidates through the clip in small windows; leave out frames that no motion
explains; fit the best candidates to all frames together, with a prior on the motion.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.fitting.hand_nearby import HandPath, nothing_believed
from grasp_nodes.fitting.object_clip_evidence import ObjectClip, observe_clip
from grasp_nodes.fitting.object_fit import make_solver_mesh
from grasp_nodes.fitting.object_initialise import DEPTH_AGREEMENT_SCALE, initialise_object_pose, solver_weights
from grasp_nodes.fitting.object_motions import (
    FIT_FREE,
    RIVAL_MARGIN,
    SAME_ROTATION,
    SEARCH_FREE,
    MotionFollower,
    ObjectMotion,
    distance_prior,
    distinct,
    main_axes,
    masks_know_better,
    only_distance,
    rotation_angles,
    stitch,
    turned_poses,
)
from grasp_nodes.fitting.object_observation import ObjectObservation
from grasp_nodes.fitting.pose_chain import ChainFrame, PoseChain, fit_chain
from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.fitting.pose_solver import PosePrior, PoseProblem, carry_covariance
from grasp_nodes.fitting.tracks import ObjectTrack, RivalTrack
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import ObservedFrame

logger = logging.getLogger(__name__)

AMBIGUITY_SHARE, AMBIGUITY_COST = 0.04, 10.0
"""Images do not tell candidates apart whose costs differ by less: what masks and depth get wrong is not independent."""
RIVAL_SHARE = 0.1
"""Candidates up to here are handed on as rivals."""
_HOPELESS = 0.15
_CANDIDATES_KEPT = 8
_RIVALS_FITTED = 4
_FINEST = (2.5, 0.012)
"""Outline scale in window pixels and depth scale in m of the last level."""
_LARGEST_ROUNDS = 4
_WELL_EXPLAINED = 0.85
_STILL_EXPLAINED = 0.85
"""Share of the previous window's score above which its motion is taken on without a search."""
_BAD_FRAME = 0.2
"""A frame whose score is this far below what is usual says nothing that can be used."""
LEAST_EXPLAINED = 0.5
"""Overlap of silhouette and masks, mean over a run of frames by how much they say, below which it is not there."""
_RUN = 2
"""Frames before and after one that are judged with it."""
_LOST_AFTER = 1.0
"""s without a look at the object after which its last pose is no answer."""
_SMALLEST_OVERLAP = 0.3
_FASTEST = (3.0, 25.0)
"""m/s and rad/s; faster is not a hand's motion but another place."""
_PAUSE = 2.0
_FATNESS = 1.5
"""px; standard deviation of how far a mask reaches beyond the object all around."""


def initialise_object(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    *,
    seed: int = 0,
    candidates: int = 50,
    use_depth: bool = True,
    previous: ObjectTrack | None = None,
    hands: Sequence[HandPath] = (),
    least_explained: float = LEAST_EXPLAINED,
    device: str = "cpu",
) -> ObjectTrack:
    """Where one object is in every frame of a window.

    Args:
        object_model: the object.
        frames: of one camera, in time order.
        seed: of the random rotations and of the choice of depth points.
        candidates: random rotations that are tried in each frame that is searched.
        use_depth: false ignores depth; the distance then comes from the size of the masks.
        previous: the track of the first of these frames, from the window before. Its last pose, and those of its
            rivals, compete, and make the search unnecessary while one of them explains the images. Its size is kept,
            and so are its rows of frames in which it saw the object and this window does not.
        hands: through the same frames; where there is no depth they tell about how far away the object is.
        least_explained: share of the masks of a run of frames that the best motion must explain, else they show
            something else.
        device: "cuda" screens more rotations on the graphics card, see `initialise_object_pose`.

    Returns:
        Frames in which nothing of the object was seen, or whose masks no motion explains or show something else, are
        not `seen` and take their pose from their neighbours; `lost` are those further than a second from every look.

    Raises:
        InputError: no frames, an image without its camera's size, or a mesh whose unit cannot be metres.
    """
    if previous is not None and previous.scale != 1.0:
        track = initialise_object(
            object_model.resized(previous.scale),
            frames,
            seed=seed,
            candidates=candidates,
            use_depth=use_depth,
            previous=replace(previous, scale=1.0),
            hands=hands,
            least_explained=least_explained,
            device=device,
        )
        return replace(track, scale=previous.scale)
    mesh = make_solver_mesh(object_model)
    known = None if previous is None or previous.lost.all() else previous
    start = None if known is None else _mesh_pose(known.T_camera_object[np.argmin(known.lost)], mesh)[1]
    clip = observe_clip(object_model, frames, seed=seed, use_depth=use_depth, start=start, hands=hands)
    if not clip.seen.any():
        return _unseen_track(object_model, clip, known)
    motions = _Search(object_model, mesh, clip, seed, candidates, device).run(known)
    track = _Answer(object_model, mesh, clip).track(motions)
    if np.isfinite(clip.belief.spread).any():
        free = replace(clip, belief=nothing_believed(len(clip)))
        others = _Search(object_model, mesh, free, seed, candidates, device).run(known)
        other = _Answer(object_model, mesh, free).track(others)
        if masks_know_better(other.iou, track.iou, clip.information):
            clip, motions, track = free, others, other
    wrong = _unexplained(track, clip, least_explained)
    if wrong.any():
        logger.info("object %r: masks of %d frames show something else", object_model.object_id, wrong.sum())
        if not (track.seen & ~wrong).any():
            return _unseen_track(object_model, clip, known)
        motions = [replace(motion, scores=np.where(wrong, np.nan, motion.scores)) for motion in motions]
        track = _Answer(object_model, mesh, clip.without(wrong)).track(motions)
    return track if known is None else track.with_rows(known, known.seen & ~track.seen[: len(known)])


def fit_motion(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    motion: np.ndarray,
    freedom: np.ndarray,
    *,
    seed: int = 0,
    use_depth: bool = True,
) -> ObjectTrack:
    """The track of an object whose motion is known but for details; masks, depth and smoothness fill them in.

    Args:
        object_model: the object. frames: of one camera, in time order, with its masks.
        motion: (T, 4, 4), T_camera_object.
        freedom: (T, 2), m and rad, standard deviation of the motion in each frame.
        seed: of the choice of depth points. use_depth: false ignores depth.

    Returns:
        The track, with those copies of it as rivals that are turned in the object's own frame and that the images
        cannot tell from it. They never replace it: what is known of the motion is not in the masks.

    Raises:
        InputError: as :func:`initialise_object`.
    """
    mesh = make_solver_mesh(object_model)
    clip = observe_clip(object_model, frames, seed=seed, use_depth=use_depth, start=None)
    if not clip.seen.any():
        return _unseen_track(object_model, clip, None)
    follower = MotionFollower(mesh, clip)
    rotations, centres = motion[:, :3, :3], motion[:, :3, :3] @ mesh.centre + motion[:, :3, 3]
    known = ObjectMotion(rotations, centres, follower.scores(rotations, centres))
    rivals = []
    frame = _clearest(known, clip)
    for rotation, centre in turned_poses(known, frame, follower, _axes(object_model)):
        turn, shift = rotations[frame].T @ rotation, rotations[frame].T @ (centre - centres[frame])
        turned, moved = rotations @ turn, rotations @ shift + centres
        rivals.append(ObjectMotion(turned, moved, follower.scores(turned, moved)))
    return _Answer(object_model, mesh, clip, freedom).track([known, *rivals])


def _clearest(motion: ObjectMotion, clip: ObjectClip) -> int:
    """The frame that says most of those in which the object was seen."""
    return int(np.argmax(np.where(np.isfinite(motion.scores), clip.information, -1)))


def _axes(object_model: ObjectModel) -> np.ndarray:
    return main_axes(object_model.points.astype(np.float64))


def _mesh_pose(pose: np.ndarray, mesh: SolverMesh) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and the mesh's centre (3,), m, of T_camera_object."""
    return pose[:3, :3], pose[:3, :3] @ mesh.centre + pose[:3, 3]


class _Search:
    """Finds the motions that explain a clip."""

    def __init__(
        self, object_model: ObjectModel, mesh: SolverMesh, clip: ObjectClip, seed: int, candidates: int, device: str
    ) -> None:
        self._mesh, self._clip, self._axes = mesh, clip, _axes(object_model)
        self._seed, self._candidates, self._device = seed, candidates, device
        self._follower = MotionFollower(mesh, clip)
        self._trust = np.ones(len(clip))

    def run(self, previous: ObjectTrack | None) -> list[ObjectMotion]:
        """Distinct motions, best first."""
        motions: list[ObjectMotion] = []
        if previous is not None:
            motions = self._continued(previous)
            best = motions[0]
            usual = float(np.nanmean(previous.score[previous.seen])) if previous.seen.any() else 1.0
            if best.mean_score(self._trust) > _STILL_EXPLAINED * usual and np.nanmin(best.scores) > 0.5 * usual:
                return motions
        searched: list[int] = []
        for _ in range(_LARGEST_ROUNDS):
            frame = self._next_frame(motions, searched)
            if frame is None:
                break
            searched.append(frame)
            motions = self._keep(motions + self._found_in(frame))
        frame = _clearest(motions[0], self._clip)
        turned = turned_poses(motions[0], frame, self._follower, self._axes)
        return self._keep(motions + [self._follower.follow(frame, *pose) for pose in turned])

    def _keep(self, motions: list[ObjectMotion]) -> list[ObjectMotion]:
        return distinct(motions, self._trust, _CANDIDATES_KEPT, _HOPELESS)

    def _continued(self, previous: ObjectTrack) -> list[ObjectMotion]:
        last = _last(~previous.lost)
        poses = [previous.T_camera_object[last], *(rival.T_camera_object[last] for rival in previous.rivals)]
        return self._keep([self._follower.follow(last, *_mesh_pose(pose, self._mesh)) for pose in poses])

    def _next_frame(self, motions: list[ObjectMotion], searched: list[int]) -> int | None:
        """The most informative frame, then those that the best motion explains worst; None when all is explained."""
        information = self._clip.information.copy()
        if not searched:
            return int(information.argmax())
        for frame in searched:
            near = np.abs(np.arange(len(information)) - frame) < max(2, len(information) // 6)
            information[near] = 0
        scores = np.nan_to_num(motions[0].scores)
        unexplained = np.where(information > 0.5, 1 - scores, 0.0)
        if len(searched) >= 2:
            unexplained[scores > _WELL_EXPLAINED * np.nanmax(motions[0].scores)] = 0
        frame = int(unexplained.argmax())
        return frame if unexplained[frame] > 0 else None

    def _found_in(self, frame: int) -> list[ObjectMotion]:
        coarse, fine = self._clip.coarse[frame], self._clip.fine[frame]
        assert coarse is not None
        assert fine is not None
        found = initialise_object_pose(
            self._mesh,
            coarse,
            fine,
            self._seed + frame,
            self._candidates,
            prior=only_distance(distance_prior(self._clip, frame, SEARCH_FREE)),
            device=self._device,
        )
        rotations = np.concatenate([found.rotation[None], found.other_rotations])
        centres = np.concatenate([found.centre[None], found.other_centres])
        kept: list[int] = []
        for index in range(len(rotations)):
            if not kept or rotation_angles(rotations[kept], rotations[index]).min() > SAME_ROTATION:
                kept.append(index)
        return [self._follower.follow(frame, rotations[index], centres[index]) for index in kept]


@dataclass(frozen=True)
class _Fitted:
    """A candidate fitted to the whole clip: its poses, and per frame overlap and score, NaN where not seen."""

    chain: PoseChain
    overlap: np.ndarray
    score: np.ndarray
    seen: np.ndarray

    def angle_to(self, other: _Fitted) -> np.ndarray:
        return rotation_angles(self.chain.rotations, other.chain.rotations)

    def as_motion(self) -> ObjectMotion:
        return ObjectMotion(self.chain.rotations, self.chain.centres, self.score)


class _Answer:
    """Makes the track of the motions that a search found."""

    def __init__(
        self, object_model: ObjectModel, mesh: SolverMesh, clip: ObjectClip, freedom: np.ndarray | None = None
    ) -> None:
        self._model, self._mesh, self._clip = object_model, mesh, clip
        self._freedom = freedom
        self._problems = [None if one is None else PoseProblem(mesh, one.image) for one in clip.fine]
        self._reach = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))

    def track(self, motions: list[ObjectMotion]) -> ObjectTrack:
        """The best motion, and those that the images cannot tell from it."""
        # A motion that is known in every frame is whole; those that were searched may each be right for a while.
        whole = stitch(motions, np.ones(len(self._clip)), self._reach) if self._freedom is None else motions[0]
        trust = _trust(whole.scores)
        others = [m for m in motions if float(np.median(m.angle_to(whole))) > SAME_ROTATION]
        limit = whole.mean_score(trust) - RIVAL_MARGIN
        others = [m for m in others if m.mean_score(trust) > limit][: _RIVALS_FITTED - 1]
        fitted = [self._fit(motion, trust) for motion in [whole, *others]]
        # Overlap chose the few; among them the residuals tell more: a handle is few pixels, but many outline points.
        known = 0 if self._freedom is None else 1
        fitted[known:] = sorted(
            fitted[known:], key=lambda one: one.chain.cost if np.isfinite(one.chain.cost) else np.inf
        )
        best = fitted[0]
        rivals = self._rivals(fitted)
        close = [
            float(np.median(best.angle_to(rival)))
            for rival in rivals
            if rival.chain.cost < (1 + AMBIGUITY_SHARE) * best.chain.cost + AMBIGUITY_COST
        ]
        poses = self._poses(best.chain)
        finite = np.isfinite(poses).all(axis=(1, 2))
        poses[~finite] = np.eye(4)
        levers = best.chain.rotations @ self._mesh.centre
        covariance = [carry_covariance(c, lever) for c, lever in zip(best.chain.covariance, levers, strict=True)]
        return ObjectTrack(
            object_id=self._model.object_id,
            T_camera_object=poses,
            seen=best.seen & finite,
            score=np.where(best.seen & finite, np.nan_to_num(best.score), 0.0),
            iou=np.where(best.seen & finite, best.overlap, np.nan),
            lost=~finite | _long_unseen(best.seen, self._clip.times),
            covariance=np.stack(covariance),
            rotation_ambiguity=max(close, default=0.0),
            rivals=tuple(RivalTrack(self._poses(one.chain), one.as_motion().mean_score(trust)) for one in rivals),
        )

    def _fit(self, motion: ObjectMotion, trust: np.ndarray) -> _Fitted:
        weights = [None if one is None else solver_weights(one, *_FINEST) for one in self._clip.fine]
        frames = [
            ChainFrame(
                None if one is None else one.image, weight, float(factor), _fatness(one), self._expected(motion, t)
            )
            for t, (one, weight, factor) in enumerate(zip(self._clip.fine, weights, trust, strict=True))
        ]
        chain = fit_chain(motion.rotations, motion.centres, self._mesh, frames, self._times(motion))
        overlap, score = np.full(len(frames), np.nan), np.full(len(frames), np.nan)
        for t, problem in enumerate(self._problems):
            if problem is not None and trust[t] > 0:
                overlap[t], agreement, _ = problem.explain(chain.rotations[t], chain.centres[t], DEPTH_AGREEMENT_SCALE)
                score[t] = overlap[t] * agreement
        return _Fitted(chain, overlap, score, np.isfinite(score))

    def _expected(self, motion: ObjectMotion, frame: int) -> PosePrior | None:
        if self._freedom is None:
            return only_distance(distance_prior(self._clip, frame, FIT_FREE))
        information = np.repeat(1 / np.square(self._freedom[frame]), 3)
        return PosePrior(motion.rotations[frame], motion.centres[frame], np.diag(information))

    def _times(self, motion: ObjectMotion) -> np.ndarray:
        """Of the frames, s, with a pause where the object was put elsewhere unseen: no motion leads there."""
        steps, last = np.diff(self._clip.times), len(self._clip) - 1
        if not last:
            return self._clip.times
        jumps = np.ones(last, bool)
        # One frame that went astray comes back: poses further apart in time must differ as much.
        for reach in (0, 1):
            before = np.maximum(np.arange(last) - reach, 0)
            after = np.minimum(np.arange(1, last + 1) + reach, last)
            moved = np.linalg.norm(motion.centres[after] - motion.centres[before], axis=1) > _FASTEST[0] * steps
            turned = rotation_angles(motion.rotations[after], motion.rotations[before]) > _FASTEST[1] * steps
            jumps &= moved | turned
        return self._clip.times + np.concatenate([[0.0], np.cumsum(np.where(jumps, _PAUSE, 0.0))])

    @staticmethod
    def _rivals(fitted: list[_Fitted]) -> list[_Fitted]:
        """Those that are nearly as good as the best and, after the fit, still differ from it and from each other."""
        kept = fitted[:1]
        for one in fitted[1:]:
            if one.chain.cost > (1 + RIVAL_SHARE) * fitted[0].chain.cost + AMBIGUITY_COST:
                break
            if all(float(np.median(one.angle_to(other))) > SAME_ROTATION for other in kept):
                kept.append(one)
        return kept[1:]

    def _poses(self, chain: PoseChain) -> np.ndarray:
        poses = np.tile(np.eye(4), (len(chain.centres), 1, 1))
        poses[:, :3, :3] = chain.rotations
        poses[:, :3, 3] = chain.centres - chain.rotations @ self._mesh.centre
        return poses


def _fatness(observation: ObjectObservation | None) -> float:
    return 1.0 if observation is None else _FATNESS * observation.window_scale


def _trust(scores: np.ndarray) -> np.ndarray:
    """(T,) in [0, 1]: how much a frame counts, from how well the motion that its neighbours agree on explains it."""
    seen = np.isfinite(scores)
    usual = float(np.median(scores[seen]))
    missing = np.maximum(usual - np.nan_to_num(scores), 0.0)
    trust = 1 / (1 + (missing / (0.5 * _BAD_FRAME)) ** 2)
    usable = seen & (missing < _BAD_FRAME) & (np.nan_to_num(scores) > min(_SMALLEST_OVERLAP, 0.5 * usual))
    return np.where(usable, trust, 0.0)


def _unexplained(track: ObjectTrack, clip: ObjectClip, least: float) -> np.ndarray:
    """(T,) bool, seen frames in runs whose masks overlap too little with the silhouette where nothing hides the object.

    A frame is judged with its neighbours, those that say more count more: one bad mask is no other thing.
    """
    used = track.seen & np.isfinite(track.iou)
    weights = np.where(used, clip.information + 1e-6, 0.0)
    overlaps = np.where(used, np.nan_to_num(track.iou), 0.0)
    run = np.abs(np.subtract.outer(np.arange(len(clip)), np.arange(len(clip)))) <= _RUN
    mean = run @ (weights * overlaps) / np.maximum(run @ weights, 1e-12)
    return used & (mean < least)


def _last(rows: np.ndarray) -> int:
    """The last that is true."""
    return int(np.flatnonzero(rows)[-1])


def _long_unseen(seen: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T,) bool, frames for longer than a second before or after every look at the object."""
    if not seen.any():
        return np.ones(len(seen), bool)
    return np.abs(times[:, None] - times[None, seen]).min(axis=1) > _LOST_AFTER


def _unseen_track(object_model: ObjectModel, clip: ObjectClip, previous: ObjectTrack | None) -> ObjectTrack:
    """Nothing was seen: what was known of the first frames, and its last pose for a second; else frames are lost."""
    count = len(clip)
    nothing = np.zeros(count, bool)
    track = ObjectTrack(
        object_id=object_model.object_id,
        T_camera_object=np.tile(np.eye(4), (count, 1, 1)),
        seen=nothing,
        score=np.zeros(count),
        iou=np.full(count, np.nan),
        lost=~nothing,
    )
    if previous is None:
        logger.info("object %r: not seen in any of %d frames", object_model.object_id, count)
        return track
    poses, lost = np.tile(previous.T_camera_object[_last(~previous.lost)], (count, 1, 1)), ~nothing
    if previous.seen.any():
        lost = clip.times - clip.times[_last(previous.seen)] > _LOST_AFTER
    return replace(track, T_camera_object=poses, lost=lost).with_rows(previous, np.ones(len(previous), bool))
