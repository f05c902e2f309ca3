"""The score of grasps: what it measures, what it prefers, and that the best of eight is better than any one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.contact.hand_states import make_grasps, stack_hands
from grasp_nodes.contact.interaction import GraspSet
from grasp_nodes.data.synthetic_grasps import SyntheticGrasps
from grasp_nodes.evaluation.contact_metrics import fingers_in_contact
from grasp_nodes.evaluation.good import GOOD_DEPTH
from grasp_nodes.evaluation.harness.bounds import BestOfMany
from grasp_nodes.evaluation.penetration import finger_of_vertices, hand_signed_distance, penetration_depth
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_refine import GraspPolisher
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.ranking import GraspScorer, ScoredGenerator, ScoreWeights, score_grasps

SPHERE = "sphere:0.035"


@pytest.fixture(scope="module")
def model():
    return load_hand_model("right")


@pytest.fixture(scope="module")
def sphere():
    return load_object(SPHERE)


@pytest.fixture(scope="module")
def found(model, sphere) -> HandParams:
    """Tested grasps of the sphere."""
    grasps = SyntheticGrasps(model).generate(sphere, 6, seed=0).grasps
    parts = [grasp.hand.params for grasp in grasps]
    names = ("global_orient", "hand_pose", "betas", "transl", "scale")
    return HandParams(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def disturbed(hands: HandParams, model, count: int, seed: int) -> HandParams:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, len(hands), (count,), generator=generator)
    matrix = torch.as_tensor(DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model)).matrix, dtype=torch.float32)
    pose = hands.hand_pose[rows] + 0.05 * torch.randn(count, len(matrix), generator=generator) @ matrix
    shift = 0.0015 * torch.randn(count, 3, generator=generator)
    return replace(hands[rows], hand_pose=pose, transl=hands.transl[rows] + shift)


class DisturbedGrasps:
    """A generator of mediocre grasps."""

    def __init__(self, hands: HandParams, model) -> None:
        self._hands, self._model = hands, model

    def generate(self, object_model, count, seed):
        hands = disturbed(self._hands, self._model, count, seed)
        return GraspSet(object_model.object_id, "toy", seed, 0.0, make_grasps(hands, self._model))


def test_metrics_are_the_judges(model, sphere, found):
    hands = disturbed(found, model, 30, 1)
    scores = GraspScorer(model)(hands, sphere)
    with torch.no_grad():
        vertices = model(hands).vertices.numpy().astype(np.float64)
    signed = hand_signed_distance(vertices, Solid.of(sphere))
    # The judge measures to the mesh, the score in a grid of distances between its nodes.
    np.testing.assert_allclose(scores.metrics["penetration_depth"], penetration_depth(signed), atol=3e-4)
    touching = fingers_in_contact(signed, finger_of_vertices(model.arrays.weights)).sum(axis=1)
    differ = scores.metrics["fingers"] != touching
    assert differ.mean() < 0.15
    near_the_border = np.abs(signed - 0.002).min(axis=1) < 3e-4
    assert near_the_border[differ].all()


def test_contacts_that_cancel_push_less_than_those_of_one_side(model, sphere, found):
    scores = GraspScorer(model)(found, sphere)
    assert scores.metrics["push"].max() < 0.8
    # The same hands far from the object touch nothing, and nothing pushes back.
    away = GraspScorer(model)(replace(found, transl=found.transl + 1.0), sphere)
    np.testing.assert_array_equal(away.metrics["push"], 1.0)
    np.testing.assert_array_equal(away.metrics["fingers"], 0.0)
    assert away.score.max() < scores.score.min()
    # A flat hand that rests on the sphere's top is pushed one way only.
    flat = HandParams.zeros(1)
    with torch.no_grad():
        keypoints = model(flat).keypoints[0]
        palm = 0.5 * (keypoints[0] + keypoints[9])
        height = model(flat).vertices[0, :, 1].min()
    resting = replace(
        flat, transl=(torch.stack([palm[0] * 0, 0.035 - height, palm[2] * 0]) - palm * torch.tensor([1.0, 0, 1]))[None]
    )
    pushed = GraspScorer(model)(resting, sphere).metrics["push"]
    assert pushed[0] > 0.9


def test_deeper_is_worse(model, sphere, found):
    scorer = GraspScorer(model)
    with torch.no_grad():
        towards = -torch.nn.functional.normalize(model(found).keypoints[:, 9], dim=1)
    pushed = [scorer(replace(found, transl=found.transl + step * towards), sphere) for step in (0.0, 0.006, 0.012)]
    depths = np.stack([one.metrics["penetration_depth"] for one in pushed])
    assert (np.diff(depths, axis=0) > 0).all()
    assert (np.diff([one.score.mean() for one in pushed]) < 0).all()


def test_hands_do_not_depend_on_their_company(model, sphere, found):
    scorer, hands = GraspScorer(model), disturbed(found, model, 20, 2)
    together = scorer(hands, sphere).score
    alone = np.concatenate([scorer(hands[k : k + 1], sphere).score for k in range(20)])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert scorer(hands[:0], sphere).score.shape == (0,)


def test_a_hand_with_nan_is_the_last(model, sphere, found):
    hands = replace(found, transl=found.transl.clone())
    hands.transl[2, 0] = float("nan")
    scorers = {"right": GraspScorer(model)}
    order = score_grasps(make_grasps(hands, model), sphere, scorers)
    assert order[-1].score == -np.inf
    assert np.isfinite([grasp.score for grasp in order[:-1]]).all()


def test_scored_generator_keeps_the_hands_and_orders_them(model, sphere, found):
    generator = DisturbedGrasps(found, model)
    scored = ScoredGenerator(generator, {"right": GraspScorer(model)}).generate(sphere, 12, seed=3)
    scores = [grasp.score for grasp in scored.grasps]
    assert scores == sorted(scores, reverse=True)
    given = {tuple(grasp.hand.params.transl[0].tolist()) for grasp in generator.generate(sphere, 12, 3).grasps}
    assert given == {tuple(grasp.hand.params.transl[0].tolist()) for grasp in scored.grasps}
    assert {"penetration_depth", "fingers", "push", "unnaturalness"} <= set(scored.grasps[0].metrics)


def test_the_best_of_eight_is_better_and_its_polish_better_still(model, sphere, found):
    scorer, solid = GraspScorer(model), Solid.of(sphere)
    generator = DisturbedGrasps(found, model)

    def judged(hands):
        with torch.no_grad():
            vertices = model(hands).vertices.numpy().astype(np.float64)
        signed = hand_signed_distance(vertices, solid)
        fingers = fingers_in_contact(signed, finger_of_vertices(model.arrays.weights)).sum(axis=1)
        return penetration_depth(signed), fingers

    raw = generator.generate(sphere, 10, seed=4).grasps
    best = BestOfMany(ScoredGenerator(generator, {"right": scorer}), 8).generate(sphere, 10, seed=4)
    assert len(best.grasps) == 10
    assert best.method == "toy+rank8"
    depths, fingers = zip(*(judged(stack_hands(one)) for one in (raw, best.grasps)), strict=True)
    assert np.mean(depths[1]) < np.mean(depths[0])
    assert np.mean(fingers[1]) > np.mean(fingers[0])
    assert (depths[1] < 0.005).mean() > (depths[0] < 0.005).mean()
    polished = GraspPolisher(model)(stack_hands(best.grasps), sphere)
    depth, touching = judged(polished)
    assert np.mean(depth) < np.mean(depths[1])
    assert np.mean(touching) >= np.mean(fingers[1]) - 0.2
    assert scorer(polished, sphere).score.mean() > np.mean([grasp.score for grasp in best.grasps])


def test_a_thin_wall_through_the_fingers_is_deep_in_the_hand(model):
    """No vertex is deep in a plate of 2 mm; the score is not deceived."""
    plate = load_object("box:0.002,0.2,0.2", resolution=96)
    flat = model(HandParams.zeros(1))
    middle = 0.5 * (flat.keypoints[0, 9] + flat.keypoints[0, 10])
    through = replace(HandParams.zeros(2), transl=torch.stack([-middle, -middle + torch.tensor([0.5, 0.0, 0.0])]))
    scores = GraspScorer(model)(through, plate)
    assert scores.metrics["penetration_depth"][0] < 0.003
    assert scores.metrics["object_depth"][0] > GOOD_DEPTH
    assert scores.metrics["object_depth"][1] == 0.0
    weights = ScoreWeights(missing=0.0, idle=0.0, push=0.0, unnatural=0.0)
    of_depth = GraspScorer(model, weights)(through, plate).score
    assert of_depth[0] < -3.0
    assert of_depth[1] == 0.0
