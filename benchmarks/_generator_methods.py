"""The generators that are timed: with their weights where they are installed, else as large without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspGenerator
from grasp_nodes.errors import MissingFileError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import SPEC_PREFIX, training_names
from grasp_nodes.synthesis.fastgrasp.adaptation import PAPER_ADAPTATION, Adaptation
from grasp_nodes.synthesis.fastgrasp.autoencoder import PAPER_AUTOENCODER, PAPER_LAYOUT, HandAutoEncoder
from grasp_nodes.synthesis.fastgrasp.denoiser import PAPER_DENOISER, LatentDenoiser
from grasp_nodes.synthesis.fastgrasp.generator import FastGraspNetwork, SamplingSettings
from grasp_nodes.synthesis.flow.generator import FlowGenerationSettings, FlowGenerator
from grasp_nodes.synthesis.flow.network import SMALL_FLOW, FlowNetwork
from grasp_nodes.synthesis.flow.trained import METHOD, load_flow
from grasp_nodes.synthesis.registry import GENERATORS, make_base
from grasp_nodes.synthesis.vector_generator import VectorGenerator, object_points

PAPER = "fastgrasp-paper"
PAPER_STEPS = 20
_OTHERS = ("cvae", "grabnet", "grabnet-refine", "fastgrasp", "fastgrasp-no-adaptation")
HandModels = dict[Side, HandModel]


@dataclass(frozen=True)
class TimedMethod:
    """fresh: a generator that has not seen any object. each: one hand for each of many objects."""

    name: str
    fresh: Callable[[], GraspGenerator]
    each: Callable[[Sequence[ObjectModel]], HandParams]


def hand_models() -> HandModels:
    """Of both sides."""
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


def timed_methods(models: HandModels) -> list[TimedMethod]:
    """The flow with and without guidance, then those others whose weights are installed."""
    found = [_flow(models, METHOD, FlowGenerationSettings())]
    found.append(_flow(models, f"{METHOD}-unguided", FlowGenerationSettings(guidance=None)))
    for name in _OTHERS:
        if name in GENERATORS:
            try:
                base = make_base(name, models).generator
            except MissingFileError:
                continue
            if isinstance(base, VectorGenerator):
                found.append(_of_vectors(name, base))
    return found


def paper_method(models: HandModels) -> TimedMethod:
    """FastGrasp in the paper's size with its adaptation module, 20 steps of DDIM; untrained: the time is the same."""
    torch.manual_seed(0)
    coder = HandCoder(models["right"], PAPER_LAYOUT)
    parts = (
        HandAutoEncoder(PAPER_AUTOENCODER, coder.size),
        LatentDenoiser(PAPER_DENOISER),
        Adaptation(PAPER_ADAPTATION),
    )
    for part in parts:
        part.eval().requires_grad_(False)
    network = FastGraspNetwork(*parts, SamplingSettings("ddim", PAPER_STEPS))
    return _of_vectors(PAPER, VectorGenerator(PAPER, network, coder))


def objects(count: int) -> list[ObjectModel]:
    """So many different objects, families in turn."""
    return [load_object(f"{SPEC_PREFIX}{name}", num_points=3000) for name in training_names(count)]


def _flow(models: HandModels, name: str, settings: FlowGenerationSettings) -> TimedMethod:
    try:
        network, _ = load_flow(models["right"])
    except MissingFileError:
        network = FlowNetwork(HandCoder(models["right"]), SMALL_FLOW).eval().requires_grad_(False)

    def fresh() -> FlowGenerator:
        return FlowGenerator(network, models, settings, name)

    def each(things: Sequence[ObjectModel]) -> HandParams:
        hands = fresh().hands_of_each(things, 0)
        make_grasps(hands, models["right"])
        return hands

    return TimedMethod(name, fresh, each)


def _of_vectors(name: str, generator: VectorGenerator) -> TimedMethod:
    def fresh() -> VectorGenerator:
        return VectorGenerator(name, generator.network, generator.coder)

    def each(things: Sequence[ObjectModel]) -> HandParams:
        seen = [object_points(thing, generator.network.num_points) for thing in things]
        points, centers = (torch.stack([one[k] for one in seen]) for k in (0, 1))
        noise = torch.randn(len(things), generator.network.noise_size, generator=torch.Generator().manual_seed(0))
        hands = fresh().hands(points, centers, noise, 0)
        make_grasps(hands, generator.coder.model)
        return hands

    return TimedMethod(name, fresh, each)
