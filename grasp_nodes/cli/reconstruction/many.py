"""Many clips at once: the list, the work on one of them in a process of its own, and what came of them all.

A clip's answer is written once, when it is done, under ``results/NAME.json``; who runs the same command again works on
the others only. A worker that dies leaves the windows that it finished: whoever takes the clip goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grasp_nodes
from grasp_nodes.cli.reconstruction.setup import Request
from grasp_nodes.data.sources import BAG_SUFFIXES, VIDEO_SUFFIXES
from grasp_nodes.data.workers import Task, WorkError
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.npz import replacing

JOB = "grasp_nodes.cli.reconstruction.many:reconstruct_one"
RESULTS, LOGS = "results", "logs"
NUMBERS = {"object_scale": float, "fov": float, "frames": int, "seed": int}
SEVERAL = ("object", "object_box")
LARGEST_LIST = 50_000_000
"""bytes."""


@dataclass(frozen=True)
class ClipJob:
    """name: of its folder. request: what is done."""

    name: str
    request: Request

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the answer."""
        settings = {name: value for name, value in asdict(self.request).items() if name not in ("restart", "as_json")}
        text = json.dumps([grasp_nodes.__version__, settings], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_list(path: Path, common: Request) -> list[ClipJob]:
    """The clips of a list, or of a folder.

    Args:
        path: a text file with a clip a line, behind which may stand what differs from the others, ``name=``,
            ``object=``, ``object_box=`` (both several times), ``object_scale=``, ``fov=``, ``frames=``, ``seed=``;
            quotes as in a shell, ``#`` begins a comment. Or a folder, each clip of which is meant.
        common: what holds for all; its output is the folder of all results.

    Raises:
        MissingFileError, InputError: there is no such list, a line cannot be understood, or a clip is not there.
    """
    path = path.expanduser()
    if path.is_dir():
        entries = [(str(clip), [str(clip)]) for clip in _clips_in(path)]
    else:
        entries = [(f"{path}, line {number}", words) for number, words in _lines(path)]
    if not entries:
        raise InputError(f"--many {path}: holds no clip")
    named = [_parse(where, words, common, path.parent) for where, words in entries]
    names = _names([(name, request.clip) for name, request in named])
    return [
        ClipJob(name, replace(request, output=common.output.resolve() / name))
        for name, (_, request) in zip(names, named, strict=True)
    ]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise InputError(f"--many {path}: larger than {LARGEST_LIST // 10**6} MB: not a list of clips")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingFileError(
            f"--many {path}: cannot be read ({error}); expected a text file, a clip a line"
        ) from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(f"--many {path}, line {number}: {error}") from error
        if words:
            found.append((number, words))
    return found


def _clips_in(folder: Path) -> list[Path]:
    endings = (*BAG_SUFFIXES, *VIDEO_SUFFIXES)
    return sorted(path for path in folder.iterdir() if path.is_dir() or path.suffix.lower() in endings)


def _parse(where: str, words: Sequence[str], common: Request, base: Path) -> tuple[str, Request]:
    clip, *options = words
    given: dict[str, Any] = {name: [] for name in SEVERAL}
    for word in options:
        name, equals, value = word.partition("=")
        if not equals or name not in (*NUMBERS, *SEVERAL, "name"):
            raise InputError(f"{where}: expected name=, {'=, '.join((*SEVERAL, *NUMBERS))}= and a value, got {word!r}")
        if name in SEVERAL:
            given[name].append(value)
            continue
        try:
            given[name] = NUMBERS[name](value) if name in NUMBERS else value
        except ValueError as error:
            raise InputError(f"{where}: {name}: expected a number, got {value!r}") from error
    if common.dataset:
        folder, sequence = str(Path(common.clip).expanduser().resolve()), clip
    else:
        folder, sequence = str(_existing(clip, base, where)), common.sequence
    objects = given["object"] or common.objects
    request = replace(
        common,
        clip=folder,
        sequence=sequence,
        objects=tuple(_resolved(one, base) for one in objects),
        boxes=tuple(given["object_box"]) or common.boxes,
        object_scale=given.get("object_scale", common.object_scale),
        field_of_view=given.get("fov", common.field_of_view),
        frames=given.get("frames", common.frames),
        seed=given.get("seed", common.seed),
        as_json=True,
    )
    return given.get("name", ""), request


def _existing(clip: str, base: Path, where: str) -> Path:
    """A clip beside the list, or where it is run; workers may run elsewhere, so that it gets its whole path."""
    for path in (base / Path(clip).expanduser(), Path(clip).expanduser()):
        if path.exists():
            return path.resolve()
    raise MissingFileError(f"{where}: clip {clip!r}: not found, neither in {base.resolve()} nor in {Path.cwd()}")


def _resolved(spec: str, base: Path) -> str:
    for path in (base / Path(spec).expanduser(), Path(spec).expanduser()):
        if path.is_file():
            return str(path.resolve())
    return spec


def _names(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A folder's name for each clip: its own, with as many of the folders above it as tell it from the others."""
    given = [name for name, _ in pairs]
    for name in given:
        if name in (".", "..", RESULTS, LOGS) or "/" in name or "\0" in name:
            raise InputError(f"--many: name={name}: expected the name of a folder other than {RESULTS} and {LOGS}")
    names = [name or Path(clip).stem or "clip" for name, clip in pairs]
    depth = 1
    while len(set(names)) < len(names) and depth < 6:
        depth += 1
        counts = Counter(names)
        names = [
            "__".join(Path(clip).with_suffix("").parts[-depth:]).replace("/", "_")
            if counts[name] > 1 and not own
            else name
            for name, (own, clip) in zip(names, pairs, strict=True)
        ]
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise InputError(f"--many: several clips are called {', '.join(sorted(double)[:5])}: give each a name=")
    return names


def tasks_of(jobs: Sequence[ClipJob]) -> list[Task]:
    """The jobs as tasks of workers."""
    return [Task(job.name, (asdict(job.request), job.key)) for job in jobs]


def reconstruct_one(fields: Mapping[str, Any], key: str) -> bytes:
    """Reconstruct a clip, or go on with it; what is said of it goes to ``logs/NAME.txt`` beside its folder.

    Args:
        fields: of a `Request`. key: of the job.

    Returns:
        The answer as JSON: what ``reconstruct --json`` prints, its exit code, and the key of the request.

    Raises:
        InputError, MissingFileError, WorkError: as the command does.
    """
    from grasp_nodes.cli.reconstructing import reconstruct

    request = Request(**fields)
    path = request.output.parent / LOGS / f"{request.output.name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(path.open("a", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stderr(log))
        stack.enter_context(contextlib.redirect_stdout(printed))
        code = reconstruct(request)
    lines = printed.getvalue().strip().splitlines()
    if not lines:
        raise WorkError(f"{request.clip}: stopped before it was done (exit code {code}); see {path}")
    return json.dumps({"key": key, "exit_code": code, "clip": request.clip, **json.loads(lines[-1])}).encode()


class ManyResults:
    """The answers in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, name: str, answer: bytes, lost: Sequence[str] = ()) -> None:
        """Write an answer, whole.

        Args:
            name: of the clip. answer: JSON, an object. lost: why each attempt before came to nothing.

        Raises:
            OSError: it cannot be written.
        """
        if lost:
            answer = json.dumps({**json.loads(answer), "lost_attempts": list(lost)}).encode()
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(answer)

    def of(self, job: ClipJob) -> dict[str, Any] | None:
        """The answer to this very request; None if there is none."""
        try:
            answer = json.loads(self._path(job.name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) and answer.get("key") == job.key else None

    def write_summary(self, jobs: Sequence[ClipJob], failed: Mapping[str, str], seconds: float) -> dict[str, Any]:
        """Write ``summary.json`` and ``summary.md``; returns the numbers of all clips together."""
        answers = {job.name: answer for job in jobs if (answer := self.of(job)) is not None}
        rows = [
            {"name": name, **{key: value for key, value in one.items() if key != "key"}}
            for name, one in answers.items()
        ]
        total = {
            "clips": len(jobs),
            "done": len(answers),
            "failed": len(failed),
            "tried_again": sum("lost_attempts" in one for one in answers.values()),
            "nothing_found": sum(one["exit_code"] == 1 for one in answers.values()),
            "frames": sum(int(one.get("frames_out") or 0) for one in answers.values()),
            "seconds": round(seconds, 1),
            "output": str(self.folder),
        }
        self._write("summary.json", json.dumps({**total, "rows": rows, "failures": dict(failed)}, indent=1) + "\n")
        self._write("summary.md", _page(total, rows, failed))
        return total

    def _write(self, name: str, text: str) -> None:
        with replacing(self.folder / name) as stream:
            stream.write(text.encode())

    def _path(self, name: str) -> Path:
        return self.folder / RESULTS / f"{name}.json"


COLUMNS = (
    ("frames_out", "frames", "{:.0f}"),
    ("found_share", "hand found", "{:.0%}"),
    ("object_answered_share", "object placed", "{:.0%}"),
    ("hand_mpjpe_mm", "hand mm", "{:.1f}"),
    ("object_add_s_mm", "object mm", "{:.1f}"),
    ("seconds", "s", "{:.0f}"),
)


def _told(value: Any, form: str) -> str:
    """An entry of the table; seconds are told by stage."""
    if value is None:
        return ""
    return form.format(sum(value.values()) if isinstance(value, Mapping) else value)


def _page(total: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str]) -> str:
    shown = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    counted = (
        f"{total['done']} of {total['clips']} clips are done ({total['frames']} frames), {total['failed']} failed, in "
        f"{total['nothing_found']} neither hand nor object was found."
    )
    head = "| clip | " + " | ".join(title for _, title, _ in shown) + " | pictures |"
    lines = ["# Reconstructed clips", "", counted, "", head, "|---|" + "---|" * (len(shown) + 1)]
    for row in sorted(rows, key=lambda one: one["name"]):
        values = [_told(row.get(key), form) for key, _, form in shown]
        name = row["name"].replace("|", "\\|")
        lines.append(f"| {name} | {' | '.join(values)} | [sheet]({row['name']}/sheet.png) |")
    lost = {row["name"]: row["lost_attempts"] for row in rows if "lost_attempts" in row}
    if lost:
        lines += ["", "## Done at a further attempt", ""]
        lines += [f"- {name}: {'; '.join(reasons)}" for name, reasons in sorted(lost.items())]
    if failed:
        lines += ["", "## Failed", ""]
        lines += [f"- {name}: {why.strip().splitlines()[-1]}" for name, why in sorted(failed.items())]
    return "\n".join(lines) + "\n"
