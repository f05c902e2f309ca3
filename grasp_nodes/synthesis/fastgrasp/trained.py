"""FastGrasp's trained parts, each of its own weight file."""

from __future__ import annotations

from pathlib import Path

from grasp_nodes.hand.model import HandModel
from grasp_nodes.synthesis.fastgrasp.adaptation import Adaptation, AdaptationConfig
from grasp_nodes.synthesis.fastgrasp.autoencoder import AutoEncoderConfig, HandAutoEncoder
from grasp_nodes.synthesis.fastgrasp.cvae import CVAEConfig, GraspCVAE
from grasp_nodes.synthesis.fastgrasp.denoiser import DenoiserConfig, LatentDenoiser
from grasp_nodes.synthesis.trained_parts import TrainedPart, load_part

AUTOENCODER, LATENT, ADAPTATION, CVAE = "fastgrasp-autoencoder", "fastgrasp-latent", "fastgrasp-adaptation", "cvae"


def load_autoencoder(model: HandModel, folder: Path | None = None) -> TrainedPart:
    """The auto-encoder; arguments and errors as for `load_part`."""
    return load_part(AUTOENCODER, AutoEncoderConfig, HandAutoEncoder, model, folder)


def load_latent(model: HandModel, folder: Path | None = None) -> TrainedPart:
    """The denoiser; as `load_autoencoder`."""
    return load_part(LATENT, DenoiserConfig, lambda config, _: LatentDenoiser(config), model, folder)


def load_adaptation(model: HandModel, folder: Path | None = None) -> TrainedPart:
    """The adaptation module; as `load_autoencoder`."""
    return load_part(ADAPTATION, AdaptationConfig, lambda config, _: Adaptation(config), model, folder)


def load_cvae(model: HandModel, folder: Path | None = None) -> TrainedPart:
    """The baseline; as `load_autoencoder`."""
    return load_part(CVAE, CVAEConfig, GraspCVAE, model, folder)
