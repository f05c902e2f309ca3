"""The methods that make grasps, by the names that commands take: the one place where they are registered.

A method is ``NAME``, ``NAME+rank8`` (for each grasp the best of eight, by `GraspScorer`; a file's by its scores),
``NAME+polish``, both, or ``file:PATH`` for a file of grasps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grasp_nodes.cli.grasp_file_methods import FileGrasps
from grasp_nodes.data.synthetic_grasps import SYNTHESIS_VERSION, SyntheticGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import (
    BOUNDS,
    DERIVED,
    POLISHED,
    RANDOM,
    SYNTHETIC,
    BestOfMany,
    PolishedGenerator,
    RandomHands,
)
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.evaluation.harness.protocols import FeatureNetwork, Method, Parts, Polisher
from grasp_nodes.evaluation.view_features import find_view_features
from grasp_nodes.fitting.geo.generation import METHOD as GEO_GENERATION
from grasp_nodes.fitting.geo.generation import GeoGenerator
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.fitting.grasp_refine import GraspPolisher, RefineSettings
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.ranking import GraspScorer, ScoredGenerator

FILE_PREFIX = "file:"
HandModels = Mapping[Side, HandModel]

POLISH_VERSION = f"polish {hashlib.sha256(repr(RefineSettings()).encode()).hexdigest()[:8]}"
_METHOD = re.compile(r"(?P<base>.+?)(?:\+rank(?P<rank>[1-9][0-9]*))?(?P<refine>\+polish|\+geo)?")
GEO = "+geo"
GEO_VERSION = f"geo {hashlib.sha256(repr(GeoSettings()).encode()).hexdigest()[:8]}"
GENERATORS: Mapping[str, Callable[[HandModels], Method]] = {
    GEO_GENERATION: lambda models: Method(GEO_GENERATION, GeoGenerator(models["right"]), version=GEO_VERSION),
}
"""Generators that are installed, by name; each is made with the hand models of both sides."""


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
        InputError: nothing before the suffixes, or suffixes in another order.
    """
    found = _METHOD.fullmatch(text)
    if found is None or re.search(r"\+(polish|geo|rank[0-9]*)$", found["base"]) or found["base"].startswith("+"):
        raise InputError(
            f"method {text!r}: expected NAME, NAME+rank8, NAME{POLISHED}, NAME{GEO}, NAME+rank8{POLISHED} or "
            f"NAME+rank8{GEO}"
        )
    refine = found["refine"]
    return MethodName(found["base"], int(found["rank"] or 1), refine == POLISHED, refine == GEO)


def parse_methods(text: str) -> list[MethodName]:
    """Methods separated by commas; an empty text names none.

    Raises:
        InputError: one of them is unknown, or named twice.
    """
    names = [parse_method(part.strip()) for part in text.split(",") if part.strip()]
    for name in names:
        if str(name) in BOUNDS:
            raise InputError(f"method {str(name)!r}: is a bound, which is always in the table: leave it out")
        if not name.base.startswith(FILE_PREFIX) and name.base not in GENERATORS:
            known = ", ".join([*GENERATORS, f"{FILE_PREFIX}PATH"])
            raise InputError(
                f"method {str(name)!r}: not known; expected some of {known}, each also with {POLISHED} or {GEO}"
            )
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"methods: {', '.join(twice)} named more than once")
    return names


def load_hand_models() -> dict[Side, HandModel]:
    """The hand model of both sides, float32, on the CPU."""
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


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


def make_synthetic(models: HandModels) -> Method:
    """The bound of synthetic grasps."""
    version = f"synthesis {SYNTHESIS_VERSION}"
    return Method(SYNTHETIC, SyntheticGrasps(models["right"]), labelled=True, version=version)


def make_feature_network() -> FeatureNetwork | None:
    """The network of the Fréchet distance; None where its weights are not installed."""
    return find_view_features()


def make_parts(names: Sequence[MethodName], objects: Sequence[EvaluatedObject], displacement: bool) -> Parts:
    """Everything that judges these methods on these objects.

    Raises:
        InputError: a file of grasps that cannot be used.
    """
    models = load_hand_models()
    polisher = make_polisher(models)
    chance = Method(RANDOM, RandomHands(models["right"]), version="1")
    methods = [make_synthetic(models), chance, _composed(MethodName(RANDOM, polish=True), chance, polisher, models)]
    methods += [_composed(name, _base(name.base, objects, models), polisher, models) for name in names]
    return Parts(
        methods={method.name: method for method in methods},
        hand_models=models,
        polisher=polisher,
        polisher_version=POLISH_VERSION,
        feature_network=make_feature_network(),
        displacement=displacement,
    )


def table_methods(names: Sequence[MethodName], parts: Parts) -> list[Method]:
    """The methods of the table in its order: those asked for, then the bounds."""
    device = parts.methods[SYNTHETIC].device
    derived = {name: Method(name, device=device) for name in DERIVED}
    return [{**derived, **parts.methods}[name] for name in (*map(str, names), *BOUNDS)]


def _base(name: str, objects: Sequence[EvaluatedObject], models: HandModels) -> Method:
    if not name.startswith(FILE_PREFIX):
        return GENERATORS[name](models)
    path = Path(name.removeprefix(FILE_PREFIX))
    grasps = FileGrasps(path, objects, models)
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Method(name, grasps, labelled=True, timed=False, device="-", version=version)


def _composed(name: MethodName, base: Method, polisher: Polisher, models: HandModels) -> Method:
    generator, labelled, version = base.generator, base.labelled, base.version
    if generator is None:
        return replace(base, name=str(name))
    scorers = {side: GraspScorer(model) for side, model in models.items()}
    if name.base in GENERATORS:
        generator = ScoredGenerator(generator, scorers)
    if name.rank > 1:
        generator = BestOfMany(generator, name.rank)
    if name.polish:
        generator = PolishedGenerator(generator, polisher, models)
        if name.base in GENERATORS:
            generator = ScoredGenerator(generator, scorers)  # what was true of the hands before is not any more
        labelled, version = False, f"{version} {POLISH_VERSION}"
    if name.geo:
        generator = PolishedGenerator(generator, make_geo(models), models, GEO)
        if name.base in GENERATORS:
            generator = ScoredGenerator(generator, scorers)
        labelled, version = False, f"{version} {GEO_VERSION}"
    return Method(str(name), generator, labelled, base.timed or name.polish or name.geo, base.device, version)
