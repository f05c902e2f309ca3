"""An object as a network saw it, and how it is known again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from grasp_nodes.objects.model import ObjectModel


@dataclass(frozen=True)
class SeenObject:
    """turns: (4, 3, 3), into the frames it is seen in. center: (3,), m. codes: (4, ...), of what it is there."""

    turns: Tensor
    center: Tensor
    codes: Tensor


def object_digest(object_model: ObjectModel) -> bytes:
    """Differs where points, or the grid of the signed distance, do."""
    grid = object_model.signed_distance
    content = np.ascontiguousarray(object_model.points).tobytes() + grid.origin.cpu().numpy().tobytes()
    described = f"{tuple(grid.values.shape)} {grid.spacing}".encode()
    return hashlib.blake2b(content + described, digest_size=16).digest()
