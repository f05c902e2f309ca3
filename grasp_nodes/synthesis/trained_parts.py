"""Trained networks of hand vectors as weight files, several of which make one method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import WeightCard, Weights, find_weights, save_weights

CODE = "code"
"""In a card's `normalization`: the description of the coder (`HandCoder.description`)."""
BUILT_ON = "built_on"
"""In a card's `notes`: SHA-256 of the files of the parts that it was trained with, by their names."""
Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class TrainedPart:
    """A network, ready to use, the coder of its vectors, both on one device, and its file."""

    network: Any
    coder: HandCoder
    weights: Weights


def load_part(
    method: str,
    config: Callable[..., Config],
    build: Callable[[Config, int], nn.Module],
    model: HandModel,
    folder: Path | None = None,
) -> TrainedPart:
    """A trained network.

    Args:
        method: that the file is of. config: see `network_of`. build: makes the network of that and of
            the size of a vector. model: the hand that it was trained with; its device is where it will run.
        folder: where the file is; None, or if it is not there: the installed one.

    Raises:
        MissingFileError: there is no such file. InputError: it is damaged, or of another hand or network.
    """
    weights = find_weights(method, model.fingerprint, folder)
    coder = coder_of(weights, model)
    network = network_of(weights, config, lambda values: build(values, coder.size), model.device)
    return TrainedPart(network, coder, weights)


def coder_of(weights: Weights, model: HandModel) -> HandCoder:
    """The coder of the vectors that a network was trained on.

    Raises:
        InputError: its card does not describe one.
    """
    described: Any = weights.card.normalization.get(CODE)
    if not isinstance(described, Mapping):
        raise InputError(f"{weights.path}: its card does not tell of the hand's vectors ({CODE!r} is missing)")
    return HandCoder.of_description(model, described)


def network_of(
    weights: Weights, config: Callable[..., Config], build: Callable[[Config], Network], device: torch.device | str
) -> Network:
    """The network of a file, in evaluation mode and frozen.

    Args:
        config: a dataclass, or what else makes the network's sizes of the values that the card names. build: makes the
            network of that. device: where it will run.

    Raises:
        InputError: the card describes something else, or the tensors are not that network's.
    """
    # JSON knows lists only, configurations have tuples.
    values = {name: tuple(one) if isinstance(one, list) else one for name, one in weights.card.config.items()}
    try:
        network = build(config(**values))
    except TypeError as error:
        raise InputError(
            f"{weights.path}: its card does not describe a network of {weights.card.method} ({error})"
        ) from error
    weights.load_into(network)
    return network.to(device).eval().requires_grad_(False)


def check_built_on(later: TrainedPart, *earlier: TrainedPart) -> None:
    """Whether a part was trained with just these other parts.

    Raises:
        InputError: with others; their latents mean something else.
    """
    check_files_built_on(later.weights, *(one.weights for one in earlier))


def check_files_built_on(later: Weights, *earlier: Weights) -> None:
    """As `check_built_on`, of the parts' files."""
    known = later.card.notes.get(BUILT_ON, {})
    for one in earlier:
        if known.get(one.card.method) != one.sha256:
            raise InputError(
                f"{later.path}: was trained with another {one.card.method} than {one.path}: train it anew with "
                f"'{later.card.command or f'grasp-nodes train {later.card.method} -o DIR'}'"
            )


def save_part(
    path: Path,
    method: str,
    tensors: Mapping[str, Tensor],
    config: Any,
    coder: HandCoder,
    built_on: Mapping[str, str] | None = None,
    notes: Mapping[str, Any] | None = None,
    **about: Any,
) -> WeightCard:
    """Write a part's weights (fp16) with their card.

    Args:
        path: the file. method: that it is of. tensors: of the network. config: that builds it, a dataclass.
        coder: of its vectors. built_on: SHA-256 of the parts that it was trained with. notes, about: of the card.

    Raises:
        InputError: a weight is not finite. OSError: it cannot be written.
    """
    card = WeightCard(
        method=method,
        config=asdict(config),
        normalization={CODE: coder.description()},
        hand_fingerprint=coder.model.fingerprint,
        notes={**(notes or {}), BUILT_ON: dict(built_on or {})},
        **about,
    )
    save_weights(path, tensors, card)
    return card


def version_of(*parts: TrainedPart) -> str:
    """A word that changes with any of the files, for whoever keeps results."""
    return " ".join(f"{part.weights.card.method} {part.weights.sha256[:12]}" for part in parts)
