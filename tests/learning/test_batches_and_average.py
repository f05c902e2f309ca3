"""Batches in shuffled order, the randomness of a step, the running average, and curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grasp_nodes.errors import InputError
from grasp_nodes.learning.batches import ArrayBatches, ShuffledRows
from grasp_nodes.learning.curves import draw_curves, read_curves
from grasp_nodes.learning.ema import AveragedNetwork
from grasp_nodes.learning.steps import Step


@given(count=st.integers(1, 40), batch=st.integers(1, 60), world=st.integers(1, 3), seed=st.integers(0, 5))
def test_each_pass_takes_every_row_once(count, batch, world, seed):
    rows = ShuffledRows(count, batch, seed)
    steps = -(-3 * count // (batch * world))
    drawn = np.concatenate([rows(Step(n, rank, world)) for n in range(steps) for rank in range(world)])
    for start in range(0, 3 * count, count):
        assert sorted(drawn[start : start + count]) == list(range(count))


def test_order_changes_with_pass_and_seed_only():
    rows = ShuffledRows(100, 100, 1)
    first, second = rows(Step(0)), rows(Step(1))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, ShuffledRows(100, 100, 2)(Step(0)))
    assert np.array_equal(ShuffledRows(100, 100, 1)(Step(1)), second)  # asked for without the first
    assert np.array_equal(rows(Step(0)), first)  # asked for again, later


def test_batches_are_rows_of_all_arrays(tmp_path):
    mapped = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.float16, (20, 3))
    mapped[:] = np.arange(20)[:, None]
    batches = ArrayBatches(
        {"image": mapped, "number": torch.arange(20), "name": np.arange(20, dtype=np.int32)}, 6, rows=np.arange(5, 20)
    )
    batch = batches(Step(0))
    assert batch["image"].dtype == torch.float32
    assert batch["number"].min() >= 5
    np.testing.assert_array_equal(batch["image"][:, 2], batch["number"])
    np.testing.assert_array_equal(batch["name"], batch["number"])
    assert len(batches) == 15


def test_batches_that_cannot_be():
    with pytest.raises(InputError, match="one length"):
        ArrayBatches({"a": np.zeros(3), "b": np.zeros(4)}, 2)
    with pytest.raises(InputError, match="at least one row"):
        ArrayBatches({"a": np.zeros(0)}, 2)


def test_steps_draw_independently():
    steps = [Step(n, rank, 2, seed) for n in range(20) for rank in range(2) for seed in range(2)]
    drawn = {(*step.rng().integers(2**62, size=2).tolist(), step.torch_seed()) for step in steps}
    assert len(drawn) == len(steps)
    assert Step(3, 1, 2, 7).rng().random() == Step(3, 1, 2, 7).rng().random()
    assert not torch.equal(*(torch.randn(4, generator=Step(3).generator(stream=stream)) for stream in (0, 1)))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
def test_average_is_the_recursion(decay):
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = AveragedNetwork(network, decay)
    expected = network[0].weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    for n in range(1, 30):
        with torch.no_grad():
            network[0].weight.copy_(torch.randn(2, 2, generator=generator))
            network[1].running_mean.fill_(n)
        average.update()
        kept = min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * network[0].weight.detach()
    torch.testing.assert_close(average.network[0].weight, expected)
    assert (average.network[1].running_mean == 29).all()
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_average_refuses_a_decay_of_one():
    with pytest.raises(InputError, match="decay"):
        AveragedNetwork(nn.Linear(1, 1), 1.0)


def test_curves_file_that_was_cut_off(tmp_path):
    path = tmp_path / "curves.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_curves(path) == [{"step": 1, "loss": 2.0}]
    assert read_curves(tmp_path / "none") == []


def test_curve_falls_where_values_fall():
    rows = [{"step": step, "loss": 10.0 ** (-step / 50)} for step in range(101)]
    picture = draw_curves(rows)
    blue = np.argwhere((picture[..., 0].astype(int) - picture[..., 2] > 60)[60:240, 60:420])
    # On a logarithmic scale an exponential is a straight line from the upper left to the lower right.
    height, place = blue.T
    slope, offset = np.polyfit(place, height, 1)
    assert slope == pytest.approx(180 / 360, abs=0.03)
    assert np.abs(height - slope * place - offset).max() < 4
    assert draw_curves([]) is None
    assert draw_curves([{"step": 1, "loss": None}]) is None
