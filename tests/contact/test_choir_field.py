"""CHOIR's basis points, anchor assignment, scaling and distances, against numbers worked out otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from grasp_nodes.contact.choir.assignment import AnchorAssignment
from grasp_nodes.contact.choir.field import anchor_distances, make_field, object_distances
from grasp_nodes.contact.choir.space import ChoirSettings, ChoirSpace
from grasp_nodes.errors import InputError


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Points (2, 300, 3) of two objects, anchors (2, 32, 3)."""
    generator = torch.Generator().manual_seed(3)
    points = 0.04 * torch.randn(2, 300, 3, generator=generator) + torch.tensor([0.1, -0.2, 0.3])
    return points, points.mean(dim=1, keepdim=True) + 0.06 * torch.randn(2, 32, 3, generator=generator)


def test_the_grid_is_the_papers() -> None:
    basis = ChoirSpace().basis
    assert basis.shape == (4096, 3)
    assert np.allclose(basis[0], -0.1)
    assert np.allclose(basis[1] - basis[0], [0.0, 0.0, 0.2 / 15])  # the last axis first
    assert np.allclose(basis[16] - basis[0], [0.0, 0.2 / 15, 0.0])
    assert np.allclose(np.unique(basis[:, 0]), np.linspace(-0.1, 0.1, 16))


def test_a_ball_is_filled_evenly() -> None:
    basis = ChoirSpace(ChoirSettings(layout="ball")).basis
    radius = np.linalg.norm(basis, axis=1)
    assert radius.max() <= 0.2
    # Of a uniform ball a share of r^3 lies within r.
    assert np.quantile(radius, 0.125) == pytest.approx(0.1, rel=0.02)
    assert np.abs(basis.mean(axis=0)).max() < 2e-3


def test_the_ordered_assignment_puts_an_anchor_on_one_plane_and_a_random_one_does_not() -> None:
    for kind, flat in (("ordered", True), ("random", False)):
        space = ChoirSpace(ChoirSettings(assignment=kind))  # type: ignore[arg-type]
        rows = space.assignment.points_of_anchor
        assert (space.assignment.ids[rows] == np.arange(32)[:, None]).all()
        away = space.basis[rows] - space.basis[rows].mean(axis=1, keepdims=True)
        least = np.linalg.svd(away, compute_uv=False)[:, 2]
        assert (least < 1e-12).all() if flat else (least > 0.3).all()


def test_an_assignment_is_the_same_everywhere_and_changes_its_fingerprint_with_the_seed() -> None:
    first, again = AnchorAssignment.make("random", 4096, 5), AnchorAssignment.make("random", 4096, 5)
    other = AnchorAssignment.make("random", 4096, 6)
    assert (first.ids == again.ids).all()
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert (np.bincount(other.ids) == 128).all()
    # Written down: a permutation that changed with a library's version would make all weights worthless.
    assert first.ids[:8].tolist() == FIRST_IDS


FIRST_IDS = [22, 13, 23, 17, 5, 5, 27, 30]


def test_another_permutation_scaling_or_sharpness_is_refused() -> None:
    space = ChoirSpace()
    space.check(ChoirSpace().fingerprint, "the same")
    for other in (ChoirSettings(seed=7), ChoirSettings(scaling="object"), ChoirSettings(sharpness=4.0)):
        with pytest.raises(InputError, match="basis points, anchor assignment"):
            space.check(ChoirSpace(other).fingerprint, "weights")
    description = {**space.description(), "seed": 1996}
    with pytest.raises(InputError, match=r"card\.json: belongs to CHOIR fields of fingerprint"):
        ChoirSpace.of_description(description, "card.json")
    assert ChoirSpace.of_description(space.description(), "card").fingerprint == space.fingerprint


@pytest.mark.parametrize("scaling", ["none", "object", "pair", "fixed"])
def test_distances_are_those_of_all_pairs(scaling: str, scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    points, anchors = scene
    space = ChoirSpace(ChoirSettings(scaling=scaling))  # type: ignore[arg-type]
    field = make_field(space, points, anchors)
    for row in range(2):
        one, hand = points[row].double().numpy(), anchors[row].double().numpy()
        both = np.concatenate([one, hand]) if scaling == "pair" else one
        factor = {"none": 1.0, "fixed": 10.0}.get(scaling) or 1.0 / np.linalg.norm(np.ptp(both, axis=0))
        # In metres: a basis point's place in the object's frame.
        place = space.basis / factor + one.mean(axis=0)
        near = cdist(place, one).min(axis=1) * factor
        own = np.linalg.norm(place - hand[space.assignment.ids], axis=1) * factor
        assert np.allclose(field.object_distance[row], near, atol=1e-5)
        assert np.allclose(field.anchor_distance[row], own, atol=1e-5)
    assert field.fingerprint == space.fingerprint


def test_scenes_that_are_seen_alike_share_a_search(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    points, anchors = scene[0][0], scene[1]
    space = ChoirSpace()
    frame = space.frame(points.mean(dim=0).expand(2, 3), points.expand(2, -1, -1), anchors)
    shared = object_distances(space, points, frame)
    assert torch.equal(shared[0], shared[1])
    assert torch.allclose(shared, object_distances(space, points.expand(2, -1, -1), frame))


def test_the_remap_is_undone_and_its_ends_are_kept() -> None:
    space = ChoirSpace()
    distance = torch.tensor([0.0, 0.01, 0.3])
    remapped = space.remapped(distance)
    assert remapped.tolist() == pytest.approx([1.0, np.exp(-0.05), np.exp(-1.5)])
    assert torch.allclose(space.distances(remapped), distance, atol=1e-6)
    assert space.distances(torch.tensor([1.2, -0.1])).isfinite().all()


def test_anchor_distances_have_a_gradient(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    points, anchors = scene[0].double(), scene[1].double()
    space = ChoirSpace(ChoirSettings(per_side=4))
    frame = space.frame(points.mean(dim=1), points)
    weight = torch.linspace(-1, 1, len(space), dtype=torch.float64)

    def total(moved: torch.Tensor) -> torch.Tensor:
        return (anchor_distances(space, moved, frame) * weight).sum()

    assert torch.autograd.gradcheck(total, anchors.requires_grad_(True), fast_mode=True)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="scaling: expected one of none, object, pair, fixed, got 'big'"):
        ChoirSettings(scaling="big")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="multiple of 32"):
        AnchorAssignment.make("ordered", 100)
