"""Pictures of unselected samples: the same places of the same objects of every method, drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.judging import judged_hands, posed_vertices
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.evaluation.harness.protocols import PictureWriter
from grasp_nodes.evaluation.harness.records import Record
from grasp_nodes.evaluation.penetration import hand_signed_distance
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_VERTICES, Side

SHEET_FILE = "samples.png"


@dataclass(frozen=True)
class Place:
    """A grasp by the object it is of and its number there."""

    item: EvaluatedObject
    number: int


def draw_places(objects: Sequence[EvaluatedObject], count: int, places: int, seed: int) -> list[Place]:
    """So many places by lot, no object twice before each was drawn once.

    Args:
        objects: of the set. count: grasps on each. places: wanted. seed: of the lot.
    """
    rng = np.random.default_rng([seed, 1])
    rounds = -(-places // len(objects))
    order = np.concatenate([rng.permutation(len(objects)) for _ in range(rounds)])[:places]
    return [Place(objects[int(k)], int(rng.integers(count))) for k in order]


def write_samples(
    folder: Path,
    methods: Sequence[str],
    places: Sequence[Place],
    records: Mapping[tuple[str, str], Record],
    models: Mapping[Side, HandModel],
    pictures: PictureWriter,
    progress: Callable[[int, int], None] | None = None,
) -> Path | None:
    """Draw each method's grasps at these places, and a sheet with one row per method.

    A grasp with NaN, or a place without one, is drawn as the object alone; a refused object is left out.

    Args:
        folder: of the evaluation. methods: names, in the order of the rows. places: from `draw_places`.
        records: by method and object. progress: is told how many pictures of how many are drawn.

    Returns:
        The sheet; None where there is nothing to draw.
    """
    hands = judged_hands(models)
    drawn: dict[tuple[str, int], tuple[Path, str]] = {}
    kept: list[int] = []
    for column, place in enumerate(places):
        try:
            model = place.item.build()
            solid = Solid.of(model)
        except (InputError, MissingFileError):
            continue  # in the report, with the reason
        kept.append(column)
        for name in methods:
            record = records.get((name, place.item.name))
            grasps = record.grasps(models) if record is not None else []
            chosen = [grasps[place.number]] if place.number < len(grasps) else []
            side: Side = chosen[0].hand.params.side if chosen else "right"
            vertices = posed_vertices(chosen, hands)[0] if chosen else np.full((NUM_VERTICES, 3), np.nan)
            distance = hand_signed_distance(vertices[None], solid)[0]
            file = pictures.write(
                *(name, place.item.name, place.number, vertices, hands[side].closed),
                *(solid.vertices, solid.faces, distance),
            )
            drawn[name, column] = file, f"{name}  {place.item.name}  {place.number}"
            if progress is not None:
                progress(len(drawn), len(places) * len(methods))
    if not drawn:
        return None
    sheet = folder / SHEET_FILE
    pictures.sheet(sheet, [drawn[name, column] for name in methods for column in kept], len(kept))
    return sheet
