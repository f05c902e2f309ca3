"""Weight files: tensors with a card that says what they are, for which hand, and how they were made.

A file is ``METHOD.safetensors``. Those that travel with the package lie in ``shipped/`` and are known by their hash;
a folder that GRASP_NODES_WEIGHTS names comes before them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.learning.compact_tensors import from_bytes, to_bytes
from grasp_nodes.learning.tensor_files import unpack_tensors, write_tensors

FORMAT = "grasp_nodes.weights"
FORMAT_VERSION = 2
"""Of files with tensors in bytes."""
_WITHOUT_BYTES = 1
WEIGHTS_VARIABLE = "GRASP_NODES_WEIGHTS"
SHIPPED_FOLDER = Path(__file__).resolve().parent / "shipped"
REGISTRY_FILE = "registry.json"
SUFFIX = ".safetensors"
StoredPrecision = Literal["int8", "float16", "float32"]

_SMALL = 4096
"""Elements up to which a tensor stays float32: offsets, scales and statistics cost nothing and suffer most."""
_SCALES = ".scales"
"""After the name of a tensor in bytes: the sizes of its steps."""
_SHAPES = "shapes"
"""In a file's description: those of the tensors in bytes, by name."""
_WHAT = "weight file"
_CARD_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("method", "hand_fingerprint", "data", "command"), str),
    "seed": int,
    "hours": (int, float),
}
"""Of the fields that are no objects."""


_log = logging.getLogger(__name__)


class OtherHandError(InputError):
    """Weights were trained with another hand model than the one at hand."""


@dataclass(frozen=True)
class WeightCard:
    """What a weight file says of itself; everything but tensors, all of it JSON.

    method: that the weights are of. config: that builds the network. normalization: of its inputs and outputs, by name.
    hand_fingerprint: of the hand model that it was trained with, empty = it knows no hand. data: it was trained on.
    seed, command, hours: of the training. metrics: that it reached. notes: anything else, such as the licence.
    """

    method: str
    config: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Any] = field(default_factory=dict)
    hand_fingerprint: str = ""
    data: str = ""
    seed: int = 0
    command: str = ""
    hours: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """A weight file in memory.

    path: it came from. card: see there. tensors: by name, float32 where they were floating point, on the CPU. sha256:
    of the file.
    """

    path: Path
    card: WeightCard
    tensors: Mapping[str, Tensor]
    sha256: str

    def load_into(self, network: nn.Module) -> None:
        """Give a network these weights.

        Raises:
            InputError: names or shapes differ; the message lists some.
        """
        own = network.state_dict()
        wrong = [f"{name} is missing" for name in own if name not in self.tensors]
        wrong += [f"{name} is not of this network" for name in sorted(self.tensors) if name not in own]
        wrong += [
            f"{name}: expected shape {tuple(tensor.shape)}, got {tuple(self.tensors[name].shape)}"
            for name, tensor in own.items()
            if name in self.tensors and self.tensors[name].shape != tensor.shape
        ]
        if wrong:
            more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise InputError(
                f"{self.path}: its tensors do not fit the network of method {self.card.method!r} "
                f"({'; '.join(wrong[:3])}{more}): it was trained in another size or version; train it anew with "
                f"'{self.card.command or f'grasp-nodes train {self.card.method}'}'"
            )
        network.load_state_dict(dict(self.tensors))


def save_weights(
    path: Path, tensors: Mapping[str, Tensor], card: WeightCard, precision: StoredPrecision = "float16"
) -> str:
    """Write a weight file whole; equal content gives equal bytes.

    Args:
        path: the file; its folder is made if absent. tensors: such as a network's ``state_dict()``.
        card: of the file. precision: of large floating-point tensors; up to 4,096 elements they stay float32;
            ``int8``: see `compact_tensors`.

    Returns:
        SHA-256 of the file.

    Raises:
        InputError: a value is not finite or too large for the precision, a name is taken, or the card is no JSON.
        OSError: it cannot be written.
    """
    stored = {name: _stored(name, tensor.detach().cpu(), precision) for name, tensor in tensors.items()}
    description = {"format": FORMAT, "format_version": _WITHOUT_BYTES, "card": asdict(card)}
    large = [name for name, tensor in stored.items() if tensor.is_floating_point() and tensor.numel() > _SMALL]
    if precision == "int8" and large:
        description |= {"format_version": FORMAT_VERSION, _SHAPES: {name: list(stored[name].shape) for name in large}}
        for name in large:
            if name + _SCALES in stored:
                raise InputError(
                    f"{name + _SCALES}: expected no tensor of this name, which {name} needs for its scales"
                )
            stored[name], stored[name + _SCALES] = to_bytes(stored[name])
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"card of method {card.method!r}: expected plain finite JSON values ({error})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, stored, description)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_weights(
    path: Path, method: str | None = None, hand_fingerprint: str | None = None, sha256: str | None = None
) -> Weights:
    """Read a weight file.

    Args:
        path: the file. method: that it must be of, None = any. hand_fingerprint: of the hand model at hand
            (`HandModel.fingerprint`), None = any. sha256: that it must have, None = any.

    Raises:
        MissingFileError: no such file. InputError: it is damaged, something else, or of another hash, version, method
            or hand.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such {_WHAT}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise InputError(
            f"{path}: its SHA-256 is {found[:12]}, expected {sha256[:12]}: damaged or changed; reinstall the package "
            f"with 'pip install --force-reinstall grasp_nodes', or name a folder of your own with {WEIGHTS_VARIABLE}"
        )
    tensors, description = unpack_tensors(content, f"{path}: not a readable {_WHAT}")
    card = _card(path, description)
    for name, shape in _shapes_of_bytes(path, description).items():
        try:
            tensors[name] = from_bytes(tensors[name], tensors.pop(name + _SCALES), shape)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: not a readable {_WHAT} (tensor {name} in bytes: {error})") from error
    if method is not None and card.method != method:
        raise InputError(f"{path}: is of method {card.method!r}, expected {method!r}")
    if hand_fingerprint is not None and card.hand_fingerprint and card.hand_fingerprint != hand_fingerprint:
        raise OtherHandError(
            f"{path}: was trained with the hand model of fingerprint {card.hand_fingerprint[:12]}, the one at hand has "
            f"{hand_fingerprint[:12]}: on another hand its grasps are other grasps. Load the hand that it was trained "
            "with (GRASP_NODES_HAND_MODEL), or train it anew for this one with "
            f"'{card.command or f'grasp-nodes train {card.method}'}'"
        )
    plain = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return Weights(path, card, plain, found)


def find_weights(method: str, hand_fingerprint: str | None = None, folder: Path | None = None) -> Weights:
    """The weights of a method: of the folder that GRASP_NODES_WEIGHTS names if they are there, else the shipped ones.

    Args:
        folder: that is looked into before, such as the one that an earlier part of the method was trained into.

    Raises:
        MissingFileError: in none of the places, or the folder that the variable names is not there or holds no weights
            at all. InputError: as `read_weights`.
    """
    given = folder / f"{method}{SUFFIX}" if folder is not None else None
    if given is not None and given.is_file():
        return read_weights(given, method, hand_fingerprint)
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        own = Path(named).expanduser() / f"{method}{SUFFIX}"
        if not own.parent.is_dir():
            raise MissingFileError(f"{WEIGHTS_VARIABLE}={named}: there is no such folder of weight files")
        if own.is_file():
            return read_weights(own, method, hand_fingerprint)
        if not any(own.parent.glob(f"*{SUFFIX}")):
            raise MissingFileError(
                f"{WEIGHTS_VARIABLE}={named}: the folder holds no weight file (*{SUFFIX}); name the one that a "
                "training wrote to (-o), or take the variable away to use the shipped weights"
            )
        _log.warning("%s=%s holds no %s; the shipped one is taken", WEIGHTS_VARIABLE, named, own.name)
    shipped = shipped_hashes()
    name = f"{method}{SUFFIX}"
    if name not in shipped:
        raise MissingFileError(
            f"weights of method {method!r}: none are shipped (there are {', '.join(sorted(shipped)) or 'none'}); train "
            f"them with 'grasp-nodes train {method} -o DIR' and name the folder with {WEIGHTS_VARIABLE}=DIR"
        )
    return read_weights(SHIPPED_FOLDER / name, method, hand_fingerprint, shipped[name])


def shipped_hashes() -> dict[str, str]:
    """SHA-256 of the files that travel with the package, by file name.

    Raises:
        InputError: the list cannot be read.
    """
    path = SHIPPED_FOLDER / REGISTRY_FILE
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the list of shipped weights cannot be read ({error}); reinstall it") from error
    return {str(name): str(value) for name, value in content.items()}


def ship_weights(path: Path, folder: Path = SHIPPED_FOLDER, precision: StoredPrecision | None = None) -> Path:
    """Put a weight file among those that travel with the package, and its hash into their list.

    Args:
        path: a weight file. folder: of the shipped files. precision: to store it in, None = as it is.

    Returns:
        Its new place.

    Raises:
        MissingFileError, InputError: as `read_weights`. OSError: it cannot be written.
    """
    weights = read_weights(path)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{weights.card.method}{SUFFIX}"
    if precision is None:
        target.write_bytes(path.read_bytes())
        sha256 = weights.sha256
    else:
        sha256 = save_weights(target, weights.tensors, weights.card, precision)
    registry = folder / REGISTRY_FILE
    known = json.loads(registry.read_text()) if registry.is_file() else {}
    known[target.name] = sha256
    registry.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return target


def _stored(name: str, tensor: Tensor, precision: StoredPrecision) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    narrow = tensor.to(torch.float16 if precision == "float16" and tensor.numel() > _SMALL else torch.float32)
    wrong = int((~torch.isfinite(narrow)).sum())
    if wrong:
        raise InputError(
            f"{name}: {wrong} values are NaN, infinite or too large for {narrow.dtype}; nothing was written"
        )
    return narrow


def _shapes_of_bytes(path: Path, description: Mapping[str, Any]) -> Mapping[str, list[int]]:
    """Of the tensors that are stored in bytes, by name."""
    shapes = description.get(_SHAPES, {})
    if not isinstance(shapes, dict) or not all(isinstance(shape, list) for shape in shapes.values()):
        raise InputError(f"{path}: not a readable {_WHAT} (its {_SHAPES} are no shapes)")
    return shapes


def _card(path: Path, description: Mapping[str, Any]) -> WeightCard:
    if description.get("format") != FORMAT:
        raise InputError(f"{path}: not a {_WHAT} (its description says {description.get('format')!r}, not {FORMAT!r})")
    version = description.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise InputError(
            f"{path}: written in version {version} of the format, this grasp_nodes reads up to {FORMAT_VERSION}: "
            "upgrade it with 'pip install --upgrade grasp_nodes'"
        )
    card = description.get("card")
    known = {one.name for one in fields(WeightCard)}
    if not isinstance(card, dict) or not isinstance(card.get("method"), str):
        raise InputError(f"{path}: not a readable {_WHAT} (its card names no method)")
    wrong = [
        f"{name} {value!r}"
        for name, value in card.items()
        if name in known and not isinstance(value, _CARD_TYPES.get(name, dict))
    ]
    if wrong:
        raise InputError(f"{path}: not a readable {_WHAT} (its card has {', '.join(wrong)})")
    return WeightCard(**{name: value for name, value in card.items() if name in known})
