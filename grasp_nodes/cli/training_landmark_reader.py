"""``grasp-nodes train landmark-reader``: what 21 landmarks say of a hand's turn, bends and distance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

from grasp_nodes.cli.training_request import Outcome, ProgressReport, TrainingRequest, apply_options, split_options
from grasp_nodes.data.drawn_landmarks import drawn_view
from grasp_nodes.data.landmark_reading_training import ReaderTraining, train_reader
from grasp_nodes.data.landmark_view_set import SHIPPED_SEED, SHIPPED_VIEWS, make_views
from grasp_nodes.data.landmark_views import BENCHMARK_OBJECTS, LandmarkView
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model

WEIGHTS_NAME = "landmark_reader.npz"
VIEWS_FOLDER = "views"


@dataclass(frozen=True)
class ReaderData:
    """What ``--set`` knows besides the settings of the training. drawn: hands whose landmarks are not read from images.

    processes: that render. view_seed: of all hands.
    """

    drawn: int = 3000
    processes: int = 2
    view_seed: int = SHIPPED_SEED


def train(request: TrainingRequest, report: ProgressReport) -> Outcome:
    """Render hands, read their landmarks, train; the rendering goes on where it was stopped.

    Raises:
        InputError: a request that this method does not know. MissingFileError: the published grasps or the landmark
        network are not there. OSError: a file cannot be written.
    """
    if (request.data, request.steps, request.minutes, request.size) != (None, None, None, "small"):
        raise InputError("landmark-reader: knows neither --data nor --steps nor --minutes nor --size")
    data, settings = split_options(request.options, ReaderData(), ReaderTraining(seed=request.seed))
    if request.batch is not None:
        settings = apply_options(settings, {"batch": str(request.batch)})
    model = load_hand_model("right", OPEN_HAND_FILE)
    folder = request.output / VIEWS_FOLDER / str(data.view_seed)
    views: list[LandmarkView] = []
    kinds: list[str] = []
    for kind in dict.fromkeys(part.kind for part in SHIPPED_VIEWS):
        ranges = tuple(part for part in SHIPPED_VIEWS if part.kind == kind)
        views += make_views(ranges, data.view_seed, folder, data.processes, partial(report, f"rendering {kind}"))
        kinds += [kind] * (len(views) - len(kinds))
    skeleton = make_hand_skeleton(model)
    views += [drawn_view(skeleton, data.view_seed, number) for number in range(data.drawn)]
    kinds += ["drawn"] * data.drawn
    target = request.output / WEIGHTS_NAME
    card = train_reader(
        views,
        model,
        target,
        settings,
        {
            "method": "landmark-reader",
            "command": request.command,
            "data": {
                "rendered": [asdict(part) for part in SHIPPED_VIEWS],
                "drawn": data.drawn,
                "seed": data.view_seed,
                "objects_left_out": sorted(BENCHMARK_OBJECTS),
            },
            "licence": "CC0-1.0",
        },
        partial(report, "training"),
        kinds,
    )
    return Outcome(target, card, "the package's own lies beside grasp_nodes/fitting/landmark_reading.py")
