"""Further crops of recorded objects, drawn: the augmentation of CPF's appendix C.2.

a) Poses: recorded hands, disturbed a little, from other sides. b) Grasps: hands that GeO fits about the object's tight
box (equation 13). Both are drawn as the rendered crops are, with any skin, light, surface and background.
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from grasp_nodes.contact.hand_states import stack_hands, stack_params
from grasp_nodes.data.hand_object_drawing import DrawnHand, HandObjectDrawer
from grasp_nodes.data.hand_object_images import MOST_DISTURBED, HandObjectImages, crop_columns
from grasp_nodes.data.view_feature_images import disturb
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo.generation import GeoGenerator
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.model import ObjectModel

GENERATED = 2
"""Grasps that are fitted for each that is drawn: the half of lower energy is."""
TRIALS = 3
"""Hands that are tried for each crop, where no view shows both."""

_log = logging.getLogger(__name__)


def drawn_crops(
    thing: ObjectModel, recorded: HandObjectImages, model: HandModel, count: int, size: int, seed: int
) -> HandObjectImages | None:
    """Half of the crops from recorded hands, disturbed, and half from hands that GeO fits to the object.

    Args:
        thing: the object, the middle of its bounding box at the origin. recorded: its crops, of right hands.
        model: of these, float32. count: of crops. size: px. seed: of everything random.

    Returns:
        The crops, their object of no name; None where no view shows hand and object.

    Raises:
        InputError: a count below 1, or an object without usable normals.
    """
    if count < 1:
        raise InputError(f"crops: expected at least 1 to draw, got {count}")
    rng = np.random.default_rng(seed)
    fitted = GeoGenerator(model).generate(thing, GENERATED * -(-count // 2), seed)
    hands = [stack_hands(fitted.grasps[: -(-count // 2)])]
    if len(recorded):
        back = np.linalg.inv(recorded.T_camera_object.astype(np.float64))
        own = move_hands(recorded.hands(), back, model)
        rows = rng.integers(len(own), size=count // 2)
        hands.append(disturb(own[torch.from_numpy(rows)], rng.uniform(0.0, MOST_DISTURBED, len(rows)), rng))
    drawer = HandObjectDrawer(model, thing.vertices.astype(np.float64), thing.faces, size)
    drawn = _drawn(drawer, stack_params(hands), count, rng)
    if len(drawn) < count:
        _log.warning("%s: %d of %d crops drawn: other views show too little", thing.object_id, len(drawn), count)
    if not drawn:
        return None
    return HandObjectImages(**crop_columns(drawn), object_index=np.zeros(len(drawn), np.int64), objects=("",))


def _drawn(drawer: HandObjectDrawer, hands: HandParams, count: int, rng: np.random.Generator) -> list[DrawnHand]:
    """Crops of the hands in turn."""
    drawn: list[DrawnHand] = []
    for trial in range(TRIALS * count):
        if len(drawn) == count:
            break
        row = trial % len(hands)
        one = drawer.draw(hands[row : row + 1], rng)
        drawn += [one] if one is not None else []
    return drawn
