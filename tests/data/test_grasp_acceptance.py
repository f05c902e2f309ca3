"""Hands that must be refused, each at its stage, and the stages of searched hands measured by other means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import open3d as o3d
import pytest
import torch
import trimesh

from grasp_nodes.data.grasp_acceptance import GraspAcceptance
from grasp_nodes.data.grasp_kinds import RECIPES
from grasp_nodes.data.grasp_search import GraspSearch
from grasp_nodes.evaluation.good import is_good
from grasp_nodes.evaluation.self_penetration import SelfPenetration
from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.simulation.pybullet_displacement import simulation_displacement
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, closed_faces
from grasp_nodes.hand.kinds import KINDS
from grasp_nodes.hand.naturalness import is_natural
from grasp_nodes.hand.pads import PALM, contact_patches
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.preshapes import angles as preshape
from grasp_nodes.objects.loading import make_object

MODEL = load_hand_model("right", OPEN_HAND_FILE)
HAND = GraspHand(MODEL)
FACES = closed_faces(MODEL.arrays.faces)
FLAT = HAND.posed(HAND.pose(HandParams.zeros(1)))


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def solid(mesh: trimesh.Trimesh) -> Solid:
    return Solid(np.array(mesh.vertices), np.array(mesh.faces))


def ball(radius=0.03, at=(0.0, 0.0, 0.0)):
    return solid(trimesh.creation.icosphere(subdivisions=3, radius=radius).apply_translation(at))


def flat_hand(**degrees):
    pose = HAND.pose(HandParams.zeros(1))
    return pose.with_angles(pose.angles + torch.from_numpy(HAND.freedom.values(**degrees)).float())


def judged(pose, thing, kind="power"):
    kinds = [kind] * len(pose)
    return GraspAcceptance(HAND, thing)(HAND.params(pose), pose.angles, kinds)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hand_far_away_fails_at_contact(kind):
    pose = flat_hand().with_angles(preshape(kind, torch.tensor([0.3])))
    verdict = judged(pose, ball(at=(0.0, 1.0, 0.0)), kind)
    assert verdict.passed.tolist() == [1]
    assert not verdict.accepted.any()
    assert verdict.metrics["penetration_depth"][0] == 0
    assert verdict.metrics["fingers"][0] == 0
    assert np.isnan(verdict.metrics["self_penetration"][0])
    assert np.isnan(verdict.metrics["hold_displacement"][0])


def test_a_hand_deep_inside_fails_at_shape():
    verdict = judged(flat_hand(), ball(0.05, HAND.pivot.numpy()))
    assert verdict.passed.tolist() == [0]
    assert verdict.metrics["penetration_depth"][0] > 0.02


def test_a_finger_through_a_plate_fails_at_shape_though_it_is_not_deep():
    center = FLAT[1][0, 6:8].mean(dim=0).numpy()  # in the middle of the index finger
    plate = trimesh.creation.box((0.03, 0.003, 0.03))
    through = judged(flat_hand(), solid(plate.copy().apply_translation(center)))
    assert through.metrics["penetration_depth"][0] < 0.0016
    assert through.passed.tolist() == [0]
    passed, depth = GraspAcceptance(HAND, solid(plate.copy().apply_translation(center))).from_the_objects_side(
        HAND.params(flat_hand())
    )
    assert depth[0] > 0.004
    assert not passed.any()
    below = judged(flat_hand(), solid(plate.copy().apply_translation(center - [0, 0.012, 0])))
    assert below.passed.tolist() == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_open_hand_that_rests_its_palm_on_a_box_fails_at_contact(kind):
    skin, size = FLAT[0][0].numpy(), np.array([0.05, 0.05, 0.05])
    center = skin[contact_patches(MODEL)[PALM]].mean(axis=0)
    above = (np.abs(skin - center)[:, [0, 2]] < size[0] / 2).all(axis=1)
    center[1] = skin[above, 1].min() + 0.001 - size[1] / 2
    box = trimesh.creation.box(size).apply_translation(center)
    verdict = judged(flat_hand(), solid(box), kind)
    assert 0 < verdict.metrics["penetration_depth"][0] < 0.003
    assert verdict.passed.tolist() == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_claw_fails_at_shape(kind):
    claw = {f"{finger}_bend_{k}": (-5, 95, 60)[k] for finger in FINGERS[1:] for k in range(3)}
    verdict = judged(flat_hand(**claw), ball(at=(0.0, 1.0, 0.0)), kind)
    assert verdict.passed.tolist() == [0]
    assert verdict.metrics["penetration_depth"][0] == 0


def test_hands_that_are_not_numbers_are_refused():
    pose = flat_hand()
    pose = replace(pose, position=pose.position * torch.nan)
    verdict = judged(pose, ball())
    assert verdict.passed.tolist() == [0]
    assert not verdict.accepted.any()


def test_nothing_is_in_a_hand_that_is_far_away():
    passed, depth = GraspAcceptance(HAND, ball(at=(0.0, 1.0, 0.0))).from_the_objects_side(HAND.params(flat_hand()))
    assert passed.all()
    assert depth[0] == 0


@dataclass
class Searched:
    solid: Solid
    hands: HandParams
    angles: torch.Tensor
    kinds: list
    vertices: np.ndarray
    keypoints: np.ndarray


@pytest.fixture(scope="module")
def searched(own_cache):
    """Refined hands at a box, good and bad, some of them disturbed."""
    mesh = trimesh.creation.box((0.03, 0.045, 0.07))
    model = make_object(np.array(mesh.vertices), np.array(mesh.faces), "box")
    thing = Solid.of(model)
    generator = torch.Generator().manual_seed(3)
    pose, kinds = GraspSearch(HAND, model, thing).candidates(dict.fromkeys(KINDS, 8), generator)
    disturbed = pose.moved(
        pose.angles, 0.05 * torch.randn(len(pose), 3, generator=generator), torch.full((len(pose), 3), 0.001)
    )
    hands, angles = HAND.params(type(pose).joined([pose, disturbed])), torch.cat([pose.angles, disturbed.angles])
    with torch.no_grad():
        posed = MODEL(hands)
    keypoints = posed.keypoints.double().numpy()
    return Searched(thing, hands, angles, kinds * 2, posed.vertices.double().numpy(), keypoints)


@pytest.fixture(scope="module")
def verdict(searched):
    return GraspAcceptance(HAND, searched.solid)(searched.hands, searched.angles, searched.kinds)


@pytest.fixture(scope="module")
def signed(searched):
    """By open3d: (B, V) m."""
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(searched.solid.vertices.astype(np.float32)),
        o3d.core.Tensor(searched.solid.faces.astype(np.uint32)),
    )
    return scene.compute_signed_distance(o3d.core.Tensor(searched.vertices.astype(np.float32))).numpy()


def touching(signed):
    owner = MODEL.arrays.weights.argmax(axis=1)
    rows = [
        np.isin(owner, FINGER_JOINTS[finger][1:] if finger == "thumb" else FINGER_JOINTS[finger]) for finger in FINGERS
    ]
    return np.stack([signed[:, one].min(axis=1) < 0.002 for one in rows], axis=1)


def test_searched_hands_end_at_several_stages(verdict):
    assert set(verdict.passed) >= {0, 1, 4}
    np.testing.assert_array_equal(verdict.accepted, verdict.passed == 4)
    np.testing.assert_array_equal(np.isnan(verdict.metrics["self_penetration"]), verdict.passed < 2)
    np.testing.assert_array_equal(np.isnan(verdict.metrics["hold_displacement"]), verdict.passed < 3)


def test_metrics_are_those_of_others(searched, verdict, signed):
    np.testing.assert_allclose(verdict.metrics["penetration_depth"], np.maximum(-signed.min(axis=1), 0), atol=2e-6)
    sure = ~((np.abs(signed - 0.002) < 1e-5).any(axis=1))
    np.testing.assert_array_equal(verdict.metrics["fingers"][sure], touching(signed)[sure].sum(axis=1))


def test_what_passes_the_shape_is_shallow_and_natural(searched, verdict, signed):
    shaped = verdict.passed >= 1
    assert (-signed[shaped]).max() < 0.003
    assert is_natural(searched.angles, searched.kinds).numpy()[shaped].all()
    deep = -signed.min(axis=1) > 0.0031
    assert deep.any()
    assert (verdict.passed[deep] == 0).all()


def test_what_passes_contact_touches_as_its_kind(searched, verdict, signed):
    right = np.flatnonzero(verdict.passed >= 2)
    fingers = touching(signed)
    for row in right:
        recipe = RECIPES[searched.kinds[row]]
        assert fingers[row, 0]
        assert fingers[row].sum() >= (2 if recipe.kind == "pinch" else 3)
        # The fingertips of those that must touch are there, the palm is not.
        tips = searched.keypoints[row, 4::4]
        outside = np.maximum(np.abs(tips) - np.array([0.03, 0.045, 0.07]) / 2, 0)
        away = np.linalg.norm(outside, axis=1)
        must = [name for name in recipe.required if name.endswith("_pad") and recipe.required[name] >= 1]
        if recipe.placement == "across":
            assert max(away[FINGERS.index(name.removesuffix("_pad"))] for name in must) < 0.02
    assert len(right)


def test_accepted_hands_are_good_by_every_other_measure(searched, verdict, signed):
    accepted = verdict.accepted
    assert accepted.sum() >= 8
    vertices = searched.vertices[accepted]
    assert SelfPenetration(FACES, MODEL.arrays.weights)(vertices).max() < 0.002
    hold = MujocoEngine(searched.solid, FACES).six_direction_hold(vertices)
    assert hold.holds.all()
    np.testing.assert_allclose(verdict.metrics["hold_displacement"][accepted], hold.displacement.max(axis=1), atol=1e-9)
    depth, fingers = np.maximum(-signed.min(axis=1), 0)[accepted], touching(signed)[accepted]
    for row, kind in enumerate(np.array(searched.kinds)[accepted]):
        assert is_good(depth[row : row + 1], fingers[row : row + 1], hold.holds[row : row + 1], kind).all()
    lost = verdict.passed == 3
    if lost.any():
        assert not MujocoEngine(searched.solid, FACES).six_direction_hold(searched.vertices[lost]).holds.any()


def test_accepted_hands_hold_in_pybullet(searched, verdict):
    pytest.importorskip("pybullet")
    moved = simulation_displacement(searched.vertices[verdict.accepted], FACES, searched.solid).displacement
    free = simulation_displacement(searched.vertices[:1] + 1.0, FACES, searched.solid).displacement
    assert free[0] > 0.08
    assert np.median(moved) < 0.01
    assert np.mean(moved < 0.02) > 0.7


def test_hands_are_judged_one_by_one(searched, verdict):
    rows = torch.tensor([5, 0, 17])
    again = GraspAcceptance(HAND, searched.solid)(
        searched.hands[rows], searched.angles[rows], [searched.kinds[row] for row in rows]
    )
    np.testing.assert_array_equal(again.passed, verdict.passed[rows])
    for name, values in again.metrics.items():
        np.testing.assert_allclose(values, verdict.metrics[name][rows], atol=1e-9)


def test_the_kind_decides(searched, verdict):
    """A good pinch is no precision grasp: too few fingers touch."""
    pinches = torch.from_numpy(
        np.flatnonzero(verdict.accepted & (np.array(searched.kinds) == "pinch") & (verdict.metrics["fingers"] == 2))
    )
    assert len(pinches)
    called_otherwise = GraspAcceptance(HAND, searched.solid)(
        searched.hands[pinches], searched.angles[pinches], ["precision"] * len(pinches)
    )
    assert (called_otherwise.passed <= 1).all()
