"""What stays the same of each hand and each object while a clip is fitted: evidence, limits, places at the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.fitting.homan import losses
from grasp_nodes.fitting.homan.depth_term import DepthPoints, HandSurface, SeenThrough, SurfaceMatch
from grasp_nodes.fitting.homan.holding import moving_frames
from grasp_nodes.fitting.homan.observation import (
    ClipImages,
    depth_points,
    hand_evidence,
    mask_windows,
    object_evidence,
)
from grasp_nodes.fitting.homan.posed_points import move_spread, place_points, project_pixels, spread_points
from grasp_nodes.fitting.homan.proxies import ObjectProxy
from grasp_nodes.fitting.homan.settings import JointFitSettings
from grasp_nodes.fitting.homan.variables import ObjectUnknowns
from grasp_nodes.fitting.tracks import HandTrack, ObjectTrack
from grasp_nodes.geometry.silhouette_gradient import SilhouetteLoss
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.keypoints import WRIST_LOOP
from grasp_nodes.hand.model import HandModel
from grasp_nodes.perception.evidence import ObservedFrame

SMOOTH_STEP = 4
"""Every fourth hand vertex stands for all in the terms that are means over vertices."""


@dataclass
class HandTerms:
    """Constants of one hand track; matches are renewed.

    zones: vertex ids of what touches objects. rim: (778,) bool, vertices of the open wrist.
    observed: (T,) bool, frames with evidence of the hand.
    initial_pixels: (T, v, 2), px, and initial: (T, v, 3), m, of the sampled vertices. with_depth: (T,), 1 where depth
    was measured. to_angles: (45, D), of poses to finger angles; low, high: (D,), rad, limits.
    """

    zones: list[Tensor]
    rim: np.ndarray
    surface: HandSurface
    observed: Tensor
    initial_pixels: Tensor
    initial: Tensor
    with_depth: Tensor
    measured: DepthPoints | None
    to_angles: Tensor
    low: Tensor
    high: Tensor
    match: SurfaceMatch | None = None
    seen_through: SeenThrough | None = None


@dataclass
class ObjectTerms:
    """Constants of one object track; what was looked through is renewed.

    rows: frames whose mask is compared. moving: (T,) bool, frames in which the object moves before a camera at rest.
    spread: (4, 4), see `spread_points`; initial: (T, 4, 3), m, its points at the start.
    with_depth: (T,), 1 where depth was measured.
    """

    proxy: ObjectProxy
    silhouette: SilhouetteLoss | None
    rows: Tensor
    intrinsics: Tensor
    measured: DepthPoints | None
    moving: Tensor
    spread: Tensor
    initial: Tensor
    with_depth: Tensor
    seen_through: SeenThrough | None = None


def hand_terms(
    track: HandTrack,
    model: HandModel,
    vertices: Tensor,
    betas: np.ndarray,
    frames: Sequence[ObservedFrame],
    images: ClipImages,
    settings: JointFitSettings,
) -> HandTerms:
    """Read the frames for one hand.

    Args:
        track: at the start. model: of its side. vertices: (T, 778, 3), m, camera frame, at the start. betas: (10,).
        frames: of the clip. images: of `frames`. settings: weights.
    """
    camera_k = torch.tensor(images.camera.camera_k, dtype=torch.float32)
    active = np.asarray(track.seen, bool) & ~np.asarray(track.lost, bool)
    freedom = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model, betas))
    masks = [None if hand is None else hand.mask for hand in hand_evidence(frames, track)]
    # What lies outside of the posed hand's box is forearm.
    boxes = losses.pixel_boxes(project_pixels(vertices, camera_k)).numpy()
    measured = None if track.without_depth else _measured(images, settings, masks, active, list(boxes))
    sample = vertices[:, ::SMOOTH_STEP]
    return HandTerms(
        zones=losses.contact_zones(model),
        rim=np.isin(np.arange(model.num_vertices), WRIST_LOOP),
        surface=HandSurface.of_faces(model.faces.numpy(), model.num_vertices),
        observed=torch.from_numpy(active),
        initial_pixels=project_pixels(sample, camera_k),
        initial=sample,
        with_depth=_with_depth(measured, len(frames)),
        measured=measured,
        to_angles=torch.from_numpy(np.linalg.pinv(freedom.matrix)).float(),
        low=torch.from_numpy(freedom.low).float(),
        high=torch.from_numpy(freedom.high).float(),
    )


def object_terms(
    track: ObjectTrack,
    is_only_object: bool,
    initial: ObjectUnknowns,
    proxy: ObjectProxy,
    frames: Sequence[ObservedFrame],
    hidden: Sequence[np.ndarray | None],
    images: ClipImages,
    settings: JointFitSettings,
) -> ObjectTerms:
    """Read the frames for one object.

    Args:
        track: at the start. is_only_object: evidence without its name is taken for it.
        initial: its motion at the start. proxy: its shape. frames: of the clip. images: of `frames`.
        hidden: pixels that hands cover, of each frame. settings: weights.

    Raises:
        InputError: a mask whose size is not the camera's.
    """
    camera_k = torch.tensor(images.camera.camera_k, dtype=torch.float32)
    active = np.asarray(track.seen, bool) & ~np.asarray(track.lost, bool)
    evidence = object_evidence(frames, track, is_only_object)
    outlines = losses.pixel_boxes(project_pixels(place_points(proxy.vertices, initial), camera_k)).numpy()
    windows, used = mask_windows(images.camera, evidence, hidden, active, outlines, settings.window)
    rows = torch.from_numpy(np.flatnonzero(used))
    silhouette = None
    if settings.obj and len(rows):
        silhouette = SilhouetteLoss(proxy.faces, windows.mask[rows], windows.keep[rows])
    measured = _measured(images, settings, [None if item is None else item.mask for item in evidence], active)
    spread = spread_points(proxy.vertices)
    corners = proxy.vertices[[int(k) for k in (*proxy.vertices.argmin(0), *proxy.vertices.argmax(0))]]
    moving = moving_frames(np.asarray(track.T_camera_object, np.float64), corners.double().numpy() * track.scale)
    at_rest = np.array([not frame.camera_moves for frame in frames], bool)
    return ObjectTerms(
        proxy=proxy,
        silhouette=silhouette,
        rows=rows,
        intrinsics=windows.intrinsics[rows],
        measured=measured,
        moving=torch.from_numpy(moving & at_rest & ~np.asarray(track.lost, bool)),
        spread=spread,
        initial=move_spread(spread, initial),
        with_depth=_with_depth(measured, len(frames)),
    )


def _measured(
    images: ClipImages,
    settings: JointFitSettings,
    masks: Sequence[np.ndarray | None],
    active: np.ndarray,
    boxes: Sequence[np.ndarray] | None = None,
) -> DepthPoints | None:
    if images.depth is None or not settings.depth:
        return None
    return depth_points(images.camera, masks, images.depth, active, settings.depth_points, settings.seed, boxes)


def _with_depth(measured: DepthPoints | None, count: int) -> Tensor:
    """(T,) float32, 1 for frames with measured points."""
    return torch.zeros(count) if measured is None else (measured.weight.sum(1) > 0).float()
