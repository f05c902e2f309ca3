"""Crops of recorded sequences with annotated hands and objects: HO-3D, DexYCB, FHB, or clip folders with truth.

FHB annotates keypoints: hands are fitted to them, one shape to a sequence, so that any hand model will do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import HandObjectState, HandState
from grasp_nodes.data.clip_datasets.fhb import FhbSource
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, find_dataset
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.frame_source import FrameSource
from grasp_nodes.data.hand_object_images import HandObjectImages, join_images
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.keypoint_fit import fit_keypoints
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.geometry.crop_camera import CropCamera
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel

LARGEST_ERROR = 0.01
"""m, mean distance of a fitted hand's keypoints from the annotated ones: farther, the annotation is of no hand."""
NEAR = 0.005
"""m: frames in which the hand is farther than this from the object show no grasp; the paper leaves them out, too."""
MARGIN = 1.2
"""Width of the crop as a multiple of what hand and object need."""
MOST_SHIFT, MOST_GROWTH = 0.08, 1.2
"""How far crops for training miss the middle, in widths, and how much wider they are at most."""
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])

_log = logging.getLogger(__name__)


def open_sources(place: Path, dataset: str, models: Mapping[Side, HandModel]) -> Iterator[tuple[str, FrameSource]]:
    """The sequences of a place, one after the other.

    Args:
        place: of a data set, or a clip folder, or a folder of clip folders. dataset: its name in the registry, empty =
            clip folders. models: of the hands in whose terms the data set is annotated.

    Raises:
        MissingFileError, InputError: nothing there can be read.
    """
    if dataset:
        found = find_dataset(dataset)
        for name in found.sequences(place):
            yield name, found.open(place, name, ClipOptions(hands=models))
        return
    folders = [place] if (place / "clip.json").is_file() else sorted(path.parent for path in place.glob("*/clip.json"))
    if not folders:
        raise InputError(f"{place}: holds no clip.json, neither itself nor in its folders; see docs/default_clip.md")
    for folder in folders:
        yield folder.name, open_clip(str(folder))


def source_crops(
    source: FrameSource, models: Mapping[Side, HandModel], size: int, seed: int | None = None, every: int = 1
) -> tuple[HandObjectImages, ObjectModel] | None:
    """Crops about hand and object of every frame that shows a grasp; left hands as seen in a mirror.

    Of a mirrored frame the object is mirrored, too: a source of left hands gives the mirrored object.

    Args:
        source: with truth and the object's mesh. models: of its hands. size: px, of the crops.
        seed: of crops that miss the middle a little, for training; None = exactly about hand and object.
        every: only every so many frames.

    Returns:
        The crops, and their object, the middle of its bounding box at the origin; None if no frame shows a grasp.

    Raises:
        InputError: the source knows no truth or no object, or a frame's hand is of another model than those given.
    """
    if not source.has_truth or not source.object_spec:
        raise InputError("crops: expected a recording with true poses and the object's mesh")
    own = load_object(source.object_spec, scale=source.object_scale)
    rng = None if seed is None else np.random.default_rng(seed)
    fitted = fitted_hands(source, models["right"]) if isinstance(source, FhbSource) and "right" in models else {}
    rows: list[dict[str, np.ndarray]] = []
    side: Side | None = None
    left_out = 0
    for number, frame in enumerate(source):
        state = source.truth(frame.stamp) if number % every == 0 else None
        if state is not None and frame.stamp in fitted:
            state = replace(state, hands=[fitted[frame.stamp]])
        if state is None or not state.hands or not state.objects:
            continue
        hand = state.hands[0].params
        if side not in (None, hand.side):
            left_out += 1
            continue
        row = _row(frame, state, models, own, size, rng)
        if row is not None:
            side = hand.side
            rows.append(row)
    if left_out:
        _log.warning(
            "%s: %d frames are left out: their hand is not the %s one of the frames before; give each side as a "
            "sequence of its own",
            *(source.object_id, left_out, side),
        )
    if not rows or side is None:
        return None
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    images = HandObjectImages(**columns, object_index=np.zeros(len(rows), np.int64), objects=(source.object_id,))
    return images, _centred(own, side)


def fitted_hands(source: RecordingSource, model: HandModel) -> dict[int, HandState]:
    """Hands that have a recording's annotated keypoints, by stamp, ns; those whose keypoints no hand has are left out.

    Args:
        source: see `RecordingSource.keypoints`. model: of the hand that is annotated.
    """
    known = [(stamp, points) for stamp in source.stamps if (points := source.keypoints(stamp)) is not None]
    if not known:
        return {}
    fit = fit_keypoints(model, np.stack([points for _, points in known]))
    kept = fit.errors < LARGEST_ERROR
    if not kept.all():
        _log.warning(
            "%s: %d of %d annotated hands are none: no posture comes nearer to their keypoints than %.0f mm",
            *(type(source).__name__, int((~kept).sum()), len(kept), 1e3 * LARGEST_ERROR),
        )
        known = [one for one, good in zip(known, kept, strict=True) if good]
        if not known:
            return {}
        fit = fit_keypoints(model, np.stack([points for _, points in known]))  # what is no hand spoils the shape
    return {stamp: state for (stamp, _), state in zip(known, hand_states(fit.hands, model), strict=True)}


def recorded_crops(
    place: Path, dataset: str, models: Mapping[Side, HandModel], size: int, every: int = 1
) -> tuple[HandObjectImages, HandObjectImages, list[ObjectModel]]:
    """Crops of all sequences of a place: for training, for validation, and the objects that both count.

    Every tenth sequence validates; of fewer than ten the last; of a single one its last tenth.

    Raises:
        MissingFileError, InputError: nothing there can be read, or no frame shows a grasp of an annotated hand.
    """
    parts: list[HandObjectImages] = []
    objects: dict[tuple[str, str], ObjectModel] = {}
    for number, (name, source) in enumerate(open_sources(place, dataset, models)):
        try:
            if dataset and not (source.has_truth and source.object_spec):
                _log.info("%s: %s has no annotated object", place, name)
                continue
            found = source_crops(source, models, size, seed=number, every=every)
        finally:
            source.close()
        if found is None:
            _log.warning("%s: no frame of %s shows a grasp of an annotated hand", place, name)
            continue
        images, thing = found
        # Another hand's side gives the same object mirrored: it is another object to the network.
        key = (thing.object_id, thing.vertices.tobytes().hex()[:64])
        objects.setdefault(key, thing)
        parts.append(replace(images, objects=("/".join(key),)))
    if not parts:
        raise InputError(f"{place}: no frame shows a grasp of an annotated hand")
    kept = _validating(parts)
    training, validation = (join_images(list(some)) for some in kept)
    order = {"/".join(key): thing for key, thing in objects.items()}
    names = list(order)

    def counted(images: HandObjectImages) -> HandObjectImages:
        index = np.array([names.index(name) for name in images.objects])[images.object_index]
        return replace(images, object_index=index, objects=tuple(names))

    return counted(training), counted(validation), list(order.values())


def _validating(parts: list[HandObjectImages]) -> tuple[Iterable[HandObjectImages], Iterable[HandObjectImages]]:
    if len(parts) > 1:
        kept = set(range(9, len(parts), 10)) or {len(parts) - 1}
        return [one for k, one in enumerate(parts) if k not in kept], [parts[k] for k in sorted(kept)]
    count = len(parts[0])
    if count < 2:
        raise InputError("crops: a single frame cannot both train and validate; give more frames")
    first = count - max(1, count // 10)
    return [parts[0].rows(slice(0, first))], [parts[0].rows(slice(first, None))]


def _row(
    frame: Frame,
    state: HandObjectState,
    models: Mapping[Side, HandModel],
    own: ObjectModel,
    size: int,
    rng: np.random.Generator | None,
) -> dict[str, np.ndarray] | None:
    hand, thing = state.hands[0], state.objects[0]
    side = hand.params.side
    if side not in models or models[side].fingerprint != hand.model_fingerprint:
        raise InputError(
            f"crops: the truth is of the {side} hand {hand.model_id}, which is not among the models given: its poses "
            "mean nothing with another hand"
        )
    model = models[side]
    params = hand.params.to(model.dtype)
    with torch.no_grad():
        vertices = model(params).vertices[0].double().numpy()
    placed = own.points @ thing.T_camera_object[:3, :3].T + thing.T_camera_object[:3, 3]
    if cKDTree(placed).query(vertices)[0].min() > NEAR + _spacing(own):
        return None
    points = np.concatenate([vertices, placed])
    if points[:, 2].min() <= 0.02:
        return None
    pixels = frame.camera.project(points)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    middle, half = 0.5 * (low + high), 0.5 * MARGIN * float((high - low).max())
    if rng is not None:
        half *= rng.uniform(1.0, MOST_GROWTH)
        middle = middle + rng.uniform(-MOST_SHIFT, MOST_SHIFT, 2) * 2 * half
    crop = CropCamera.around(np.concatenate([middle - half, middle + half]), frame.camera, size)
    image = crop.cut(frame.color, frame.camera)
    turn = np.eye(4)
    turn[:3, :3] = crop.R_crop_camera
    params = move_hands(params, turn, model)
    centre = np.eye(4)
    centre[:3, 3] = _middle(own)
    pose = turn @ thing.T_camera_object @ centre
    if side == "left":
        image, pose, params = image[:, ::-1], _MIRROR @ pose @ _MIRROR, _mirrored(params)
    return {
        "images": np.ascontiguousarray(image),
        "focal": np.float32(crop.focal),
        **{name: getattr(params, name)[0].numpy().astype(np.float32) for name in _HAND},
        "T_camera_object": pose.astype(np.float32),
    }


_HAND = ("global_orient", "hand_pose", "betas", "transl")


def _mirrored(hands: HandParams) -> HandParams:
    """A left hand as the right one that the mirror shows; the models are each other's mirror image."""
    orient, pose = (
        torch.from_numpy(mirror_pose(value.numpy())).to(value.dtype) for value in (hands.global_orient, hands.hand_pose)
    )
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=hands.transl.dtype)
    return HandParams(orient, pose, hands.betas, hands.transl * flip, hands.scale, "right")


def _middle(own: ObjectModel) -> np.ndarray:
    return 0.5 * (own.vertices.max(axis=0) + own.vertices.min(axis=0)).astype(np.float64)


def _centred(own: ObjectModel, side: Side) -> ObjectModel:
    """The object as the crops' poses mean it; only its surface is meant, the signed distance stays as it was."""
    shift = _middle(own).astype(np.float32)
    vertices, points, normals, faces = own.vertices - shift, own.points - shift, own.normals, own.faces
    if side == "left":
        flip = np.array([-1.0, 1.0, 1.0], np.float32)
        vertices, points, normals, faces = vertices * flip, points * flip, normals * flip, faces[:, ::-1]
    return replace(own, vertices=vertices, points=points, normals=normals, faces=faces)


def _spacing(own: ObjectModel) -> float:
    """m: about how far the object's points are from each other."""
    tree = cKDTree(own.points)
    return float(tree.query(own.points[:64], k=2)[0][:, 1].mean())
