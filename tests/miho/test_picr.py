"""PiCR: sizes, labels, losses written out by hand, and what it sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.miho.hourglass import HourglassConfig, sample_features
from grasp_nodes.miho.picr import PAPER_PICR, SMALL_PICR, PiCR, PiCRConfig, PiCROutput
from grasp_nodes.miho.picr_loss import (
    ContactLabels,
    average_precision,
    best_threshold,
    contact_loss,
    elasticity_loss,
    picr_loss,
    region_loss,
)

TINY = PiCRConfig(HourglassConfig(2, 2, 8, 6), size=32, points=(8, 12), heads=(8,), told="position_normal")


def make_inputs(count: int = 2, points: int = 40, size: int = 32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, size, size, generator=generator)
    places = torch.rand(count, points, 3, generator=generator) * 0.1 + torch.tensor([-0.05, -0.05, 0.5])
    normals = torch.nn.functional.normalize(torch.randn(count, points, 3, generator=generator), dim=2)
    return images, places, normals, torch.tensor([[0.0, 0.0, 0.55]] * count), torch.full((count,), 3.0 * size)


def test_the_paper_s_point_features_are_4992() -> None:
    network = PiCR(PAPER_PICR)
    # image features and depth in; every layer's 128 + 128 + 128 + 512 + 2048 and the pooled 2048 out
    assert network.encoder.num_features == 4992
    with torch.no_grad():
        outputs = network.eval()(*make_inputs(1, 16, 256))
    assert len(outputs) == 2
    assert outputs[1].region.shape == (1, 16, 17)
    assert outputs[1].elasticity.shape == (1, 16, 4)


def test_the_small_one_is_small_enough_to_ship() -> None:
    assert 2 * sum(value.numel() for value in PiCR(SMALL_PICR).parameters()) < 4e6


def test_the_order_of_points_does_not_matter() -> None:
    torch.manual_seed(0)
    network = PiCR(TINY).eval()
    images, points, normals, root, focal = make_inputs()
    order = torch.randperm(points.shape[1], generator=torch.Generator().manual_seed(2))
    first = network(images, points, normals, root, focal)[-1]
    second = network(images, points[:, order], normals[:, order], root, focal)[-1]
    torch.testing.assert_close(first.contact[:, order], second.contact, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.elasticity[:, order], second.elasticity, atol=1e-5, rtol=1e-4)


def test_points_beside_the_image_are_known_to_be() -> None:
    network = PiCR(TINY).eval()
    images, points, normals, root, focal = make_inputs(1, 3)
    points = torch.tensor([[[0.0, 0.0, 0.5], [0.3, 0.0, 0.5], [0.0, 0.0, -0.5]]])
    output = network(images, points, normals[:, :3], root, focal)[-1]
    assert output.in_image.tolist() == [[True, False, False]]


def test_features_are_read_where_the_pixel_is() -> None:
    """Feature maps that hold their own coordinates are told back, by the pixel centres of the full image."""
    size, cells = 64, 16
    centres = (torch.arange(cells) + 0.5) * size / cells - 0.5  # px of the image
    features = torch.stack(torch.meshgrid(centres, centres, indexing="xy"))[None]
    pixels = torch.tensor([[[20.0, 31.5], [1.5, 60.0], [33.0, 33.0]]])
    torch.testing.assert_close(sample_features(features, pixels, size), pixels, atol=1e-4, rtol=0)


def test_images_of_another_size_are_refused() -> None:
    images, *others = make_inputs(1, 4, 48)
    with pytest.raises(InputError, match="PiCR"):
        PiCR(TINY).eval()(images, *others)


def test_contact_loss_by_hand() -> None:
    """Two touched of five points, one uncounted: equation 5 with gamma 2 and inverse frequencies."""
    probability = torch.tensor([[0.9, 0.4, 0.2, 0.7, 0.5]])
    contact = torch.tensor([[True, True, False, False, True]])
    counted = torch.tensor([[True, True, True, True, False]])
    touched = -(0.1**2) * math.log(0.9) - 0.6**2 * math.log(0.4)
    free = -(0.2**2) * math.log(0.8) - 0.7**2 * math.log(0.3)
    expected = 0.5 * touched / 2 + 0.5 * free / 2
    assert float(contact_loss(torch.logit(probability), contact, counted)) == pytest.approx(expected, rel=1e-5)


def test_region_and_elasticity_losses_by_hand() -> None:
    logits = torch.zeros(1, 2, 17)
    logits[0, 0, 3] = 2.0
    own = math.exp(2) / (math.exp(2) + 16)
    expected = -((1 - own) ** 2) * math.log(own)
    counted = torch.tensor([[True, False]])
    assert float(region_loss(logits, torch.tensor([[3, 5]]), counted)) == pytest.approx(expected, rel=1e-5)
    springs, true = torch.logit(torch.tensor([[[0.3, 0.5, 0.5, 0.5]]])), torch.tensor([[[0.6, 0.0, 0.0, 0.0]]])
    counted = torch.tensor([[[True, False, False, False]]])
    expected = -(0.6 * math.log(0.3) + 0.4 * math.log(0.7))
    assert float(elasticity_loss(springs, true, counted)) == pytest.approx(expected, rel=1e-5)


def test_the_losses_add_up_over_stacks_and_vanish_without_points() -> None:
    output = PiCROutput(torch.zeros(1, 3), torch.zeros(1, 3, 17), torch.zeros(1, 3, 4), torch.ones(1, 3) > 0)
    labels = ContactLabels(
        torch.tensor([[True, False, False]]), torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, 4),
        torch.ones(1, 3, 4) > 0,
    )  # fmt: skip
    one, two = picr_loss([output], labels), picr_loss([output, output], labels)
    assert float(two["loss"]) == pytest.approx(2 * float(one["loss"]))
    nowhere = PiCROutput(*(output.contact, output.region, output.elasticity), in_image=torch.zeros(1, 3) > 0)
    assert float(picr_loss([nowhere], labels)["loss"]) == 0.0


def test_labels_follow_the_nearest_anchor() -> None:
    """Against a loop over points and anchors."""
    model = load_hand_model("right")
    anchors = HandAnchors.of_model(model)
    positions = anchors.positions(model(HandParams.zeros()).vertices)
    rng = np.random.default_rng(0)
    near = positions[0, rng.integers(32, size=60)].numpy() + rng.normal(0, 0.012, (60, 3))
    points = torch.from_numpy(near[None].astype(np.float32))
    labels = ContactLabels.of_pose(anchors, positions, points)
    for row, point in enumerate(near):
        distance = np.linalg.norm(positions[0].numpy() - point, axis=1)
        best = int(distance.argmin())
        assert bool(labels.contact[0, row]) == bool(distance[best] < 0.02)
        region = int(anchors.region[best])
        assert int(labels.region[0, row]) == region
        own = np.flatnonzero(anchors.region == region)
        assert labels.has_anchor[0, row].sum() == len(own)
        expected = [0.5 + 0.5 * math.cos(math.pi * min(distance[k] / 0.02, 1.0)) for k in own]
        np.testing.assert_allclose(labels.elasticity[0, row, : len(own)], expected, atol=1e-4)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_average_precision_is_the_sum_over_thresholds(pairs: list[tuple[int, bool]]) -> None:
    """Against its definition: at each threshold the precision, weighted by the recall that it adds."""
    score = torch.tensor([float(one) for one, _ in pairs])
    positive = torch.tensor([one for _, one in pairs])
    count = sum(one for _, one in pairs)
    found = average_precision(score, positive)
    if not count:
        assert math.isnan(found)
        return
    total, before = 0.0, 0.0
    for threshold in sorted({one for one, _ in pairs}, reverse=True):
        taken = [right for one, right in pairs if one >= threshold]
        recall = sum(taken) / count
        total += (recall - before) * sum(taken) / len(taken)
        before = recall
    assert found == pytest.approx(total)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_the_best_threshold_has_the_largest_f1(pairs: list[tuple[int, bool]]) -> None:
    """Against trying all of them."""
    values = [(0.05 + 0.1 * one, right) for one, right in pairs]
    total = sum(right for _, right in values)
    threshold, precision, recall = best_threshold(
        torch.tensor([one for one, _ in values]), torch.tensor([right for _, right in values])
    )
    if not total:
        assert (threshold, precision, recall) == (1.0, 0.0, 0.0)
        return

    def scores(least: float) -> tuple[float, float]:
        taken = [right for one, right in values if one > least]
        return sum(taken) / max(len(taken), 1), sum(taken) / total

    def f1(least: float) -> float:
        first, second = scores(least)
        return 2 * first * second / max(first + second, 1e-12)

    assert (precision, recall) == pytest.approx(scores(threshold))
    assert f1(threshold) == pytest.approx(max(f1(0.1 * k) for k in range(10)))
