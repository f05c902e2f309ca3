"""Weights of the flow: written with all that builds the network again, and found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import WeightCard, Weights, find_weights, read_weights, save_weights
from grasp_nodes.synthesis.flow.hand_points import PointCounts
from grasp_nodes.synthesis.flow.network import FlowConfig, FlowNetwork
from grasp_nodes.synthesis.trained_parts import CODE, coder_of, network_of

METHOD = "fastgrasp-flow"


def save_flow(path: Path, network: nn.Module, **card: Any) -> WeightCard:
    """Write a network's weights with its card.

    Args:
        path: of the file. network: a `FlowNetwork`. card: fields of `WeightCard` that are not the network's own.

    Raises:
        InputError: it is another network, a weight is not finite, or the card is no JSON. OSError: it cannot be
        written.
    """
    if not isinstance(network, FlowNetwork):
        raise InputError(f"expected a FlowNetwork, got {type(network).__name__}")
    described = WeightCard(
        METHOD,
        config=asdict(network.config),
        normalization={CODE: network.coder.description()},
        hand_fingerprint=network.coder.model.fingerprint,
        **card,
    )
    save_weights(path, network.state_dict(), described)
    return described


def load_flow(model: HandModel, path: Path | None = None) -> tuple[FlowNetwork, Weights]:
    """A trained network in evaluation mode, on the hand model's device, and the file that it came from.

    Args:
        model: a full right hand. path: of the weight file, None = the installed one (`find_weights`).

    Raises:
        MissingFileError: there is no such file. InputError: it is damaged, or of another hand, method or version.
    """
    if path is None:
        weights = find_weights(METHOD, model.fingerprint)
    else:
        weights = read_weights(path, METHOD, model.fingerprint)
    coder = coder_of(weights, model)
    return network_of(weights, _config, lambda config: FlowNetwork(coder, config), model.device), weights


def _config(points: Mapping[str, Any], **sizes: Any) -> FlowConfig:
    return FlowConfig(points=PointCounts(**points), **sizes)
