"""The same grasps with another hand: its joints and its touching skin are where those of the first hand were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import RandomHands
from grasp_nodes.fitting.grasp_refine import GraspPolisher
from grasp_nodes.fitting.hand_transfer import transfer_hands
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel

RADIUS = 0.035


@pytest.fixture(scope="module")
def source() -> HandModel:
    return load_hand_model("right")


@pytest.fixture(scope="module")
def target(source: HandModel) -> HandModel:
    """A hand of MANO's kind, a tenth longer, a little broader still, with blend shapes of its own."""
    own, grown = source.arrays, np.array([1.1, 1.13, 1.16])
    arrays = replace(
        own, v_template=own.v_template * grown, shapedirs=own.shapedirs * grown[:, None], model_id="another_hand"
    )
    return HandModel(arrays)


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_object(f"sphere:{RADIUS}", resolution=40)


@pytest.fixture(scope="module")
def grasps(source: HandModel, ball: ObjectModel) -> HandParams:
    """Some that touch the ball."""
    found = RandomHands(source).generate(ball, 12, 3).grasps
    return GraspPolisher(source)(stack_hands(found), ball)


def test_of_the_same_hand_nothing_moves(source: HandModel, grasps: HandParams) -> None:
    found = transfer_hands(grasps, source, source)
    with torch.no_grad():
        moved = (source(found).vertices - source(grasps).vertices).norm(dim=2)
    assert moved.mean() < 0.0005
    assert moved.max() < 0.004


def test_what_touched_touches_there_again(
    source: HandModel, target: HandModel, grasps: HandParams, ball: ObjectModel
) -> None:
    found = transfer_hands(grasps, source, target, ball)
    with torch.no_grad():
        there, same = source(grasps), target(replace(grasps, betas=torch.zeros_like(grasps.betas)))
        here = target(found)
        places = anchors_of(source).positions(there.vertices)
        missed = (anchors_of(target).positions(here.vertices) - places).norm(dim=2)
        before = (anchors_of(target).positions(same.vertices) - places).norm(dim=2)
    touching = (places.norm(dim=2) - RADIUS).abs() < 0.004
    assert touching.sum() > 5
    assert missed[touching].mean() < 0.006
    assert missed[touching].mean() < 0.6 * before[touching].mean()
    assert (here.keypoints - there.keypoints).norm(dim=2).mean() < 0.008


def test_the_shape_that_is_told_is_kept(source: HandModel, target: HandModel, grasps: HandParams) -> None:
    betas = np.linspace(-1, 1, 10)
    found = transfer_hands(grasps[:2], source, target, betas=betas)
    np.testing.assert_allclose(found.betas, np.tile(betas, (2, 1)), rtol=1e-6)
    with pytest.raises(InputError, match="mirror"):
        transfer_hands(grasps, source, load_hand_model("left"))
