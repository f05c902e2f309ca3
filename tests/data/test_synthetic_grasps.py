"""Sets of synthetic grasps: the same again, balanced, exact in float16, and as good as they say."""

from __future__ import annotations

import numpy as np
import open3d as o3d
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.data.labelled_grasps import KINDS
from grasp_nodes.data.synthetic_grasps import (
    SynthesisSettings,
    SyntheticGrasps,
    Tally,
    find_grasps,
    open_grasp_hand,
    synthesize_grasps,
    turned_object,
)
from grasp_nodes.evaluation.contact_metrics import fingers_in_contact
from grasp_nodes.evaluation.good import is_good
from grasp_nodes.evaluation.penetration import finger_of_vertices
from grasp_nodes.evaluation.self_penetration import SelfPenetration
from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.files import MODEL_VARIABLE, OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.objects.loading import load_object, make_object
from grasp_nodes.objects.registry import ObjectName, family_mesh

BOX, MUG = ObjectName("box", 3), ObjectName("mug", 2)
COUNT = 12
ARRAYS = ("global_orient", "hand_pose", "betas", "transl", "scale")


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    open_grasp_hand.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv(MODEL_VARIABLE, raising=False)
        yield


@pytest.fixture(scope="module")
def sets(own_cache):
    return {name: synthesize_grasps(name, COUNT, seed=5) for name in (BOX, MUG)}


def vertices_of(grasps):
    with torch.no_grad():
        return load_hand_model("right", OPEN_HAND_FILE)(grasps.hands).vertices.numpy().astype(np.float64)


def object_in_grasp_frame(grasps):
    """Mesh (V, 3), (F, 3) by the name and the transform that the set itself gives."""
    (one,) = grasps.objects
    plain = load_object(one.mesh, scale=one.scale)
    return plain.vertices @ one.transform[:3, :3].T + one.transform[:3, 3], plain.faces


@pytest.mark.parametrize("name", [BOX, MUG], ids=str)
class TestSet:
    def test_holds_what_was_asked_for(self, sets, name):
        grasps = sets[name]
        # Walls are thin: some hands of a mug fail the last test, which looks for the object in the hand.
        assert len(grasps) == COUNT if name == BOX else COUNT / 2 <= len(grasps) <= COUNT
        assert [one.name for one in grasps.objects] == [str(name)]
        assert grasps.objects[0].category == name.family
        assert grasps.hands.side == "right"
        hand = load_hand_model("right", OPEN_HAND_FILE)
        assert grasps.hand_fingerprint == hand.fingerprint
        assert grasps.attributes["seed"] == "5"

    def test_object_is_turned_rigidly(self, sets, name):
        transform = sets[name].objects[0].transform
        np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(transform) == pytest.approx(1)
        assert np.abs(transform - np.eye(4)).max() > 0.1

    def test_parameters_are_exact_in_float16(self, sets, name):
        for field in ARRAYS:
            values = getattr(sets[name].hands, field)
            assert values.dtype == torch.float32
            assert torch.equal(values, values.to(torch.float16).to(torch.float32))

    def test_kinds_are_balanced_and_in_turn(self, sets, name):
        kind = sets[name].kind
        assert np.bincount(kind).max() <= np.ceil(COUNT / len(KINDS))
        if name == BOX:
            for length in (len(KINDS), COUNT):
                counts = np.bincount(kind[:length], minlength=len(KINDS))
                assert counts.max() - counts.min() <= 1
        accepted = [int(sets[name].attributes[f"accepted_{one}"]) for one in KINDS]
        tried = [int(sets[name].attributes[f"tried_{one}"]) for one in KINDS]
        assert (np.bincount(kind, minlength=len(KINDS)) <= accepted).all()
        assert (np.array(accepted) <= tried).all()

    def test_every_grasp_is_good_where_the_file_says_the_object_is(self, sets, name):
        """Posed and measured anew, with open3d's distances to the mesh of the registry."""
        grasps = sets[name]
        hands, (mesh, faces) = vertices_of(grasps), object_in_grasp_frame(grasps)
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(o3d.core.Tensor(mesh.astype(np.float32)), o3d.core.Tensor(faces.astype(np.uint32)))
        signed = scene.compute_signed_distance(o3d.core.Tensor(hands.astype(np.float32))).numpy()
        depth = np.maximum(-signed.min(axis=1), 0)
        assert depth.max() < 0.003
        model = load_hand_model("right", OPEN_HAND_FILE)
        fingers = fingers_in_contact(signed, finger_of_vertices(model.arrays.weights))
        closed = closed_faces(model.arrays.faces)
        hold = MujocoEngine(Solid(mesh, faces), closed).six_direction_hold(hands)
        for row, kind in enumerate(grasps.kind):
            assert is_good(depth[row : row + 1], fingers[row : row + 1], hold.holds[row : row + 1], KINDS[kind]).all()
        metrics = grasps.metrics
        np.testing.assert_allclose(metrics["penetration_depth"], depth, atol=2e-6)
        np.testing.assert_array_equal(metrics["fingers"], fingers.sum(axis=1))
        again = SelfPenetration(closed, model.arrays.weights)(hands)
        np.testing.assert_allclose(metrics["self_penetration"], again, atol=1e-6)
        assert again.max() < 0.002
        np.testing.assert_allclose(metrics["hold_displacement"], hold.displacement.max(axis=1), atol=2e-3)

    def test_the_object_is_nowhere_deep_in_the_hand(self, sets, name):
        mesh = trimesh.Trimesh(*object_in_grasp_frame(sets[name]), process=False)
        points = np.asarray(trimesh.sample.sample_surface(mesh, 50_000, seed=0)[0], np.float32)
        closed = closed_faces(load_hand_model("right", OPEN_HAND_FILE).arrays.faces).astype(np.uint32)
        for one, measured in zip(vertices_of(sets[name]), sets[name].metrics["object_depth"], strict=True):
            scene = o3d.t.geometry.RaycastingScene()
            scene.add_triangles(o3d.core.Tensor(one.astype(np.float32)), o3d.core.Tensor(closed))
            deepest = -scene.compute_signed_distance(o3d.core.Tensor(points)).numpy().min()
            assert measured < 0.004
            # The measure asks fewer points of the surface: a narrow fold of skin may lie between two of them.
            assert measured - 2e-4 < deepest < measured + 0.0015

    def test_hands_differ(self, sets, name):
        hands = vertices_of(sets[name])
        apart = np.linalg.norm(hands[:, None] - hands[None], axis=3).mean(axis=2)
        assert (apart + np.eye(len(hands))).min() > 0.002
        assert sets[name].hands.betas.std() > 0.3


def test_the_same_arguments_give_the_same_arrays(sets):
    again, other = synthesize_grasps(BOX, COUNT, 5), synthesize_grasps(BOX, 4, 6)
    first = sets[BOX]
    for field in ARRAYS:
        assert torch.equal(getattr(again.hands, field), getattr(first.hands, field))
    np.testing.assert_array_equal(again.kind, first.kind)
    np.testing.assert_array_equal(again.objects[0].transform, first.objects[0].transform)
    for name, values in first.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], values)
    assert again.attributes == first.attributes
    assert not np.allclose(other.objects[0].transform, first.objects[0].transform)
    assert torch.cdist(other.hands.transl, first.hands.transl).min() > 1e-4


def test_names_of_one_seed_are_turned_differently(sets):
    assert not np.allclose(sets[BOX].objects[0].transform, sets[MUG].objects[0].transform)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_are_never_more_than_wanted(count):
    grasps = synthesize_grasps(BOX, count, 0)
    assert len(grasps) == count
    assert len(set(grasps.kind)) == count


def test_few_rounds_give_what_was_found():
    grasps = synthesize_grasps(BOX, 40, 0, SynthesisSettings(refined=10, rounds=1))
    assert 0 < len(grasps) <= 15
    assert sum(int(grasps.attributes[f"tried_{kind}"]) for kind in KINDS) <= 15


def test_the_turned_object_is_the_registrys():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    model = turned_object(MUG, turn)
    vertices, faces = family_mesh(MUG)
    turned = trimesh.Trimesh(vertices @ turn.T, faces, process=False)
    assert cKDTree(turned.vertices).query(model.vertices)[0].max() < 1e-6
    assert len(model.vertices) == len(vertices)
    assert model.mesh_resource == f"family:{MUG}"
    # Thin walls: the middle of the wall is inside by nearly half its thickness.
    points = model.points - 0.001 * model.normals
    truth = trimesh.proximity.signed_distance(turned, points[:200])
    found = model.signed_distance(torch.from_numpy(points[:200])).numpy()
    assert np.abs(found + truth).max() < 0.001


def test_a_tally_guesses_before_it_knows():
    assert Tally().share == 0.5
    assert Tally(98, 48).share == pytest.approx(0.49)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_generator_gives_labelled_grasps_in_the_objects_frame(side):
    mesh = trimesh.creation.box((0.03, 0.045, 0.07)).apply_translation([0.1, 0.2, -0.3])
    model = make_object(np.array(mesh.vertices), np.array(mesh.faces), "crate")
    hand = load_hand_model(side, OPEN_HAND_FILE)
    found = SyntheticGrasps(hand).generate(model, 5, 1)
    assert (found.object_id, found.method, found.seed) == ("crate", "synthetic", 1)
    assert found.duration > 0
    kinds = [grasp.kind for grasp in found.grasps]
    assert len(set(kinds)) == len(kinds) >= 3  # of five, less what the last test refused
    assert set(kinds) <= set(KINDS)
    hands = stack_hands(found.grasps)
    assert hands.side == side
    with torch.no_grad():
        vertices = hand(hands).vertices.numpy().astype(np.float64)
    outside = np.maximum(np.abs(vertices - [0.1, 0.2, -0.3]) - np.array([0.03, 0.045, 0.07]) / 2, 0)
    assert np.linalg.norm(outside, axis=2).min(axis=1).max() < 0.002
    hold = MujocoEngine(Solid.of(model), closed_faces(hand.arrays.faces)).six_direction_hold(vertices)
    assert hold.holds.all()


def test_kinds_that_do_not_fit_leave_their_part_to_the_others():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.04)
    model = make_object(np.array(mesh.vertices), np.array(mesh.faces), "ball")
    found = find_grasps(open_grasp_hand(), model, 8, torch.Generator().manual_seed(0))
    assert 5 <= len(found.kinds) <= 8
    assert set(found.kinds) == {"power", "precision"}
    assert found.tally["power"].accepted + found.tally["precision"].accepted >= 8
    for kind in ("tripod", "pinch", "lateral"):
        assert found.tally[kind].accepted == 0
        assert found.tally[kind].tried >= SynthesisSettings().patience


def test_nothing_fits_an_object_that_is_too_large():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.2)
    model = make_object(np.array(mesh.vertices), np.array(mesh.faces), "pumpkin")
    settings = SynthesisSettings(patience=8, refined=10)
    found = SyntheticGrasps(load_hand_model("right", OPEN_HAND_FILE), settings).generate(model, 4, 0)
    assert found.grasps == []
