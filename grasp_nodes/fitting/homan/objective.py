"""The joint fit's objective: posed hands and objects of a vector of unknowns, and the weighted sum of all terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.fitting.hand_fit import FRAME_TIME
from grasp_nodes.fitting.homan import losses
from grasp_nodes.fitting.homan.depth_term import (
    find_seen_through,
    hand_depth_loss,
    match_hand,
    object_depth_loss,
    posed_normals,
    see_through_loss,
)
from grasp_nodes.fitting.homan.holding import holding_loss
from grasp_nodes.fitting.homan.inside_hand import distances_to_hand
from grasp_nodes.fitting.homan.observation import ClipImages, hidden_pixels
from grasp_nodes.fitting.homan.posed_points import move_spread, place_points, project_pixels
from grasp_nodes.fitting.homan.proxies import ObjectProxy
from grasp_nodes.fitting.homan.settings import JointFitSettings
from grasp_nodes.fitting.homan.track_terms import SMOOTH_STEP, hand_terms, object_terms
from grasp_nodes.fitting.homan.variables import ClipVariables, HandUnknowns, ObjectUnknowns
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side
from grasp_nodes.perception.evidence import ObservedFrame

SHORTEST_STEP = 1e-3
"""s; frames whose stamps are nearer count as having none."""


@dataclass(frozen=True)
class PosedClip:
    """Everything in the camera frame. vertices of hands (T, 778, 3), m, and rigid motions of hands and objects."""

    hands: list[HandUnknowns]
    objects: list[ObjectUnknowns]
    local: list[Tensor]
    vertices: list[Tensor]


class Objective:
    """The weighted sum of terms of one clip."""

    def __init__(
        self,
        variables: ClipVariables,
        frames: Sequence[ObservedFrame],
        images: ClipImages,
        hand_models: Mapping[Side, HandModel],
        proxies: Sequence[ObjectProxy],
        settings: JointFitSettings,
    ) -> None:
        """Read the frames once.

        Args:
            variables: of the tracks. frames: of the clip. images: of `frames`. hand_models: full, float32, by side.
            proxies: of each object track. settings: weights.

        Raises:
            InputError: a mask whose size is not the camera's.
        """
        self._variables, self._images, self._settings = variables, images, settings
        self._models, self._num_frames = hand_models, variables.num_frames
        self._by_side: dict[Side, list[int]] = {}
        for k in range(len(variables.hands)):
            self._by_side.setdefault(variables.side(k), []).append(k)
        camera = images.camera
        self._intrinsics = torch.tensor(camera.camera_k, dtype=torch.float32)
        self._image_size = float(max(camera.width, camera.height))
        with torch.no_grad():
            posed = self.pose(variables.initial)
        self._initial_scales = [hand.scale for hand in posed.hands]
        self._hands = [
            hand_terms(
                track,
                hand_models[variables.side(k)],
                posed.vertices[k],
                variables.betas(k),
                frames,
                images,
                settings,
            )
            for k, track in enumerate(variables.hands)
        ]
        hidden = hidden_pixels(frames)
        only = len(variables.objects) == 1
        self._objects = [
            object_terms(track, only, posed.objects[k], proxies[k], frames, hidden, images, settings)
            for k, track in enumerate(variables.objects)
        ]
        lost = [track.lost for track in variables.hands] + [track.lost for track in variables.objects]
        self._present = [torch.from_numpy(~np.asarray(rows, bool)) for rows in lost]
        self._overlap: dict[tuple[int, int], Tensor] = {}
        self._hand_pairs: dict[tuple[int, int], Tensor] = {}
        self._object_pairs: dict[tuple[int, int], Tensor] = {}
        self._gaps = frame_gaps(np.array([frame.evidence.stamp for frame in frames], np.int64))
        self._hand_units = [losses.collision_unit(local[0]) for local in posed.local]
        self.renew(variables.initial)

    def pose(self, vector: Tensor) -> PosedClip:
        """Hands and objects of a vector (N,), differentiable in it."""
        hands, objects = self._variables.read(vector)
        local: list[Tensor] = [vector] * len(hands)
        for side, rows in self._by_side.items():
            posed = self._models[side](self._variables.local_params(hands, rows)).vertices
            for row, part in zip(rows, posed.split(self._num_frames), strict=True):
                local[row] = part - self._variables.center(row)
        vertices = [
            torch.baddbmm(hand.translation[:, None], own, (hand.scale * hand.rotation).transpose(1, 2))
            for hand, own in zip(hands, local, strict=True)
        ]
        return PosedClip(hands, objects, local, vertices)

    @torch.no_grad()
    def renew(self, vector: Tensor) -> None:
        """Find matches, contradictions and interacting pairs anew at a vector."""
        posed = self.pose(vector)
        self._renew_pairs(posed)
        nearest = self._images.nearest
        if nearest is None or self._settings.depth == 0:
            return
        for terms, vertices in zip(self._hands, posed.vertices, strict=True):
            if terms.measured is None:
                continue
            place = np.ascontiguousarray(vertices.numpy())
            normals = posed_normals(place, terms.surface.faces)
            terms.match = match_hand(terms.measured, place, normals, terms.surface)
            used = (terms.measured.weight.sum(1) > 0).numpy()
            terms.seen_through = find_seen_through(self._images.camera, nearest, used, place, normals)
        for item_terms, item in zip(self._objects, posed.objects, strict=True):
            if item_terms.measured is None:
                continue
            place = place_points(item_terms.proxy.points, item).numpy()
            normals = (item_terms.proxy.normals @ item.rotation.transpose(1, 2)).numpy()
            used = (item_terms.measured.weight.sum(1) > 0).numpy()
            item_terms.seen_through = find_seen_through(self._images.camera, nearest, used, place, normals)

    def _renew_pairs(self, posed: PosedClip) -> None:
        meshes = posed.vertices + [
            place_points(terms.proxy.vertices, item) for terms, item in zip(self._objects, posed.objects, strict=True)
        ]
        boxes = [losses.pixel_boxes(project_pixels(vertices, self._intrinsics)) for vertices in meshes]
        hands = len(posed.hands)
        for a, b in combinations(range(len(meshes)), 2):
            overlap = losses.overlapping_pairs(boxes[a][:, None], boxes[b][:, None])[:, 0, 0]
            overlap = overlap & self._present[a] & self._present[b]
            if a < hands <= b:
                self._overlap[a, b - hands] = overlap
            elif a >= hands:
                self._object_pairs[a - hands, b - hands] = overlap
            else:
                self._hand_pairs[a, b] = overlap

    def terms(self, vector: Tensor, contact: bool) -> dict[str, Tensor]:
        """Each term with its weight, differentiable scalars; terms whose weight is 0 are left out.

        Args:
            vector: (N,). contact: whether `local` and `collision` count.
        """
        posed, weights = self.pose(vector), self._settings
        found: dict[str, list[Tensor]] = {}
        for k in range(len(posed.hands)):
            self._add_hand(found, k, posed)
        for j, item in enumerate(posed.objects):
            self._add_object(found, j, item)
        for (k, j), overlap in self._overlap.items():
            self._add_pair(found, k, j, posed, overlap, contact)
        if contact and weights.collision:
            self._add_collisions_among_equals(found, posed)
        return {name: getattr(weights, name) * torch.stack(values).sum() for name, values in found.items()}

    def _add_hand(self, found: dict[str, list[Tensor]], k: int, posed: PosedClip) -> None:
        weights, terms, hand = self._settings, self._hands[k], posed.hands[k]
        sample = posed.vertices[k][:, ::SMOOTH_STEP]
        if weights.v2d:
            error = losses.projected_vertex_loss(
                project_pixels(sample, self._intrinsics), terms.initial_pixels, self._image_size, terms.observed
            )
            found.setdefault("v2d", []).append(error)
        if weights.pca:
            found.setdefault("pca", []).append(losses.pca_loss(hand.theta))
        if weights.anatomy:
            angles = self._variables.hand_pose(hand.theta, k) @ terms.to_angles
            beyond = torch.relu(terms.low - angles) + torch.relu(angles - terms.high)
            found.setdefault("anatomy", []).append(beyond.square().sum(1).mean())
        if weights.scale:
            ratio = hand.scale[None] / self._initial_scales[k]
            found.setdefault("scale", []).append(losses.scale_loss(ratio))
        if weights.smooth:
            found.setdefault("smooth", []).append(self._smoothness(sample))
        unmeasured = terms.observed * (1 - terms.with_depth)
        if weights.shape and unmeasured.any():
            ratio = hand.scale / self._initial_scales[k]
            found.setdefault("shape", []).append(_reshaped(sample, terms.initial, ratio, unmeasured))
        if terms.match is not None and terms.measured is not None and terms.seen_through is not None:
            error = hand_depth_loss(terms.measured, terms.match, posed.vertices[k])
            error = error + see_through_loss(terms.seen_through, posed.vertices[k])
            found.setdefault("depth", []).append(error.mean())
            if weights.start:
                found.setdefault("start", []).append(_moved(sample, terms.initial, terms.with_depth))

    def _add_object(self, found: dict[str, list[Tensor]], j: int, item: ObjectUnknowns) -> None:
        weights, terms = self._settings, self._objects[j]
        if weights.obj and terms.silhouette is not None:
            rows = terms.rows
            part = ObjectUnknowns(item.translation[rows], item.rotation[rows], item.scale)
            vertices = place_points(terms.proxy.vertices, part)
            depths = vertices[..., 2]
            flat = vertices[..., :2] / depths.clamp(min=1e-2)[..., None]
            pixels = flat * terms.intrinsics[:, None, :2] + terms.intrinsics[:, None, 2:]
            error = terms.silhouette(pixels, depths)
            found.setdefault("obj", []).append(error.sum() / self._num_frames)
        points = move_spread(terms.spread, item)
        if weights.smooth:
            found.setdefault("smooth", []).append(self._smoothness(points))
        if weights.scale and weights.scale_free:
            found.setdefault("scale", []).append(losses.scale_loss(item.scale[None]))
        unmeasured = self._present[len(self._hands) + j] * (1 - terms.with_depth)
        if weights.object_start and not weights.scale_free and unmeasured.any():
            found.setdefault("object_start", []).append(_moved(points, terms.initial, unmeasured))
        if terms.measured is not None and terms.seen_through is not None:
            error = object_depth_loss(terms.measured, item, terms.proxy.signed_distance)
            error = error + see_through_loss(terms.seen_through, place_points(terms.proxy.points, item))
            found.setdefault("depth", []).append(error.mean())
            if weights.start and not weights.scale_free:  # a start of another size is no place to stay
                found.setdefault("start", []).append(_moved(points, terms.initial, terms.with_depth))

    def _add_pair(
        self, found: dict[str, list[Tensor]], k: int, j: int, posed: PosedClip, overlap: Tensor, contact: bool
    ) -> None:
        weights, hand, item = self._settings, posed.hands[k], posed.objects[j]
        if weights.centroid:
            center = losses.rigid_centroids(posed.local[k], hand.rotation, hand.translation, hand.scale)
            middle = item.scale * (item.rotation @ self._objects[j].proxy.vertices.mean(0)) + item.translation
            error = losses.centroid_loss(center, middle, overlap, weights.scale_free)
            found.setdefault("centroid", []).append(error)
        rows = overlap.nonzero()[:, 0]
        if contact and weights.holding:
            found.setdefault("holding", []).append(self._holding(k, j, posed, overlap))
        if not contact or not len(rows) or not (weights.local or weights.collision):
            return
        proxy, share = self._objects[j].proxy, len(rows) / self._num_frames
        distances = losses.distances_to_object(
            posed.vertices[k][rows], proxy.signed_distance, item.rotation[rows], item.translation[rows], item.scale
        )
        if weights.local:
            found.setdefault("local", []).append(share * losses.local_contact_loss(distances, self._hands[k].zones))
        if weights.collision:
            part = ObjectUnknowns(item.translation[rows], item.rotation[rows], item.scale)
            inside = self._inside_hand(place_points(proxy.points, part), posed, k, rows)
            error = losses.collision_loss(distances, proxy.collision_unit) + inside
            found.setdefault("collision", []).append(share * error)

    def _inside_hand(self, points: Tensor, posed: PosedClip, k: int, rows: Tensor) -> Tensor:
        """Collision of points (R, N, 3), m, with the hand k of frames `rows` (R,)."""
        terms = self._hands[k]
        distances = distances_to_hand(points, posed.vertices[k][rows], terms.surface.faces, terms.rim)
        return losses.collision_loss(distances, self._hand_units[k])

    def _holding(self, k: int, j: int, posed: PosedClip, overlap: Tensor) -> Tensor:
        terms, hand, item = self._objects[j], posed.hands[k], posed.objects[j]
        rows = (overlap & terms.moving).nonzero()[:, 0]
        apart = holding_loss(
            posed.local[k][rows],
            hand.scale,
            hand.rotation[rows],
            hand.translation[rows],
            self._hands[k].zones,
            terms.proxy.signed_distance,
            item.rotation[rows],
            item.translation[rows],
            item.scale,
        )
        return apart * (len(rows) / self._num_frames)

    def _add_collisions_among_equals(self, found: dict[str, list[Tensor]], posed: PosedClip) -> None:
        """Hand in hand and object in object, each mesh's vertices in the other."""
        for (a, b), overlap in self._hand_pairs.items():
            rows = overlap.nonzero()[:, 0]
            for one, other in ((a, b), (b, a)):
                if len(rows):
                    error = self._inside_hand(posed.vertices[one][rows], posed, other, rows)
                    found.setdefault("collision", []).append(error * (len(rows) / self._num_frames))
        for (a, b), overlap in self._object_pairs.items():
            rows = overlap.nonzero()[:, 0]
            for one, other in ((a, b), (b, a)):
                item, proxy = posed.objects[other], self._objects[other].proxy
                distances = losses.distances_to_object(
                    place_points(self._objects[one].proxy.points, posed.objects[one])[rows],
                    proxy.signed_distance,
                    item.rotation[rows],
                    item.translation[rows],
                    item.scale,
                )
                if len(rows):
                    error = losses.collision_loss(distances, proxy.collision_unit) * (len(rows) / self._num_frames)
                    found.setdefault("collision", []).append(error)

    def _smoothness(self, points: Tensor) -> Tensor:
        if self._settings.smooth_order == 1:
            return losses.smoothness_loss(points, self._gaps)
        velocities = (points[1:] - points[:-1]) / self._gaps[:, None, None]
        return losses.smoothness_loss(velocities, 0.5 * (self._gaps[1:] + self._gaps[:-1]))


def frame_gaps(stamps: np.ndarray) -> Tensor:
    """(T - 1,) float32: time steps between T frames in units of 1/30 s, what the weights of `smooth` are for.

    Args:
        stamps: (T,) int64, ns; steps under a millisecond are no camera's, and count as 1.
    """
    steps = np.diff(stamps) * 1e-9 / FRAME_TIME
    return torch.from_numpy(np.where(steps * FRAME_TIME > SHORTEST_STEP, steps, 1.0).astype(np.float32))


def _moved(points: Tensor, initial: Tensor, weights: Tensor) -> Tensor:
    """Mean over frames and points of how far points (T, P, 3) left their initial places, squared; weights: (T,)."""
    return ((points - initial).square().sum(2).mean(1) * weights).mean()


def _reshaped(points: Tensor, initial: Tensor, ratio: Tensor, weights: Tensor) -> Tensor:
    """Mean over frames and points of how far points (T, P, 3) left their initial places about their middle, squared.

    Args:
        points, initial: m. ratio: of the sizes of the two. weights: (T,).
    """
    own, before = points - points.mean(1, keepdim=True), initial - initial.mean(1, keepdim=True)
    return ((own - ratio * before).square().sum(2).mean(1) * weights).mean()
