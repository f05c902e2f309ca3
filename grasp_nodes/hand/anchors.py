"""Regions of a hand and anchors on its palm side, after CPF (Yang et al., ICCV 2021), appendices A.2 and A.3.

Both follow from the rest pose by geometry alone, so that every hand with MANO's joints has them: the open hand as well
as a user's MANO, right and left.

Along each finger run four links: wrist to knuckle, then the three phalanges, the last to the fingertip vertex. A link
has a *control point* in its middle; those from the wrist to index, middle, ring and little finger have two, at a third
and at two thirds. Each vertex belongs to the region of its nearest control point. An *anchor* is where a ray from a
control point to the palm side leaves the skin; a fingertip has three, on a cone about that ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import FINGER_UP, THUMB_UP, keypoints_at_rest
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, Side

PALM_METACARPAL, CARPAL = 15, 16
REGION_NAMES = (
    *(f"{finger}_{part}" for finger in FINGERS for part in ("proximal", "intermediate", "distal")),
    "palm_metacarpal",
    "palm_carpal",
)
"""The 17 regions, as `ContactMap.region` counts them."""
NUM_REGIONS = len(REGION_NAMES)
FINGERTIP_REGIONS = tuple(range(2, 3 * len(FINGERS), 3))
"""The outermost phalanges of thumb, index, middle, ring and little finger."""
NUM_CONTROL_POINTS = 24
NUM_ANCHORS = 32
MOST_ANCHORS = 4
"""The most anchors that one region has."""
CONE_BASE = 0.006
"""m; see `HandAnchors`."""
_CARPAL_ANCHORS = ("index", "ring", "little")
"""Fingers below which the carpal region has its three anchors: with all five they would lie within millimetres."""


@dataclass(frozen=True)
class HandAnchors:
    """Regions and anchors of one hand model; they move with its skin.

    faces: (32, 3) int64, vertex ids v1 v2 v3. weights: (32, 2), x1 x2: an anchor is at
    ``(1 - x1 - x2) v1 + x1 v2 + x2 v3``. region: (32,) int64, of each anchor, as `REGION_NAMES`.
    vertex_region: (V,) int64, of each vertex, the back of the hand included.

    Anchors come finger by finger (thumb, index, middle, ring, little): metacarpal, carpal (index, ring and little),
    proximal, intermediate, three distal; the thumb has the last five.
    """

    side: Side
    faces: np.ndarray
    weights: np.ndarray
    region: np.ndarray
    vertex_region: np.ndarray

    @staticmethod
    def of_model(
        model: HandModel,
        betas: np.ndarray | None = None,
        thumb_up: tuple[float, float, float] = THUMB_UP,
        cone_base: float | None = CONE_BASE,
    ) -> HandAnchors:
        """Regions and anchors of a full hand model, from its rest pose.

        Args:
            model: of either side; a left hand is worked on as its mirror image.
            betas: (10,), the shape of the hand; None = zeros. The paper takes the mean shape for all hands.
            thumb_up: up vector of the right thumb, see `HandAnatomy`.
            cone_base: m, how far from the ray the cone of a fingertip is at the skin. None = as the paper says: the
                region's largest distance from its control point, which opens the cone so far (60 deg) that on a slim
                finger the anchors lie on its flanks.

        Raises:
            InputError: a sub-set of a hand, or a ray that meets no skin: the mesh has a hole or is no hand.
        """
        arrays = model.arrays
        if model.num_vertices != len(arrays.v_template):
            raise InputError("anchors: expected a full hand model, got a sub-set of one")
        vertices = arrays.v_template + arrays.shapedirs @ (np.zeros(NUM_BETAS) if betas is None else betas)
        if model.side == "left":
            vertices = vertices * _MIRROR
        keypoints = keypoints_at_rest(arrays.J_regressor @ vertices, vertices)
        points = control_points(keypoints)
        nearest = np.linalg.norm(vertices[:, None] - points.position, axis=2).argmin(axis=1)
        origins, directions, regions = [], [], []
        for finger, name in enumerate(FINGERS):
            up = np.array(thumb_up if name == "thumb" else FINGER_UP)
            for index in _anchored(finger):
                origin, along = points.position[index], points.along[index]
                down = along * (up @ along) - up
                down /= np.linalg.norm(down)
                region = int(points.region[index])
                rays = down[None]
                if region in FINGERTIP_REGIONS:
                    own = vertices[nearest == index]
                    base = np.linalg.norm(own - origin, axis=1).max() if cone_base is None else cone_base
                    straight, _, _ = _first_hit(vertices, arrays.faces, origin[None], rays)
                    # The first generatrix leans to the fingertip, which touches more than the flanks do.
                    turn = 2 * np.pi / 3 * np.arange(3)[:, None]
                    rays = straight * down + base * (np.cos(turn) * along + np.sin(turn) * np.cross(along, down))
                    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
                origins += [origin] * len(rays)
                directions += list(rays)
                regions += [region] * len(rays)
        _, face, weights = _first_hit(vertices, arrays.faces, np.array(origins), np.array(directions))
        return HandAnchors(
            model.side,
            arrays.faces[face],
            weights,
            np.array(regions, np.int64),
            points.region[nearest],
        )

    def positions(self, vertices: Tensor) -> Tensor:
        """Anchors of posed hands; differentiable.

        Args:
            vertices: (..., V, 3), m, of the hand model that the anchors were made of.

        Returns:
            (..., 32, 3), m.
        """
        faces = torch.as_tensor(self.faces, device=vertices.device)
        corners = vertices[..., faces.flatten(), :].unflatten(-2, (len(self.faces), 3))
        return (corners * self._corner_weights(vertices)[..., None]).sum(dim=-2)

    @property
    def anchors_of_region(self) -> np.ndarray:
        """(17, 4) int64: the anchors of each region; places that are left over hold -1."""
        table = np.full((NUM_REGIONS, MOST_ANCHORS), -1, np.int64)
        for region in range(NUM_REGIONS):
            own = np.flatnonzero(self.region == region)
            table[region, : len(own)] = own
        return table

    @property
    def fingertips(self) -> list[np.ndarray]:
        """Vertex ids of the five fingertip regions, thumb first: what CPF's disjointedness distance is measured on."""
        return [np.flatnonzero(self.vertex_region == region) for region in FINGERTIP_REGIONS]

    def _corner_weights(self, like: Tensor) -> Tensor:
        return torch.as_tensor(
            np.concatenate([1 - self.weights.sum(axis=1, keepdims=True), self.weights], axis=1),
            dtype=like.dtype,
            device=like.device,
        )


@lru_cache(maxsize=8)
def anchors_of(model: HandModel) -> HandAnchors:
    """`HandAnchors.of_model` with its defaults, made once for each model."""
    return HandAnchors.of_model(model)


@dataclass(frozen=True)
class ControlPoints:
    """Where regions come from, in the paper's order: thumb 0-3, index 4-8, middle 9-13, ring 14-18, little 19-23.

    Of the two on a link to a knuckle the first is at the knuckle's third (metacarpal), the second at the wrist's
    (carpal). position: (24, 3), m. along: (24, 3), unit, along the link to the tip. region: (24,) int64.
    """

    position: np.ndarray
    along: np.ndarray
    region: np.ndarray


def control_points(keypoints: np.ndarray) -> ControlPoints:
    """Control points of a hand in its rest pose.

    The point between wrist and thumb counts as carpal. The paper's list says metacarpal, but its list exchanges the two
    names: with the five points 0, 5, 10, 15, 20 as carpal, the sentence on anchors ("3 of 5, namely 5, 10, 20") and the
    total of 32 come out right.

    Args:
        keypoints: (21, 3), m: wrist, then thumb, index, middle, ring, little finger, each from palm to tip.

    Raises:
        InputError: another shape.
    """
    if keypoints.shape != (21, 3):
        raise InputError(f"control points: expected keypoints (21, 3), got {keypoints.shape}")
    position, along, region = [], [], []
    for finger in range(len(FINGERS)):
        chain = np.concatenate([keypoints[:1], keypoints[1 + 4 * finger : 5 + 4 * finger]])
        for link, (start, end) in enumerate(pairwise(chain)):
            if link:
                places = [(0.5, 3 * finger + link - 1)]
            else:
                places = [(0.5, CARPAL)] if finger == 0 else [(2 / 3, PALM_METACARPAL), (1 / 3, CARPAL)]
            for share, own in places:
                position.append(start + share * (end - start))
                along.append((end - start) / np.linalg.norm(end - start))
                region.append(own)
    return ControlPoints(np.array(position), np.array(along), np.array(region, np.int64))


def _anchored(finger: int) -> list[int]:
    """Control points of a finger that have anchors, from the palm outwards."""
    if finger == 0:
        return [1, 2, 3]
    first = 4 + 5 * (finger - 1)
    palm = [first, first + 1] if FINGERS[finger] in _CARPAL_ANCHORS else [first]
    return [*palm, first + 2, first + 3, first + 4]


def _first_hit(
    vertices: np.ndarray, faces: np.ndarray, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays first meet a mesh (Moeller and Trumbore, 1997).

    Returns:
        distance (R,), face (R,) int64, and (R, 2): weights of the face's second and third corner.
    """
    v1, v2, v3 = (vertices[faces[:, k]] for k in range(3))
    e1, e2 = v2 - v1, v3 - v1
    across = np.cross(directions[:, None], e2)
    determinant = (across * e1).sum(axis=-1)
    flat = np.abs(determinant) < 1e-18
    inverse = 1.0 / np.where(flat, 1.0, determinant)
    offset = origins[:, None] - v1
    x1 = (offset * across).sum(axis=-1) * inverse
    turned = np.cross(offset, e1)
    x2 = (directions[:, None] * turned).sum(axis=-1) * inverse
    distance = (e2 * turned).sum(axis=-1) * inverse
    missed = flat | (distance <= 0) | (np.minimum(x1, x2) < -_EDGE) | (x1 + x2 > 1 + _EDGE)
    distance = np.where(missed, np.inf, distance)
    face = distance.argmin(axis=1)
    rows = np.arange(len(origins))
    if not np.isfinite(distance[rows, face]).all():
        raise InputError("anchors: a ray from inside the hand meets no skin; the mesh has a hole or is not a hand")
    weights = np.stack([x1[rows, face], x2[rows, face]], axis=1).clip(0.0, 1.0)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    return distance[rows, face], face, weights


_MIRROR = np.array([-1.0, 1.0, 1.0])
_EDGE = 1e-9
"""Share by which a ray may pass a face's edge: none slips between two faces."""
