"""What the frames of a clip say about one hand: its skin, its outline, and the places its landmarks may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grasp_nodes.fitting.hand_observation import HandObservation, observe_hand
from grasp_nodes.fitting.hand_outline import HandOutline, observe_outline
from grasp_nodes.perception.evidence import HandEvidence, ObservedFrame

BOX_BORDER = 0.2
"""Share of a box by which the hand may reach beyond it."""


@dataclass(frozen=True)
class HandView:
    """One frame.

    time: s. observation: its landmarks are those of a prediction where `choices` is empty. choices: observations that
    differ in the landmarks, most likely first. score: of the landmarks. outline: None without a mask.
    """

    time: float
    observation: HandObservation
    choices: tuple[HandObservation, ...]
    score: float
    outline: HandOutline | None

    @property
    def is_blind(self) -> bool:
        """Nothing of the hand was seen at all."""
        return not self.choices and not self.observation.has_skin and self.outline is None


def view_hand(frame: ObservedFrame, hand: HandEvidence, use_depth: bool, min_score: float) -> HandView:
    """Collect what one frame says.

    Args:
        frame: the frame. hand: the hand in it.
        use_depth: False ignores the depth.
        min_score: landmarks of hands with a lower score are predictions.

    Raises:
        InputError: landmarks that are not finite, or depth or masks of another size than the image.
    """
    evidence = frame.evidence
    depth = frame.depth if use_depth else None
    border = BOX_BORDER * float((hand.box[2:] - hand.box[:2]).max())
    box = np.concatenate([hand.box[:2] - border, hand.box[2:] + border])
    first = observe_hand(evidence.camera, _with_box(hand, box), depth)
    choices = [first] if hand.score >= min_score else []
    choices += [
        observe_hand(evidence.camera, _with_box(replace(hand, keypoints=other, keypoints_3d=None), box), depth)
        for other in hand.alternatives
    ]
    outline = None
    if hand.mask is not None:
        masks = [found.mask for found in evidence.objects if found.mask is not None]
        outline = observe_outline(
            evidence.camera, hand.mask, np.logical_or.reduce(masks) if masks else None, hand.box.astype(np.float64)
        )
    return HandView(evidence.stamp * 1e-9, first, tuple(choices), hand.score, outline)


def _with_box(hand: HandEvidence, box: np.ndarray) -> HandEvidence:
    """Skin is looked for inside of the box."""
    if hand.mask is None:
        return hand
    inside = np.zeros_like(hand.mask)
    height, width = hand.mask.shape
    x_start, y_start = np.clip(np.floor(box[:2]), 0, [width, height]).astype(int)
    x_stop, y_stop = np.clip(np.ceil(box[2:]) + 1, 0, [width, height]).astype(int)
    window = np.s_[y_start:y_stop, x_start:x_stop]
    inside[window] = hand.mask[window]
    return replace(hand, mask=inside)


def hand_views(
    frames: Sequence[ObservedFrame], hands: Sequence[HandEvidence | None], use_depth: bool, min_score: float
) -> list[HandView | None]:
    """Of every frame; None where there is no evidence of the hand."""
    return [
        None if hand is None else view_hand(frame, hand, use_depth, min_score)
        for frame, hand in zip(frames, hands, strict=True)
    ]
