"""Training of FastGrasp: auto-encoder, diffusion of its latents, adaptation module; and of the baseline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Trained
from grasp_nodes.synthesis.fastgrasp.adaptation import Adaptation, AdaptationConfig
from grasp_nodes.synthesis.fastgrasp.autoencoder import AutoEncoderConfig, HandAutoEncoder
from grasp_nodes.synthesis.fastgrasp.cvae import CVAEConfig, GraspCVAE, divergence
from grasp_nodes.synthesis.fastgrasp.denoiser import DenoiserConfig, LatentDenoiser
from grasp_nodes.synthesis.fastgrasp.losses import ADAPTATION_WEIGHTS, GraspLoss, LossWeights
from grasp_nodes.synthesis.grasp_data import GraspData
from grasp_nodes.synthesis.grasp_training import GraspBatch, RunOptions, frozen, train_on_grasps
from grasp_nodes.synthesis.posed_vectors import PosedVectors
from grasp_nodes.synthesis.samplers import DiffusionSampler
from grasp_nodes.synthesis.schedules import NoiseSchedule

Adapted = Literal["estimated", "sampled"]
PAPER_BATCH = 256
LEAST_LEFT = 0.3
"""Share of a noised latent below which the clean one that a network tells at once is not used: the error of the noise
comes back divided by it."""
_STATISTICS_ROWS = 256
_STATISTICS_BATCHES = 16


@dataclass(frozen=True)
class AdaptationTraining:
    """What the module learns from.

    latents: ``estimated``: a training grasp's latent is noised to a random time, and z1 is the clean latent that the
    network tells at once; the truth is that grasp. Times at which less than `LEAST_LEFT` is left are not drawn.
    ``sampled``: z1 is sampled from noise in `sampling_steps` of DDIM, as at the end it will be; since a new grasp has
    no true one, it is held to itself as it was before.
    """

    latents: Adapted = "estimated"
    sampling_steps: int = 8

    def __post_init__(self) -> None:
        if self.latents not in get_args(Adapted):
            raise InputError(f"latents: expected one of {', '.join(get_args(Adapted))}, got {self.latents!r}")


def paper_settings(steps: int = 200_000) -> TrainingSettings:
    """The paper's optimiser: Adam at 1e-4 (section 4.3); how long it trained, it does not say."""
    return TrainingSettings(steps=steps, optimizer="adam", rate=1e-4, schedule="constant", clip_norm=None, average=None)


def train_autoencoder(
    config: AutoEncoderConfig, data: GraspData, weights: LossWeights, settings: TrainingSettings, run: RunOptions
) -> Trained:
    """Train the auto-encoder, or go on training it; `Trained.network` is a `HandAutoEncoder`."""
    posed = PosedVectors(data.coder)
    grasp_loss = GraspLoss(posed, weights)

    def loss(network: HandAutoEncoder, batch: GraspBatch, _: torch.Generator | None) -> dict[str, Tensor]:
        truth = batch["code"]
        with torch.no_grad():
            vertices = posed(truth)
        return grasp_loss(network(vertices, truth), truth, vertices, batch["points"])

    def errors(network: HandAutoEncoder, batch: GraspBatch) -> dict[str, float]:
        vertices = posed(batch["code"])
        found = posed(network(vertices, batch["code"]).float())
        return {"vertex_mm": 1e3 * float((found - vertices).norm(dim=2).mean())}

    torch.manual_seed(settings.seed)
    network = HandAutoEncoder(config, data.coder.size)
    network.reader.spread(_rest(data))
    about = {"method": "fastgrasp-autoencoder", "config": asdict(config), "weights": asdict(weights)}
    return train_on_grasps(network, loss, data, settings, run, about, errors)


def train_latent(
    config: DenoiserConfig,
    autoencoder: HandAutoEncoder,
    data: GraspData,
    settings: TrainingSettings,
    run: RunOptions,
    physics: LossWeights | None = None,
) -> Trained:
    """Train the diffusion of a frozen auto-encoder's latents; `Trained.network` is a `LatentDenoiser`.

    Args:
        physics: weights of the five losses on the hand of the predicted clean latent, beside that of the noise: the
            ablation "diffusion model with physical loss" of Table 1; None = without.

    Raises:
        InputError: the two have latents of different sizes.
    """
    if config.latent != autoencoder.config.latent:
        raise InputError(f"latent {config.latent}: the auto-encoder's latents have {autoencoder.config.latent} numbers")
    posed, schedule = PosedVectors(data.coder), NoiseSchedule.make(config.noise_schedule, config.noise_steps)
    encoder = frozen(autoencoder)
    grasp_loss = GraspLoss(posed, physics) if physics is not None else None

    def loss(network: LatentDenoiser, batch: GraspBatch, generator: torch.Generator) -> dict[str, Tensor]:
        truth = batch["code"]
        with torch.no_grad():
            vertices = posed(truth)
            clean = network.standardise(encoder.to(truth.device).encode(vertices, truth))
        time = schedule.draw_times(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        noisy = schedule.noised(clean, noise, time)
        told = network.encode_object(batch["points"])
        hidden = torch.rand(len(clean), 1, generator=generator, device=clean.device) < config.unconditioned
        predicted = network(noisy, time, torch.where(hidden, network.nothing, told))
        squared = (predicted - noise).square().mean()
        if grasp_loss is None:
            return {"loss": squared}
        # Where hardly anything is left the told latent is nothing but the noise's error; the true one takes its place.
        clear = (schedule.alpha(time) >= LEAST_LEFT)[:, None]
        estimate = torch.where(clear, schedule.clean(predicted, noisy, time), clean)
        vectors = encoder.decode(network.restore(estimate))
        terms = grasp_loss(vectors, truth, vertices, batch["points"])
        return {**terms, "noise": squared, "loss": squared + terms["loss"]}

    torch.manual_seed(settings.seed)
    network = LatentDenoiser(config)
    network.latent_mean, network.latent_deviation = latent_statistics(autoencoder, data)
    about = {"method": "fastgrasp-latent", "config": asdict(config), "physics": physics and asdict(physics)}
    return train_on_grasps(network, loss, data, settings, run, about)


def train_adaptation(
    config: AdaptationConfig,
    autoencoder: HandAutoEncoder,
    denoiser: LatentDenoiser,
    data: GraspData,
    settings: TrainingSettings,
    run: RunOptions,
    how: AdaptationTraining | None = None,
    weights: LossWeights = ADAPTATION_WEIGHTS,
) -> Trained:
    """Train the adaptation module on frozen other parts; `Trained.network` is an `Adaptation`."""
    how = how or AdaptationTraining()
    posed = PosedVectors(data.coder)
    hands, source = frozen(autoencoder), frozen(denoiser)
    schedule = NoiseSchedule.make(denoiser.config.noise_schedule, denoiser.config.noise_steps)
    sampler = DiffusionSampler(schedule, "ddim", min(how.sampling_steps, len(schedule)))
    grasp_loss = GraspLoss(posed, weights)
    usable = int((schedule.alpha(torch.arange(len(schedule))) >= LEAST_LEFT).sum())

    @torch.no_grad()
    def begun(batch: GraspBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """z1, standardised, and the vectors that the hand is held to."""
        truth = batch["code"]
        parts, network = hands.to(truth.device), source.to(truth.device)
        told = network.encode_object(batch["points"])
        noise = torch.randn(len(truth), config.latent, generator=generator, device=truth.device)
        if how.latents == "sampled":
            first = sampler(network.for_sampler(told), noise)
            return first, parts.decode(network.restore(first))
        clean = network.standardise(parts.encode(posed(truth), truth))
        time = torch.randint(0, usable, (len(clean),), generator=generator, device=clean.device)
        noisy = schedule.noised(clean, noise, time)
        return schedule.clean(network(noisy, time, told), noisy, time), truth

    def loss(network: Adaptation, batch: GraspBatch, generator: torch.Generator) -> dict[str, Tensor]:
        points = batch["points"]
        first, truth = begun(batch, generator)
        with torch.no_grad():
            vertices = posed(truth)
        second = network(first, network.encode_object(points))
        return grasp_loss(hands.decode(source.restore(first + second)), truth, vertices, points)

    torch.manual_seed(settings.seed)
    about = {"method": "fastgrasp-adaptation", "config": asdict(config), "how": asdict(how), "weights": asdict(weights)}
    return train_on_grasps(Adaptation(config), loss, data, settings, run, about)


def train_cvae(
    config: CVAEConfig, data: GraspData, weights: LossWeights, settings: TrainingSettings, run: RunOptions
) -> Trained:
    """Train the baseline; `Trained.network` is a `GraspCVAE`."""
    posed = PosedVectors(data.coder)
    grasp_loss = GraspLoss(posed, weights)

    def loss(network: GraspCVAE, batch: GraspBatch, generator: torch.Generator) -> dict[str, Tensor]:
        truth, points = batch["code"], batch["points"]
        with torch.no_grad():
            vertices = posed(truth)
        told = network.encode_object(points)
        mean, log_variance = network.encode(vertices, told)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        vectors = network.decode(mean + (0.5 * log_variance).exp() * noise, told)
        terms = grasp_loss(vectors, truth, vertices, points)
        apart = divergence(mean, log_variance)
        return {**terms, "divergence": apart, "loss": terms["loss"] + config.divergence * apart}

    def errors(network: GraspCVAE, batch: GraspBatch) -> dict[str, float]:
        vertices = posed(batch["code"])
        told = network.encode_object(batch["points"])
        found = posed(network.decode(network.encode(vertices, told)[0], told).float())
        return {"vertex_mm": 1e3 * float((found - vertices).norm(dim=2).mean())}

    torch.manual_seed(settings.seed)
    about = {"method": "cvae", "config": asdict(config), "weights": asdict(weights)}
    network = GraspCVAE(config, data.coder.size)
    network.reader.spread(_rest(data))
    return train_on_grasps(network, loss, data, settings, run, about, errors)


def _rest(data: GraspData) -> Tensor:
    return torch.from_numpy(data.coder.model.arrays.v_template)


@torch.no_grad()
def latent_statistics(autoencoder: HandAutoEncoder, data: GraspData) -> tuple[Tensor, Tensor]:
    """Mean and deviation (N_z,) of the latents of training hands, float32, on the CPU."""
    posed, batches = PosedVectors(data.coder), data.training(_STATISTICS_ROWS, seed=0)
    network = autoencoder.cpu().eval()
    rows = [batches(Step(number))["code"] for number in range(_STATISTICS_BATCHES)]
    latents = torch.cat([network.encode(posed(one), one) for one in rows]).double()
    mean, deviation = latents.mean(dim=0), latents.std(dim=0, correction=0)
    # A latent that hardly moves carries nothing: blown up it would be noise.
    return mean.float(), deviation.clamp(min=1e-3 * float(deviation.max()) + 1e-8).float()
