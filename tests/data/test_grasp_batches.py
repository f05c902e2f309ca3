"""Grasps as training batches: whatever is turned and shifted, the hand stays where it is at the object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open3d
import pytest
import torch
import trimesh

from grasp_nodes.data.grasp_batches import GraspBatches, split_by_object
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.data.object_surfaces import sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.steps import Step
from grasp_nodes.objects.registry import family_mesh

COUNT = 40


def transform(seed: int) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = random_rotations(1, torch.Generator().manual_seed(seed), torch.float64)[0].numpy()
    result[:3, 3] = np.random.default_rng(seed).normal(0, 0.1, 3)
    return result


@pytest.fixture(scope="module")
def model():
    return load_hand_model("right")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def grasps(model):
    generator = torch.Generator().manual_seed(0)
    names = ["box:0", "box:1", "box:2", "mug:0", "mug:1", "sphere:0"]
    objects = [
        GraspedObject(name, f"family:{name}", transform=transform(k), category=name.partition(":")[0])
        for k, name in enumerate(names)
    ]
    hands = HandParams(
        torch.randn(COUNT, 3, generator=generator),
        0.3 * torch.randn(COUNT, 45, generator=generator),
        torch.randn(COUNT, 10, generator=generator),
        0.1 * torch.randn(COUNT, 3, generator=generator),
        torch.ones(COUNT),
    )
    index = np.random.default_rng(0).integers(0, len(objects), COUNT)
    empty = np.full(COUNT, "")
    return LabelledGrasps(
        "toy", hands, model.model_id, model.fingerprint, objects, index, np.full(COUNT, -1), empty, empty,
        np.zeros(COUNT, np.int64),
    )  # fmt: skip


@pytest.fixture
def surfaces(grasps, cache):
    return sample_surfaces(grasps.objects, 300)


def test_points_lie_on_the_objects_where_the_grasps_are(grasps, surfaces):
    for k, one in enumerate(grasps.objects):
        vertices, faces = family_mesh(one.name)
        scene = open3d.t.geometry.RaycastingScene()
        placed = trimesh.transform_points(vertices, one.transform).astype(np.float32)
        scene.add_triangles(open3d.core.Tensor(placed), open3d.core.Tensor(faces.astype(np.uint32)))
        nearest = scene.compute_closest_points(open3d.core.Tensor(surfaces.points[k]))
        assert np.abs(nearest["points"].numpy() - surfaces.points[k]).max() < 1e-6
        agree = (nearest["primitive_normals"].numpy() * surfaces.normals[k]).sum(axis=1)
        assert np.median(agree) == pytest.approx(1, abs=1e-4)  # a point on an edge belongs to either face
        np.testing.assert_allclose(surfaces.centers[k], surfaces.points[k].mean(axis=0), atol=1e-6)


def test_surfaces_are_kept_and_made_again(grasps, cache, surfaces):
    told = []
    again = sample_surfaces(grasps.objects, 300, progress=lambda *at: told.append(at))
    np.testing.assert_array_equal(again.points, surfaces.points)
    assert told == []
    (path,) = (cache / "surfaces").iterdir()
    path.write_bytes(b"damaged")
    again = sample_surfaces(grasps.objects, 300, progress=lambda *at: told.append(at))
    np.testing.assert_array_equal(again.points, surfaces.points)
    assert told[-1] == (6, 6)
    assert not np.array_equal(sample_surfaces(grasps.objects, 300, seed=1).points, surfaces.points)


def test_surfaces_of_files(tmp_path, cache):
    mesh = trimesh.creation.box((10.0, 20.0, 30.0))
    mesh.invert()
    path = tmp_path / "box.stl"
    mesh.export(path)
    found = sample_surfaces([GraspedObject("box", str(path), scale=0.01)], 500)
    half = np.array([0.05, 0.1, 0.15])
    assert np.abs(np.abs(found.points[0]) / half).max() == pytest.approx(1, abs=1e-5)
    assert ((found.points[0] * found.normals[0]).sum(axis=1) > 0).all()  # outward, though the file's faces are not
    with pytest.raises(InputError, match="1 objects have no mesh"):
        sample_surfaces([GraspedObject("thing")], 5)


@pytest.mark.parametrize("turned", [True, False])
def test_hand_and_object_move_together(grasps, surfaces, model, turned):
    coder = HandCoder(model)
    coder = GraspBatches(grasps, surfaces, coder, 100).fitted(np.arange(COUNT))
    batch = GraspBatches(grasps, surfaces, coder, 100, turned).of_rows(np.arange(COUNT), Step(5))
    found = model(coder.decode(batch["code"], batch["betas"])).vertices
    # The pose's part that 21 angles cannot say is not in the code: compare with the hands without it.
    hands = coder.decode(coder.encode(grasps.hands), grasps.hands.betas)
    expected = (model(hands).vertices - batch["center"][:, None]) @ batch["turn"].mT
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    is_turned = (batch["turn"] - torch.eye(3)).abs().amax() > 0.1
    assert bool(is_turned) == turned


def test_points_are_those_of_the_turned_object(grasps, surfaces, model):
    batch = GraspBatches(grasps, surfaces, HandCoder(model), 100).of_rows(np.arange(COUNT), Step(2))
    for k in range(0, COUNT, 7):
        back = batch["points"][k] @ batch["turn"][k] + batch["center"][k]
        mine = torch.from_numpy(surfaces.points[grasps.object_index[k]])
        distance, nearest = torch.cdist(back.double(), mine.double()).min(dim=1)
        assert float(distance.max()) < 1e-6
        assert len(nearest.unique()) == 100
        normals = torch.from_numpy(surfaces.normals[grasps.object_index[k]])[nearest]
        torch.testing.assert_close(batch["normals"][k] @ batch["turn"][k], normals, atol=1e-5, rtol=0)
    assert float(batch["points"].mean(dim=1).norm(dim=1).max()) < 0.05


def test_batches_follow_the_step(grasps, surfaces, model):
    batches, rows = GraspBatches(grasps, surfaces, HandCoder(model), 100), np.arange(10)
    first, again, other = (batches.of_rows(rows, step) for step in (Step(1), Step(1), Step(2)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["turn"], other["turn"])
    assert not torch.equal(first["points"], other["points"])
    everything = batches.of_rows(rows, Step(1))["points"].shape
    assert everything == (10, 100, 3)


def test_all_points_occur(grasps, surfaces, model):
    batches = GraspBatches(grasps, surfaces, HandCoder(model), 100, turned=False)
    seen = [batches.of_rows(np.zeros(1, np.int64), Step(n))["points"][0] for n in range(40)]
    assert len(torch.cat(seen).unique(dim=0)) == 300


def test_split_keeps_objects_apart(grasps):
    split = split_by_object(grasps, 0.34, seed=1, leave_out=["sphere"])
    parts = [set(grasps.object_index[rows]) for rows in vars(split).values()]
    assert not parts[0] & parts[1]
    assert parts[2] == {5}
    rows = np.concatenate(list(vars(split).values()))
    assert sorted(rows) == list(range(COUNT))
    families = [{grasps.objects[k].category for k in part} for part in parts[:2]]
    assert families == [{"box", "mug"}] * 2
    assert len(parts[1]) == 2
    assert len(split_by_object(grasps, 0.0).validation) == 0


def test_what_cannot_be(grasps, surfaces, model):
    with pytest.raises(InputError, match="families to leave out: cup do not occur; there are box, mug, sphere"):
        split_by_object(grasps, leave_out=["cup"])
    with pytest.raises(InputError, match="share of validation"):
        split_by_object(grasps, 1.0)
    with pytest.raises(InputError, match="points: expected 1 to 300"):
        GraspBatches(grasps, surfaces, HandCoder(model), 301)
    with pytest.raises(InputError, match="surfaces of 6"):
        GraspBatches(replace(grasps, objects=[*grasps.objects, grasps.objects[0]]), surfaces, HandCoder(model), 10)
    with pytest.raises(InputError, match="another hand model"):
        GraspBatches(replace(grasps, hand_fingerprint="ff" * 32), surfaces, HandCoder(model), 10)
