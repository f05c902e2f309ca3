"""Contacts as Gaussians: moments against numpy, factors, and the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.stats import multivariate_normal

from grasp_nodes.contact.choir.gaussians import (
    BORDER,
    LEAST_DEVIATION,
    NUMBERS,
    ContactGaussians,
    ContactSkin,
    decode_contacts,
    encode_contacts,
    skin_contact,
)
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model("right")


@pytest.fixture(scope="module")
def skin(model: HandModel) -> ContactSkin:
    return ContactSkin.of_model(model)


@pytest.fixture(scope="module")
def touched(model: HandModel) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat hand on a table, and one that is 2 mm deeper in it."""
    vertices = model(HandParams.zeros(2)).vertices.detach()
    low = vertices[0, :, 1].min()
    return vertices, skin_contact(torch.stack([vertices[0, :, 1] - low, vertices[1, :, 1] - low - 0.002]))


def test_vertices_belong_to_anchors_of_their_region(skin: ContactSkin, model: HandModel) -> None:
    anchors = skin.anchors
    assert (anchors.region[skin.anchor.numpy()] == anchors.vertex_region).all()
    assert len(np.unique(skin.anchor.numpy())) == 32
    whole = trimesh.Trimesh(model.arrays.v_template, model.arrays.faces, process=False)
    assert float(skin.area.sum()) == pytest.approx(whole.area, rel=1e-5)


def test_moments_are_numpys(skin: ContactSkin, touched: tuple[torch.Tensor, torch.Tensor]) -> None:
    vertices, contact = touched
    found = encode_contacts(skin, vertices, contact)
    assert 2 <= int(found.active[0].sum()) < 32
    places = skin.anchors.positions(vertices)
    for anchor in found.active[1].nonzero()[:, 0].tolist():
        rows = (skin.anchor == anchor).numpy()
        away = (vertices[1, rows] - places[1, anchor]).double().numpy()
        weight = (contact[1, rows] * skin.area[rows]).double().numpy()
        mean = np.average(away, axis=0, weights=weight)
        covariance = np.cov(away.T, aweights=weight, ddof=0) + LEAST_DEVIATION**2 * np.eye(3)
        factor = found.cholesky[1, anchor].double().numpy()
        assert np.allclose(found.mean[1, anchor], mean, atol=1e-6)
        assert np.allclose(factor @ factor.T, covariance, rtol=2e-3, atol=1e-9)


def test_factors_are_lower_and_positive(skin: ContactSkin, touched: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = encode_contacts(skin, *touched)
    assert torch.equal(found.cholesky, found.cholesky.tril())
    assert (found.cholesky.diagonal(dim1=-2, dim2=-1) >= 0.99 * LEAST_DEVIATION).all()
    wild = ContactGaussians.of_numbers(torch.randn(3, 32, NUMBERS, generator=torch.Generator().manual_seed(0)))
    assert (wild.cholesky.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_decoded_contact_is_the_ratio_of_densities(
    skin: ContactSkin, touched: tuple[torch.Tensor, torch.Tensor]
) -> None:
    vertices, contact = touched
    found = encode_contacts(skin, vertices, contact)
    decoded = decode_contacts(skin, found, vertices)
    places = skin.anchors.positions(vertices)
    for vertex in range(0, vertices.shape[1], 37):
        anchor = int(skin.anchor[vertex])
        if not found.active[0, anchor]:
            assert decoded[0, vertex] == 0
            continue
        factor = found.cholesky[0, anchor].double().numpy()
        normal = multivariate_normal(found.mean[0, anchor].double().numpy(), factor @ factor.T)
        away = (vertices[0, vertex] - places[0, anchor]).double().numpy()
        assert float(decoded[0, vertex]) == pytest.approx(normal.pdf(away) / normal.pdf(normal.mean), abs=1e-3)


def test_contact_there_and_back_is_about_the_same(
    skin: ContactSkin, touched: tuple[torch.Tensor, torch.Tensor]
) -> None:
    vertices, contact = touched
    decoded = decode_contacts(skin, encode_contacts(skin, vertices, contact), vertices)
    found, true = decoded > BORDER, contact > 0.3
    hits = (found & true).sum(dim=1)
    f1 = 2 * hits / (found.sum(dim=1) + true.sum(dim=1))
    assert float(f1.min()) > 0.7
    shuffled = contact[:, torch.randperm(contact.shape[1], generator=torch.Generator().manual_seed(1))] > 0.3
    wrong = 2 * (found & shuffled).sum(dim=1) / (found.sum(dim=1) + shuffled.sum(dim=1))
    assert float(wrong.max()) < 0.5


def test_numbers_there_and_back(skin: ContactSkin, touched: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = encode_contacts(skin, *touched)
    numbers = found.numbers()
    again = ContactGaussians.of_numbers(numbers)
    assert numbers.shape == (2, 32, NUMBERS)
    assert torch.equal(again.active, found.active)
    assert torch.allclose(again.mean[found.active], found.mean[found.active], atol=1e-7)
    assert torch.allclose(again.cholesky[found.active], found.cholesky[found.active], atol=1e-7)
    assert (numbers[~found.active][:, 1:] == 0).all()


def test_turning_the_hand_turns_the_gaussians(skin: ContactSkin, touched: tuple[torch.Tensor, torch.Tensor]) -> None:
    vertices, contact = touched
    turn = random_rotations(2, torch.Generator().manual_seed(2))
    direct = encode_contacts(skin, vertices @ turn.mT, contact)
    turned = encode_contacts(skin, vertices, contact).turned(turn)
    both = direct.active & turned.active
    assert torch.equal(direct.active, turned.active)
    assert torch.allclose(direct.mean[both], turned.mean[both], atol=1e-6)
    assert torch.allclose(direct.cholesky[both], turned.cholesky[both], atol=2e-6)


def test_a_hand_without_contact_has_no_active_anchor(skin: ContactSkin, model: HandModel) -> None:
    vertices = model(HandParams.zeros(1)).vertices
    found = encode_contacts(skin, vertices, torch.zeros(1, model.num_vertices))
    assert not found.active.any()
    assert not decode_contacts(skin, found, vertices).any()
    assert found.numbers().isfinite().all()


def test_shapes_are_checked(skin: ContactSkin) -> None:
    with pytest.raises(InputError, match="contacts: expected vertices"):
        encode_contacts(skin, torch.zeros(1, 5, 3), torch.zeros(1, 5))
