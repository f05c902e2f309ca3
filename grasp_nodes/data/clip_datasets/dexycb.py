"""DexYCB: one hand grasping one of several YCB objects, RGB-D, eight calibrated cameras, 640x480.

Chao et al., "DexYCB", CVPR 2021. Certain, from the authors' toolkit and its README
(https://github.com/NVlabs/dex-ycb-toolkit) and the paper (30 frames per second):

* ``<subject>/<sequence>/meta.yml``: serials, num_frames, ycb_ids, ycb_grasp_ind, mano_sides, mano_calib.
* ``<subject>/<sequence>/<serial>/{color_000000.jpg,aligned_depth_to_color_000000.png,labels_000000.npz}``; depth in mm.
* labels: ``pose_y`` (objects, 3, 4) object frame to camera frame, m, all 0 = unknown; ``pose_m`` (1, 51): MANO's
  global rotation (3), 45 coefficients of its principal components about its *mean* pose, translation (3), all 0 = no
  hand; ``joint_3d`` (1, 21, 3) m, camera frame, from wrist and thumb to little finger, all -1 = none; ``joint_2d``
  (1, 21, 2); ``seg`` (480, 640): 0 background, 1 to 21 objects, 255 hand.
* ``calibration/intrinsics/<serial>_640x480.yml`` and ``calibration/mano_<name>/mano.yml`` (betas).
* Left hands were annotated with MANO_LEFT as it is published, sign error of its shapes included.

The fingertips of ``joint_3d`` are other vertices than those of the hand model here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml

from grasp_nodes.contact.interaction import HandState, ObjectState
from grasp_nodes.data.clip_datasets.annotations import HandAnnotations, ManoAnnotation, object_states, pinhole
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import DATASETS, ClipOptions, require, unknown_sequence
from grasp_nodes.data.clip_files import read_depth
from grasp_nodes.data.grasp_readers.pickles import field_of, numbers_of, read_object_npz, row_of
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_KEYPOINTS, NUM_POSE, Side

NAME = "dexycb"
FPS = 30.0
SIZE = (480, 640)
DEPTH_UNIT = 0.001
"""m per count."""
OBJECTS = (
    *("002_master_chef_can", "003_cracker_box", "004_sugar_box", "005_tomato_soup_can", "006_mustard_bottle"),
    *("007_tuna_fish_can", "008_pudding_box", "009_gelatin_box", "010_potted_meat_can", "011_banana"),
    *("019_pitcher_base", "021_bleach_cleanser", "024_bowl", "025_mug", "035_power_drill", "036_wood_block"),
    *("037_scissors", "040_large_marker", "051_large_clamp", "052_extra_large_clamp", "061_foam_brick"),
)
"""YCB's names of the objects 1 to 21."""


def list_sequences(folder: Path) -> list[str]:
    """``<subject>/<sequence>/<serial>``: each camera's view is a sequence."""
    require(NAME, folder, "folder")
    metas = sorted(folder.glob("*-subject-*/*/meta.yml"))
    if not metas:
        require(NAME, folder / "20200709-subject-01", "folder")
    return [
        "/".join(view.relative_to(folder).parts)
        for meta in metas
        for view in sorted(meta.parent.iterdir())
        if view.is_dir()
    ]


def open_sequence(folder: Path, sequence: str, options: ClipOptions) -> DexYcbSource:
    """A view, ``<subject>/<sequence>/<serial>``. See `ClipDataset.open`."""
    parts = Path(sequence).parts
    if len(parts) != 3 or ".." in parts or not (folder / sequence).is_dir():
        raise unknown_sequence(NAME, folder, sequence, list_sequences(folder))
    return DexYcbSource(folder, sequence, options)


class DexYcbSource(RecordingSource):
    """One camera's view of one sequence of DexYCB. side: of the hand."""

    has_depth = True
    has_truth = True

    def __init__(self, folder: Path, sequence: str, options: ClipOptions) -> None:
        """See `ClipDataset.open`."""
        self._folder = folder / sequence
        path = require(NAME, self._folder.parent / "meta.yml")
        meta = _read_yaml(path)
        count = int(row_of(meta, 1, path, "num_frames")[0])
        if count < 1:
            raise InputError(f"{path}: num_frames: expected at least 1, got {count}")
        ids = np.asarray(field_of(meta, "ycb_ids", path)).ravel().tolist()
        grasped = int(row_of(meta, 1, path, "ycb_grasp_ind")[0])
        if not 0 <= grasped < len(ids) or not all(isinstance(k, int) and 1 <= k <= len(OBJECTS) for k in ids):
            raise InputError(
                f"{path}: ycb_ids, ycb_grasp_ind: expected numbers from 1 to {len(OBJECTS)} and the index of one of "
                f"them, got {ids}, {grasped}"
            )
        side = str(_first(meta, path, "mano_sides"))
        if side not in ("right", "left"):
            raise InputError(f"{path}: mano_sides: expected 'right' or 'left', got {side!r}")
        super().__init__(FPS, _camera(folder, self._folder.name), range(count), options.frames)
        self._grasped, self._objects = grasped, len(ids)
        self.object_id = OBJECTS[ids[grasped] - 1]
        self.object_spec = options.object_spec or str(
            require(NAME, folder / "models" / self.object_id / "textured_simple.obj", "object model")
        )
        self.side = cast(Side, side)
        self._hands = HandAnnotations(DATASETS[NAME].title, self.side, options.hands)
        calibration = require(NAME, folder / "calibration" / f"mano_{_first(meta, path, 'mano_calib')}" / "mano.yml")
        self._betas = row_of(_read_yaml(calibration), NUM_BETAS, calibration, "betas")

    def _color_path(self, number: int) -> Path:
        return require(NAME, self._folder / f"color_{number:06d}.jpg")

    def _depth(self, number: int) -> np.ndarray:
        return read_depth(require(NAME, self._folder / f"aligned_depth_to_color_{number:06d}.png"), DEPTH_UNIT)

    def labels(self, number: int) -> np.ndarray:
        """(480, 640) uint8: 0 background, 1 to 21 the number of an object, 255 hand."""
        path = self._label_path(number)
        return numbers_of(read_object_npz(path, only=("seg",)), SIZE, path, "seg").astype(np.uint8)

    def _annotations(self, number: int) -> tuple[Sequence[HandState], Sequence[ObjectState]]:
        path = self._label_path(number)
        label = _read_label(path)
        poses = numbers_of(label, (self._objects, 3, 4), path, "pose_y")
        objects: tuple[ObjectState, ...] = ()
        if poses[self._grasped].any():
            T_camera_object = np.vstack([poses[self._grasped], [0.0, 0.0, 0.0, 1.0]])
            objects = object_states(self.object_id, T_camera_object, self.object_spec)
        hand = numbers_of(label, (1, 6 + NUM_POSE), path, "pose_m")[0]
        if self._hands.model is None or not hand.any():
            return [], objects
        with torch.no_grad():
            coefficients = torch.tensor(hand[None, 3:48], dtype=self._hands.model.dtype)
            bends = self._hands.model.pose_from_pca(coefficients)[0].double().numpy()
        state = self._hands.state(ManoAnnotation(hand[:3], bends, self._betas, hand[48:]), self._keypoints(number))
        return [] if state is None else [state], objects

    def _keypoints(self, number: int) -> np.ndarray | None:
        path = self._label_path(number)
        joints = numbers_of(_read_label(path), (1, NUM_KEYPOINTS, 3), path, "joint_3d")[0]
        return None if (joints == -1).all() else joints

    def _label_path(self, number: int) -> Path:
        return require(NAME, self._folder / f"labels_{number:06d}.npz")


def _read_label(path: Path) -> dict[str, Any]:
    return read_object_npz(path, "label file of DexYCB", ("pose_y", "pose_m", "joint_3d"))


def _camera(folder: Path, serial: str) -> CameraModel:
    path = require(NAME, folder / "calibration" / "intrinsics" / f"{serial}_{SIZE[1]}x{SIZE[0]}.yml")
    values = _read_yaml(path)
    fx, fy, cx, cy = (float(row_of(values, 1, path, "color", name)[0]) for name in ("fx", "fy", "ppx", "ppy"))
    return pinhole(fx, fy, cx, cy, SIZE)


def _first(meta: dict[str, Any], path: Path, name: str) -> Any:
    values = field_of(meta, name, path)
    if not isinstance(values, list) or not values:
        raise InputError(f"{path}: {name}: expected a list of at least one entry, got {values!r}")
    return values[0]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected entries by name, got a {type(content).__name__}")
    return content
