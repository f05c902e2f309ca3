"""The methods that the table of ``evaluate`` compares: registered ones, files of grasps, and the bounds.

A method is ``NAME``, ``NAME+rank8`` (for each grasp the best of eight, by `GraspScorer`; a file's by its scores),
``NAME+polish``, ``NAME+geo``, both, or ``file:PATH`` for a file of grasps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from grasp_nodes.cli.grasp_file_methods import FileGrasps
from grasp_nodes.data.synthetic_grasps import SYNTHESIS_VERSION, SyntheticGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import BOUNDS, DERIVED, POLISHED, RANDOM, SYNTHETIC, RandomHands
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.evaluation.harness.protocols import FeatureNetwork, Method, Parts
from grasp_nodes.evaluation.view_features import find_view_features
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.synthesis.registry import GENERATORS
from grasp_nodes.synthesis.suffixes import (
    GEO,
    POLISH_VERSION,
    HandModels,
    MethodName,
    compose,
    make_polisher,
    parse_method,
)

FILE_PREFIX = "file:"


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
    polished_chance = compose(MethodName(RANDOM, polish=True), chance, models, polisher, recorded=True)
    methods = [make_synthetic(models), chance, polished_chance]
    for name in names:
        recorded = name.base.startswith(FILE_PREFIX)
        base = _of_file(name.base, objects, models) if recorded else GENERATORS[name.base](models)
        methods.append(compose(name, base, models, polisher, recorded))
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


def _of_file(name: str, objects: Sequence[EvaluatedObject], models: HandModels) -> Method:
    path = Path(name.removeprefix(FILE_PREFIX))
    grasps = FileGrasps(path, objects, models)
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Method(name, grasps, labelled=True, timed=False, device="-", version=version)
