"""Hard silhouettes of many poses at once on any torch device, for a machine with a GPU.

The same rule as :mod:`silhouette`: a pixel is covered when its centre lies inside a projected triangle. Edge functions
of all triangles are evaluated at all pixels in chunks, which wastes arithmetic and needs no list of pixels per
triangle: right for a GPU and small windows; on a CPU the compiled scanlines are far faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEAR = 1e-3
"""m; triangles that reach closer than this to the camera's plane are left out."""
_CHUNK_ELEMENTS = 1 << 25


def coverage(pixels: Tensor, depths: Tensor, faces: Tensor, height: int, width: int) -> Tensor:
    """Which pixels projected meshes of one topology cover.

    Args:
        pixels: (B, V, 2) float, px; the centre of the top-left pixel is (0, 0). depths: (B, V), m.
        faces: (F, 3) int64.

    Returns:
        (B, height, width) bool, on the device of `pixels`.
    """
    device, dtype = pixels.device, pixels.dtype
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=dtype), torch.arange(width, device=device, dtype=dtype), indexing="ij"
    )
    x, y = x.reshape(-1), y.reshape(-1)
    covered = torch.zeros(len(pixels), height * width, dtype=torch.bool, device=device)
    chunk = max(1, _CHUNK_ELEMENTS // max(1, len(pixels) * height * width))
    for start in range(0, len(faces), chunk):
        part = faces[start : start + chunk]
        corner = pixels[:, part]
        ahead = (depths[:, part] >= _NEAR).all(dim=-1)
        following = corner.roll(-1, dims=2)
        edge = following - corner
        area = edge[:, :, 0, 0] * edge[:, :, 1, 1] - edge[:, :, 0, 1] * edge[:, :, 1, 0]
        usable = (ahead & (area != 0)).unsqueeze(-1)
        # a x + b y + c is twice the area of the pixel's triangle with one edge, positive inside.
        a, b = -edge[..., 1] * area.sign().unsqueeze(-1), edge[..., 0] * area.sign().unsqueeze(-1)
        c = -(a * corner[..., 0] + b * corner[..., 1])
        # The margin closes the crack that rounding could leave between two neighbours.
        slack = 1e-9 * edge.norm(dim=-1) if dtype == torch.float64 else 1e-4 * edge.norm(dim=-1)
        inside = usable.expand(-1, -1, len(x))
        for k in range(3):
            value = a[:, :, k, None] * x + b[:, :, k, None] * y + (c + slack)[:, :, k, None]
            inside = inside & (value >= 0)
        covered |= inside.any(dim=1)
    return covered.reshape(-1, height, width)


def overlaps(covered: Tensor, mask: Tensor, ignored: Tensor) -> Tensor:
    """Intersection over union with a mask, where nothing hides the object.

    Args:
        covered: (B, H, W) bool. mask: (H, W) bool. ignored: (H, W) bool, pixels that count neither way.

    Returns:
        (B,) float32 in [0, 1].
    """
    seen = covered & ~(ignored & ~mask)
    both = (seen & mask).sum(dim=(1, 2))
    either = (seen | mask).sum(dim=(1, 2))
    return both.float() / either.clamp(min=1).float()
