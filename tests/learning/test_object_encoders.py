"""Object encoders: symmetries they must have, analytic distances, and codes that are made once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from grasp_nodes.errors import InputError
from grasp_nodes.learning.object_encoders import BasisPoints, KeptCodes, PointNet


def cloud(batch=3, count=50, channels=3, seed=0):
    return torch.randn(batch, count, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("transform", [True, False])
def test_order_and_repetition_of_points_do_not_matter(norm, transform):
    torch.manual_seed(0)
    network = PointNet(6, (16, 32), transform, norm).eval()
    points = cloud(channels=6)
    code = network(points)
    assert code.shape == (3, 32)
    shuffled = points[:, torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(network(shuffled), code)
    torch.testing.assert_close(network(torch.cat([points, points[:, :7]], dim=1)), code)
    torch.testing.assert_close(network(points[1:2]), code[1:2], atol=1e-5, rtol=1e-5)
    assert float((network(points + 0.3) - code).detach().abs().max()) > 1e-3


def test_transform_begins_with_the_identity():
    torch.manual_seed(0)
    with_transform = PointNet(3, (8, 16), norm="none")
    without = PointNet(3, (8, 16), transform=False, norm="none")
    without.layers.load_state_dict(with_transform.layers.state_dict())
    assert torch.equal(with_transform(cloud()), without(cloud()))
    nn.init.constant_(with_transform.transform.head[-1].bias, 1.0)
    matrix = torch.eye(3) + 1
    torch.testing.assert_close(with_transform(cloud()), without(cloud() @ matrix))


def test_learns_from_one_object_at_a_time():
    network = PointNet()
    network.train()
    network(cloud(1)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    # 3 -> 64 -> 128 -> 1024 with offsets and the norms' scales, twice, and the head 1024 -> 512 -> 256 -> 9.
    shared = (3 * 64 + 64) + (64 * 128 + 128) + (128 * 1024 + 1024) + 2 * (64 + 128)
    head = (1024 * 512 + 512) + (512 * 256 + 256) + (256 * 9 + 9) + 2 * (512 + 256)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2 * shared + head


def test_point_sets_that_are_none():
    for points in (torch.zeros(2, 0, 3), torch.zeros(2, 5, 4), torch.zeros(5, 3)):
        with pytest.raises(InputError, match="points: expected"):
            PointNet()(points)
    for points in (torch.zeros(2, 0, 3), torch.zeros(2, 5, 4)):
        with pytest.raises(InputError, match="points: expected"):
            BasisPoints(8)(points)
    with pytest.raises(InputError, match="norm: expected one of batch"):
        PointNet(norm="group")
    with pytest.raises(InputError, match="basis points"):
        BasisPoints(0)


@pytest.mark.parametrize("count", [128, 20_000])
def test_basis_points_fill_the_ball(count):
    points = BasisPoints(count, radius=0.2).points
    radius, turn = np.linalg.norm(points, axis=1) / 0.2, np.arctan2(points[:, 1], points[:, 0])
    assert radius.max() <= 1 + 1e-6
    # Uniform in volume: the cube of the radius is uniform, and so are the height on the sphere and the azimuth.
    uniform = np.stack([radius**3, 0.5 + 0.5 * points[:, 2] / (0.2 * radius), (turn / (2 * np.pi)) % 1.0])
    for share in (0.1, 0.5, 0.9):
        np.testing.assert_allclose((uniform < share).mean(axis=1), share, atol=0.05 if count < 1000 else 0.005)
    # None of them follows from another: every part of the ball has its share.
    cells = np.bincount(((uniform > 0.5) * np.array([[1], [2], [4]])).sum(axis=0), minlength=8)
    np.testing.assert_allclose(cells / count, 1 / 8, atol=0.05 if count < 1000 else 0.005)
    np.testing.assert_allclose(points[:50], BasisPoints(50, radius=0.2).points, atol=1e-7)


def test_features_of_points_are_what_every_layer_says():
    torch.manual_seed(0)
    network = PointNet(2, (8, 16, 4), transform=False).eval()
    points = cloud(channels=2)
    found = network.features(points).view(3, 50, -1)
    assert found.shape[2] == network.num_features == 8 + 16 + 4 + 4
    first = torch.relu(network.layers[1](network.layers[0](points[1])))
    torch.testing.assert_close(found[1, :, :8], first)
    torch.testing.assert_close(found[..., 24:28].amax(dim=1), network(points))
    torch.testing.assert_close(found[..., 28:], network(points)[:, None].expand(-1, 50, -1))


def test_distances_are_those_to_the_nearest_point():
    basis = BasisPoints(200)
    points = 0.05 * cloud(4, 300)
    expected = torch.cdist(torch.from_numpy(basis.points)[None].double(), points.double()).amin(dim=2)
    torch.testing.assert_close(basis(points).double(), expected, atol=1e-7, rtol=0)
    # Of a sphere they are known: the distance from the centre less the radius, but for the gaps between points.
    sphere = 0.08 * torch.nn.functional.normalize(cloud(1, 40_000), dim=2)
    known = np.abs(np.linalg.norm(basis.points, axis=1) - 0.08)
    np.testing.assert_allclose(basis(sphere)[0], known, atol=2e-3)


def test_codes_are_made_once():
    asked = []

    def encoder(points):
        asked.append(len(points))
        return points.sum(dim=1)

    kept = KeptCodes(encoder, size=3)
    points = cloud(3)
    first = kept(points)
    torch.testing.assert_close(first, points.sum(dim=1))
    assert torch.equal(kept(points), first)
    assert asked == [3]
    torch.testing.assert_close(kept(torch.cat([points[:1], cloud(1, seed=1), points[:1]]))[2], first[0])
    assert asked == [3, 1]
    kept(points[1:2])  # the one that was not asked for since is forgotten
    assert asked == [3, 1, 1]
    kept(points[:1])
    assert asked == [3, 1, 1]


def test_more_objects_than_are_kept():
    kept = KeptCodes(lambda points: points.sum(dim=1), size=2)
    points = cloud(5)
    torch.testing.assert_close(kept(points), points.sum(dim=1))
    same = points[:1].expand(4, -1, -1)
    torch.testing.assert_close(kept(same), same.sum(dim=1))


def test_codes_have_no_gradient():
    network = PointNet(3, (4,), transform=False)
    assert not KeptCodes(network)(cloud()).requires_grad
