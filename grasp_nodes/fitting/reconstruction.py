"""A clip of any length to hands, objects and contact: windows of frames are perceived, initialised and fitted jointly.

Memory is bounded by one window. Windows overlap: the last frames of one are fitted again with what comes after them,
and those before them are kept and hold the next window in place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.guided_object import initialise_guided_object
from grasp_nodes.fitting.hand_clip import initialise_hands
from grasp_nodes.fitting.hand_holding import brought_to_objects
from grasp_nodes.fitting.hand_nearby import hand_paths
from grasp_nodes.fitting.homan.joint_fit import JointFitSettings, JointFitter
from grasp_nodes.fitting.object_clip import initialise_object
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import ObservedFrame

logger = logging.getLogger(__name__)


class ClipObserver(Protocol):
    """Turns the frames of a clip into evidence, a window at a time and in time order."""

    def perceive(self, frames: Sequence[Frame]) -> list[ObservedFrame]:
        """Evidence of the next frames."""
        ...

    def reset(self) -> None:
        """Forget the clip."""
        ...


class ClipInitialiser(Protocol):
    """Tells where hands and objects are in the frames of a window, as the joint fit's beginning."""

    def initialise(
        self, frames: Sequence[ObservedFrame], hands: Sequence[HandTrack], objects: Sequence[ObjectTrack]
    ) -> tuple[list[HandTrack], list[ObjectTrack]]:
        """Tracks of all frames; `hands` and `objects` are those of the first ones, from the window before."""
        ...


@dataclass(frozen=True)
class ReconstructionSettings:
    """How clips are reconstructed."""

    window: int = 30
    """Frames that are fitted together."""
    overlap: int = 5
    """Of these, frames that are fitted again with the next window, and as many before them that hold it in place."""
    use_depth: bool = True
    """Whether depth counts where the clip has it."""
    independent: bool = False
    """Hands and objects each by themselves: no joint fit, and hands do not tell where the object is (the baseline of
    HOMan's Table 1)."""
    joint: JointFitSettings = field(default_factory=JointFitSettings)
    candidates: int = 50
    """Rotations from which an object's pose is searched."""
    guided: bool = True
    """Whether the object's mesh decides which thing in the images it is, and which pixels are its own."""
    size_by_object: bool = False
    """Whether, without depth, what a hand carries tells its size. Halves the hand's distance error where the object is
    placed within a few mm, and spoils it where the object's own distance is wrong by centimetres."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window < 1 or self.overlap < 0 or 2 * self.overlap >= max(self.window, 2):
            raise InputError(
                f"window, overlap: expected a window of at least 1 frame and more than two overlaps, "
                f"got {self.window} and {self.overlap}"
            )
        if self.candidates < 1:
            raise InputError(f"candidates: expected at least 1, got {self.candidates}")


@dataclass(frozen=True)
class WindowResult:
    """Frames that are done.

    start: number of the first one in the clip. states: of the frames from there on; later windows do not change them.
    report: seconds per stage, losses of the fit, and how far the rotation of each object is open (rad).
    """

    start: int
    states: list[HandObjectState]
    report: dict[str, Any]


@dataclass(frozen=True)
class InitialWindow:
    """A window before the joint fit: evidence and tracks, of which the first `kept` frames are final already."""

    frames: list[ObservedFrame]
    hands: list[HandTrack]
    objects: list[ObjectTrack]
    kept: int = 0


@dataclass
class _Carried:
    """What goes from a window to the next: its last frames and their tracks; the first `kept` of them are final."""

    frames: list[ObservedFrame] = field(default_factory=list)
    hands: list[HandTrack] = field(default_factory=list)
    objects: list[ObjectTrack] = field(default_factory=list)
    kept: int = 0


class ClipReconstructor:
    """Reconstructs clips of known objects."""

    def __init__(
        self,
        perceiver: ClipObserver,
        hand_models: Mapping[Side, HandModel],
        object_models: Mapping[str, ObjectModel],
        settings: ReconstructionSettings | None = None,
        initialiser: ClipInitialiser | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            perceiver: finds hands and objects in the images.
            hand_models: by side; hands of a side without a model are left out.
            object_models: by object id; empty = hands alone.
            settings: how it is done.
            initialiser: tells the beginning of the joint fit; None = hands and objects are fitted each by themselves.

        Raises:
            InputError: no hand model.
        """
        if not hand_models:
            raise InputError("hand_models: expected a model for 'right', 'left' or both, got none")
        self.settings = settings or ReconstructionSettings()
        self._perceiver, self._initialiser = perceiver, initialiser
        self._hand_models, self._object_models = dict(hand_models), dict(object_models)
        self._fitter = JointFitter(self._hand_models, self._object_models, self.settings.joint)

    def reconstruct(self, frames: Iterable[Frame], first: int = 0) -> Iterator[WindowResult]:
        """Windows of a clip in time order, each as soon as it is done.

        Args:
            frames: of one camera, in time order; read as they are needed.
            first: number in the clip of the first of them, for a clip that goes on after an interruption.

        Raises:
            InputError: evidence or frames that cannot be used.
        """
        self._perceiver.reset()
        source = iter(frames)
        carried, start = _Carried(), first
        new = list(islice(source, self.settings.window))
        while new:
            began = time.perf_counter()
            observed = [*carried.frames, *self._perceiver.perceive(new)]
            perceived = time.perf_counter()
            new = list(islice(source, self.settings.window - 2 * self.settings.overlap))
            window = self.initialise(observed, carried)
            initialised = time.perf_counter()
            hands, objects, losses = self.fit(window)
            fitted = time.perf_counter()
            done = len(observed) - (self.settings.overlap if new else 0)
            states = clip_states(
                [frame.evidence for frame in observed[carried.kept : done]],
                [track.part(carried.kept, done) for track in hands],
                [track.part(carried.kept, done) for track in objects],
                self._hand_models,
                self._object_models,
            )
            yield WindowResult(
                start,
                states,
                {
                    "perception_s": perceived - began,
                    "initialisation_s": initialised - perceived,
                    "joint_fit_s": fitted - initialised,
                    "contact_s": time.perf_counter() - fitted,
                    "losses": losses,
                    "camera_moves_share": float(
                        np.mean([frame.camera_moves for frame in observed[carried.kept : done]])
                    ),
                    "rotation_ambiguity_rad": {track.object_id: track.rotation_ambiguity for track in objects},
                },
            )
            start += done - carried.kept
            carried = _carry(observed, hands, objects, max(done - self.settings.overlap, 0), done)

    def initialise(self, frames: list[ObservedFrame], carried: _Carried | None = None) -> InitialWindow:
        """Tracks of hands and objects, each by itself.

        Args:
            frames: evidence of the window. carried: what the window before left.
        """
        before = carried or _Carried()
        settings = self.settings
        if self._initialiser is not None:
            return InitialWindow(
                frames, *self._initialiser.initialise(frames, before.hands, before.objects), before.kept
            )
        hands = initialise_hands(self._hand_models, frames, use_depth=settings.use_depth, previous=tuple(before.hands))
        objects = []
        beside = [] if settings.independent else hands
        # The masks of several objects are told apart by their names, those of one by its mesh.
        guided = settings.guided and len(self._object_models) == 1
        for object_id, model in self._object_models.items():
            earlier = next((track for track in before.objects if track.object_id == object_id), None)
            common: dict[str, Any] = {
                "seed": settings.seed,
                "candidates": settings.candidates,
                "use_depth": settings.use_depth,
                "previous": earlier,
            }
            if guided:
                track, frames = initialise_guided_object(model, frames, beside, self._hand_models, **common)
            else:
                paths = hand_paths(beside, self._hand_models)
                track = initialise_object(model, frames, hands=paths, **common)
            # States of the final frames are out: what holds the others is what was said of them.
            objects.append(
                track if earlier is None else track.with_rows(earlier, np.arange(len(earlier)) < before.kept)
            )
        has_depth = settings.use_depth and any(frame.depth is not None for frame in frames)
        if settings.size_by_object and not (before.hands or has_depth or settings.independent):
            # A hand that was there before has its size, and the frames that are final keep it.
            camera_moves = np.array([frame.camera_moves for frame in frames], bool)
            hands = brought_to_objects(
                self._hand_models, hands, objects, self._object_models, frames[0].evidence.camera, camera_moves
            )
        return InitialWindow(frames, hands, objects, before.kept)

    def fit(self, window: InitialWindow) -> tuple[list[HandTrack], list[ObjectTrack], dict[str, list[float]]]:
        """The joint fit of a window; its first `kept` frames stay as they are.

        Returns:
            Tracks, and the course of each loss; the initial tracks where the settings ask for no joint fit.
        """
        if self.settings.independent or not (window.hands or window.objects):
            return list(window.hands), list(window.objects), {}
        anchored = np.arange(len(window.frames)) < window.kept
        fit = self._fitter.fit(
            window.frames, window.hands, window.objects, use_depth=self.settings.use_depth, anchored=anchored
        )
        return list(fit.hands), list(fit.objects), fit.losses


def _carry(
    frames: list[ObservedFrame], hands: Sequence[HandTrack], objects: Sequence[ObjectTrack], start: int, done: int
) -> _Carried:
    count = len(frames)
    if start == count:  # windows that do not overlap know nothing of each other
        return _Carried()
    return _Carried(
        frames[start:],
        [track.part(start, count) for track in hands],
        [track.part(start, count) for track in objects],
        done - start,
    )
