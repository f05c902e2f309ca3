"""Silhouette error with exact gradients: the area that a projected mesh covers wrongly, and how its outline changes it.

A hard silhouette has no useful derivative pixel by pixel, but the *area* that it covers has: points of the outline move
with the vertices of their edge, and the error changes by what they sweep (Reynolds' transport theorem). Target and
weight are constant in each pixel's square, so that the error and its derivative are finite sums over the pieces of the
outline in each pixel: nothing is blurred, nothing is sampled, and the cost grows with the outline, not with the image.

The centre of the top-left pixel is (0, 0). Compiled for one thread of the CPU; tensors of other devices are copied
there, and the result back: some kilobytes per image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.covered_area import FaceEdges, integrate_covered, sums_along_rows


class SilhouetteLoss:
    """Squared error of a mesh's silhouette against masks, where they say something (HOMan, equation 3).

    ``integral of keep * (target - covered)^2 / max(keep.sum(), 1)`` for each image: in shares of the kept pixels. The
    value is the exact area, so that it is continuous, and its gradient is the derivative of the value wherever that
    exists: nearly everywhere.
    """

    def __init__(self, faces: np.ndarray | Tensor, target: Tensor, keep: Tensor) -> None:
        """Prepare topology and images once; both are constant through a fit.

        Args:
            faces: (F, 3) int, vertices merged; closed or open.
            target: (B, H, W) bool or 0..1, share of each pixel that the object covers.
            keep: (B, H, W) bool or weight >= 0 of each pixel: 0 where something hides the object.

        Raises:
            InputError: images that do not go together, or NaN in them.
        """
        if target.ndim != 3 or target.shape != keep.shape:
            raise InputError(
                "target, keep: expected two tensors of one shape (B, H, W), "
                f"got {tuple(target.shape)} and {tuple(keep.shape)}"
            )
        wanted, weight = (image.detach().cpu().numpy().astype(np.float64) for image in (target, keep))
        if not (np.isfinite(wanted).all() and np.isfinite(weight).all()):
            raise InputError("target, keep: not all values are finite")
        ids = faces.cpu().numpy() if isinstance(faces, Tensor) else faces
        self._edges = FaceEdges.of(np.asarray(ids, np.int64))
        # The square is keep * target^2 where nothing is covered, and changes by this where something is.
        self._change = weight * (1 - 2 * wanted)
        self._until = sums_along_rows(self._change)
        self._uncovered = (weight * wanted**2).sum(axis=(1, 2))
        self._kept = np.maximum(weight.sum(axis=(1, 2)), 1.0)

    def __call__(self, pixels: Tensor, depths: Tensor) -> Tensor:
        """The error of each image.

        Args:
            pixels: (B, V, 2), px of the target images; differentiable.
            depths: (B, V), m, along the optical axis; without gradient: it moves nothing in the image.

        Returns:
            (B,) in the dtype of the pixels; NaN, with gradient zero, for an image whose mesh is not finite or diverged.
        """
        images = len(self._change)
        if pixels.ndim != 3 or pixels.shape[2] != 2 or len(pixels) != images or depths.shape != pixels.shape[:2]:
            raise InputError(
                f"pixels, depths: expected ({images}, V, 2) and ({images}, V) as there are {images} target images, "
                f"got {tuple(pixels.shape)} and {tuple(depths.shape)}"
            )
        if pixels.shape[1] < self._edges.vertex_count:
            raise InputError(f"pixels: faces name {self._edges.vertex_count} vertices, got {pixels.shape[1]}")
        return _ExactArea.apply(pixels, depths, self)

    def evaluate(self, pixels: np.ndarray, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Error (B,) and its gradient (B, V, 2) per px, float64; arguments as of `__call__`."""
        changed, gradient = integrate_covered(pixels, depths, self._edges, self._change, self._until)
        return (self._uncovered + changed) / self._kept, gradient / self._kept[:, None, None]


class _ExactArea(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, depths: Tensor, loss: SilhouetteLoss) -> Tensor:
        value, gradient = loss.evaluate(pixels.detach().cpu().numpy(), depths.detach().cpu().numpy())
        if pixels.requires_grad:
            ctx.save_for_backward(torch.from_numpy(gradient).to(pixels))
        return torch.from_numpy(value).to(pixels)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[0][:, None, None] * gradient, None, None
