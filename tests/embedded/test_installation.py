"""Which ROS is used, what can be imported, and which way bytes take."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from grasp_nodes import embedded
from grasp_nodes.embedded import dds
from grasp_nodes.embedded.process import process


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("choice", "with_rclpy", "expected"),
    [("", False, "False"), ("", True, "True"), ("embedded", True, "False"), ("real", True, "True")],
)
def test_a_real_rclpy_wins_unless_told_otherwise(tmp_path, choice, with_rclpy, expected):
    if with_rclpy:
        (tmp_path / "rclpy.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from grasp_nodes import embedded as e\n"
    result = run_python(code + "print(e.is_real_ros_available())", GRASP_NODES_ROS=choice)
    assert result.stdout.strip() == expected


@pytest.mark.parametrize(
    ("choice", "complaint"), [("real", "rclpy cannot be imported: source a ROS 2"), ("maybe", "expected 'real' or")]
)
def test_impossible_choices_are_refused(choice, complaint):
    result = run_python("from grasp_nodes import embedded; embedded.install({})", GRASP_NODES_ROS=choice)
    assert result.returncode == 1
    assert complaint in result.stderr


def test_where_real_ros_was_chosen_nothing_is_installed(tmp_path):
    (tmp_path / "rclpy.py").write_text("HERE = 1")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from grasp_nodes import embedded as e\n"
    result = run_python(code + "print(e.install({}), e.is_installed(), __import__('rclpy').HERE)", GRASP_NODES_ROS="")
    assert result.stdout.split() == ["False", "False", "1"]


def test_importing_the_package_needs_no_dds():
    code = "import sys; from grasp_nodes import embedded; print('cyclonedds' in sys.modules, 'rosbags' in sys.modules)"
    assert run_python(code).stdout.split() == ["False", "False"]


def test_modules_and_messages_that_do_not_exist():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("sensor_msgs.action")
    with pytest.raises(ImportError, match="NoSuch"):
        exec("from sensor_msgs.msg import NoSuch", {})


REFUSED_MODULES = [
    "rclpy.action",
    "rclpy.lifecycle",
    "rclpy.callback_groups",
    "rclpy.clock",
    "rclpy.context",
    "rclpy.duration",
    "rclpy.task",
    "rclpy.time",
    "rclpy.utilities",
    "launch.event_handlers",
    "launch.launch_description_sources",
    "launch_ros.descriptions",
]
REFUSED_NAMES = [
    "rclpy.create_node",
    "rclpy.spin_once",
    "rclpy.spin_until_future_complete",
    "rclpy.get_global_executor",
    "rclpy.executors.MultiThreadedExecutor",
    "rclpy.qos.LivelinessPolicy",
    "rclpy.exceptions.InvalidHandle",
    "launch.LaunchService",
    "launch.actions.ExecuteProcess",
    "launch.actions.GroupAction",
    "launch.actions.LogInfo",
    "launch.actions.IncludeLaunchDescription",
    "launch.actions.RegisterEventHandler",
    "launch.actions.TimerAction",
    "launch.substitutions.PythonExpression",
    "launch.substitutions.ThisLaunchFileDir",
    "launch_ros.actions.LifecycleNode",
]


@pytest.mark.parametrize("name", [*REFUSED_MODULES, *REFUSED_NAMES])
def test_what_is_missing_is_refused_by_name_with_the_remedy(name):
    module, _, attribute = name.rpartition(".")
    work = f"import {name}" if name in REFUSED_MODULES else f"from {module} import {attribute}"
    complaint = f"{name} is not supported by the embedded ROS runtime: install ROS 2"
    with pytest.raises(embedded.NotSupportedByEmbeddedRuntime, match=complaint):
        exec(work, {})


def test_everything_in_the_table_can_be_imported():
    for module, (_, names) in embedded.MODULES.items():
        for name in names.split():
            assert hasattr(importlib.import_module(module), name), (module, name)


@pytest.mark.parametrize("is_fast", [True, False])
def test_both_ways_of_writing_and_taking_carry_the_same_bytes(monkeypatch, ros, is_fast):
    from grasp_nodes.embedded.vocabulary import QoSProfile

    if not is_fast:
        monkeypatch.setattr(dds, "_TESTED_SERIES", "0.")
    participant = process.participant()
    assert isinstance(participant.path, dds._FastPath if is_fast else dds._BindingPath)
    writer = dds.Writer(participant, "rt/bytes", "std_msgs/msg/Empty", QoSProfile(depth=10), "tag=1;")
    reader = dds.Reader(participant, "rt/bytes", "std_msgs/msg/Empty", QoSProfile(depth=10), "")
    payloads = [b"\0\1\0\0" + np.random.default_rng(n).bytes(4 * n) for n in (1, 2, 1000, 300_000)]
    for payload in payloads:
        writer.write(bytearray(payload))
        sample = reader.take()
        assert bytes(sample.data) == payload
        assert reader.writer_user_data(sample.publication).startswith("tag=1;typehash=RIHS01_")
    assert reader.take() is None


def test_a_failed_self_test_chooses_the_slower_calls(monkeypatch, ros, caplog):
    monkeypatch.setattr(dds._FastPath, "take", lambda self, reader: None)
    assert isinstance(process.participant().path, dds._BindingPath)
    assert "failed their self-test" in caplog.text


@pytest.mark.parametrize(
    ("name", "gid_size", "has_hash"), [("humble", 24, False), ("jazzy", 16, True), ("lyrical", 16, True)]
)
def test_the_distribution_decides_the_wire_format(name, gid_size, has_hash):
    code = (
        "from grasp_nodes.embedded import types, dds\n"
        "print(types.message_class('rmw_dds_common/msg/Gid')().data.size)\n"
        "print(bool(dds.Participant.type_tag(None, 'std_msgs/msg/String')))"
    )
    result = run_python(code, ROS_DISTRO=name)
    assert result.stdout.split() == [str(gid_size), str(has_hash)], result.stderr


@pytest.mark.parametrize(("given", "expected"), [("file:///mine.xml", "file:///mine.xml"), ("", 'name="lo"')])
def test_localhost_only_is_honoured_unless_a_configuration_is_given(given, expected, tmp_path):
    code = "import os, rclpy.node; rclpy.init(args=[]); rclpy.node.Node('a'); print(os.environ['CYCLONEDDS_URI'])"
    code = f"from grasp_nodes import embedded; embedded.install({{}}); {code}"
    if given:
        (tmp_path / "mine.xml").write_text(embedded.loopback_uri())
        given = expected = f"file://{tmp_path}/mine.xml"
    result = run_python(code, ROS_LOCALHOST_ONLY="1", CYCLONEDDS_URI=given)
    assert expected in result.stdout, result.stderr
