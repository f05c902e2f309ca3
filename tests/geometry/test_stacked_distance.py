"""Many objects' distances at once are those of each object's own grid, with the slopes of finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.objects.loading import load_object

OBJECTS = ("sphere:0.03", "box:0.05,0.08,0.02", "cylinder:0.02,0.1")


@pytest.fixture(scope="module")
def grids() -> list[SignedDistanceGrid]:
    return [load_object(name, resolution=24 + 4 * k).signed_distance for k, name in enumerate(OBJECTS)]


@pytest.fixture(scope="module")
def asked() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = 0.06 * torch.randn(40, 17, 3, generator=generator, dtype=torch.float64)  # inside and far outside the grids
    return points, torch.randint(0, len(OBJECTS), (40,), generator=generator)


def test_each_row_asks_its_own_object(grids, asked):
    points, objects = asked
    found = StackedDistances.of(grids)(points, objects)
    for row, number in enumerate(objects.tolist()):
        torch.testing.assert_close(found[row], grids[number](points[row]), rtol=0, atol=1e-12)


def test_a_ball_is_a_ball(grids):
    points = torch.tensor([[[0.05, 0.0, 0.0], [0.0, 0.0, 0.01]]], dtype=torch.float64)
    found = StackedDistances.of(grids)(points, torch.tensor([0]))
    np.testing.assert_allclose(found[0], [0.02, -0.02], atol=1e-3)


def test_slopes_are_finite_differences(grids, asked):
    points, objects = asked
    stack, step = StackedDistances.of(grids), 1e-7
    leaf = points.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(stack(leaf, objects).sum(), leaf)
    for axis in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[axis]
        difference = (stack(points + shift, objects) - stack(points - shift, objects)) / (2 * step)
        # Between two cells the slope jumps: of so many points hardly one lies there.
        wrong = (difference - slope[..., axis]).abs() > 1e-4
        assert wrong.float().mean() < 0.01


def test_torchs_own_operations_agree(grids, asked):
    points, objects = asked
    stack = StackedDistances.of(grids)
    single = points.float().requires_grad_(True)
    compiled = stack(single, objects)
    (slope,) = torch.autograd.grad(compiled.sum(), single)
    plain = stack.by_gather(single, objects)
    (plain_slope,) = torch.autograd.grad(plain.sum(), single)
    torch.testing.assert_close(plain, compiled, rtol=0, atol=1e-6)
    assert float(((plain_slope - slope).abs().amax(dim=-1) > 1e-2).float().mean()) < 0.01


def test_nan_stays_nan(grids):
    points = torch.full((1, 2, 3), torch.nan)
    stack = StackedDistances.of(grids)
    assert torch.isnan(stack(points, torch.tensor([1]))).all()
    assert torch.isnan(stack.by_gather(points, torch.tensor([1]))).all()


def test_what_does_not_fit_is_refused(grids):
    stack = StackedDistances.of(grids)
    with pytest.raises(InputError, match="0 to 2"):
        stack(torch.zeros(1, 2, 3), torch.tensor([3]))
    with pytest.raises(InputError, match=r"\(B, P, 3\)"):
        stack(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="values"):
        StackedDistances(stack.values[1:], stack.shapes, stack.origins, stack.spacings)
    with pytest.raises(InputError, match="at least one"):
        StackedDistances.of([])
