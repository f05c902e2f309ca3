"""What all nodes share: no clash with rclpy's names, QoS that does not match, bad parameters, the end."""

import subprocess
import sys

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import SetBool

from grasp_nodes import embedded
from grasp_nodes.errors import InputError
from grasp_nodes.nodes.node_base import GraspNode
from grasp_nodes.nodes.parameters import OutputParameters

# What rclpy's own Node keeps under names with one underscore, from Humble to Rolling.
TAKEN = {"_clients", "_clock", "_context", "_descriptors", "_guards", "_logger", "_parameters", "_publishers"}
TAKEN |= {"_services", "_subscriptions", "_timers"}


class Echo(GraspNode[OutputParameters]):
    """Refuses "bad" and falls over "worse"."""

    def __init__(self, **options):
        super().__init__("echo", OutputParameters, **options)
        self.heard = []
        self.output = self.advertise(String, "said")
        self.subscribe(String, "told", self.listen)

    def listen(self, message):
        if message.data == "bad":
            raise InputError("told: expected something good, got 'bad'")
        if message.data == "worse":
            raise ZeroDivisionError("oops")
        self.heard.append(message.data)
        self.publish(self.output, "said", message)
        self.useful()


def test_names_do_not_collide_with_rclpy(bench):
    node = bench.start(Echo)
    ours = {name for name in vars(node) if not name.startswith("_Node__")}
    ours |= {name for name in vars(GraspNode) if not name.startswith("__")}
    taken = TAKEN | {name for name in dir(Node) if not name.startswith("__")}
    made_by_rclpy = set(vars(bench.tester))
    assert not (ours - made_by_rclpy) & taken


def test_bad_messages_are_reported_once_with_the_number_kept_back(bench, capfd):
    node = bench.start(Echo, input_reliability="reliable", input_depth=50)
    for text in ("bad", "bad", "worse", "bad", "good"):
        bench.publish(String(data=text), "told")
    bench.wait(lambda: node.heard == ["good"], "the good message")
    output = "".join(capfd.readouterr())
    assert output.count("told: told: expected something good") == 1
    assert output.count("ZeroDivisionError: oops") == 1
    bench.wait(lambda: bench.dropped("echo", "bad told") == 3, "the count of bad ones")
    assert bench.dropped("echo", "failed told") == 1


def test_truncated_bytes_are_counted_and_the_next_message_is_served(bench):
    node = bench.start(Echo, input_reliability="reliable", input_depth=50)
    publisher = bench.publisher(String, "told")
    publisher.publish(b"\x00\x01\x00\x00\xff\x00\x00\x00ab")
    bench.publish(String(data="good"), "told")
    bench.wait(lambda: node.heard[-1:] == ["good"], "the good message")
    if embedded.is_installed():
        # The real middleware hands over an empty message instead, or drops it without a word.
        bench.wait(lambda: bench.dropped("echo", "malformed told") == 1, "the count")


@pytest.mark.parametrize("side", ["input", "output"])
def test_incompatible_qos_is_reported_with_topic_and_remedy(bench, capfd, side):
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    reliable = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    bench.start(Echo, **{f"{side}_reliability": "reliable" if side == "input" else "best_effort"})
    if side == "input":
        bench.tester.create_publisher(String, "told", best_effort)
        topic = "told"
    else:
        bench.tester.create_subscription(String, "said", lambda _: None, reliable)
        topic = "said"
    bench.wait(lambda: bench.dropped("echo", f"incompatible QoS {topic}") >= 1, "the count")
    output = "".join(capfd.readouterr())
    assert f"{topic}: a " in output
    assert "reliability that does not go with this node's" in output
    assert f"{side}_reliability" in output


def test_silence_is_warned_of_once_and_ended(bench, capfd):
    node = bench.start(Echo, input_reliability="reliable")
    output = []

    def said(text):
        output.append("".join(capfd.readouterr()))
        return text in "".join(output)

    bench.wait(lambda: said("nothing useful for"), "the warning")
    bench.wait(lambda: bench.statuses["/echo"].level == DiagnosticStatus.WARN, "the level on /diagnostics")
    bench.publish(String(data="good"), "told")
    bench.wait(lambda: said("useful output again"), "the end of silence")
    assert "".join(output).count("nothing useful for") == 1
    assert node.statistics.outputs["said"].total == 1


def test_silence_after_enabling_again_is_warned_of_again(bench, capfd):
    node = bench.start(Echo)
    bench.wait(lambda: node.statistics and "nothing useful for" in "".join(capfd.readouterr()), "the warning")
    for enabled in (False, True):
        assert bench.call(SetBool, "/echo/enable", data=enabled).success
    bench.wait(lambda: "nothing useful for" in "".join(capfd.readouterr()), "the second warning")


def test_node_that_cannot_be_enabled_says_why_and_lives(bench, monkeypatch):
    node = bench.start(Echo, autostart=False)

    def refuse():
        raise InputError("the disk is full")

    monkeypatch.setattr(node, "on_enabled", refuse)
    answer = bench.call(SetBool, "/echo/enable", data=True)
    assert (answer.success, answer.message) == (False, "the disk is full")
    assert not node.enabled
    monkeypatch.undo()
    assert bench.call(SetBool, "/echo/enable", data=True).success


@pytest.mark.parametrize(("name", "value"), [("threads", 0), ("silence_warn_s", -1.0), ("input_reliability", "sure")])
def test_bad_parameter_stops_the_start(bench, name, value):
    with pytest.raises((InputError, ParameterException), match=name):
        bench.start(Echo, **{name: value})


@pytest.mark.processes
@pytest.mark.parametrize("node", ["source_node", "recorder_node"])
def test_unknown_choice_on_the_command_line_is_one_message_and_exit_code_2(node):
    command = [sys.executable, "-m", "grasp_nodes", "run", node, "--ros-args", "-p", "input_reliability:=sure"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2, result.stderr
    assert "'input_reliability': expected one of best_effort, reliable, got 'sure'" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "--nonsense"),
        (["--params-file", "/nowhere/parameters.yaml"], "/nowhere/parameters.yaml"),
        (["-r", "__ns:=not-a-name"], ""),
    ],
)
def test_bad_ros_arguments_are_one_message_and_exit_code_2(arguments, said):
    command = [sys.executable, "-m", "grasp_nodes", "run", "report_node", "--ros-args", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 2, output
    assert said in output
    assert "Traceback" not in output
