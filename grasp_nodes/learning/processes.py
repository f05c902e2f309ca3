"""The processes of one training: alone, or as many as ``torchrun`` started."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from grasp_nodes.errors import InputError


@dataclass(frozen=True)
class Processes:
    """One process among all. rank: its number. world: how many. device: it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Of a tensor, over all processes; all must call it."""
        return self._reduced(values, dist.ReduceOp.SUM) / self.world

    def largest(self, values: Tensor) -> Tensor:
        """Of each element, over all processes; all must call it."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def from_first(self, values: dict[str, float] | None) -> dict[str, float]:
        """What the first process has; all must call it."""
        held = [values]
        if self.world > 1:
            dist.broadcast_object_list(held, src=0, device=self.device)
        return held[0] or {}

    def _reduced(self, values: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        if self.world == 1:
            return values
        values = values.to(self.device, copy=True)
        dist.all_reduce(values, how)
        return values


@contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun, this one alone.

    A group that the caller has joined already is used and left open. (Who joins one for DistributedDataParallel does
    well to import ``torch._dynamo`` before: imported later, as DistributedDataParallel does, it holds the group for
    ever, and threads that outlive their group abort some processes as they end.)

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``: a GPU where there is one.

    Raises:
        InputError: no such device here, or more processes on this machine than GPUs.
    """
    chosen = find_device(device)
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
        return
    if not started:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"device cuda: torchrun started process {local + 1} on this machine, which has "
                f"{torch.cuda.device_count()} GPUs: give torchrun --nproc-per-node={torch.cuda.device_count()}"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    # Before joining, see above: DistributedDataParallel would import it after.
    importlib.import_module("torch._dynamo")
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
        # A process that leaves while another one still talks to it may be aborted by gloo's own threads.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def find_device(device: str) -> torch.device:
    """The device of a name, or the best there is for ``auto``.

    Raises:
        InputError: it does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without that kind of device
        raise InputError(f"device {device!r}: not usable here ({error}); expected auto, cpu or cuda") from error
    return found
