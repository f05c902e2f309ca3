"""A set of grasps as one file: put together from shards, described by its statistics, and found again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_nodes.data.grasp_files import content_sha256, pack_grasps, read_grasps
from grasp_nodes.data.labelled_grasps import KINDS, UNLABELLED, LabelledGrasps
from grasp_nodes.data.shards import Settings, ShardFolder
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.paths import PACKAGE_DIR

OPEN_GRASPS_FILE = "open_grasps_v1.npz"
OPEN_GRASPS_COMMAND = "grasp-nodes synthesize --objects 500 --grasps 50000 --seed 0 -o grasps"
DATA_VARIABLE = "GRASP_NODES_DATA"
SET_FILE = "grasps.npz"
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_FEW_VALUES = 6
"""A metric of no more distinct values is counted, not described by quantiles."""
_NAMES = {**dict(enumerate(KINDS)), UNLABELLED: "unlabelled"}


@dataclass(frozen=True)
class AssembledSet:
    """path: of the file. grasps: in it. statistics: see `describe`; also written beside it as JSON and Markdown."""

    path: Path
    grasps: LabelledGrasps
    statistics: Mapping[str, Any]


def open_grasps(expect_fingerprint: str | None = None) -> LabelledGrasps:
    """The published set: 50,000 synthetic grasps of the open hand, CC0-1.0.

    It is the file or folder that the environment's GRASP_NODES_DATA names, else ``data/`` of a checkout.

    Args:
        expect_fingerprint: of the hand model that will pose them, None = any.

    Raises:
        MissingFileError: it is in neither place. InputError: as `read_grasps`.
    """
    named = os.environ.get(DATA_VARIABLE)
    place = Path(named).expanduser() if named else PACKAGE_DIR.parent / "data"
    file = place / OPEN_GRASPS_FILE if place.is_dir() or not named else place
    if not file.is_file():
        raise MissingFileError(
            f"{file}: the open grasps are not there; they are in the repository's folder data/, not in the wheel. Name "
            f"the file with {DATA_VARIABLE}, or make it with '{OPEN_GRASPS_COMMAND}' (it becomes grasps/{SET_FILE})"
        )
    return read_grasps(file, expect_fingerprint)


def assemble(folder: Path) -> AssembledSet:
    """Put the shards of a folder together as one file of exactly the grasps that were asked for.

    The choice is balanced over objects, then over kinds, and depends on the shards alone: the same shards give the same
    bytes.

    Args:
        folder: of `ShardFolder`.

    Returns:
        The set, written as ``grasps.npz`` with ``statistics.json`` and ``statistics.md`` in the folder.

    Raises:
        MissingFileError, InputError: no such folder, or shards are missing. WorkError: it cannot be written.
    """
    shards = ShardFolder(folder)
    settings = shards.settings()
    made = shards.made(settings)
    failed = {name: why for name, why in shards.failed().items() if name not in made}
    names = settings.planned({**made, **dict.fromkeys(failed, 0)})
    missing = [str(name) for name in names if str(name) not in made and str(name) not in failed]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(names)} shards are not made yet ({', '.join(missing[:3])}, ...); run "
            "'grasp-nodes synthesize' with the same settings again"
        )
    parts = [shards.read(name, settings) for name in names if str(name) in made]
    takes = balanced_counts([len(part) for part in parts], settings.grasps)
    chosen = [part[balanced_rows(part.kind, take)] for part, take in zip(parts, takes, strict=True) if take]
    whole = replace(join(chosen), attributes=settings.attributes())
    statistics = {**describe(whole), "making": _making(settings, parts, failed)}
    shards.write(folder / SET_FILE, pack_grasps(whole))
    shards.write(folder / "statistics.json", (json.dumps(statistics, indent=1) + "\n").encode())
    shards.write(folder / "statistics.md", statistics_page(statistics).encode())
    return AssembledSet(folder / SET_FILE, whole, statistics)


def balanced_counts(available: Sequence[int], total: int) -> list[int]:
    """How many to take of each so that the sum is `total` and no one gives more than one above another that has more.

    Raises:
        InputError: there are not so many.
    """
    if sum(available) < total:
        raise InputError(f"expected {total} grasps, there are {sum(available)}")
    counts = np.asarray(available, np.int64)
    level, above = 0, int(counts.max(initial=0))
    while level < above:  # the highest level at which no more than the total is taken
        middle = (level + above + 1) // 2
        level, above = (middle, above) if np.minimum(counts, middle).sum() <= total else (level, middle - 1)
    takes = np.minimum(counts, level)
    more = np.flatnonzero(counts > level)[: total - takes.sum()]
    takes[more] += 1
    return takes.tolist()


def balanced_rows(kind: np.ndarray, take: int) -> np.ndarray:
    """Rows to take so that the kinds stay as even as they can, the first of each kind first.

    Args:
        kind: (N,) int64, as `LabelledGrasps` has it. take: rows wanted, up to N.

    Returns:
        (take,) int64, ascending.
    """
    turn = np.zeros(len(kind), np.int64)
    for one in np.unique(kind):
        rows = np.flatnonzero(kind == one)
        turn[rows] = np.arange(len(rows))
    return np.sort(np.lexsort((kind, turn))[:take])


def join(parts: Sequence[LabelledGrasps]) -> LabelledGrasps:
    """Sets of one source, hand and side as one; objects are listed one part after the other.

    Raises:
        InputError: there are none, or they do not go together.
    """
    if not parts:
        raise InputError("expected at least one set of grasps")
    first = parts[0]
    for name in ("source", "hand_model_id", "hand_fingerprint"):
        values = {getattr(part, name) for part in parts}
        if len(values) > 1:
            raise InputError(f"sets of grasps: expected one {name}, got {', '.join(sorted(values))}")
    if len({part.hands.side for part in parts}) > 1:
        raise InputError("sets of grasps: expected hands of one side; `mirrored` gives the other")
    if len({frozenset(part.metrics) for part in parts}) > 1:
        raise InputError(f"sets of grasps: expected the metrics {sorted(first.metrics)} in each of them")
    starts = np.cumsum([0, *(len(part.objects) for part in parts[:-1])])
    tensors = {
        name: torch.cat([getattr(part.hands, name) for part in parts])
        for name in ("global_orient", "hand_pose", "betas", "transl", "scale")
    }
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("kind", "subject", "sequence", "frame")
    }
    return replace(
        first,
        hands=HandParams(**tensors, side=first.hands.side),
        objects=[one for part in parts for one in part.objects],
        object_index=np.concatenate([part.object_index + start for part, start in zip(parts, starts, strict=True)]),
        metrics={name: np.concatenate([part.metrics[name] for part in parts]) for name in first.metrics},
        **columns,  # type: ignore[arg-type]
    )


def describe(grasps: LabelledGrasps) -> dict[str, Any]:
    """Statistics of a set, as plain numbers and dictionaries.

    Keys: ``grasps``, ``objects`` (that occur), ``content_sha256``, ``attributes``, ``hand_model_id``,
    ``hand_fingerprint``; ``families`` (by category: objects, grasps, and each kind's), ``kinds``; ``per_object``
    (fewest, median, most); ``metrics`` (by name: the mean, and quantiles by kind, or how often each value occurs).
    """
    category = np.array([one.category or one.name.partition(":")[0] for one in grasps.objects], np.str_)
    of_grasp = category[grasps.object_index]
    per_object = np.bincount(grasps.object_index, minlength=len(grasps.objects))
    occurring = per_object[per_object > 0]
    return {
        "grasps": len(grasps),
        "objects": len(occurring),
        "content_sha256": content_sha256(grasps),
        "hand_model_id": grasps.hand_model_id,
        "hand_fingerprint": grasps.hand_fingerprint,
        "attributes": dict(grasps.attributes),
        "families": {
            str(name): {
                "objects": int(((category == name) & (per_object > 0)).sum()),
                "grasps": int((of_grasp == name).sum()),
                "kinds": _kind_counts(grasps.kind[of_grasp == name]),
            }
            for name in np.unique(of_grasp)
        },
        "kinds": _kind_counts(grasps.kind),
        "per_object": {
            "fewest": int(occurring.min()) if len(occurring) else 0,
            "median": float(np.median(occurring)) if len(occurring) else 0.0,
            "most": int(occurring.max(initial=0)),
        },
        "metrics": {name: _describe_metric(values, grasps.kind) for name, values in sorted(grasps.metrics.items())},
    }


def statistics_page(statistics: Mapping[str, Any]) -> str:
    """The statistics as Markdown."""
    kinds = list(statistics["kinds"])
    making = statistics.get("making", {})
    per_object = statistics["per_object"]
    size = f"{statistics['grasps']} grasps on {statistics['objects']} objects"
    lines = [
        f"{size}, {per_object['fewest']} to {per_object['most']} on each.",
        "",
        f"- Hand: {statistics['hand_model_id']}, fingerprint `{statistics['hand_fingerprint']}`",
        f"- SHA-256 of the content: `{statistics['content_sha256']}`",
        *(f"- {name}: {value}" for name, value in statistics["attributes"].items()),
        *(f"- {name}: {value}" for name, value in making.items() if not isinstance(value, Mapping)),
        "",
        _table(
            ["family", "objects", "grasps", *kinds],
            [
                [name, row["objects"], row["grasps"], *(row["kinds"].get(kind, 0) for kind in kinds)]
                for name, row in statistics["families"].items()
            ]
            + [["all", statistics["objects"], statistics["grasps"], *statistics["kinds"].values()]],
        ),
    ]
    quantiles = {name: one["quantiles"] for name, one in statistics["metrics"].items() if "quantiles" in one}
    if quantiles:
        rows = [
            [metric, kind, *(f"{value:.4g}" for value in values)]
            for metric, by_kind in quantiles.items()
            for kind, values in by_kind.items()
        ]
        lines += ["", "Quantiles of the metrics, SI units:", ""]
        lines += [_table(["metric", "kind", *(f"{100 * q:g} %" for q in QUANTILES)], rows)]
    for name, one in statistics["metrics"].items():
        if "counts" in one:
            lines += ["", _table([name, "grasps"], [[value, count] for value, count in one["counts"].items()])]
    return "\n".join(lines) + "\n"


def _kind_counts(kind: np.ndarray) -> dict[str, int]:
    return {_NAMES[int(value)]: int((kind == value).sum()) for value in sorted(_NAMES) if (kind == value).any()}


def _describe_metric(values: np.ndarray, kind: np.ndarray) -> dict[str, Any]:
    finite = np.isfinite(values)
    described: dict[str, Any] = {
        "mean": float(values[finite].astype(np.float64).mean()) if finite.any() else None,
        "not_finite": int((~finite).sum()),
    }
    distinct, counts = np.unique(values[finite], return_counts=True)
    if len(distinct) <= _FEW_VALUES:
        described["counts"] = {f"{value:g}": int(count) for value, count in zip(distinct, counts, strict=True)}
        return described
    groups = {"all": finite} | {_NAMES[int(one)]: finite & (kind == one) for one in np.unique(kind[finite])}
    described["quantiles"] = {
        name: [float(q) for q in np.quantile(values[rows].astype(np.float64), QUANTILES)]
        for name, rows in groups.items()
    }
    return described


def _making(settings: Settings, parts: Sequence[LabelledGrasps], failed: Mapping[str, str]) -> dict[str, Any]:
    """How the shards came about; numbers that the engine reports as attributes are added up."""
    sums: dict[str, float] = {}
    constant = settings.attributes()
    for part in parts:
        for name, text in part.attributes.items():
            if name not in constant:
                try:
                    sums[name] = sums.get(name, 0.0) + float(text)
                except ValueError:
                    continue
    accepted, seconds = sum(len(part) for part in parts), sums.get("seconds", 0.0)
    return {
        "shards": len(parts),
        "shards_short_of_their_share": sum(len(part) < settings.quota for part in parts),
        "shards_failed": len(failed),
        "failed": dict(failed),
        "accepted": accepted,
        "accepted_per_minute_and_core": round(60.0 * accepted / seconds, 1) if seconds else None,
        **{f"sum_of_{name}": int(value) if value.is_integer() else round(value, 3) for name, value in sums.items()},
    }


def _table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [list(heading), ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
