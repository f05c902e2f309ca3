"""Where a training stands, as a file: network, average, optimiser and everything that steers the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.learning.ema import AveragedNetwork
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.tensor_files import read_tensors, write_tensors

CHECKPOINT_FILE = "checkpoint.safetensors"
_WHAT = "checkpoint of a training"
_MAY_CHANGE = ("steps", "minutes", "device", "log_every", "evaluate_every", "checkpoint_minutes", "unused_parameters")
"""Settings that a training may go on with when they are others."""


@dataclass
class Standing:
    """What steers a training besides its tensors.

    step: how many are done. seconds: they took. plateau: product of the reductions of the rate. waited: evaluations
    since the lowest. lowest: of the monitored value. values: of the last evaluation. sums: since the last line of the
    curves. summed: steps in them.
    """

    step: int = 0
    seconds: float = 0.0
    plateau: float = 1.0
    waited: int = 0
    lowest: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0


class Checkpoint:
    """Saves and loads the state of a training in a folder.

    belongs_to: what the training is of (method, configuration, data): with anything else it does not go on.
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedNetwork | None,
        scaler: torch.amp.GradScaler,
        settings: TrainingSettings,
        belongs_to: Mapping[str, Any],
    ) -> None:
        self.path = folder / CHECKPOINT_FILE
        self._network, self._optimizer, self._average, self._scaler = network, optimizer, average, scaler
        self._names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        fixed = {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE}
        shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        key = json.dumps([fixed, shapes, dict(belongs_to)], sort_keys=True, default=str)
        self._key = hashlib.sha256(key.encode()).hexdigest()

    def save(self, standing: Standing, best: Mapping[str, Tensor] | None) -> None:
        """Write the file whole.

        Raises:
            OSError: it cannot be written.
        """
        states = self._optimizer.state_dict()["state"]
        tensors = {f"network/{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {
            f"optimizer/{self._names[k]}/{name}": tensor
            for k, state in states.items()
            for name, tensor in state.items()
            if isinstance(tensor, Tensor)
        }
        if self._average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self._average.state().items()}
        if best is not None:
            tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
        description = {
            "key": self._key,
            "standing": asdict(standing),
            "average_updates": self._average.updates if self._average is not None else 0,
            "scaler": self._scaler.state_dict(),
        }
        write_tensors(self.path, tensors, description)

    def load(self) -> tuple[Standing, dict[str, Tensor] | None]:
        """Take up the saved state, if there is one; the standing, and the best network so far.

        Raises:
            InputError: the file is damaged, or of another training.
        """
        if not self.path.is_file():
            return Standing(), None
        tensors, description = read_tensors(self.path, _WHAT)
        if description.get("key") != self._key:
            raise InputError(
                f"{self.path}: is of a training with another network, data or settings; name another folder, or delete "
                "it to begin anew"
            )
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}, "optimizer": {}}
        try:
            for name, tensor in tensors.items():
                part, _, rest = name.partition("/")
                parts[part][rest] = tensor
            standing = Standing(**description["standing"])
            self._network.load_state_dict(parts["network"])
            self._load_optimizer(parts["optimizer"])
            if self._average is not None:
                self._average.network.load_state_dict(parts["average"])
                self._average.updates = int(description["average_updates"])
            self._scaler.load_state_dict(description["scaler"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.path}: not a readable {_WHAT} ({error}); delete it to begin anew") from error
        return standing, parts["best"] or None

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        numbers = {name: k for k, name in enumerate(self._names)}
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            parameter, _, slot = name.rpartition("/")
            states.setdefault(numbers[parameter], {})[slot] = tensor
        self._optimizer.load_state_dict({"state": states, "param_groups": self._optimizer.state_dict()["param_groups"]})
