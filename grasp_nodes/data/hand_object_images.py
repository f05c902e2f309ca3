"""Rendered crops of hands that hold objects, with exact poses: what HoNet and PiCR are trained and judged on.

One archive per object, so that the work can be stopped and gone on with; what it holds depends on the settings and the
object alone. Objects of the reconstruction benchmark's own clips (seed 0) are never drawn.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.hand_object_drawing import DrawnHand, HandObjectDrawer
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.synthetic_grasps import synthesize_grasps
from grasp_nodes.data.view_feature_images import disturb
from grasp_nodes.data.workers import Task, WorkerProcesses, WorkError, run_tasks, writing_below
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.npz import pack_npz, read_npz, replacing
from grasp_nodes.objects.registry import family_mesh, heldout_names, parse_name
from grasp_nodes.paths import cache_dir

IMAGES_VERSION = 1
"""Raised whenever the same settings give other images."""
JUDGED_OBJECTS = frozenset(
    {
        *("frustum:25", "phone:21", "frustum:20", "cylinder:15", "superquadric:12", "dumbbell:7", "ring:29"),
        *("bowl:12", "phone:29", "vase:11", "glass:4", "box:24", "prism:6"),
    }
)
"""Objects of the published grasps that the 20 benchmark clips of seed 0 show; the other seven have seeds or families
that no training may see."""
VALIDATION_EVERY = 14
"""Of the published objects that are left, so many to one kept, by turns to choose weights and to judge them."""
NEW_GRASPS = 60
"""Grasps that are looked for on an object that the published set does not hold."""
MOST_DISTURBED = 0.2
"""Level of `disturb` up to which some of the hands are disturbed: 6 mm, 7 degrees, 0.1 rad a joint."""
JOB = "grasp_nodes.data.hand_object_images:draw_shard"

Split = Literal["train", "validation", "judged", "new"]
"""Objects to train on; others of the same families, that choose the best weights, and such that choose nothing; and the
objects of the set ``heldout``: half of new families."""


@dataclass(frozen=True)
class ImageSettings:
    """What is drawn.

    size: px, of the square crops. per_object: of each object, each of another grasp while there are any; more images
    are those of another seed.
    disturbed: share of the hands that are moved a little off their grasp, as the paper's augmentation does.
    seed: of everything random.
    """

    size: int = 128
    per_object: int = 25
    disturbed: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 32 or self.per_object < 1 or not 0 <= self.disturbed <= 1 or self.seed < 0:
            raise InputError(
                "images: expected a size of 32 or more, at least one per object, a disturbed share of 0 to 1 and a "
                f"seed of 0 or more, got {self}"
            )


@dataclass(frozen=True, eq=False)
class HandObjectImages:
    """N crops of right hands with objects; the crop's camera has its principal point in the image's middle.

    images: (N, S, S, 3) uint8. focal: (N,) float32, px. global_orient (N, 3), hand_pose (N, 45), betas (N, 10),
    transl (N, 3): float32, as `HandParams`, and T_camera_object: (N, 4, 4) float32, in the crop's camera.
    object_index: (N,) int64 into `objects`, names of the registry.
    """

    images: np.ndarray
    focal: np.ndarray
    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    T_camera_object: np.ndarray
    object_index: np.ndarray
    objects: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, chosen: np.ndarray | slice) -> HandObjectImages:
        """Some of the crops."""
        columns = {name: getattr(self, name)[chosen] for name in (*_COLUMNS, "object_index")}
        return HandObjectImages(**columns, objects=self.objects)

    def hands(self, rows: np.ndarray | slice = slice(None)) -> HandParams:
        """Right hands of some of the rows."""
        values = (self.global_orient, self.hand_pose, self.betas, self.transl)
        orient, pose, betas, transl = (torch.from_numpy(value[rows].copy()) for value in values)
        return HandParams(orient, pose, betas, transl, torch.ones(len(orient)), "right")


_COLUMNS = ("images", "focal", "global_orient", "hand_pose", "betas", "transl", "T_camera_object")


def join_images(parts: Sequence[HandObjectImages]) -> HandObjectImages:
    """Several sets as one; objects of one name are one object.

    Raises:
        InputError: there are none, or crops of different sizes.
    """
    if not parts or len({part.images.shape[1] for part in parts}) > 1:
        raise InputError("images: expected at least one set, and crops of one size")
    names = list(dict.fromkeys(name for part in parts for name in part.objects))
    index = [np.array([names.index(name) for name in part.objects])[part.object_index] for part in parts]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return HandObjectImages(**columns, object_index=np.concatenate(index), objects=tuple(names))


def split_objects(split: Split) -> list[str]:
    """Names of the objects of a split; no two splits share any, and none is of the benchmark's clips.

    Raises:
        MissingFileError: the published grasps are not there.
    """
    if split == "new":
        return [str(name) for name in heldout_names()]
    names = sorted({one.name for one in _published().objects} - JUDGED_OBJECTS, key=lambda text: (_seed(text), text))
    kept = names[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    if split != "train":
        return kept[::2] if split == "validation" else kept[1::2]
    return [name for name in names if name not in set(kept)]


def make_images(
    folder: Path,
    names: Sequence[str],
    settings: ImageSettings,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> HandObjectImages:
    """The images of objects; those that the folder does not hold are drawn now.

    Args:
        folder: of the archives, made if absent. names: of the objects. settings: see there.
        processes: that draw. progress: is told objects done and in all.

    Raises:
        InputError: an object of the benchmark, or archives of other settings. WorkError: the folder cannot be written,
            or an object could not be drawn.
    """
    judged = sorted(JUDGED_OBJECTS & set(names))
    if judged:
        raise InputError(f"images: {', '.join(judged)} are the benchmark's own objects, which are never drawn for this")
    with writing_below(folder):
        folder.mkdir(parents=True, exist_ok=True)
    todo = [name for name in names if not _file(folder, name).is_file()]
    done = len(names) - len(todo)

    def keep(task: Task, content: bytes) -> None:
        nonlocal done
        with writing_below(folder), replacing(_file(folder, task.name)) as stream:
            stream.write(content)
        done += 1

    def look() -> None:
        if progress is not None:
            progress(done, len(names))

    if todo:
        team = WorkerProcesses(JOB, processes)
        try:
            failed = run_tasks([Task(name, (settings, name)) for name in todo], team, keep, look)
        finally:
            team.close()
        if failed:
            first = next(iter(failed.items()))
            raise WorkError(f"{folder}: {len(failed)} objects could not be drawn; the first, {first[0]}: {first[1]}")
    return read_images(folder, names, settings)


def read_images(folder: Path, names: Sequence[str], settings: ImageSettings) -> HandObjectImages:
    """The images of objects whose archives a folder holds; the others are left out.

    Raises:
        InputError: there are none, or an archive is damaged or of other settings.
    """
    found = [name for name in names if _file(folder, name).is_file()]
    if not found:
        raise InputError(f"{folder}: holds no images of the {len(names)} objects that were asked for")
    parts = []
    for name in found:
        path = _file(folder, name)
        arrays = read_npz(path, "file of hand-object images")
        if str(arrays.get("key")) != _key(settings, name):
            raise InputError(f"{path}: was drawn with other settings or by another version; name another folder")
        parts.append({column: arrays[column] for column in _COLUMNS})
    sizes = [len(part["images"]) for part in parts]
    joined = {column: np.concatenate([part.pop(column) for part in parts]) for column in _COLUMNS}
    return HandObjectImages(**joined, object_index=np.repeat(np.arange(len(found)), sizes), objects=tuple(found))


def draw_shard(settings: ImageSettings, name: str) -> bytes:
    """The archive of one object."""
    model = _hand()
    rng = np.random.default_rng([IMAGES_VERSION, settings.seed, zlib.crc32(name.encode())])
    grasps = _grasps_of(name)
    if not len(grasps):
        raise InputError(f"object {name}: there are no grasps of it")
    hands = move_hands(grasps.hands, np.linalg.inv(grasps.objects[0].transform), model)
    drawer = HandObjectDrawer(model, *family_mesh(name), settings.size)
    drawn: list[DrawnHand] = []
    order = rng.permutation(len(hands))
    for trial in range(2 * settings.per_object):
        row = int(order[trial % len(order)])
        hand = hands[row : row + 1]
        if rng.random() < settings.disturbed:
            hand = disturb(hand, rng.uniform(0.0, MOST_DISTURBED, 1), rng)
        one = drawer.draw(hand, rng)
        drawn += [one] if one is not None else []
        if len(drawn) == settings.per_object:
            break
    if not drawn:
        raise InputError(f"object {name}: no view shows hand and object")
    return pack_npz({"key": np.array(_key(settings, name)), **crop_columns(drawn)})


def crop_columns(drawn: Sequence[DrawnHand]) -> dict[str, np.ndarray]:
    """Drawn crops as the columns of `HandObjectImages`, but for the objects."""
    hands = {
        column: np.concatenate([getattr(one.hand, column).numpy() for one in drawn]).astype(np.float32)
        for column in ("global_orient", "hand_pose", "betas", "transl")
    }
    return {
        "images": np.stack([one.image for one in drawn]),
        "focal": np.array([one.focal for one in drawn], np.float32),
        **hands,
        "T_camera_object": np.stack([one.T_camera_object for one in drawn]).astype(np.float32),
    }


def _grasps_of(name: str) -> LabelledGrasps:
    published = _published()
    for number, one in enumerate(published.objects):
        if one.name == name:
            found = published.of_object(number)
            return LabelledGrasps(
                *(found.source, found.hands, found.hand_model_id, found.hand_fingerprint, [one]),
                *(np.zeros(len(found), np.int64), found.kind, found.subject, found.sequence, found.frame),
            )
    return synthesize_grasps(parse_name(name), NEW_GRASPS, 0)


@lru_cache(maxsize=1)
def _published() -> LabelledGrasps:
    return open_grasps(_hand().fingerprint)


@lru_cache(maxsize=1)
def _hand() -> HandModel:
    return load_hand_model("right", OPEN_HAND_FILE)


def _seed(name: str) -> int:
    return parse_name(name).seed


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(':', '_')}.npz"


def _key(settings: ImageSettings, name: str) -> str:
    content = json.dumps([IMAGES_VERSION, asdict(settings), name, _hand().fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def images_folder(settings: ImageSettings) -> Path:
    """Where the cache keeps images of these settings.

    Raises:
        InputError: it cannot be made.
    """
    return cache_dir("hand_object_images", _key(settings, "")[:12])
