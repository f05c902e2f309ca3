"""Files of tensors (safetensors) with one JSON object as their description; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.npz import replacing

_DESCRIPTION = "description"
_LENGTH_BYTES = 8


def write_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; equal content gives equal bytes.

    Raises:
        OSError: it cannot be written.
    """
    # Copies: tensors that share memory, such as tied weights, are stored as what they are, one each.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())}
    # One entry: the library writes several in an order that changes from run to run.
    content = save(plain, {_DESCRIPTION: json.dumps(dict(description), sort_keys=True)})
    with replacing(path) as stream:
        stream.write(content)


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, on the CPU, and its description.

    Args:
        path: the file. what: it is meant to be, for messages.

    Raises:
        MissingFileError: no such file. InputError: it is damaged or something else.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such {what}")
    return unpack_tensors(path.read_bytes(), f"{path}: not a readable {what}")


def unpack_tensors(content: bytes, refusal: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As `read_tensors`, of the file's bytes; `refusal` begins the message.

    Raises:
        InputError: they are damaged or something else.
    """
    try:
        tensors = load(content)
        # The library has checked the header; it hands out the description of files only, not of bytes.
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
        description = json.loads(header.get("__metadata__", {}).get(_DESCRIPTION, "null"))
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{refusal} ({error})") from error
    if not isinstance(description, dict):
        raise InputError(f"{refusal} (it has no description: not written by grasp_nodes)")
    return tensors, description
