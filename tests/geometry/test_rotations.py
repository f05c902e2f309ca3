"""SO(3): group axioms, agreement with scipy, and gradients against finite differences, at 0 and pi, too."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.geometry import rotations

component = st.floats(-1.0, 1.0, allow_nan=False, width=32)
direction = st.tuples(component, component, component).filter(lambda v: math.hypot(*v) > 1e-3)
angle = st.one_of(
    st.floats(0.0, math.pi - 1e-6), st.sampled_from([0.0, 1e-12, 1e-8, 1e-5, 1e-4, 1e-3, math.pi - 1e-7, math.pi])
)


def axis_angle_of(axis: tuple[float, float, float], size: float) -> torch.Tensor:
    vector = torch.tensor(axis, dtype=torch.float64)
    return vector / vector.norm() * size


@given(direction, angle, direction, angle)
@settings(max_examples=200, deadline=None)
def test_axis_angle_gives_the_rotation_group(first_axis, first_angle, second_axis, second_angle):
    first = rotations.axis_angle_to_matrix(axis_angle_of(first_axis, first_angle))
    second = rotations.axis_angle_to_matrix(axis_angle_of(second_axis, second_angle))
    identity = torch.eye(3, dtype=torch.float64)
    for matrix in (first, second, first @ second):
        torch.testing.assert_close(matrix @ matrix.T, identity, atol=1e-12, rtol=0)
        assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=1e-12)
    inverse = rotations.axis_angle_to_matrix(-axis_angle_of(first_axis, first_angle))
    torch.testing.assert_close(first @ inverse, identity, atol=1e-12, rtol=0)


@given(direction, angle)
@settings(max_examples=200, deadline=None)
def test_every_form_agrees_with_scipy_and_returns(axis, size):
    vector = axis_angle_of(axis, size)
    expected = Rotation.from_rotvec(vector.numpy())
    matrix = rotations.axis_angle_to_matrix(vector)
    np.testing.assert_allclose(matrix.numpy(), expected.as_matrix(), atol=1e-12)
    quaternion = rotations.matrix_to_quaternion(matrix)
    assert quaternion[3] >= 0
    assert abs(float(quaternion @ torch.from_numpy(expected.as_quat()))) == pytest.approx(1, abs=1e-12)
    for back in (
        rotations.quaternion_to_matrix(quaternion),
        rotations.quaternion_to_matrix(-3.0 * quaternion),
        rotations.axis_angle_to_matrix(rotations.matrix_to_axis_angle(matrix)),
        rotations.axis_angle_to_matrix(rotations.quaternion_to_axis_angle(rotations.axis_angle_to_quaternion(vector))),
        rotations.rotation_6d_to_matrix(rotations.matrix_to_rotation_6d(matrix)),
    ):
        torch.testing.assert_close(back, matrix, atol=1e-7, rtol=0)
    assert float(rotations.matrix_to_axis_angle(matrix).norm()) == pytest.approx(size, abs=1e-7)


@given(direction, angle, direction, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_geodesic_angle_is_the_angle_between(axis, size, other_axis, other_size):
    first = rotations.axis_angle_to_matrix(axis_angle_of(other_axis, other_size))
    second = first @ rotations.axis_angle_to_matrix(axis_angle_of(axis, size))
    assert float(rotations.geodesic_angle(first, second)) == pytest.approx(size, abs=1e-7)
    assert float(rotations.geodesic_angle(second, first)) == pytest.approx(size, abs=1e-7)


def numerical_jacobian(function, x: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    columns = []
    for k in range(x.numel()):
        offset = torch.zeros(x.numel(), dtype=x.dtype)
        offset[k] = step
        offset = offset.reshape(x.shape)
        columns.append((function(x + offset) - function(x - offset)).reshape(-1) / (2 * step))
    return torch.stack(columns, dim=-1)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-5, 1e-4, 0.7, 3.0, math.pi - 1e-3])
def test_gradients_match_finite_differences(size):
    vector = axis_angle_of((0.3, -0.5, 0.8), size)

    def there_and_back(v):
        return rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(v))

    for function in (rotations.axis_angle_to_matrix, rotations.axis_angle_to_quaternion, there_and_back):
        exact = torch.autograd.functional.jacobian(function, vector)
        torch.testing.assert_close(exact.reshape(-1, 3), numerical_jacobian(function, vector), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -2, 3)])
@pytest.mark.parametrize("size", [0.0, math.pi])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_finite_at_zero_and_pi(axis, size, dtype):
    matrix = rotations.axis_angle_to_matrix(axis_angle_of(axis, size)).to(dtype).requires_grad_(True)
    vector = rotations.matrix_to_axis_angle(matrix)
    assert float(vector.detach().norm()) == pytest.approx(size, abs=1e-3 if dtype == torch.float32 else 1e-7)
    (vector.sum() + rotations.geodesic_angle(matrix, torch.eye(3, dtype=dtype))).backward()
    assert torch.isfinite(matrix.grad).all()
    zero = torch.zeros(3, dtype=dtype, requires_grad=True)
    rotations.axis_angle_to_matrix(zero)[0, 1].backward()
    # d R01 / d v = -e_z at the identity.
    torch.testing.assert_close(zero.grad, torch.tensor([0.0, 0.0, -1.0], dtype=dtype))


def test_six_numbers_are_the_first_two_columns():
    matrix = rotations.random_rotations(5, torch.Generator().manual_seed(3), dtype=torch.float64)
    six = rotations.matrix_to_rotation_6d(matrix)
    torch.testing.assert_close(six[:, :3], matrix[:, :, 0])
    torch.testing.assert_close(six[:, 3:], matrix[:, :, 1])
    # Gram-Schmidt forgets length of both and the second's part along the first.
    loose = torch.cat([2.0 * six[:, :3], 0.5 * six[:, 3:] + 0.3 * six[:, :3]], dim=-1)
    torch.testing.assert_close(rotations.rotation_6d_to_matrix(loose), matrix)


def test_batches_of_any_shape_keep_dtype():
    vector = torch.randn(4, 0, 3)
    assert rotations.axis_angle_to_matrix(vector).shape == (4, 0, 3, 3)
    vector = torch.randn(2, 5, 3)
    matrix = rotations.axis_angle_to_matrix(vector)
    assert matrix.shape == (2, 5, 3, 3)
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix[1, 2], rotations.axis_angle_to_matrix(vector[1, 2]))


def test_random_rotations_are_uniform_and_repeatable():
    matrix = rotations.random_rotations(20000, torch.Generator().manual_seed(0), dtype=torch.float64)
    again = rotations.random_rotations(20000, torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(matrix, again)
    angles = rotations.geodesic_angle(matrix, torch.eye(3, dtype=torch.float64)).numpy()
    # Of uniform rotations, the angle has the distribution (t - sin t) / pi.
    for t in (0.5, 1.0, 2.0, 3.0):
        assert (angles < t).mean() == pytest.approx((t - math.sin(t)) / math.pi, abs=0.01)
    assert np.abs(matrix.mean(0).numpy()).max() < 0.02


def test_wrong_shape_is_named():
    with pytest.raises(InputError, match=r"axis_angle: expected shape \(\.\.\., 3\), got \(2, 4\)"):
        rotations.axis_angle_to_matrix(torch.zeros(2, 4))
    with pytest.raises(InputError, match="matrix"):
        rotations.matrix_to_quaternion(torch.zeros(3))
