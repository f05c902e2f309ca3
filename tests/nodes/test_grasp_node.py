"""grasp_node: clouds, meshes and requests in, grasps, contact and markers out; what cannot be grasped is told."""

import threading
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
import trimesh
from geometry_msgs.msg import Vector3
from grasp_msgs.msg import ContactMap, GraspArray
from grasp_msgs.srv import GenerateGrasps
from sensor_msgs.msg import PointCloud2, PointField
from visualization_msgs.msg import Marker, MarkerArray

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import read_weights, save_weights
from grasp_nodes.nodes.conversions.clouds import to_cloud
from grasp_nodes.nodes.conversions.fields import from_time, set_array, to_header
from grasp_nodes.nodes.conversions.grasps import from_grasp_array
from grasp_nodes.nodes.grasp_node import GraspProposalNode
from grasp_nodes.nodes.node_base import LATCHED
from grasp_nodes.synthesis.flow.network import FlowConfig, FlowNetwork
from grasp_nodes.synthesis.flow.trained import save_flow
from grasp_nodes.synthesis.grasp_request import reach_direction

CLOUD, GRASPS, SERVICE, NODE = "object_cloud", "grasps", "generate_grasps", "grasp_node"
START, STEP = 5_000_000_000, 100_000_000
MIDDLE = np.array([0.05, -0.03, 0.6])
RADIUS = 0.035


def ball(radius=RADIUS, count=6000):
    return trimesh.sample.sample_surface(trimesh.creation.icosphere(3, radius), count, seed=0)[0] + MIDDLE


def shuffled_cloud(points, stamp=START):
    """An organised big-endian cloud of doubles, its fields in another order, with padding and NaN."""
    order = np.dtype(
        {
            "names": ["z", "i", "x", "y"],
            "formats": [">f8", ">u2", ">f8", ">f8"],
            "offsets": [0, 8, 12, 20],
            "itemsize": 32,
        }
    )
    rows = np.zeros(2 * len(points), order)
    for k, name in enumerate("xyz"):
        rows[name] = np.nan
        rows[name][: len(points)] = points[:, k]
    width = len(points)
    message = PointCloud2(header=to_header(stamp, "camera"), height=2, width=width, is_bigendian=True, point_step=32)
    message.fields = [
        PointField(name=name, offset=offset, datatype=kind, count=1)
        for name, offset, kind in (
            ("z", 0, PointField.FLOAT64),
            ("i", 8, PointField.UINT16),
            ("x", 12, PointField.FLOAT64),
            ("y", 20, PointField.FLOAT64),
        )
    ]
    message.row_step = 32 * width + 8
    data = np.zeros((2, message.row_step), np.uint8)
    data[:, : 32 * width] = rows.view(np.uint8).reshape(2, -1)
    set_array(message, "data", data.reshape(-1))
    return message


def vertices_of(grasps):
    model = load_hand_model()
    with torch.no_grad():
        return [model(one.hand.params.to(dtype=model.dtype)).vertices[0].numpy() for one in grasps]


@pytest.fixture
def start(bench):
    def make(**parameters):
        options = {"input_reliability": "reliable", "method": "random", "count": 4, **parameters}
        node = bench.start(GraspProposalNode, **options)
        bench.wait(lambda: node._worker.ready or node.finished.is_set(), "the node")
        return node

    return make


def test_grasps_of_a_cloud_lie_about_it_in_its_frame(bench, start):
    start(method="random+polish", max_contact_maps=2)
    got, maps = bench.collect(GraspArray, GRASPS), bench.collect(ContactMap, "contact_map")
    markers = bench.collect(MarkerArray, "markers")
    bench.publish(shuffled_cloud(ball()), CLOUD)
    bench.wait(lambda: got and len(maps) == 2 and markers, "grasps")
    message = got[0]
    assert (from_time(message.header.stamp), message.header.frame_id) == (START, "camera")
    assert message.method == "random+polish"
    found = from_grasp_array(message)
    assert len(found.grasps) == 4
    scores = [one.score for one in found.grasps]
    assert scores == sorted(scores, reverse=True)
    assert {"penetration_depth", "fingers"} <= found.grasps[0].metrics.keys()
    assert [one.contact_map is not None for one in found.grasps] == [True, True, False, False]
    for one, vertices in zip(found.grasps, vertices_of(found.grasps), strict=True):
        distance = np.linalg.norm(vertices - MIDDLE, axis=1) - RADIUS
        assert distance.min() < 0.06
        if one.contact_map is not None:
            near = distance < 0.015
            np.testing.assert_allclose(one.contact_map.hand_signed_distance[near], distance[near], atol=0.003)
            np.testing.assert_allclose(np.linalg.norm(one.contact_map.points - MIDDLE, axis=1), RADIUS, atol=0.004)
    shown = {marker.ns: marker for marker in markers[0].markers if marker.action == Marker.ADD}
    places = np.array([[point.x, point.y, point.z] for point in shown["objects"].points])
    np.testing.assert_allclose(np.linalg.norm(places - MIDDLE, axis=1), RADIUS, atol=0.004)
    assert shown["hands"].header.frame_id == "camera"
    assert "seen from all sides" in bench.values(NODE)["object"]


def test_service_answers_for_a_mesh_with_seed_and_method(bench, start):
    start()
    ask = {"mesh_resource": "sphere:0.04", "method": "random", "count": 3}
    first = bench.call(GenerateGrasps, SERVICE, seed=5, **ask)
    assert first.success, first.message
    assert len(first.grasps.grasps) == 3
    assert (first.grasps.seed, first.grasps.mesh_resource) == (5, "sphere:0.04")
    assert first.grasps.header.frame_id == "object_sphere"
    again, other = (bench.call(GenerateGrasps, SERVICE, seed=seed, **ask) for seed in (5, 6))
    np.testing.assert_array_equal(again.grasps.grasps[0].hand.hand_pose, first.grasps.grasps[0].hand.hand_pose)
    assert not np.array_equal(other.grasps.grasps[0].hand.hand_pose, first.grasps.grasps[0].hand.hand_pose)


@pytest.mark.parametrize("method", ["jhod", "jhod+rank2"])
def test_without_an_object_one_is_imagined(bench, start, ball_dreams, method):
    """Grasps of one object that a file shows; the same seed gives both again, and the file can be asked about."""
    start()
    markers = bench.collect(MarkerArray, "markers")
    ask = {"method": method, "count": 3}
    first = bench.call(GenerateGrasps, SERVICE, seed=5, **ask)
    assert first.success, first.message
    assert "imagined" in first.message
    found = first.grasps
    assert (found.object_id, found.header.frame_id) == ("imagined-5", "object_imagined_5")
    assert (found.method, found.seed, len(found.grasps)) == (method, 5, 3)
    assert from_time(found.header.stamp) > START
    assert {one.hand.header.frame_id for one in found.grasps} == {"object_imagined_5"}
    surface = trimesh.load(found.mesh_resource)
    assert surface.is_watertight
    np.testing.assert_allclose(np.linalg.norm(surface.vertices, axis=1), ball_dreams, atol=0.004)
    parsed = from_grasp_array(found).grasps
    scores = [one.score for one in parsed]
    assert scores == sorted(scores, reverse=True)
    for one, vertices in zip(parsed, vertices_of(parsed), strict=True):
        distance = np.linalg.norm(vertices, axis=1) - ball_dreams
        near = np.abs(distance) < 0.03
        np.testing.assert_allclose(one.contact_map.hand_signed_distance[near], distance[near], atol=0.005)
    bench.wait(lambda: markers, "markers")
    assert "imagined-5" in bench.values(NODE)["object"]
    again = bench.call(GenerateGrasps, SERVICE, seed=5, **ask).grasps
    assert again.mesh_resource == found.mesh_resource
    for one, other in zip(found.grasps, again.grasps, strict=True):
        np.testing.assert_array_equal(one.hand.hand_pose, other.hand.hand_pose)
    other = bench.call(GenerateGrasps, SERVICE, seed=6, **ask).grasps
    assert not np.array_equal(other.grasps[0].hand.hand_pose, found.grasps[0].hand.hand_pose)
    more = bench.call(GenerateGrasps, SERVICE, mesh_resource=found.mesh_resource, count=2)
    assert more.success, more.message


def test_an_object_that_came_is_not_replaced_by_an_imagined_one(bench, start, ball_dreams):
    """Neither one on the topic, nor a cloud in which nothing was found."""
    start(answer_clouds=False)
    empty = to_cloud(np.zeros((0, 3)), START, "camera")
    answer = bench.call(GenerateGrasps, SERVICE, method="jhod", cloud=empty)
    assert not answer.success
    assert "expected a mesh_resource or a cloud" in answer.message
    bench.publish(to_cloud(ball(), START, "camera"), CLOUD)
    bench.wait(lambda: int(bench.values(NODE).get(f"in {CLOUD} total", 0)) == 1, "the cloud")
    answer = bench.call(GenerateGrasps, SERVICE, method="jhod", count=2)
    assert answer.success, answer.message
    assert answer.grasps.header.frame_id == "camera"
    assert not answer.grasps.mesh_resource


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"count": 10_001}, "0 to 10000 grasps, got 10001"),
        ({"seed": 2**63}, "less than 2^63"),
        ({"method": "jhod+rank8", "hand": True}, "was trained with the hand model of fingerprint"),
        ({"method": "jhod+rank2000"}, "at most 1024"),
        ({"method": "random"}, "expected a mesh_resource or a cloud"),
    ],
)
def test_what_cannot_be_imagined(bench, start, ball_dreams, tmp_path, fields, said):
    if fields.pop("hand", False):
        path = tmp_path / "w" / "jhod.safetensors"
        weights = read_weights(path)
        card = replace(weights.card, hand_fingerprint=another_hand().fingerprint)
        save_weights(path, weights.tensors, card)
    start()
    answer = bench.call(GenerateGrasps, SERVICE, **{"method": "jhod", **fields})
    assert not answer.success
    assert said in answer.message
    assert not (tmp_path / "cache" / "imagined").exists()


def test_nothing_is_imagined_without_weights_and_nothing_without_a_surface(bench, start, ball_dreams, monkeypatch):
    def flat(points, first):
        raise InputError("all in a plane")

    start()
    with monkeypatch.context() as patch:
        patch.setattr("grasp_nodes.synthesis.jhod.imagination.closed_surface", flat)
        answer = bench.call(GenerateGrasps, SERVICE, method="jhod")
    assert not answer.success
    assert "none of 8 imagined objects has a closed surface" in answer.message
    monkeypatch.setattr("grasp_nodes.learning.weights.shipped_hashes", dict)
    monkeypatch.delenv("GRASP_NODES_WEIGHTS")
    answer = bench.call(GenerateGrasps, SERVICE, method="jhod-unguided")
    assert not answer.success
    assert "grasp-nodes train jhod" in answer.message


def test_last_cloud_is_used_and_the_approach_is_kept(bench, start):
    start(answer_clouds=False)
    bench.publish(to_cloud(ball(), START, "camera"), CLOUD)
    bench.wait(lambda: int(bench.values(NODE).get(f"in {CLOUD} total", 0)) == 1, "the cloud")
    answer = bench.call(GenerateGrasps, SERVICE, count=5, approach=Vector3(z=1.0), approach_angle=0.5, object_id="ball")
    assert answer.success, answer.message
    assert answer.grasps.object_id == "ball"
    assert from_time(answer.grasps.header.stamp) == START
    for one in from_grasp_array(answer.grasps).grasps:
        assert reach_direction(one.hand.keypoints)[2] > np.cos(0.5) - 1e-6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "expected a mesh_resource or a cloud"),
        ({"mesh_resource": "sphere:0.2"}, "a hand holds at most"),
        ({"mesh_resource": "/nowhere/mug.obj"}, "/nowhere/mug.obj"),
        ({"mesh_resource": "sphere:40"}, "metres"),
        ({"mesh_resource": "sphere:0.04", "method": "magic"}, "fastgrasp-flow, "),
        ({"mesh_resource": "sphere:0.04", "method": "grabnet"}, "grasp-nodes train"),
        ({"mesh_resource": "sphere:0.04", "count": 10_001}, "0 to 10000 grasps, got 10001"),
        ({"mesh_resource": "sphere:0.04", "scale": -1.0}, "positive number"),
        ({"cloud": to_cloud(np.zeros((0, 3)), START, "camera"), "mesh_resource": ""}, "a cloud"),
        ({"cloud": to_cloud(np.zeros((300, 3)), START, "camera")}, "at least 100 points"),
        ({"cloud": to_cloud(ball() * 1000, START, "camera")}, "millimetres"),
        ({"cloud": to_cloud(np.linspace([0, 0, 0.5], [0.1, 0.05, 0.5], 500), START, "camera")}, "on a line"),
        ({"cloud": to_cloud(ball() * [1, 1, 0] + [0, 0, 0.5], START, "camera")}, "in a plane"),
        ({"cloud": to_cloud(ball(0.15), START, "camera")}, "a hand holds at most"),
    ],
)
def test_bad_requests_are_answered_with_the_reason(bench, start, monkeypatch, fields, said):
    monkeypatch.delenv("GRASP_NODES_WEIGHTS", raising=False)
    start()
    answer = bench.call(GenerateGrasps, SERVICE, **fields)
    assert not answer.success
    assert said in answer.message
    assert not answer.grasps.grasps
    bench.wait(lambda: bench.dropped(NODE, "refused request") == 1, "the count")


def test_a_request_in_work_does_not_keep_the_node_from_ending(bench, start):
    node, busy = start(), threading.Event()
    node._worker.call(lambda: busy.wait(30))
    threading.Timer(0.3, setattr, [node, "asked_to_stop", lambda: True]).start()
    begin = time.monotonic()
    answer = bench.call(GenerateGrasps, SERVICE, mesh_resource="sphere:0.04")
    assert time.monotonic() - begin < 10
    busy.set()
    assert (answer.success, answer.message) == (False, "the node is ending")


def untrained(folder, model, damaged=False):
    """Weights of a tiny network of a hand."""
    path = folder / "fastgrasp-flow.safetensors"
    save_flow(path, FlowNetwork(HandCoder(model), FlowConfig(width=16, blocks=1, basis=32)))
    if damaged:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])


def another_hand():
    arrays = load_hand_model().arrays
    return HandModel(replace(arrays, v_template=1.1 * arrays.v_template))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda folder: untrained(folder, load_hand_model(), damaged=True), "not a readable weight file"),
        (lambda folder: untrained(folder, another_hand()), "was trained with the hand model of fingerprint"),
    ],
)
def test_weights_that_cannot_be_used_are_named(bench, start, monkeypatch, tmp_path, write, said):
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path))
    write(tmp_path)
    start()
    answer = bench.call(GenerateGrasps, SERVICE, mesh_resource="sphere:0.04", method="fastgrasp-flow+rank8")
    assert not answer.success
    assert said in answer.message
    assert str(tmp_path) in answer.message


def test_no_grasps_asked_for_are_none(bench, start):
    start(count=0)
    answer = bench.call(GenerateGrasps, SERVICE, mesh_resource="sphere:0.04")
    assert not answer.success
    assert "no grasps were asked for" in answer.message
    assert not answer.grasps.grasps


def test_a_hundred_clouds_take_no_more_memory_than_some(bench, start):
    """The first ones have the largest, and fill what remembers a number of objects."""
    start(count=2, max_contact_maps=1, queue_size=1)
    got = bench.collect(GraspArray, GRASPS)
    rng, process, used = np.random.default_rng(0), psutil.Process(), []
    sizes = [2_000_000, *(int(size) for size in rng.integers(800, 4000, 99))]
    for number, size in enumerate(sizes):
        points = ball(RADIUS * rng.uniform(0.6, 1.2), size)
        bench.publish(to_cloud(points, START + number * STEP, "camera"), CLOUD)
        bench.wait(lambda number=number: len(got) == number + 1, f"the answer to cloud {number}")
        used.append(process.memory_info().rss / 1e6)
    assert all(len(message.grasps) == 2 for message in got)
    del got[:]
    # Of a cloud of some thousand points, of its object and of its grasps each a megabyte or less could stay.
    assert used[-1] - max(used[:40]) < 20, used


def test_bad_clouds_are_counted_and_answered_with_no_grasps(bench, start):
    start()
    got = bench.collect(GraspArray, GRASPS)
    bench.publish(to_cloud(ball(0.15), START, "camera"), CLOUD)
    bench.wait(lambda: len(got) == 1, "the answer")
    assert len(got[0].grasps) == 0
    bench.wait(lambda: bench.dropped(NODE, f"bad {CLOUD}") == 1, "the count")
    bench.wait(lambda: "a hand holds at most" in bench.statuses[f"/{NODE}"].message, "the reason")
    bench.publish(to_cloud(ball(), START + STEP, "camera"), CLOUD)
    bench.wait(lambda: len(got) == 2, "the next answer")
    assert len(got[1].grasps) == 4


def test_unknown_method_ends_the_node_with_the_known_ones(bench, start, capfd):
    node = start(method="magic")
    assert node.exit_code == 1
    text = "".join(capfd.readouterr())
    assert "magic" in text
    assert "random" in text


def test_object_of_the_parameters_is_grasped_at_once(bench, start):
    start(object="sphere:0.04")
    bench.wait(lambda: bench.values(NODE).get(f"out {GRASPS} total") == "1", "grasps")
    assert "sphere" in bench.values(NODE)["object"]


def test_nothing_is_said_before_the_first_cloud_and_maps_only_where_somebody_listens(bench, start):
    """What the node rehearses with is nobody's business."""
    start()
    got = bench.collect(GraspArray, GRASPS, LATCHED)
    bench.wait(lambda: "method" in bench.values(NODE), "diagnostics")
    assert not got
    assert "object" not in bench.values(NODE)
    bench.publish(to_cloud(ball(), START, "camera"), CLOUD)
    bench.wait(lambda: bench.values(NODE).get("out grasps total") == "1", "the count of grasps")
    assert from_time(got[0].header.stamp) == START
    assert len(got[0].grasps[0].contact_map.points)
    assert "out contact_map total" not in bench.values(NODE)
