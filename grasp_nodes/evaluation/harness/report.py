"""The table for people: cells of text, Markdown, and what has to be said beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grasp_nodes.evaluation.harness.table import Row

HEADERS: Mapping[str, tuple[str, int]] = {
    "good": ("good", 2),
    "six_direction_hold": ("hold 6", 2),
    "shake": ("shake", 2),
    "contact_ratio": ("contact", 2),
    "penetration_cm3": ("volume cm3", 2),
    "siv_cm3": ("SIV cm3", 2),
    "depth_mm": ("depth mm", 1),
    "object_depth_mm": ("object in hand mm", 1),
    "contact_area_cm2": ("area cm2", 1),
    "fingers_in_contact": ("fingers", 1),
    "disjointedness_mm": ("DD mm", 1),
    "self_penetration_mm": ("self mm", 1),
    "displacement_cm": ("displ. cm", 2),
    "mujoco_displacement_cm": ("mj displ. cm", 2),
    "entropy": ("entropy", 2),
    "cluster_size": ("cluster cm", 1),
    "frechet_view_features": ("Fréchet views", 2),
    "seconds_per_grasp": ("s/grasp", 4),
    "device": ("device", 0),
    "n": ("n", 0),
    "missing": ("missing", 0),
    "nan": ("NaN", 0),
    "refused": ("refused objects", 0),
}
"""What the table shows of a row, in this order: header and digits behind the point."""
NONE = "-"


@dataclass(frozen=True)
class TextTable:
    """header: of the columns. rows: of cells; a cell may have a second line, its interval."""

    header: Sequence[str]
    rows: Sequence[Sequence[tuple[str, str]]]

    def transposed(self) -> TextTable:
        """Methods side by side: for a narrow terminal."""
        first = [self.header[0], *(row[0][0] for row in self.rows)]
        columns = range(1, len(self.header))
        return TextTable(first, [[(self.header[k], ""), *(row[k] for row in self.rows)] for k in columns])


def text_table(rows: Sequence[Row]) -> TextTable:
    """Cells of the table, methods as rows."""
    cells = [[(row["method"], ""), *(_cell(row, key, HEADERS[key][1]) for key in HEADERS)] for row in rows]
    return TextTable(["method", *(header for header, _ in HEADERS.values())], cells)


def markdown(rows: Sequence[Row], settings: Mapping[str, Any]) -> str:
    """The report as a Markdown page: the table, breakdowns, refused objects and settings."""
    table = text_table(rows)
    lines = ["# Evaluation of grasps", "", _explained(settings), ""]
    lines += _markdown_table(
        table.header, [[f"{text}<br>{interval}" if interval else text for text, interval in row] for row in table.rows]
    )
    lines += [
        "",
        "Intervals: 95 %, bootstrap over objects. Shares are of all n places: a refused object, a place without",
    ]
    lines += ["a grasp and a grasp with NaN count as failures; means are over the grasps that could be measured.", ""]
    lines += _breakdown(rows, "families", "Good by family")
    lines += _breakdown(rows, "kinds", "Good by kind of labelled grasps")
    absent = [(row["method"], row["not_available"]) for row in rows if row["not_available"]]
    if absent:
        lines += ["## Not available", "", *(f"- `{name}`: {reason}" for name, reason in absent), ""]
    refused = _refused(rows)
    if refused:
        lines += ["## Refused objects", "", *(f"- {text}" for text in refused), ""]
    lines += ["## Settings", "", *(f"- {name}: {_told(value)}" for name, value in settings.items()), ""]
    return "\n".join(lines)


def notes(rows: Sequence[Row]) -> list[str]:
    """What must be said beside the printed table: rows without numbers, refused objects, grasps with NaN."""
    said = [f"{row['method']}: not available: {row['not_available']}" for row in rows if row["not_available"]]
    said += [f"refused: {text}" for text in _refused(rows)]
    said += [f"{row['method']}: {row['nan']} of {row['n']} grasps have NaN" for row in rows if row["nan"]]
    said += [
        f"{row['method']}: {row['missing']} of {row['n']} places have no grasp, which counts as not good"
        for row in rows
        if row["missing"]
    ]
    return said


def _refused(rows: Sequence[Row]) -> list[str]:
    """Each object and reason once, with the methods."""
    by: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, reason in row["refused_objects"].items():
            by.setdefault((name, reason), []).append(row["method"])
    return [f"{name} ({', '.join(methods)}): {reason}" for (name, reason), methods in by.items()]


def _cell(row: Row, key: str, digits: int) -> tuple[str, str]:
    value = row.get(key)
    if value is None:
        return NONE, ""
    if not isinstance(value, float):
        return str(value), ""
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    interval = "" if low is None or high is None else f"{low:.{digits}f}–{high:.{digits}f}"
    return f"{value:.{digits}f}", interval


def _breakdown(rows: Sequence[Row], part: str, title: str) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row[part]))
    own = [row for row in rows if row[part]]
    if not names:
        return []
    cells = []
    for row in own:
        values = [row[part].get(name, {}).get("good") for name in names]
        cells.append([row["method"], *(NONE if value is None else f"{value:.2f}" for value in values)])
    return [f"## {title}", "", *_markdown_table(["method", *names], cells), ""]


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _explained(settings: Mapping[str, Any]) -> str:
    return (
        f"{settings.get('objects', '?')} objects, {settings.get('count', '?')} grasps of each method on each, seed "
        f"{settings.get('seed', '?')}. Good: depth < 5 mm, three fingers in contact (two for a grasp that its data set "
        "labels a pinch), held in six directions. "
        "`synthetic`, `random`, `shuffled` and their polished forms are the bounds that a generator is read against."
    )


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    return ", ".join(_told(one) for one in value) if isinstance(value, (list, tuple)) else str(value)
