"""The contact map: where a hand touches an object, on both surfaces."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from grasp_nodes.errors import InputError

REGION_NOT_COMPUTED = 255


@dataclass(frozen=True)
class ContactMap:
    """Contact of one hand with one object. N object points, V hand vertices.

    object_id names the object; hand_side and hand_track_id the hand.
    points: (N, 3) float32, m, object frame, on the object's surface.
    signed_distance: (N,) float32, m, object point to the hand's surface, negative inside the hand.
    contact: (N,) float32 in [0, 1], one half at contact_threshold (m).
    region: (N,) uint8, hand region 0..16, 255 = not computed. elasticity: (N,) float32 in [0, 1], NaN = not computed.
    hand_signed_distance: (V,) float32, m, hand vertex to the object's surface, negative inside the object.
    hand_contact: (V,) float32 in [0, 1].
    """

    object_id: str
    points: np.ndarray
    signed_distance: np.ndarray
    contact: np.ndarray
    hand_signed_distance: np.ndarray
    hand_contact: np.ndarray
    contact_threshold: float
    hand_side: str = "right"
    hand_track_id: int = 0
    region: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    elasticity: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        count = len(self.points)
        if not len(self.region):
            object.__setattr__(self, "region", np.full(count, REGION_NOT_COMPUTED, np.uint8))
        if not len(self.elasticity):
            object.__setattr__(self, "elasticity", np.full(count, np.nan, np.float32))
        for name in ("signed_distance", "contact", "region", "elasticity"):
            if getattr(self, name).shape != (count,):
                raise InputError(f"ContactMap.{name}: expected shape {(count,)}, got {getattr(self, name).shape}")
        if self.hand_contact.shape != self.hand_signed_distance.shape:
            raise InputError(
                f"ContactMap.hand_contact: expected shape {self.hand_signed_distance.shape}, "
                f"got {self.hand_contact.shape}"
            )
