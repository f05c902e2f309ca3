"""``grasp-nodes evaluate-geo``: GeO on perturbed grasps beside the tables of CPF, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import typer

from grasp_nodes.cli.geo_evaluation import (
    MEASURED,
    SWEEPS,
    VARIANTS,
    Asked,
    GeoEvaluation,
    Sweep,
    best_weights,
    is_measured,
    read_rows,
    result_file,
)
from grasp_nodes.cli.geo_pictures import write_pictures
from grasp_nodes.cli.long_work import INTERRUPTED, alone_in, progress_bar
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.perturbed_grasps import PoseNoise
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model

COLUMNS = (
    ("hand_mm", "HE mm"),
    ("object_mm", "OE mm"),
    ("penetration_mm", "PD mm"),
    ("volume_cm3", "SIV cm3"),
    ("disjointedness_mm", "DD mm"),
    ("touching_mm", "DD where it touches mm"),
    ("displacement_cm", "SD cm"),
    ("anatomy", "L_anat"),
    ("pd_ratio", "PD after/before"),
    ("siv_ratio", "SIV after/before"),
    ("dd_ratio", "DD after/before"),
    ("touching_ratio", "the same where it touches"),
    ("sd_ratio", "SD after/before"),
    ("seconds", "s per grasp"),
)
COMPARED = tuple(one for one in COLUMNS if one[0] in (
    "hand_mm", "penetration_mm", "volume_cm3", "disjointedness_mm", "displacement_cm", "anatomy"
))  # fmt: skip
FOUR = ("penetration_mm", "volume_cm3", "disjointedness_mm", "displacement_cm")
TRUE_DD = (
    "DD is the mean over *all* vertices of the five fingertip regions, as the paper defines it: nails, and fingers "
    "that touch nothing, have their distance in the true grasp, too. What returns to the truth comes to the row "
    "`truth`, not to zero; where that row's ratio is above a half, half of the start is nearer to the object than the "
    "true fingers are. The column *where it touches* counts only vertices within 5 mm of the surface in the true grasp."
)
ORACLE = (
    "**Oracle.** `geo`, `geo_hand_object`, `geo_adam`, `no_*`, `krpl_*`, `pca_pose` and `twisted_*` are given the "
    "springs that CPF annotates at the *unperturbed* grasp: they know where on the object each finger belongs. "
    "`geo_predicted`, `vanilla_*` and `obman_*` see the perturbed hand alone. `geo_from_truth` starts at the "
    "unperturbed grasp with its own springs: what it moves is how far GeO's minimum lies from the truth. Each baseline "
    "is tried with several weights and compared at its best."
)
PAPER = (
    "| paper, Table 1 (HO3Dv1+) | HE | OE | PD | SIV | DD | SD mm |\n|---|---|---|---|---|---|---|\n"
    "| start ([24]+) | 24.80 | 18.10 | 18.57 | 9.62 | 18.62 | 25.68 |\n"
    "| GeO hand alone | 24.56 | 18.10 | 11.87 | 3.63 | 11.71 | 28.16 |\n"
    "| GeO hand-object | 23.99 | 19.15 | 11.42 | 3.46 | 11.83 | 27.66 |\n"
    "| truth | 0 | 0 | 7.55 | 3.57 | 14.53 | 12.37 |\n\n"
    "| paper, Tables 2 and 3 (FHB) | HE | OE | PD | SIV | DD | ms per iteration |\n|---|---|---|---|---|---|---|\n"
    "| GeO | 19.54 | 21.57 | 16.92 | 11.76 | 22.41 | 55.77 |\n"
    "| vanilla contact | 24.01 | 24.29 | 18.36 | 15.64 | 16.32 | 45.40 |\n"
    "| ObMan contact | 22.15 | 22.54 | 15.13 | 16.20 | 11.97 | 103.41 |\n"
    "| without E_rpl | | | 17.79 | 13.76 | 20.27 | |\n\n"
    "| paper, Table 5: k_rpl | HE | OE | PD | SIV | DD |\n|---|---|---|---|---|---|\n"
    "| 2e-4 | 19.49 | 21.57 | 17.77 | 13.22 | 20.85 |\n| 6e-4 | 19.51 | 21.57 | 17.22 | 12.40 | 21.63 |\n"
    "| 1e-3 | 19.54 | 21.57 | 16.92 | 11.76 | 22.41 |\n| 1.4e-3 | 19.59 | 21.58 | 16.75 | 11.00 | 23.24 |\n"
    "| 2e-3 | 19.69 | 21.59 | 16.41 | 10.09 | 24.55 |\n| 4e-3 | 20.03 | 21.63 | 15.09 | 7.65 | 29.33 |\n"
    "| 8e-3 | 20.95 | 21.92 | 12.86 | 4.27 | 40.79 |\n\n"
    "| paper, Table 6 (FHB) | HE | OE | PD | SIV | DD |\n|---|---|---|---|---|---|\n"
    "| all angles | 19.54 | 21.57 | 16.92 | 11.76 | 22.41 |\n"
    "| 15 principal components | 23.32 | 24.41 | 22.47 | 11.90 | 26.72 |\n"
)


@dataclass(frozen=True)
class Request:
    """What the command was asked for.

    variants: ``all``: the main table and the sweeps of the paper's other ones; ``main``: without the latter; or names
    separated by commas.

    markdown: a further copy of the page. pictures: a PNG of the first object's first grasp.
    """

    output: Path
    asked: Asked
    variants: str = "all"
    threads: int = 2
    markdown: Path | None = None
    as_json: bool = False
    pictures: Path | None = None


def evaluate_geo(request: Request) -> int:
    """Measure what is missing, object by object, print the table and write the files.

    Returns:
        0, or 130 where Ctrl-C stopped it; what was measured is kept.

    Raises:
        InputError: unknown variants, or a folder that cannot be written. MissingFileError: no set of grasps.
    """
    names, sweeps = _plan(request.variants)
    torch.set_num_threads(request.threads)
    model = load_hand_model("right")
    evaluation = GeoEvaluation(model, open_grasps(model.fingerprint), request.asked, PoseNoise())
    with alone_in(request.output):
        (request.output / "parts").mkdir(exist_ok=True)
        every, some = range(len(evaluation.objects)), evaluation.swept
        try:
            swept = dict.fromkeys(name for sweep in sweeps for name in sweep.names)
            _measure(request.output, evaluation, list(swept), some)
            for best in best_weights(read_rows(request.output, evaluation, list(swept), some)).values():
                names.append(best["variant"])
            _measure(request.output, evaluation, names, every)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
        rows = read_rows(request.output, evaluation, names, every)
        tables = [(sweep, read_rows(request.output, evaluation, sweep.names, some)) for sweep in sweeps]
        page = markdown_page(rows, request.asked, tables)
        for path in (request.output / "geo.md", request.markdown):
            if path is not None:
                path.write_text(page)
        if request.pictures is not None and not stopped:
            write_pictures(evaluation, 0, request.pictures)
        typer.echo(page)
    if request.as_json:
        swept_rows = {sweep.title: found for sweep, found in tables}
        typer.echo(json.dumps({"rows": rows, "sweeps": swept_rows}))
    if stopped:
        typer.echo(f"Stopped: the table is of what is done; the same command goes on in {request.output}.", err=True)
    return INTERRUPTED if stopped else 0


def _plan(text: str) -> tuple[list[str], Sequence[Sweep]]:
    """Variants of all grasps, and sweeps; the baselines' best weights come out of these."""
    if text in ("main", "all"):
        return list(MEASURED), SWEEPS if text == "all" else SWEEPS[:1]
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in VARIANTS]
    if unknown or not names:
        raise InputError(f"variants: {', '.join(unknown) or 'none named'}; expected some of {', '.join(VARIANTS)}")
    return list(dict.fromkeys(["perturbed", *names])), ()


def _measure(folder: Path, evaluation: GeoEvaluation, names: Sequence[str], numbers: Sequence[int]) -> None:
    total = len(numbers) * len(names)
    done = 0
    with progress_bar("grasps refined by object and variant") as bar:
        for number in numbers:
            missing = [name for name in names if not _is_done(folder, evaluation, number, name)]
            done += len(names) - len(missing)
            if missing:
                job = evaluation.job(number)
            for name in missing:
                found = evaluation.run(name, job)
                path = result_file(folder, evaluation, number, name)
                part = path.with_suffix(".part")
                part.write_text(json.dumps(found))
                part.replace(path)
                done += 1
                bar(done, total)


def _is_done(folder: Path, evaluation: GeoEvaluation, number: int, name: str) -> bool:
    return is_measured(result_file(folder, evaluation, number, name), evaluation.simulated_of(number))


def _comparison(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each baseline, of its best weight beside GeO."""
    geo = next((row for row in rows if row["variant"] == "geo"), None)
    lines = []
    for kind, best in best_weights(rows).items():
        text = f"Best weight of {kind}, by the mean of PD, SIV and DD after/before: `{best['variant']}`."
        if geo is not None:
            known = [(key, title) for key, title in COMPARED if best[key] is not None and geo[key] is not None]
            better = [title for key, title in known if geo[key] < best[key]]
            worse = [title for key, title in known if geo[key] > best[key]]
            text += f" Oracle GeO is better than it in {', '.join(better) or 'nothing'}"
            text += f" and worse in {', '.join(worse) or 'nothing'}."
            four = [geo[key] < best[key] for key in FOUR if best[key] is not None and geo[key] is not None]
            text += f" Of PD, SIV, DD and SD, {kind} is worse in {sum(four)} of {len(four)}."
        lines += [text, ""]
    return lines


def markdown_page(
    rows: Sequence[dict[str, Any]],
    asked: Asked,
    sweeps: Sequence[tuple[Sweep, Sequence[dict[str, Any]]]] = (),
) -> str:
    """The rows as a page, those of the sweeps and the paper's beside them."""
    count, simulated = rows[0]["n"], rows[0]["simulated"]
    fallen = f"{simulated} of the grasps, spread over the objects" if simulated else "not measured"
    about = (
        f"Written by `grasp-nodes evaluate-geo` on {datetime.now(timezone.utc):%Y-%m-%d}: {count} grasps of the open "
        f"set, {asked.per_object} per object, seed {asked.seed}; normal noise of 1 cm, 10 degrees and 0.2 rad (each of "
        f"the 45 numbers of the pose). SD: {fallen}, Hasson's protocol in MuJoCo."
    )
    lines = ["# GeO on perturbed grasps", "", about, "", ORACLE, "", *_table(rows), "", *_comparison(rows), TRUE_DD, ""]
    for sweep, found in sweeps:
        about = f"{found[0]['n']} of the grasps, all on every so many objects; SD: {found[0]['simulated']} of them."
        lines += [f"## {sweep.title}", "", about, "", *_table(found), ""]
    return "\n".join([*lines, "## The paper's tables", "", PAPER])


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| variant | " + " | ".join(title for _, title in COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = ["" if row[key] is None else f"{row[key]:.3g}" for key, _ in COLUMNS]
        lines.append(f"| {row['variant']}: {row['what']} | " + " | ".join(cells) + " |")
    return lines
