"""Pre-shapes: for each kind of grasp a family of natural hands from wide open to closed, and how to put them in place.

Key poses were solved on the open hand (pads facing each other at given distances; for ``power`` the hand around
cylinders; couplings of `naturalness`, no part in another) and rounded to degrees. What they measure on a hand model,
their aperture and the frame of opposition, is computed from that model's skin.

The two sides of an opposition are virtual fingers (Iberall, 1997): the thumb, and all that works against it as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import matrix_to_axis_angle
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.kinds import KINDS, GraspKind
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.naturalness import NAMES
from grasp_nodes.hand.pads import INDEX_SIDE, PALM, PHALANGES, contact_patches, patch_contact
from grasp_nodes.hand.parameters import HandParams

TABLE_SIZE = 65
"""Closings at which apertures are measured."""
STEADY = 1e-3
"""m; how far pads must be apart until their way, not their normals, tells the direction of opposition."""
_PARALLEL = 1e-6

_COLUMNS = [
    *(f"thumb_{angle}" for angle in ("bend_0", "bend_1", "bend_2", "spread", "twist")),
    *(f"{finger}_{angle}" for finger in FINGERS[1:] for angle in ("bend_0", "bend_1", "bend_2", "spread")),
]
KEY_POSES: Mapping[GraspKind, Sequence[tuple[int, ...]]] = {
    "power": (
        (-1, -2, 8, -54, -41, 10, 27, 11, -7, 20, 31, 16, -1, 19, 27, 13, 2, 15, 19, 10, 8),
        (7, 10, 19, -56, -42, 18, 37, 17, -4, 30, 39, 22, 1, 28, 35, 20, 2, 23, 26, 17, 6),
        (16, 24, 30, -55, -43, 29, 49, 25, -1, 42, 50, 30, 4, 39, 45, 29, 2, 32, 34, 25, 3),
        (25, 36, 37, -48, -46, 43, 65, 36, 1, 56, 65, 41, 5, 52, 61, 40, 1, 44, 47, 36, 0),
        (30, 36, 37, -46, -45, 54, 84, 51, 4, 70, 85, 55, 4, 67, 81, 54, 0, 61, 68, 51, -4),
        (39, 36, 35, -41, -45, 57, 100, 69, 10, 76, 100, 70, 1, 82, 100, 70, -5, 84, 99, 69, -8),
    ),
    "precision": (
        (4, 13, 18, -51, -45, 34, 22, 14, 10, 34, 24, 15, 11, 34, 23, 17, 11, 31, 15, 7, 5),
        (17, 15, 8, -53, -45, 42, 23, 13, 10, 44, 26, 12, 11, 45, 25, 14, 11, 39, 18, 8, 3),
        (28, 17, 0, -54, -45, 50, 25, 11, 10, 54, 28, 9, 10, 55, 27, 10, 10, 46, 21, 8, 1),
        (36, 20, -4, -55, -46, 57, 25, 8, 10, 62, 29, 6, 9, 65, 28, 5, 8, 53, 24, 9, -1),
        (40, 22, -4, -56, -46, 62, 25, 5, 9, 69, 29, 1, 9, 73, 28, 0, 7, 59, 27, 9, -2),
    ),
    "tripod": (
        (15, 13, 3, -43, -45, 39, 22, 19, 11, 42, 25, 18, 11, 56, 68, 44, 2, 60, 70, 44, 2),
        (25, 13, -1, -45, -45, 47, 24, 16, 10, 52, 28, 13, 10, 56, 68, 44, 2, 60, 70, 44, 2),
        (34, 14, -4, -46, -46, 55, 24, 12, 9, 61, 31, 8, 9, 56, 68, 44, 2, 60, 70, 44, 2),
        (38, 15, -4, -49, -46, 61, 23, 8, 7, 68, 31, 3, 9, 56, 68, 44, 2, 60, 70, 44, 2),
        (39, 18, -4, -51, -46, 66, 21, 3, 5, 74, 30, -3, 8, 56, 68, 44, 2, 60, 70, 44, 2),
    ),
    "pinch": (
        (6, 15, 6, -40, -45, 39, 21, 24, 11, 52, 64, 40, 3, 58, 70, 44, 2, 60, 70, 44, 2),
        (18, 13, 0, -39, -45, 46, 22, 22, 11, 52, 64, 40, 3, 58, 70, 44, 2, 60, 70, 44, 2),
        (29, 13, -4, -38, -46, 53, 23, 19, 10, 52, 64, 40, 3, 58, 70, 44, 2, 60, 70, 44, 2),
        (36, 11, -4, -38, -46, 59, 23, 16, 10, 52, 64, 40, 3, 58, 70, 44, 2, 60, 70, 44, 2),
        (39, 11, -4, -39, -46, 63, 21, 13, 9, 52, 64, 40, 3, 58, 70, 44, 2, 60, 70, 44, 2),
    ),
    "lateral": (
        (1, 12, 22, -14, -24, 44, 63, 35, -2, 62, 78, 48, 0, 66, 82, 52, 0, 68, 82, 52, 0),
        (6, 16, 21, -15, -27, 45, 64, 37, -1, 62, 78, 48, 0, 66, 82, 52, 0, 68, 82, 52, 0),
        (11, 19, 19, -16, -29, 47, 66, 38, 0, 62, 78, 48, 0, 66, 82, 52, 0, 68, 82, 52, 0),
        (14, 22, 18, -17, -30, 47, 67, 39, 2, 62, 78, 48, 0, 66, 82, 52, 0, 68, 82, 52, 0),
        (17, 25, 17, -18, -32, 48, 67, 40, 5, 62, 78, 48, 0, 66, 82, 52, 0, 68, 82, 52, 0),
    ),
}
"""deg, from wide open to closed: thumb's bends, spread, twist; then bends and spread of index, middle, ring, little."""
FANNED = (26, 30, 18, 4, 20, 24, 14, 6, 16, 20, 12, 8)
"""deg: middle, ring and little finger of a pinch that holds them up instead of in."""


@dataclass(frozen=True, eq=False)
class Preshape:
    """The family of one kind.

    angles: (2, K, 21) float32, rad, of `DegreesOfFreedom`, K key poses evenly spaced from open to closed; the first
    with the resting fingers held up, the second with them curled in (the same but for a pinch).
    opposing: patches (see `contact_patches`) of the two sides: the thumb's and those against it.
    palm_contact: patches that touch as well.
    required, optional, relaxed: fingers that must touch, may touch, and rest.
    """

    kind: GraspKind
    angles: Tensor
    opposing: tuple[tuple[str, ...], tuple[str, ...]]
    palm_contact: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    relaxed: tuple[str, ...]


def _family(
    kind: GraspKind,
    against: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str] = (),
    palm_contact: Sequence[str] = (),
) -> Preshape:
    order = [_COLUMNS.index(name) for name in NAMES]
    curled = np.array(KEY_POSES[kind], np.float64)
    open_ = curled.copy()
    if kind == "pinch":
        open_[:, _COLUMNS.index("middle_bend_0") :] = FANNED
    angles = np.deg2rad(np.stack([open_, curled])[..., order])
    resting = tuple(finger for finger in FINGERS if finger not in (*required, *optional))
    return Preshape(
        kind,
        torch.tensor(angles, dtype=torch.float32),
        (("thumb_pad",), tuple(against)),
        tuple(palm_contact),
        tuple(required),
        tuple(optional),
        resting,
    )


PRESHAPES: Mapping[GraspKind, Preshape] = {
    "power": _family(
        "power",
        [f"{finger}_{part}" for finger in FINGERS[1:] for part in PHALANGES[1:]],
        ("thumb", "index", "middle"),
        ("ring", "little"),
        [PALM, "thumb_middle", *(f"{finger}_proximal" for finger in FINGERS[1:])],
    ),
    "precision": _family(
        "precision",
        ("index_pad", "middle_pad", "ring_pad"),
        ("thumb", "index", "middle"),
        ("ring", "little"),
    ),
    "tripod": _family("tripod", ("index_pad", "middle_pad"), ("thumb", "index", "middle")),
    "pinch": _family("pinch", ("index_pad",), ("thumb", "index")),
    "lateral": _family("lateral", (INDEX_SIDE,), ("thumb", "index"), ("middle", "ring", "little")),
}


@dataclass(frozen=True)
class Opposition:
    """How hands oppose what lies between their virtual fingers.

    frame: (B, 4, 4), opposition to the frame of the vertices, a rigid motion: origin midway between the sides, x from
    the thumb to the other side, y to the palm, z = x cross y. aperture: (B,), m, between the sides along x.
    facing: (B,), cosine between the normals of the two sides: -1 = pads face each other.
    """

    frame: Tensor
    aperture: Tensor
    facing: Tensor


class HandPreshapes:
    """The pre-shapes of one hand model, with the apertures that it reaches with them.

    Args:
        model: a full hand of either side.
    """

    def __init__(self, model: HandModel) -> None:
        self.model = model
        self.anatomy = HandAnatomy.of_model(model)
        self.freedom = DegreesOfFreedom.of_anatomy(self.anatomy)
        if self.freedom.names != NAMES:
            raise InputError("pre-shapes: the degrees of freedom are not those of the default limits")
        self.patches = contact_patches(model)
        self._matrix = torch.as_tensor(self.freedom.matrix, dtype=model.dtype, device=model.device)
        self._closings = torch.linspace(0, 1, TABLE_SIZE, dtype=model.dtype, device=model.device)
        self._apertures = {kind: self._measured(kind) for kind in KINDS}

    @staticmethod
    @lru_cache(maxsize=4)
    def of_model(model: HandModel) -> HandPreshapes:
        """The same object again for the same model."""
        return HandPreshapes(model)

    def hand_pose(self, angles: Tensor) -> Tensor:
        """hand_pose (B, 45), rad, in the model's dtype, of finger angles (B, 21), rad."""
        return angles.to(self._matrix) @ self._matrix

    def aperture_range(self, kind: GraspKind) -> tuple[float, float]:
        """Smallest and largest aperture, m, of the hand of mean shape."""
        table = self._apertures[_known(kind)]
        return float(table[-1]), float(table[0])

    def aperture(self, kind: GraspKind, closing: Tensor) -> Tensor:
        """Aperture (B,), m, of the hand of mean shape at closings (B,) in [0, 1]."""
        return _interpolate(closing, self._closings, self._apertures[_known(kind)])

    def closing(self, kind: GraspKind, aperture: Tensor) -> Tensor:
        """Closing (B,) in [0, 1] at which the hand of mean shape has apertures (B,), m; the nearest it can do."""
        return _interpolate(aperture, self._apertures[_known(kind)].flip(0), self._closings.flip(0))

    def opposition(self, kind: GraspKind, vertices: Tensor, joints: Tensor) -> Opposition:
        """Measure posed hands of this model, of any shape.

        ``power``: the circle that fits best to all palmar patches of the four fingers, seen along the knuckles;
        its centre, and its diameter as aperture. Else the way from the thumb's pad to the mean of the patches
        against it.

        Args:
            kind: of grasp. vertices: (B, 778, 3) and joints: (B, 16, 3), m, as `HandOutput` has them.
        """
        faces = self.model.faces
        family = PRESHAPES[_known(kind)]
        thumb, thumb_normal = patch_contact(vertices, faces, self.patches["thumb_pad"])
        against = [patch_contact(vertices, faces, self.patches[name]) for name in family.opposing[1]]
        normal = normalize(torch.stack([found[1] for found in against]).mean(dim=0), dim=-1)
        palm = vertices[:, torch.as_tensor(self.patches[PALM], device=vertices.device)].mean(dim=1)
        if kind == "power":
            knuckles = joints[:, FINGER_JOINTS["index"][0]] - joints[:, FINGER_JOINTS["little"][0]]
            along = normalize(knuckles, dim=-1)
            inner = [
                patch_contact(vertices, faces, self.patches[f"{finger}_{part}"])[0]
                for finger in FINGERS[1:]
                for part in PHALANGES
            ]
            origin, radius = _cylinder(torch.stack(inner, dim=1), along)
            y = palm - origin
            y = normalize(y - (y * along).sum(dim=-1, keepdim=True) * along, dim=-1)
            x = (1.0 if self.model.side == "right" else -1.0) * torch.linalg.cross(along, y)
            aperture = 2 * radius
        else:
            other = torch.stack([found[0] for found in against]).mean(dim=0)
            origin, way = (thumb + other) / 2, other - thumb
            # Closed pads touch or press a little into each other: their normals tell the direction of opposition.
            steady = normalize(thumb_normal - normal, dim=-1)
            x = normalize(way + STEADY * steady, dim=-1)
            aperture = (way * x).sum(dim=-1)
            y = palm - origin
            y = normalize(y - (y * x).sum(dim=-1, keepdim=True) * x, dim=-1)
        frame = torch.zeros(len(vertices), 4, 4, dtype=vertices.dtype, device=vertices.device)
        frame[:, :3] = torch.stack([x, y, torch.linalg.cross(x, y), origin], dim=-1)
        frame[:, 3, 3] = 1
        return Opposition(frame, aperture, (thumb_normal * normal).sum(dim=-1))

    def placed(
        self,
        kind: GraspKind,
        closing: Tensor,
        thumb_points: Tensor,
        other_points: Tensor,
        palmward: Tensor,
        betas: Tensor | None = None,
        curl: Tensor | float = 1.0,
    ) -> tuple[HandParams, Tensor]:
        """Pre-shaped hands around pairs of points that face away from each other.

        Args:
            kind: of grasp. closing: (B,) in [0, 1]; `closing(kind, distance)` fits the hand of mean shape.
            thumb_points, other_points: (B, 3), m: where the thumb and the other side shall be; the midpoint between
                the hand's sides comes to lie midway, its aperture stays that of `closing`.
            palmward: (B, 3), not along the pair: from there to the palm; see `palmward` for a roll.
            betas: (B, 10), zeros if None. curl: see `angles`.

        Returns:
            hands in the frame of the points, and their finger angles (B, 21), rad.

        Raises:
            InputError: a pair of equal points, or palmward along the pair.
        """
        fingers = angles(kind, closing, curl)
        way = other_points - thumb_points
        y = palmward - (palmward * way).sum(dim=-1, keepdim=True) / way.square().sum(-1, keepdim=True) * way
        if not ((way.norm(dim=-1) > 0) & (y.norm(dim=-1) > _PARALLEL * palmward.norm(dim=-1))).all():
            raise InputError("pre-shapes: expected two different points for each hand and palmward across their line")
        x, y = normalize(way, dim=-1), normalize(y, dim=-1)
        target = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)

        params = HandParams.zeros(len(closing), self.model.side, self.model.dtype, self.model.device)
        params = replace(params, hand_pose=self.hand_pose(fingers), betas=params.betas if betas is None else betas)
        posed = self.model(params)
        own = self.opposition(kind, posed.vertices, posed.joints).frame
        turn = target @ own[:, :3, :3].transpose(1, 2)
        wrist = posed.joints[:, 0]  # the model turns about it
        arm = (turn @ (own[:, :3, 3] - wrist)[..., None])[..., 0]
        transl = (thumb_points + other_points) / 2 - arm - wrist
        return replace(params, global_orient=matrix_to_axis_angle(turn), transl=transl), fingers

    def _measured(self, kind: GraspKind) -> Tensor:
        """(TABLE_SIZE,), m, never rising."""
        params = HandParams.zeros(TABLE_SIZE, self.model.side, self.model.dtype, self.model.device)
        with torch.no_grad():
            posed = self.model(replace(params, hand_pose=self.hand_pose(angles(kind, self._closings))))
            # Falling on the open hand; another hand may stay where its pads meet early.
            return self.opposition(kind, posed.vertices, posed.joints).aperture.cummin(dim=0).values


def angles(kind: GraspKind, closing: Tensor, curl: Tensor | float = 1.0) -> Tensor:
    """Finger angles of a family's hands, linear between the key poses.

    Args:
        kind: of grasp. closing: (B,), 0 = wide open, 1 = closed; clamped.
        curl: (B,) or one for all, of a pinch's resting fingers: 0 = held up, 1 = curled in; clamped.

    Returns:
        (B, 21), rad, of `DegreesOfFreedom`, closing's dtype.
    """
    keys = PRESHAPES[_known(kind)].angles.to(closing)
    share = torch.as_tensor(curl, dtype=closing.dtype, device=closing.device).clamp(0, 1).expand(len(closing))
    place = closing.clamp(0, 1) * (keys.shape[1] - 1)
    low = place.floor().clamp(max=keys.shape[1] - 2).long()
    both = torch.lerp(keys[:, low], keys[:, low + 1], (place - low)[None, :, None])
    return torch.lerp(both[0], both[1], share[:, None])


def palmward(axis: Tensor, roll: Tensor) -> Tensor:
    """Directions across an axis.

    Args:
        axis: (B, 3), of any length > 0. roll: (B,), rad, about it.

    Returns:
        (B, 3), unit; the whole circle for a roll of 0..2 pi, from a direction that depends on the axis alone.
    """
    x = normalize(axis, dim=-1)
    least = torch.nn.functional.one_hot(x.abs().argmin(dim=-1), 3).to(x)
    y = normalize(torch.linalg.cross(x, least), dim=-1)
    return torch.cos(roll)[:, None] * y + torch.sin(roll)[:, None] * torch.linalg.cross(x, y)


def _known(kind: GraspKind) -> GraspKind:
    if kind not in PRESHAPES:
        raise InputError(f"pre-shapes: expected one of {', '.join(PRESHAPES)}, got {kind!r}")
    return kind


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Linear between the points (x, y), x ascending; the nearest end outside."""
    x, y = x.to(at), y.to(at)
    right = torch.searchsorted(x, at.contiguous()).clamp(1, len(x) - 1)
    width = (x[right] - x[right - 1]).clamp(min=torch.finfo(x.dtype).tiny)
    share = ((at - x[right - 1]) / width).clamp(0, 1)
    return torch.lerp(y[right - 1], y[right], share)


def _cylinder(points: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares circle (Kåsa 1976) of points seen along an axis.

    Args:
        points: (B, n, 3), m. axis: (B, 3), unit.

    Returns:
        (B, 3) on the axis of the cylinder, level with the mean of the points, and its radius (B,), m.
    """
    least = torch.nn.functional.one_hot(axis.abs().argmin(dim=-1), 3).to(axis)
    u = normalize(torch.linalg.cross(axis, least), dim=-1)
    v = torch.linalg.cross(axis, u)
    mean = points.mean(dim=1)
    x, y = (((points - mean[:, None]) * across[:, None]).sum(dim=-1) for across in (u, v))
    matrix = torch.stack([2 * x, 2 * y, torch.ones_like(x)], dim=-1)
    found = torch.linalg.lstsq(matrix, (x * x + y * y)[..., None]).solution[..., 0]
    radius = (found[:, 2] + found[:, 0].square() + found[:, 1].square()).sqrt()
    return mean + found[:, :1] * u + found[:, 1:2] * v, radius
