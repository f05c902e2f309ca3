"""The space of a CHOIR field: basis points about an object, how lengths are scaled, and how distances become numbers.

CHOIR (Morales et al., WACV 2025): for each of K basis points the distance to the object and the distance to *its*
anchor of the hand. Lengths are scaled about the object's centre first:

=========  =================================================  =========================
scaling    one unit is                                        the basis reaches (units)
=========  =================================================  =========================
``none``   1 m                                                0.1 (ball: 0.2)
``object`` the diagonal of the object's box                   0.6
``pair``   the diagonal of the box about object and anchors   0.6
``fixed``  0.1 m                                              0.6
=========  =================================================  =========================
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.choir.assignment import AnchorAssignment, Assignment
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.ball_points import ball_points

Layout = Literal["grid", "ball"]
Scaling = Literal["none", "object", "pair", "fixed"]

PER_SIDE = 16
PAPER_SEED = 1995
UNSCALED_REACH, UNSCALED_RADIUS, SCALED_REACH = 0.1, 0.2, 0.6
FIXED_FACTOR = 10.0
"""1/m."""
_NEAREST = 1e-6
"""Remapped values are kept above this one: a distance of 2.8 units at the usual sharpness."""


@dataclass(frozen=True)
class ChoirSettings:
    """What fields mean; two of them can be compared only if these agree.

    layout: of the basis points: a ``grid`` of `per_side` cubed, or so many in a ``ball``. scaling: see the module.
    assignment: of the anchors; seed: of a random one. sharpness: s of the remap ``exp(-s distance)``, distance in
    scaled units.
    """

    layout: Layout = "grid"
    per_side: int = PER_SIDE
    scaling: Scaling = "none"
    assignment: Assignment = "random"
    seed: int = PAPER_SEED
    sharpness: float = 5.0

    def __post_init__(self) -> None:
        for name, kinds in (("layout", Layout), ("scaling", Scaling), ("assignment", Assignment)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(
                    f"CHOIR: {name}: expected one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}"
                )
        if not 4 <= self.per_side <= 64:
            raise InputError(f"CHOIR: per_side: expected 4 to 64, got {self.per_side}")
        if not self.sharpness > 0:
            raise InputError(f"CHOIR: sharpness must be positive, got {self.sharpness}")


@dataclass(frozen=True)
class ChoirFrame:
    """How B scenes are seen: a point x of the object's frame is at ``factor (x - center)``.

    center: (B, 3), m. factor: (B,), 1/m or 1.
    """

    center: Tensor
    factor: Tensor

    def __len__(self) -> int:
        return len(self.factor)

    def scaled(self, points: Tensor) -> Tensor:
        """Points (B, P, 3), m, in scaled units."""
        return (points - self.center[:, None]) * self.factor[:, None, None]

    def metric(self, points: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return points / self.factor[:, None, None] + self.center[:, None]

    def __getitem__(self, rows: slice | Tensor) -> ChoirFrame:
        """Some of the scenes."""
        return ChoirFrame(self.center[rows], self.factor[rows])


class ChoirSpace:
    """Basis points with their anchors.

    settings: see there. basis: (K, 3) float64, scaled units, about the origin; of a grid the last axis runs first.
    assignment: of the anchors to them. fingerprint: 16 digits that change with all of this: a network's weights and a
    field of two spaces are not about the same numbers.
    """

    def __init__(self, settings: ChoirSettings | None = None) -> None:
        self.settings = settings or ChoirSettings()
        self.basis = _basis(self.settings)
        self.assignment = AnchorAssignment.make(self.settings.assignment, len(self.basis), self.settings.seed)

    def __len__(self) -> int:
        return len(self.basis)

    @cached_property
    def fingerprint(self) -> str:
        """See the class."""
        digest = hashlib.sha256(np.round(self.basis, 9).astype("<f8").tobytes())
        digest.update(f"{self.assignment.fingerprint} {self.settings.scaling} {self.settings.sharpness!r}".encode())
        return digest.hexdigest()[:16]

    def basis_like(self, like: Tensor) -> Tensor:
        """(K, 3), the basis in a tensor's precision and on its device."""
        return torch.as_tensor(self.basis, dtype=like.dtype, device=like.device)

    def ids_on(self, device: torch.device) -> Tensor:
        """(K,) int64, the anchors of the basis points on a device."""
        return torch.as_tensor(self.assignment.ids, device=device)

    def frame(self, center: Tensor, points: Tensor, anchors: Tensor | None = None) -> ChoirFrame:
        """How scenes are scaled.

        Args:
            center: (B, 3), m, of the objects, such as the mean of their points. points: (B, P, 3), m, of the objects.
            anchors: (B, 32, 3), m, of the hands; where none are known, ``pair`` takes the object alone.
        """
        scaling = self.settings.scaling
        if scaling in ("none", "fixed"):
            factor = torch.full_like(center[:, 0], 1.0 if scaling == "none" else FIXED_FACTOR)
            return ChoirFrame(center, factor)
        whole = points if scaling == "object" or anchors is None else torch.cat([points, anchors.to(points)], dim=1)
        return ChoirFrame(center, 1.0 / (whole.amax(dim=1) - whole.amin(dim=1)).norm(dim=1))

    def remapped(self, distance: Tensor) -> Tensor:
        """Numbers in (0, 1] of distances in scaled units: 1 at the surface, falling."""
        return torch.exp(-self.settings.sharpness * distance)

    def distances(self, remapped: Tensor) -> Tensor:
        """The inverse of `remapped`; numbers outside its range, as networks tell them, count as its ends."""
        return -remapped.clamp(_NEAREST, 1.0).log() / self.settings.sharpness

    def description(self) -> dict[str, Any]:
        """Settings and fingerprint as JSON, for a weight file's card."""
        return {**asdict(self.settings), "fingerprint": self.fingerprint}

    @staticmethod
    def of_description(description: Mapping[str, Any], what: str) -> ChoirSpace:
        """The space that was described.

        Args:
            what: has that description, for messages.

        Raises:
            InputError: it is incomplete, or of other basis points or another permutation than these settings make here.
        """
        values = dict(description)
        try:
            fingerprint = values.pop("fingerprint")
            space = ChoirSpace(ChoirSettings(**values))
        except (KeyError, TypeError) as error:
            raise InputError(f"{what}: does not describe CHOIR's basis points ({error})") from error
        space.check(fingerprint, what)
        return space

    def check(self, fingerprint: str, what: str) -> None:
        """Refuse what belongs to other basis points, another assignment or another scaling.

        Raises:
            InputError: the fingerprints differ.
        """
        if fingerprint != self.fingerprint:
            raise InputError(
                f"{what}: belongs to CHOIR fields of fingerprint {fingerprint!r}, these have {self.fingerprint!r} "
                f"({self.settings}): basis points, anchor assignment, scaling and sharpness must be the same; make the "
                "field with the settings in the weights' card, or train anew"
            )


def _basis(settings: ChoirSettings) -> np.ndarray:
    scaled = settings.scaling != "none"
    if settings.layout == "ball":
        return ball_points(settings.per_side**3, SCALED_REACH if scaled else UNSCALED_RADIUS)
    reach = SCALED_REACH if scaled else UNSCALED_REACH
    axis = np.linspace(-reach, reach, settings.per_side)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
