"""GrabNet: its sizes, its losses by hand, that it undoes a disturbance, that it samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.object_encoders import BasisPoints
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.grabnet.basis_table import DISTANCES, BasisTable
from grasp_nodes.synthesis.grabnet.coarse import PAPER_COARSE, PAPER_LAYOUT, SMALL_LAYOUT, CoarseConfig, CoarseNet
from grasp_nodes.synthesis.grabnet.generator import GrabNetNetwork, load_grabnet
from grasp_nodes.synthesis.grabnet.losses import (
    GrabNetLoss,
    GrabNetWeights,
    distance_to,
    edge_vectors,
    point_weights,
    signed_to_hand,
)
from grasp_nodes.synthesis.grabnet.refine import PAPER_REFINE, RefineConfig, RefineNet
from grasp_nodes.synthesis.grabnet.training import disturbed, train_coarse, train_refine
from grasp_nodes.synthesis.grasp_data import GraspData
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.posed_vectors import PosedVectors
from grasp_nodes.synthesis.trained_parts import save_part
from grasp_nodes.synthesis.vector_generator import VectorGenerator

COARSE = CoarseConfig(64, 0.15, 32, 4, 3, 64)
REFINE = RefineConfig(64, 3, 3, 0.0, points=64)
SETTINGS = {"warmup": 5, "average": None, "log_every": 5, "device": "cpu", "evaluate_every": 0}


@pytest.fixture(scope="module")
def data(toy_grasps, right, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return GraspData.of_grasps(toy_grasps, right, SMALL_LAYOUT, 64, turned=False, validation=0.0)


def linear(*widths):
    return sum((widths[k] + 1) * widths[k + 1] for k in range(len(widths) - 1))


def block(inputs, outputs):
    around = linear(inputs, outputs) if inputs != outputs else 0
    return linear(inputs, outputs, outputs) + 4 * outputs + around


def test_the_papers_sizes_run(right):
    coder = HandCoder(right, PAPER_LAYOUT)
    assert coder.size == 16 * 6 + 3
    coarse, refine = CoarseNet(PAPER_COARSE, 99), RefineNet(PAPER_REFINE, 99)
    counts = [sum(one.numel() for one in network.parameters()) for network in (coarse, refine)]
    told, read = 4096 + 16, 4096 + 9
    expected = 2 * 4096 + block(read, 512) + block(512 + read, 512) + 2 * linear(512, 16)
    expected += block(told, 512) + block(512 + told, 512) + linear(512, 99)
    assert counts[0] == expected
    assert counts[1] == 2 * 778 + block(778 + 99, 512) + 2 * block(512, 512) + linear(512, 99)
    posed = PosedVectors(coder)
    vectors, points = 0.1 * torch.randn(3, 99), 0.05 * torch.randn(3, 500, 3)
    distances = BasisPoints(4096)(points)
    mean, log_variance = coarse.encode(distances, vectors)
    assert mean.shape == log_variance.shape == (3, 16)
    told_hands = coarse.decode(distances, mean)
    found = refine(told_hands, points, posed)
    terms = GrabNetLoss(posed, GrabNetWeights())(posed(found), posed(vectors), points)
    (terms["loss"] + log_variance.square().mean()).backward()
    for network in (coarse, refine):
        assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in network.parameters())


def test_losses_by_hand(right):
    ball = trimesh.creation.icosphere(4, 0.03)
    vertices = torch.from_numpy(np.asarray(ball.vertices)).float()[None]
    faces = torch.from_numpy(np.asarray(ball.faces, np.int64))
    thing = torch.tensor([[[0.0, 0, 0.02], [0, 0, 0.05], [0, 0.03, 0]]])
    signed = signed_to_hand(thing, vertices, faces)[0]
    assert signed[:2].tolist() == pytest.approx([-0.01, 0.02], abs=2e-4)
    expected = cKDTree(np.asarray(ball.vertices)).query(thing[0].numpy())[0]
    np.testing.assert_allclose(signed.abs(), expected, atol=1e-6)
    np.testing.assert_allclose(distance_to(thing, vertices)[0], expected, atol=1e-6)
    weights = point_weights(torch.tensor([-0.001, 0.03, 0.03]), torch.tensor([0.05, 0.005, 0.05]))
    assert weights.tolist() == pytest.approx([1.5, 1.0, 0.1])
    edges = torch.tensor([[0, 1]])
    assert edge_vectors(thing, edges)[0, 0].tolist() == pytest.approx([0, 0, 0.03])
    coder = HandCoder(right, SMALL_LAYOUT)
    posed = PosedVectors(coder)
    hand = posed(coder.encode(HandParams.zeros()))
    moved = hand + torch.tensor([0.01, 0.0, 0.0])
    weights = GrabNetWeights(vertices=2.0, edges=3.0, hand_to_object=5.0, object_to_hand=7.0)
    terms = {
        name: float(value) for name, value in GrabNetLoss(posed, weights)(moved, hand, hand[:, ::9] + 0.02).items()
    }
    assert terms["vertices"] == pytest.approx(0.01 / 3, rel=1e-4)
    assert terms["edges"] == pytest.approx(0.0, abs=1e-7)
    parts = [2 * terms["vertices"], 3 * terms["edges"], 5 * terms["hand_to_object"], 7 * terms["object_to_hand"]]
    assert terms["loss"] == pytest.approx(sum(parts))
    assert 0 < terms["hand_to_object"] <= 0.01


def test_the_table_is_that_of_turned_objects(data):
    table = BasisTable.of(data.batches.object_points, BasisPoints(64), 3, seed=5)
    plain = data.batches.of_rows(np.arange(6), data.validation_step)
    batch = table.turned(plain, torch.tensor([0, 1, 2, 2, 1, 0]), data.coder)
    turn = batch["turn"]
    torch.testing.assert_close(batch["points"], plain["points"] @ turn.mT)
    torch.testing.assert_close(batch["code"][0], plain["code"][0], atol=1e-5, rtol=0)
    posed = PosedVectors(data.coder)
    torch.testing.assert_close(posed(batch["code"]), posed(plain["code"]) @ turn.mT, atol=1e-5, rtol=0)
    whole = data.batches.object_points[plain["object"]] @ turn.mT
    torch.testing.assert_close(batch[DISTANCES], BasisPoints(64)(whole), atol=1e-4, rtol=0)
    assert not torch.allclose(batch[DISTANCES][1], BasisPoints(64)(data.batches.object_points[plain["object"]])[1])


def test_a_table_of_principal_frames_has_the_longest_axis_first():
    cloud = torch.randn(1, 300, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 0.06, 0.03])
    table = BasisTable.of(cloud, BasisPoints(64), 8, principal=True)
    torch.testing.assert_close(torch.linalg.det(table.turns), torch.ones(1, 8))
    for k, turn in enumerate(table.turns[0]):
        spread = (cloud[0] @ turn.T).std(dim=0)
        assert spread[0] > spread[1] > spread[2]
        torch.testing.assert_close(table.distances[0, k].float(), BasisPoints(64)(cloud @ turn.T)[0], atol=1e-4, rtol=0)
    # Four half turns, each twice, about axes of other points.
    apart = (table.turns[0, :4] - table.turns[0, 4:]).abs().amax(dim=(1, 2))
    assert 0.0 < apart.min() <= apart.max() < 0.5


def test_a_disturbance_has_the_size_it_is_given(data):
    batch = data.batches.of_rows(np.arange(16), data.validation_step)
    code, coder = batch["code"].repeat(30, 1), data.coder
    betas = batch["betas"].repeat(30, 1)
    moved = RefineConfig(moved=0.02, rotated=0.0, bent=0.0)
    found = coder.parts_of(disturbed(code, betas, coder, moved, torch.Generator().manual_seed(0)))
    off = found.position - coder.parts_of(code).position
    assert float(off.std()) == pytest.approx(0.02, rel=0.1)
    still = RefineConfig(moved=0.0, rotated=0.0, bent=0.0)
    posed = PosedVectors(coder)
    same = disturbed(code, betas, coder, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(posed(same), posed(code), atol=1e-5, rtol=0)


def test_refinement_undoes_a_part_of_a_disturbance(data, tmp_path):
    settings = TrainingSettings(steps=100, rate=3e-3, **SETTINGS)
    trained = train_refine(REFINE, data, GrabNetWeights(), settings, RunOptions(8, tmp_path))
    last = trained.rows[-4:]
    after, before = (sum(row[name] for row in last) for name in ("vertices", "vertices_before"))
    assert after < 0.88 * before
    assert trained.rows[0]["vertices"] == pytest.approx(trained.rows[0]["vertices_before"], rel=0.2)


def test_hands_are_learnt_and_sampled(data, right, tmp_path):
    settings = TrainingSettings(steps=150, rate=5e-3, **SETTINGS)
    trained = train_coarse(COARSE, data, GrabNetWeights(), settings, RunOptions(16, tmp_path / "run"))
    rows = [row["vertices"] for row in trained.rows]
    assert sum(rows[-3:]) < 0.6 * sum(rows[:3])
    save_part(tmp_path / "grabnet.safetensors", "grabnet", trained.network.state_dict(), COARSE, data.coder)
    generator = load_grabnet(right, folder=tmp_path)
    ball = load_object("sphere:0.03", resolution=32)
    first, again, other = (generator.generate(ball, 3, seed).grasps for seed in (1, 1, 2))
    assert torch.equal(first[0].hand.params.transl, again[0].hand.params.transl)
    assert not torch.allclose(first[0].hand.params.transl, other[0].hand.params.transl)
    refine = RefineNet(REFINE, data.coder.size).eval()
    network = GrabNetNetwork(trained.network.eval(), refine, PosedVectors(data.coder))
    refined = VectorGenerator("grabnet-refine", network, data.coder).generate(ball, 3, 1).grasps
    torch.testing.assert_close(refined[0].hand.params.transl, first[0].hand.params.transl, atol=1e-3, rtol=0)
    save_part(
        tmp_path / "grabnet-refine.safetensors",
        "grabnet-refine",
        refine.state_dict(),
        REFINE,
        HandCoder(right, SMALL_LAYOUT),
    )
    with pytest.raises(InputError, match="vectors are not those of"):
        load_grabnet(right, refined=True, folder=tmp_path)


def test_grasps_that_are_turned_already_are_refused(toy_grasps, right, tmp_path, own_cache):
    turned = GraspData.of_grasps(toy_grasps, right, SMALL_LAYOUT, 16, turned=True, validation=0.0)
    with pytest.raises(InputError, match="not turned at random"):
        train_coarse(COARSE, turned, GrabNetWeights(), TrainingSettings(steps=1), RunOptions(4, tmp_path))
