"""Grasps that suit a request: what does not is left out before it is measured, and before the best are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from grasp_nodes.contact.interaction import Grasp, GraspGenerator, GraspSet
from grasp_nodes.evaluation.harness.bounds import BestOfMany
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.chunks import ChunkedGenerator
from grasp_nodes.synthesis.ranking import ScoredGenerator

Suits: TypeAlias = Callable[[Grasp], bool]
"""Whether a grasp is one of those that are wanted."""


def generate_suitable(
    generator: GraspGenerator, object_model: ObjectModel, tries: int, seed: int, suits: Suits
) -> GraspSet:
    """Of so many tries the grasps that suit, at most `tries`.

    Ranking chooses among hands that suit: the best of eight that is then refused is worth less than the fourth best.
    Refined hands are looked at when they are refined.

    Args:
        generator: of a method, with what its name's suffixes say. tries: as many as it may make at once, see `CHUNK`.
    """
    if isinstance(generator, ChunkedGenerator):
        return generate_suitable(generator.generator, object_model, tries, seed, suits)
    if isinstance(generator, BestOfMany):
        found = generate_suitable(generator.generator, object_model, tries * generator.candidates, seed, suits)
        return generator.best_of(found, tries, seed)
    if isinstance(generator, ScoredGenerator):
        found = generate_suitable(generator.generator, object_model, tries, seed, suits)
        return generator.scored(found, object_model)
    found = generator.generate(object_model, tries, seed)
    return replace(found, grasps=[one for one in found.grasps if suits(one)])
