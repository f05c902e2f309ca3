"""Kinds of grasps that are asked for in turn, for as many grasps each as a round of the object's frames takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from grasp_nodes.contact.interaction import Grasp
from grasp_nodes.hand.kinds import GraspKind
from grasp_nodes.synthesis.flow.frames import FLIPS


def kinds_in_turn(kinds: Sequence[GraspKind], first: int, count: int, each: int = len(FLIPS)) -> tuple[GraspKind, ...]:
    """Of `count` grasps, the first of which is number `first`; `each`: how many of one kind follow each other."""
    return tuple(kinds[number // each % len(kinds)] for number in range(first, first + count))


def with_kinds(grasps: Sequence[Grasp], kinds: Sequence[GraspKind], each: int = len(FLIPS)) -> list[Grasp]:
    """Grasps from number 0 on, with the kinds that were asked for."""
    asked = kinds_in_turn(kinds, 0, len(grasps), each)
    return [replace(grasp, kind=kind) for grasp, kind in zip(grasps, asked, strict=True)]
