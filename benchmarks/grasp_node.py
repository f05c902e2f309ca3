"""grasp_node: from a cloud that is sent to its grasps that are there, and whether memory grows.

The node runs in a process of its own, with the method that `auto` stands for there; messages go through DDS, over the
loopback. Each cloud is another view: half of them 50,000 points of a rendered picture of an object on a table, half of
them 50,000 points all over an object. The time is from before the message is made until the subscriber has all of the
16 grasps, contact maps included. Memory is the node's, resident; 100 clouds of 100 to 2,000,000 points come one after
the other, and growth is what the last 60 of them add.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks._graph_processes import PATIENCE_S, Monitor, Processes, isolated, wait_for
from benchmarks.report import Row
from grasp_nodes.data.table_source import TableSource
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.clouds.observed import check_width
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.registry import SPEC_PREFIX, training_names
from grasp_nodes.synthesis.flow.network import SMALL_FLOW, FlowNetwork
from grasp_nodes.synthesis.flow.trained import METHOD, load_flow, save_flow

THREADS = 2
COUNT = 16
POINTS = 50_000
TIMED, WARM_UP, MANY = 40, 6, 100
SIZES = (100, 1_000, 10_000, 50_000, 200_000, 2_000_000)
SETTLED = 40
CLOUD, GRASPS, FRAME = "object_cloud", "grasps", "camera_depth_optical_frame"


def rows() -> list[Row]:
    """Times, ms, and memory, MB."""
    with tempfile.TemporaryDirectory() as folder:
        environment = isolated() | _weights(Path(folder))
        os.environ.update(environment)
        graph, client = Processes(environment), Client()
        try:
            graph.node("grasp_node", f"threads:={THREADS}", f"count:={COUNT}", "input_reliability:=reliable")
            client.wait()
            spent = [client.milliseconds(points) for points in clouds(WARM_UP + TIMED)][WARM_UP:]
            empty = client.empty
            memory = []
            for number in range(MANY):
                client.milliseconds(_all_over(number, SIZES[number % len(SIZES)]))
                memory.append(graph.memory_mb()["grasp_node"])
        finally:
            client.close()
            graph.close()
    unit = f"ms, {POINTS} points to {COUNT} grasps"
    return [
        Row("node_cloud_to_grasps_p50_ms", statistics.median(spent), unit),
        Row("node_cloud_from_all_sides_p50_ms", statistics.median(spent[WARM_UP % 2 :: 2]), unit),
        Row("node_cloud_of_a_table_p50_ms", statistics.median(spent[(WARM_UP + 1) % 2 :: 2]), unit),
        Row("node_cloud_to_grasps_p95_ms", float(np.percentile(spent, 95)), unit),
        Row("node_clouds_without_grasps", float(empty), f"of {WARM_UP + TIMED} clouds"),
        Row("node_memory_start_mb", memory[0], "MB"),
        Row("node_memory_end_mb", memory[-1], f"MB after {MANY} clouds"),
        Row("node_memory_growth_mb", memory[-1] - max(memory[:SETTLED]), f"MB over the last {MANY - SETTLED} clouds"),
    ]


def clouds(count: int) -> Iterator[np.ndarray]:
    """(POINTS, 3), m: on a table and from all sides in turn."""
    for number in range(count):
        yield _on_table(number // 2) if number % 2 else _all_over(number, POINTS)


def _on_table(number: int) -> np.ndarray:
    # The camera is asked for another object and another turn each time.
    frame = TableSource(seed=number).frame(0)
    assert frame.depth is not None
    rows, columns = np.nonzero(frame.depth)
    points = frame.camera.unproject(np.stack([columns, rows], axis=-1), frame.depth[rows, columns])
    return points[np.random.default_rng(number).permutation(len(points))[:POINTS]]


def _all_over(number: int, count: int) -> np.ndarray:
    names = training_names(200)
    for at in range(number, number + len(names)):
        model = load_object(f"{SPEC_PREFIX}{names[at % len(names)]}", resolution=16)
        try:
            check_width(model.object_id, model.vertices)
        except InputError:
            continue
        points, _, _ = sample_surface(model.vertices.astype(np.float64), model.faces, count, number)
        return points + [0.0, 0.0, 0.6]
    raise AssertionError("no object that a hand can hold")


def _weights(folder: Path) -> dict[str, str]:
    """Where untrained weights are, if none are installed: their time is the same."""
    model = load_hand_model("right")
    try:
        load_flow(model)
    except MissingFileError:
        save_flow(folder / f"{METHOD}.safetensors", FlowNetwork(HandCoder(model), SMALL_FLOW))
        return {"GRASP_NODES_WEIGHTS": str(folder)}
    return {}


class Client:
    """Sends clouds and waits for their grasps. empty: number of answers without any."""

    def __init__(self) -> None:
        self._monitor = Monitor({})
        from grasp_msgs.msg import GraspArray
        from sensor_msgs.msg import PointCloud2

        self._answers: dict[int, tuple[float, int]] = {}
        self._stamp = self.empty = 0
        node = self._monitor.node
        node.create_subscription(GraspArray, GRASPS, self._on_grasps, 10)
        self._publisher = node.create_publisher(PointCloud2, CLOUD, 10)

    def wait(self) -> None:
        """Until the node listens and has answered a first cloud: it is ready then."""
        wait_for(lambda: self._publisher.get_subscription_count() > 0, "grasp_node")
        self.milliseconds(_all_over(0, POINTS))

    def milliseconds(self, points: np.ndarray) -> float:
        """From before the message of points (N, 3) is made until its answer is there."""
        from grasp_nodes.nodes.conversions.clouds import to_cloud

        self._stamp += 1
        stamp, begin = self._stamp, time.perf_counter()
        self._publisher.publish(to_cloud(points, stamp * 1_000_000_000, FRAME))
        wait_for(lambda: stamp in self._answers, f"grasps of cloud {stamp}", PATIENCE_S)
        arrived, count = self._answers.pop(stamp)
        self.empty += count == 0
        return 1e3 * (arrived - begin)

    def close(self) -> None:
        """End the subscription."""
        self._monitor.close()

    def _on_grasps(self, message: object) -> None:
        header = message.header  # type: ignore[attr-defined]
        self._answers[int(header.stamp.sec)] = (time.perf_counter(), len(message.grasps))  # type: ignore[attr-defined]
