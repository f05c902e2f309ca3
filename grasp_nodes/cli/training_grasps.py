"""What training any generator of hand vectors has in common: options, the set of grasps, the file at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, words_of
from grasp_nodes.cli.training_run import card_facts, loop_progress, training_grasps, write_outcome
from grasp_nodes.data.grasp_files import content_sha256
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Trained
from grasp_nodes.synthesis.grasp_data import GraspData
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.trained_parts import TrainedPart, save_part

SMALL_SETTINGS = TrainingSettings(
    steps=20_000,
    rate=1e-3,
    warmup=200,
    weight_decay=1e-4,
    average=0.999,
    evaluate_every=1000,
    checkpoint_minutes=3.0,
)


@dataclass(frozen=True)
class DataOptions:
    """What ``--set`` knows of the grasps. leave_out: families, by commas, that training does not see.

    validation: share of the objects of each family that validate. turned: whether hand and object are turned at random.
    """

    leave_out: str = ""
    validation: float = 0.05
    turned: bool = True


@dataclass(frozen=True)
class GraspTraining:
    """One training of a method on a set of grasps: what it has, and how it ends.

    method: that is trained. request: of it. data: the grasps. settings: of the training. run: for the loop. parts: that
    it builds on.
    """

    method: str
    request: TrainingRequest
    data: GraspData
    settings: TrainingSettings
    run: RunOptions
    parts: Sequence[TrainedPart]

    @staticmethod
    def begin(
        method: str,
        request: TrainingRequest,
        settings: TrainingSettings,
        options: DataOptions,
        layout: HandLayout,
        points: int,
        batch: int,
        report: ProgressReport,
        parts: Sequence[TrainedPart] = (),
        coder: HandCoder | None = None,
        principal: bool = False,
    ) -> GraspTraining:
        """Read the grasps and make them ready.

        Args:
            layout, points, coder, principal: as for `GraspData.of_grasps`. batch: where the request has none.

        Raises:
            InputError: grasps that cannot be used. MissingFileError: no grasps, or a mesh that is not there.
        """
        model = load_hand_model("right") if coder is None else coder.model
        grasps = training_grasps(request.data, model)
        data = GraspData.of_grasps(
            *(grasps, model, layout, points, options.turned, options.validation),
            leave_out=words_of(options.leave_out),
            coder=coder,
            report=partial(report, "sampling surfaces"),
            principal=principal,
        )
        belongs_to = {
            "grasps": content_sha256(grasps),
            "options": asdict(options),
            "built_on": {part.weights.card.method: part.weights.sha256 for part in parts},
        }
        run = RunOptions(request.batch or batch, request.output / "work" / method, loop_progress(report), belongs_to)
        return GraspTraining(method, request, data, settings, run, parts)

    def end(self, trained: Trained, config: Any, notes: Mapping[str, Any] | None = None) -> Outcome:
        """Write the weights.

        Raises:
            InputError: a weight is not finite. OSError: the file cannot be written.
        """
        facts = card_facts(
            *(self.request, self.settings, trained, self.data.what), batch=self.run.batch, **(notes or {})
        )
        built_on = {part.weights.card.method: part.weights.sha256 for part in self.parts}
        tensors, coder = trained.network.state_dict(), self.data.coder
        return write_outcome(
            *(self.method, self.request),
            lambda target: save_part(target, self.method, tensors, config, coder, built_on=built_on, **facts),
        )
