"""Results of clips as the rows of a report: by variant, view, occlusion, family and clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from grasp_nodes.cli.clip_evaluation.results import ClipResult
from grasp_nodes.evaluation.clip_metrics import FrameScore
from grasp_nodes.evaluation.clip_summary import summarise
from grasp_nodes.evaluation.detection_metrics import average_precision
from grasp_nodes.evaluation.harness.bootstrap import ratio_interval

Row = dict[str, Any]

MAIN_KEYS = (
    *("hand_mpjpe_mm", "hand_root_aligned_mpjpe_mm", "hand_absolute_mm", "object_add_s_mm", "object_vertex_mm"),
    *("penetration_mm", "contact_accuracy", "found_share", "fps"),
)
"""Keys that scripts rely on; more come after them."""
INTERVALS = {
    "hand_mpjpe": "hand_mpjpe_mm",
    "hand_root_aligned_mpjpe": "hand_root_aligned_mpjpe_mm",
    "hand_absolute": "hand_absolute_mm",
    "object_add_s": "object_add_s_mm",
    "object_vertex": "object_vertex_mm",
    "penetration": "penetration_mm",
}
HIDDEN_STEPS = (0.1, 0.3, 0.6)
"""Shares of the hand that is hidden, between which frames are told apart."""


def variant_row(variant: str, results: Sequence[ClipResult], seed: int) -> Row:
    """One variant over all of its clips; means over frames, 95 % intervals by bootstrap over clips."""
    summary = summarise([frame for result in results for frame in result.frames])
    frames, seconds = sum(len(result.frames) for result in results), sum(result.total_seconds for result in results)
    summary["fps"] = frames / seconds if seconds > 0 else None
    row: Row = {"variant": variant, **{key: summary[key] for key in MAIN_KEYS}}
    row |= {key: value for key, value in summary.items() if key not in MAIN_KEYS}
    row["clips"] = len(results)
    row["failed_clips"] = sum(bool(result.error) for result in results)
    for name, key in INTERVALS.items():
        values = [np.array([getattr(frame, name) for frame in result.frames], np.float64) for result in results]
        sums = np.array([np.nansum(each) for each in values]) * 1e3
        counts = np.array([np.isfinite(each).sum() for each in values], np.float64)
        low, high = ratio_interval(sums, counts, seed)
        row[f"{key}_low"], row[f"{key}_high"] = _number(low), _number(high)
    row["seconds"] = {
        stage: sum(result.seconds[stage] for result in results) / max(frames, 1)
        for stage in (results[0].seconds if results else ())
    }
    row["detection_ap"] = _detection(results)
    row["mask_iou"] = {
        kind: _number(float(np.nanmean(overlaps)))
        for kind in ("hand", "arm", "object")
        if (overlaps := [value for result in results for value in result.mask_iou.get(kind, [])])
        and np.isfinite(overlaps).any()
    }
    return row


def group_rows(results: Sequence[ClipResult]) -> list[Row]:
    """One row per variant and view, share of the hand that is hidden, seen or unseen object, family, and clip."""
    rows: list[Row] = []
    variants = list(dict.fromkeys(result.variant for result in results))
    by: Mapping[str, Callable[[ClipResult, FrameScore], str]] = {
        "view": lambda result, _: result.view,
        "hidden": lambda _, frame: hidden_group(frame),
        "object": lambda result, _: "unseen" if result.unseen else "seen",
        "family": lambda result, _: result.family,
        "clip": lambda result, _: result.clip,
    }
    for variant in variants:
        own = [result for result in results if result.variant == variant]
        for kind, name_of in by.items():
            groups: dict[str, list[FrameScore]] = {}
            for result in own:
                for frame in result.frames:
                    groups.setdefault(name_of(result, frame), []).append(frame)
            rows += [
                {"variant": variant, "by": kind, "group": name, **summarise(groups[name])} for name in sorted(groups)
            ]
    return rows


def hidden_group(frame: FrameScore) -> str:
    """How much of the hand is hidden in a frame, as a range in %."""
    edges = (0.0, *HIDDEN_STEPS, 1.0)
    place = int(np.searchsorted(HIDDEN_STEPS, 1 - frame.hand_visible, side="right"))
    return f"{round(100 * edges[place]):02d}-{round(100 * edges[place + 1])} %"


def _detection(results: Sequence[ClipResult]) -> dict[str, dict[str, float]]:
    """AP of hands and objects with and without tracking, of what was recorded."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("hand", "object"):
        for tracking in ("without", "with"):
            images = [image for result in results for image in result.boxes.get(kind, {}).get(tracking, [])]
            if images and np.isfinite(precision := average_precision(images)):
                found.setdefault(kind, {})[tracking] = precision
    return found


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
