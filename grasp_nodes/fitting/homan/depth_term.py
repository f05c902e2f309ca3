"""Measured depth as one more data term: point to surface, both ways.

Depth points of an object's mask are drawn on to its surface through its signed distance; those of a hand's mask on to
the tangent plane of the nearest vertex that faces the camera. The other way round, a posed surface that lies in front
of what the camera measured at its pixel contradicts the measurement: the camera looked through it. Matches of the hand
and the contradicting vertices are found anew from time to time and kept fixed between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from grasp_nodes.fitting.homan.variables import ObjectUnknowns
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.keypoints import WRIST_LOOP

ROBUST_WIDTH = 0.008
"""m; a residual of this size pulls hardest, one of three times the size hardly pulls (Geman-McClure)."""
MATCH_REACH = 0.03
"""m; a depth point farther from every vertex is not of this hand."""
SEE_THROUGH_TOLERANCE = 0.003
"""m; a surface this far in front of the measured one is noise."""
SEE_THROUGH_REACH = 0.04
"""m; a surface farther in front is beside the thing that was measured: the outline's business, not the depth's."""


@dataclass(frozen=True)
class DepthPoints:
    """Measured points of one hand or object in T frames.

    points: (T, P, 3) float32, m, camera frame. weight: (T, P) float32, 0 for padding; sums to one in a frame that has
    measurements, to zero in one that has none.
    """

    points: Tensor
    weight: Tensor


class SurfaceMatch(NamedTuple):
    """Point to plane.

    corners: (T, 3 P) int64, vertex ids of the triangle that each point belongs to, and shares: (T, P, 3), theirs in the
    triangle's place that is nearest to the point. normals: (T, P, 3), unit, of the triangle. weight: (T, P), zero where
    nothing was near.
    """

    corners: Tensor
    shares: Tensor
    normals: Tensor
    weight: Tensor


@dataclass(frozen=True)
class HandSurface:
    """Topology of a hand for matching.

    faces: (F, 3) int64. The faces at vertex v are ``face_at[first_face[v]:first_face[v + 1]]``. on_rim: (V,) bool, the
    wrist's rim and the ring beside it: depth points there may belong to the forearm.
    """

    faces: np.ndarray
    first_face: np.ndarray
    face_at: np.ndarray
    on_rim: np.ndarray

    @staticmethod
    def of_faces(faces: np.ndarray, count: int) -> HandSurface:
        """Of a hand model's faces (F, 3) and number of vertices."""
        flat = faces.reshape(-1)
        order = np.argsort(flat, kind="stable")
        rim = np.zeros(count, bool)
        rim[list(WRIST_LOOP)] = True
        rim[faces[rim[faces].any(axis=1)].reshape(-1)] = True
        first = np.searchsorted(flat[order], np.arange(count + 1)).astype(np.int64)
        return HandSurface(np.ascontiguousarray(faces, np.int64), first, (order // 3).astype(np.int64), rim)


class SeenThrough(NamedTuple):
    """Depth (T, V), m, that a vertex must not come in front of, and weights (T, V), zero where it does not."""

    depth: Tensor
    weight: Tensor


def robust(squared: Tensor, width: float = ROBUST_WIDTH) -> Tensor:
    """Geman-McClure: squared residuals that saturate at `width` squared."""
    return squared / (1 + squared / width**2)


def object_depth_loss(measured: DepthPoints, item: ObjectUnknowns, signed_distance: SignedDistanceGrid) -> Tensor:
    """Weighted mean over the points of the robust squared distance to the object's surface.

    Returns:
        (T,), m^2; zero in frames without measurements.
    """
    local = ((measured.points - item.translation[:, None]) @ item.rotation) / item.scale
    distance = signed_distance(local) * item.scale
    return (measured.weight * robust(distance * distance)).sum(1)


def hand_depth_loss(measured: DepthPoints, match: SurfaceMatch, vertices: Tensor) -> Tensor:
    """Weighted mean over the points of the robust squared distance to the planes of their vertices.

    Args:
        measured: of the hand. match: from :func:`match_hand`. vertices: (T, V, 3), m, camera frame.

    Returns:
        (T,), m^2.
    """
    corners = vertices.gather(1, match.corners[..., None].expand(-1, -1, 3))
    place = (corners.view(*match.shares.shape, 3) * match.shares[..., None]).sum(2)
    along = ((measured.points - place) * match.normals).sum(-1)
    return (match.weight * robust(along * along)).sum(1)


def see_through_loss(seen: SeenThrough, vertices: Tensor) -> Tensor:
    """Weighted sum of the squared depths by which vertices lie in front of what was measured behind them: (T,), m^2.

    Args:
        seen: from :func:`find_seen_through`. vertices: (T, V, 3), m, camera frame.
    """
    in_front = (seen.depth - vertices[..., 2]).clamp(min=0)
    return (seen.weight * robust(in_front * in_front)).sum(1)


def match_hand(measured: DepthPoints, vertices: np.ndarray, normals: np.ndarray, surface: HandSurface) -> SurfaceMatch:
    """The place of the surface for each point: on a triangle at the nearest vertex that faces the camera.

    A vertex's own tangent plane lies outside of a rounded surface by half a millimetre on average, which would make
    hands too small.

    Args:
        measured: of the hand; points nearest to the wrist's rim are forearm and left out.
        vertices, normals: (T, V, 3) float32, m, camera frame. surface: topology.
    """
    points = measured.points.numpy()
    nearest, distance = _nearest_facing(points, vertices, normals)
    found = (distance < MATCH_REACH) & ~surface.on_rim[nearest]
    corners, shares, toward = _on_triangles(
        points, vertices, nearest, surface.faces, surface.first_face, surface.face_at
    )
    weight = measured.weight * torch.from_numpy(found.astype(np.float32))
    return SurfaceMatch(
        torch.from_numpy(corners.reshape(len(corners), -1)), torch.from_numpy(shares), torch.from_numpy(toward), weight
    )


def find_seen_through(
    camera: CameraModel, depth: np.ndarray, active: np.ndarray, vertices: np.ndarray, normals: np.ndarray
) -> SeenThrough:
    """Vertices that lie in front of what the camera measured at their pixel.

    Args:
        camera: that measured. depth: (T, H, W) float32, m, `ClipImages.nearest`. active: (T,) bool, frames to use.
        vertices, normals: (T, V, 3), m, camera frame; a vertex that faces away is not looked at.
    """
    ahead = vertices[..., 2] > 0.01
    if camera.is_distorted:
        pixels = camera.project(np.where(ahead[..., None], vertices, [0.0, 0.0, 1.0]))
    else:
        k = camera.camera_k
        z = np.where(ahead, vertices[..., 2], 1.0)
        y = vertices[..., 1] / z
        x = vertices[..., 0] / z
        pixels = np.stack([k[0, 0] * x + k[0, 1] * y + k[0, 2], k[1, 1] * y + k[1, 2]], axis=-1)
    height, width = depth.shape[1:]
    inside = ahead & (np.abs(pixels - [0.5 * (width - 1), 0.5 * (height - 1)]) < [0.5 * width, 0.5 * height]).all(-1)
    column, row = (np.clip(np.rint(pixels[..., k]), 0, (width, height)[k] - 1).astype(np.int64) for k in (0, 1))
    measured = depth[np.arange(len(vertices))[:, None], row, column]
    limit = measured - SEE_THROUGH_TOLERANCE
    before = limit - vertices[..., 2]
    facing = (vertices * normals).sum(-1) < 0
    contradicts = inside & facing & (measured > 0) & (before > 0) & (before < SEE_THROUGH_REACH) & active[:, None]
    # Each vertex stands for its share of the visible surface.
    weight = contradicts / np.maximum(facing.sum(axis=1, keepdims=True), 1)
    return SeenThrough(torch.from_numpy(limit.astype(np.float32)), torch.from_numpy(weight.astype(np.float32)))


@njit(cache=True)
def posed_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (T, V, 3), weighted by the faces' areas, of posed meshes (T, V, 3) of one topology (F, 3)."""
    normals = np.zeros_like(vertices)
    for t in range(len(vertices)):
        for f in range(len(faces)):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, az = vertices[t, a, 0], vertices[t, a, 1], vertices[t, a, 2]
            ux, uy, uz = vertices[t, b, 0] - ax, vertices[t, b, 1] - ay, vertices[t, b, 2] - az
            vx, vy, vz = vertices[t, c, 0] - ax, vertices[t, c, 1] - ay, vertices[t, c, 2] - az
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            for corner in (a, b, c):
                normals[t, corner, 0] += nx
                normals[t, corner, 1] += ny
                normals[t, corner, 2] += nz
        for v in range(normals.shape[1]):
            length = math.sqrt(normals[t, v, 0] ** 2 + normals[t, v, 1] ** 2 + normals[t, v, 2] ** 2)
            if length > 0.0:
                for k in range(3):
                    normals[t, v, k] /= length
    return normals


@njit(cache=True)
def _nearest_facing(points: np.ndarray, vertices: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest vertex that faces the camera, 0 at infinite distance where there is none: (T, P) int64, and (T, P), m."""
    frames, count = points.shape[:2]
    nearest, distance = np.zeros((frames, count), np.int64), np.full((frames, count), np.inf, np.float32)
    facing = np.empty(vertices.shape[1], np.int64)
    for t in range(frames):
        number = 0
        for v in range(vertices.shape[1]):
            if (
                vertices[t, v, 0] * normals[t, v, 0]
                + vertices[t, v, 1] * normals[t, v, 1]
                + vertices[t, v, 2] * normals[t, v, 2]
                < 0.0
            ):
                facing[number] = v
                number += 1
        for i in range(count):
            x, y, z = points[t, i, 0], points[t, i, 1], points[t, i, 2]
            for j in range(number):
                v = facing[j]
                dx, dy, dz = vertices[t, v, 0] - x, vertices[t, v, 1] - y, vertices[t, v, 2] - z
                square = dx * dx + dy * dy + dz * dz
                if square < distance[t, i]:
                    nearest[t, i], distance[t, i] = v, square
    return nearest, np.sqrt(distance)


@njit(cache=True)
def _on_triangles(
    points: np.ndarray,
    vertices: np.ndarray,
    nearest: np.ndarray,
    faces: np.ndarray,
    first_face: np.ndarray,
    face_at: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the triangles at the nearest vertex the one on which the point comes closest.

    Returns:
        corners (T, P, 3) int64, shares (T, P, 3) of the closest place, and the triangle's unit normal (T, P, 3).
    """
    frames, count = nearest.shape
    corners = np.zeros((frames, count, 3), np.int64)
    shares = np.zeros((frames, count, 3), np.float32)
    normals = np.zeros((frames, count, 3), np.float32)
    u, v, w, n = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for t in range(frames):
        for i in range(count):
            best = np.inf
            for k in range(first_face[nearest[t, i]], first_face[nearest[t, i] + 1]):
                a, b, c = faces[face_at[k], 0], faces[face_at[k], 1], faces[face_at[k], 2]
                for d in range(3):
                    u[d] = vertices[t, b, d] - vertices[t, a, d]
                    v[d] = vertices[t, c, d] - vertices[t, a, d]
                    w[d] = points[t, i, d] - vertices[t, a, d]
                n[0], n[1], n[2] = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
                area = math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2])
                if area < 1e-12:
                    continue
                uu, uv, vv = (u * u).sum(), (u * v).sum(), (v * v).sum()
                wu, wv = (w * u).sum(), (w * v).sum()
                second = (vv * wu - uv * wv) / (area * area)
                third = (uu * wv - uv * wu) / (area * area)
                # Clamped coordinates instead of the exact closest place: they only decide between neighbours.
                second, third = max(second, 0.0), max(third, 0.0)
                total = second + third
                if total > 1.0:
                    second, third = second / total, third / total
                square = 0.0
                for d in range(3):
                    square += (w[d] - second * u[d] - third * v[d]) ** 2
                if square < best:
                    best = square
                    corners[t, i, 0], corners[t, i, 1], corners[t, i, 2] = a, b, c
                    shares[t, i, 0], shares[t, i, 1], shares[t, i, 2] = 1.0 - second - third, second, third
                    for d in range(3):
                        normals[t, i, d] = n[d] / area
    return corners, shares, normals
