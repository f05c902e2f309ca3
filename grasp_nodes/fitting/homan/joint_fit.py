"""HOMan's joint fit of hands and objects over a clip (Hasson et al., 3DV 2021, section 3.3).

Two passes of Adam: the first without `local` and `collision`, the second with all terms. What differs from the paper:
rates fall during a pass and the best state is returned, because the initial tracks are good; a pass ends when nothing
is gained; measured depth is one more term where there is depth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.homan.descent import Descent, descend
from grasp_nodes.fitting.homan.objective import Objective
from grasp_nodes.fitting.homan.observation import read_images
from grasp_nodes.fitting.homan.proxies import ObjectProxy, make_proxy
from grasp_nodes.fitting.homan.settings import JointFitSettings
from grasp_nodes.fitting.homan.variables import ClipVariables
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import ObservedFrame

Track = TypeVar("Track", HandTrack, ObjectTrack)

__all__ = ["JointFit", "JointFitSettings", "JointFitter"]


@dataclass(frozen=True)
class JointFit:
    """Tracks in the order in which they were given.

    losses: course of each weighted term and of `total`, one number per step; `local` and `collision` begin with the
    second pass. seconds: how long it took.
    """

    hands: tuple[HandTrack, ...]
    objects: tuple[ObjectTrack, ...]
    losses: dict[str, list[float]]
    seconds: float


class JointFitter:
    """Fits clips of known hands and objects."""

    def __init__(
        self,
        hand_models: Mapping[Side, HandModel],
        object_models: Mapping[str, ObjectModel],
        settings: JointFitSettings | None = None,
    ) -> None:
        """Prepare the models; the objects' meshes are simplified when they are first needed.

        Args:
            hand_models: full hands, by side. object_models: by object id. settings: how clips are fitted.
        """
        self.settings = settings or JointFitSettings()
        self._hand_models = {side: HandModel(model.arrays, torch.float32) for side, model in hand_models.items()}
        self._object_models = dict(object_models)
        self._proxies: dict[str, ObjectProxy] = {}

    def fit(
        self,
        frames: Sequence[ObservedFrame],
        hands: Sequence[HandTrack],
        objects: Sequence[ObjectTrack],
        use_depth: bool = True,
        anchored: np.ndarray | None = None,
    ) -> JointFit:
        """Fit all tracks of a clip, or of a window of it, together.

        Frames in which a hand or object was not seen, or is lost, are carried by smoothness and by what touches them.

        Args:
            frames: T of one camera, in time order.
            hands, objects: initial tracks of T frames.
            use_depth: whether depth counts where frames have it.
            anchored: (T,) bool, frames that stay as they are and hold their neighbours; where there are any, the
                tracks' scales stay too. None = none.

        Returns:
            Fitted tracks. A frame that diverged keeps its initial values and is marked lost; a track that is lost
            in every frame comes back as it is.

        Raises:
            InputError: tracks and frames differ in number, a model is missing, or an image has another size than its
                camera.
        """
        began = time.perf_counter()
        kept = np.zeros(len(frames), bool) if anchored is None else np.asarray(anchored, bool)
        self._check(frames, hands, objects, kept)
        images = read_images(frames, use_depth)
        new_hands, new_objects = [_without_nan(track) for track in hands], [_without_nan(track) for track in objects]
        used_hands = [k for k, track in enumerate(new_hands) if not track.lost.all()]
        used_objects = [k for k, track in enumerate(new_objects) if not track.lost.all()]
        losses: dict[str, list[float]] = {}
        if used_hands or used_objects:
            with _one_thread():
                variables = ClipVariables(
                    [new_hands[k] for k in used_hands], [new_objects[k] for k in used_objects], self._hand_models
                )
                proxies = [self._proxy(objects[k].object_id) for k in used_objects]
                objective = Objective(variables, frames, images, self._hand_models, proxies, self.settings)
                state = self._descend(variables, objective, torch.from_numpy(kept))
            losses = state.losses
            for row, k in enumerate(used_hands):
                new_hands[k] = _fitted_hand(variables, state, row, kept)
            for row, k in enumerate(used_objects):
                new_objects[k] = _fitted_object(variables, state, row, kept)
        return JointFit(tuple(new_hands), tuple(new_objects), losses, time.perf_counter() - began)

    def _descend(self, variables: ClipVariables, objective: Objective, kept: torch.Tensor) -> Descent:
        state = Descent.start(variables, kept, self.settings.scale_free)
        before = _total(objective, variables.initial)
        for contact, steps in zip((False, True), self.settings.iterations, strict=True):
            descend(
                state,
                variables,
                lambda vector, contact=contact: objective.terms(vector, contact),  # type: ignore[misc]
                objective.renew,
                steps,
                self.settings,
            )
        # Matches that went astray on the way lower the loss of their step and raise that of the next match.
        if before < _total(objective, state.vector):
            state.vector = variables.initial
        return state

    def _proxy(self, object_id: str) -> ObjectProxy:
        if object_id not in self._proxies:
            self._proxies[object_id] = make_proxy(self._object_models[object_id])
        return self._proxies[object_id]

    def _check(
        self,
        frames: Sequence[ObservedFrame],
        hands: Sequence[HandTrack],
        objects: Sequence[ObjectTrack],
        anchored: np.ndarray,
    ) -> None:
        count = len(frames)
        for name, length in (
            *((f"hand track {track.track_id}", len(track)) for track in hands),
            *((f"object track {track.object_id!r}", len(track)) for track in objects),
            ("anchored", len(anchored)),
        ):
            if length != count:
                raise InputError(f"{name}: expected {count} frames as there is evidence, got {length}")
        for track in objects:
            if track.object_id not in self._object_models:
                raise InputError(
                    f"object track {track.object_id!r}: no such object model, there are {sorted(self._object_models)}"
                )


@torch.no_grad()
def _total(objective: Objective, vector: torch.Tensor) -> float:
    """The sum of all terms at a vector, with fresh matches."""
    objective.renew(vector)
    return sum(float(value) for value in objective.terms(vector, True).values())


def _without_nan(track: Track) -> Track:
    """Frames whose numbers are not finite are lost."""
    if isinstance(track, HandTrack):
        params = track.params
        parts = [params.global_orient, params.hand_pose, params.betas, params.transl, params.scale[:, None]]
        numbers = torch.cat([part.detach().cpu().double() for part in parts], 1).numpy()
    else:
        numbers = np.asarray(track.T_camera_object).reshape(len(track), -1)
    return replace(track, lost=np.asarray(track.lost, bool) | ~np.isfinite(numbers).all(axis=1))


def _fitted_hand(variables: ClipVariables, state: Descent, row: int, kept: np.ndarray) -> HandTrack:
    track = variables.hands[row]
    params = variables.hand_params(state.vector, row)
    old = track.params.to(device="cpu", dtype=params.betas.dtype)
    diverged = state.diverged[row].numpy()
    same = torch.from_numpy(kept)
    merged = HandParams(
        torch.where(same[:, None], old.global_orient, params.global_orient),
        torch.where(same[:, None], old.hand_pose, params.hand_pose),
        torch.where(same[:, None], old.betas, params.betas),
        torch.where(same[:, None], old.transl, params.transl),
        torch.where(same, old.scale, params.scale),
        params.side,
    )
    return replace(track, params=merged, lost=np.asarray(track.lost, bool) | diverged)


def _fitted_object(variables: ClipVariables, state: Descent, row: int, kept: np.ndarray) -> ObjectTrack:
    track = variables.objects[row]
    poses, scale = variables.object_poses(state.vector, row)
    diverged = state.diverged[len(variables.hands) + row].numpy()
    poses[kept] = track.T_camera_object[kept]
    return replace(track, T_camera_object=poses, scale=scale, lost=np.asarray(track.lost, bool) | diverged)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: its pool and numba's fight for the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
