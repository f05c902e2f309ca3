"""``grasp-nodes grasp``: the files it writes can be read by whoever reads grasps, and say what is true of them."""

import json

import cv2
import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.data.grasp_files import read_grasps
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.clouds.files import holds_cloud, read_cloud
from grasp_nodes.objects.loading import load_mesh


def run(*arguments):
    return CliRunner().invoke(app, ["grasp", *map(str, arguments)], catch_exceptions=True)


def test_files_agree_with_each_other_and_with_the_hand(tmp_path):
    found = run("sphere:0.04", "-n", 4, "--method", "random", "--refine", "polish", "-o", tmp_path, "--json")
    assert found.exit_code == 0, found.output
    report = json.loads((tmp_path / "grasps.json").read_text())
    assert json.loads(found.output.splitlines()[-1])["mean"] == report["mean"]
    assert (report["method"], report["n"], report["format_version"]) == ("random+polish", 4, 1)
    grasps = read_grasps(tmp_path / "grasps.npz", expect_fingerprint=load_hand_model().fingerprint)
    assert len(grasps) == 4
    assert grasps.objects[0].mesh == "sphere:0.04"
    vertices = load_hand_model()(grasps.hands).vertices.detach().numpy()
    depth = np.maximum(0.04 - np.linalg.norm(vertices, axis=2).min(axis=1), 0)
    told = [one["penetration_depth"] for one in report["grasps"]]
    np.testing.assert_allclose(told, depth, atol=2e-4)
    np.testing.assert_allclose(grasps.metrics["penetration_depth"], told, rtol=1e-4, atol=1e-6)
    assert {"penetration_volume", "contact", "fingers_in_contact", "six_direction_hold", "good"} <= report[
        "mean"
    ].keys()
    sheet = cv2.imread(str(tmp_path / "grasps.png"))
    assert sheet.shape[1] > sheet.shape[0]
    assert sheet.std() > 10


def test_cloud_becomes_a_mesh_that_the_grasps_name(tmp_path):
    points = trimesh.sample.sample_surface(trimesh.creation.icosphere(3, 0.035), 5000, seed=0)[0] + [0.1, 0, 0.6]
    np.save(tmp_path / "ball.npy", points.astype(np.float32))
    found = run(tmp_path / "ball.npy", "-n", 2, "--method", "random", "-o", tmp_path / "out", "--no-judge")
    assert found.exit_code == 0, found.output
    assert "seen from all sides" in found.output
    grasps = read_grasps(tmp_path / "out" / "grasps.npz")
    vertices, _, _ = load_mesh(grasps.objects[0].mesh)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 0.035, atol=0.003)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sphere:0.04", "--method", "magic"), "fastgrasp-flow"),
        (("sphere:0.04", "--refine", "hard"), "none, geo, polish"),
        (("sphere:0.04", "--approach", "up"), "three numbers"),
        (("sphere:0.04", "--device", "tpu"), "auto, cpu or cuda"),
        (("sphere:0.2", "--method", "random"), "a hand holds at most"),
        (("nothing.obj", "--method", "random"), "there is no such mesh file"),
    ],
)
def test_bad_requests_say_what_was_expected(tmp_path, arguments, said):
    found = run(*arguments, "-o", tmp_path / "out")
    assert isinstance(found.exception, GraspNodesError)
    assert said in str(found.exception)
    assert not (tmp_path / "out" / "grasps.npz").exists()


LINE = np.linspace([0, 0, 0.5], [0.1, 0.05, 0.5], 500)
BALL = trimesh.sample.sample_surface(trimesh.creation.icosphere(3, 0.04), 3000, seed=0)[0] + [0, 0, 0.6]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (np.zeros((0, 3)), "at least 100 points"),
        (LINE, "on a line"),
        (BALL * [1, 1, 0] + [0, 0, 0.5], "in a plane"),
        (1000 * BALL, "millimetres"),
        ((BALL - [0, 0, 0.6]) * 4 + [0, 0, 0.9], "a hand holds at most"),
    ],
)
def test_clouds_that_hold_no_object_say_why(tmp_path, points, said):
    np.save(tmp_path / "cloud.npy", points)
    found = run(tmp_path / "cloud.npy", "--method", "random", "-o", tmp_path / "out")
    assert isinstance(found.exception, GraspNodesError)
    assert said in str(found.exception)
    assert not (tmp_path / "out" / "grasps.npz").exists()


@pytest.mark.parametrize("count", ["0", "10001", "many"])
def test_counts_that_cannot_be_are_bad_usage(tmp_path, count):
    found = run("sphere:0.04", "-n", count, "--method", "random", "-o", tmp_path / "out")
    assert found.exit_code == 2
    assert "-n" in found.output


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    (tmp_path / "fastgrasp-flow.safetensors").write_bytes(b"no weights at all")
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path))
    found = run("sphere:0.04", "--method", "fastgrasp-flow", "-o", tmp_path / "out")
    assert isinstance(found.exception, GraspNodesError)
    assert str(tmp_path / "fastgrasp-flow.safetensors") in str(found.exception)


def test_files_of_points_are_told_from_meshes(tmp_path):
    points = np.random.default_rng(0).random((200, 3))
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    trimesh.creation.box().export(tmp_path / "box.ply")
    np.savetxt(tmp_path / "cloud.xyz", np.column_stack([points, np.ones(200)]))
    np.save(tmp_path / "organised.npy", points.reshape(10, 20, 3))
    assert not holds_cloud(tmp_path / "box.ply")
    for name in ("cloud.ply", "cloud.xyz", "organised.npy"):
        assert holds_cloud(tmp_path / name)
        np.testing.assert_allclose(read_cloud(tmp_path / name), points, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not numpy", np.array(["a", "b"]), np.zeros((4, 2))])
def test_damaged_files_of_points_are_refused(tmp_path, content):
    path = tmp_path / "cloud.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(GraspNodesError, match=r"cloud\.npy"):
        read_cloud(path)
