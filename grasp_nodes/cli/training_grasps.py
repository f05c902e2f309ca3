"""What training any generator of hand vectors has in common: options, the set of grasps, the file at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.cli.training import Outcome, ProgressReport, TrainingRequest, apply_options
from grasp_nodes.data.grasp_files import check_meshes, content_sha256, read_grasps
from grasp_nodes.data.grasp_set import OPEN_GRASPS_FILE, open_grasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.training import Report, Trained
from grasp_nodes.learning.weights import SUFFIX, WEIGHTS_VARIABLE
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


def split_options(options: Mapping[str, str], *settings: Any) -> list[Any]:
    """Dataclasses with those of their fields replaced that a user named; each name belongs to one of them.

    Raises:
        InputError: a name that none of them knows, or a value that it cannot have.
    """
    known = [{one.name for one in fields(each)} for each in settings]
    wrong = sorted(set(options) - set().union(*known))
    if wrong:
        listed = ", ".join(f"{one.name}={getattr(each, one.name)}" for each in settings for one in fields(each))
        raise InputError(f"--set {wrong[0]}: there is no such setting; expected some of {listed}")
    return [
        apply_options(each, {name: text for name, text in options.items() if name in names})
        for each, names in zip(settings, known, strict=True)
    ]


def begin_settings(request: TrainingRequest, small: TrainingSettings, paper: TrainingSettings) -> TrainingSettings:
    """The settings of a method in the size asked for, with what the command line says of any method."""
    settings = small if request.size == "small" else paper
    changes: dict[str, Any] = {"seed": request.seed, "device": request.device, "minutes": request.minutes}
    if request.steps is not None:
        changes["steps"] = request.steps
    return replace(settings, **changes)


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
        where = Path(OPEN_GRASPS_FILE) if request.data is None else request.data
        grasps = open_grasps() if request.data is None else read_grasps(where)
        check_hand(str(where), grasps, model)
        check_meshes(where, grasps.objects)
        data = GraspData.of_grasps(
            *(grasps, model, layout, points, options.turned, options.validation),
            leave_out=[family.strip() for family in options.leave_out.split(",") if family.strip()],
            coder=coder,
            report=partial(report, "sampling surfaces"),
            principal=principal,
        )
        belongs_to = {
            "grasps": content_sha256(grasps),
            "options": asdict(options),
            "built_on": {part.weights.card.method: part.weights.sha256 for part in parts},
        }

        def progress(done: Report) -> None:
            report("training", int(1000 * done.share), 1000)

        run = RunOptions(request.batch or batch, request.output / "work" / method, progress, belongs_to)
        return GraspTraining(method, request, data, settings, run, parts)

    def end(self, trained: Trained, config: Any, notes: Mapping[str, Any] | None = None) -> Outcome:
        """Write the weights.

        Raises:
            InputError: a weight is not finite. OSError: the file cannot be written.
        """
        request, target = self.request, self.request.output / f"{self.method}{SUFFIX}"
        card = save_part(
            *(target, self.method, trained.network.state_dict(), config, self.data.coder),
            built_on={part.weights.card.method: part.weights.sha256 for part in self.parts},
            notes={
                "licence": "CC0-1.0",
                "settings": asdict(self.settings),
                "batch": self.run.batch,
                "steps": trained.step,
                **(notes or {}),
            },
            data=self.data.what,
            seed=self.settings.seed,
            command=request.command,
            hours=round(trained.seconds / 3600, 3),
            metrics={name: round(value, 6) for name, value in trained.values.items()},
        )
        # A hundred numbers of the vectors' scale tell a reader nothing; the file has them.
        shown = {name: value for name, value in asdict(card).items() if name != "normalization"}
        return Outcome(target, shown, f"use it with {WEIGHTS_VARIABLE}={request.output}")
