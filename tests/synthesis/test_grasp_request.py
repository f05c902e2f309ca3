"""Requests for grasps: what comes back suits what was asked, whoever makes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.bounds import RandomHands
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.geometry.rotations import matrix_to_axis_angle, random_rotations
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.chunks import CHUNK
from grasp_nodes.synthesis.grasp_request import GraspRequest, propose, reach_direction, shifted
from grasp_nodes.synthesis.named_methods import AUTO, make_named_method, method_names
from grasp_nodes.synthesis.registry import GENERATORS
from grasp_nodes.synthesis.suffixes import compose, parse_method


@pytest.fixture(scope="module")
def models():
    return {side: load_hand_model(side) for side in ("right", "left")}


@pytest.fixture(scope="module")
def ball():
    return load_object("sphere:0.04", resolution=32)


class Broken:
    """Every other of its hands has NaN."""

    def __init__(self, model):
        self.model = model

    def generate(self, object_model, count, seed):
        turns = random_rotations(count, torch.Generator().manual_seed(seed), dtype=torch.float32)
        hands = replace(HandParams.zeros(count), global_orient=matrix_to_axis_angle(turns))
        hands.transl[::2] = torch.nan
        grasps = make_grasps(hands, self.model, np.arange(count))
        return GraspSet(object_model.object_id, "broken", seed, 0.0, grasps)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_as_many_as_are_asked_for_best_first(models, ball, count):
    found = propose(make_named_method("random", models).generator, ball, GraspRequest(count, 3, contact_maps=2), models)
    assert len(found.grasps) == count
    scores = [one.score for one in found.grasps]
    assert scores == sorted(scores, reverse=True)
    assert sum(one.contact_map is not None for one in found.grasps) == min(count, 2)


def test_hands_with_nan_are_left_out(models, ball):
    found = propose(Broken(models["right"]), ball, GraspRequest(10, contact_maps=0), models)
    assert len(found.grasps) == 5
    assert all(np.isfinite(one.hand.keypoints).all() for one in found.grasps)


@pytest.mark.parametrize("direction", [(0, 0, -2.0), (1.0, 1.0, 0)])
def test_hands_reach_in_the_direction_asked_for(models, ball, direction):
    request = GraspRequest(6, 1, approach=np.array(direction), approach_angle=0.6, contact_maps=0)
    found = propose(RandomHands(models["right"]), ball, request, models)
    assert len(found.grasps) == 6
    unit = np.array(direction) / np.linalg.norm(direction)
    for one in found.grasps:
        assert reach_direction(one.hand.keypoints) @ unit > np.cos(0.6)


def test_a_fingertip_touches_in_the_region_asked_for(models):
    rod = load_object("capsule:0.02,0.2", resolution=48)
    extent = np.array([0.2, 0.2, 0.06])
    request = GraspRequest(4, region_center=np.array([0, 0, 0.09]), region_extent=extent, contact_maps=0)
    found = propose(make_named_method("random+polish", models).generator, rod, request, models)
    everywhere = propose(make_named_method("random+polish", models).generator, rod, GraspRequest(4), models)

    def highest(grasp):
        tips = grasp.hand.keypoints[[4, 8, 12, 16, 20]]
        near = np.abs(np.linalg.norm(tips - [0, 0, 1] * np.clip(tips, -0.1, 0.1), axis=1) - 0.02) < 0.015
        return (near & (np.abs(tips[:, 2] - 0.09) < 0.045)).any()

    assert found.grasps
    assert all(highest(one) for one in found.grasps)
    assert not all(highest(one) for one in everywhere.grasps)


def test_no_hand_reaches_into_the_table(models, ball):
    table = (np.array([0, 0, 1.0]), -0.04)
    found = propose(RandomHands(models["right"]), ball, GraspRequest(8, 2, table=table, contact_maps=0), models)
    free = propose(RandomHands(models["right"]), ball, GraspRequest(8, 2, contact_maps=0), models)
    assert len(found.grasps) == 8
    assert all(one.hand.keypoints[:, 2].min() >= -0.04 for one in found.grasps)
    assert any(one.hand.keypoints[:, 2].min() < -0.04 for one in free.grasps)


def test_shifted_grasps_are_the_same_hands_elsewhere(models, ball):
    offset = np.array([0.3, -0.2, 0.9])
    found = propose(RandomHands(models["right"]), ball, GraspRequest(3, contact_maps=1), models)
    for before, after in zip(found.grasps, shifted(found.grasps, offset), strict=True):
        with torch.no_grad():
            here, there = (models["right"](one.hand.params) for one in (before, after))
        np.testing.assert_allclose(there.vertices - here.vertices, np.tile(offset, (1, 778, 1)), atol=1e-6)
        np.testing.assert_allclose(after.hand.keypoints, there.keypoints[0], atol=1e-6)
        np.testing.assert_allclose(after.hand.joint_poses[:, :3] - before.hand.joint_poses[:, :3], [offset] * 16)
        np.testing.assert_array_equal(after.hand.joint_poses[:, 3:], before.hand.joint_poses[:, 3:])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"count": -1}, "0 to 10000"),
        ({"count": 10_001}, "got 10001"),
        ({"count": 1, "seed": -1}, "seed"),
        ({"count": 1, "approach": np.zeros(3)}, "direction"),
        ({"count": 1, "approach": np.full(3, np.nan)}, "direction"),
        ({"count": 1, "approach_angle": 4.0}, "pi rad"),
    ],
)
def test_requests_that_cannot_be_are_refused(fields, said):
    with pytest.raises(InputError, match=said):
        GraspRequest(**fields)


def test_unknown_method_lists_all_that_there_are(models):
    with pytest.raises(InputError) as caught:
        make_named_method("magic", models)
    assert all(name in str(caught.value) for name in method_names())
    assert set(GENERATORS) < set(method_names())


def test_without_weights_the_search_takes_over_and_says_so(models, monkeypatch, tmp_path, caplog):
    from grasp_nodes.synthesis import named_methods

    def missing(*_):
        raise MissingFileError("no weights: train them with ...")

    monkeypatch.setattr(named_methods, "make_base", missing)
    assert make_named_method(AUTO, models).name == "synthetic"
    assert "train them with" in caplog.text
    with pytest.raises(MissingFileError, match="train them with"):
        make_named_method("fastgrasp-flow", models)


def test_the_best_are_chosen_among_those_that_suit(models, ball):
    """Where few suit, few are refused after ranking: as many come, out of fewer hands that are made."""

    class Counted(RandomHands):
        made = 0

        def generate(self, object_model, count, seed):
            self.made += count
            return super().generate(object_model, count, seed)

    hands = Counted(models["right"])
    generator = compose(parse_method("counted+rank4"), Method("counted", hands), models).generator
    table = (np.array([0, 0, 1.0]), -0.04)
    suiting = propose(RandomHands(models["right"]), ball, GraspRequest(200, 5, contact_maps=0), models).grasps
    share = np.mean([one.hand.keypoints[:, 2].min() >= -0.04 for one in suiting])
    assert 0.05 < share < 0.6
    found = propose(generator, ball, GraspRequest(8, 2, table=table, contact_maps=0), models)
    assert len(found.grasps) == 8
    assert all(one.hand.keypoints[:, 2].min() >= -0.04 for one in found.grasps)
    assert all("fingers" in one.metrics for one in found.grasps)
    assert hands.made < 4 * 8 / share


def test_what_cannot_be_is_not_tried_for_ever(models, ball):
    class Counted(RandomHands):
        made = 0

        def generate(self, object_model, count, seed):
            self.made += count
            assert count <= CHUNK
            return super().generate(object_model, count, seed)

    hands = Counted(models["right"])
    nowhere = (np.array([0, 0, 1.0]), 5.0)
    assert not propose(hands, ball, GraspRequest(20, table=nowhere), models).grasps
    assert 100 < hands.made <= 240
