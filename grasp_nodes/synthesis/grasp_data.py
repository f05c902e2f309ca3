"""A set of grasps made ready for training generators: surfaces, vectors, and which objects train and which validate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from grasp_nodes.data.grasp_batches import GraspBatches, GraspSplit, split_by_object
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.object_surfaces import sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.batches import Batches, ShuffledRows
from grasp_nodes.learning.steps import Step
from grasp_nodes.objects.registry import SPEC_PREFIX, check_not_held_out, parse_name
from grasp_nodes.synthesis.principal_frames import in_principal_frames

SURFACE_SHARE = 2
"""So many points are sampled on an object for each one in a batch: other ones can be taken at each step."""
VALIDATION_RANK = 1_000_003
"""Of the process whose rotations and points the validation has: no training has so many processes."""


@dataclass(frozen=True)
class GraspData:
    """Grasps to train on.

    batches: of all of them, in the vectors of a coder that is fitted to the training's. split: of the rows.
    what: it is, in words. principal: whether hands and objects are turned to the objects' principal axes.
    """

    batches: GraspBatches
    split: GraspSplit
    what: str
    principal: bool = False

    @staticmethod
    def of_grasps(
        grasps: LabelledGrasps,
        model: HandModel,
        layout: HandLayout,
        points: int,
        turned: bool = True,
        validation: float = 0.05,
        leave_out: Sequence[str] = (),
        seed: int = 0,
        coder: HandCoder | None = None,
        report: Callable[[int, int], None] | None = None,
        principal: bool = False,
    ) -> GraspData:
        """Sample the objects' surfaces, split by object, fit the vectors.

        Args:
            grasps: the set. model: its hand. layout: of the vectors. points: of an object in a batch.
            turned: whether hand and object are turned at random. validation: share of the objects that validate.
            leave_out: families that are not trained on. seed: of the split.
            coder: of the vectors, instead of one that is fitted. report: is told surfaces sampled, and in all.
            principal: see `GraspData`; they are not turned at random then, whatever `turned` says.

        Raises:
            InputError: grasps of another hand, of objects that are held out, or none. MissingFileError: a mesh that is
                not there.
        """
        check_not_held_out([parse_name(one.mesh) for one in grasps.objects if one.mesh.startswith(SPEC_PREFIX)])
        split = split_by_object(grasps, validation, seed, leave_out)
        if not len(split.training):
            raise InputError(f"{grasps.source}: no grasps are left to train on")
        turned = turned and not principal
        surfaces = sample_surfaces(grasps.objects, SURFACE_SHARE * points, progress=report)
        if coder is None:
            whole = GraspBatches(grasps, surfaces, HandCoder(model, layout), points, turned)
            coder = whole.fitted(split.training)
        batches = GraspBatches(grasps, surfaces, coder, points, turned)
        objects = len(np.unique(grasps.object_index[split.training]))
        out = f", without {', '.join(leave_out)}" if leave_out else ""
        return GraspData(
            batches, split, f"{grasps.source}: {len(split.training)} grasps of {objects} objects{out}", principal
        )

    @property
    def validation_step(self) -> Step:
        """Whose rotations and points the validation has."""
        return Step(0, VALIDATION_RANK)

    @property
    def coder(self) -> HandCoder:
        """Of the vectors."""
        return self.batches.coder

    def training(self, batch: int, seed: int) -> Batches:
        """Batches of the rows that train."""
        rows, shuffled = self.split.training, ShuffledRows(len(self.split.training), batch, seed)

        def made(step: Step) -> Mapping[str, Tensor]:
            return self._of_rows(rows[shuffled(step)], step)

        return made

    def validation(self, count: int) -> dict[str, Tensor] | None:
        """One batch of up to `count` rows that validate, spread over all, always the same; None = there are none."""
        rows = self.split.validation
        if not len(rows):
            return None
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))]
        return self._of_rows(chosen, self.validation_step)

    def _of_rows(self, rows: np.ndarray, step: Step) -> dict[str, Tensor]:
        batch = self.batches.of_rows(rows, step)
        return in_principal_frames(batch, step, self.coder) if self.principal else batch
