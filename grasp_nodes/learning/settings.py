"""The settings of a training, and the learning rate that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from grasp_nodes.errors import InputError

Schedule = Literal["constant", "cosine", "step", "plateau"]
Precision = Literal["float32", "bfloat16", "float16"]
Optimizer = Literal["adamw", "adam", "sgd"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    steps: of the optimiser, in all. minutes: of training, in all, None = no limit; whichever is reached first ends it.
    With minutes the schedule follows the larger of the two shares, so that the rate has come down when the time is up;
    such a training depends on the machine's speed and cannot be repeated to the bit.
    optimizer, rate, weight_decay, momentum: `momentum` is beta 1 of Adam. clip_norm: of all gradients together.
    warmup: steps in which the rate rises from zero. schedule: ``cosine`` to `last_rate` times the rate; ``step``: times
    `decay` at each of the shares `milestones`; ``plateau``: times `decay` after `patience` evaluations in which
    `monitor` did not fall.
    average: decay of the weights' running average (EMA), None = none.
    precision: of the forward pass (autocast); weights stay float32.
    seed: of everything random. device: ``auto``, ``cpu``, ``cuda``.
    unused_parameters: with several processes, whether a step may leave some parameters without a gradient.
    log_every, evaluate_every: steps; 0 = no evaluation but the last. checkpoint_minutes: between checkpoints.
    monitor: the value of the evaluation whose lowest decides on ``plateau`` and `Trained.best`.
    """

    steps: int = 10_000
    minutes: float | None = None
    optimizer: Optimizer = "adamw"
    rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    clip_norm: float | None = 1.0
    warmup: int = 0
    schedule: Schedule = "cosine"
    last_rate: float = 0.02
    milestones: tuple[float, ...] = (0.5, 0.75)
    decay: float = 0.1
    patience: int = 5
    average: float | None = 0.999
    precision: Precision = "float32"
    seed: int = 0
    device: str = "auto"
    unused_parameters: bool = False
    log_every: int = 50
    evaluate_every: int = 1000
    checkpoint_minutes: float = 5.0
    monitor: str = "loss"

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("warmup", 0), ("patience", 1), ("seed", 0), ("log_every", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name}: expected {low} or more, got {getattr(self, name)}")
        if self.evaluate_every < 0:
            raise InputError(f"evaluate_every: expected 0 or more, got {self.evaluate_every}")
        for name, kinds in (("schedule", Schedule), ("precision", Precision), ("optimizer", Optimizer)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"{name}: expected one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}")
        for name in ("rate", "minutes", "clip_norm", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise InputError(f"{name}: expected above 0, got {value}")
        for name in ("last_rate", "decay", "momentum"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        if self.weight_decay < 0.0:
            raise InputError(f"weight_decay: expected 0 or more, got {self.weight_decay}")
        if self.average is not None and not 0.0 <= self.average < 1.0:
            raise InputError(f"average: expected 0 to below 1, got {self.average}")

    def rate_at(self, step: int, share: float, plateau: float = 1.0) -> float:
        """The learning rate of a step.

        Args:
            step: from 0. share: of the training that is done, 0..1. plateau: product of the reductions so far.
        """
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            factor = self.last_rate + (1.0 - self.last_rate) * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
        elif self.schedule == "step":
            factor = self.decay ** sum(share >= milestone for milestone in self.milestones)
        else:
            factor = plateau
        return self.rate * rising * factor
