"""One clip by all of its variants, in a worker process: what variants have in common is done once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_nodes.cli.clip_evaluation.results import ClipResult, read_result, write_result
from grasp_nodes.cli.clip_evaluation.variants import VARIANTS, Evidence, Variant
from grasp_nodes.cli.clip_evaluation.worst import draw_worst
from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.clip_readers import ClipSource, open_clip
from grasp_nodes.data.true_evidence import TrueEvidence
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.evaluation.clip_metrics import score_clip
from grasp_nodes.evaluation.detection_metrics import ScoredBoxes, mask_iou, square_box
from grasp_nodes.fitting.reconstruction import ClipObserver, ClipReconstructor, InitialWindow, ReconstructionSettings
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import HELD_OUT_FAMILIES, parse_name
from grasp_nodes.perception.boxed_hand import BoxedHandLandmarker
from grasp_nodes.perception.clip_perceiver import ClipPerceiver, ClipPerceiverOptions
from grasp_nodes.perception.clip_segmenter import ClipObjectSegmenter
from grasp_nodes.perception.evidence import HandLandmarker, ObjectEvidence, ObservedFrame
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.hand_landmarks import LandmarkerOptions, LitertHandLandmarker

STAGES = ("perception", "initialisation", "joint_fit", "contact")
HANDS_IN_CLIP = 1
"""HOMan drops detections that contradict what is known of the data: here, that there is one hand."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipTask:
    """results: file of each variant. folder: of all results. frames: of the clip at most, 0 = all."""

    clip: Path
    results: Mapping[str, Path]
    folder: Path
    frames: int
    seed: int


def evaluate_clip(task: ClipTask, done: Callable[[], None] = lambda: None) -> bytes:
    """Measure what is missing of a clip; every result is a file as soon as it is known.

    Args:
        task: which clip and variants. done: called after each result.

    Returns:
        Nothing: the results are the files.
    """
    torch.set_num_threads(1)
    clip = open_clip(task.clip, task.frames)
    models = hand_models()
    object_model = load_object(clip.object_spec, clip.object_id)
    truth = TrueEvidence(clip, models, object_model)
    observers: dict[Evidence, SharedObserver] = {}
    windows: dict[tuple[Evidence, bool], SharedWindow] = {}
    for name, path in task.results.items():
        variant = VARIANTS[name]
        if read_result(path) is not None:
            continue
        if variant.evidence not in observers:
            observers[variant.evidence] = SharedObserver(make_observer(variant.evidence, truth, object_model))
        observer = observers[variant.evidence]
        shared = windows.setdefault((variant.evidence, variant.independent), SharedWindow())
        settings = variant.settings(task.seed, len(clip))
        states, seconds, error = _reconstruct(clip, variant, observer, shared, object_model, settings)
        write_result(path, _result(task, clip, variant, states, seconds, error, observer, truth, object_model))
        if error:
            # The observer stands where the work ended, and has looked at single frames since: the next one begins anew.
            del observers[variant.evidence], windows[variant.evidence, variant.independent]
        done()
    return b""


@lru_cache(maxsize=1)
def hand_models() -> dict[Side, HandModel]:
    """Both sides of the default hand."""
    return {side: load_hand_model(side) for side in ("right", "left")}


def make_observer(evidence: Evidence, truth: TrueEvidence, object_model: ObjectModel) -> ClipObserver:
    """The perception of a kind of evidence; it is told the truth only as far as the kind's name says.

    True masks come with what may hide the object: the forearm, and what the clip's measured depth shows nearer than the
    object's middle in its true pose. The fit sees neither of the two.
    """
    landmarker: HandLandmarker
    network = landmarker = LitertHandLandmarker(LandmarkerOptions())
    given = evidence in ("true boxes", "true masks")
    if given:
        landmarker = BoxedHandLandmarker(network, truth.hand_box)
    foreground = ForegroundFinder()
    extent = object_model.points.max(axis=0) - object_model.points.min(axis=0)
    segmenter = ClipObjectSegmenter(
        object_model.object_id,
        truth if given else None,
        float(extent.max()),
        foreground,
        use_depth=evidence == "own, depth",
    )
    options = ClipPerceiverOptions(max_hands=HANDS_IN_CLIP)
    perceiver = ClipPerceiver(landmarker, segmenter, options=options, foreground=foreground)
    return WithTrueMasks(perceiver, truth) if evidence == "true masks" else perceiver


class WithTrueMasks:
    """`ClipObserver` whose masks are the truth's."""

    def __init__(self, observer: ClipObserver, truth: TrueEvidence) -> None:
        self._observer, self._truth = observer, truth

    def reset(self) -> None:
        """Forget the clip."""
        self._observer.reset()

    def perceive(self, frames: Sequence[Frame]) -> list[ObservedFrame]:
        """Evidence of the next frames."""
        return [self._corrected(frame) for frame in self._observer.perceive(frames)]

    def _corrected(self, frame: ObservedFrame) -> ObservedFrame:
        evidence = frame.evidence
        mask = self._truth.hand_mask(evidence.stamp)
        hands = tuple(replace(hand, mask=mask) for hand in evidence.hands)
        # Without what hides it, what is left of the object would count as its whole outline.
        objects = (*self._truth.object_evidence(evidence.stamp), *self._truth.hiding_evidence(evidence.stamp))
        return replace(frame, evidence=replace(evidence, hands=hands, objects=objects))


class SharedObserver:
    """`ClipObserver` that looks at each frame once, however many variants ask. seconds: that it took."""

    def __init__(self, observer: ClipObserver) -> None:
        self.observer = observer
        self.seconds = 0.0
        self.seen: dict[int, ObservedFrame] = {}
        self._failure: GraspNodesError | None = None

    def reset(self) -> None:
        """Begin the clip again; what was seen is kept."""
        if not self.seen:
            self.observer.reset()

    def perceive(self, frames: Sequence[Frame]) -> list[ObservedFrame]:
        """Evidence of the next frames."""
        if any(frame.stamp not in self.seen for frame in frames):
            if self._failure is not None:
                raise self._failure
            began = time.perf_counter()
            try:
                found = self.observer.perceive(frames)
            except GraspNodesError as error:
                self._failure = error
                raise
            self.seen.update({observed.evidence.stamp: observed for observed in found})
            self.seconds += time.perf_counter() - began
        return [self.seen[frame.stamp] for frame in frames]


@dataclass
class SharedWindow:
    """The first window as it is before the joint fit: the same for all joint fits of one kind of evidence."""

    window: InitialWindow | None = None
    seconds: float = 0.0


class SharingReconstructor(ClipReconstructor):
    """Initialises the first window once for all variants; later ones depend on the fits before them."""

    def __init__(self, shared: SharedWindow, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shared = shared

    def initialise(self, frames: list[ObservedFrame], carried: Any = None) -> InitialWindow:
        """As `ClipReconstructor.initialise`."""
        if carried is not None and carried.frames:
            return super().initialise(frames, carried)
        if self._shared.window is None:
            began = time.perf_counter()
            self._shared.window = super().initialise(frames, carried)
            self._shared.seconds = time.perf_counter() - began
        return self._shared.window


def _reconstruct(
    clip: ClipSource,
    variant: Variant,
    observer: SharedObserver,
    shared: SharedWindow,
    object_model: ObjectModel,
    settings: ReconstructionSettings,
) -> tuple[list[HandObjectState], dict[str, float], str]:
    """States, seconds of each stage as if nothing were shared, and what went wrong."""
    models = {object_model.object_id: object_model}
    reconstructor = SharingReconstructor(shared, observer, hand_models(), models, settings)
    frames = (frame if variant.use_depth else replace(frame, depth=None) for frame in clip)
    states: list[HandObjectState] = []
    seconds = dict.fromkeys(STAGES, 0.0)
    perceived, initialised, error = observer.seconds, shared.seconds, ""
    try:
        for window in reconstructor.reconstruct(frames):
            states += window.states
            for stage in STAGES:
                seconds[stage] += float(window.report[f"{stage}_s"])
    except GraspNodesError as failure:  # a clip that cannot be reconstructed is lost, and the others are not
        error = str(failure)
        _log.warning("%s, %s: %s", clip.folder.name, variant.name, error)
    seconds["perception"] += perceived
    seconds["initialisation"] += initialised
    return states, seconds, error


def _result(
    task: ClipTask,
    clip: ClipSource,
    variant: Variant,
    states: Sequence[HandObjectState],
    seconds: Mapping[str, float],
    error: str,
    observer: SharedObserver,
    truth: TrueEvidence,
    object_model: ObjectModel,
) -> ClipResult:
    assert clip.trajectory is not None  # TrueEvidence has seen to it
    truths = list(clip.trajectory.states)
    visible = [clip.hand_visible(row) or 0.0 for row in range(len(clip))]
    scores = score_clip(states, truths, visible, object_model, hand_models())
    family = str(clip.info.extra.get("family", ""))
    result = ClipResult(
        task.clip.name,
        variant.name,
        str(clip.info.extra.get("view", "")),
        family,
        _unseen(object_model.object_id, family),
        dict(seconds),
        scores,
        error=error,
    )
    if variant.independent or variant.off:
        perception = result  # evidence is that of the joint fit
    else:
        frames = {frame.stamp: frame if variant.use_depth else replace(frame, depth=None) for frame in clip}
        perception = _with_perception(result, frames, observer, truth, variant)
    worst = draw_worst(task.results[variant.name], variant, clip, states, scores, object_model)
    return replace(perception, worst=worst)


def _unseen(object_id: str, family: str) -> bool:
    if family in HELD_OUT_FAMILIES:
        return True
    try:
        return parse_name(object_id).held_out
    except GraspNodesError:
        return False


def _with_perception(
    result: ClipResult, frames: Mapping[int, Frame], observer: SharedObserver, truth: TrueEvidence, variant: Variant
) -> ClipResult:
    """Boxes with and without tracking, and overlap of masks.

    Without tracking every frame is looked at as if it were the first. A clip without labels tells nothing of masks.
    """
    seen = [observer.seen.get(stamp) for stamp in frames]
    boxes = {
        "hand": {"with": _boxes(seen, frames, truth, "hand")},
        "object": {"with": _boxes(seen, frames, truth, "object")},
    }
    if variant.evidence in ("own", "own, depth"):
        alone: list[ObservedFrame | None] = []
        for frame in frames.values():
            observer.observer.reset()
            alone += observer.observer.perceive([frame])
        for kind, by in boxes.items():
            by["without"] = _boxes(alone, frames, truth, kind)
    if not truth.has_masks:
        return replace(result, boxes=boxes)
    overlaps: dict[str, list[float]] = {"hand": [], "arm": [], "object": []}
    for stamp, observed in zip(frames, seen, strict=True):
        hands = () if observed is None else observed.evidence.hands
        objects = () if observed is None else _named(observed, truth.object_id)
        hand_mask = hands[0].mask if hands else None
        overlaps["hand"].append(mask_iou(hand_mask, truth.hand_mask(stamp)))
        overlaps["arm"].append(mask_iou(hand_mask, truth.arm_mask(stamp)))
        overlaps["object"].append(mask_iou(objects[0].mask if objects else None, truth.object_mask(stamp)))
    return replace(result, boxes=boxes, mask_iou=overlaps)


def _named(observed: ObservedFrame, object_id: str) -> list[ObjectEvidence]:
    """What perception calls the object; other things that it follows are no answers."""
    return [found for found in observed.evidence.objects if found.object_id == object_id]


def _boxes(
    seen: Sequence[ObservedFrame | None], frames: Mapping[int, Frame], truth: TrueEvidence, kind: str
) -> list[ScoredBoxes]:
    """Boxes of hands are made square, as HOMan compares them."""
    result = []
    for observed, frame in zip(seen, frames.values(), strict=True):
        true = truth.hand_box(frame) if kind == "hand" else truth.object_box(frame)
        found: Sequence[Any] = ()
        if observed is not None:
            found = observed.evidence.hands if kind == "hand" else _named(observed, truth.object_id)
        shaped = square_box if kind == "hand" else np.asarray
        result.append(
            ScoredBoxes(
                np.array([shaped(one.box) for one in found], np.float64).reshape(-1, 4),
                np.array([one.score for one in found], np.float64),
                np.array([] if true is None else [shaped(true)], np.float64).reshape(-1, 4),
            )
        )
    return result
