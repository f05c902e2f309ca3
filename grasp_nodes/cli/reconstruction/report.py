"""``report.json`` of a reconstruction: how every frame and every window went, and how far the result can be trusted."""

from __future__ import annotations

import math
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from grasp_nodes.cli.reconstruction.setup import Inputs, mesh_fingerprint
from grasp_nodes.contact.interaction import FitStatus, HandObjectState
from grasp_nodes.data.clip_readers import ClipSource
from grasp_nodes.data.shards import library_versions
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.acceleration import mean_accelerations
from grasp_nodes.evaluation.clip_metrics import score_clip
from grasp_nodes.evaluation.clip_summary import summarise
from grasp_nodes.perception.usable_parts import usable_parts

FORMAT_VERSION = 1


@dataclass
class StateSummary:
    """What is gathered of the states, one window after the other, for the report.

    frames: a row each. stamps, hands: keypoints (21, 3) by (side, track id) and frame, for the jitter. objects: the
    frames with an answer, by id. overlaps: of silhouette and mask, where there is one, by id. nearest: m, that a hand
    comes to the object in any frame, by id.
    """

    frames: list[dict[str, Any]] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    hands: dict[tuple[str, int], dict[int, np.ndarray]] = field(default_factory=dict)
    objects: dict[str, list[int]] = field(default_factory=dict)
    overlaps: dict[str, list[float]] = field(default_factory=dict)
    nearest: dict[str, float] = field(default_factory=dict)
    status: dict[FitStatus, int] = field(default_factory=lambda: dict.fromkeys(FitStatus, 0))
    with_hand: int = 0

    def add(self, states: Iterable[HandObjectState]) -> None:
        """Take in the states of the next frames."""
        for state in states:
            row = len(self.stamps)
            self.stamps.append(state.stamp)
            self.status[state.status] += 1
            self.with_hand += bool(state.hands) and state.status == FitStatus.OK
            for hand in state.hands:
                self.hands.setdefault((hand.params.side, hand.track_id), {})[row] = hand.keypoints
            for found in state.objects:
                self.objects.setdefault(found.object_id, []).append(row)
                if (overlap := state.residuals.get(f"{found.object_id}_iou")) is not None:
                    self.overlaps.setdefault(found.object_id, []).append(overlap)
            for contact in state.contact_maps:
                distance = max(float(np.nanmin(contact.signed_distance, initial=np.inf)), 0.0)
                self.nearest[contact.object_id] = min(self.nearest.get(contact.object_id, np.inf), distance)
            self.frames.append(
                {
                    "frame": row,
                    "stamp": state.stamp,
                    "status": state.status.name,
                    "status_text": state.status_text,
                    "hands": [
                        {"side": hand.params.side, "track_id": hand.track_id, "score": hand.score}
                        for hand in state.hands
                    ],
                    "objects": [{"id": found.object_id, "score": found.score} for found in state.objects],
                    "touching_points": {
                        f"{contact.hand_side} {contact.hand_track_id} {contact.object_id}": int(
                            (contact.contact > 0.5).sum()
                        )
                        for contact in state.contact_maps
                    },
                    "residuals": dict(state.residuals),
                }
            )

    def found_share(self) -> float:
        """Frames with a hand that their own evidence supports; of all, as nobody knows which show one."""
        return self.with_hand / len(self.stamps) if self.stamps else 0.0

    def object_answered_share(self, names: Collection[str]) -> float | None:
        """Frames with a pose of the object, seen, followed or carried on; mean over these objects, None without any."""
        if not names or not self.stamps:
            return None
        return sum(len(set(self.objects.get(name, ()))) for name in names) / (len(names) * len(self.stamps))

    def usable_parts(self) -> list[dict[str, Any]]:
        """The parts that HOMan's rule for recordings keeps: hand and object together, long enough, without a break.

        A frame without an answer ends a track: how long one is carried on unseen the fits have decided already.
        """
        hands = {f"{side} {track_id}": list(by_frame) for (side, track_id), by_frame in self.hands.items()}
        return [
            {"first": part.start, "last": part.stop - 1, "hands": list(part.hands), "object": part.manipulated}
            for part in usable_parts(hands, self.objects, max_missed=0)
        ]

    def jitter(self) -> dict[str, dict[str, float]]:
        """Acceleration of the keypoints of every hand, m/s^2: mean, median and 95th percentile over the frames."""
        result = {}
        for (side, track_id), by_frame in sorted(self.hands.items()):
            points = [by_frame.get(row) for row in range(len(self.stamps))]
            values = mean_accelerations(self.stamps, points)
            values = values[np.isfinite(values)]
            if len(values):
                result[f"{side} {track_id}"] = {
                    "mean_m_s2": float(values.mean()),
                    "p50_m_s2": float(np.median(values)),
                    "p95_m_s2": float(np.percentile(values, 95)),
                }
        return result


def make_report(
    inputs: Inputs,
    settings: Mapping[str, Any],
    summary: StateSummary,
    windows: Sequence[Mapping[str, Any]],
    accuracy: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The report, as JSON knows it.

    Args:
        settings: of the run. summary: of all states. windows: how each went. accuracy: beside the truth, if any.
    """
    count = len(summary.stamps)
    seconds: dict[str, float] = {}
    ambiguity: dict[str, float] = {}
    for window in windows:
        for name, value in window.items():
            if name.endswith("_s") and isinstance(value, (int, float)):
                seconds[name] = seconds.get(name, 0.0) + value
        for name, angle in window.get("rotation_ambiguity_rad", {}).items():
            ambiguity[name] = max(ambiguity.get(name, 0.0), angle)
    total = sum(seconds.values())
    return plain(
        {
            "format": "grasp_nodes/reconstruction_report",
            "format_version": FORMAT_VERSION,
            "clip": settings.get("clip", ""),
            "frames_in": len(inputs.source),
            "frames_out": count,
            "found_share": summary.found_share(),
            "object_answered_share": summary.object_answered_share(inputs.objects),
            "status": {status.name: number for status, number in summary.status.items()},
            "is_metric": inputs.source.camera.is_metric,
            "has_depth": inputs.has_depth and not settings.get("rgb_only", False),
            "seed": settings.get("seed"),
            "device": "cpu",
            "versions": {"python": platform.python_version(), **library_versions()},
            "hand_models": {
                side: {"id": model.model_id, "fingerprint": model.fingerprint} for side, model in inputs.hands.items()
            },
            "objects": {
                name: {"mesh": model.mesh_resource, "scale": model.scale, "fingerprint": mesh_fingerprint(model)}
                for name, model in inputs.objects.items()
            },
            "seconds": seconds,
            "seconds_per_frame": total / count if count and total else None,
            "object_iou": {name: float(np.median(values)) for name, values in sorted(summary.overlaps.items())},
            "nearest_hand_m": dict(sorted(summary.nearest.items())),
            "usable_parts": summary.usable_parts(),
            "camera_moves_share": _camera_moves_share(windows, count),
            "jitter": summary.jitter(),
            "rotation_ambiguity_rad": ambiguity,
            "accuracy": accuracy,
            "settings": settings,
            "windows": list(windows),
            "frames": summary.frames,
        }
    )


def _camera_moves_share(windows: Sequence[Mapping[str, Any]], count: int) -> float | None:
    """Frames about which the camera moves; None where the windows do not say."""
    known = [window for window in windows if "camera_moves_share" in window]
    if not known:
        return None
    starts = [int(window["start"]) for window in known]
    lengths = np.diff([*starts, count])
    return float(np.average([window["camera_moves_share"] for window in known], weights=lengths))


def measure_accuracy(inputs: Inputs, states: Sequence[HandObjectState]) -> dict[str, Any] | None:
    """The errors beside the clip's own truth, where it has one and the object is the clip's.

    Frames in which the truth lacks the hand or the object, as annotations do, are not scored.

    Args:
        states: of all frames.

    Returns:
        as `summarise` gives them; a reason under ``error`` where they cannot be compared; None without truth.
    """
    source = inputs.source
    if not source.has_truth:
        return None
    known = [(row, truth) for row, state in enumerate(states) if (truth := source.truth(state.stamp)) is not None]
    names = {found.object_id for _, truth in known for found in truth.objects}
    models = [model for name, model in inputs.objects.items() if name in names]
    if not known or len(models) != 1:
        return {"error": f"the truth is of {sorted(names)}, the objects here are {sorted(inputs.objects)}"}
    rows = [(row, truth) for row, truth in known if len(truth.hands) == len(truth.objects) == 1]
    if not rows:
        return {"error": "the truth has no frame with one hand and one object"}
    truths, visible = [truth for _, truth in rows], [_visible(source, row) for row, _ in rows]
    try:
        return dict(summarise(score_clip(states, truths, visible, models[0], inputs.hands)))
    except InputError as error:
        return {"error": str(error)}


def _visible(source: Any, row: int) -> float:
    share = source.hand_visible(row) if isinstance(source, ClipSource) else None
    return 1.0 if share is None else share


def plain(value: Any) -> Any:
    """Nested numbers and texts as JSON knows them: numpy unpacked, six digits, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
