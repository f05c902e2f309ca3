"""What was measured, one line of JSON for each method on each object: written at once, read by a later run.

``DIR/settings.json`` says what was judged and how; ``DIR/grasps.jsonl`` holds the grasps and their measures. A line
that a killed run left half is dropped and made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import Grasp
from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side

SETTINGS_FILE = "settings.json"
RECORDS_FILE = "grasps.jsonl"
FORMAT_VERSION = 1
_FIELDS = {"global_orient": 3, "hand_pose": 45, "betas": 10, "transl": 3, "scale": 1}
_WIDTH = sum(_FIELDS.values())


@dataclass(frozen=True, eq=False)
class Record:
    """One method on one object.

    method, version: see `Method`. object, family: names. wanted: places for grasps. reason: why there is no grasp at
    all (the object was refused), else empty. seconds: that the grasps took, NaN = not the time of making them.
    center: (3,) m, of the object's bounding box.
    sides: G names. hands: (G, 62) float32: global_orient, hand_pose, betas, transl, scale. kinds: G names or none.
    finite: (G,) bool, the hand has no NaN. values: (G,) float64 for each measure, SI, NaN = unknown.
    features: (G, D) float64 of the feature network, D = 0 without one.
    """

    method: str
    object: str
    family: str
    wanted: int
    version: str = ""
    reason: str = ""
    seconds: float = float("nan")
    center: np.ndarray = field(default_factory=lambda: np.zeros(3))
    sides: Sequence[str] = ()
    hands: np.ndarray = field(default_factory=lambda: np.zeros((0, _WIDTH), np.float32))
    kinds: Sequence[str] = ()
    finite: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.hands)

    def grasps(self, models: Mapping[Side, HandModel]) -> list[Grasp]:
        """The grasps in their order."""
        result: list[Grasp | None] = [None] * len(self)
        for side in ("right", "left"):
            rows = [k for k, one in enumerate(self.sides) if one == side]
            if not rows:
                continue
            orient, pose, betas, transl, scale = torch.from_numpy(self.hands[rows]).split(list(_FIELDS.values()), 1)
            params = HandParams(orient, pose, betas, transl, scale[:, 0], side)
            for k, grasp in zip(rows, make_grasps(params, models[side]), strict=True):
                result[k] = grasp
        return [grasp for grasp in result if grasp is not None]


def hand_rows(grasps: Sequence[Grasp]) -> np.ndarray:
    """(G, 62) float32, as in `Record.hands`."""
    rows = [
        torch.cat([getattr(grasp.hand.params, name).reshape(1, -1).float().cpu() for name in _FIELDS], dim=1)
        for grasp in grasps
    ]
    return torch.cat(rows).numpy() if rows else np.zeros((0, _WIDTH), np.float32)


def to_line(record: Record) -> str:
    """A line of JSON with its line break; NaN and infinity become null."""
    content = {
        **{name: getattr(record, name) for name in ("method", "object", "family", "wanted", "version", "reason")},
        "seconds": _plain(np.array(record.seconds), 6),
        "center": _plain(record.center, 9),
        "sides": list(record.sides),
        "hands": _plain(record.hands, 9),
        "kinds": list(record.kinds),
        "finite": record.finite.tolist(),
        "values": {name: _plain(values, 9) for name, values in record.values.items()},
        "features": _plain(record.features, 7),
        "feature_size": record.features.shape[1],
    }
    return json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n"


def from_line(line: str) -> Record:
    """A record from its line.

    Raises:
        ValueError, KeyError, TypeError: it is no such line.
    """
    content = json.loads(line)
    count = len(content["sides"])
    return Record(
        **{name: str(content[name]) for name in ("method", "object", "family", "version", "reason")},
        wanted=int(content["wanted"]),
        seconds=float(_array(content["seconds"])),
        center=_array(content["center"]).reshape(3),
        sides=tuple(content["sides"]),
        hands=_array(content["hands"]).reshape(count, _WIDTH).astype(np.float32),
        kinds=tuple(content["kinds"]),
        finite=np.array(content["finite"], bool).reshape(count),
        values={name: _array(values).reshape(count) for name, values in content["values"].items()},
        features=_array(content["features"]).reshape(count, int(content["feature_size"])),
    )


def _plain(values: np.ndarray, digits: int) -> Any:
    """Nested lists of floats with so many significant digits (9 keep a float32), None for what is not finite."""
    if values.ndim == 0:
        return float(f"{float(values):.{digits}g}") if np.isfinite(values) else None
    return [_plain(one, digits) for one in values]


def _array(values: Any) -> np.ndarray:
    return np.array(values, np.float64)  # None becomes NaN


class RecordFolder:
    """The folder of one evaluation.

    Args:
        folder: made where it does not exist. settings: what must be the same for results to be taken up again.

    Raises:
        InputError: it cannot be written, or holds the results of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._file = folder / RECORDS_FILE
        wanted = json.loads(json.dumps({"format_version": FORMAT_VERSION, **settings}))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / SETTINGS_FILE
            if path.is_file():
                _check_settings(path, wanted)
            else:
                path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
            with self._file.open("a+b") as stream:
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        except OSError as error:
            raise InputError(f"output {folder}: cannot be written ({error}); name another folder with -o") from error

    def read(self) -> dict[tuple[str, str], Record]:
        """What is there, by method and object; of two the later one.

        Raises:
            InputError: a line is damaged.
        """
        found: dict[tuple[str, str], Record] = {}
        with self._file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    record = from_line(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"{self._file}: line {number} is damaged ({type(error).__name__}: {error}): delete that line, "
                        "then what it held is measured again"
                    ) from error
                found[record.method, record.object] = record
        return found

    def append(self, record: Record) -> Record:
        """Write a record; it is on the disk before this returns.

        Returns:
            The record as it will be read: a run that was interrupted ends with the same digits as one that was not.

        Raises:
            InputError: it cannot be written, as on a full disk.
        """
        line = to_line(record)
        try:
            with self._file.open("ab") as stream:
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(
                f"{self._file}: cannot be written ({error}); what was measured so far is kept: make room and run the "
                "same command again"
            ) from error
        return from_line(line)


def _check_settings(path: Path, wanted: Mapping[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}): name an empty folder with -o") from error
    found = found if isinstance(found, dict) else {}
    other = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if other:
        told = ", ".join(f"{name} was {_short(found.get(name))}, is {_short(wanted.get(name))}" for name in other)
        raise InputError(
            f"{path.parent}: holds an evaluation with other settings ({told}): results of both cannot be in one table; "
            "name another folder with -o, or give the settings of then"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else text[:36] + " ..."
