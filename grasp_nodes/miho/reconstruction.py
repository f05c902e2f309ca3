"""Clips frame by frame with MIHO: perception finds hand and object, the networks tell their poses, springs mend them.

Every frame stands by itself; nothing is fitted over time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.reconstruction import ClipObserver, WindowResult
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.miho.frame_views import FrameViewer
from grasp_nodes.miho.pipeline import MihoPipeline
from grasp_nodes.objects.model import ObjectModel


class MihoReconstructor:
    """Reconstructs clips of one hand and one known object.

    Args:
        perceiver: finds them in the images. hand_models: by side. object_models: the object by its id.
        pipeline: the networks, with GeO or without. window: frames that are perceived together.

    Raises:
        InputError: no object, or more than one.
    """

    def __init__(
        self,
        perceiver: ClipObserver,
        hand_models: Mapping[Side, HandModel],
        object_models: Mapping[str, ObjectModel],
        pipeline: MihoPipeline,
        window: int = 30,
    ) -> None:
        self._viewer = FrameViewer(hand_models, object_models, pipeline)
        self._perceiver, self._hands, self._objects = perceiver, dict(hand_models), dict(object_models)
        self._window = window

    def reconstruct(self, frames: Iterable[Frame], first: int = 0) -> Iterator[WindowResult]:
        """Windows of a clip in time order, from frame `first` on."""
        rest = iter(frames)
        self._perceiver.reset()
        while window := list(islice(rest, self._window)):
            start = time.perf_counter()
            evidence = [observed.evidence for observed in self._perceiver.perceive(window)]
            seconds = {"perceive_s": time.perf_counter() - start}
            start = time.perf_counter()
            views = [self._viewer.view(frame.color, seen) for frame, seen in zip(window, evidence, strict=True)]
            seconds["miho_s"] = time.perf_counter() - start
            states = clip_states(evidence, *self._viewer.tracks(views, evidence), self._hands, self._objects)
            refined = sum(view.refined for view in views if view is not None)
            yield WindowResult(first, states, {"seconds": seconds, "refined_frames": refined})
            first += len(window)
