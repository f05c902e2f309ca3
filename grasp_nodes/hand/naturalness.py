"""How far finger angles are from what human hands do: couplings between joints and between neighbouring fingers.

Joint limits alone allow claws, hooked tips and crossed fingers. Each rule here has a tolerance inside which it costs
nothing, because hands that hold something leave the free-air couplings: a fingertip that presses is pushed straight.
Angles are those of `DegreesOfFreedom` (names such as ``index_bend_0``, rad); equal for right and left hands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import LIMITS
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, PARENTS
from grasp_nodes.hand.kinds import KINDS, GraspKind

NATURAL_TOLERANCE = np.deg2rad(5.0)
"""rad; what `is_natural` forgives beyond the tolerances of the rules."""
UNIT = np.deg2rad(10.0)
"""rad; one violation of this size and weight 1 makes an unnaturalness of 1."""


@dataclass(frozen=True)
class Rules:
    """Tolerances in degrees and, in `weights`, how much each rule counts (missing = 1).

    tip_hooked, tip_straight: DIP = 2/3 PIP in free motion (Rijpkema and Girard, SIGGRAPH 1991). The deep flexor bends
        both joints, so that a tip cannot hook far beyond the coupling; a pressed tip stays behind it or is straight.
    hyperextended: bends of PIP and DIP below zero: a slack hand's are not, and a pressed pad is only a little.
    claw, claw_slope: PIP beyond claw + claw_slope * MCP. Extended knuckles with strongly bent middle joints are the
        intrinsic-minus (claw) posture of a paralysed hand; a hand that closes bends both (Santello et al. 1998).
    knuckles_apart, middles_apart: of neighbouring fingers' MCP and PIP bends. Shared tendons and muscle bellies make
        neighbours follow (enslaving: Zatsiorsky, Li, Latash 2000; dynamic MCP ranges of 25-55 deg: Lee and Kunii 1995).
    apart_exempt: the same between the fingers that hold and those that rest, see `EXEMPT`: trained to move alone.
    crossing, splayed: neighbours' spreads towards each other and apart, relative to the flat hand's fan.
    spread_extended, spread_flexed: largest spread at 0 and at 90 deg of MCP bend: the collateral ligaments are tight in
        a bent knuckle (Kapandji).
    thumb_twist, thumb_twist_opposed: a positive twist turns the thumb's pad out of the hand, a negative one to the
        fingers' pads. The saddle joint turns inwards only along with flexion and opposition (Cooney et al. 1981):
        by thumb_twist and, fully opposed, thumb_twist_opposed more.
    limits: beyond `anatomy.LIMITS`; its tolerance is zero.
    """

    tip_hooked: float = 12.0
    tip_straight: float = 35.0
    hyperextended: float = 4.0
    claw: float = 62.0
    claw_slope: float = 1.5
    knuckles_apart: float = 30.0
    middles_apart: float = 30.0
    apart_exempt: float = 75.0
    crossing: float = 9.0
    splayed: float = 18.0
    spread_extended: float = 14.0
    spread_flexed: float = 7.0
    thumb_twist: float = 15.0
    thumb_twist_opposed: float = 35.0
    weights: Mapping[str, float] | None = None


RULES = Rules()
EXEMPT: Mapping[GraspKind, tuple[int, ...]] = {"pinch": (0,), "tripod": (1,), "lateral": (0,)}
"""Pairs of neighbours (0 = index and middle) between the fingers that hold and those that rest."""
TERMS = (
    "tip_hooked",
    "tip_straight",
    "hyperextended",
    "claw",
    "apart",
    "crossing",
    "splayed",
    "spread",
    "twist",
    "limits",
)


def unnaturalness(
    angles: Tensor, kinds: GraspKind | Sequence[GraspKind | None] | None = None, rules: Rules = RULES
) -> Tensor:
    """Weighted sum of squared violations; differentiable, zero for natural hands.

    Args:
        angles: (B, 21), rad, of `DegreesOfFreedom` with `anatomy.LIMITS`.
        kinds: one kind of grasp for all, or one for each hand; None where none is known.
        rules: tolerances and weights.

    Returns:
        (B,), unitless: 1 for one violation of 10 deg.

    Raises:
        InputError: angles of another shape, another number of kinds, an unknown kind or term.
    """
    found = violations(angles, kinds, rules)
    weights = rules.weights or {}
    unknown = sorted(set(weights) - set(TERMS))
    if unknown:
        raise InputError(f"naturalness: no rules {', '.join(unknown)}; expected some of {', '.join(TERMS)}")
    return torch.stack(
        [weights.get(name, 1.0) * (value / UNIT).square().sum(dim=1) for name, value in found.items()]
    ).sum(dim=0)


def is_natural(
    angles: Tensor,
    kinds: GraspKind | Sequence[GraspKind | None] | None = None,
    tolerance: float = NATURAL_TOLERANCE,
    rules: Rules = RULES,
) -> Tensor:
    """Whether no rule is violated by more than `tolerance`, rad: (B,) bool; NaN is not natural."""
    worst = torch.cat(list(violations(angles, kinds, rules).values()), dim=1).amax(dim=1)
    return worst <= tolerance


def violations(
    angles: Tensor, kinds: GraspKind | Sequence[GraspKind | None] | None = None, rules: Rules = RULES
) -> dict[str, Tensor]:
    """What each rule finds, as `unnaturalness`: by name of `TERMS` (B, n), rad, >= 0, one column per joint or pair."""
    if angles.ndim != 2 or angles.shape[1] != len(NAMES):
        raise InputError(f"naturalness: expected angles (B, {len(NAMES)}), got {tuple(angles.shape)}")
    limit = {f.name: np.deg2rad(getattr(rules, f.name)) for f in fields(Rules) if f.name != "weights"}
    knuckle, middle, tip, spread = (angles[:, columns] for columns in (_KNUCKLE, _MIDDLE, _TIP, _SPREAD))
    coupled = 2 / 3 * middle.clamp(min=0)
    bent = (knuckle / (np.pi / 2)).clamp(0, 1)
    widest = limit["spread_extended"] + bent * (limit["spread_flexed"] - limit["spread_extended"])
    exempt = _exempt(kinds, len(angles)).to(angles.device)

    def apart(bend: Tensor, most: float) -> Tensor:
        allowed = torch.where(exempt, limit["apart_exempt"], most).to(angles.dtype)
        return (bend.diff(dim=1).abs() - allowed).clamp(min=0)

    twist, towards = angles[:, _THUMB_TWIST], limit["thumb_twist"] + limit["thumb_twist_opposed"] * _opposition(angles)
    low, high = (torch.as_tensor(bound, dtype=angles.dtype, device=angles.device) for bound in (_LOW, _HIGH))
    return {
        "tip_hooked": (tip - coupled - limit["tip_hooked"]).clamp(min=0),
        "tip_straight": (coupled - tip - limit["tip_straight"]).clamp(min=0),
        "hyperextended": (-torch.cat([middle, tip], dim=1) - limit["hyperextended"]).clamp(min=0),
        "claw": (middle - limit["claw"] - rules.claw_slope * knuckle).clamp(min=0),
        "apart": torch.cat([apart(knuckle, limit["knuckles_apart"]), apart(middle, limit["middles_apart"])], dim=1),
        # A positive spread turns to the little finger: the fan closes where it falls from one finger to the next.
        "crossing": (-spread.diff(dim=1) - limit["crossing"]).clamp(min=0),
        "splayed": (spread.diff(dim=1) - limit["splayed"]).clamp(min=0),
        "spread": (spread.abs() - widest).clamp(min=0),
        "twist": torch.stack([twist - limit["thumb_twist"], -twist - towards], dim=1).clamp(min=0),
        "limits": torch.maximum(angles - high, low - angles).clamp(min=0),
    }


def _opposition(angles: Tensor) -> Tensor:
    """(B,) in [0, 1]: how far the base of the thumb is bent and spread in front of the palm."""
    bend = angles[:, _THUMB_BEND] / _HIGH[_THUMB_BEND]
    return (bend + angles[:, _THUMB_SPREAD] / _LOW[_THUMB_SPREAD]).clamp(0, 1)


def _exempt(kinds: GraspKind | Sequence[GraspKind | None] | None, count: int) -> Tensor:
    """(B or 1, 3) bool: pairs of neighbours that may differ."""
    listed = [kinds] if kinds is None or isinstance(kinds, str) else list(kinds)
    if not (kinds is None or isinstance(kinds, str)) and len(listed) != count:
        raise InputError(f"naturalness: expected {count} kinds, one for each hand, got {len(listed)}")
    unknown = sorted({str(kind) for kind in listed if kind is not None and kind not in KINDS})
    if unknown:
        raise InputError(f"naturalness: no kind {', '.join(unknown)}; expected {', '.join(KINDS)}")
    pairs = torch.zeros(len(KINDS) + 1, 3, dtype=torch.bool)
    for kind, exempt in EXEMPT.items():
        pairs[KINDS.index(kind), list(exempt)] = True
    return pairs[[len(KINDS) if kind is None else KINDS.index(kind) for kind in listed]]


def _names_and_limits() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Names, low and high (rad) as `DegreesOfFreedom` orders them under `LIMITS`: by joint; bend, spread, twist."""
    rows: list[tuple[str, float, float]] = []
    finger_of = {joint: (finger, k) for finger, chain in FINGER_JOINTS.items() for k, joint in enumerate(chain)}
    for joint in range(1, len(PARENTS)):
        finger, k = finger_of[joint]
        twist, splay, bend = LIMITS.get(finger, LIMITS["finger"])[k]
        outer = f"_{k}" if k else ""
        found = (
            (f"{finger}_bend_{k}", bend[0], bend[1]),
            (f"{finger}_spread{outer}", -splay[1], -splay[0]),
            (f"{finger}_twist{outer}", -twist[1], -twist[0]),
        )
        rows += [row for row in found if row[1] < row[2]]
    low, high = (np.deg2rad([row[k] for row in rows]) for k in (1, 2))
    return tuple(row[0] for row in rows), low, high


NAMES, _LOW, _HIGH = _names_and_limits()
"""Of the angles, in the order of `DegreesOfFreedom.names`."""
_KNUCKLE, _MIDDLE, _TIP = ([NAMES.index(f"{finger}_bend_{k}") for finger in FINGERS[1:]] for k in range(3))
_SPREAD = [NAMES.index(f"{finger}_spread") for finger in FINGERS[1:]]
_THUMB_BEND, _THUMB_SPREAD, _THUMB_TWIST = (NAMES.index(f"thumb_{kind}") for kind in ("bend_0", "spread", "twist"))
