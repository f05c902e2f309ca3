"""Any count of grasps out of small chunks, and what the suffixes ask of a generator."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.contact.hand_states import make_grasps, stack_hands
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.harness.bounds import RandomHands
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis import registry
from grasp_nodes.synthesis.chunks import ChunkedGenerator
from grasp_nodes.synthesis.ranking import GraspScorer
from grasp_nodes.synthesis.suffixes import MethodName, compose, parse_method


class Asked:
    """Random hands whose scores are their seed's; remembers what it was asked for."""

    def __init__(self, model) -> None:
        self._model, self._hands, self.asked = model, RandomHands(model), []

    def generate(self, object_model, count, seed):
        self.asked.append((count, seed))
        hands = stack_hands(self._hands.generate(object_model, count, seed).grasps)
        scores = np.random.default_rng(seed).normal(size=count)
        return GraspSet(
            object_model.object_id, "asked", seed, 0.0, make_grasps(hands, self._model, np.sort(scores)[::-1])
        )


@pytest.fixture(scope="module")
def models():
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


@pytest.fixture(scope="module")
def ball():
    return load_object("sphere:0.035", resolution=32)


def test_chunks_are_asked_for_one_after_the_other(models, ball):
    generator = Asked(models["right"])
    found = ChunkedGenerator(generator, 4).generate(ball, 11, seed=5)
    assert [count for count, _ in generator.asked] == [4, 4, 3]
    seeds = [seed for _, seed in generator.asked]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
    assert (len(found.grasps), found.seed, found.method) == (11, 5, "asked")
    scores = [grasp.score for grasp in found.grasps]
    assert scores == sorted(scores, reverse=True)
    places = {tuple(grasp.hand.params.transl[0].tolist()) for grasp in found.grasps}
    assert len(places) == 11  # no chunk repeats another


def test_one_chunk_is_the_generators_own_answer(models, ball):
    whole = Asked(models["right"]).generate(ball, 4, 5)
    chunked = ChunkedGenerator(Asked(models["right"]), 4).generate(ball, 4, 5)
    for one, other in zip(whole.grasps, chunked.grasps, strict=True):
        assert one.score == other.score
        np.testing.assert_array_equal(one.hand.keypoints, other.hand.keypoints)


def test_many_candidates_stay_in_bounds(models, ball):
    generator = Asked(models["right"])
    method = compose(parse_method("asked+rank8"), Method("asked", generator), models)
    assert method.generator is not None
    found = method.generator.generate(ball, 300, seed=0)
    assert len(found.grasps) == 300
    assert max(count for count, _ in generator.asked) <= 8 * 128
    assert sum(count for count, _ in generator.asked) == 8 * 300


def test_the_best_of_eight_are_better(models, ball):
    means = {}
    for name in ("asked", "asked+rank8"):
        generator = compose(parse_method(name), Method("asked", Asked(models["right"])), models).generator
        hands = stack_hands(generator.generate(ball, 24, seed=1).grasps)
        means[name] = GraspScorer(models["right"])(hands, ball).score.mean()
    assert means["asked+rank8"] > means["asked"] + 0.5


@pytest.mark.parametrize("count", [0, -3, 10**7])
def test_counts_that_are_none(models, ball, count):
    with pytest.raises(InputError, match="expected 1 to 1000000"):
        ChunkedGenerator(Asked(models["right"])).generate(ball, count, 0)


def test_an_unknown_method_lists_the_known_ones(models):
    with pytest.raises(InputError, match=r"'nothing'.*fastgrasp-flow.*geo-generation"):
        registry.make_method("nothing+rank8", models)
    with pytest.raises(InputError, match="at most 1024"):
        parse_method("fastgrasp-flow+rank5000")
    assert parse_method("fastgrasp-flow+rank8+geo") == MethodName("fastgrasp-flow", 8, geo=True)
