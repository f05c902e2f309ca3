"""Procedural objects by name: ``family:seed``, the families, and those that no training ever sees.

The same name gives the same mesh for as long as `VERSION` stays.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import merge_vertices
from grasp_nodes.objects.families import flat, solids, tools, vessels

VERSION = 1
"""Raised whenever a family gives another mesh for a seed."""
HELD_OUT_SEED = 1_000_000
"""Seeds from here on are never used in training."""
SPEC_PREFIX = "family:"


@dataclass(frozen=True)
class Family:
    """One kind of object.

    make: a closed mesh in m from a generator. held_out: the whole family is kept from training.
    """

    name: str
    make: Callable[[np.random.Generator], trimesh.Trimesh]
    held_out: bool = False


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("box", solids.random_box),
        Family("cylinder", solids.random_cylinder),
        Family("sphere", solids.random_sphere),
        Family("ellipsoid", solids.random_ellipsoid),
        Family("capsule", solids.random_capsule),
        Family("superquadric", solids.random_superquadric),
        Family("prism", solids.random_prism),
        Family("frustum", solids.random_frustum),
        Family("bottle", vessels.random_bottle),
        Family("vase", vessels.random_vase),
        Family("glass", vessels.random_glass),
        Family("bowl", vessels.random_bowl),
        Family("mug", vessels.random_mug),
        Family("bulb", vessels.random_bulb, held_out=True),
        Family("goblet", vessels.random_goblet, held_out=True),
        Family("hammer", tools.random_hammer),
        Family("screwdriver", tools.random_screwdriver, held_out=True),
        Family("dumbbell", tools.random_dumbbell),
        Family("banana", tools.random_banana, held_out=True),
        Family("ring", flat.random_ring),
        Family("phone", flat.random_phone),
        Family("plate", flat.random_plate),
    )
}
TRAINING_FAMILIES = tuple(name for name, family in FAMILIES.items() if not family.held_out)
HELD_OUT_FAMILIES = tuple(name for name, family in FAMILIES.items() if family.held_out)
HELD_OUT_SEED_FAMILIES = (
    *("box", "cylinder", "sphere", "superquadric", "prism", "bottle"),
    *("vase", "bowl", "mug", "hammer", "ring", "phone"),
)
"""Families of which `heldout` takes a seed that training does not see."""
PER_HELD_OUT_FAMILY = 3


@dataclass(frozen=True)
class ObjectName:
    """``family:seed``."""

    family: str
    seed: int

    def __str__(self) -> str:
        return f"{self.family}:{self.seed}"

    @property
    def held_out(self) -> bool:
        """Whether training must not see it."""
        return FAMILIES[self.family].held_out or self.seed >= HELD_OUT_SEED


def parse_name(text: str) -> ObjectName:
    """``mug:12`` or ``family:mug:12``.

    Raises:
        InputError: no such family, or no seed of 0 or more.
    """
    family, _, seed = text.removeprefix(SPEC_PREFIX).partition(":")
    if family not in FAMILIES:
        raise InputError(f"object {text!r}: no family {family!r}; the families are {', '.join(FAMILIES)}")
    if not (seed.isascii() and seed.isdigit()):
        raise InputError(f"object {text!r}: expected {SPEC_PREFIX}{family}:SEED with a seed of 0, 1, 2, ...")
    return ObjectName(family, int(seed))


def family_mesh(name: str | ObjectName) -> tuple[np.ndarray, np.ndarray]:
    """The mesh of a name.

    Returns:
        vertices (V, 3) float64, m, the bounding box centred at the origin, and outward faces (F, 3) int64; closed.

    Raises:
        InputError: no such name.
    """
    name = parse_name(name) if isinstance(name, str) else name
    rng = np.random.default_rng([VERSION, zlib.crc32(name.family.encode()), name.seed])
    mesh = FAMILIES[name.family].make(rng)
    vertices, faces = merge_vertices(np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64))
    return vertices - 0.5 * (vertices.min(axis=0) + vertices.max(axis=0)), faces


def heldout_names() -> list[ObjectName]:
    """The 24 objects of the set ``heldout``: half of families, half of seeds that training does not see."""
    new_families = [ObjectName(family, seed) for family in HELD_OUT_FAMILIES for seed in range(PER_HELD_OUT_FAMILY)]
    return [*new_families, *(ObjectName(family, HELD_OUT_SEED) for family in HELD_OUT_SEED_FAMILIES)]


def training_names(count: int) -> list[ObjectName]:
    """So many objects that training may see, the families in turn.

    Raises:
        InputError: a negative count, or more than there are seeds.
    """
    families = TRAINING_FAMILIES
    if not 0 <= count <= HELD_OUT_SEED * len(families):
        raise InputError(f"objects: expected 0 to {HELD_OUT_SEED * len(families)}, got {count}")
    return [ObjectName(families[k % len(families)], k // len(families)) for k in range(count)]


def check_not_held_out(names: list[ObjectName]) -> None:
    """Refuse to train on what evaluation needs.

    Raises:
        InputError: some of the names are held out; they are listed.
    """
    kept = [str(name) for name in names if name.held_out]
    if kept:
        raise InputError(
            f"training objects: {len(kept)} of {len(names)} are held out for evaluation ({', '.join(kept[:5])}"
            f"{', ...' if len(kept) > 5 else ''}); take families among {', '.join(TRAINING_FAMILIES)} and seeds below "
            f"{HELD_OUT_SEED}"
        )
