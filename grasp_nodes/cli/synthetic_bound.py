"""The grasp synthesis as a generator among others: the upper bound of every table."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from grasp_nodes.cli.grasp_file_methods import grasps_in_frame
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.data.synthetic_grasps import synthesize_grasps
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import SYNTHETIC
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.hand.model import HandModel
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.objects.registry import SPEC_PREFIX, parse_name


class SyntheticGrasps:
    """Synthesises grasps of procedural objects, and brings them into the frames in which these are judged.

    Args:
        objects: that are judged on. model: the right hand.
    """

    def __init__(self, objects: Sequence[EvaluatedObject], model: HandModel) -> None:
        self._objects = {one.name: one for one in objects}
        self._model = model

    def generate(self, object_model: ObjectModel, count: int, seed: int) -> GraspSet:
        """Accepted grasps, all kinds in turn; fewer than wanted where the search gives up.

        Raises:
            InputError: the object is not procedural, or a mirror image.
        """
        start = time.perf_counter()
        item = self._objects[object_model.object_id]
        here = np.eye(4) if item.transform is None else item.transform
        if not can_synthesise(item) or np.linalg.det(here[:3, :3]) < 0:
            raise InputError(f"{item.name}: grasps are synthesised of procedural objects only, in their own size")
        found = synthesize_grasps(parse_name(item.mesh), count, seed)
        motion = here @ np.linalg.inv(found.objects[0].transform)
        grasps = grasps_in_frame(found, np.tile(motion, (len(found), 1, 1)), self._model) if len(found) else []
        return GraspSet(object_model.object_id, SYNTHETIC, seed, time.perf_counter() - start, grasps)


def can_synthesise(item: EvaluatedObject) -> bool:
    """Whether the synthesis knows this object."""
    return item.mesh.startswith(SPEC_PREFIX) and item.scale == 1 and item.size is None
