"""The data sets of recorded hand-object clips that can be read: where each comes from and how it must lie on the disk.

The readers are imported when they are used. None of the data travels with the package, and none is downloaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_nodes.data.published import PublishedDataset, find_published
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import Side

if TYPE_CHECKING:
    from grasp_nodes.data.clip_datasets.recording import RecordingSource
    from grasp_nodes.hand.model import HandModel

_PACKAGE = "grasp_nodes.data.clip_datasets"
_SHOWN = 8


@dataclass(frozen=True)
class ClipOptions:
    """How a sequence is opened.

    hands: the models in whose terms the annotations are; None = the user's MANO, from the place that
        GRASP_NODES_HAND_MODEL names. Without MANO the truth holds no hands, see `RecordingSource.keypoints`.
    object_spec: mesh or shape to use instead of the data set's own. frames: only the first so many, 0 = all.
    field_of_view: deg, horizontal, where the camera is not known; None = what is assumed of this data set.
    """

    hands: Mapping[Side, HandModel] | None = None
    object_spec: str = ""
    frames: int = 0
    field_of_view: float | None = None

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise InputError(f"frames: expected 0 or more, got {self.frames}")


@dataclass(frozen=True)
class ClipDataset(PublishedDataset):
    """One data set.

    sequence: what one is called. module: the reader, in this room, with
    the functions ``list_sequences`` and ``open_sequence``.
    """

    sequence: str
    module: str

    def sequences(self, folder: str | Path) -> list[str]:
        """The names of the sequences in a folder, in order.

        Raises:
            MissingFileError: a folder or file is not there; the message says where the data set comes from.
        """
        return list(importlib.import_module(f"{_PACKAGE}.{self.module}").list_sequences(Path(folder)))

    def open(self, folder: str | Path, sequence: str, options: ClipOptions | None = None) -> RecordingSource:
        """One sequence as a source of frames.

        Args:
            folder: of the data set. sequence: one of `sequences`.

        Raises:
            MissingFileError: a file is not there; the message says where the data set comes from.
            InputError: there is no such sequence, or a file is not what it should be.
        """
        module = importlib.import_module(f"{_PACKAGE}.{self.module}")
        source: RecordingSource = module.open_sequence(Path(folder), sequence, options or ClipOptions())
        return source


DATASETS: Mapping[str, ClipDataset] = {
    "ho3d": ClipDataset(
        "HO-3D (version 2 or 3)",
        "https://github.com/shreyashampali/ho3d",
        "free for academic research; no redistribution",
        "train/ABF10/{rgb/0000.png or .jpg,depth/0000.png,meta/0000.pkl}; evaluation/SM1/... likewise; evaluation.txt; "
        "models/006_mustard_bottle/textured_simple.obj (The YCB-Video 3D Models, "
        "https://rse-lab.cs.washington.edu/projects/posecnn)",
        "train/ABF10",
        "ho3d",
    ),
    "dexycb": ClipDataset(
        "DexYCB",
        "https://dex-ycb.github.io",
        "CC BY-NC 4.0",
        "20200709-subject-01/20200709_141754/{meta.yml,836212060125/{color_000000.jpg,"
        "aligned_depth_to_color_000000.png,labels_000000.npz}}; "
        "calibration/{intrinsics/836212060125_640x480.yml,mano_NAME/mano.yml}; "
        "models/002_master_chef_can/textured_simple.obj",
        "20200709-subject-01/20200709_141754/836212060125",
        "dexycb",
    ),
    "fhb": ClipDataset(
        "FHB (First-Person Hand Action Benchmark)",
        "https://github.com/guiggh/hand_pose_action",
        "free for academic research, asked for with a form; no redistribution",
        "Video_files/Subject_1/put_salt/1/{color/color_0000.jpeg,depth/depth_0000.png}; "
        "Hand_pose_annotation_v1/Subject_1/put_salt/1/skeleton.txt; "
        "Object_6D_pose_annotation_v1/Subject_1/put_salt/1/object_pose.txt; Object_models/salt_model/salt_model.ply",
        "Subject_1/put_salt/1",
        "fhb",
    ),
    "core50": ClipDataset(
        "CORe50",
        "https://vlomonaco.github.io/core50",
        "free to download; its home page has the terms",
        "core50_350x350/s1/o1/C_01_01_000.png (or core50_128x128, or s1 itself); models/o1.obj, in m, if you have any: "
        "the data set has no meshes",
        "s1/o21",
        "core50",
    ),
    "epic": ClipDataset(
        "EPIC-KITCHENS-100",
        "https://epic-kitchens.github.io",
        "CC BY-NC 4.0",
        "P01/rgb_frames/P01_01/frame_0000000001.jpg (unpacked from P01_01.tar); P01/hand-objects/P01_01.pkl; "
        "EPIC_100_train.csv, EPIC_100_validation.csv and EPIC_100_video_info.csv of "
        "https://github.com/epic-kitchens/epic-kitchens-100-annotations, there or in epic-kitchens-100-annotations",
        "P01_01_0",
        "epic",
    ),
}
"""Name to data set."""


def find_dataset(name: str) -> ClipDataset:
    """The data set of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    return find_published(name, DATASETS)


def require(name: str, path: Path, what: str = "file") -> Path:
    """The path, if it is there.

    Args:
        name: of the data set. path: a file or folder of it. what: it is, for the message.

    Raises:
        MissingFileError: it is not there; the message says where the data set comes from and how it must lie.
    """
    return DATASETS[name].require(path, what)


def unknown_sequence(name: str, folder: Path, sequence: str, known: list[str]) -> InputError:
    """The error for a sequence that is not there."""
    there = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    return InputError(
        f"{folder}: {DATASETS[name].title} has no sequence {sequence!r} there; expected a name such as "
        f"{DATASETS[name].sequence}; there are: {there or 'none'}"
    )
