"""How GeO refines grasps."""

from __future__ import annotations

from dataclasses import dataclass

from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import NUM_POSE

ADAM_STEPS = 400
"""As the paper."""
NEWTON_STEPS = 60
"""Levenberg-Marquardt is settled after some 40."""
HANDS_AT_ONCE = 64
"""Hands in a batch: more only need memory."""


@dataclass(frozen=True)
class GeoSettings:
    """Weights, lengths and solver of GeO (CPF, section 5.3 and appendix D.1).

    length: m, the one unit of length of both springs: attraction is ``k/2 |a - v|^2 / length^2`` and repulsion
    ``k/2 exp(-2 d / length)``. repulsion: k of the repulsive springs; reach: m, of them.
    attraction, anatomy, offset: weights; offset is per mean squared distance in lengths.
    thin_walls: points push down to half of the object's thickness only. False = the paper's springs, by which the far
    side of a thin wall draws a hand in that is in front of it.
    move_object: hand and object, or the hand alone.
    components: principal components of the hand's posture that Adam moves, the comparison of the paper's Table 6;
    None = all 45 angles. A posture loses what they cannot say.
    iterations: the most steps of either solver; None = `ADAM_STEPS` or `NEWTON_STEPS`. Rates and patience are Adam's.
    """

    length: float = 0.01
    attraction: float = 1.0
    repulsion: float = 2e-3
    reach: float = 0.02
    anatomy: float = 3.0
    offset: float = 3.0
    thin_walls: bool = True
    move_object: bool = False
    components: int | None = None
    iterations: int | None = None
    rate: float = 1e-2
    translation_rate: float = 1e-3
    patience: int = 20
    least_rate: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("length", "reach", "rate", "translation_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"GeO: {name} must be positive, got {getattr(self, name)}")
        for name in ("attraction", "repulsion", "anatomy", "offset"):
            if not getattr(self, name) >= 0:
                raise InputError(f"GeO: {name} must be at least 0, got {getattr(self, name)}")
        if self.components is not None and not 1 <= self.components <= NUM_POSE:
            raise InputError(f"GeO: components must be 1 to {NUM_POSE}, or None, got {self.components}")
        if (self.iterations is not None and self.iterations < 1) or self.patience < 1:
            raise InputError(f"GeO: expected at least 1 iteration and patience, got {self.iterations}, {self.patience}")
