"""Weights of JointDiffusion and of its baseline: written with all that builds the networks again, and found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from grasp_nodes.contact.choir.space import ChoirSpace
from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import SUFFIX, WeightCard, Weights, find_weights, read_weights, save_weights
from grasp_nodes.synthesis.jointdiffusion.config import JointConfig
from grasp_nodes.synthesis.jointdiffusion.keypoints import KeypointConfig, KeypointNetwork
from grasp_nodes.synthesis.jointdiffusion.network import JointNetwork

JOINT, KEYPOINT = "jointdiffusion", "keypoint"
SPACE = "choir"
"""In a card's `normalization`: the description of the fields' space (`ChoirSpace.description`)."""
Config = TypeVar("Config")


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
    weights = _found(JOINT, model, folder)
    described: Any = weights.card.normalization.get(SPACE)
    if not isinstance(described, Mapping):
        raise InputError(f"{weights.path}: its card does not tell of CHOIR's basis points ({SPACE!r} is missing)")
    space = ChoirSpace.of_description(described, str(weights.path))
    network = JointNetwork(_config(weights, JointConfig), space)
    weights.load_into(network)
    return TrainedJoint(network.to(model.device).eval().requires_grad_(False), space, weights)


def load_keypoints(model: HandModel, folder: Path | None = None) -> TrainedKeypoints:
    """The keypoint baseline; arguments and errors as for `load_joint`."""
    weights = _found(KEYPOINT, model, folder)
    network = KeypointNetwork(_config(weights, KeypointConfig))
    weights.load_into(network)
    return TrainedKeypoints(network.to(model.device).eval().requires_grad_(False), weights)


def _found(method: str, model: HandModel, folder: Path | None) -> Weights:
    own = folder / f"{method}{SUFFIX}" if folder is not None else None
    if own is not None and own.is_file():
        return read_weights(own, method, model.fingerprint)
    return find_weights(method, model.fingerprint)


def _config(weights: Weights, kind: type[Config]) -> Config:
    # JSON knows lists only, configurations have tuples.
    values = {name: tuple(one) if isinstance(one, list) else one for name, one in weights.card.config.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{weights.path}: its card does not describe a {kind.__name__} ({error})") from error
