"""Contact carried between hands of another side, shape and mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.transfer import transfer_contact_map, vertex_transfer
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import FINGERTIP_REGIONS, anchors_of
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import TIP_VERTICES
from grasp_nodes.hand.model import HandModel

RIGHT, LEFT = (load_hand_model(side, OPEN_HAND_FILE, torch.float64) for side in ("right", "left"))


def other_hand():
    """The same hand 20 % longer, its vertices in another order: as another model with MANO's joints would be."""
    arrays = RIGHT.arrays
    order = np.random.default_rng(0).permutation(778)
    back = np.argsort(order)
    # Keypoints take the tips by their ids, which therefore stay.
    for tip in TIP_VERTICES.values():
        place = int(back[tip])
        order[place], order[tip] = order[tip], tip
        back = np.argsort(order)
    longer = np.array([1.2, 1.0, 1.0])
    return (
        HandModel(
            replace(
                arrays,
                v_template=(arrays.v_template * longer)[order],
                shapedirs=arrays.shapedirs[order],
                posedirs=arrays.posedirs[order],
                weights=arrays.weights[order],
                J_regressor=arrays.J_regressor[:, order],
                faces=back[arrays.faces],
            ),
            torch.float64,
        ),
        order,
    )


def test_the_same_hand_and_its_mirror_image_keep_every_value():
    values = np.random.default_rng(1).normal(size=778)
    for target in (RIGHT, LEFT):
        np.testing.assert_allclose(vertex_transfer(RIGHT, target) @ values, values, atol=1e-9)


def test_another_mesh_has_the_values_at_the_same_places():
    model, order = other_hand()
    matrix = vertex_transfer(RIGHT, model)
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1.0)
    # Contact with a plane that touches the finger pads: a smooth field on the hand.
    smooth = 1 / (1 + np.exp((RIGHT.arrays.v_template[:, 1] + 0.005) / 0.003))
    carried = matrix @ smooth
    assert np.abs(carried - smooth[order]).mean() < 0.03
    assert carried.min() >= 0
    assert carried.max() <= 1
    regions = anchors_of(model).vertex_region
    for region in FINGERTIP_REGIONS:
        only = (anchors_of(RIGHT).vertex_region == region).astype(float)
        np.testing.assert_allclose(matrix @ only, regions == region, atol=1e-12)


def test_the_objects_side_of_a_map_stays():
    contact_map = ContactMap(
        object_id="ball",
        points=np.zeros((2, 3), np.float32),
        signed_distance=np.array([0.0, 0.1], np.float32),
        contact=np.array([1.0, 0.0], np.float32),
        hand_signed_distance=np.linspace(-0.01, 0.2, 778).astype(np.float32),
        hand_contact=np.linspace(0, 1, 778).astype(np.float32),
        contact_threshold=0.005,
        region=np.array([5, 16], np.uint8),
        elasticity=np.array([0.9, 0.0], np.float32),
    )
    carried = transfer_contact_map(contact_map, RIGHT, LEFT)
    assert carried.hand_side == "left"
    for name in ("points", "contact", "region", "elasticity", "signed_distance"):
        np.testing.assert_array_equal(getattr(carried, name), getattr(contact_map, name))
    np.testing.assert_allclose(carried.hand_contact, contact_map.hand_contact, atol=1e-6)
    with pytest.raises(InputError, match="right hand with 778 vertices, the source is left"):
        transfer_contact_map(contact_map, LEFT, RIGHT)
