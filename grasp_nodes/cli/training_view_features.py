"""``grasp-nodes train view-features``: the network behind the default Fréchet distance."""

from __future__ import annotations

from pathlib import Path

from grasp_nodes.cli.grasp_file_methods import check_hand
from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, apply_options
from grasp_nodes.data.grasp_files import check_meshes, read_grasps
from grasp_nodes.data.grasp_set import OPEN_GRASPS_FILE, open_grasps
from grasp_nodes.data.view_feature_training import TrainingSettings, train_view_features
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.view_features import VERSION, WEIGHTS_VARIABLE
from grasp_nodes.hand.files import load_hand_model

WORK_FOLDER = "work"


def train(request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Train it on a file of grasps or on the published set.

    Raises:
        InputError: grasps that cannot be used, or a request that this method does not know.
        MissingFileError: no grasps. OSError: a file cannot be written.
    """
    if request.steps is not None or request.minutes is not None or request.size != "small":
        raise InputError("view-features: knows neither --steps nor --minutes nor --size; give --set epochs=N")
    settings = apply_options(TrainingSettings(seed=request.seed), request.options)
    if request.batch is not None:
        settings = apply_options(settings, {"batch": str(request.batch)})
    found = open_grasps() if request.data is None else read_grasps(request.data)
    model = load_hand_model(found.hands.side)
    where = Path(OPEN_GRASPS_FILE) if request.data is None else request.data
    check_hand(str(where), found, model)
    check_meshes(where, found.objects)
    target = request.output / f"{VERSION}.npz"
    card = train_view_features(found, model, settings, request.output / WORK_FOLDER, target, report)
    return Outcome(target, card, f"use it with {WEIGHTS_VARIABLE}={target}")
