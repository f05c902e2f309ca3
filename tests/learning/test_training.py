"""The training loop: against closed forms, against itself after a stop, and two processes against one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grasp_nodes.errors import InputError
from grasp_nodes.learning.batches import ArrayBatches
from grasp_nodes.learning.checkpoints import CHECKPOINT_FILE
from grasp_nodes.learning.curves import CURVES_FILE, PICTURE_FILE, read_curves
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import TrainingError, train

ROWS = 50


def make_arrays() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(ROWS, 4, generator=generator)
    return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5, 3.0])[:, None] + 0.7}


def make_network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 1))


def noisy_loss(network, batch, generator):
    noise = 0.1 * torch.randn(batch["x"].shape, generator=generator)
    error = network(batch["x"] + noise) - batch["y"]
    return {"loss": error.square().mean(), "mean_error": error.mean()}


def plain_loss(network, batch, generator):
    return (network(batch["x"]) - batch["y"]).square().mean()


def linear(value: float = 0.0) -> nn.Linear:
    layer = nn.Linear(4, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


class StopsAt:
    """Batches during which somebody presses Ctrl-C."""

    def __init__(self, batches, step: int, how: int = signal.SIGINT) -> None:
        self.batches, self.step, self.how = batches, step, how

    def __call__(self, step: Step):
        if step.number == self.step:
            os.kill(os.getpid(), self.how)
        return self.batches(step)


def states_equal(first, second) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_stopped_training_goes_on_to_the_bit(tmp_path, precision, schedule):
    settings = TrainingSettings(
        steps=40, precision=precision, schedule=schedule, patience=1, log_every=7, evaluate_every=10, device="cpu"
    )
    arrays = make_arrays()
    batches = ArrayBatches(arrays, 8, seed=1)

    def evaluate(network):
        return {"loss": float((network(arrays["x"]) - arrays["y"]).square().mean())}

    whole = train(make_network(), noisy_loss, batches, settings, tmp_path / "whole", evaluate)
    for stop, how in ((13, signal.SIGINT), (27, signal.SIGTERM)):
        with pytest.raises(KeyboardInterrupt):
            train(make_network(), noisy_loss, StopsAt(batches, stop, how), settings, tmp_path / "parts", evaluate)
    parts = train(make_network(), noisy_loss, batches, settings, tmp_path / "parts", evaluate)

    assert whole.step == parts.step == 40
    assert states_equal(whole.network.state_dict(), parts.network.state_dict())
    assert states_equal(whole.best, parts.best)
    assert whole.values == parts.values
    without_time = [[{**row, "seconds": 0} for row in result.rows] for result in (whole, parts)]
    assert without_time[0] == without_time[1]
    assert [row["step"] for row in whole.rows] == [7, 10, 14, 20, 21, 28, 30, 35, 40]
    # The state of the optimiser too: a further training of both agrees.
    longer = TrainingSettings(**{**vars(settings), "steps": 60})
    again = [
        train(make_network(), noisy_loss, batches, longer, tmp_path / name, evaluate) for name in ("whole", "parts")
    ]
    assert again[0].step == 60
    assert states_equal(again[0].network.state_dict(), again[1].network.state_dict())


def test_finished_training_is_not_trained_again(tmp_path):
    settings = TrainingSettings(steps=5, device="cpu")
    batches = ArrayBatches(make_arrays(), 8)
    first = train(make_network(), plain_loss, batches, settings, tmp_path)

    def refuse(step):
        raise AssertionError("a batch was asked for")

    second = train(make_network(), plain_loss, refuse, settings, tmp_path)
    assert states_equal(first.network.state_dict(), second.network.state_dict())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_interrupt_ends_at_once(tmp_path, second):
    def twice(step):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), second)
        raise AssertionError("the step went on")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(linear(), plain_loss, twice, TrainingSettings(steps=3, device="cpu"), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_trains_outside_the_main_thread(tmp_path):
    done = []
    settings = TrainingSettings(steps=3, device="cpu")
    batches = ArrayBatches(make_arrays(), 8)
    thread = threading.Thread(target=lambda: done.append(train(linear(), plain_loss, batches, settings, tmp_path)))
    thread.start()
    thread.join()
    assert done[0].step == 3


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_finds_the_least_squares_solution(tmp_path, optimizer):
    arrays = make_arrays()
    rate = 0.05 if optimizer == "sgd" else 0.1
    settings = TrainingSettings(steps=800, optimizer=optimizer, rate=rate, average=None, clip_norm=None, device="cpu")
    result = train(linear(), plain_loss, ArrayBatches(arrays, ROWS), settings, tmp_path)
    columns = np.column_stack([arrays["x"].numpy(), np.ones(ROWS)])
    expected = np.linalg.lstsq(columns, arrays["y"].numpy(), rcond=None)[0][:, 0]
    found = np.r_[result.network.weight.detach().numpy()[0], result.network.bias.detach().numpy()]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_gradients_are_clipped_together(tmp_path):
    network = linear()
    settings = TrainingSettings(
        steps=1, optimizer="sgd", rate=0.5, clip_norm=0.25, schedule="constant", average=None, device="cpu"
    )
    train(network, lambda n, b, g: 1000.0 * plain_loss(n, b, g), ArrayBatches(make_arrays(), 8), settings, tmp_path)
    moved = torch.cat([network.weight.flatten(), network.bias]).detach().norm()
    assert float(moved) == pytest.approx(0.5 * 0.25, rel=1e-5)


def test_float16_skips_steps_that_overflow(tmp_path):
    arrays = make_arrays()
    settings = TrainingSettings(steps=60, precision="float16", rate=0.05, average=None, device="cpu")
    result = train(linear(), plain_loss, ArrayBatches(arrays, ROWS), settings, tmp_path)
    assert result.rows[-1]["loss"] < 0.5 * result.rows[0]["loss"]
    assert all(parameter.dtype == torch.float32 for parameter in result.network.parameters())


def test_frozen_parts_stay_as_they_are(tmp_path):
    network = make_network()
    network[0].requires_grad_(False)
    network[1].requires_grad_(False).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settings = TrainingSettings(steps=6, evaluate_every=2, average=None, device="cpu")
    seen = []

    def evaluate(evaluated):
        seen.append([part.training for part in evaluated])
        return {}

    def loss(trained, batch, generator):
        seen.append([part.training for part in trained])
        return plain_loss(trained, batch, generator)

    train(network, loss, ArrayBatches(make_arrays(), 8), settings, tmp_path, evaluate)
    assert seen[:3] == [[True, False, True, True, True]] * 2 + [[False] * 5]
    assert seen[3] == [True, False, True, True, True]
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(("0.", "1.")))
    assert not torch.equal(before["4.weight"], after["4.weight"])


def test_plateau_lowers_the_rate(tmp_path):
    settings = TrainingSettings(
        steps=12, schedule="plateau", patience=2, decay=0.1, rate=1.0, evaluate_every=1, log_every=1, device="cpu"
    )
    values = iter([5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 1.0])
    result = train(
        linear(), lambda n, b, g: 0.0 * plain_loss(n, b, g), ArrayBatches(make_arrays(), 8), settings, tmp_path,
        lambda network: {"loss": next(values)},
    )  # fmt: skip
    rates = [row["rate"] for row in result.rows]
    # Reduced after the 4th, 7th and 9th evaluation: each time two in a row brought nothing.
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001])


def test_an_evaluation_that_is_no_number_is_never_the_best(tmp_path):
    values = iter([float("nan"), 3.0, float("nan"), 2.0])
    batches = ArrayBatches(make_arrays(), 10)
    settings = TrainingSettings(steps=4, evaluate_every=1, device="cpu", average=None)
    result = train(linear(), plain_loss, batches, settings, tmp_path, lambda _: {"loss": next(values)})
    assert states_equal(result.best, result.network.state_dict())


def test_best_is_the_lowest_evaluation(tmp_path):
    settings = TrainingSettings(steps=4, evaluate_every=1, average=None, rate=0.1, device="cpu")
    values = iter([3.0, 1.0, 2.0, 2.5])
    states = []

    def evaluate(network):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"loss": next(values)}

    result = train(linear(), plain_loss, ArrayBatches(make_arrays(), 8), settings, tmp_path, evaluate)
    assert states_equal(result.best, states[1])
    assert not states_equal(result.best, states[3])


def test_plateau_needs_its_value(tmp_path):
    settings = TrainingSettings(steps=2, schedule="plateau", monitor="error", device="cpu")
    with pytest.raises(InputError, match=r"monitor 'error'.*gives other"):
        train(linear(), plain_loss, ArrayBatches(make_arrays(), 8), settings, tmp_path, lambda network: {"other": 1.0})


def test_time_limit_ends_the_training(tmp_path):
    settings = TrainingSettings(steps=1000, minutes=1e-9, device="cpu")
    result = train(linear(), plain_loss, ArrayBatches(make_arrays(), 8), settings, tmp_path)
    assert result.step == 1
    assert (tmp_path / CHECKPOINT_FILE).is_file()


def test_prefetched_batches_are_the_same(tmp_path):
    settings = TrainingSettings(steps=20, device="cpu")
    results = [
        train(
            make_network(), noisy_loss, ArrayBatches(make_arrays(), 8), settings, tmp_path / str(ahead), prefetch=ahead
        )
        for ahead in (False, True)
    ]
    assert states_equal(results[0].network.state_dict(), results[1].network.state_dict())


def test_leaves_the_callers_random_numbers(tmp_path):
    network = linear()
    torch.manual_seed(11)
    expected = torch.randn(3)
    torch.manual_seed(11)
    train(network, plain_loss, ArrayBatches(make_arrays(), 8), TrainingSettings(steps=3, device="cpu"), tmp_path)
    assert torch.equal(torch.randn(3), expected)


def test_loss_that_is_not_finite_is_told(tmp_path):
    settings = TrainingSettings(steps=30, log_every=5, device="cpu")
    batches = ArrayBatches(make_arrays(), 8)
    train(linear(), plain_loss, batches, TrainingSettings(steps=10, log_every=5, device="cpu"), tmp_path)
    kept = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(TrainingError, match=r"not finite after step 15.*last checkpoint is kept"):
        train(linear(), lambda n, b, g: plain_loss(n, b, g) * float("nan"), batches, settings, tmp_path)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == kept


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda n, b, g: n(b["x"]), r"expected scalars, got shapes loss \(8, 1\)"),
        (lambda n, b, g: {"error": plain_loss(n, b, g)}, "named 'loss', got error"),
    ],
)
def test_losses_that_are_none(tmp_path, loss, message):
    with pytest.raises(InputError, match=message):
        train(linear(), loss, ArrayBatches(make_arrays(), 8), TrainingSettings(steps=2, device="cpu"), tmp_path)


@pytest.mark.parametrize("change", ["rate", "belongs_to", "network"])
def test_checkpoint_of_another_training_is_refused(tmp_path, change):
    batches = ArrayBatches(make_arrays(), 8)
    settings = TrainingSettings(steps=3, device="cpu")
    train(linear(), plain_loss, batches, settings, tmp_path, belongs_to={"data": "a"})
    other = {"settings": settings, "belongs_to": {"data": "a"}, "network": linear()}
    other |= {
        "rate": {"settings": TrainingSettings(steps=3, rate=0.5, device="cpu")},
        "belongs_to": {"belongs_to": {"data": "b"}},
        "network": {"network": make_network()},
    }[change]
    with pytest.raises(InputError, match="another network, data or settings"):
        train(
            other["network"], plain_loss, batches, other["settings"], tmp_path, belongs_to=other["belongs_to"]
        )  # fmt: skip


def test_damaged_checkpoint_is_refused(tmp_path):
    batches, settings = ArrayBatches(make_arrays(), 8), TrainingSettings(steps=3, device="cpu")
    train(linear(), plain_loss, batches, settings, tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: not a readable checkpoint"):
        train(linear(), plain_loss, batches, settings, tmp_path)


def test_network_without_anything_to_train(tmp_path):
    with pytest.raises(InputError, match="no parameter"):
        train(
            linear().requires_grad_(False), plain_loss, ArrayBatches(make_arrays(), 8), TrainingSettings(), tmp_path
        )  # fmt: skip


def test_unknown_device(tmp_path):
    with pytest.raises(InputError, match="device 'abacus'"):
        train(
            linear(), plain_loss, ArrayBatches(make_arrays(), 8), TrainingSettings(device="abacus"), tmp_path
        )  # fmt: skip


def test_curves_are_written_and_drawn(tmp_path):
    import cv2

    settings = TrainingSettings(steps=20, log_every=5, device="cpu")
    result = train(make_network(), noisy_loss, ArrayBatches(make_arrays(), 8), settings, tmp_path)
    rows = read_curves(tmp_path / CURVES_FILE)
    assert rows == result.rows
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert {"loss", "mean_error", "rate", "seconds"} <= set(rows[0])
    picture = cv2.imread(str(tmp_path / PICTURE_FILE))
    assert picture.shape == (300, 3 * 480, 3)
    assert (picture == 255).all(axis=2).mean() < 0.99


def test_curves_beyond_the_checkpoint_are_trained_again(tmp_path):
    """A killed process leaves lines of steps that its last checkpoint has not, and maybe half a line."""
    batches = ArrayBatches(make_arrays(), 8)
    settings = [TrainingSettings(steps=steps, log_every=5, schedule="constant", device="cpu") for steps in (20, 40)]
    whole = train(make_network(), noisy_loss, batches, settings[1], tmp_path / "whole")
    train(make_network(), noisy_loss, batches, settings[0], tmp_path / "parts")
    with (tmp_path / "parts" / CURVES_FILE).open("a") as stream:
        stream.write('{"step": 25, "loss": 99.0}\n{"step": 30, "lo')
    parts = train(make_network(), noisy_loss, batches, settings[1], tmp_path / "parts")
    for rows in (parts.rows, read_curves(tmp_path / "parts" / CURVES_FILE)):
        assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in whole.rows]


_TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
import importlib.util
spec = importlib.util.spec_from_file_location("training_doubles", {this!r})
doubles = importlib.util.module_from_spec(spec)
spec.loader.exec_module(doubles)
torch.set_num_threads(1)
settings = doubles.TrainingSettings(steps=25, log_every=5, evaluate_every=10, device="cpu", average=0.9)
result = doubles.train(
    doubles.linear(), doubles.plain_loss, doubles.ArrayBatches(doubles.make_arrays(), 4, seed=2), settings,
    Path({folder!r}), lambda network: {{"loss": float(network.weight.sum())}},
)
def name_of(path):
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""
threads = [name_of(path) for path in Path("/proc/self/task").glob("*/comm")]
Path({folder!r}, f"rank{{doubles.os.environ['RANK']}}.json").write_text(json.dumps(
    [result.network.weight.tolist(), result.step, dict(result.values), [name for name in threads if "gloo" in name]]))
"""


@pytest.mark.processes
def test_two_processes_are_one_of_twice_the_batch(tmp_path):
    script = tmp_path / "two.py"
    folder = tmp_path / "two"
    script.write_text(_TWO_PROCESSES.format(tests=str(Path(__file__).parent), this=__file__, folder=str(folder)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0][3] == []  # threads that outlive the group abort some processes as they end

    settings = TrainingSettings(steps=25, log_every=5, evaluate_every=10, device="cpu", average=0.9)
    alone = train(
        linear(), plain_loss, ArrayBatches(make_arrays(), 8, seed=2), settings, tmp_path / "one",
        lambda network: {"loss": float(network.weight.sum())},
    )  # fmt: skip
    np.testing.assert_allclose(ranks[0][0], alone.network.weight.detach().numpy(), atol=1e-6)
    losses = [[row["loss"] for row in rows] for rows in (read_curves(folder / CURVES_FILE), alone.rows)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps: expected 1 or more"),
        ({"rate": 0.0}, "rate: expected above 0"),
        ({"minutes": float("nan")}, "minutes"),
        ({"schedule": "linear"}, "schedule: expected one of constant"),
        ({"precision": "int8"}, "precision: expected one of float32"),
        ({"average": 1.0}, "average: expected 0 to below 1"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"decay": 2.0}, "decay: expected 0 to 1"),
        ({"evaluate_every": -1}, "evaluate_every"),
    ],
)
def test_settings_that_make_no_sense(change, message):
    with pytest.raises(InputError, match=message):
        TrainingSettings(**change)


def test_rates_follow_torchs_schedules():
    steps = 50
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.3 * 0.02)
    settings = TrainingSettings(steps=steps, rate=0.3)
    for step in range(steps):
        assert settings.rate_at(step, step / steps) == pytest.approx(cosine.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        cosine.step()
    steady = TrainingSettings(schedule="constant", warmup=4, rate=1.0)
    assert [steady.rate_at(step, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    stairs = TrainingSettings(schedule="step", milestones=(0.5, 0.75), decay=0.1, rate=1.0)
    assert [stairs.rate_at(0, share) for share in (0.0, 0.49, 0.5, 0.8)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
