"""``grasp-nodes train``: the methods that can be trained, by name, and what is common to training any of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grasp_nodes.cli.long_work import INTERRUPTED, alone_in
from grasp_nodes.data.workers import WorkError
from grasp_nodes.errors import GraspNodesError, InputError

Size = Literal["small", "paper"]
ProgressReport = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""
Settings = TypeVar("Settings")

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@dataclass(frozen=True)
class TrainingRequest:
    """What a user asks of any method; None = what suits the method.

    output: folder of the weights and of what a stopped training goes on from. data: file or folder that it learns from,
    None = the published set. size: ``small`` as shipped, or as large as in the ``paper``. steps, minutes, batch: of the
    training. seed: of everything random. device: ``auto``, ``cpu``, ``cuda``.
    options: of the method alone, by name; what a method does not know it refuses (`apply_options`).
    command: that was given, for the card of the weights.
    """

    output: Path
    data: Path | None = None
    size: Size = "small"
    steps: int | None = None
    minutes: float | None = None
    batch: int | None = None
    seed: int = 0
    device: str = "auto"
    options: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        if self.size not in get_args(Size):
            raise InputError(f"size: expected one of {', '.join(get_args(Size))}, got {self.size!r}")


@dataclass(frozen=True)
class Outcome:
    """weights: the file that was written. card: of it. usage: how it is used, in one line."""

    weights: Path
    card: Mapping[str, Any]
    usage: str = ""


@dataclass(frozen=True)
class TrainedMethod:
    """about: what is trained, in a few words. train: does it; heavy imports belong inside."""

    about: str
    train: Callable[[TrainingRequest, ProgressReport], Outcome]


def _view_features(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_view_features import train

    return train(request, report)


def _fastgrasp_flow(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_flow import train

    return train(request, report)


def _honet(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_miho import train

    return train("honet", request, report)


def _picr(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_miho import train

    return train("picr", request, report)


def _fastgrasp(part: str) -> Callable[[TrainingRequest, ProgressReport], Outcome]:
    def run(request: TrainingRequest, report: ProgressReport) -> Outcome:
        from grasp_nodes.cli.training_fastgrasp import train

        return train(part, request, report)

    return run


def _grabnet(part: str) -> Callable[[TrainingRequest, ProgressReport], Outcome]:
    def run(request: TrainingRequest, report: ProgressReport) -> Outcome:
        from grasp_nodes.cli.training_grabnet import train

        return train(part, request, report)

    return run


def _choir(part: str) -> Callable[[TrainingRequest, ProgressReport], Outcome]:
    def run(request: TrainingRequest, report: ProgressReport) -> Outcome:
        from grasp_nodes.cli.training_choir import train

        return train(part, request, report)

    return run


def _jhod(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_jhod import train

    return train(request, report)


def _jhod_objects(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_jhod import train_object_part

    return train_object_part(request, report)


def _landmark_reader(request: TrainingRequest, report: ProgressReport) -> Outcome:
    from grasp_nodes.cli.training_landmark_reader import train

    return train(request, report)


METHODS: Mapping[str, TrainedMethod] = {
    "cvae": TrainedMethod("FastGrasp's baseline", _fastgrasp("cvae")),
    "fastgrasp-adaptation": TrainedMethod("FastGrasp's third part", _fastgrasp("fastgrasp-adaptation")),
    "fastgrasp-autoencoder": TrainedMethod("FastGrasp's first part", _fastgrasp("fastgrasp-autoencoder")),
    "fastgrasp-flow": TrainedMethod("grasps of any object in milliseconds", _fastgrasp_flow),
    "fastgrasp-latent": TrainedMethod("FastGrasp's second part", _fastgrasp("fastgrasp-latent")),
    "grabnet": TrainedMethod("GrabNet's CoarseNet", _grabnet("grabnet")),
    "grabnet-refine": TrainedMethod("GrabNet's RefineNet", _grabnet("grabnet-refine")),
    "honet": TrainedMethod("hand and object poses from an image", _honet),
    "jointdiffusion": TrainedMethod("CHOIR's network: refines grasps and makes new ones", _choir("jointdiffusion")),
    "keypoint": TrainedMethod("CHOIR's keypoint baseline", _choir("keypoint")),
    "jhod": TrainedMethod("hands with their objects, or for given ones", _jhod),
    "jhod-objects": TrainedMethod("JHOD's auto-encoder of objects", _jhod_objects),
    "landmark-reader": TrainedMethod("what landmarks say of a hand's pose", _landmark_reader),
    "picr": TrainedMethod("where a hand touches an object, from an image", _picr),
    "view-features": TrainedMethod("the network of the Fréchet distance", _view_features),
}


def is_first_process() -> bool:
    """Whether this process writes and talks: under torchrun one does, alone the only one."""
    return os.environ.get("RANK", "0") == "0"


def train_method(method: str, request: TrainingRequest, as_json: bool) -> int:
    """Train a network, or go on training it. Under torchrun the first process alone writes and talks.

    Args:
        method: one of `METHODS`. request: see there. as_json: one JSON object, the card, as the last line.

    Returns:
        Exit code: 0, or 130 after Ctrl-C.

    Raises:
        InputError: no such method, or data that cannot be used. MissingFileError: no data.
        WorkError: the folder cannot be written, as on a full disk.
    """
    if method not in METHODS:
        known = ", ".join(f"{name} ({one.about})" for name, one in METHODS.items())
        raise InputError(f"method {method!r}: cannot be trained; expected one of {known}")
    first = is_first_process()
    console = Console(stderr=True, quiet=not first)
    try:
        with ExitStack() as stack:
            if first:
                stack.enter_context(alone_in(request.output))
            bar = stack.enter_context(Progress(*_COLUMNS, console=console, transient=True))
            tasks: dict[str, Any] = {}

            def report(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done, total=total)

            outcome = METHODS[method].train(request, report)
    except KeyboardInterrupt:
        console.print(f"Stopped. What is finished is kept in {request.output}: the same command goes on from there.")
        return INTERRUPTED
    except GraspNodesError:
        raise  # a file that is missing is an OSError, too
    except OSError as error:
        raise WorkError(
            f"output {request.output}: cannot be written ({error}); what is finished is kept: make room there and run "
            "the same command again"
        ) from error
    if first:
        for name, value in outcome.card.items():
            typer.echo(f"{name}: {value}")
        typer.echo(f"{outcome.weights}: {outcome.usage}" if outcome.usage else str(outcome.weights))
        if as_json:
            typer.echo(json.dumps(outcome.card))
    return 0


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` by name.

    Raises:
        InputError: not of that form, or named twice.
    """
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (name, equals, _) in zip(words, pairs, strict=True) if not (name and equals)]
    if wrong:
        raise InputError(f"--set {wrong[0]}: expected NAME=VALUE")
    names = [name for name, _, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"--set: {', '.join(twice)} given more than once")
    return {name: value for name, _, value in pairs}


def apply_options(settings: Settings, options: Mapping[str, str], *others: str) -> Settings:
    """A dataclass with some of its fields replaced by what a user wrote.

    Args:
        settings: instance of a dataclass of numbers, words, switches, None, and tuples of them (JSON).
        options: by name of the field. others: names that are meant for something else.

    Raises:
        InputError: no such field, or a value that it cannot have; the message lists what there is.
    """
    known = {one.name: getattr(settings, one.name) for one in fields(settings)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, text in options.items():
        if name in others:
            continue
        if name not in known:
            listed = ", ".join(f"{key}={value}" for key, value in known.items())
            raise InputError(f"--set {name}: there is no such setting; expected some of {listed}")
        changes[name] = _value(name, text, known[name])
    return replace(settings, **changes)  # type: ignore[type-var]


def _value(name: str, text: str, default: Any) -> Any:
    """A word as it is where the default is one; otherwise JSON of the default's kind."""
    if isinstance(default, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    kinds: tuple[type, ...] = (type(default),)
    if default is None:
        return value
    if isinstance(default, float):
        kinds = (float, int)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise InputError(f"--set {name}={text}: expected a value such as {json.dumps(default)}")
    return float(text) if isinstance(default, float) else value
