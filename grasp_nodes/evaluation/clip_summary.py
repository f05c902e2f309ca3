"""Frames' scores as one row of numbers, of a clip, a view or a variant; under the names that reports use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from grasp_nodes.evaluation.clip_metrics import FrameScore

LENGTHS_MM = (
    *("hand_mpjpe", "hand_root_aligned_mpjpe", "hand_absolute", "hand_aligned", "hand_mepe"),
    *("hand_aligned_as_released", "object_vertex", "object_add_s", "penetration", "true_penetration"),
)
SHARES = ("f_5mm", "f_15mm")
ACCELERATIONS = ("acceleration", "true_acceleration")


def balanced_accuracy(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the recalls of the two classes, so that "always in contact" is worth one half.

    Args:
        estimate: (N,), 1, 0, or NaN = no answer, which is wrong. truth: (N,), 1 or 0.

    Returns:
        0..1, NaN where the truth does not have both classes.
    """
    recalls = [float((estimate[truth == label] == label).mean()) for label in (0.0, 1.0) if (truth == label).any()]
    return sum(recalls) / 2 if len(recalls) == 2 else float("nan")


def summarise(frames: Sequence[FrameScore]) -> dict[str, float | int | None]:
    """Means over frames.

    Returns:
        ``NAME_mm`` of lengths, ``f_5mm`` and ``f_15mm``, ``acceleration_m_s2``; ``penetration_mm``: mean over frames of
        the deepest vertex; ``contact_accuracy``: balanced, within 5 mm; ``contact_share``: frames with a vertex inside
        (HOMan's contact %), ``contact_share_of_touching``: the same among frames in true contact (HOMan's contact
        accuracy, on data that is always in contact), ``contact_share_within_5mm`` and the truth's; ``found_share`` of
        the frames that count; ``object_answered_share`` of all frames; ``frames`` that count. None where nothing was
        measured.
    """
    result: dict[str, float | int | None] = {}
    for name in LENGTHS_MM:
        result[f"{name}_mm"] = _mean(frames, name, 1e3)
    for name in SHARES:
        result[name] = _mean(frames, name)
    for name in ACCELERATIONS:
        result[f"{name}_m_s2"] = _mean(frames, name)
    counted = [frame for frame in frames if frame.counts]
    truth = np.array([frame.true_contact for frame in counted])
    accuracy = balanced_accuracy(np.array([frame.contact for frame in counted]), truth)
    result["contact_accuracy"] = accuracy if np.isfinite(accuracy) else None
    # A frame without an answer has no vertex inside.
    result["contact_share"] = _share(counted, lambda frame: frame.inside == 1)
    touching = [frame for frame in counted if frame.true_contact == 1]
    result["contact_share_of_touching"] = _share(touching, lambda frame: frame.inside == 1)
    result["contact_share_within_5mm"] = _share(counted, lambda frame: frame.contact == 1)
    result["true_contact_share"] = _share(counted, lambda frame: frame.true_contact == 1)
    result["found_share"] = _share(counted, lambda frame: frame.found)
    result["object_answered_share"] = _share(frames, lambda frame: frame.object_answered)
    result["frames"] = len(counted)
    return result


def _mean(frames: Sequence[FrameScore], name: str, factor: float = 1.0) -> float | None:
    values = np.array([getattr(frame, name) for frame in frames], np.float64)
    values = values[np.isfinite(values)]
    return factor * float(values.mean()) if len(values) else None


def _share(frames: Sequence[FrameScore], condition: Callable[[FrameScore], bool]) -> float | None:
    return sum(condition(frame) for frame in frames) / len(frames) if frames else None
