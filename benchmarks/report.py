"""The one shape of a benchmark's answer, and how it is printed."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

VERSIONED = ("grasp_nodes", "torch", "numpy", "numba", "opencv-python-headless", "cyclonedds")


@dataclass(frozen=True)
class Row:
    """One measured number beside its baseline's.

    ratio: baseline / ours for times, ours / baseline for rates: above 1 is better; None without a baseline.
    """

    name: str
    value: float
    unit: str
    baseline: str | None = None
    baseline_value: float | None = None
    ratio: float | None = None

    @staticmethod
    def time(name: str, value: float, unit: str, baseline: str, baseline_value: float) -> Row:
        """A duration: the ratio says how many times faster ours is."""
        return Row(name, value, unit, baseline, baseline_value, baseline_value / value)

    @staticmethod
    def rate(name: str, value: float, unit: str, baseline: str, baseline_value: float) -> Row:
        """A rate: the ratio says how many times more ours does."""
        return Row(name, value, unit, baseline, baseline_value, value / baseline_value)


def as_json(benchmark: str, rows: Sequence[Row], device: str, threads: int) -> str:
    """One line: ``{"benchmark", "device", "threads", "rows"}``."""
    return json.dumps(
        {"benchmark": benchmark, "device": device, "threads": threads, "rows": [asdict(row) for row in rows]}
    )


def as_markdown(benchmark: str, rows: Sequence[Row], device: str, threads: int) -> str:
    """A page with the rows, the date, the machine and the versions, for ``docs/results``."""
    lines = [
        f"# {benchmark}",
        "",
        (
            f"Written by `python -m benchmarks {benchmark} --markdown FILE` on {datetime.now(timezone.utc):%Y-%m-%d}: "
            f"{device}, {threads} thread{'s' if threads != 1 else ''}, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}, {', '.join(_versions())}."
        ),
        "A ratio above 1 is better than the baseline, which ran in the same process or in alternation.",
        "",
        "| name | value | unit | baseline | baseline value | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = [f"{x:.4g}" if x is not None else "" for x in (row.value, row.baseline_value, row.ratio)]
        lines.append(f"| {row.name} | {numbers[0]} | {row.unit} | {row.baseline or ''} | {numbers[1]} | {numbers[2]} |")
    return "\n".join(lines) + "\n"


def _versions() -> list[str]:
    found = []
    for package in VERSIONED:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return found


def print_table(benchmark: str, rows: Sequence[Row], device: str, threads: int) -> None:
    """The rows as a table on standard output."""
    table = Table(title=f"{benchmark} ({device}, {threads} thread{'s' if threads != 1 else ''})")
    for column in ("name", "value", "unit", "baseline", "baseline value", "ratio"):
        is_text = column in ("name", "unit", "baseline")
        # Words may be folded, names and numbers never.
        table.add_column(
            column, justify="left" if is_text else "right", no_wrap=not is_text or column == "name", overflow="fold"
        )
    for row in rows:
        numbers = [f"{x:.4g}" if x is not None else "" for x in (row.value, row.baseline_value, row.ratio)]
        table.add_row(row.name, numbers[0], row.unit, row.baseline or "", numbers[1], numbers[2])
    console = Console()
    Console(width=None if console.is_terminal else 120).print(table)
