"""``grasp-nodes export``: recordings as a data set for learning from demonstration, with a report of their faults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.console import Console

from grasp_nodes.cli.long_work import INTERRUPTED, progress_bar
from grasp_nodes.errors import GraspNodesError, InputError
from grasp_nodes.export.checks import ERROR, CheckOptions, Finding, check_recording
from grasp_nodes.export.demonstration import HAND, Demonstration
from grasp_nodes.export.sampling import SamplingOptions, sample
from grasp_nodes.export.sources import SourceOptions, find_recordings, open_recording
from grasp_nodes.hand.anatomy import HandAnatomy
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import Side

FAILED = 1
FORMATS = ("lerobot", "hdf5", "npz")
REPORT = "export_report.json"
SIDES: tuple[Side, ...] = ("right", "left")
DEFAULT_TASK = "manipulate the {object}"


@dataclass(frozen=True)
class Request:
    """What the user asked for; see the command's help.

    strict: warnings count as errors. joint_limits: rad or m, by joint.
    """

    format: str
    output: Path
    recordings: tuple[Path, ...]
    task: str = ""
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    source: SourceOptions = field(default_factory=SourceOptions)
    joint_limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    robot_type: str = "human_hand"
    codec: str = "h264"
    strict: bool = False
    hand_model: Path | None = None
    as_json: bool = False


class DemonstrationWriter(Protocol):
    """A data set that is open for more."""

    @property
    def episodes(self) -> int:
        """How many there are."""
        ...

    def add(self, demonstration: Demonstration, facts: Mapping[str, Any]) -> int:
        """Append one; returns its number."""
        ...


@dataclass
class Outcome:
    """What became of a recording: its episode's number, or why there is none; and its faults."""

    source: str
    episode: int | None = None
    frames: int = 0
    task: str = ""
    error: str = ""
    findings: list[Finding] = field(default_factory=list)


def export(request: Request) -> int:
    """Check every recording and append it to the data set, or say why not.

    Returns:
        Exit code: 0; 1 if a recording was refused; 130 after Ctrl-C, what was finished being kept.

    Raises:
        InputError, MissingFileError: there is no recording, or the data set cannot be used.
        MissingDependencyError: the format's package is not installed.
    """
    console = Console(stderr=True)
    paths = find_recordings(list(request.recordings))
    model = None if request.hand_model is None else str(request.hand_model)
    anatomies: dict[str, HandAnatomy] = {side: HandAnatomy.of_model(load_hand_model(side, model)) for side in SIDES}
    checks = CheckOptions(request.joint_limits, anatomies)
    outcomes: list[Outcome] = []
    code = 0
    with _writer(request) as writer, progress_bar("recordings") as progress:
        try:
            for number, path in enumerate(paths):
                progress(number, len(paths))
                outcomes.append(_export_one(path, request, checks, writer))
                _tell(console, outcomes[-1])
        except KeyboardInterrupt:
            code = INTERRUPTED
        total = writer.episodes
    _write_report(request, outcomes)
    refused = sum(one.episode is None for one in outcomes)
    if request.as_json:
        row = {
            "output": str(request.output),
            "format": request.format,
            "episodes": total,
            "added": len(outcomes) - refused,
            "refused": refused,
            "frames": sum(one.frames for one in outcomes),
            "warnings": sum(one.severity != ERROR for outcome in outcomes for one in outcome.findings),
        }
        typer.echo(json.dumps(row))
    else:
        told = f", {refused} refused" if refused else ""
        typer.echo(f"{request.output}: {len(outcomes) - refused} demonstrations added{told}, {total} in all")
    return code or (FAILED if refused else 0)


def _writer(request: Request) -> AbstractContextManager[DemonstrationWriter]:
    if request.format == "lerobot":
        from grasp_nodes.export.lerobot.dataset import LeRobotDataset

        return LeRobotDataset(request.output, request.robot_type, request.codec)
    if request.format == "hdf5":
        from grasp_nodes.export.robomimic import RobomimicFile

        return RobomimicFile(request.output)
    if request.format == "npz":
        from grasp_nodes.export.arrays import ArrayFolder

        return ArrayFolder(request.output)
    raise InputError(f"export: expected one of {', '.join(FORMATS)}, got {request.format!r}")


def _export_one(path: Path, request: Request, checks: CheckOptions, writer: DemonstrationWriter) -> Outcome:
    outcome = Outcome(str(path))
    try:
        recording = open_recording(path, request.source)
        outcome.findings = check_recording(recording, checks)
        bad = [one for one in outcome.findings if one.severity == ERROR or request.strict]
        if bad:
            outcome.error = "; ".join(one.text for one in bad)
            return outcome
        sampled = sample(recording, request.task or recording.task, request.sampling)
        demonstration = sampled.demonstration
        if not demonstration.task:
            task = DEFAULT_TASK.format(object=demonstration.object_id or "object")
            demonstration = replace(demonstration, task=task)
        facts = {
            "source": str(path.resolve()),
            "side": demonstration.side,
            "object_id": demonstration.object_id,
            "is_metric": demonstration.is_metric,
            "frame": "the camera's optical frame, m and rad",
            "first_stamp": int(demonstration.stamps[0]),
            "last_stamp": int(demonstration.stamps[-1]),
            "repeated_frames": sampled.repeated,
            "frames_without_hand": sampled.unseen,
            "state": "hand" if HAND not in demonstration.columns and recording.states else "robot",
            "findings": [asdict(one) for one in outcome.findings],
        }
        outcome.episode = writer.add(demonstration, facts)
        outcome.frames, outcome.task = len(demonstration), demonstration.task
    except GraspNodesError as error:
        outcome.error = str(error)
    return outcome


def _tell(console: Console, outcome: Outcome) -> None:
    if outcome.episode is None:
        text = f"{outcome.source}: refused: {outcome.error}"
    else:
        text = f"{outcome.source}: episode {outcome.episode}, {outcome.frames} frames, task {outcome.task!r}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    for finding in outcome.findings:
        console.print(
            f"  {finding.severity} ({finding.check}): {finding.text}", markup=False, highlight=False, soft_wrap=True
        )


def _write_report(request: Request, outcomes: list[Outcome]) -> None:
    """Beside or within the data set: of this run."""
    folder = request.output.parent if request.format == "hdf5" else request.output
    content = [asdict(one) for one in outcomes]
    try:
        (folder / REPORT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder / REPORT}: cannot be written ({error})") from error


def read_joint_limits(path: Path | None) -> dict[str, tuple[float, float]]:
    """Joint limits of a robot's description (URDF).

    Raises:
        InputError, MissingFileError: it cannot be read.
    """
    if path is None:
        return {}
    from grasp_nodes.retargeting.robot_description import read_description

    joints = read_description(path, with_shapes=False).joints
    return {joint.name: (joint.lower, joint.upper) for joint in joints}
