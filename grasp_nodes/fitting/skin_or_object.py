"""Which pixels at a hand are the hand's, by the colours that hand and object showed elsewhere in the clip.

Masks of hands come from drawn landmarks: fingertips stick out of them, and they cover what is held. Where an object was
placed with certainty its colours are known, as are those in the middle of the hands' masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from grasp_nodes.fitting.predicted_object import Scene, Sighting
from grasp_nodes.perception.color_model import BINS, ColorModel

SURE_SCORE, LEAST_PIXELS = 0.9, 150
"""Score and pixels from which a sighting teaches the object's colours."""
ODDS = 1.5
"""Log odds from which a pixel is the one or the other's."""
VIEWS = 12


@dataclass(frozen=True)
class HandObjectColors:
    """Colours of the hands and of the object."""

    hand: ColorModel
    thing: ColorModel

    @property
    def alikeness(self) -> float:
        """In [0, 1]: common share of the two distributions; 0 where one is not known."""
        if not (self.hand.is_known and self.thing.is_known):
            return 0.0
        cells = np.arange(int(np.prod(BINS)))
        first, second = (np.exp(model.log_likelihood(cells)) for model in (self.hand, self.thing))
        return float(np.minimum(first, second).sum())


def learn_colors(scenes: Sequence[Scene | None], sightings: Sequence[Sighting | None]) -> HandObjectColors:
    """Colours in the middle of hands' masks, and where the object was placed with certainty."""
    hand, thing = ColorModel(), ColorModel()
    sure = [
        (scene, one)
        for scene, one in zip(scenes, sightings, strict=True)
        if scene is not None and one is not None and one.score > SURE_SCORE and one.agreeing > LEAST_PIXELS
    ]
    sure.sort(key=lambda pair: -pair[1].visible_share)
    for scene, one in sure[:VIEWS]:
        if scene.cells is None:
            continue
        window = one.prediction.window
        thing.learn(scene.cells[window][_core(one.visible & ~scene.hand[window], 3)])
        # What covers the object in a mask of the hand must not teach the hand's colours.
        free = scene.hand.copy()
        free[window] &= (one.prediction.depth == 0) & ~one.visible
        hand.learn(scene.cells[_core(free, 9)])
    if not hand.is_known:
        with_hand = [scene for scene in scenes if scene is not None and scene.cells is not None and scene.hand.any()]
        for scene in with_hand[:: max(1, len(with_hand) // VIEWS)]:
            assert scene.cells is not None
            hand.learn(scene.cells[_core(scene.hand, 9)])
    return HandObjectColors(hand, thing)


def relabelled(scene: Scene, colors: HandObjectColors) -> Scene:
    """The scene with its hand pixels decided by colour: more of them near the mask, fewer within."""
    if scene.cells is None or not (colors.hand.is_known and colors.thing.is_known) or not scene.hand.any():
        return scene
    window, near = scene.near_hand
    own, raised = scene.hand[window], scene.raised[window]
    odds: np.ndarray = np.zeros(own.shape, np.float32)
    cells = scene.cells[window][near]
    odds[near] = colors.hand.log_likelihood(cells) - colors.thing.log_likelihood(cells)
    odds = cv2.blur(odds, (3, 3))
    hand = scene.hand.copy()
    hand[window] = (own & (odds > -ODDS)) | (near & raised & (odds > ODDS))
    return replace(scene, hand=hand)


def _core(mask: np.ndarray, size: int) -> np.ndarray:
    kernel = np.ones((size, size), np.uint8)
    core: np.ndarray = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    return core
