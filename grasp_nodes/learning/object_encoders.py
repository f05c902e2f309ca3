"""What an object is to a network: PointNet on its points, or distances to fixed basis points; kept per object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.ball_points import ball_points
from grasp_nodes.learning.recent import Recent

Norm = Literal["batch", "layer", "none"]

_TRANSFORM_WIDTHS = (64, 128, 1024)
_TRANSFORM_HEAD = (512, 256)


class PointNet(nn.Module):
    """PointNet (Qi et al., CVPR 2017): the same layers for every point, then the largest of each feature.

    The order of the points does not matter, their number little. As the paper's network for segmentation it tells the
    features of each point (`features`) beside the pooled code. FastGrasp encodes 3,000 object points, and the 778
    vertices of a hand, with the default sizes.

    Args:
        channels: numbers of a point; with a transform the first three are its place.
        widths: of the layers; the last is the code's size.
        transform: whether a small network of the same kind (T-Net) turns and stretches the points first; it begins with
            the identity. norm: after every layer but the last.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 1024),
        transform: bool = True,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if channels < (3 if transform else 1) or not widths:
            raise InputError(
                f"PointNet: expected {'3 channels' if transform else 'a channel'} or more and a width, got {channels} "
                f"and {tuple(widths)}"
            )
        if norm not in get_args(Norm):
            raise InputError(f"norm: expected one of {', '.join(get_args(Norm))}, got {norm!r}")
        self.channels, self.size = channels, widths[-1]
        self.num_features = sum(widths) + widths[-1]
        self.transform = _Transform(norm) if transform else None
        self.layers = _layers((channels, *widths), norm)

    def forward(self, points: Tensor) -> Tensor:
        """Codes (B, size) of point sets (B, P, channels).

        Raises:
            InputError: points of another shape, or none.
        """
        return _largest(self.layers, self._placed(points))

    def features(self, points: Tensor) -> Tensor:
        """(B * P, num_features): what every layer says of each point of (B, P, channels), then its set's code.

        Rows of points are faster than (B, C, P).

        Raises:
            InputError: as `forward`.
        """
        found, features = [], self._placed(points).flatten(0, 1)
        for number, layer in enumerate(self.layers):
            if number and isinstance(layer, nn.Linear):
                found.append(features)
            features = layer(features)
        split = features.view(*points.shape[:2], -1)
        code = split.amax(dim=1, keepdim=True).expand_as(split).flatten(0, 1)
        return torch.cat([*found, features, code], dim=1)

    def _placed(self, points: Tensor) -> Tensor:
        if points.ndim != 3 or points.shape[2] != self.channels or not points.shape[1]:
            raise InputError(f"points: expected (B, P, {self.channels}) with P > 0, got {tuple(points.shape)}")
        if self.transform is None:
            return points
        moved = points[..., :3] @ self.transform(points[..., :3])
        return torch.cat([moved, points[..., 3:]], dim=-1)


class _Transform(nn.Module):
    """T-Net: a 3x3 matrix for each point set."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.layers = _layers((3, *_TRANSFORM_WIDTHS), norm)
        # At a batch of one the statistics of a single vector are none: the head has no batch norm.
        self.head = _layers((_TRANSFORM_WIDTHS[-1], *_TRANSFORM_HEAD, 9), "layer" if norm == "batch" else norm)
        last = self.head[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, points: Tensor) -> Tensor:
        found = self.head(torch.relu(_largest(self.layers, points))).view(-1, 3, 3)
        return found + torch.eye(3, dtype=points.dtype, device=points.device)


def _layers(widths: Sequence[int], norm: Norm) -> nn.Sequential:
    made: list[nn.Module] = []
    for k in range(len(widths) - 1):
        made.append(nn.Linear(widths[k], widths[k + 1]))
        if k < len(widths) - 2:
            if norm != "none":
                made.append(nn.BatchNorm1d(widths[k + 1]) if norm == "batch" else nn.LayerNorm(widths[k + 1]))
            made.append(nn.ReLU())
    return nn.Sequential(*made)


def _largest(layers: nn.Sequential, points: Tensor) -> Tensor:
    """(B, D): of (B, P, C)."""
    batch, count, channels = points.shape
    # Not amax: its gradient goes through every entry, that of max to one point of each feature.
    return layers(points.reshape(batch * count, channels)).view(batch, count, -1).max(dim=1).values


class BasisPoints:
    """Basis point sets (Prokudin et al., ICCV 2019): distances from fixed points to the nearest of an object's.

    Args:
        count: of the basis points; 4,096 in GrabNet. radius: m, of the ball that they fill uniformly.

    They are always the same, a sequence of low discrepancy, since a network must see those that it was trained with.
    """

    def __init__(self, count: int = 4096, radius: float = 0.15) -> None:
        if count < 1 or not radius > 0:
            raise InputError(f"basis points: expected 1 or more and a radius above 0, got {count} and {radius}")
        self.points = ball_points(count, radius).astype(np.float32)

    def __call__(self, points: Tensor) -> Tensor:
        """Distances (B, count), m, of point sets (B, P, 3), m; without gradient."""
        if points.ndim != 3 or points.shape[2] != 3 or not points.shape[1]:
            raise InputError(f"points: expected (B, P, 3) with P > 0, got {tuple(points.shape)}")
        if points.device.type == "cpu":
            rows = [cKDTree(one).query(self.points)[0] for one in points.detach().numpy()]
            return torch.from_numpy(np.stack(rows)).to(points.dtype)
        basis = torch.from_numpy(self.points).to(points)
        return torch.stack([torch.cdist(basis, one).amin(dim=1) for one in points.detach()])


class KeptCodes:
    """An encoder that remembers the codes of the objects it saw last: the same points are encoded once.

    Args:
        encoder: of point sets (B, P, C): codes (B, ...); runs without gradients. size: objects to remember.
    """

    def __init__(self, encoder: Callable[[Tensor], Tensor], size: int = 64) -> None:
        self._encoder = encoder
        self._codes: Recent[bytes, Tensor] = Recent(size)

    @torch.no_grad()
    def __call__(self, points: Tensor) -> Tensor:
        """Codes (B, ...) of point sets (B, P, C); those that are new are encoded together."""
        keys = [_digest(one) for one in points]
        found = {key: code for key in keys if (code := self._codes.get(key)) is not None}
        new = [k for k, key in enumerate(keys) if key not in found and key not in keys[:k]]
        if new:
            found |= zip([keys[k] for k in new], self._encoder(points[new]), strict=True)
        for key in keys:
            self._codes.put(key, found[key])
        return torch.stack([found[key] for key in keys])


def _digest(points: Tensor) -> bytes:
    content = np.ascontiguousarray(points.detach().cpu().numpy())
    return hashlib.blake2b(content.tobytes() + str(content.shape).encode(), digest_size=16).digest()
