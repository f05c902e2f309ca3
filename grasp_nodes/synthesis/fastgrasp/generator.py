"""FastGrasp and its baseline as generators of grasps (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from grasp_nodes.hand.model import HandModel
from grasp_nodes.synthesis.fastgrasp.adaptation import Adaptation
from grasp_nodes.synthesis.fastgrasp.autoencoder import HandAutoEncoder
from grasp_nodes.synthesis.fastgrasp.cvae import GraspCVAE
from grasp_nodes.synthesis.fastgrasp.denoiser import LatentDenoiser
from grasp_nodes.synthesis.fastgrasp.trained import (
    CVAE,
    load_adaptation,
    load_autoencoder,
    load_cvae,
    load_latent,
)
from grasp_nodes.synthesis.samplers import DiffusionSampler, Method
from grasp_nodes.synthesis.schedules import NoiseSchedule
from grasp_nodes.synthesis.trained_parts import check_built_on, version_of
from grasp_nodes.synthesis.vector_generator import VectorGenerator

FASTGRASP, NO_ADAPTATION = "fastgrasp", "fastgrasp-no-adaptation"
SAMPLING_STEPS = 20


@dataclass(frozen=True)
class SamplingSettings:
    """How latents are sampled. method, eta: see `DiffusionSampler`.

    steps: calls of the network; None = all of the schedule's for DDPM, 20 for the others.
    guidance: see `LatentDenoiser.for_sampler`.
    """

    method: Method = "ddim"
    steps: int | None = None
    eta: float = 0.0
    guidance: float = 0.0


class FastGraspNetwork:
    """Noise to latent z1 by diffusion, z2 by the adaptation module, hand by the decoder: ``D(z1 + z2)``.

    Args:
        autoencoder, denoiser: of the same latents. adaptation: None = without. settings: of the diffusion.
    """

    def __init__(
        self,
        autoencoder: HandAutoEncoder,
        denoiser: LatentDenoiser,
        adaptation: Adaptation | None,
        settings: SamplingSettings | None = None,
    ) -> None:
        self.settings = settings or SamplingSettings()
        self._autoencoder, self._denoiser, self._adaptation = autoencoder, denoiser, adaptation
        schedule = NoiseSchedule.make(denoiser.config.noise_schedule, denoiser.config.noise_steps)
        steps = self.settings.steps or (len(schedule) if self.settings.method == "ddpm" else SAMPLING_STEPS)
        self._sampler = DiffusionSampler(schedule, self.settings.method, steps, eta=self.settings.eta)
        self.noise_size = denoiser.config.latent
        self.principal = autoencoder.config.principal
        self.num_points = max(denoiser.config.points, 0 if adaptation is None else adaptation.config.points)

    def encode(self, points: Tensor) -> Tensor:
        """As `VectorNetwork`: what the denoiser is told, then what the adaptation module is told."""
        told = self._denoiser.encode_object(points)
        return told if self._adaptation is None else torch.cat([told, self._adaptation.encode_object(points)], dim=1)

    def sample(self, points: Tensor, told: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """As `VectorNetwork`."""
        own = self._denoiser.config.condition
        latents = self._sampler(self._denoiser.for_sampler(told[:, :own], self.settings.guidance), noise, generator)
        if self._adaptation is not None:
            latents = latents + self._adaptation(latents, told[:, own:])
        return self._autoencoder.decode(self._denoiser.restore(latents))


class CVAENetwork:
    """Noise and object to hand, in one pass."""

    def __init__(self, network: GraspCVAE) -> None:
        self._network = network
        self.noise_size, self.num_points = network.config.latent, network.config.points
        self.principal = network.config.principal

    def encode(self, points: Tensor) -> Tensor:
        """As `VectorNetwork`."""
        return self._network.encode_object(points)

    def sample(self, points: Tensor, told: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """As `VectorNetwork`."""
        return self._network.decode(noise, told)


def load_fastgrasp(
    model: HandModel,
    adapted: bool = True,
    settings: SamplingSettings | None = None,
    folder: Path | None = None,
) -> VectorGenerator:
    """FastGrasp from its weight files.

    Args:
        model: the hand that it was trained with; its device is where it runs. adapted: with the adaptation module.
        settings: of the sampling. folder: of the files; None, or for files that are not in it: the installed ones.

    Raises:
        MissingFileError: there are no weights; the message names the command that trains them.
        InputError: they are damaged, of another hand, or were not trained together.
    """
    autoencoder, denoiser = load_autoencoder(model, folder), load_latent(model, folder)
    check_built_on(denoiser, autoencoder)
    parts, adaptation = [autoencoder, denoiser], None
    if adapted:
        parts.append(load_adaptation(model, folder))
        check_built_on(parts[-1], autoencoder, denoiser)
        adaptation = parts[-1].network
    network = FastGraspNetwork(autoencoder.network, denoiser.network, adaptation, settings)
    name = (FASTGRASP if adapted else NO_ADAPTATION) + ("-ddpm" if network.settings.method == "ddpm" else "")
    return VectorGenerator(name, network, autoencoder.coder, f"{version_of(*parts)} {network.settings}")


def load_cvae_generator(model: HandModel, folder: Path | None = None) -> VectorGenerator:
    """The baseline from its weight file; as `load_fastgrasp`."""
    part = load_cvae(model, folder)
    return VectorGenerator(CVAE, CVAENetwork(part.network), part.coder, version_of(part))
