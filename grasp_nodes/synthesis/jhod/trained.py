"""JHOD's trained parts: the auto-encoder of objects, and the joint diffusion that was trained on its latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandLayout
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import WeightCard, Weights, find_weights, save_weights
from grasp_nodes.synthesis.flow.hand_points import PointCounts
from grasp_nodes.synthesis.jhod.network import JhodConfig, JhodNetwork
from grasp_nodes.synthesis.jhod.point_autoencoder import PointAutoEncoder, PointAutoEncoderConfig
from grasp_nodes.synthesis.trained_parts import BUILT_ON, CODE, check_files_built_on, coder_of, network_of

OBJECTS, METHOD = "jhod-objects", "jhod"


def load_objects(folder: Path | None = None, device: torch.device | str = "cpu") -> tuple[PointAutoEncoder, Weights]:
    """The auto-encoder, frozen, and its file.

    Args:
        folder: where the file is; None, or if it is not there: the installed one.

    Raises:
        MissingFileError: there is none. InputError: it is damaged or something else.
    """
    weights = find_weights(OBJECTS, folder=folder)
    return network_of(weights, PointAutoEncoderConfig, PointAutoEncoder, device), weights


@dataclass(frozen=True)
class TrainedJhod:
    """The diffusion and the auto-encoder that it was trained with, frozen, on one device.

    version: a word that changes with either file.
    """

    network: JhodNetwork
    encoder: PointAutoEncoder
    version: str


def save_jhod(path: Path, network: nn.Module, built_on: str, notes: Mapping[str, Any], **card: Any) -> WeightCard:
    """Write the diffusion's weights with their card.

    Args:
        path: of the file. network: a `JhodNetwork`. built_on: SHA-256 of the auto-encoder's file.
        notes, card: fields of `WeightCard` that are not the network's own.

    Raises:
        InputError: it is another network, or a weight is not finite. OSError: it cannot be written.
    """
    if not isinstance(network, JhodNetwork):
        raise InputError(f"expected a JhodNetwork, got {type(network).__name__}")
    described = WeightCard(
        METHOD,
        config=asdict(network.config),
        normalization={CODE: network.coder.description()},
        hand_fingerprint=network.coder.model.fingerprint,
        notes={**notes, BUILT_ON: {OBJECTS: built_on}},
        **card,
    )
    save_weights(path, network.state_dict(), described)
    return described


def load_jhod(model: HandModel, folder: Path | None = None) -> TrainedJhod:
    """The trained method on the hand model's device.

    Args:
        model: a full right hand. folder: of the files; None, or for files that are not in it: the installed ones.

    Raises:
        MissingFileError: there are no weights; the message names the command that trains them.
        InputError: they are damaged, of another hand, or were not trained together.
    """
    encoder, objects = load_objects(folder, model.device)
    weights = find_weights(METHOD, model.fingerprint, folder)
    check_files_built_on(weights, objects)
    coder = coder_of(weights, model)
    network = network_of(weights, _config, lambda config: JhodNetwork(coder, config), model.device)
    return TrainedJhod(network, encoder, f"{METHOD} {weights.sha256[:12]} {OBJECTS} {objects.sha256[:12]}")


def _config(layout: Mapping[str, Any], felt: Mapping[str, Any], **sizes: Any) -> JhodConfig:
    return JhodConfig(layout=HandLayout(**layout), felt=PointCounts(**felt), **sizes)
