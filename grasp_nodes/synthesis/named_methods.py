"""Every method that users may name for a single object: the registered ones, what needs no weights, and the best."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from grasp_nodes.data.synthetic_grasps import SyntheticGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.bounds import RANDOM, SYNTHETIC, RandomHands
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.fitting.geo.generation import METHOD as GEO_GENERATION
from grasp_nodes.synthesis.registry import GENERATORS, make_base
from grasp_nodes.synthesis.suffixes import HandModels, compose, parse_method

AUTO = "auto"
BEST, WITHOUT_WEIGHTS = "fastgrasp-flow+polish", SYNTHETIC

_log = logging.getLogger(__name__)


def _synthetic(models: HandModels) -> Method:
    return Method(SYNTHETIC, SyntheticGrasps(models["right"]), labelled=True)


def _random(models: HandModels) -> Method:
    return Method(RANDOM, RandomHands(models["right"]))


BASELINES: Mapping[str, Callable[[HandModels], Method]] = {SYNTHETIC: _synthetic, RANDOM: _random}
"""Work without weights; on the CPU."""


def method_names() -> list[str]:
    """All names, each of which may be followed by +rank8, +polish or +geo, but for `AUTO`."""
    return [AUTO, *GENERATORS, *BASELINES]


def make_named_method(name: str, models: HandModels, network_models: HandModels | None = None) -> Method:
    """A method with its suffixes, ready to generate.

    Args:
        name: such as ``fastgrasp-flow+rank8+polish``; `AUTO`: `BEST`, or where its weights are missing
            `WITHOUT_WEIGHTS`, which is said. models: of both sides, on the CPU: scores and refinement work there.
        network_models: on the device of networks; None = `models`.

    Raises:
        InputError: no such method; the message lists those that there are. MissingFileError: its weights are not there;
            the message says how they are trained and where they are looked for.
    """
    if name == AUTO:
        try:
            return make_named_method(BEST, models, network_models)
        except MissingFileError as error:
            _log.warning("%s instead of %s: %s", WITHOUT_WEIGHTS, BEST, error)
            return make_named_method(WITHOUT_WEIGHTS, models)
    parsed = parse_method(name)
    if parsed.base in BASELINES:
        return compose(parsed, BASELINES[parsed.base](models), models)
    if parsed.base not in GENERATORS:
        raise InputError(
            f"method {name!r}: not known; expected {AUTO}, or some of {', '.join(method_names()[1:])}, each also with "
            "+rank8, +polish or +geo"
        )
    device_models = models if parsed.base == GEO_GENERATION or network_models is None else network_models
    return compose(parsed, make_base(parsed.base, device_models), models)
