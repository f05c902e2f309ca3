"""``grasp-nodes render-clips``: the benchmark's clips, rendered with a progress bar and put where they are wanted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grasp_nodes.cli.long_work import INTERRUPTED
from grasp_nodes.data.benchmark_clips import benchmark_clips
from grasp_nodes.data.clip_files import read_clip_info
from grasp_nodes.data.clip_production import link_or_copy
from grasp_nodes.errors import InputError

SHOWN = ("view", "hand_side", "object", "motion", "occlusion", "occluded_share", "contact_share")


def render(
    output: Path | None, count: int, frames: int, seed: int, meshes: Sequence[Path], processes: int, as_json: bool
) -> int:
    """Render what the cache does not hold.

    Args:
        output: folder that gets links to, or copies of, the clips; None = the cache's folders are named.
        count, frames, seed, meshes, processes: see `benchmark_clips`.
        as_json: print one machine-readable last line.

    Returns:
        Exit code: 0, 130 after Ctrl-C.
    """
    console = Console(stderr=True)
    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=count * frames)
            folders = benchmark_clips(
                *(count, frames, seed, lambda done, _: bar.update(task, completed=done)), processes, meshes
            )
    except KeyboardInterrupt:
        console.print("Stopped. Finished frames are kept: the same command goes on.", markup=False, highlight=False)
        return INTERRUPTED
    if output is not None:
        folders = [_put(folder, output / folder.name) for folder in folders]
    if as_json:
        typer.echo(json.dumps({"clips": [_row(folder) for folder in folders], "frames": frames, "seed": seed}))
    else:
        for folder in folders:
            typer.echo(
                f"{folder}: " + ", ".join(f"{name} {value}" for name, value in _row(folder).items() if name in SHOWN)
            )
    return 0


def _row(folder: Path) -> dict[str, object]:
    extra = read_clip_info(folder).extra
    return {"folder": str(folder), **{name: extra.get(name) for name in SHOWN}}


def _put(folder: Path, place: Path) -> Path:
    """The clip at another place, whole or not at all.

    Raises:
        InputError: something else is there, or it cannot be written.
    """
    if (place / "clip.json").is_file():
        return place
    part = place.with_name(f"{place.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part, copy_function=lambda source, target: link_or_copy(Path(source), Path(target)))
        part.rename(place)
    except OSError as error:
        raise InputError(f"{place}: the clip cannot be put there ({error}); name another folder with -o") from error
    return place
