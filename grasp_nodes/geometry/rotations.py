"""Rotations in torch: axis-angle, 6D, quaternion and matrix, batched, with finite gradients everywhere.

Conventions: matrices act on column vectors. Quaternions are (x, y, z, w), as in ROS. Every function takes any leading
batch shape, keeps dtype and device, and is differentiable; the gradients at the angles 0 and pi are finite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from grasp_nodes.errors import InputError

_SMALL_ANGLE = {torch.float64: 1e-4, torch.float32: 1e-2}
"""Angle below which the Taylor series is exact to the dtype's precision."""


def _check_last(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if value.shape[value.ndim - len(shape) :] != shape:
        raise InputError(f"{name}: expected shape (..., {', '.join(map(str, shape))}), got {tuple(value.shape)}")


def skew(vector: Tensor) -> Tensor:
    """Matrix of the cross product: ``skew(a) @ b = a x b``.

    Args:
        vector: (..., 3).

    Returns:
        (..., 3, 3).
    """
    _check_last("vector", vector, (3,))
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vector.shape[:-1], 3, 3)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula, ``R = I + sin(t)/t K + (1 - cos(t))/t^2 K^2``.

    Args:
        axis_angle: (..., 3), rad: unit axis times angle.

    Returns:
        (..., 3, 3).
    """
    _check_last("axis_angle", axis_angle, (3,))
    squared = (axis_angle * axis_angle).sum(-1)
    small = squared < _SMALL_ANGLE.get(axis_angle.dtype, 1e-2) ** 2
    # The square root never sees zero, so that its gradient stays finite in the branch that is not taken.
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6 * (1 - squared / 20), angle.sin() / angle)
    half = 0.5 * angle
    cosine = torch.where(small, 0.5 - squared / 24 * (1 - squared / 30), 0.5 * (half.sin() / half) ** 2)
    cross = skew(axis_angle)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + sine[..., None, None] * cross + cosine[..., None, None] * (cross @ cross)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion (x, y, z, w) with w >= 0.

    Of the four rows of ``4 q q^T`` the one with the largest diagonal is normalised (Shepperd): no square root of a
    number near zero, for any rotation.

    Args:
        matrix: (..., 3, 3), rotations.

    Returns:
        (..., 4).
    """
    _check_last("matrix", matrix, (3, 3))
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    rows = torch.stack(
        [
            torch.stack([1 + m00 - m11 - m22, m01 + m10, m02 + m20, m21 - m12], dim=-1),
            torch.stack([m01 + m10, 1 - m00 + m11 - m22, m12 + m21, m02 - m20], dim=-1),
            torch.stack([m02 + m20, m12 + m21, 1 - m00 - m11 + m22, m10 - m01], dim=-1),
            torch.stack([m21 - m12, m02 - m20, m10 - m01, 1 + m00 + m11 + m22], dim=-1),
        ],
        dim=-2,
    )
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = rows.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation of a quaternion, which need not have length one but must not be zero.

    Args:
        quaternion: (..., 4), x, y, z, w.

    Returns:
        (..., 3, 3).
    """
    _check_last("quaternion", quaternion, (4,))
    x, y, z, w = quaternion.unbind(-1)
    factor = 2 / (quaternion * quaternion).sum(-1)
    entries = [
        1 - factor * (y * y + z * z),
        factor * (x * y - z * w),
        factor * (x * z + y * w),
        factor * (x * y + z * w),
        1 - factor * (x * x + z * z),
        factor * (y * z - x * w),
        factor * (x * z - y * w),
        factor * (y * z + x * w),
        1 - factor * (x * x + y * y),
    ]
    return torch.stack(entries, dim=-1).reshape(*quaternion.shape[:-1], 3, 3)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Axis times angle of a unit quaternion; the angle is in [0, pi].

    Args:
        quaternion: (..., 4), x, y, z, w.

    Returns:
        (..., 3), rad.
    """
    _check_last("quaternion", quaternion, (4,))
    quaternion = torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
    vector, w = quaternion[..., :3], quaternion[..., 3]
    squared = (vector * vector).sum(-1)
    small = squared < _SMALL_ANGLE.get(quaternion.dtype, 1e-2) ** 2
    length = torch.where(small, torch.ones_like(squared), squared).sqrt()
    # 2 atan(s / w) / s = 2 / w (1 - (s / w)^2 / 3 + (s / w)^4 / 5); w is near 1 there, near 0 elsewhere.
    w_near_one = torch.where(small, w, torch.ones_like(w))
    ratio = squared / w_near_one**2
    series = 2 / w_near_one * (1 - ratio / 3 + ratio * ratio / 5)
    return vector * torch.where(small, series, 2 * torch.atan2(length, w) / length)[..., None]


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """Unit quaternion (x, y, z, w) of axis times angle.

    Args:
        axis_angle: (..., 3), rad.

    Returns:
        (..., 4); w is negative for angles between pi and 2 pi.
    """
    _check_last("axis_angle", axis_angle, (3,))
    squared = (axis_angle * axis_angle).sum(-1, keepdim=True)
    small = squared < _SMALL_ANGLE.get(axis_angle.dtype, 1e-2) ** 2
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 0.5 - squared / 48 * (1 - squared / 80), (0.5 * angle).sin() / angle)
    w = torch.where(small, 1 - squared / 8 * (1 - squared / 48), (0.5 * angle).cos())
    return torch.cat([axis_angle * factor, w], dim=-1)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis times angle, angle in [0, pi]. At pi both signs of the axis are right; one of them is returned.

    Args:
        matrix: (..., 3, 3), rotations.

    Returns:
        (..., 3), rad.
    """
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Continuous 6D representation of Zhou et al. (CVPR 2019): the first column, then the second.

    Args:
        matrix: (..., 3, 3).

    Returns:
        (..., 6): ``[R00, R10, R20, R01, R11, R21]``.
    """
    _check_last("matrix", matrix, (3, 3))
    return torch.cat([matrix[..., :, 0], matrix[..., :, 1]], dim=-1)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """Gram-Schmidt of the two columns (Zhou et al., CVPR 2019, Eq. 15).

    Args:
        rotation_6d: (..., 6), first column then second; the two must not be parallel.

    Returns:
        (..., 3, 3).
    """
    _check_last("rotation_6d", rotation_6d, (6,))
    first = torch.nn.functional.normalize(rotation_6d[..., :3], dim=-1)
    second = rotation_6d[..., 3:]
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def geodesic_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle of the rotation between two rotations; accurate near 0 and near pi.

    Args:
        first, second: (..., 3, 3), broadcast against each other.

    Returns:
        (...), rad in [0, pi].
    """
    _check_last("first", first, (3, 3))
    _check_last("second", second, (3, 3))
    relative = first.transpose(-1, -2) @ second
    cosine = 0.5 * (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)
    m = relative
    axis = torch.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], dim=-1)
    return torch.atan2(0.5 * axis.norm(dim=-1), cosine)


def random_rotations(
    count: int, generator: torch.Generator, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Tensor:
    """Rotations uniform over SO(3), from normal quaternions.

    Args:
        count: how many.
        generator: CPU generator that makes them reproducible; the same on every device.

    Returns:
        (count, 3, 3).
    """
    quaternions = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return quaternion_to_matrix(quaternions).to(device=device, dtype=dtype)
