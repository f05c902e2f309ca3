"""FHB, the First-Person Hand Action Benchmark: egocentric RGB-D, 21 keypoints of the right hand, four objects' poses.

Garcia-Hernando et al., CVPR 2018. Certain, from the authors' README and scripts
(https://github.com/guiggh/hand_pose_action) and the paper (30 frames per second):

* ``Video_files/<subject>/<action>/<repetition>/color/color_0000.jpeg`` (1920x1080) and ``depth/depth_0000.png``
  (640x480, 16 bits), each with the calibration given there.
* ``Hand_pose_annotation_v1[_1]/.../skeleton.txt``: the n-th line, counted from 0, is of frame n; a number, then 21
  points in mm: the wrist, the five knuckles, then three points of each finger from thumb to little finger. They are in
  the depth camera's frame: the authors project them into its images without moving them.
* ``Object_6D_pose_annotation_v1[_1]/.../object_pose.txt``: likewise a number and a matrix column by column, object
  frame to depth camera frame, mm; the models in ``Object_models/<name>_model/<name>_model.ply`` are in m.
* The extrinsics (mm) take the depth camera's frame to the colour camera's.

Inferred: depth counts are mm (the authors' example image reads 0.36 to 0.9 m so), and that the sensors sat on the right
hand. There are no MANO parameters: `truth` holds the object alone, the hand is in `keypoints`. Depth is registered to
the colour image here, and has holes where only the colour camera sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from grasp_nodes.contact.interaction import HandState, ObjectState
from grasp_nodes.data.clip_datasets.annotations import numbered_files, object_states, pinhole
from grasp_nodes.data.clip_datasets.depth_registration import register_depth
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, require, unknown_sequence
from grasp_nodes.data.clip_files import read_depth
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import NUM_KEYPOINTS

NAME = "fhb"
FPS = 30.0
MILLIMETRE = 0.001
COLOR_CAMERA = pinhole(1395.749023, 1395.749268, 935.732544, 540.681030, (1080, 1920))
DEPTH_CAMERA = pinhole(475.065948, 475.065857, 315.944855, 245.287079, (480, 640))
T_COLOR_DEPTH = np.array(
    [
        [0.999988496304, -0.00468848412856, 0.000982563360594, 0.0257],
        [0.00469115935266, 0.999985218048, -0.00273845880292, 0.00122],
        [-0.000969709653873, 0.00274303671904, 0.99999576807, 0.003902],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""Depth camera's frame to colour camera's frame, m."""
OBJECTS = ("juice_bottle", "liquid_soap", "milk", "salt")
"""The objects with models and poses; an action's name ends in its object's."""
KEYPOINTS = (0, *(j for finger in range(5) for j in (1 + finger, *range(6 + 3 * finger, 9 + 3 * finger))))
"""The file's points in the order of keypoints here."""


def list_sequences(folder: Path) -> list[str]:
    """``Subject_1/put_salt/1`` ..."""
    videos = require(NAME, folder / "Video_files", "folder")
    found = [path.parent.relative_to(videos).parts for path in videos.glob("*/*/*/color")]
    return ["/".join(parts) for parts in sorted(found, key=lambda parts: (parts[:2], len(parts[2]), parts[2]))]


def open_sequence(folder: Path, sequence: str, options: ClipOptions) -> FhbSource:
    """A repetition of an action, ``Subject_1/put_salt/1``. See `ClipDataset.open`."""
    known = list_sequences(folder)
    if sequence not in known:
        raise unknown_sequence(NAME, folder, sequence, known)
    return FhbSource(folder, sequence, options)


class FhbSource(RecordingSource):
    """One repetition of an action of FHB."""

    def __init__(self, folder: Path, sequence: str, options: ClipOptions) -> None:
        """See `ClipDataset.open`."""
        video = folder / "Video_files" / sequence
        self._colors = numbered_files(video / "color", "color_")
        if not self._colors:
            raise InputError(f"{video / 'color'}: no images in it; expected color_0000.jpeg, ...")
        super().__init__(FPS, COLOR_CAMERA, list(self._colors), options.frames)
        self._depths = video / "depth"
        self.has_depth = self._depths.is_dir()
        self._skeletons = _rows(_annotation(folder, "Hand_pose_annotation", sequence, "skeleton.txt"), 63)
        poses = _annotation(folder, "Object_6D_pose_annotation", sequence, "object_pose.txt")
        action = sequence.split("/")[1]
        self.object_id = next((name for name in OBJECTS if action.endswith(name)), "")
        self.object_spec = options.object_spec
        self._poses: dict[int, np.ndarray] = {}
        if self.object_id and poses is not None:
            self._poses = _rows(poses, 16)
            model = folder / "Object_models" / f"{self.object_id}_model" / f"{self.object_id}_model.ply"
            self.object_spec = options.object_spec or str(require(NAME, model, "object model"))
        self.has_truth = bool(self._poses)

    def _color_path(self, number: int) -> Path:
        return self._colors[number]

    def _depth(self, number: int) -> np.ndarray | None:
        if not self.has_depth:
            return None
        path = require(NAME, self._depths / f"depth_{number:04d}.png")
        depth = read_depth(path, MILLIMETRE)
        if depth.shape != (DEPTH_CAMERA.height, DEPTH_CAMERA.width):
            raise InputError(f"{path}: expected 640x480 pixels, got {depth.shape[1]}x{depth.shape[0]}")
        return register_depth(depth, DEPTH_CAMERA, COLOR_CAMERA, T_COLOR_DEPTH)

    def _annotations(self, number: int) -> tuple[Sequence[HandState], Sequence[ObjectState]]:
        pose = self._poses.get(number)
        if pose is None:
            return (), ()
        T_depth_object = pose.reshape(4, 4).T.copy()
        T_depth_object[:3, 3] *= MILLIMETRE
        return (), object_states(self.object_id, T_COLOR_DEPTH @ T_depth_object, self.object_spec)

    def _keypoints(self, number: int) -> np.ndarray | None:
        row = self._skeletons.get(number)
        if row is None:
            return None
        points = row.reshape(NUM_KEYPOINTS, 3)[list(KEYPOINTS)] * MILLIMETRE
        return points @ T_COLOR_DEPTH[:3, :3].T + T_COLOR_DEPTH[:3, 3]


def _annotation(folder: Path, kind: str, sequence: str, name: str) -> Path | None:
    """An annotation file of either version, None where there is none."""
    paths = (folder / f"{kind}_{version}" / sequence / name for version in ("v1_1", "v1"))
    return next((path for path in paths if path.is_file()), None)


def _rows(path: Path | None, width: int) -> dict[int, np.ndarray]:
    """The numbers of each line by the frame's number; the one that a line begins with is not looked at."""
    if path is None:
        return {}
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: expected lines of {1 + width} numbers ({error})") from error
    if table.shape[1] != 1 + width or not np.isfinite(table).all():
        raise InputError(f"{path}: expected lines of {1 + width} finite numbers, got {table.shape[1]} on each")
    return dict(enumerate(table[:, 1:]))
