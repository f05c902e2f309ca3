"""The running average of a network's weights, which samples better than the weights of any one step."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError


class AveragedNetwork:
    """A copy of a network whose parameters follow it exponentially; buffers are those of the network.

    After n updates a step counts for at most ``1 - min(decay, (1 + n) / (10 + n))``: the first, wild steps are soon
    forgotten.

    network: the copy, in evaluation mode, without gradients. updates: so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise InputError(f"decay of the average: expected 0 to below 1, got {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay
        self._mine: list[Tensor] = list(self.network.parameters())
        self._theirs: list[Tensor] = list(network.parameters())
        self._buffers = list(zip(self.network.buffers(), network.buffers(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights."""
        self.updates += 1
        share = 1.0 - min(self._decay, (1 + self.updates) / (10 + self.updates))
        # One call for all of them: a loop over the tensors of a large network costs as much as a small step.
        torch._foreach_lerp_(self._mine, [weights.detach() for weights in self._theirs], share)
        for mine, theirs in self._buffers:
            mine.copy_(theirs)

    def state(self) -> dict[str, Tensor]:
        """The copy's tensors by name."""
        return self.network.state_dict()
