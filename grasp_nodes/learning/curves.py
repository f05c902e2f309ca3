"""The curves of a training: one JSON object per line, and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CURVES_FILE = "curves.jsonl"
PICTURE_FILE = "curves.png"

_WIDTH, _HEIGHT, _MARGIN = 480, 300, 60
_COLUMNS = 3
_NOT_DRAWN = ("step", "seconds")


class Curves:
    """Values by step, kept in a folder.

    Args:
        folder: of the files. step: of the checkpoint that the training goes on from: what is beyond it is dropped, as
            it will be trained again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / CURVES_FILE
        self._picture = folder / PICTURE_FILE
        self.rows: list[dict[str, Any]] = [row for row in read_curves(self._path) if row["step"] <= step]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add values of a step, at once to the file; those that are not finite as null."""
        row = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.rows.append(row)
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def draw(self) -> None:
        """Write the picture, if there is anything to draw."""
        picture = draw_curves(self.rows)
        if picture is not None:
            written, content = cv2.imencode(".png", picture)
            if written:
                self._picture.write_bytes(content.tobytes())


def read_curves(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of curves, none if there is no such file; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """One panel per value over the steps, on a logarithmic scale where all are above zero; (H, W, 3) uint8, BGR.

    None without values.
    """
    names = sorted({name for row in rows for name in row} - set(_NOT_DRAWN))
    panels = [panel for name in names if (panel := _panel(name, rows)) is not None]
    if not panels:
        return None
    blank = np.full_like(panels[0], 255)
    columns = min(_COLUMNS, len(panels))
    panels += [blank] * (-len(panels) % columns)
    return np.vstack([np.hstack(panels[k : k + columns]) for k in range(0, len(panels), columns)])


def _panel(name: str, rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    points = np.array([(row["step"], row[name]) for row in rows if row.get(name) is not None], np.float64)
    if not len(points):
        return None
    steps, values = points.T
    logarithmic = bool((values > 0).all())
    heights = np.log10(values) if logarithmic else values
    low, high = float(heights.min()), float(heights.max())
    image = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    inner = (_WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN)
    x = _MARGIN + inner[0] * (steps - steps[0]) / max(steps[-1] - steps[0], 1)
    y = _HEIGHT - _MARGIN - inner[1] * (heights - low) / ((high - low) or 1.0)
    cv2.rectangle(image, (_MARGIN, _MARGIN), (_WIDTH - _MARGIN, _HEIGHT - _MARGIN), (200, 200, 200))
    line = np.rint(np.stack([x, y], axis=1)).astype(np.int32)
    cv2.polylines(image, [line[:, None]], isClosed=False, color=(160, 80, 20), thickness=2, lineType=cv2.LINE_AA)
    title = name + (" (log)" if logarithmic and high > low else "")
    ends = [10**low, 10**high] if logarithmic else [low, high]
    for text, at in (
        (title, (_MARGIN, 30)),
        (f"{ends[1]:.3g}", (2, _MARGIN + 5)),
        (f"{ends[0]:.3g}", (2, _HEIGHT - _MARGIN)),
        (f"{int(steps[0])}", (_MARGIN, _HEIGHT - 30)),
        (f"step {int(steps[-1])}: {values[-1]:.4g}", (_WIDTH // 2, _HEIGHT - 30)),
    ):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return image
