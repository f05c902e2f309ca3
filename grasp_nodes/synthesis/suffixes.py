"""What may follow a method's name: ranking and refinement, the same for every method.

``+rank8``: for each grasp the best of eight, by `GraspScorer`. ``+polish``: by `GraspPolisher`. ``+geo``: by GeO.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from grasp_nodes.contact.interaction import GraspGenerator
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import POLISHED, BestOfMany, PolishedGenerator
from grasp_nodes.evaluation.harness.protocols import Method, Polisher
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.fitting.grasp_refine import POLISH_SETTINGS, GraspPolisher
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import ChunkedGenerator
from grasp_nodes.synthesis.ranking import GraspScorer, ScoredGenerator

HandModels: TypeAlias = Mapping[Side, HandModel]
"""Of both sides."""

GEO = "+geo"
POLISH_VERSION = f"polish {hashlib.sha256(repr(POLISH_SETTINGS).encode()).hexdigest()[:8]}"
GEO_VERSION = f"geo {hashlib.sha256(repr(GeoSettings()).encode()).hexdigest()[:8]}"
LARGEST_RANK = 1024
_METHOD = re.compile(r"(?P<base>.+?)(?:\+rank(?P<rank>[1-9][0-9]*))?(?P<refine>\+polish|\+geo)?")


@dataclass(frozen=True)
class MethodName:
    """A method as it is named.

    rank: of how many candidates the best is kept, 1 = none is chosen. polish, geo: refined so or not, at most one.
    """

    base: str
    rank: int = 1
    polish: bool = False
    geo: bool = False

    def __str__(self) -> str:
        return (
            self.base
            + (f"+rank{self.rank}" if self.rank > 1 else "")
            + (POLISHED if self.polish else GEO if self.geo else "")
        )


def parse_method(text: str) -> MethodName:
    """``jhod+rank8+polish`` and the like; whether there is such a method is not asked.

    Raises:
        InputError: nothing before the suffixes, suffixes in another order, or more candidates than can be.
    """
    found = _METHOD.fullmatch(text)
    if found is None or re.search(r"\+(polish|geo|rank[0-9]*)$", found["base"]) or found["base"].startswith("+"):
        raise InputError(
            f"method {text!r}: expected NAME, NAME+rank8, NAME{POLISHED}, NAME{GEO}, NAME+rank8{POLISHED} or "
            f"NAME+rank8{GEO}"
        )
    rank, refine = int(found["rank"] or 1), found["refine"]
    if rank > LARGEST_RANK:
        raise InputError(f"method {text!r}: expected the best of at most {LARGEST_RANK}, got rank{rank}")
    return MethodName(found["base"], rank, refine == POLISHED, refine == GEO)


def compose(
    name: MethodName, base: Method, models: HandModels, polisher: Polisher | None = None, recorded: bool = False
) -> Method:
    """The method that a name stands for, of the one that its base stands for.

    Its grasps are scored and measured as they are at the end, and made in chunks of bounded memory.

    Args:
        name: with its suffixes. base: as it is registered. models: of both sides.
        polisher: of ``+polish``; None = `make_polisher`.
        recorded: grasps that are given, such as a file's: they keep their own scores and come all at once.
    """
    if base.generator is None:
        return replace(base, name=str(name))
    scorers = {} if recorded else {side: GraspScorer(model) for side, model in models.items()}

    def scored(generator: GraspGenerator) -> GraspGenerator:
        return generator if recorded else ScoredGenerator(generator, scorers)

    generator, version, labelled = scored(base.generator), base.version, base.labelled
    if name.rank > 1:
        generator = BestOfMany(generator, name.rank)
    if name.polish or name.geo:
        refine = make_geo(models) if name.geo else polisher or make_polisher(models)
        suffix, refinement = (GEO, GEO_VERSION) if name.geo else (POLISHED, POLISH_VERSION)
        # What was true of the hands before is not any more: they are scored anew.
        generator = scored(PolishedGenerator(generator, refine, models, suffix))
        labelled, version = False, f"{version} {refinement}"
    if not recorded:
        generator = ChunkedGenerator(generator)
    timed = base.timed or name.polish or name.geo
    return Method(str(name), generator, labelled, timed, base.device, version)


def make_polisher(models: HandModels) -> Polisher:
    """The polish of hands of either side."""
    polishers = {side: GraspPolisher(model) for side, model in models.items()}

    def polish(hands: HandParams, object_model: ObjectModel) -> HandParams:
        return polishers[hands.side](hands, object_model)

    return polish


def make_geo(models: HandModels) -> Polisher:
    """GeO for hands of either side, with contact guessed from where hands are."""
    refiners = {side: GeoRefiner(model) for side, model in models.items()}

    def refine(hands: HandParams, object_model: ObjectModel) -> HandParams:
        return refiners[hands.side](hands, object_model)

    return refine
