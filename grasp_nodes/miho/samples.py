"""Batches for HoNet and PiCR: crops with poses, and what is known of their objects, row by row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from grasp_nodes.data.hand_object_images import HandObjectImages
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.learning.batches import ShuffledRows
from grasp_nodes.learning.steps import Step
from grasp_nodes.miho.canonical_frame import canonical_frame
from grasp_nodes.miho.shape_code import mesh_code
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.objects.registry import VERSION, family_mesh
from grasp_nodes.objects.symmetry import rotation_symmetries
from grasp_nodes.paths import cache_dir

TABLE_VERSION = 2
"""Raised whenever the same names give other tables."""
POINTS = 1024
"""Of each object: what stands for its surface."""
ZOOM = (0.9, 1.1)
"""Factor of the focal length by which training crops are magnified."""
GAIN, OFFSET, GAMMA = 0.25, 0.08, 0.3
"""How far contrast, brightness and gamma of training crops differ, each colour by a third of it more."""
ERASED = 0.3
"""Share of training crops in which a rectangle is covered."""


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """What is known of K objects, float32, each in its canonical frame (`canonical_frame`).

    points, normals: (K, P, 3), m and unit, uniform on the surface. codes: (K, C), see `mesh_code`.
    symmetries: (K, G, 3, 3), rotations onto itself; places that are left over hold the identity.
    frames: (K, 4, 4), from the frame of its mesh to the canonical one, m.
    """

    points: Tensor
    normals: Tensor
    codes: Tensor
    symmetries: Tensor
    frames: Tensor

    @staticmethod
    def of_meshes(meshes: Sequence[tuple[np.ndarray, np.ndarray]]) -> ObjectTable:
        """Of meshes (V, 3), m, the middle of the bounding box at the origin, and (F, 3)."""
        points, normals, codes, turns, frames = [], [], [], [], []
        for vertices, faces in meshes:
            frame = canonical_frame(vertices, faces)
            frames.append(frame)
            turn = frame[:3, :3]
            canonical = vertices @ turn.T + frame[:3, 3]
            place, normal, _ = sample_surface(canonical, faces, POINTS, 0)
            order = np.random.default_rng(0).permutation(POINTS)  # any first part of them covers all of the surface
            points.append(place[order])
            normals.append(normal[order])
            codes.append(mesh_code(canonical, faces))
            turns.append(turn @ rotation_symmetries(vertices, faces) @ turn.T)
        most = max(len(one) for one in turns)
        padded = [np.concatenate([one, np.tile(np.eye(3), (most - len(one), 1, 1))]) for one in turns]
        stacked = (np.stack(one).astype(np.float32) for one in (points, normals, codes, padded, frames))
        return ObjectTable(*(torch.from_numpy(one) for one in stacked))

    @staticmethod
    def of_names(names: Sequence[str]) -> ObjectTable:
        """Of objects of the registry; kept in the cache, since the symmetries of hundreds take minutes."""
        key = hashlib.sha256(json.dumps([TABLE_VERSION, VERSION, POINTS, list(names)]).encode()).hexdigest()[:16]
        path = cache_dir("object_tables") / f"{key}.npz"
        if path.is_file():
            arrays = read_npz(path, "table of objects")
        else:
            table = ObjectTable.of_meshes([family_mesh(name) for name in names])
            arrays = {one.name: getattr(table, one.name).numpy() for one in fields(table)}
            write_npz(path, arrays)
        return ObjectTable(*(torch.from_numpy(arrays[one.name]) for one in fields(ObjectTable)))

    def to(self, device: torch.device) -> ObjectTable:
        """The same on a device."""
        parts = (self.points, self.normals, self.codes, self.symmetries, self.frames)
        return ObjectTable(*(one.to(device) for one in parts))


_POSES = ("focal", "global_orient", "hand_pose", "betas", "transl", "T_camera_object")


class CropBatches:
    """Batches of training crops, each turned about the view, magnified and coloured anew at every step.

    A turn about the optical axis and another focal length are what they are for hand and object, too: the crop's
    principal point is its middle.

    crops: to train on. batch: rows of one process in a step. seed: of the order.
    """

    def __init__(self, crops: HandObjectImages, batch: int, seed: int = 0) -> None:
        self._crops = crops
        self._shuffled = ShuffledRows(len(crops.images), batch, seed)

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """images: (B, S, S, 3) uint8; poses by the names of `HandObjectImages`; object_index: (B,)."""
        rows = self._shuffled(step)
        rng = step.rng()
        found = crop_rows(self._crops, rows)
        turns, zooms = rng.uniform(-np.pi, np.pi, len(rows)), rng.uniform(*ZOOM, len(rows))
        images = np.stack(
            [
                _erased(rng, _colored(rng, turn_image(self._crops.images[row], turn, zoom)))
                for row, turn, zoom in zip(rows, turns, zooms, strict=True)
            ]
        )
        return {**turn_poses(found, turns, zooms), "images": torch.from_numpy(images)}


def crop_rows(crops: HandObjectImages, rows: np.ndarray) -> dict[str, Tensor]:
    """Some of the crops as they are; the columns of `CropBatches`."""
    found = {name: torch.from_numpy(np.asarray(getattr(crops, name)[rows])) for name in _POSES}
    index = torch.from_numpy(np.asarray(crops.object_index[rows], np.int64))
    return {"images": torch.from_numpy(crops.images[rows]), **found, "object_index": index}


def turn_image(image: np.ndarray, turn: float, zoom: float) -> np.ndarray:
    """An image turned about its middle (rad, from x to y) and magnified; beyond its border it is mirrored."""
    size = len(image)
    middle = 0.5 * (size - 1)
    cosine, sine = zoom * np.cos(turn), zoom * np.sin(turn)
    matrix = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    matrix[:, 2] = middle - matrix[:, :2] @ [middle, middle]
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def turn_poses(batch: dict[str, Tensor], turns: np.ndarray, zooms: np.ndarray) -> dict[str, Tensor]:
    """Poses of a batch after `turn_image` of every row.

    `transl` of a hand follows its wrist, so that the column ``transl`` is left for `turn_hands` to mend: the turn is
    kept as ``turn`` (B, 3, 3).
    """
    rotation = np.zeros((len(turns), 3, 3), np.float32)
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(turns)
    rotation[:, 1, 0], rotation[:, 0, 1], rotation[:, 2, 2] = np.sin(turns), -np.sin(turns), 1.0
    pose = batch["T_camera_object"].clone()
    pose[:, :3] = torch.from_numpy(rotation) @ pose[:, :3]
    own = Rotation.from_matrix(rotation) * Rotation.from_rotvec(batch["global_orient"].numpy())
    return {
        **batch,
        "focal": batch["focal"] * torch.from_numpy(zooms.astype(np.float32)),
        "T_camera_object": pose,
        "global_orient": torch.from_numpy(own.as_rotvec().astype(np.float32)),
        "turn": torch.from_numpy(rotation),
    }


def _colored(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    gain = 1 + GAIN * (rng.uniform(-1, 1) + rng.uniform(-1, 1, 3) / 3)
    offset = OFFSET * (rng.uniform(-1, 1) + rng.uniform(-1, 1, 3) / 3)
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA))
    levels = np.arange(256)[:, None] / 255
    table = np.clip((levels**gamma - 0.5) * gain + 0.5 + offset, 0, 1)
    return cv2.LUT(image, np.rint(255 * table).astype(np.uint8)[:, None])


def _erased(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    if rng.random() >= ERASED:
        return image
    size = len(image)
    extent = rng.integers(size // 12, size // 4, 2)
    x, y = rng.integers(0, size - extent)
    image[y : y + extent[1], x : x + extent[0]] = rng.integers(0, 256, 3)
    return image
