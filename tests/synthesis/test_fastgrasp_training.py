"""FastGrasp's trainings on a few hands: each lowers its error, in order, and their files go together only in order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.fastgrasp import training as fastgrasp_training
from grasp_nodes.synthesis.fastgrasp.adaptation import AdaptationConfig
from grasp_nodes.synthesis.fastgrasp.autoencoder import SMALL_LAYOUT, AutoEncoderConfig
from grasp_nodes.synthesis.fastgrasp.cvae import CVAEConfig
from grasp_nodes.synthesis.fastgrasp.denoiser import DenoiserConfig, LatentDenoiser
from grasp_nodes.synthesis.fastgrasp.generator import load_fastgrasp
from grasp_nodes.synthesis.fastgrasp.losses import LossWeights
from grasp_nodes.synthesis.fastgrasp.training import (
    AdaptationTraining,
    latent_statistics,
    paper_settings,
    train_adaptation,
    train_autoencoder,
    train_cvae,
    train_latent,
)
from grasp_nodes.synthesis.grasp_data import GraspData
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.posed_vectors import PosedVectors
from grasp_nodes.synthesis.schedules import NoiseSchedule
from grasp_nodes.synthesis.trained_parts import check_built_on, save_part

AUTOENCODER = AutoEncoderConfig(24, (32, 64), False, "layer", (64,), (64,))
DENOISER = DenoiserConfig(24, 64, (16, 32), False, "layer", (16, 32), 1, 32, noise_steps=100)
ADAPTATION = AdaptationConfig(24, (16, 32), False, "layer", (64,))
SETTINGS = {"warmup": 5, "average": None, "log_every": 5, "device": "cpu", "evaluate_every": 0}


@pytest.fixture(scope="module")
def data(toy_grasps, right, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return GraspData.of_grasps(toy_grasps, right, SMALL_LAYOUT, 64, turned=False, validation=0.5)


@pytest.fixture(scope="module")
def autoencoder(data, tmp_path_factory):
    settings = TrainingSettings(steps=150, rate=3e-3, **SETTINGS)
    run = RunOptions(8, tmp_path_factory.mktemp("autoencoder"))
    return train_autoencoder(AUTOENCODER, data, LossWeights().without_physics(), settings, run)


@pytest.fixture(scope="module")
def denoiser(data, autoencoder, tmp_path_factory):
    settings = TrainingSettings(steps=150, rate=3e-3, **SETTINGS)
    return train_latent(DENOISER, autoencoder.network, data, settings, RunOptions(8, tmp_path_factory.mktemp("latent")))


def change(rows, name):
    """First and last of the curve, each the mean over a tenth of it."""
    values = [row[name] for row in rows]
    tenth = max(1, len(values) // 10)
    return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def test_the_autoencoder_learns_eight_hands(data, autoencoder):
    posed, held = PosedVectors(data.coder), data.batches.of_rows(data.split.training, data.validation_step)
    with torch.no_grad():
        vertices = posed(held["code"])
        error = (posed(autoencoder.network(vertices, held["code"])) - vertices).norm(dim=2).mean()
        apart = (posed(held["code"].mean(dim=0, keepdim=True)) - vertices).norm(dim=2).mean()
    assert float(error) < 0.4 * float(apart)
    assert "vertex_mm" in autoencoder.values


def test_all_five_losses_take_part(data, tmp_path):
    settings = TrainingSettings(steps=2, **SETTINGS)
    trained = train_autoencoder(AUTOENCODER, data, LossWeights(), settings, RunOptions(4, tmp_path))
    assert {"parameters", "mesh", "contact", "penetration", "consistency"} <= set(trained.rows[-1])


def test_the_diffusion_has_standardised_latents_and_learns_them(data, autoencoder, denoiser):
    network = denoiser.network
    mean, _ = latent_statistics(autoencoder.network, data)
    torch.testing.assert_close(network.latent_mean, mean)
    held = data.batches.of_rows(data.split.training, data.validation_step)
    with torch.no_grad():
        latents = autoencoder.network.encode(PosedVectors(data.coder)(held["code"]), held["code"])
    clean = network.standardise(latents)
    torch.testing.assert_close(clean.mean(dim=0), torch.zeros(24), atol=1e-2, rtol=0)
    torch.testing.assert_close(clean.std(dim=0, correction=0), torch.ones(24), atol=1e-2, rtol=0)
    torch.testing.assert_close(network.restore(clean), latents)
    first, last = change(denoiser.rows, "loss")
    assert last < 0.6 * first


def test_training_tells_the_time_that_its_noise_has(data, autoencoder, monkeypatch, tmp_path):
    """The noise that is asked for is that which lies between the input and the true latent at the time told."""
    schedule, found = NoiseSchedule.make("linear", DENOISER.noise_steps), []

    def forward(self, noisy, time, told):
        found.append((noisy.detach(), time))
        return self.nothing.sum() + 0.0 * noisy

    monkeypatch.setattr(LatentDenoiser, "forward", forward)
    settings = TrainingSettings(steps=1, **SETTINGS)
    trained = train_latent(DENOISER, autoencoder.network, data, settings, RunOptions(8, tmp_path / "latent"))
    noisy, time = found[0]
    assert len(time.unique()) > 4
    latents = {}
    held = data.batches.of_rows(data.split.training, data.validation_step)
    with torch.no_grad():
        code = autoencoder.network.encode(PosedVectors(data.coder)(held["code"]), held["code"])
    clean = trained.network.standardise(code)
    # Every row is the noised latent of one of the hands: the noise that is left over is standard normal for just one.
    for row, when in zip(noisy, time, strict=True):
        noise = schedule.noise(clean, row.expand_as(clean), when.expand(len(clean)))
        spread = noise.square().mean(dim=1).sqrt()
        latents[int(spread.sub(1.0).abs().argmin())] = float(spread.sub(1.0).abs().min())
    assert max(latents.values()) < 0.45
    first = trained.rows[0]["loss"]
    assert first == pytest.approx(1.0, abs=0.2)  # a network that says nothing misses all of the noise


def test_physics_in_the_diffusion_is_another_loss(data, autoencoder, tmp_path):
    settings = TrainingSettings(steps=2, **SETTINGS)
    run = RunOptions(4, tmp_path / "physics")
    trained = train_latent(DENOISER, autoencoder.network, data, settings, run, LossWeights())
    assert {"noise", "penetration", "contact"} <= set(trained.rows[-1])
    with pytest.raises(InputError, match="latents have 24 numbers"):
        train_latent(DenoiserConfig(), autoencoder.network, data, settings, run)


@pytest.mark.parametrize(("latents", "held"), [("estimated", 0.0), ("sampled", 0.01)])
def test_the_adaptation_takes_hands_out_of_the_ball(data, autoencoder, denoiser, tmp_path, latents, held):
    before = {name: tensor.clone() for name, tensor in denoiser.network.state_dict().items()}
    trained = train_adaptation(
        *(ADAPTATION, autoencoder.network, denoiser.network, data),
        TrainingSettings(steps=80, rate=3e-3, **SETTINGS),
        RunOptions(8, tmp_path / latents),
        AdaptationTraining(latents, 8),
        LossWeights(parameters=held, mesh=0.0, contact=0.0, penetration=20.0, consistency=0.0),
    )
    first, last = change(trained.rows, "penetration")
    assert last < 0.8 * first
    assert all(torch.equal(before[name], tensor) for name, tensor in denoiser.network.state_dict().items())


def test_an_unknown_kind_of_latents_is_refused():
    with pytest.raises(InputError, match="latents: expected one of estimated, sampled"):
        AdaptationTraining("true")  # type: ignore[arg-type]


def test_the_baseline_learns(data, tmp_path):
    config = CVAEConfig(4, 64, (32, 64), False, "layer", (64,), (64,))
    settings = TrainingSettings(steps=120, rate=6e-3, **SETTINGS)
    trained = train_cvae(config, data, LossWeights().without_physics(), settings, RunOptions(8, tmp_path / "cvae"))
    first, last = change(trained.rows, "loss")
    assert last < 0.75 * first
    assert "divergence" in trained.rows[-1]


def test_the_papers_optimiser():
    settings = paper_settings()
    assert (settings.optimizer, settings.rate, settings.schedule) == ("adam", 1e-4, "constant")
    assert fastgrasp_training.PAPER_BATCH == 256


def test_parts_go_together_only_as_they_were_trained(data, autoencoder, denoiser, right, tmp_path: Path):
    folder = tmp_path / "parts"

    def save(method, network, config, built_on=None):
        save_part(folder / f"{method}.safetensors", method, network.state_dict(), config, data.coder, built_on)

    with pytest.raises(MissingFileError, match="grasp-nodes train fastgrasp-autoencoder"):
        load_fastgrasp(right, adapted=False, folder=folder)
    save("fastgrasp-autoencoder", autoencoder.network, AUTOENCODER)
    save("fastgrasp-latent", denoiser.network, DENOISER, {"fastgrasp-autoencoder": "another"})
    with pytest.raises(InputError, match="was trained with another fastgrasp-autoencoder"):
        load_fastgrasp(right, adapted=False, folder=folder)
    from grasp_nodes.synthesis.fastgrasp.trained import load_autoencoder

    first = load_autoencoder(right, folder)
    save("fastgrasp-latent", denoiser.network, DENOISER, {"fastgrasp-autoencoder": first.weights.sha256})
    generator = load_fastgrasp(right, adapted=False, folder=folder)
    assert generator.method == "fastgrasp-no-adaptation"
    assert first.weights.sha256[:12] in generator.version
    ball = load_object("sphere:0.03", resolution=32)
    assert len(generator.generate(ball, 2, 0).grasps) == 2
    check_built_on(first)  # on nothing
