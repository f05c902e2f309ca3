"""HO-3D, versions 2 and 3: one right hand and one YCB object, RGB-D, 640x480.

Hampali et al., "HOnnotate", CVPR 2020. Certain, from the authors' scripts and README
(https://github.com/shreyashampali/ho3d):

* ``<train|evaluation>/<sequence>/{rgb,depth,meta}/0000.*``; colour is .png in version 2 and .jpg in version 3, else
  they are alike. ``evaluation.txt`` and ``train.txt`` list ``<sequence>/<frame>``.
* Depth is an 8-bit image of three channels: (red + 256 green) * 0.00012498664727900177 m.
* Poses are in OpenGL's camera axes (x right, y up, looking along -z), m: y and z change their sign on the way here.
* ``handPose`` (48) are 16 axis-angle rotations about the *flat* hand, the wrist's first; ``handTrans`` is added to
  MANO's vertices; ``handBeta`` (10). ``handJoints3D`` (21, 3) are MANO's 16 joints and then the tips from thumb to
  little finger.
* ``objRot`` (axis-angle), ``objTrans`` and ``objName`` place the model of the YCB-Video set. ``camMat`` (3, 3), px.
* A frame that was not annotated has None for all of them. In ``evaluation`` the hand is only ``handJoints3D`` (3), its
  wrist, and ``handBoundingBox``. The hands' keypoints were published later as ``evaluation_xyz.json``, one (21, 3) for
  each line of ``evaluation.txt``, which is read where it lies beside it.

Guessed: 30 frames per second, that ``evaluation_xyz.json`` has the order and axes of ``handJoints3D`` (the challenge
asked for these), and that the camera is the same in all frames of a sequence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.contact.interaction import HandState, ObjectState
from grasp_nodes.data.clip_datasets.annotations import (
    HandAnnotations,
    ManoAnnotation,
    frame_range,
    numbered_files,
    object_states,
    turned,
)
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import DATASETS, ClipOptions, require, unknown_sequence
from grasp_nodes.data.clip_files import read_color
from grasp_nodes.data.grasp_readers.mano_hands import rotation_matrices
from grasp_nodes.data.grasp_readers.pickles import field_of, numbers_of, read_pickle, row_of
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.keypoints import KEYPOINT_ORDER
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_KEYPOINTS

NAME = "ho3d"
SPLITS = ("train", "evaluation")
FPS = 30.0
DEPTH_UNIT = 0.00012498664727900177
"""m per count."""
AXES = np.diag([1.0, -1.0, -1.0])
"""OpenGL's camera axes to x right, y down, z forward."""


def list_sequences(folder: Path) -> list[str]:
    """``train/ABF10`` ..., ``evaluation/SM1`` ..."""
    require(NAME, folder, "folder")
    names = [
        f"{split}/{path.name}"
        for split in SPLITS
        for path in sorted((folder / split).glob("*"))
        if (path / "rgb").is_dir()
    ]
    if not names:
        require(NAME, folder / SPLITS[0], "folder")
    return names


def open_sequence(folder: Path, sequence: str, options: ClipOptions) -> Ho3dSource:
    """A sequence, ``train/ABF10`` or, where the name is in one split only, ``ABF10``. See `ClipDataset.open`.

    ``evaluation/MPM10:30-450`` are frames of one, both ends belong to it.
    """
    known = list_sequences(folder)
    whole, _, part = sequence.partition(":")
    found = [name for name in known if whole in (name, name.split("/")[1])]
    if len(found) != 1:
        raise unknown_sequence(NAME, folder, sequence, known)
    frames = frame_range(sequence, part, "evaluation/MPM10:30-450") if part else None
    return Ho3dSource(folder, found[0], options, frames)


class Ho3dSource(RecordingSource):
    """One sequence of HO-3D."""

    has_depth = True
    has_truth = True

    def __init__(
        self, folder: Path, sequence: str, options: ClipOptions, frames: tuple[int, int] | None = None
    ) -> None:
        """See `ClipDataset.open`; sequence: with its split. frames: the first and the last, None = all."""
        self._root = folder
        self._sequence = sequence
        self._folder = require(NAME, folder / sequence, "folder")
        self._colors = numbered_files(require(NAME, self._folder / "rgb", "folder"))
        if not self._colors:
            raise InputError(f"{self._folder / 'rgb'}: no images in it; expected 0000.png or 0000.jpg, ...")
        if frames is not None:
            there = f"{min(self._colors)} to {max(self._colors)}"
            self._colors = {number: path for number, path in self._colors.items() if frames[0] <= number <= frames[1]}
            if not self._colors:
                raise InputError(f"{folder}: {sequence} has no frames {frames[0]} to {frames[1]}; there are {there}")
        first = self._first_annotated()
        size = read_color(next(iter(self._colors.values()))).shape
        path = self._meta_path(first)
        camera = CameraModel(numbers_of(self._meta(first), (3, 3), path, "camMat"), size[1], size[0])
        super().__init__(FPS, camera, list(self._colors), options.frames)
        self.object_id = str(field_of(self._meta(first), "objName", path))
        self.object_spec = options.object_spec or str(
            require(NAME, folder / "models" / self.object_id / "textured_simple.obj", "object model")
        )
        self._hands = HandAnnotations(DATASETS[NAME].title, "right", options.hands)
        self._listed = self._listed_keypoints()

    def _first_annotated(self) -> int:
        """The first frame that says what the camera and the object are."""
        require(NAME, self._folder / "meta", "folder")
        for number in self._colors:
            meta = self._meta(number)
            if meta.get("camMat") is not None and meta.get("objName") is not None:
                return number
        raise InputError(f"{self._folder / 'meta'}: no frame has the fields camMat and objName")

    def _color_path(self, number: int) -> Path:
        return self._colors[number]

    def _depth(self, number: int) -> np.ndarray:
        path = require(NAME, self._folder / "depth" / f"{self._colors[number].stem}.png")
        image = read_color(path).astype(np.float64)
        return ((image[..., 0] + 256.0 * image[..., 1]) * DEPTH_UNIT).astype(np.float32)

    def _annotations(self, number: int) -> tuple[Sequence[HandState], Sequence[ObjectState]]:
        meta, path = self._meta(number), self._meta_path(number)
        hands: list[HandState] = []
        if self._hands.model is not None and meta.get("handPose") is not None:
            pose = row_of(meta, 48, path, "handPose")
            betas, transl = row_of(meta, NUM_BETAS, path, "handBeta"), row_of(meta, 3, path, "handTrans")
            annotation = turned(ManoAnnotation(pose[:3], pose[3:], betas, transl), AXES, self._hands.model)
            state = self._hands.state(annotation, self._keypoints(number))
            hands = [] if state is None else [state]
        if meta.get("objRot") is None:
            return hands, []
        T_camera_object = np.eye(4)
        T_camera_object[:3, :3] = AXES @ rotation_matrices(row_of(meta, 3, path, "objRot"))
        T_camera_object[:3, 3] = AXES @ row_of(meta, 3, path, "objTrans")
        return hands, object_states(str(field_of(meta, "objName", path)), T_camera_object, self.object_spec)

    def _keypoints(self, number: int) -> np.ndarray | None:
        listed = self._listed.get(number)
        if listed is not None:
            return listed
        meta, path = self._meta(number), self._meta_path(number)
        joints = meta.get("handJoints3D")
        if joints is None or np.size(joints) == 3:  # the wrist alone
            return None
        return numbers_of(meta, (NUM_KEYPOINTS, 3), path, "handJoints3D")[list(KEYPOINT_ORDER)] @ AXES

    def wrist(self, stamp: int) -> np.ndarray | None:
        """(3,) m, camera frame: the annotated wrist, which is all that the evaluation part says of its hands."""
        number = self._number_at(stamp)
        meta = {} if number is None else self._meta(number)
        joints = meta.get("handJoints3D")
        if number is None or joints is None:
            return None
        count = 1 if np.size(joints) == 3 else NUM_KEYPOINTS
        return AXES @ row_of(meta, 3 * count, self._meta_path(number), "handJoints3D")[:3]

    def hand_box(self, stamp: int) -> np.ndarray | None:
        """(4,) px: left, top, right, bottom of the hand as the evaluation part has it, None elsewhere."""
        number = self._number_at(stamp)
        if number is None or self._meta(number).get("handBoundingBox") is None:
            return None
        return row_of(self._meta(number), 4, self._meta_path(number), "handBoundingBox")

    def _meta_path(self, number: int) -> Path:
        return self._folder / "meta" / f"{self._colors[number].stem}.pkl"

    def _meta(self, number: int) -> dict[str, Any]:
        return _read_meta(require(NAME, self._meta_path(number)))

    def _listed_keypoints(self) -> dict[int, np.ndarray]:
        """By frame, those of ``evaluation_xyz.json``."""
        split, name = self._sequence.split("/")
        table, order = self._root / f"{split}_xyz.json", self._root / f"{split}.txt"
        if split != "evaluation" or not table.is_file():
            return {}
        lines = require(NAME, order).read_text().split()
        try:
            values = np.array(json.loads(table.read_text()), np.float64)
        except ValueError as error:
            raise InputError(f"{table}: not a list of (21, 3) numbers ({error})") from error
        if values.shape != (len(lines), NUM_KEYPOINTS, 3):
            raise InputError(
                f"{table}: expected shape ({len(lines)}, 21, 3), one for each line of {order.name}, got {values.shape}"
            )
        rows = {}
        for row, line in enumerate(lines):
            sequence, _, number = line.partition("/")
            if not (number.isascii() and number.isdigit()):
                raise InputError(f"{order}: expected lines such as SM1/0000, got {line!r}")
            if sequence == name:
                rows[int(number)] = row
        return {number: values[row][list(KEYPOINT_ORDER)] @ AXES for number, row in rows.items()}


def _read_meta(path: Path) -> dict[str, Any]:
    meta = read_pickle(path, "annotation of HO-3D")
    if not isinstance(meta, dict):
        raise InputError(f"{path}: expected a dictionary, got a {type(meta).__name__}")
    return meta
