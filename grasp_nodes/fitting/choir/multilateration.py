"""Anchors in closed form from a CHOIR field: each has the distances of its 128 basis points.

``d^2 - |p|^2 = |a|^2 - 2 p . a`` is linear in the anchor a and in |a|^2; Gauss-Newton on the distances themselves,
reweighted so that outliers count little (Cauchy), makes the answer the most likely one.

Basis points of an anchor that lie in one plane, as CHOIR's *ordered* assignment puts them on a grid, tell the anchor up
to its mirror image in that plane: the height above the plane follows, its sign does not, and both are answered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from grasp_nodes.contact.choir.field import ChoirField
from grasp_nodes.contact.choir.space import ChoirFrame, ChoirSpace

STEPS = 6
LEAST_SPREAD = 1e-6
"""m; no field is known better than single precision tells it."""
_FLAT = 1e-9
"""Share of the largest variance of an anchor's basis points below which the least one is none."""
_CAUCHY = 2.385
"""Deviations at which a residual counts half; 95 % efficient where there are no outliers."""
_NORMAL_MEDIAN = 1.4826
_SHORTEST = 1e-9
_SCALED_STEPS = 3


@dataclass(frozen=True)
class AnchorEstimate:
    """Of B hands, object frame.

    positions: (B, 32, 3) float64, m. information: (B, 32, 3, 3), 1/m^2, the inverse of their covariance as the
    residuals tell it. spread: (B,), m, deviation of the distances from what the anchors explain. mirrored:
    (B, 32, 3), m, the other solution where basis points are in a plane; None = there is none.
    """

    positions: Tensor
    information: Tensor
    spread: Tensor
    mirrored: Tensor | None = None


class Multilateration:
    """Anchors of the fields of one space.

    Args:
        space: of the basis points. remapped_errors: whether errors are alike in the remapped numbers that networks
            tell, so that far distances are worth less; otherwise they are alike in metres.
    """

    def __init__(self, space: ChoirSpace, remapped_errors: bool = False) -> None:
        self.space, self.remapped_errors = space, remapped_errors
        self._rows = torch.from_numpy(space.assignment.points_of_anchor)
        self._points = torch.from_numpy(space.basis)[self._rows]
        middle = self._points.mean(dim=1, keepdim=True)
        away = self._points - middle
        variance, axes = torch.linalg.eigh(away.mT @ away)
        self._middle, self._normal = middle[:, 0], axes[..., 0]
        self.planar = bool((variance[:, 0] < _FLAT * variance[:, 2]).any())
        """Whether mirror images cannot be told apart."""
        self._axes = axes[..., 1:] if self.planar else axes
        self._away = away @ self._axes
        matrix = torch.cat([-2 * self._away, torch.ones_like(self._away[..., :1])], dim=-1)
        self._inverse = torch.linalg.pinv(matrix)

    @torch.no_grad()
    def __call__(self, field: ChoirField) -> AnchorEstimate:
        """Anchors of B fields; on the CPU, in float64.

        Raises:
            InputError: fields of another space.
        """
        self.space.check(field.fingerprint, "field")
        distance = field.anchor_distance.detach().double().cpu()[:, self._rows]
        frame = ChoirFrame(field.frame.center.double().cpu(), field.frame.factor.double().cpu())
        factor = frame.factor
        # (B, 32, 128) distances -> (B, 32, 3) in scaled units.
        constants = distance.square() - self._away.square().sum(dim=-1)
        solved = torch.einsum("acp,bap->bac", self._inverse, constants)
        local = solved[..., :-1]
        anchors = self._middle + (self._axes @ local[..., None])[..., 0]
        if self.planar:
            height = (solved[..., -1] - local.square().sum(dim=-1)).clamp(min=_SHORTEST**2).sqrt()
            anchors = anchors + height[..., None] * self._normal
        sharpness = self.space.settings.sharpness if self.remapped_errors else 0.0
        least = (LEAST_SPREAD * factor).numpy()
        given, begun = self._points.contiguous().numpy(), anchors.contiguous().numpy()
        told = _refined(given, begun, distance.contiguous().numpy(), sharpness, least)
        anchors, information, spread = (torch.from_numpy(part) for part in told)
        mirrored = None
        if self.planar:
            height = ((anchors - self._middle) * self._normal).sum(dim=-1, keepdim=True)
            mirrored = frame.metric(anchors - 2 * height * self._normal)
        return AnchorEstimate(
            frame.metric(anchors),
            information * factor[:, None, None, None] ** 2,
            spread / factor,
            mirrored,
        )


def kabsch(points: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation (3, 3) and shift (3,) that bring points (P, 3) nearest to targets (P, 3), by squares.

    Kabsch, 1976: no reflection.
    """
    share = weights / weights.sum()
    middle, goal = share @ points, share @ targets
    left, _, right = np.linalg.svd(((points - middle) * share[:, None]).T @ (targets - goal))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (right.T * sign) @ left.T
    return rotation, goal - rotation @ middle


@njit(cache=True)
def _refined(
    points: np.ndarray, anchors: np.ndarray, distance: np.ndarray, sharpness: float, least: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Newton, reweighted; all in scaled units.

    Args:
        points: (32, P, 3). anchors: (B, 32, 3), where it begins. distance: (B, 32, P). sharpness: of the remap, whose
            errors are even; 0 = those of the distances are. least: (B,), spread that is taken for none.

    Returns:
        anchors (B, 32, 3), information (B, 32, 3, 3) and spread (B,).
    """
    batch, count, own = distance.shape
    found = anchors.copy()
    information, spread = np.zeros((batch, count, 3, 3)), np.zeros(batch)
    direction = np.empty((count, own, 3))
    residual, typical = np.empty((count, own)), np.empty((count, own))
    step, normal, push = np.empty(3), np.empty((3, 3)), np.empty(3)
    for row in range(batch):
        trust = np.exp(-2.0 * sharpness * distance[row])
        scale = least[row]
        for number in range(STEPS + 1):
            for a in range(count):
                for p in range(own):
                    x = found[row, a, 0] - points[a, p, 0]
                    y = found[row, a, 1] - points[a, p, 1]
                    z = found[row, a, 2] - points[a, p, 2]
                    length = max(math.sqrt(x * x + y * y + z * z), _SHORTEST)
                    direction[a, p, 0], direction[a, p, 1], direction[a, p, 2] = x / length, y / length, z / length
                    residual[a, p] = length - distance[row, a, p]
                    typical[a, p] = abs(residual[a, p]) * math.sqrt(trust[a, p])
            # The scale hardly changes once the anchors are about right, and a median is the dearest part.
            if number < _SCALED_STEPS or number == STEPS:
                scale = max(_NORMAL_MEDIAN * np.median(typical), least[row])
            for a in range(count):
                normal[:] = 0.0
                push[:] = 0.0
                for p in range(own):
                    weight = trust[a, p] / (1.0 + (typical[a, p] / (_CAUCHY * scale)) ** 2)
                    for c in range(3):
                        push[c] += weight * direction[a, p, c] * residual[a, p]
                        for d in range(3):
                            normal[c, d] += weight * direction[a, p, c] * direction[a, p, d]
                if number == STEPS:
                    information[row, a] = normal / scale**2
                else:
                    damping = 1e-9 * (normal[0, 0] + normal[1, 1] + normal[2, 2])
                    for c in range(3):
                        normal[c, c] += damping
                    step[:] = np.linalg.solve(normal, push)
                    found[row, a] -= step
        spread[row] = scale
    return found, information, spread
