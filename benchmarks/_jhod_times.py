"""How long JHOD takes: one grasp of a given object in a few steps and in all, and sixteen hands with their objects.

With the installed weights where there are some; else without training, in the same size: the time is the same. Networks
without training are made to dream of one object, since nothing else would have a surface.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.report import Row
from grasp_nodes.errors import MissingFileError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.flow.frames import principal_turns
from grasp_nodes.synthesis.jhod.batches import ordered_latents
from grasp_nodes.synthesis.jhod.generator import PAPER_SAMPLING, JhodGenerator, JhodSettings, cloud_of
from grasp_nodes.synthesis.jhod.imagination import Imagination
from grasp_nodes.synthesis.jhod.network import PAPER_JHOD, SMALL_JHOD, JhodConfig, JhodNetwork
from grasp_nodes.synthesis.jhod.point_autoencoder import PAPER_POINTS, SMALL_POINTS, PointAutoEncoder
from grasp_nodes.synthesis.jhod.trained import TrainedJhod, load_jhod

PAIRS = 16
_REPEATS = 3


def jhod_rows(models: dict[Side, HandModel], thing: ObjectModel) -> list[Row]:
    """Times; an object is new to the generator each time."""
    try:
        small = load_jhod(models["right"])
    except MissingFileError:
        small = _untrained(models["right"], SMALL_JHOD, PointAutoEncoder(SMALL_POINTS), thing)
    paper = _untrained(models["right"], PAPER_JHOD, PointAutoEncoder(PAPER_POINTS), thing)
    imagination = Imagination(small, models)

    def one(trained: TrainedJhod, settings: JhodSettings) -> Callable[[], object]:
        return lambda: JhodGenerator(trained, models, settings).generate(thing, 1, 0)

    return [
        Row("jhod_b1_ms", _milliseconds(one(small, JhodSettings())), "ms"),
        Row("jhod-paper_b1_ms", _milliseconds(one(paper, JhodSettings())), "ms"),
        Row("jhod-paper-ddpm_b1_ms", _milliseconds(one(paper, PAPER_SAMPLING), repeats=1), "ms"),
        Row(f"jhod_imagine_b{PAIRS}_ms", _milliseconds(lambda: imagination.imagine(PAIRS, 0)), "ms"),
    ]


def _untrained(model: HandModel, config: JhodConfig, encoder: PointAutoEncoder, thing: ObjectModel) -> TrainedJhod:
    torch.manual_seed(0)
    network = JhodNetwork(HandCoder(model, config.layout), config)
    cloud = torch.from_numpy(cloud_of(thing, config.points))[None]
    cloud = (cloud - cloud.mean(dim=1)) @ principal_turns(cloud).mT
    latents = ordered_latents(encoder, cloud)[0]
    for layers, values in zip(network.object_tokens.back, latents.unbind(dim=1), strict=True):
        last = list(layers.children())[-1]
        torch.nn.init.zeros_(last.weight)
        last.bias.data.copy_(values)
    return TrainedJhod(network.eval().requires_grad_(False), encoder.eval().requires_grad_(False), "untrained")


def _milliseconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Median, after one call that does not count."""
    spent = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - started))
    return statistics.median(spent[1:])
