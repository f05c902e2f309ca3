"""``grasp-nodes train``: the methods that can be trained, by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grasp_nodes.cli.long_work import INTERRUPTED, alone_in
from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, is_first_process
from grasp_nodes.data.workers import WorkError
from grasp_nodes.errors import GraspNodesError, InputError

_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


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
