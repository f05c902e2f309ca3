"""The table: one row per method, in the units and under the names that people know.

Shares are of all places: an object that was refused, a place without a grasp and a grasp with NaN count as failures.
Means are over the grasps that could be measured; how many could not stands beside them. Entropy (nats), cluster size
(cm) and the Fréchet distance are of the whole set and have no interval: a draw with repeats is less diverse than what
it is drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grasp_nodes.evaluation.diversity import CLUSTERS, diversity
from grasp_nodes.evaluation.frechet import frechet_distance
from grasp_nodes.evaluation.harness.bootstrap import ratio_interval
from grasp_nodes.evaluation.harness.bounds import SYNTHETIC
from grasp_nodes.evaluation.harness.judging import judged_hands, posed_keypoints
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.evaluation.harness.records import Record
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side


@dataclass(frozen=True)
class Column:
    """A number that is a mean over grasps.

    key: in a row. measure: of `judging.MEASURES`. factor: from SI to the key's unit. share: of all places, 0..1.
    """

    key: str
    measure: str
    factor: float = 1.0
    share: bool = False


COLUMNS = (
    Column("good", "good", share=True),
    Column("penetration_cm3", "penetration_volume", 1e6),
    Column("siv_cm3", "solid_intersection_volume", 1e6),
    Column("depth_mm", "penetration_depth", 1e3),
    Column("object_depth_mm", "object_depth", 1e3),
    Column("contact_ratio", "contact", share=True),
    Column("contact_area_cm2", "contact_area", 1e4),
    Column("fingers_in_contact", "fingers_in_contact"),
    Column("disjointedness_mm", "disjointedness", 1e3),
    Column("self_penetration_mm", "self_penetration", 1e3),
    Column("displacement_cm", "displacement", 1e2),
    Column("mujoco_displacement_cm", "mujoco_displacement", 1e2),
    Column("six_direction_hold", "six_direction_hold", share=True),
    Column("shake", "shake", share=True),
)

Row = dict[str, Any]


@dataclass(frozen=True)
class TableMaker:
    """Turns records into rows.

    hand_models: of both sides. seed: of the draws and of K-means. objects: names of the set in its order.
    """

    hand_models: Mapping[Side, HandModel]
    seed: int
    objects: Sequence[str]

    def rows(
        self,
        methods: Sequence[Method],
        missing: Mapping[str, str],
        records: Mapping[tuple[str, str], Record],
    ) -> list[Row]:
        """One row per method, in order.

        Args:
            methods: of the table. missing: why some of them could not run, by name. records: by method and object.
        """
        keypoints = {one.name: self._keypoints(self._of(one.name, records)) for one in methods}
        reference = _features(self._of(SYNTHETIC, records))
        result = []
        for method in methods:
            row: Row = {"method": method.name}
            own = self._of(method.name, records)
            row |= summary(own, self.seed, intervals=True)
            row |= self._diversity(keypoints[method.name])
            row["frechet_view_features"] = None if method.name == SYNTHETIC else _distance(_features(own), reference)
            row |= _seconds(own, self.seed)
            row["device"] = method.device
            row["families"] = {
                family: summary([one for one in own if one.family == family], self.seed)
                for family in dict.fromkeys(one.family for one in own)
            }
            row["kinds"] = kind_summaries(own)
            row["refused_objects"] = {one.object: one.reason for one in own if one.reason}
            row["not_available"] = missing.get(method.name)
            result.append(row)
        return result

    def _of(self, name: str, records: Mapping[tuple[str, str], Record]) -> list[Record]:
        return [records[name, item] for item in self.objects if (name, item) in records]

    def _keypoints(self, records: Sequence[Record]) -> np.ndarray:
        """(G, 21, 3), m, of all finite grasps, each in its object's frame."""
        parts = [np.zeros((0, 21, 3))]
        hands = judged_hands(self.hand_models)
        for record in records:
            grasps = [one for one, known in zip(record.grasps(self.hand_models), record.finite, strict=True) if known]
            for side in ("right", "left"):
                own = [grasp for grasp in grasps if grasp.hand.params.side == side]
                if own:
                    parts.append(posed_keypoints(own, hands))
        return np.concatenate(parts)

    def _diversity(self, keypoints: np.ndarray) -> Row:
        if len(keypoints) < CLUSTERS:
            return {"entropy": None, "cluster_size": None}
        found = diversity(keypoints, seed=self.seed)
        return {"entropy": found.entropy, "cluster_size": 100 * found.cluster_size}


def summary(records: Sequence[Record], seed: int = 0, intervals: bool = False) -> Row:
    """Counts and means over the grasps of some objects.

    Args:
        records: of one method, one per object. seed: of the draws. intervals: add ``KEY_low`` and ``KEY_high``.

    Returns:
        n (places), objects, refused (objects), missing, nan (grasps), and the keys of `COLUMNS`; None where no grasp
        could be measured.
    """
    row: Row = {
        "n": sum(one.wanted for one in records),
        "objects": len(records),
        "refused": sum(bool(one.reason) for one in records),
        "missing": sum(one.wanted - len(one) for one in records),
        "nan": sum(int((~one.finite).sum()) for one in records),
    }
    for column in COLUMNS:
        sums, counts = np.array([_sum_and_count(column, one) for one in records]).reshape(-1, 2).T
        row |= _ratio(column.key, column.factor * sums, counts, seed, intervals)
    return row


def kind_summaries(records: Sequence[Record]) -> dict[str, Row]:
    """The same numbers over the labelled grasps of each kind; places without a grasp have no kind."""
    kinds = dict.fromkeys(kind for one in records for kind in one.kinds if kind)
    return {kind: summary([part for one in records if len(part := _of_kind(one, kind))]) for kind in sorted(kinds)}


def _of_kind(record: Record, kind: str) -> Record:
    rows = np.flatnonzero([one == kind for one in record.kinds])
    return Record(
        record.method,
        record.object,
        record.family,
        len(rows),
        sides=[record.sides[int(k)] for k in rows],
        hands=record.hands[rows],
        kinds=[kind] * len(rows),
        finite=record.finite[rows],
        values={name: values[rows] for name, values in record.values.items()},
    )


def _sum_and_count(column: Column, record: Record) -> tuple[float, float]:
    values = record.values.get(column.measure, np.zeros(0))
    known = np.isfinite(values)
    total = float(values[known].sum())
    return total, float(record.wanted if column.share else known.sum())


def _ratio(key: str, sums: np.ndarray, counts: np.ndarray, seed: int, intervals: bool) -> Row:
    total = float(counts.sum())
    row: Row = {key: float(sums.sum()) / total if total else None}
    if intervals:
        low, high = ratio_interval(sums, counts, seed)
        row[f"{key}_low"], row[f"{key}_high"] = (float(one) if np.isfinite(one) else None for one in (low, high))
    return row


def _seconds(records: Sequence[Record], seed: int) -> Row:
    timed = [one for one in records if np.isfinite(one.seconds) and len(one)]
    sums, counts = np.array([(one.seconds, len(one)) for one in timed], np.float64).reshape(-1, 2).T
    return _ratio("seconds_per_grasp", sums, counts, seed, intervals=True)


def _features(records: Sequence[Record]) -> np.ndarray:
    found = [one.features[one.finite] for one in records if one.features.shape[1] and len(one.features)]
    return np.concatenate(found) if found else np.zeros((0, 0))


def _distance(features: np.ndarray, reference: np.ndarray) -> float | None:
    return frechet_distance(features, reference).distance if len(features) > 1 and len(reference) > 1 else None
