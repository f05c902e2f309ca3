"""Weights of JointDiffusion and of its baseline: written with all that builds the networks again, and found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from grasp_nodes.contact.choir.space import ChoirSpace
from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import WeightCard, Weights, find_weights, save_weights
from grasp_nodes.synthesis.jointdiffusion.config import JointConfig
from grasp_nodes.synthesis.jointdiffusion.keypoints import KeypointConfig, KeypointNetwork
from grasp_nodes.synthesis.jointdiffusion.network import JointNetwork
from grasp_nodes.synthesis.trained_parts import network_of

JOINT, KEYPOINT = "jointdiffusion", "keypoint"
SPACE = "choir"
"""In a card's `normalization`: the description of the fields' space (`ChoirSpace.description`)."""


@dataclass(frozen=True)
class TrainedJoint:
    """A network ready to use, the space of its fields, and its file."""

    network: JointNetwork
    space: ChoirSpace
    weights: Weights


@dataclass(frozen=True)
class TrainedKeypoints:
    """A network ready to use, and its file."""

    network: KeypointNetwork
    weights: Weights


def save_network(path: Path, network: nn.Module, model: HandModel, **card: Any) -> WeightCard:
    """Write the weights (fp16) of either network with their card.

    Args:
        path: of the file. model: the hand that it was trained with. card: fields of `WeightCard` beside the network's.

    Raises:
        InputError: another network, or a weight is not finite. OSError: it cannot be written.
    """
    if isinstance(network, JointNetwork):
        method, config = JOINT, asdict(network.config)
        normalization: Mapping[str, Any] = {SPACE: network.space.description()}
    elif isinstance(network, KeypointNetwork):
        method, config, normalization = KEYPOINT, asdict(network.config), {}
    else:
        raise InputError(f"expected a JointNetwork or KeypointNetwork, got {type(network).__name__}")
    described = WeightCard(method, config, normalization, model.fingerprint, **card)
    save_weights(path, network.state_dict(), described)
    return described


def load_joint(model: HandModel, folder: Path | None = None) -> TrainedJoint:
    """JointDiffusion, on the hand model's device.

    Args:
        model: the hand that it was trained with. folder: of the file; None, or if it is not there: the installed one.

    Raises:
        MissingFileError: there is no such file. InputError: it is damaged, of another hand or network, or of fields
            whose permutation is not the one that its settings make here.
    """
    weights = find_weights(JOINT, model.fingerprint, folder)
    described: Any = weights.card.normalization.get(SPACE)
    if not isinstance(described, Mapping):
        raise InputError(f"{weights.path}: its card does not tell of CHOIR's basis points ({SPACE!r} is missing)")
    space = ChoirSpace.of_description(described, str(weights.path))
    network = network_of(weights, JointConfig, lambda config: JointNetwork(config, space), model.device)
    return TrainedJoint(network, space, weights)


def load_keypoints(model: HandModel, folder: Path | None = None) -> TrainedKeypoints:
    """The keypoint baseline; arguments and errors as for `load_joint`."""
    weights = find_weights(KEYPOINT, model.fingerprint, folder)
    return TrainedKeypoints(network_of(weights, KeypointConfig, KeypointNetwork, model.device), weights)
