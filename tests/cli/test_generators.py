"""Methods by their suffixes: candidates are ranked by what is measured, and measured again after a polish."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.cli import generators
from grasp_nodes.cli.generators import MethodName, make_parts
from grasp_nodes.contact.hand_states import make_grasps, stack_hands
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.evaluation.harness.bounds import RandomHands
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.ranking import GraspScorer


class Boastful:
    """Random hands that claim to be the better, the later they come."""

    def __init__(self, model) -> None:
        self._hands, self._model = RandomHands(model), model

    def generate(self, object_model, count, seed):
        hands = stack_hands(self._hands.generate(object_model, count, seed).grasps)
        grasps = make_grasps(hands, self._model, np.arange(count))
        return GraspSet(object_model.object_id, "boastful", seed, 0.0, grasps)


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(
        generators, "GENERATORS", {"boastful": lambda models: Method("boastful", Boastful(models["right"]))}
    )
    names = [MethodName("boastful"), MethodName("boastful", 4), MethodName("boastful", 4, True)]
    return make_parts(names, [], displacement=False)


def test_methods_are_ranked_by_measurement(parts):
    ball = load_object("sphere:0.035")
    scorer = GraspScorer(parts.hand_models["right"])
    found = {
        name: parts.methods[name].generator.generate(ball, 4, seed=1)
        for name in ("boastful", "boastful+rank4", "boastful+rank4+polish")
    }
    for name, grasps in found.items():
        assert grasps.method == name
        scores = [grasp.score for grasp in grasps.grasps]
        assert scores == sorted(scores, reverse=True)
        # Each score is that of the hand as it is now.
        np.testing.assert_allclose(scores, scorer(stack_hands(grasps.grasps), ball).score, atol=1e-4)
        assert all("penetration_depth" in grasp.metrics for grasp in grasps.grasps)
    raw = parts.methods["boastful"].generator.generate(ball, 16, seed=1).grasps
    best = max(grasp.score for grasp in raw)
    assert found["boastful+rank4"].grasps[0].score == pytest.approx(best)
    means = [np.mean([grasp.score for grasp in one.grasps]) for one in found.values()]
    assert means[0] < means[1] < means[2]
    hands = {name: stack_hands(one.grasps) for name, one in found.items()}
    assert not torch.equal(hands["boastful+rank4"].transl, hands["boastful+rank4+polish"].transl)
