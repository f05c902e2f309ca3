"""ObMan: GraspIt's grasps of ShapeNet objects, rendered with a body (Hasson et al., CVPR 2019).

A sample's file holds the posed hand (`verts_3d`, the hand of an SMPL+H body), its 45 pose numbers, and the matrix that
takes the scaled ShapeNet mesh to the same frame. It does not hold where the hand is in MANO's terms, so the hand is
placed by the rigid motion that fits MANO's vertices to `verts_3d`, with the mean shape. The files do not say either
whether the numbers are principal components or rotation vectors, nor whether they count from the mean pose: that
reading is taken under which the vertices fit best, one for all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.data.grasp_readers.mano_hands import Recording, label_grasps, require_mano, rest_wrist
from grasp_nodes.data.grasp_readers.pickles import field_of, numbers_of, read_pickle, row_of
from grasp_nodes.data.grasp_readers.registry import require
from grasp_nodes.data.grasp_readers.splits import SPLITS
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.arrays import HandArrays
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, NUM_VERTICES, HandParams

LARGEST_RESIDUAL = 0.01
"""m, root mean square: a sample that MANO fits worse is left out."""
_BATCH = 1024
_NAME = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_")
"""Letters of ShapeNet's ids: a file cannot lead out of the folder with them."""

POSE_READINGS: dict[str, Callable[[HandArrays, np.ndarray], np.ndarray]] = {
    "principal components": lambda arrays, pose: pose @ arrays.hands_components,
    "principal components from the mean pose": lambda arrays, pose: pose @ arrays.hands_components + arrays.hands_mean,
    "rotation vectors": lambda _arrays, pose: pose,
    "rotation vectors from the mean pose": lambda arrays, pose: pose + arrays.hands_mean,
}
"""What the 45 numbers may mean; each gives full rotations, rad."""


@dataclass(frozen=True, eq=False)
class _Sample:
    """rotation (3, 3), translation (3,), m: object to the frame of the hand's vertices. quality: GraspIt's measures."""

    split: str
    number: int
    category: str
    model: str
    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    quality: tuple[float, float, float]

    @property
    def object_name(self) -> str:
        """Of one mesh at one size."""
        return f"{self.category}/{self.model}@{self.scale:g}"


def read_obman(
    folder: str | Path,
    hand: HandModel | None = None,
    *,
    shapenet_folder: str | Path | None = None,
    splits: Collection[str] = SPLITS,
    every: int = 1,
) -> LabelledGrasps:
    """The grasps of ObMan.

    Args:
        folder: that holds ``train``, ``val`` and ``test``.
        hand: right MANO; None = the user's.
        shapenet_folder: ShapeNetCore.v2; None = a folder of that name in or beside `folder`, if there is one. The
            grasps are read without it, but their objects then have no mesh.
        splits: of ``train``, ``val``, ``test``. every: read each so many-th sample.

    Raises:
        MissingFileError: ObMan or MANO is not there; the message says where it comes from.
        InputError: a file is not what it should be, or MANO fits none of the hands.
    """
    odd = set(splits) - set(SPLITS)
    if odd or every < 1:
        raise InputError(f"expected splits of {', '.join(SPLITS)} and every >= 1, got {sorted(splits)} and {every}")
    hand = require_mano(hand, "right", "ObMan")
    root = require("obman", Path(folder), "folder")
    shapenet = _shapenet(root, shapenet_folder)
    files: list[tuple[Path, str]] = []
    for split in splits:
        found = sorted(require("obman", root / split / "meta", "folder").glob("*.pkl"))[::every]
        if not found:
            require("obman", root / split / "meta" / "00000000.pkl")
        files += [(path, split) for path in found]
    samples: list[_Sample] = []
    parts: dict[str, list[_Placed]] = {reading: [] for reading in POSE_READINGS}
    for begin in range(0, len(files), _BATCH):
        read = [one for path, split in files[begin : begin + _BATCH] if (one := _sample(path, split)) is not None]
        samples += [sample for sample, _, _ in read]
        if read:
            pose, vertices = np.stack([one[1] for one in read]), np.stack([one[2] for one in read])
            for reading, placements in parts.items():
                placements.append(_fit(hand, POSE_READINGS[reading](hand.arrays, pose), vertices))
    if not samples:
        raise InputError(f"{root}: no sample of a right hand in {', '.join(splits)}")
    reading, placed = _best(parts)
    good = ~(placed.residual > LARGEST_RESIDUAL)  # one that is not a number is counted as such, not as a misfit
    if not good.any():
        raise InputError(
            f"{root}: the hand model fits none of the hands, at best {1000 * np.nanmin(placed.residual):.1f} mm (rms); "
            "is it MANO, right hand?"
        )
    chosen = [sample for sample, fits in zip(samples, good.tolist(), strict=True) if fits]
    recordings = [
        Recording(
            orientation=placed.orientation[good],
            wrist=placed.wrist[good],
            hand_pose=placed.hand_pose[good],
            betas=np.zeros(NUM_BETAS),
            object_rotation=np.stack([one.rotation for one in chosen]),
            object_translation=np.stack([one.translation for one in chosen]),
            object_name=np.array([one.object_name for one in chosen]),
            subject="",
            sequence=np.array([one.split for one in chosen]),
            frame=np.array([one.number for one in chosen]),
            metrics={
                "vertex_residual": placed.residual[good],
                **{
                    f"graspit_{name}": np.array([one.quality[k] for one in chosen])
                    for k, name in enumerate(("quality", "epsilon", "volume"))
                },
            },
        )
    ]
    objects = {one.object_name: _object(one, shapenet) for one in chosen}
    return label_grasps(
        "obman",
        hand,
        recordings,
        objects,
        {
            "pose": f"the 45 numbers are taken as {reading}",
            "betas": "zeros: the files hold the body's shape, not the hand's",
            "misfits_dropped": str(int((~good).sum())),
            "left_hands_dropped": str(len(files) - len(samples)),
        },
    )


def _shapenet(root: Path, folder: str | Path | None) -> Path | None:
    if folder is not None:
        return require("obman", Path(folder), "folder of ShapeNetCore.v2")
    near = [root / "ShapeNetCore.v2", root.parent / "ShapeNetCore.v2"]
    return next((path for path in near if path.is_dir()), None)


def _object(sample: _Sample, shapenet: Path | None) -> GraspedObject:
    mesh = ""
    if shapenet is not None:
        path = shapenet / sample.category / sample.model / "models" / "model_normalized.obj"
        if not all(name and set(name) <= _NAME for name in (sample.category, sample.model)):
            raise InputError(f"ObMan sample {sample.number}: names an object outside of {shapenet}: {path}")
        mesh = str(require("obman", path))
    return GraspedObject(sample.object_name, mesh, sample.scale, category=sample.category, split=sample.split)


def _sample(path: Path, split: str) -> tuple[_Sample, np.ndarray, np.ndarray] | None:
    """One file: the sample, its pose numbers (45,) and its vertices (778, 3), m; None if it is of a left hand."""
    data = read_pickle(path, "ObMan sample")
    if str(field_of(data, "side", path)) != "right":
        return None
    if not path.stem.isdigit():
        raise InputError(f"{path}: expected a file name of digits")
    scale = float(row_of(data, 1, path, "obj_scale")[0])
    rotation, translation = _object_pose(numbers_of(data, (4, 4), path, "affine_transform"), scale, path)
    sample = _Sample(
        split=split,
        number=int(path.stem),
        category=str(field_of(data, "class_id", path)),
        model=str(field_of(data, "sample_id", path)),
        scale=scale,
        rotation=rotation,
        translation=translation,
        quality=(_number(data, "grasp_quality"), _number(data, "grasp_epsilon"), _number(data, "grasp_volume")),
    )
    pose = row_of(data, NUM_POSE, path, "pca_pose" if "pca_pose" in data else "hand_pose")
    return sample, pose, numbers_of(data, (NUM_VERTICES, 3), path, "verts_3d")


def _object_pose(matrix: np.ndarray, scale: float, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,), m, of an object that was scaled before.

    Blender keeps an object's size in its matrix: published files have it there, and it must not be applied twice.
    """
    if not np.isfinite(matrix).all():
        return np.full((3, 3), np.nan), np.full(3, np.nan)
    stretch = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    rotation = matrix[:3, :3] / (stretch or 1.0)
    known = any(abs(stretch - expected) < 1e-3 * expected for expected in (1.0, scale))
    if not (known and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)):
        raise InputError(
            f"{path}: affine_transform: expected a rotation times 1 or obj_scale ({scale:g}), it stretches by "
            f"{stretch:.4g}"
        )
    return rotation, matrix[:3, 3]


def _number(data: dict[str, object], name: str) -> float:
    """A measure of GraspIt that older files lack: nan then."""
    value = data.get(name)
    return float(value) if isinstance(value, (int, float, np.number)) else float("nan")


@dataclass(frozen=True, eq=False)
class _Placed:
    """orientation (N, 3, 3) and wrist (N, 3), m, of the hands; hand_pose (N, 45), rad; residual (N,), m."""

    orientation: np.ndarray
    wrist: np.ndarray
    hand_pose: np.ndarray
    residual: np.ndarray


def _best(parts: dict[str, list[_Placed]]) -> tuple[str, _Placed]:
    """The reading of the pose under which the hands fit best, and the hands placed with it."""

    def misfit(reading: str) -> float:
        residuals = np.concatenate([one.residual for one in parts[reading]])
        return float(np.median(np.nan_to_num(residuals, nan=np.inf)))

    reading = min(parts, key=misfit)
    columns = ("orientation", "wrist", "hand_pose", "residual")
    return reading, _Placed(*(np.concatenate([getattr(one, name) for one in parts[reading]]) for name in columns))


def _fit(hand: HandModel, pose: np.ndarray, target: np.ndarray) -> _Placed:
    """The mean hand in N poses (N, 45), moved rigidly onto vertices (N, 778, 3), m, by Kabsch's method."""
    params = HandParams.zeros(len(pose), hand.side, hand.dtype)
    whole = np.isfinite(pose).all(1) & np.isfinite(target).all((1, 2))
    flat = HandParams(
        params.global_orient,
        torch.from_numpy(np.where(whole[:, None], pose, 0.0)).to(hand.dtype),
        *(params.betas, params.transl, params.scale, params.side),
    ).to(hand.device)
    with torch.no_grad():
        posed = hand(flat).vertices.cpu().numpy().astype(np.float64)
    target = np.where(whole[:, None, None], target, posed)
    middle, goal = posed.mean(1, keepdims=True), target.mean(1, keepdims=True)
    left, _, right = np.linalg.svd(np.einsum("nvi,nvj->nij", target - goal, posed - middle))
    sign = np.ones((len(pose), 3))
    sign[:, 2] = np.linalg.det(left @ right)
    orientation = left * sign[:, None] @ right
    moved = (posed - middle) @ orientation.swapaxes(1, 2) + goal
    residual = np.sqrt(((moved - target) ** 2).sum(2).mean(1))
    start = rest_wrist(hand, np.zeros((len(pose), NUM_BETAS)))[:, None]
    wrist = ((start - middle) @ orientation.swapaxes(1, 2) + goal)[:, 0]
    return _Placed(orientation, np.where(whole[:, None], wrist, np.nan), pose, np.where(whole, residual, np.nan))
