"""``grasp-nodes rate``: serves the blind rating page of an evaluation, or sums up what was answered."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from grasp_nodes.errors import MissingFileError
from grasp_nodes.viewer.picture_folder import read_pictures
from grasp_nodes.viewer.rating import RATINGS, RatingStudy, read_answers
from grasp_nodes.viewer.rating_server import RatingServer
from grasp_nodes.viewer.rating_summary import MethodRating, summarise


def serve(folder: Path, host: str, port: int, seed: int, scores: int, pairs: int) -> None:
    """Serve the page until Ctrl-C.

    Args:
        folder: of the evaluation. host, port: to listen on. seed: of the study. scores, pairs: questions per rater.

    Raises:
        MissingFileError, InputError: no pictures, damaged files, or an address that cannot be listened on.
    """
    study = RatingStudy(folder, seed, scores, pairs)
    with RatingServer(study, host, port) as server:
        typer.echo(f"Rating page: {server.address}  (Ctrl-C ends; answers: {folder / RATINGS})")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")


def show_summary(folder: Path, seed: int, as_json: bool) -> None:
    """Print mean scores, pairs won and strengths of the methods.

    Args:
        folder: of the evaluation. seed: of the bootstrap. as_json: one JSON object as the last line.

    Raises:
        MissingFileError: nothing was rated. InputError: damaged files.
    """
    if not (folder / RATINGS).is_file():
        raise MissingFileError(
            f"ratings: there is no {folder / RATINGS}; somebody has to rate first: grasp-nodes rate {folder}"
        )
    answers = read_answers(folder / RATINGS)
    ratings = summarise(read_pictures(folder), answers, seed)
    raters = len({answer.rater.casefold() for answer in answers})
    Console().print(_table(ratings, f"{len(answers)} answers of {raters} rater(s); intervals: 95 %, bootstrap"))
    if as_json:
        rows = [
            {
                name: None if isinstance(value, float) and np.isnan(value) else value
                for name, value in asdict(one).items()
            }
            for one in ratings
        ]
        typer.echo(json.dumps({"raters": raters, "answers": len(answers), "rows": rows}))


def _table(ratings: list[MethodRating], caption: str) -> Table:
    table = Table(caption=caption)
    for name in ("method", "score 1-5", "scores", "pairs won", "pairs", "strength"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for one in ratings:
        score = f"{one.score:.2f} [{one.score_low:.2f}, {one.score_high:.2f}]" if one.scores else "-"
        wins = f"{one.wins:.0%} [{one.wins_low:.0%}, {one.wins_high:.0%}]" if one.pairs else "-"
        strength = f"{one.strength:+.2f}" if one.pairs else "-"
        # Brackets are rich's mark-up.
        table.add_row(
            one.method.replace("[", r"\["),
            score.replace("[", r"\["),
            str(one.scores),
            wins.replace("[", r"\["),
            str(one.pairs),
            strength,
        )
    return table
