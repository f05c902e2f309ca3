"""Repulsive springs that keep a hand's skin out of an object, after CPF (Yang et al., ICCV 2021), section 4.

Between each hand vertex and each object point nearer than 20 mm a force pushes the vertex along the point's normal.
With ``x`` the vertex's height over the point's tangent plane, the energy is

    ``E = k l / 2 exp(-2 x / l)``,   the force   ``-dE/dx = k exp(-2 x / l)``.

With a length scale l of 1 m this is the paper's equation 2 as its authors released it, x in metres: over the 20 mm in
which the spring acts the force changes by 4 %, so that it is a constant push and not the exponential of the paper's
figure 12, which is to be felt inside the object and negligible at 20 mm. Here l is `LENGTH_SCALE`. The force *at the
surface* is k whatever l is: k = 1e-3 keeps the meaning that it has in the paper's table 5, a single spring pair of
attraction 1 rests about k / 1 = 1 mm outside of the surface. That is of the springs as they stand here, in metres. GeO
divides attraction by the square of its unit of length and repulsion by the unit: with 10 mm its k acts as k / 100.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from grasp_nodes.errors import InputError

STIFFNESS = 1e-3
"""k_rpl of section 4; the force of one pair at the surface."""
LENGTH_SCALE = 0.010
"""m. At 20 mm, where springs end, 2 % of the force at the surface are left; 10 mm deep it is 7 times as strong."""
REPULSION_REACH = 0.020
"""m; t_rpl of section 4."""
SKIN = 0.004
"""m; neighbours are looked up a little farther than needed, and again only after a vertex moved by this."""
_MOST_CELLS = 1 << 21
_STEEPEST = 0.05
"""Least length as a share of the reach: below it forces of deep vertices overflow what a solver can use."""


class RepulsionDerivatives(NamedTuple):
    """Of B hands: energy (B,), gradient (B, V, 3), and its own derivative by the same vertex, hessian (B, V, 3, 3)."""

    energy: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray


class RepulsiveSprings:
    """Repulsion from one rigid object, in the object's frame.

    Neighbours are kept from call to call; what is returned does not depend on that: every pair within reach counts, and
    no other.
    """

    def __init__(
        self,
        points: np.ndarray,
        normals: np.ndarray,
        stiffness: float = STIFFNESS,
        length: float = LENGTH_SCALE,
        reach: float = REPULSION_REACH,
        depth: np.ndarray | None = None,
    ) -> None:
        """Sort the object's points into cells.

        Args:
            points: (N, 3), m, object frame. normals: (N, 3), unit, outward.
            stiffness: k, force of a pair at the surface. length: l, m. reach: m, largest distance of a pair.
            depth: (N,), m, how far below its tangent plane each point pushes: half of the object's thickness there, so
                that a vertex in front of a thin wall is not drawn in by the wall's other side; None = without end, as
                in the paper.

        Raises:
            InputError: no points, no normals, or normals that look inwards; lengths that are not positive.
        """
        points, normals = np.asarray(points, np.float64), np.asarray(normals, np.float64)
        check_surface(points, normals)
        if not (reach > 0 and length >= _STEEPEST * reach and stiffness >= 0):
            raise InputError(
                f"repulsion: expected stiffness >= 0, reach > 0, length >= {_STEEPEST} reach, "
                f"got {stiffness}, {reach}, {length}"
            )
        self.stiffness, self.length, self.reach = float(stiffness), float(length), float(reach)
        edge = 0.5 * (self.reach + SKIN)
        self._low, extent = points.min(axis=0), np.ptp(points, axis=0)
        while np.prod(np.floor(extent / edge) + 1) > _MOST_CELLS:
            edge *= 2
        self._edge = edge
        self._size = (np.floor(extent / edge) + 1).astype(np.int64)
        cell = np.minimum(((points - self._low) / edge).astype(np.int64), self._size - 1)
        key = (cell[:, 0] * self._size[1] + cell[:, 1]) * self._size[2] + cell[:, 2]
        order = np.argsort(key, kind="stable")
        self._first = np.searchsorted(key[order], np.arange(int(np.prod(self._size)) + 1)).astype(np.int64)
        below = np.full(len(points), np.inf) if depth is None else np.asarray(depth, np.float64)
        if below.shape != (len(points),) or not (below > 0).all():
            raise InputError(f"repulsion: depth: expected {len(points)} positive lengths, one for each point")
        self._surface = np.ascontiguousarray(
            np.concatenate([points[order], normals[order], below[order, None]], axis=1).T
        )
        self._kept: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def energy(self, hand_vertices: Tensor) -> Tensor:
        """Energy of all pairs; differentiable once in the hand's vertices.

        Args:
            hand_vertices: (B, V, 3), m, object frame.

        Returns:
            (B,) energy, k times m.
        """
        result: Tensor = _Repulsion.apply(hand_vertices, self)
        return result

    def derivatives(self, hand_vertices: np.ndarray) -> RepulsionDerivatives:
        """Energy with first and second derivatives, for solvers of second order.

        A pair's energy depends on one hand vertex: the full hessian is that of each vertex on its own, and positive
        semi-definite.

        Args:
            hand_vertices: (B, V, 3), m, object frame.
        """
        energy, gradient, hessian = self._evaluate(hand_vertices, True)
        full = hessian[..., [0, 3, 4, 3, 1, 5, 4, 5, 2]]
        return RepulsionDerivatives(energy, gradient, full.reshape(*full.shape[:2], 3, 3))

    def pairs(self, hand_vertices: np.ndarray) -> np.ndarray:
        """(B,) int64: pairs within reach; 0 = the hand is too far away to be pushed."""
        hands = _checked(hand_vertices)
        rows = [self._neighbours(row, vertices) for row, vertices in enumerate(hands)]
        return np.array(
            [_count(hands[row], first, ids, self._surface, self.reach**2) for row, (first, ids) in enumerate(rows)],
            np.int64,
        )

    def _evaluate(self, hand_vertices: np.ndarray, second: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hands = _checked(hand_vertices)
        batch, count, _ = hands.shape
        energy, gradient = np.zeros(batch), np.zeros((batch, count, 3))
        hessian = np.zeros((batch, count, 6) if second else (batch, 0, 6))
        for row, vertices in enumerate(hands):
            first, ids = self._neighbours(row, vertices)
            energy[row] = _push(
                vertices,
                first,
                ids,
                self._surface,
                self.stiffness,
                self.length,
                self.reach**2,
                gradient[row],
                hessian[row],
            )
        return energy, gradient, hessian

    def _neighbours(self, row: int, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points near each vertex of hand `row` of the batch, those of the last call where they still hold."""
        kept = self._kept.get(row)
        if (
            kept is not None
            and kept[0].shape == vertices.shape
            and float(np.square(vertices - kept[0]).sum(axis=1).max(initial=0.0)) <= SKIN**2
        ):
            return kept[1], kept[2]
        guess = 64 if kept is None else len(kept[2]) + len(kept[2]) // 8
        first, ids = _look_up(
            vertices, self._surface, self._first, self._low, self._size, self._edge, self.reach + SKIN, guess
        )
        self._kept[row] = (vertices.copy(), first, ids)
        return first, ids


class _Repulsion(torch.autograd.Function):
    """Energy forward, the gradient that was found with it backward."""

    @staticmethod
    def forward(ctx: Any, hand_vertices: Tensor, springs: RepulsiveSprings) -> Tensor:
        energy, gradient, _ = springs._evaluate(hand_vertices.detach().cpu().numpy(), False)
        ctx.save_for_backward(torch.as_tensor(gradient).to(hand_vertices))
        return torch.as_tensor(energy).to(hand_vertices)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0][:, None, None], None


def _checked(hand_vertices: np.ndarray) -> np.ndarray:
    hands = np.ascontiguousarray(hand_vertices, np.float64)
    if hands.ndim != 3 or hands.shape[2] != 3:
        raise InputError(f"hand vertices: expected shape (B, V, 3), got {hands.shape}")
    return hands


def check_surface(points: np.ndarray, normals: np.ndarray) -> None:
    """Refuse points and normals of which it cannot be told where outside is.

    Args:
        points: (N, 3), m. normals: (N, 3), unit, outward.

    Raises:
        InputError: no points, normals that are missing, not of unit length, or look inwards.
    """
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise InputError(f"object points: expected finite (N, 3) with N > 0, got shape {points.shape}")
    if normals.shape != points.shape:
        raise InputError(
            f"object normals: expected one for each point, {points.shape}, got {normals.shape}: repulsion needs "
            "to know where outside is; make the object from a mesh, or estimate its normals"
        )
    length = np.linalg.norm(normals, axis=1)
    if not (np.abs(length - 1) < 1e-3).all():
        raise InputError(f"object normals: expected unit vectors, got lengths {length.min():.3g} to {length.max():.3g}")
    away = points - points.mean(axis=0)
    # By the divergence theorem the mean of this is 3 volume / area for samples of a closed surface.
    if (away * normals).sum(axis=1).mean() < -0.05 * np.linalg.norm(away, axis=1).mean():
        raise InputError("object normals: they look inwards, as those of a mesh that is inside-out; turn its faces")


@njit(cache=True)
def _look_up(
    vertices: np.ndarray,
    surface: np.ndarray,
    cell_first: np.ndarray,
    low: np.ndarray,
    size: np.ndarray,
    edge: float,
    reach: float,
    guess: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of `surface` within reach of each vertex: (V + 1,) where each vertex's begin, and all of them."""
    count = len(vertices)
    first = np.zeros(count + 1, np.int64)
    ids = np.empty(guess, np.int32)
    found = 0
    squared = reach * reach
    begin, end = np.empty(2, np.int64), np.empty(2, np.int64)
    for i in range(count):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        for k in range(2):
            begin[k] = max(0, math.floor((vertices[i, k] - reach - low[k]) / edge))
            end[k] = min(size[k] - 1, math.floor((vertices[i, k] + reach - low[k]) / edge)) + 1
        for a in range(begin[0], end[0]):
            start = low[0] + a * edge
            away_x = max(start - x, 0.0, x - start - edge)
            for b in range(begin[1], end[1]):
                start = low[1] + b * edge
                away_y = max(start - y, 0.0, y - start - edge)
                left = squared - away_x * away_x - away_y * away_y
                if left < 0:
                    continue
                half = math.sqrt(left)
                lowest = max(0, math.floor((z - half - low[2]) / edge))
                highest = min(size[2] - 1, math.floor((z + half - low[2]) / edge))
                if lowest > highest:
                    continue
                # Cells along the last axis follow each other: one run of points.
                row = (a * size[1] + b) * size[2]
                run, stop = cell_first[row + lowest], cell_first[row + highest + 1]
                if found + stop - run > len(ids):
                    longer = np.empty(2 * (found + stop - run), np.int32)
                    longer[:found] = ids[:found]
                    ids = longer
                for j in range(run, stop):
                    dx, dy, dz = x - surface[0, j], y - surface[1, j], z - surface[2, j]
                    # Written first and kept only if near: no branch that is hard to foresee.
                    ids[found] = j
                    found += 1 if dx * dx + dy * dy + dz * dz <= squared else 0
        first[i + 1] = found
    return first, ids[:found].copy()


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _push(
    vertices: np.ndarray,
    first: np.ndarray,
    ids: np.ndarray,
    surface: np.ndarray,
    stiffness: float,
    length: float,
    squared_reach: float,
    gradient: np.ndarray,
    hessian: np.ndarray,
) -> float:
    """Energy; adds to gradient (V, 3) and, unless it is empty, to hessian (V, 6): xx yy zz xy xz yz."""
    total = 0.0
    steep = 2.0 / length
    for i in range(len(vertices)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        gx, gy, gz, force_sum = 0.0, 0.0, 0.0, 0.0
        for m in range(first[i], first[i + 1]):
            j = ids[m]
            dx, dy, dz = x - surface[0, j], y - surface[1, j], z - surface[2, j]
            nx, ny, nz = surface[3, j], surface[4, j], surface[5, j]
            force = _near_force(dx, dy, dz, nx, ny, nz, surface[6, j], stiffness, steep, squared_reach)
            force_sum += force
            gx -= force * nx
            gy -= force * ny
            gz -= force * nz
        total += force_sum
        gradient[i, 0] += gx
        gradient[i, 1] += gy
        gradient[i, 2] += gz
    for i in range(len(hessian)):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        xx, yy, zz, xy, xz, yz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for m in range(first[i], first[i + 1]):
            j = ids[m]
            dx, dy, dz = x - surface[0, j], y - surface[1, j], z - surface[2, j]
            nx, ny, nz = surface[3, j], surface[4, j], surface[5, j]
            force = _near_force(dx, dy, dz, nx, ny, nz, surface[6, j], stiffness, steep, squared_reach)
            xx += force * nx * nx
            yy += force * ny * ny
            zz += force * nz * nz
            xy += force * nx * ny
            xz += force * nx * nz
            yz += force * ny * nz
        hessian[i, 0] += steep * xx
        hessian[i, 1] += steep * yy
        hessian[i, 2] += steep * zz
        hessian[i, 3] += steep * xy
        hessian[i, 4] += steep * xz
        hessian[i, 5] += steep * yz
    return 0.5 * length * total


@njit(cache=True, inline="always", fastmath={"reassoc", "contract", "nsz"})
def _near_force(
    dx: float,
    dy: float,
    dz: float,
    nx: float,
    ny: float,
    nz: float,
    depth: float,
    stiffness: float,
    steep: float,
    squared: float,
) -> float:
    """Of one pair, 0 beyond reach. ``exp(t) = exp(t / 1024)^1024``: without a call, several pairs are done at once."""
    height = dx * nx + dy * ny + dz * nz
    u = -steep * height * (1.0 / 1024.0)
    e = 1.0 + u * (1.0 + u * (0.5 + u * (1.0 / 6.0 + u * (1.0 / 24.0 + u * (1.0 / 120.0)))))
    for _ in range(10):
        e = e * e
    return stiffness * e if dx * dx + dy * dy + dz * dz <= squared and height >= -depth else 0.0


@njit(cache=True)
def _count(vertices: np.ndarray, first: np.ndarray, ids: np.ndarray, surface: np.ndarray, squared: float) -> int:
    """Pairs within reach."""
    total = 0
    for i in range(len(vertices)):
        for m in range(first[i], first[i + 1]):
            j = ids[m]
            dx = vertices[i, 0] - surface[0, j]
            dy = vertices[i, 1] - surface[1, j]
            dz = vertices[i, 2] - surface[2, j]
            total += 1 if dx * dx + dy * dy + dz * dz <= squared else 0
    return total
