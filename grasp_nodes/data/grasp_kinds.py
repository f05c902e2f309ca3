"""How each kind of grasp is looked for: where the hand starts, which fingers close and what has to touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.kinds import GraspKind

THUMB = 0


@dataclass(frozen=True)
class KindRecipe:
    """Of one kind.

    placement: "palm" = palm against the surface, "across" = thumb and fingers on both sides of the object.
    gap: m, narrowest and widest object between thumb and fingers ("across"), or range of the way from the surface to
    the hand's pivot ("palm"). closing: range of the pre-shape's closing from which fingers start ("palm").
    closes: fingers that close onto the object.
    required, optional: weight of contact by patch, as in `ContactGoal`. least: fingers in contact, thumb included.
    palm_free: the palm must not touch. tried: hands placed for one that is refined.
    """

    kind: GraspKind
    placement: Literal["palm", "across"]
    gap: tuple[float, float]
    closes: tuple[str, ...]
    required: Mapping[str, float]
    optional: Mapping[str, float] = field(default_factory=dict)
    closing: tuple[float, float] = (0.0, 0.3)
    least: int = 3
    palm_free: bool = True
    tried: int = 5

    @property
    def closing_fingers(self) -> np.ndarray:
        """(5,) bool."""
        return np.array([finger in self.closes for finger in FINGERS])


_PADS = {f"{finger}_pad": weight for finger, weight in zip(FINGERS, (1.0, 1.0, 1.0, 0.7, 0.5), strict=True)}
_WRAP = {f"{finger}_{part}": 0.35 for finger in FINGERS[1:] for part in ("middle", "proximal")}

RECIPES: Mapping[GraspKind, KindRecipe] = {
    "power": KindRecipe(
        "power", "palm", (-0.004, 0.008), FINGERS, _PADS, {**_WRAP, "palm": 0.4, "thumb_middle": 0.35}, palm_free=False
    ),
    "precision": KindRecipe(
        *("precision", "across", (0.006, 0.085), FINGERS),
        {"thumb_pad": 1.0, "index_pad": 1.0, "middle_pad": 1.0, "ring_pad": 0.7},
        {"little_pad": 0.6},
    ),
    "tripod": KindRecipe(
        *("tripod", "across", (0.003, 0.060), ("thumb", "index", "middle")),
        {"thumb_pad": 1.0, "index_pad": 1.0, "middle_pad": 1.0},
    ),
    "pinch": KindRecipe(
        *("pinch", "across", (0.002, 0.060), ("thumb", "index")),
        {"thumb_pad": 1.0, "index_pad": 1.0},
        least=2,
    ),
    # A lateral tripod: thumb on the index finger's side, the middle finger supports from below.
    "lateral": KindRecipe(
        *("lateral", "across", (0.002, 0.035), ("thumb", "middle", "ring")),
        {"thumb_pad": 1.0, "index_side": 1.0, "middle_pad": 0.8},
        {"middle_middle": 0.4, "index_middle": 0.3, "ring_pad": 0.3},
        palm_free=False,
        tried=15,
    ),
}
