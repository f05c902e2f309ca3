"""A blind study of grasps: what a rater is asked, in which order, and the answers on disk.

First single grasps, scored 1 (impossible) to 5 (as a person would), then pairs of two methods on one object: which is
more natural. Pictures, order and sides are drawn from a seed and the rater's name, the methods in equal shares; neither
order nor ids tell the method. Answers are rows of ``DIR/ratings.csv``; a rater who comes back goes on, and the last
answer to a question counts.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.viewer.picture_folder import PICTURES, PictureEntry, read_pictures
from grasp_nodes.viewer.row_file import RowFile, read_rows

RATINGS = "ratings.csv"
COLUMNS = ("time", "rater", "task", "first", "second", "answer", "seconds")
SCORES = ("1", "2", "3", "4", "5")
CHOICES = ("first", "second", "tie")
TaskKind = Literal["score", "pair"]
_KINDS: Mapping[str, TaskKind] = {"score": "score", "pair": "pair"}
Item = TypeVar("Item")
_PLANS = 64
"""Raters whose questions are kept in memory."""
_RATER = re.compile(r"[\w][\w .-]{0,39}")
"""Of a rater's name: nothing that a spreadsheet would take for a formula."""


@dataclass(frozen=True)
class RatingTask:
    """One question: of a score about the picture `first`, of a pair about `first` (left) and `second` (right).

    first, second: ids of pictures; second is empty for a score.
    """

    kind: TaskKind
    first: str
    second: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The same for the same question, whichever side the pictures of a pair are on."""
        return (self.kind, *sorted((self.first, self.second)))

    @property
    def answers(self) -> tuple[str, ...]:
        """What may be answered."""
        return SCORES if self.kind == "score" else CHOICES


@dataclass(frozen=True)
class RatingAnswer:
    """One row of the file. answer: one of the task's `answers`. seconds: s, how long the rater took."""

    time: str
    rater: str
    task: RatingTask
    answer: str
    seconds: float


def check_rater(name: str) -> str:
    """A rater's name as it is kept.

    Raises:
        InputError: it is not one.
    """
    name = " ".join(name.split())
    if not _RATER.fullmatch(name):
        raise InputError(f"rater {name!r}: expected 1 to 40 letters, digits, spaces, dots or hyphens")
    return name


def plan_tasks(pictures: Sequence[PictureEntry], rater: str, seed: int, scores: int, pairs: int) -> list[RatingTask]:
    """The questions for one rater, in order.

    Args:
        pictures: of the evaluation. rater: name. seed: of the study.
        scores: how many grasps to score at most, in equal shares of the methods.
        pairs: how many pairs at most, in equal shares of the pairs of methods; both show the same object.
    """
    rng = np.random.default_rng([seed, zlib.crc32(rater.casefold().encode())])
    by_method: dict[str, list[PictureEntry]] = defaultdict(list)
    by_object: dict[str, dict[str, list[PictureEntry]]] = defaultdict(lambda: defaultdict(list))
    for entry in pictures:
        by_method[entry.method].append(entry)
        by_object[entry.object][entry.method].append(entry)
    singles = [RatingTask("score", entry.id) for entry in _equal_shares(by_method, scores, rng)]
    candidates: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for methods in by_object.values():
        for one, other in itertools.combinations(sorted(methods), 2):
            left, right = rng.permutation(len(methods[one])), rng.permutation(len(methods[other]))
            candidates[one, other] += [
                (methods[one][a].id, methods[other][b].id) for a, b in zip(left, right, strict=False)
            ]
    chosen = _equal_shares(candidates, pairs, rng)
    sides = rng.random(len(chosen)) < 0.5
    doubles = [
        RatingTask("pair", *(pair[::-1] if turned else pair)) for pair, turned in zip(chosen, sides, strict=True)
    ]
    return [singles[k] for k in rng.permutation(len(singles))] + [doubles[k] for k in rng.permutation(len(doubles))]


def _equal_shares(groups: Mapping[Any, Sequence[Item]], most: int, rng: np.random.Generator) -> list[Item]:
    """At most so many items, drawn without order, one of each group in turn."""
    shuffled = [[group[k] for k in rng.permutation(len(group))] for _, group in sorted(groups.items())]
    shuffled = [shuffled[k] for k in rng.permutation(len(shuffled))]
    rounds = itertools.zip_longest(*shuffled)
    return list(itertools.islice((item for one in rounds for item in one if item is not None), most))


class RatingStudy:
    """The study of one evaluation's pictures: plans the questions of each rater and keeps the answers.

    May be used by several threads at once.
    """

    def __init__(self, folder: Path, seed: int = 0, scores: int = 60, pairs: int = 40) -> None:
        """Open the study of a folder.

        Args:
            folder: of the evaluation. seed: of pictures, order and sides. scores, pairs: questions per rater at most.

        Raises:
            MissingFileError: no pictures there. InputError: damaged files, or no picture.
        """
        entries = read_pictures(folder)
        if not entries:
            raise InputError(f"pictures: {folder / PICTURES} has an index without a picture: nothing can be rated")
        self._pictures = {entry.id: entry for entry in entries}
        self._root = folder / PICTURES
        self._seed, self._scores, self._pairs = seed, scores, pairs
        self._file = RowFile(folder / RATINGS, COLUMNS)
        self._lock = Lock()
        self._plan = lru_cache(maxsize=_PLANS)(self._make_plan)

    def _make_plan(self, rater: str) -> list[RatingTask]:
        return plan_tasks(list(self._pictures.values()), rater, self._seed, self._scores, self._pairs)

    def tasks(self, rater: str) -> list[tuple[RatingTask, str]]:
        """The questions of one rater with the answers given so far, empty where there is none.

        Raises:
            InputError: no name.
        """
        rater = check_rater(rater)
        with self._lock:
            answers = read_answers(self._file.path)
        given = {answer.task.key: answer.answer for answer in answers if _same_rater(answer.rater, rater)}
        return [(task, given.get(task.key, "")) for task in self._plan(rater)]

    def record(self, rater: str, task: RatingTask, answer: str, seconds: float) -> None:
        """Keep an answer; it is on disk before this returns.

        Raises:
            InputError: no name, a question that this rater is not asked, or no answer to it.
        """
        rater = check_rater(rater)
        if answer not in task.answers:
            raise InputError(f"answer to a {task.kind}: expected one of {', '.join(task.answers)}, got {answer!r}")
        if not (np.isfinite(seconds) and seconds >= 0):
            raise InputError(f"seconds: expected 0 or more, got {seconds}")
        if task not in self._plan(rater):
            raise InputError(f"{task.kind} of {task.first} {task.second}: {rater} is not asked this")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._lock:
            self._file.append((now, rater, task.kind, task.first, task.second, answer, f"{seconds:.1f}"))

    def picture(self, picture_id: str) -> bytes:
        """The PNG of an id.

        Raises:
            InputError: no such picture.
        """
        if picture_id not in self._pictures:
            raise InputError(f"picture {picture_id!r}: there is none of this id")
        return (self._root / self._pictures[picture_id].file).read_bytes()


def _same_rater(one: str, other: str) -> bool:
    """Whether two names are of one person, who may write it large or small."""
    return one.casefold() == other.casefold()


def read_answers(path: Path) -> list[RatingAnswer]:
    """The answers of a file; where a rater answered a question again, the last.

    Raises:
        InputError: a damaged file; the message names the row.
    """
    latest: dict[tuple[str, ...], RatingAnswer] = {}
    for number, row in enumerate(read_rows(path, COLUMNS), start=2):
        time, rater, kind, first, second, answer, seconds = row
        try:
            task = RatingTask(_KINDS[kind], first, second)
            entry = RatingAnswer(time, rater, task, answer, float(seconds))
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: row {number}: not an answer ({error})") from error
        if answer not in task.answers:
            raise InputError(f"{path}: row {number}: answer {answer!r}: expected one of {', '.join(task.answers)}")
        latest[(rater.casefold(), *task.key)] = entry
    return list(latest.values())
