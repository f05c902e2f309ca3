"""Spheres along the bones are inside the hand, and a wall through a finger is found by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.evaluation.penetration import hand_signed_distance, object_depth_in_hand, penetration_depth
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.core import CORE_SIZE, HandCore
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object


@pytest.mark.parametrize("side", ["right", "left"])
def test_spheres_are_inside_bent_hands_of_any_shape(side):
    model = load_hand_model(side)
    core, generator = HandCore.of_model(model), torch.Generator().manual_seed(0)
    freedom = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model))
    low, high = torch.from_numpy(freedom.low).float(), torch.from_numpy(freedom.high).float()
    angles = 0.5 * (low + (high - low) * torch.rand(6, len(low), generator=generator))
    hands = replace(
        HandParams.zeros(6, side),
        hand_pose=angles @ torch.from_numpy(freedom.matrix).float(),
        betas=0.8 * torch.randn(6, 10, generator=generator),
        global_orient=torch.randn(6, 3, generator=generator),
        transl=torch.randn(6, 3, generator=generator),
    )
    posed = model(hands)
    centers, radii = core.spheres(posed.keypoints)
    assert centers.shape == (6, CORE_SIZE, 3)
    assert 0.003 < float(radii.min()) < float(radii.max()) < 0.02
    faces = closed_faces(model.faces.numpy())
    for vertices, those, radius in zip(posed.vertices, centers, radii, strict=True):
        skin, _, _ = MeshDistance(vertices.double().numpy(), faces).signed(those.double().numpy())
        assert (skin < 0).all()
        # Bending thins a joint's inner side: between joints little of the radius is lost.
        assert (-skin > 0.6 * radius.numpy()).mean() > 0.97


def test_a_wall_through_a_finger_is_found():
    """A plate of 3 mm goes through the index finger: no vertex is deep in it, but it is deep in the hand."""
    model = load_hand_model("right")
    plate = load_object("box:0.003,0.2,0.2", resolution=96)
    flat = model(HandParams.zeros(1))
    middle = 0.5 * (flat.keypoints[0, 5] + flat.keypoints[0, 6])
    along = torch.nn.functional.normalize(flat.keypoints[0, 6] - flat.keypoints[0, 5], dim=0)
    assert abs(float(along[0])) > 0.8  # the fingers point along x, across the plate
    hands = replace(HandParams.zeros(1), transl=-middle[None])
    posed, solid = model(hands), Solid.of(plate)
    centers, radii = HandCore.of_model(model).spheres(posed.keypoints)
    depth = float((radii - plate.signed_distance(centers)).max())
    vertices = posed.vertices.double().numpy()
    true = object_depth_in_hand(vertices, closed_faces(model.faces.numpy()), solid)[0]
    assert penetration_depth(hand_signed_distance(vertices, solid))[0] < 0.003
    assert true > 0.006
    # What the spheres tell is never more than there is, but for half a wall: outside is counted from the surface.
    assert 0.7 * true < depth < true + 0.002
    away = model(replace(hands, transl=hands.transl + torch.tensor([0.5, 0.0, 0.0])))
    centers, radii = HandCore.of_model(model).spheres(away.keypoints)
    assert float((radii - plate.signed_distance(centers)).max()) < 0
    np.testing.assert_allclose(radii[0], HandCore.of_model(model).radii, rtol=1e-4)
