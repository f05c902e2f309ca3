"""The methods that make grasps of an object, by the names that commands, services and tables take.

This is the one place where they are registered. Each name may be followed by the suffixes of `suffixes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.fitting.geo.generation import METHOD as GEO_GENERATION
from grasp_nodes.fitting.geo.generation import GeoGenerator
from grasp_nodes.synthesis.suffixes import GEO_VERSION, HandModels, MethodName, compose, parse_method
from grasp_nodes.synthesis.vector_generator import VectorGenerator

if TYPE_CHECKING:
    from grasp_nodes.synthesis.jhod.joint_generator import JointGenerator

Maker: TypeAlias = Callable[[HandModels], Method]
"""Of the hand models of both sides, on the device that the method is to run on; heavy imports belong inside.

Raises MissingFileError where the method's weights are not there, with the command that trains them."""


def _geo_generation(models: HandModels) -> Method:
    return Method(GEO_GENERATION, GeoGenerator(models["right"]), version=GEO_VERSION)


def _fastgrasp_flow(models: HandModels) -> Method:
    from grasp_nodes.synthesis.flow.generator import make_flow

    return make_flow(models)


def _fastgrasp_flow_unguided(models: HandModels) -> Method:
    from grasp_nodes.synthesis.flow.generator import make_flow

    return make_flow(models, guided=False)


def _fastgrasp(models: HandModels) -> Method:
    from grasp_nodes.synthesis.fastgrasp.generator import load_fastgrasp

    return _of_vectors(load_fastgrasp(models["right"]))


def _fastgrasp_ddpm(models: HandModels) -> Method:
    from grasp_nodes.synthesis.fastgrasp.generator import SamplingSettings, load_fastgrasp

    return _of_vectors(load_fastgrasp(models["right"], settings=SamplingSettings("ddpm")))


def _fastgrasp_no_adaptation(models: HandModels) -> Method:
    from grasp_nodes.synthesis.fastgrasp.generator import load_fastgrasp

    return _of_vectors(load_fastgrasp(models["right"], adapted=False))


def _cvae(models: HandModels) -> Method:
    from grasp_nodes.synthesis.fastgrasp.generator import load_cvae_generator

    return _of_vectors(load_cvae_generator(models["right"]))


def _grabnet(models: HandModels) -> Method:
    from grasp_nodes.synthesis.grabnet.generator import load_grabnet

    return _of_vectors(load_grabnet(models["right"]))


def _grabnet_refine(models: HandModels) -> Method:
    from grasp_nodes.synthesis.grabnet.generator import load_grabnet

    return _of_vectors(load_grabnet(models["right"], refined=True))


def _jointdiffusion(models: HandModels) -> Method:
    from grasp_nodes.synthesis.jointdiffusion.grasps import make_joint

    return make_joint(models)


def _keypoint(models: HandModels) -> Method:
    from grasp_nodes.synthesis.jointdiffusion.grasps import make_keypoint

    return make_keypoint(models)


def _jhod(models: HandModels) -> Method:
    from grasp_nodes.synthesis.jhod.generator import make_jhod

    return make_jhod(models)


def _jhod_ddpm(models: HandModels) -> Method:
    from grasp_nodes.synthesis.jhod.generator import PAPER_SAMPLING, make_jhod

    return make_jhod(models, PAPER_SAMPLING, "jhod-ddpm")


def _jhod_unguided(models: HandModels) -> Method:
    from grasp_nodes.synthesis.jhod.generator import UNGUIDED_SAMPLING, make_jhod

    return make_jhod(models, UNGUIDED_SAMPLING, "jhod-unguided")


def _joint_jhod(models: HandModels) -> JointGenerator:
    from grasp_nodes.synthesis.jhod.joint_generator import make_joint_jhod

    return make_joint_jhod(models)


def _joint_jhod_ddpm(models: HandModels) -> JointGenerator:
    from grasp_nodes.synthesis.jhod.generator import PAPER_SAMPLING
    from grasp_nodes.synthesis.jhod.imagination import PAPER_IMAGINING
    from grasp_nodes.synthesis.jhod.joint_generator import make_joint_jhod

    return make_joint_jhod(models, PAPER_IMAGINING, PAPER_SAMPLING, "jhod-ddpm")


def _joint_jhod_unguided(models: HandModels) -> JointGenerator:
    from grasp_nodes.synthesis.jhod.generator import UNGUIDED_SAMPLING
    from grasp_nodes.synthesis.jhod.imagination import UNGUIDED_IMAGINING
    from grasp_nodes.synthesis.jhod.joint_generator import make_joint_jhod

    return make_joint_jhod(models, UNGUIDED_IMAGINING, UNGUIDED_SAMPLING, "jhod-unguided")


def _of_vectors(generator: VectorGenerator) -> Method:
    device = generator.coder.model.device.type
    return Method(generator.method, generator, device=device, version=generator.version)


GENERATORS: Mapping[str, Maker] = {
    "cvae": _cvae,
    "fastgrasp": _fastgrasp,
    "fastgrasp-ddpm": _fastgrasp_ddpm,
    "fastgrasp-no-adaptation": _fastgrasp_no_adaptation,
    "fastgrasp-flow": _fastgrasp_flow,
    "fastgrasp-flow-unguided": _fastgrasp_flow_unguided,
    GEO_GENERATION: _geo_generation,
    "grabnet": _grabnet,
    "grabnet-refine": _grabnet_refine,
    "jhod": _jhod,
    "jhod-ddpm": _jhod_ddpm,
    "jhod-unguided": _jhod_unguided,
    "jointdiffusion": _jointdiffusion,
    "keypoint": _keypoint,
}

JOINT_GENERATORS: Mapping[str, Callable[[HandModels], JointGenerator]] = {
    "jhod": _joint_jhod,
    "jhod-ddpm": _joint_jhod_ddpm,
    "jhod-unguided": _joint_jhod_unguided,
}
"""Those of them that make the object as well; as `Maker`."""


def make_method(name: MethodName | str, models: HandModels) -> Method:
    """A method with its suffixes, ready to generate; its grasps are scored and measured.

    Args:
        name: such as ``fastgrasp-flow+rank8+polish``. models: of both sides.

    Raises:
        InputError: no such method; the message lists those that there are. MissingFileError: its weights are not there.
    """
    parsed = parse_method(name) if isinstance(name, str) else name
    return compose(parsed, make_base(parsed.base, models), models)


def make_base(name: str, models: HandModels) -> Method:
    """A method as it is registered, without suffixes.

    Raises:
        InputError, MissingFileError: as `make_method`.
    """
    if name not in GENERATORS:
        raise InputError(
            f"method {name!r}: not known; expected some of {', '.join(GENERATORS)}, each also with +rank8, +polish or "
            "+geo"
        )
    return GENERATORS[name](models)
