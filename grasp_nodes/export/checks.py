"""What is wrong with a recording before it becomes part of a data set, each fault with its number and first place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from grasp_nodes.export.demonstration import Recording, StateRow
from grasp_nodes.export.sampling import GAP, main_object, main_side, nearest, recorded_rate
from grasp_nodes.hand.anatomy import HandAnatomy

ERROR, WARNING = "error", "warning"
UNEVEN = 0.2
"""Share of the period by which a period counts as uneven."""
FEW = 0.5
"""Share of the frames below which too few are of their own."""
FASTEST = 5.0
"""m/s; a hand or an object that is faster was mistaken for another one, or its stamps are wrong."""
BEYOND_ANATOMY = np.deg2rad(10.0)
LIMIT_SLACK = 1e-3
"""rad or m by which a joint may lie beyond its limit: rounding."""
NO_QUATERNION = 1e-3


@dataclass(frozen=True)
class Finding:
    """severity: `ERROR` or `WARNING`. check: its name. text: what was found, with numbers and the first place."""

    severity: str
    check: str
    text: str


@dataclass(frozen=True)
class CheckOptions:
    """joint_limits: rad or m, by joint. anatomies: of hands, by side; what is not given is not checked."""

    joint_limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    anatomies: Mapping[str, HandAnatomy] = field(default_factory=dict)


def check_recording(recording: Recording, options: CheckOptions) -> list[Finding]:
    """Everything that is wrong, errors first."""
    stamps = np.array([state.stamp for state in recording.states], np.int64)
    findings = [Finding(WARNING, "stamps", text) for text in recording.joint_faults]
    if len(stamps):
        findings += _stamps(stamps)
        findings += _numbers(recording.states)
        findings += _seen(recording.states)
        findings += _speeds(recording.states, stamps)
        findings += _anatomy(recording.states, options.anatomies)
    if recording.pictures is not None and len(stamps):
        findings += _pictures(stamps, recording.picture_stamps)
    for what, track in (("joints", recording.joints), ("commands", recording.commands)):
        if track is None:
            continue
        bad = ~np.isfinite(track.positions).all(axis=1)
        if bad.any():
            text = f"{what}: {bad.sum()} of {len(bad)} messages hold numbers that are not finite, first {_at(bad)}"
            findings.append(Finding(ERROR, "finite", text))
        findings += _limits(what, track.names, track.positions, options.joint_limits)
    if not recording.is_metric:
        findings.append(
            Finding(WARNING, "metric", "the focal length was guessed: positions are right up to scale only")
        )
    return sorted(findings, key=lambda one: one.severity != ERROR)


def _stamps(stamps: np.ndarray) -> list[Finding]:
    periods = np.diff(stamps)
    back = periods <= 0
    if back.any():
        first = int(np.argmax(back))
        text = (
            f"{back.sum()} stamps are not later than the one before, first frame {first + 1} "
            f"({stamps[first]} -> {stamps[first + 1]} ns)"
        )
        return [Finding(ERROR, "stamps", text)]
    rate = recorded_rate(stamps)
    if not rate:
        return []
    shares = periods * (rate / 1e9)
    found = []
    gaps = shares >= GAP
    if gaps.any():
        missing = int(np.round(shares[gaps] - 1).sum())
        text = (
            f"{missing} frames are missing at {rate:.4g} Hz ({missing / (missing + len(stamps)):.1%}), in {gaps.sum()} "
            f"gaps, the longest {periods.max() / 1e9:.3g} s, the first after frame {int(np.argmax(gaps))}"
        )
        found.append(Finding(WARNING, "dropped", text))
    uneven = (np.abs(shares - 1) > UNEVEN) & ~gaps
    if uneven.any():
        text = (
            f"{uneven.sum()} of {len(shares)} periods differ by more than {UNEVEN:.0%} from 1/{rate:.4g} s, "
            f"first after frame {int(np.argmax(uneven))}"
        )
        found.append(Finding(WARNING, "rate", text))
    return found


def _numbers(states: Sequence[StateRow]) -> list[Finding]:
    """Numbers that are not finite, and quaternions that are none."""
    bad: dict[str, list[int]] = {}
    for row, state in enumerate(states):
        for hand in state.hands:
            parts = {"params": hand.params, "betas": hand.betas, "keypoints": hand.keypoints}
            for name, values in parts.items():
                if not np.isfinite(values).all():
                    bad.setdefault(f"{hand.side} hand's {name}", []).append(row)
        for found in state.objects:
            if not np.isfinite(found.pose).all():
                bad.setdefault(f"pose of {found.object_id}", []).append(row)
            elif abs(float(np.linalg.norm(found.pose[3:])) - 1) > NO_QUATERNION:
                bad.setdefault(f"quaternion of {found.object_id} (its length is not 1)", []).append(row)
        for (side, name), values in state.contact.items():
            if not np.isfinite(values).all():
                bad.setdefault(f"contact of the {side} hand with {name}", []).append(row)
    return [
        Finding(ERROR, "finite", f"{what}: not usable in {len(rows)} of {len(states)} frames, first frame {rows[0]}")
        for what, rows in sorted(bad.items())
    ]


def _seen(states: Sequence[StateRow]) -> list[Finding]:
    side, object_id = main_side(states), main_object(states)
    if not side:
        return [Finding(WARNING, "tracked", "no hand in any frame")]
    found = []
    hand = np.array([not state.is_held and any(one.side == side for one in state.hands) for state in states])
    thing = np.array([any(one.object_id == object_id for one in state.objects) for state in states])
    for name, seen in ((f"the {side} hand", hand), *([(object_id, thing)] if object_id else [])):
        if seen.mean() < FEW:
            found.append(Finding(WARNING, "tracked", f"{name} is seen in {seen.mean():.0%} of {len(states)} frames"))
    others = {one.side for state in states for one in state.hands} - {side}
    if others:
        found.append(Finding(WARNING, "hands", f"two hands: the {side} one is exported (--side)"))
    names = {one.object_id for state in states for one in state.objects} - {object_id}
    if names:
        told = f"several objects: {object_id} is exported, not {', '.join(sorted(names))} (--object-id)"
        found.append(Finding(WARNING, "objects", told))
    return found


def _speeds(states: Sequence[StateRow], stamps: np.ndarray) -> list[Finding]:
    side, object_id = main_side(states), main_object(states)
    places = {
        f"the {side} hand": [
            next((one.keypoints.mean(axis=0) for one in state.hands if one.side == side), np.full(3, np.nan))
            for state in states
        ],
        object_id: [
            next((one.pose[:3] for one in state.objects if one.object_id == object_id), np.full(3, np.nan))
            for state in states
        ],
    }
    found = []
    seconds = np.diff(stamps) / 1e9
    for name, rows in places.items():
        if not name or len(rows) < 2:
            continue
        distance = np.linalg.norm(np.diff(np.array(rows, np.float64), axis=0), axis=1)
        fast = np.isfinite(distance) & (seconds > 0) & (distance > FASTEST * seconds)
        if fast.any():
            text = f"{name} moves faster than {FASTEST:g} m/s {fast.sum()} times, first after frame {_at(fast)}"
            found.append(Finding(WARNING, "jumps", text))
    return found


def _anatomy(states: Sequence[StateRow], anatomies: Mapping[str, HandAnatomy]) -> list[Finding]:
    found = []
    for side, anatomy in sorted(anatomies.items()):
        poses = [(row, one.params[6:]) for row, state in enumerate(states) for one in state.hands if one.side == side]
        if not poses or not np.isfinite(np.array([pose for _, pose in poses])).all():
            continue
        pose = torch.from_numpy(np.array([pose for _, pose in poses], np.float64))
        beyond = anatomy.beyond_limits(anatomy.angles(pose)).abs().amax(dim=(-2, -1)).numpy()
        bad = beyond > BEYOND_ANATOMY
        if bad.any():
            text = (
                f"{side} hand: a joint is more than {np.rad2deg(BEYOND_ANATOMY):.0f} deg beyond its anatomical limit "
                f"in {bad.sum()} of {len(bad)} frames (at most {np.rad2deg(beyond.max()):.0f} deg), first frame "
                f"{poses[int(np.argmax(bad))][0]}"
            )
            found.append(Finding(WARNING, "limits", text))
    return found


def _pictures(stamps: np.ndarray, pictures: np.ndarray) -> list[Finding]:
    if not len(pictures):
        return [Finding(WARNING, "pictures", "the camera's topic holds no pictures")]
    rate = recorded_rate(stamps)
    if not rate:
        return []
    away = np.abs(pictures[nearest(pictures, stamps)] - stamps) * (rate / 1e9)
    far = away > GAP / 2
    if not far.any():
        return []
    text = f"{far.sum()} of {len(stamps)} frames have no picture of their time; the nearest one is shown"
    return [Finding(WARNING, "pictures", text)]


def _limits(
    what: str, names: Sequence[str], positions: np.ndarray, limits: Mapping[str, tuple[float, float]]
) -> list[Finding]:
    found = []
    for column, name in enumerate(names):
        if name not in limits:
            continue
        low, high = limits[name]
        bad = (positions[:, column] < low - LIMIT_SLACK) | (positions[:, column] > high + LIMIT_SLACK)
        if bad.any():
            values = positions[bad, column]
            text = (
                f"{what}: {name} is outside of [{low:g}, {high:g}] in {bad.sum()} of {len(bad)} messages (from "
                f"{values.min():.4g} to {values.max():.4g}), first {_at(bad)}"
            )
            found.append(Finding(WARNING, "limits", text))
    return found


def _at(bad: np.ndarray) -> int:
    return int(np.argmax(bad))
