"""The embedded runtime and an installed ROS 2 on one wire: what they tell each other, and what ros2's tools see.

Each side is a process of its own that runs the same file, wire_peer.py. Needs a sourced ROS 2 with rmw_cyclonedds_cpp
and a colcon-built grasp_msgs; skipped with the reason where that is absent.
"""

import importlib.machinery
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grasp_nodes.embedded import loopback_uri

PEER = Path(__file__).with_name("wire_peer.py")
PREFIXES = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]
COUNT = 3
# A finder of the embedded runtime may already be at work in this process; the search along sys.path is not fooled.
MISSING = [name for name in ("rclpy", "grasp_msgs") if importlib.machinery.PathFinder.find_spec(name) is None]
MISSING += ["the command ros2"] if shutil.which("ros2") is None else []
MISSING += [] if any((p / "share" / "rmw_cyclonedds_cpp").is_dir() for p in PREFIXES) else ["rmw_cyclonedds_cpp"]

pytestmark = [
    pytest.mark.ros2,
    pytest.mark.processes,
    pytest.mark.skipif(bool(MISSING), reason=f"no ROS 2 to talk to: {', '.join(MISSING)} not found"),
]


class Process:
    """A running wire_peer.py."""

    def __init__(self, environment, own, other):
        self.name = own
        self._popen = subprocess.Popen(
            [sys.executable, str(PEER), own, other],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.errors = ""
        self.runtime = self.answer()

    def ask(self, method, **arguments):
        """Have a method called; `answer` gives its result."""
        self._popen.stdin.write(json.dumps([method, arguments]) + "\n")
        self._popen.stdin.flush()
        return self

    def answer(self):
        line = self._popen.stdout.readline()
        if not line:
            pytest.fail(f"{self.name} died: {self._popen.stderr.read()}")
        return json.loads(line)

    def __call__(self, method, **arguments):
        return self.ask(method, **arguments).answer()

    def close(self):
        try:
            self.errors = self._popen.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.communicate()
        return self._popen.returncode


@pytest.fixture(scope="module")
def environment():
    """Loopback only, on a domain of our own; the installed messages check their fields as the embedded ones do."""
    return os.environ | {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 100)),
        "CYCLONEDDS_URI": loopback_uri(),
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "ROS_PYTHON_CHECK_FIELDS": "1",
        "PYTHONPATH": os.pathsep.join([str(PEER.parents[2]), os.environ.get("PYTHONPATH", "")]),
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="module")
def peers(environment):
    """(embedded, real), in conversation."""
    embedded = Process(environment | {"GRASP_NODES_ROS": "embedded"}, "embedded_peer", "real_peer")
    real = Process(environment | {"GRASP_NODES_ROS": "real"}, "real_peer", "embedded_peer")
    assert (embedded.runtime, real.runtime) == ("embedded", "real")
    embedded.ask("matched")
    assert real("matched"), "the embedded side does not listen to the real one"
    assert embedded.answer(), "the real side does not listen to the embedded one"
    yield embedded, real
    assert (embedded.close(), real.close()) == (0, 0), (embedded.errors, real.errors)
    assert "Traceback" not in embedded.errors + real.errors, (embedded.errors, real.errors)


@pytest.fixture(scope="module")
def ros2(environment):
    """Runs a ros2 command and returns what it prints."""

    def run(*words):
        done = subprocess.run(
            ["ros2", *words], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout or done.stderr

    yield run
    run("daemon", "stop")


def test_both_write_the_same_bytes(peers):
    """Before anything travels: one content, one CDR form."""
    embedded, real = peers
    embedded.ask("makes", seed=1, count=COUNT)
    assert real("makes", seed=1, count=COUNT) == embedded.answer()


@pytest.mark.parametrize("direction", ["embedded to real", "real to embedded"])
def test_messages_arrive_with_equal_values(peers, direction):
    sender, receiver = peers if direction == "embedded to real" else peers[::-1]
    receiver.ask("hears", count=COUNT)
    assert sender("sends", seed=len(direction), count=COUNT) == receiver.answer()


@pytest.mark.parametrize("direction", ["embedded to real", "real to embedded"])
def test_a_stream_of_images_loses_nothing(peers, direction):
    sender, receiver = peers if direction == "embedded to real" else peers[::-1]
    receiver.ask("stream_latencies", count=30)
    sender("streams_images", count=30)
    assert len(receiver.answer()) == 30


def test_late_joiners_get_what_was_published_before(peers):
    for early, late in (peers, peers[::-1]):
        assert late("joins_late") == [f"published before anybody listened, by {early.name}"]


def test_services_answer_in_both_directions(peers):
    for server, client in (peers, peers[::-1]):
        server.ask("until_called", count=3)
        assert client("calls_services") == [
            [False, f"{server.name} got True"],
            [True, f"{server.name} got False"],
            [True, f"{server.name} was triggered"],
        ]
        assert server.answer() == [True, False, "trigger"]


def test_incompatible_qos_is_reported_on_both_sides(peers):
    reliability = 16  # RMW_QOS_POLICY_RELIABILITY
    for peer in peers:
        peer.ask("incompatible")
    for peer in peers:
        assert peer.answer() == {"publisher": reliability, "subscription": reliability}


def test_both_nodes_are_listed(peers, ros2):
    assert {"/embedded_peer", "/real_peer"} <= set(ros2("node", "list").split())


def test_node_info_is_that_of_the_same_node_on_real_ros(peers, ros2):
    """The two nodes are one file, so apart from names and what only rclpy offers they look alike."""
    info = {peer.name: ros2("node", "info", f"/{peer.name}") for peer in peers}
    mirrored = info["real_peer"].replace("real_peer", "OWN").replace("embedded_peer", "OTHER")
    expected = {line.strip() for line in mirrored.splitlines()}
    found = {
        line.strip()
        for line in info["embedded_peer"].replace("embedded_peer", "OWN").replace("real_peer", "OTHER").splitlines()
    }
    only_real = {
        "/rosout: rcl_interfaces/msg/Log",
        "/OWN/get_type_description: type_description_interfaces/srv/GetTypeDescription",
    }
    assert expected - found <= only_real
    assert found - expected == set()


def test_topics_are_listed_with_their_types(peers, ros2):
    topics = set(ros2("topic", "list", "-t").splitlines())
    assert {
        "/embedded_peer/contact_map [grasp_msgs/msg/ContactMap]",
        "/embedded_peer/evidence [grasp_msgs/msg/Evidence]",
        "/embedded_peer/image [sensor_msgs/msg/Image]",
        "/embedded_peer/state [grasp_msgs/msg/HandObjectState]",
    } <= topics


def test_topic_info_shows_one_type_hash_and_the_qos(peers, ros2):
    info = ros2("topic", "info", "-v", "/embedded_peer/state")
    publisher, _, subscription = info.partition("Subscription count")
    for side, node in ((publisher, "embedded_peer"), (subscription, "real_peer")):
        assert f"Node name: {node}\n" in side
        assert "Reliability: RELIABLE\n" in side
        assert "Durability: VOLATILE\n" in side
    hashes = re.findall(r"Topic type hash: (\S+)", info)
    assert len(hashes) == 2
    assert len(set(hashes)) == 1
    assert re.fullmatch(r"RIHS01_[0-9a-f]{64}", hashes[0])
    assert "Durability: TRANSIENT_LOCAL\n" in ros2("topic", "info", "-v", "/embedded_peer/latched")


def test_echo_prints_what_the_embedded_node_publishes(peers, ros2):
    qos = ("--qos-durability", "transient_local", "--qos-reliability", "reliable")
    echo = ros2("topic", "echo", "--once", *qos, "/embedded_peer/latched")
    assert echo.splitlines()[0] == "data: published before anybody listened, by embedded_peer"


def test_hz_counts_the_images_of_the_embedded_node(peers, environment):
    embedded, _ = peers
    command = ["ros2", "topic", "hz", "--window", "20", "/embedded_peer/stream"]
    counter = subprocess.Popen(command, env=environment | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True)
    try:
        embedded("streams_images", count=120)
        line = counter.stdout.readline()
    finally:
        counter.kill()
        counter.communicate()
    rate = float(re.fullmatch(r"average rate: (\S+)\s*", line)[1])
    assert rate == pytest.approx(30, rel=0.3)


def test_parameters_of_the_embedded_node_with_the_command(peers, ros2):
    node = "/embedded_peer"
    assert {"gain", "fixed", "names", "use_sim_time"} <= set(ros2("param", "list", node).split())
    assert ros2("param", "get", node, "names").strip() == "String values are: ['a', 'b']"
    assert ros2("param", "set", node, "gain", "1.5").strip() == "Set parameter successful"
    assert ros2("param", "get", node, "gain").strip() == "Double value is: 1.5"
    assert ros2("param", "set", node, "gain", "1.25").strip() == "Setting parameter failed: 1.25 is never right"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("gain", 1.25, "1.25 is never right"), ("gain", 3.0, "range"), ("gain", "a", "STRING"), ("fixed", 8, "read")],
)
def test_a_parameter_value_is_refused_by_both_with_the_reason(peers, name, value, reason):
    for peer in peers:
        ((successful, told),) = peer("sets_parameter", name=name, value=value)
        assert not successful
        assert reason in told


def test_a_parameter_is_set_from_the_other_side(peers):
    for peer in peers:
        assert peer("sets_parameter", name="gain", value=2.0) == [[True, ""]]


def test_parameters_are_described_alike(peers, ros2):
    told = [ros2("param", "describe", f"/{peer.name}", "gain", "fixed", "names") for peer in peers]
    assert told[0] == told[1]
    assert "Description: A gain." in told[0]
