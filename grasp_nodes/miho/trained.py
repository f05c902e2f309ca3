"""The trained networks as files: how they are built again from their cards, and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.learning.weights import WeightCard, find_weights, read_weights, save_weights
from grasp_nodes.miho.backbones import BackboneConfig
from grasp_nodes.miho.honet import HoNet, HoNetConfig
from grasp_nodes.miho.hourglass import HourglassConfig
from grasp_nodes.miho.picr import PiCR, PiCRConfig

HONET, PICR = "honet", "picr"
Network = TypeVar("Network", bound=nn.Module)
MEAN_ANSWER = "mean_answer"
"""In the card's `normalization`: what one would say without an image, see `judgement.mean_answer`."""
CONTACT_THRESHOLD = "contact_threshold"
"""In the card's `normalization`: from which probability on PiCR is believed, chosen on crops that choose weights."""


def load_honet(path: Path | None = None, hand_fingerprint: str | None = None) -> HoNet:
    """The network of a weight file, ready to use; None = `find_weights`.

    Raises:
        MissingFileError: there is no such file. InputError: it is damaged, or of another hand or network.
    """

    def build(values: dict[str, Any]) -> HoNet:
        return HoNet(HoNetConfig(backbone=BackboneConfig(**_tuples(values.pop("backbone"))), **_tuples(values)))

    return _load(build, HONET, path, hand_fingerprint)[0]


def load_picr(path: Path | None = None, hand_fingerprint: str | None = None) -> PiCR:
    """As `load_honet`."""

    def build(values: dict[str, Any]) -> PiCR:
        return PiCR(PiCRConfig(hourglass=HourglassConfig(**_tuples(values.pop("hourglass"))), **_tuples(values)))

    network, card = _load(build, PICR, path, hand_fingerprint)
    network.threshold = float(card.normalization.get(CONTACT_THRESHOLD, network.threshold))
    return network


def _load(
    build: Callable[[dict[str, Any]], Network], method: str, path: Path | None, hand_fingerprint: str | None
) -> tuple[Network, WeightCard]:
    """A network as its card describes it, and the card; `build` may raise KeyError or TypeError."""
    weights = find_weights(method, hand_fingerprint) if path is None else read_weights(path, method, hand_fingerprint)
    try:
        network = build(dict(weights.card.config))
    except (KeyError, TypeError) as error:
        raise InputError(f"{weights.path}: its card does not describe a network of {method} ({error})") from error
    weights.load_into(network)
    return network.eval(), weights.card


def save_network(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: HoNetConfig | PiCRConfig,
    hand_fingerprint: str,
    **about: Any,
) -> WeightCard:
    """Write a network's weights (fp16) with their card; `about` are the card's other fields.

    Raises:
        InputError: a weight is not finite. OSError: it cannot be written.
    """
    method = HONET if isinstance(config, HoNetConfig) else PICR
    card = WeightCard(method=method, config=asdict(config), hand_fingerprint=hand_fingerprint, **about)
    save_weights(path, tensors, card)
    return card


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists only."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
