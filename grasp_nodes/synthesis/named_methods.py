"""Every method that users may name for a single object: the registered ones, what needs no weights, and the best."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grasp_nodes.data.synthetic_grasps import SyntheticGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.bounds import RANDOM, SYNTHETIC, RandomHands
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.fitting.geo.generation import METHOD as GEO_GENERATION
from grasp_nodes.fitting.hand_transfer import TransferSettings
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.learning.weights import OtherHandError
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.other_hand import OtherHandGenerator
from grasp_nodes.synthesis.registry import GENERATORS, JOINT_GENERATORS, make_base
from grasp_nodes.synthesis.suffixes import HandModels, MethodName, compose, parse_method

if TYPE_CHECKING:
    from grasp_nodes.synthesis.jhod.joint_generator import JointGenerator

AUTO = "auto"
BEST, LIVE, WITHOUT_WEIGHTS = "fastgrasp-flow+polish", "fastgrasp-flow+rank2", SYNTHETIC
"""The best grasps, those that come as fast as clouds do, and what there is without any training."""
CARRIED_VERSION = f"carried {hashlib.sha256(repr(TransferSettings()).encode()).hexdigest()[:8]}"

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


def make_named_method(
    name: str, models: HandModels, network_models: HandModels | None = None, best: str = BEST
) -> Method:
    """A method with its suffixes, ready to generate.

    Weights of the open hand also make grasps of another hand: they are carried over, and the method's name says so.

    Args:
        name: such as ``fastgrasp-flow+rank8+polish``; `AUTO`: `best`, or where its weights are missing
            `WITHOUT_WEIGHTS`, which is said. models: of both sides, on the CPU: scores and refinement work there.
        network_models: on the device of networks; None = `models`. best: what `AUTO` stands for.

    Raises:
        InputError: no such method; the message lists those that there are. MissingFileError: its weights are not there;
            the message says how they are trained and where they are looked for.
    """
    if name == AUTO:
        try:
            return make_named_method(best, models, network_models)
        except MissingFileError as error:
            _log.warning("%s instead of %s: %s", WITHOUT_WEIGHTS, best, error)
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
    try:
        return compose(parsed, make_base(parsed.base, device_models), models)
    except OtherHandError:
        return _on_other_hand(parsed, models, device_models)


@dataclass(frozen=True)
class JointMethod:
    """A method that makes the object as well, with its suffixes.

    name: as it was asked for. generator: of objects and grasps. models: of both sides, on the CPU.
    """

    name: MethodName
    generator: JointGenerator
    models: HandModels

    def imagine(self, seed: int) -> tuple[ObjectModel, Method]:
        """An object, and the method for grasps of it alone: asked with the same seed, its own hand is among them.

        Raises:
            InputError: a negative seed, or of several objects none can be held.
        """
        joint = self.generator
        model, grasps = joint.imagine(seed)
        base = Method(self.name.base, grasps, device=joint.device, version=joint.version)
        return model, compose(self.name, base, self.models)


def is_joint(name: str) -> bool:
    """Whether a method's name, with its suffixes, is that of one that makes the object as well.

    Raises:
        InputError: suffixes that cannot be.
    """
    return bool(name) and parse_method(name).base in JOINT_GENERATORS


def make_joint_method(name: str, models: HandModels, network_models: HandModels | None = None) -> JointMethod:
    """One of `is_joint`.

    Args:
        models, network_models: as of `make_named_method`.

    Raises:
        MissingFileError: its weights are not there. InputError: they are damaged, or of another hand.
    """
    parsed = parse_method(name)
    return JointMethod(parsed, JOINT_GENERATORS[parsed.base](network_models or models), models)


def _on_other_hand(name: MethodName, models: HandModels, device_models: HandModels) -> Method:
    """A method that was trained with the open hand, its grasps carried over to the hand of `models`.

    Raises:
        InputError: it was trained with a third hand.
    """
    trained = {side: load_hand_model(side, OPEN_HAND_FILE) for side in models}
    device = device_models["right"].device
    base = make_base(name.base, {side: load_hand_model(side, OPEN_HAND_FILE).to(device) for side in models})
    if base.generator is None:
        return compose(name, base, models)
    user, own = models["right"].model_id, trained["right"].model_id
    _log.warning(
        "method %s was trained with %s: its grasps are carried over to %s by keypoints and contacts, and polished",
        *(name, own, user),
    )
    # Chosen while it is cheap, on the open hand; a hand that is carried over is polished anyway.
    chosen = compose(replace(name, polish=False, geo=False), base, trained)
    assert chosen.generator is not None
    generator = OtherHandGenerator(chosen.generator, trained, models)
    carried = replace(base, generator=generator, version=f"{base.version} {CARRIED_VERSION}")
    method = compose(replace(name, rank=1, polish=False), carried, models)
    return replace(method, name=f"{name} ({own} -> {user})")
