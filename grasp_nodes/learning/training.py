"""The training loop of every method: alone or under torchrun, stopped at any time and gone on with to the bit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.interrupts import interrupts_noted
from grasp_nodes.learning.batches import Batch, Batches
from grasp_nodes.learning.checkpoints import Checkpoint
from grasp_nodes.learning.curves import Curves
from grasp_nodes.learning.ema import AveragedNetwork
from grasp_nodes.learning.processes import Processes, joined_processes
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step

Loss: TypeAlias = Callable[[Any, Batch, torch.Generator], "Tensor | Mapping[str, Tensor]"]
"""Of a network, a batch on its device, and a generator there: a scalar, or scalars by name. ``loss`` is made small, the
others are written down."""
Evaluation: TypeAlias = Callable[[Any], Mapping[str, float]]
"""Of a network in evaluation mode (the average, if there is one): values by name."""

LOSS = "loss"
EVALUATED = "evaluation/"
"""Before the names of an evaluation's values in the curves."""
_AGREE_EVERY = 10
"""steps after which several processes agree on the time and on stopping."""
_REPORT_S = 0.1

_log = logging.getLogger(__name__)


class TrainingError(InputError):
    """A training cannot go on; the message says at which step, and what to change."""


@dataclass(frozen=True)
class Report:
    """How far a training is. step: done. steps: in all. share: done, 0..1. seconds: of training, over all runs."""

    step: int
    steps: int
    share: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    network: the average where there is one, else the network itself; in evaluation mode. best: that network when the
    monitored value was lowest (its state by name); None without evaluation of it. step, seconds: of all runs together.
    values: of the last evaluation. rows: of the curves, in the first process.
    """

    network: nn.Module
    best: Mapping[str, Tensor] | None
    step: int
    seconds: float
    values: Mapping[str, float]
    rows: list[dict[str, Any]] = field(default_factory=list)


def train(
    network: nn.Module,
    loss: Loss,
    batches: Batches,
    settings: TrainingSettings,
    folder: Path,
    evaluate: Evaluation | None = None,
    progress: Callable[[Report], None] | None = None,
    belongs_to: Mapping[str, Any] | None = None,
    prefetch: bool = False,
) -> Trained:
    """Train a network, or go on training it.

    The parts of the network stay in the mode (training or evaluation) that they come in; parameters that need no
    gradient stay as they are. Ctrl-C, or SIGTERM, ends after the running step with a checkpoint; a second one, later
    than half a second, at once.

    Args:
        network: moved to the training's device. loss: see `Loss`. batches: of this process.
        settings: of the training. folder: of the checkpoint and the curves; made if absent.
        evaluate: runs every ``evaluate_every`` steps and at the end, in the first process, without gradients.
        progress: is told about ten times a second, in the first process.
        belongs_to: what is trained on what (JSON): a checkpoint of something else is refused.
        prefetch: whether a thread makes the next batch while a step runs; `batches` must allow that.

    Returns:
        The network. When the checkpoint has all steps already, nothing is trained.

    Raises:
        InputError: no device, a folder or a checkpoint that cannot be used, a loss that is no scalar.
        TrainingError: the loss is not finite. KeyboardInterrupt: stopped; the checkpoint is written.
        OSError: a file cannot be written.
    """
    with joined_processes(settings.device) as processes, torch.random.fork_rng(_own_devices(processes)):
        return _Training(network, loss, batches, settings, folder, evaluate, belongs_to or {}, processes).run(
            progress if processes.first else None, prefetch
        )


class _Training:
    """One run of the loop."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        batches: Batches,
        settings: TrainingSettings,
        folder: Path,
        evaluate: Evaluation | None,
        belongs_to: Mapping[str, Any],
        processes: Processes,
    ) -> None:
        self.settings, self.processes, self.batches, self.evaluate = settings, processes, batches, evaluate
        self.device = processes.device
        self.network = network.to(self.device)
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise InputError("training: the network has no parameter that needs a gradient")
        self.optimizer = _optimizer(self.parameters, settings)
        self.average = AveragedNetwork(network, settings.average) if settings.average is not None else None
        half = settings.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        self.dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(settings.precision)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"folder {folder}: cannot be made ({error})") from error
        self.checkpoint = Checkpoint(folder, network, self.optimizer, self.average, self.scaler, settings, belongs_to)
        self.standing, self.best = self.checkpoint.load()
        self.curves = Curves(folder, self.standing.step) if processes.first else None
        self.objective: nn.Module = _Objective(network, loss)
        if processes.world > 1:
            self.objective = nn.parallel.DistributedDataParallel(
                self.objective,
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                find_unused_parameters=settings.unused_parameters,
            )
        self.sums: dict[str, Tensor] = {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in self.standing.sums.items()
        }

    def run(self, progress: Callable[[Report], None] | None, prefetch: bool) -> Trained:
        """Until steps or time are over."""
        settings, standing = self.settings, self.standing
        saved = reported = time.monotonic()
        before = standing.seconds
        with ExitStack() as stack:
            asked_to_stop = stack.enter_context(interrupts_noted())
            asked_to_stop.are_urgent = True
            batch_of = stack.enter_context(_batch_source(self.batches, prefetch, settings.steps))
            start = time.monotonic()
            stop = self._over(standing.seconds)
            while not stop:
                step = Step(standing.step, self.processes.rank, self.processes.world, settings.seed)
                self._step(step, batch_of(step))
                now = time.monotonic()
                interrupted, standing.seconds = self._agreed(asked_to_stop(), before + now - start)
                stop = self._over(standing.seconds)
                self._after_step(last=stop)
                if progress is not None and (now - reported > _REPORT_S or stop):
                    reported = now
                    progress(Report(standing.step, settings.steps, self._share(standing.seconds), standing.seconds))
                if interrupted or stop or now - saved > 60.0 * settings.checkpoint_minutes:
                    saved = now
                    self._save()
                if interrupted and not stop:
                    raise KeyboardInterrupt
        network = self.network.eval() if self.average is None else self.average.network
        rows = self.curves.rows if self.curves is not None else []
        return Trained(network, self.best, standing.step, standing.seconds, standing.values, rows)

    def _step(self, step: Step, batch: Batch) -> None:
        settings = self.settings
        rate = settings.rate_at(step.number, self._share(self.standing.seconds), self.standing.plateau)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        _seed_globally(step.torch_seed(stream=1), self.device)
        there = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            terms = self.objective(there, step.generator(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms[LOSS]).backward()
        if settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach().double()
        self.standing.summed += 1
        self.standing.step += 1

    def _after_step(self, last: bool) -> None:
        """Curves and evaluation, where their step has come."""
        settings, standing = self.settings, self.standing
        evaluating = last or (settings.evaluate_every > 0 and standing.step % settings.evaluate_every == 0)
        evaluating = evaluating and self.evaluate is not None
        if not (evaluating or last or standing.step % settings.log_every == 0):
            return
        values = {"seconds": round(standing.seconds, 3), "rate": self.optimizer.param_groups[0]["lr"]}
        values |= self._means()
        if evaluating:
            standing.values = self._evaluated()
            values |= {f"{EVALUATED}{name}": value for name, value in standing.values.items()}
        if self.curves is not None:
            self.curves.add(standing.step, values)

    def _means(self) -> dict[str, float]:
        """Of the loss's terms since the last call, over all processes."""
        names = list(self.sums)
        means = self.processes.mean(torch.stack([self.sums[name] for name in names])) / self.standing.summed
        self.sums, self.standing.sums, self.standing.summed = {}, {}, 0
        found = dict(zip(names, means.tolist(), strict=True))
        if not math.isfinite(found[LOSS]):
            raise TrainingError(
                f"training: the loss is not finite after step {self.standing.step} "
                f"({', '.join(f'{name} {value:.4g}' for name, value in found.items())}); the last checkpoint is kept. "
                "Lower the rate, or look for the term"
            )
        return found

    def _evaluated(self) -> dict[str, float]:
        values = None
        if self.processes.first and self.evaluate is not None:
            with torch.no_grad(), _evaluating(self.network) as plain:
                network = plain if self.average is None else self.average.network
                values = {name: float(value) for name, value in self.evaluate(network).items()}
        values = self.processes.from_first(values)
        value = values.get(self.settings.monitor)
        if value is None:
            if self.settings.schedule == "plateau":
                raise InputError(
                    f"monitor {self.settings.monitor!r}: the schedule 'plateau' needs it; the evaluation gives "
                    f"{', '.join(values) or 'nothing'}"
                )
        elif math.isfinite(value) and (self.standing.lowest is None or value < self.standing.lowest):
            self.standing.lowest, self.standing.waited = value, 0
            network = self.network if self.average is None else self.average.network
            self.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        else:
            self.standing.waited += 1
            if self.standing.waited >= self.settings.patience:
                self.standing.plateau, self.standing.waited = self.standing.plateau * self.settings.decay, 0
        return values

    def _save(self) -> None:
        if self.curves is None:
            return
        self.standing.sums = {name: float(value) for name, value in self.sums.items()}
        if not all(math.isfinite(value) for value in self.standing.sums.values()):
            return  # the next line of the curves raises, and the checkpoint before is the better one
        self.checkpoint.save(self.standing, self.best)
        self.curves.draw()

    def _agreed(self, stop: bool, seconds: float) -> tuple[bool, float]:
        """Whether to stop, and the time: those of one process alone, or of all together every few steps."""
        if self.processes.world == 1:
            return stop, seconds
        if self.standing.step % _AGREE_EVERY and self.standing.step < self.settings.steps:
            return False, self.standing.seconds
        both = self.processes.largest(torch.tensor([float(stop), seconds], dtype=torch.float64))
        return bool(both[0]), float(both[1])

    def _share(self, seconds: float) -> float:
        steps = self.standing.step / self.settings.steps
        return steps if self.settings.minutes is None else max(steps, seconds / (60.0 * self.settings.minutes))

    def _over(self, seconds: float) -> bool:
        return self._share(seconds) >= 1.0


class _Objective(nn.Module):
    """The loss as a module: several processes need all that it calls of the network within one forward pass."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms by name."""
        found = self._loss(self.network, batch, generator)
        terms = {LOSS: found} if isinstance(found, Tensor) else dict(found)
        if LOSS not in terms:
            raise InputError(f"loss: expected a scalar or a term named {LOSS!r}, got {', '.join(terms) or 'nothing'}")
        wrong = [f"{name} {tuple(value.shape)}" for name, value in terms.items() if value.ndim]
        if wrong:
            raise InputError(f"loss: expected scalars, got shapes {', '.join(wrong)}")
        return terms


def _optimizer(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    # Fused: one pass over all tensors; otherwise the CPU goes through them one by one.
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            *(parameters, settings.rate, settings.momentum), weight_decay=settings.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    betas = (settings.momentum, 0.999)
    return kind(parameters, settings.rate, betas, weight_decay=settings.weight_decay, fused=True)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode; afterwards each part is in the mode it had."""
    modes = [(part, part.training) for part in network.modules()]
    try:
        yield network.eval()
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _batch_source(batches: Batches, prefetch: bool, steps: int) -> Iterator[Callable[[Step], Batch]]:
    """The batches as they are, or made one step ahead by a thread."""
    if not prefetch:
        yield batches
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        waiting: dict[int, Any] = {}

        def ahead(step: Step) -> Batch:
            ready = waiting.pop(step.number, None) or pool.submit(batches, step)
            following = step.number + 1
            batch = ready.result()
            if following < steps:
                waiting[following] = pool.submit(batches, Step(following, step.rank, step.world, step.seed))
            return batch

        yield ahead


def _seed_globally(seed: int, device: torch.device) -> None:
    """Of the generators from which dropout and the like draw.

    Not by `torch.manual_seed`: without an initialised GPU it keeps a stack trace of every call for later.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _own_devices(processes: Processes) -> list[int]:
    """GPUs whose global generator the training changes."""
    return [processes.device.index or 0] if processes.device.type == "cuda" else []
