"""The noun of a step: everything random in it follows from the seed, the process and the number of the step alone.

So a training that goes on after a stop needs no generator's state, and draws what it would have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Step:
    """number: from 0. rank, world: of the process, and how many there are. seed: of the training."""

    number: int
    rank: int = 0
    world: int = 1
    seed: int = 0

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Numpy's generator of this step in this process; another one for each `stream`."""
        return np.random.default_rng([self.seed, self.rank, self.number, stream])

    def generator(self, device: torch.device | str = "cpu", stream: int = 0) -> torch.Generator:
        """Torch's generator of this step in this process; another one for each `stream`."""
        return torch.Generator(device).manual_seed(self.torch_seed(stream))

    def torch_seed(self, stream: int = 0) -> int:
        """63 bits."""
        entropy = np.random.SeedSequence([self.seed, self.rank, self.number, stream, 1])
        return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
