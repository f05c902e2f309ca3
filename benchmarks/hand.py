"""Forward and backward of the hand model beside smplx's MANO layer, both eager, one thread, in alternation.

Both get the same arrays, parameters and loss (vertices and joints; gradients of orientation, pose, betas and
translation). The `dense` rows give both a hand with pose correctives, as MANO's own files have; the open hand has none
and our model skips them.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Row
from grasp_nodes.errors import MissingDependencyError
from grasp_nodes.hand.arrays import HandArrays
from grasp_nodes.hand.files import load_hand_arrays, mano_entries
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

THREADS = 1
_SECONDS = 6.0  # of measurement per row

Step = Callable[[], Tensor]


def rows() -> list[Row]:
    """Times per forward and backward, ms, and the largest difference of vertices, m."""
    arrays = load_hand_arrays("right")
    random = np.random.default_rng(0).standard_normal(arrays.posedirs.shape)
    dense = replace(arrays, posedirs=random * 2e-4)
    answer: list[Row] = []
    difference = 0.0
    for prefix, hand in (("lbs", arrays), ("lbs_dense", dense)):
        ours, theirs = HandModel(hand), _smplx(hand)
        for batch in (1, 64, 512):
            leaves = _leaves(batch)
            steps = [_our_step(ours, leaves), _smplx_step(theirs, leaves)]
            difference = max(difference, float((steps[0]() - steps[1]()).abs().max()))
            answer.append(_row(f"{prefix}_fwd_bwd_b{batch}_ms", steps))
    compiled = torch.compile(HandModel(arrays), dynamic=False)
    leaves = _leaves(64)
    steps = [_our_step(compiled, leaves), _smplx_step(_smplx(arrays), leaves)]
    try:
        steps[0]()
    except RuntimeError:  # no compiler on this machine: the eager rows stand alone
        pass
    else:
        answer.append(_row("lbs_compiled_fwd_bwd_b64_ms", steps))
    answer.append(Row("lbs_max_difference_m", difference, "m", "smplx"))
    return answer


def _leaves(batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(batch)
    widths = {"global_orient": (3, 1.0), "hand_pose": (45, 0.3), "betas": (10, 1.0), "transl": (3, 0.3)}
    return tuple(torch.randn(batch, n, generator=generator) * s for n, s in widths.values())


def _smplx(hand: HandArrays) -> Any:
    try:
        import smplx
        from smplx.utils import Struct
    except ImportError as error:
        raise MissingDependencyError("the baseline needs smplx: pip install 'grasp_nodes[smplx]'") from error
    with redirect_stdout(io.StringIO()):  # it prints a warning about the number of betas
        return smplx.MANO(
            model_path="", data_struct=Struct(**mano_entries(hand)), is_rhand=True, use_pca=False, flat_hand_mean=True
        )


def _our_step(model: Callable[[HandParams], Any], values: tuple[Tensor, ...]) -> Step:
    scale = torch.ones(len(values[0]))

    def step() -> Tensor:
        orient, pose, betas, transl = (value.detach().requires_grad_() for value in values)
        output = model(HandParams(orient, pose, betas, transl, scale))
        (output.vertices.square().sum() + output.joints.square().sum()).backward()
        return output.vertices.detach()

    return step


def _smplx_step(model: Any, values: tuple[Tensor, ...]) -> Step:
    def step() -> Tensor:
        orient, pose, betas, transl = (value.detach().requires_grad_() for value in values)
        output = model(global_orient=orient, hand_pose=pose, betas=betas, transl=transl)
        (output.vertices.square().sum() + output.joints.square().sum()).backward()
        return output.vertices.detach()

    return step


def _row(name: str, steps: list[Step]) -> Row:
    """Medians of interleaved repeats, so that other load meets both alike."""
    for step in steps:
        step()
    seconds: list[list[float]] = [[], []]
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or len(seconds[0]) < 5:
        for k, step in enumerate(steps):
            start = time.perf_counter()
            step()
            seconds[k].append(time.perf_counter() - start)
    ours, theirs = (1e3 * statistics.median(times) for times in seconds)
    return Row.time(name, ours, "ms", "smplx.MANO eager", theirs)
