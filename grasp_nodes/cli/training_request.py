"""What is asked of any training, and what it gives back; options as a user writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from grasp_nodes.errors import InputError

Size = Literal["small", "paper"]
ProgressReport = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""
Settings = TypeVar("Settings")


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


def is_first_process() -> bool:
    """Whether this process writes and talks: under torchrun one does, alone the only one."""
    return os.environ.get("RANK", "0") == "0"


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


def apply_options(settings: Settings, options: Mapping[str, str]) -> Settings:
    """A dataclass with some of its fields replaced by what a user wrote.

    Args:
        settings: instance of a dataclass of numbers, words, switches, None, and tuples of them (JSON).
        options: by name of the field.

    Raises:
        InputError: no such field, or a value that it cannot have; the message lists what there is.
    """
    known = {one.name: getattr(settings, one.name) for one in fields(settings)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, text in options.items():
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


def words_of(text: str) -> list[str]:
    """The words of a list that is separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def split_options(options: Mapping[str, str], *settings: Any) -> list[Any]:
    """Dataclasses with those of their fields replaced that a user named; each name belongs to one of them.

    Raises:
        InputError: a name that none of them knows, or a value that it cannot have.
    """
    known = [{one.name for one in fields(each)} for each in settings]
    wrong = sorted(set(options) - set().union(*known))
    if wrong:
        listed = ", ".join(f"{one.name}={getattr(each, one.name)}" for each in settings for one in fields(each))
        raise InputError(f"--set {wrong[0]}: there is no such setting; expected some of {listed}")
    return [
        apply_options(each, {name: text for name, text in options.items() if name in names})
        for each, names in zip(settings, known, strict=True)
    ]
