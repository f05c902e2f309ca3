"""Schedules and samplers: against diffusers, against the exact denoiser of a Gaussian, and against their own times."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.synthesis.samplers import DiffusionSampler, FlowSampler
from grasp_nodes.synthesis.schedules import NoiseSchedule, RectifiedFlow

KINDS = ("linear", "cosine", "sigmoid")
PREDICTIONS = ("noise", "clean", "velocity")
METHODS = ("ddpm", "ddim", "dpm-solver++")

MEAN = torch.tensor([0.7, -1.5], dtype=torch.float64)
DEVIATION = torch.tensor([0.4, 2.0], dtype=torch.float64)


def normal(count: int, seed: int = 0, size: int = 2) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected_clean(noisy, alpha, sigma):
    """E[x0 | x_t] of normally distributed samples: conditioning of a joint Gaussian."""
    gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
    return MEAN + gain * (noisy - alpha * MEAN)


class ExactDenoiser:
    """Knows the Gaussian, and what it is asked; a wrong time gives a wrong answer."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.times: list[int] = []

    def __call__(self, noisy, time):
        assert time.dtype == torch.int64
        assert time.shape == noisy.shape[:1]
        assert (time == time[0]).all()
        self.times.append(int(time[0]))
        kept = float(self.schedule.kept[self.times[-1]])
        alpha, sigma = math.sqrt(kept), math.sqrt(1 - kept)
        clean = expected_clean(noisy, alpha, sigma)
        noise = (noisy - alpha * clean) / sigma
        return {"noise": noise, "clean": clean, "velocity": alpha * noise - sigma * clean}[self.schedule.prediction]


def carried_over(start, schedule):
    """Where the deterministic flow of the Gaussian takes noise: by its quantiles."""
    kept = float(schedule.kept[-1])
    spread = torch.sqrt(kept * DEVIATION**2 + 1 - kept)
    return MEAN + DEVIATION * (start - math.sqrt(kept) * MEAN) / spread


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("method", "steps"), [("ddpm", 500), ("ddim", 200), ("dpm-solver++", 50)])
def test_samples_of_the_exact_denoiser_have_its_moments(kind, prediction, method, steps):
    schedule = NoiseSchedule.make(kind, prediction=prediction)
    sampler = DiffusionSampler(schedule, method, steps)
    samples = sampler(ExactDenoiser(schedule), normal(8000), torch.Generator().manual_seed(1))
    # Four standard errors, and what 50 steps and more leave.
    np.testing.assert_allclose(samples.mean(0), MEAN, atol=0.1)
    np.testing.assert_allclose(samples.std(0), DEVIATION, rtol=0.05)


@pytest.mark.parametrize(
    ("kind", "method", "order"),
    # The sigmoid's last step, from some noise to none, is so long that its first order rules any sampler's error.
    [*[(kind, "ddim", 1) for kind in KINDS], ("linear", "dpm-solver++", 2), ("cosine", "dpm-solver++", 2)],
)
def test_deterministic_samplers_converge_with_their_order(kind, method, order):
    schedule = NoiseSchedule.make(kind, steps=4000)
    start = normal(200)
    truth = carried_over(start, schedule)

    def error(steps):
        return float((DiffusionSampler(schedule, method, steps)(ExactDenoiser(schedule), start) - truth).abs().max())

    errors = [error(steps) for steps in (25, 50, 100)]
    assert errors[2] < errors[1] < errors[0]
    assert math.log2(errors[0] / errors[1]) > order - 0.6
    assert errors[2] < (0.2 if order == 1 else 0.02)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_the_network_is_told_the_time_of_its_input(method, steps, spacing):
    schedule = NoiseSchedule.make("cosine")
    asked = []

    def spy(noisy, time):
        asked.append((noisy.clone(), int(time[0])))
        return torch.zeros_like(noisy)

    sampler = DiffusionSampler(schedule, method, steps, spacing, eta=0.0)
    sampler(spy, normal(4000), torch.Generator().manual_seed(2))
    times = [time for _, time in asked]
    assert len(times) == steps
    assert times == sorted(set(times), reverse=True)
    assert times[0] == (999 if spacing == "trailing" else 1000 - 1000 // steps)
    if spacing == "leading":
        assert times[-1] == 0
    if steps > 1:
        gaps = -np.diff(times)
        assert gaps.min() >= 1000 // steps
        assert gaps.max() <= -(-1000 // steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_the_input_has_the_noise_of_its_time(kind, method):
    """An oracle that knows the one clean sample: each input must be its mixture with unit noise, at the time told."""
    schedule = NoiseSchedule.make(kind, prediction="clean")
    clean = torch.full((20_000, 1), 3.0, dtype=torch.float64)
    seen = []

    def oracle(noisy, time):
        kept = float(schedule.kept[int(time[0])])
        seen.append(((noisy - math.sqrt(kept) * clean) / math.sqrt(1 - kept)).flatten())
        return clean

    DiffusionSampler(schedule, method, 10)(oracle, normal(20_000, size=1), torch.Generator().manual_seed(4))
    # The start is pure noise: what of the clean sample its time still has is missing there, and fades.
    leftover = 3.0 * math.sqrt(float(schedule.kept[-1]) / (1 - float(schedule.kept[-1])))
    for noise in seen:
        assert abs(float(noise.mean())) < 0.03 + leftover
        assert float(noise.std()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_predictions_are_the_same_thing(prediction):
    schedule = NoiseSchedule.make("cosine", prediction=prediction)
    clean, noise = normal(500, 1, 3), normal(500, 2, 3)
    time = torch.arange(500) * 2
    noisy = schedule.noised(clean, noise, time)
    torch.testing.assert_close(
        schedule.clean(schedule.target(clean, noise, time), noisy, time), clean, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(schedule.noise(clean, noisy, time), noise, atol=1e-6, rtol=0)


@given(kind=st.sampled_from(KINDS), steps=st.integers(2, 3000))
def test_schedules_keep_the_variance(kind, steps):
    schedule = NoiseSchedule.make(kind, steps)
    time = torch.arange(-1, steps)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(steps + 1, dtype=torch.float64))
    assert alpha[0] == 1
    assert (alpha.diff() < 0).all()


def test_schedules_end_in_noise():
    for kind, most in (("linear", 1e-2), ("cosine", 1e-2), ("sigmoid", 1e-2)):
        assert float(NoiseSchedule.make(kind).alpha(torch.tensor(999))) < most
        assert float(NoiseSchedule.make(kind, 200).alpha(torch.tensor(199))) < 0.02
        assert float(NoiseSchedule.make(kind).sigma(torch.tensor(0))) < 0.05


@pytest.mark.parametrize(("kind", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_schedules_are_those_of_diffusers(kind, theirs):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'grasp_nodes[test]'")
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule=theirs)
    np.testing.assert_allclose(NoiseSchedule.make(kind).kept, scheduler.alphas_cumprod, rtol=2e-4, atol=1e-9)


def toy_network(noisy, time):
    """Anything that depends on everything it is told."""
    shape = (-1, *[1] * (noisy.ndim - 1))
    return torch.tanh(1.3 * noisy + 0.2 * noisy.roll(1, -1)) + 0.1 * torch.cos(time.double() / 90).view(shape)


@pytest.mark.parametrize("theirs", [("noise", "epsilon"), ("clean", "sample"), ("velocity", "v_prediction")])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("method", METHODS)
def test_samples_are_those_of_diffusers(method, spacing, theirs):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'grasp_nodes[test]'")
    if (method, spacing) == ("dpm-solver++", "leading"):
        pytest.skip("diffusers' leading times of this solver are those of one step more")
    prediction, name = theirs
    steps = 20
    schedule = NoiseSchedule.make("linear", prediction=prediction)
    common = {
        "num_train_timesteps": 1000, "beta_schedule": "linear", "prediction_type": name, "timestep_spacing": spacing,
    }  # fmt: skip
    scheduler = {
        "ddpm": lambda: diffusers.DDPMScheduler(**common, clip_sample=False),
        "ddim": lambda: diffusers.DDIMScheduler(**common, clip_sample=False),
        "dpm-solver++": lambda: diffusers.DPMSolverMultistepScheduler(**common, final_sigmas_type="zero"),
    }[method]()
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(7)
    theirs_now = normal(16, 3, 5)
    for time in scheduler.timesteps:
        predicted = toy_network(theirs_now, torch.full((16,), int(time)))
        extra = {} if method == "dpm-solver++" else {"generator": generator}
        theirs_now = scheduler.step(predicted, time, theirs_now, **extra).prev_sample
    ours = DiffusionSampler(schedule, method, steps, spacing)(
        toy_network, normal(16, 3, 5), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(ours, theirs_now.double(), rtol=1e-3, atol=1e-4)


def test_noisy_ddim_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'grasp_nodes[test]'")
    scheduler = diffusers.DDIMScheduler(1000, beta_schedule="linear", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(25)
    generator, theirs = torch.Generator().manual_seed(1), normal(8, 3, 4)
    for time in scheduler.timesteps:
        predicted = toy_network(theirs, torch.full((8,), int(time)))
        theirs = scheduler.step(predicted, time, theirs, eta=0.6, generator=generator).prev_sample
    ours = DiffusionSampler(NoiseSchedule.make(), "ddim", 25, eta=0.6)(
        toy_network, normal(8, 3, 4), torch.Generator().manual_seed(1)
    )
    # The last of the 25 steps adds noise in neither.
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-3, atol=1e-4)


def exact_velocity(noisy, time):
    share = float(time[0])
    clean = expected_clean(noisy, share, 1 - share)
    return (clean - noisy) / (1 - share)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_flow_samplers_converge_with_their_order(method, order):
    start = normal(500)
    truth = MEAN + DEVIATION * start  # the flow of a Gaussian keeps each quantile
    errors = [float((FlowSampler(steps, method)(exact_velocity, start) - truth).abs().max()) for steps in (20, 40, 80)]
    rates = [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]
    assert min(rates) > order - 0.5, errors
    assert errors[2] < (0.15 if order == 1 else 0.01)


@pytest.mark.parametrize(("method", "calls"), [("euler", 8), ("heun", 15)])
def test_flow_samplers_tell_the_time_of_their_input(method, calls):
    """On a known straight line, each input must lie where its time says."""
    start, target = normal(50, 5), normal(50, 6)
    flow, seen = RectifiedFlow(), []

    def spy(noisy, time):
        seen.append(float(time[0]))
        torch.testing.assert_close(noisy, flow.noised(target, start, time))
        return flow.target(target, start)

    end = FlowSampler(8, method)(spy, start)
    torch.testing.assert_close(end, target)
    assert len(seen) == calls
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert max(seen) < 1


@pytest.mark.parametrize(
    "sampler",
    [
        FlowSampler(4),
        FlowSampler(4, "heun"),
        *[DiffusionSampler(NoiseSchedule.make("cosine"), method, 8) for method in METHODS],
    ],
)
def test_guide_has_the_last_word(sampler):
    """A guide that always answers with one sample ends there; one that changes nothing changes nothing."""
    wanted = normal(6, 9)
    generators = [torch.Generator().manual_seed(0) for _ in range(3)]
    arguments = [() if isinstance(sampler, FlowSampler) else (generator,) for generator in generators]
    guided = sampler(toy_network, normal(6), *arguments[0], guide=lambda clean, time: wanted)
    torch.testing.assert_close(guided, wanted)
    same = sampler(toy_network, normal(6), *arguments[1], guide=lambda clean, time: clean)
    torch.testing.assert_close(same, sampler(toy_network, normal(6), *arguments[2]))


def test_flow_times_can_favour_the_end():
    generator = torch.Generator().manual_seed(0)
    times = RectifiedFlow(towards_clean=2.0).draw_times(50_000, generator)
    assert float(times.mean()) == pytest.approx(2 / 3, abs=0.01)  # mean of the square root of a uniform number
    assert float(times.min()) >= 0
    assert float(times.max()) < 1


def test_draws_follow_the_generator():
    sampler = DiffusionSampler(NoiseSchedule.make(), "ddpm", 10)
    first, second, third = (sampler(toy_network, normal(4), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert sampler(toy_network, normal(4).float(), torch.Generator().manual_seed(0)).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseSchedule.make("quadratic"), "schedule: expected one of linear, cosine, sigmoid"),
        (lambda: NoiseSchedule.make(steps=1), "steps of the schedule"),
        (lambda: NoiseSchedule.make(prediction="eps"), "prediction: expected one of noise"),
        (lambda: NoiseSchedule(torch.tensor([0.5, 0.9])), "fall"),
        (lambda: NoiseSchedule.make().times(0), "1 to 1000, got 0"),
        (lambda: DiffusionSampler(NoiseSchedule.make(), steps=2000), "1 to 1000, got 2000"),
        (lambda: DiffusionSampler(NoiseSchedule.make(), "euler"), "sampler: expected one of ddpm"),
        (lambda: DiffusionSampler(NoiseSchedule.make(), eta=2.0), "eta"),
        (lambda: DiffusionSampler(NoiseSchedule.make(), "ddpm")(toy_network, normal(2)), "needs a generator"),
        (lambda: FlowSampler(0), "steps of the sampler"),
        (lambda: FlowSampler(4, "midpoint"), "sampler: expected one of euler, heun"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(InputError, match=message):
        make()
