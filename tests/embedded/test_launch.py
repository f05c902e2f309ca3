"""Launch files run without ROS 2: arguments, conditions, what nodes are started with, and how everything ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from grasp_nodes import embedded

HEAD = """
from launch import LaunchDescription
from launch.actions import *
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, PythonExpression,
                                  TextSubstitution, ThisLaunchFileDir)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
import sys
def python(code, **options):
    return ExecuteProcess(cmd=[sys.executable, "-c", code], name="p", output="screen", **options)
def generate_launch_description():
"""

# Stands for the command that runs a node: it reports what it was called with.
RUNNER = """
import json, os, sys
files = [open(w).read() for k, w in zip(sys.argv, sys.argv[1:]) if k == "--params-file"]
print("CALL " + json.dumps({"argv": sys.argv[1:], "files": files, "env": dict(os.environ)}), flush=True)
"""


@pytest.fixture
def write(tmp_path):
    def build(body, name="test.launch.py"):
        path = tmp_path / name
        path.write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    "))
        return path

    return build


@pytest.fixture
def launch(write, tmp_path, capfd):
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER)

    def run(body, **arguments):
        path = body if isinstance(body, Path) else write(body)
        code = embedded.launch_file(path, arguments, runner=[sys.executable, str(runner)])
        return code, capfd.readouterr().out

    return run


def calls(output):
    return [json.loads(line.partition("CALL ")[2]) for line in output.splitlines() if "CALL " in line]


def test_nodes_get_names_remaps_parameters_and_environment(launch, tmp_path):
    (tmp_path / "p.yaml").write_text("/**: {ros__parameters: {rate: 1.0}}")
    body = f"""
        return LaunchDescription([
            DeclareLaunchArgument("ns", default_value="left"),
            DeclareLaunchArgument("count", default_value="3"),
            SetEnvironmentVariable("COLOUR", "red"),
            Node(package="grasp_nodes", executable="talker", name="t", namespace=LaunchConfiguration("ns"),
                 parameters=["{tmp_path}/p.yaml", {{"count": LaunchConfiguration("count"), "text": "abc",
                     "list": [1, 2], "name": ParameterValue(LaunchConfiguration("count"), value_type=str),
                     "scale": ParameterValue("2", value_type=float), "deep": {{"er": True}}}}],
                 remappings=[("image", ["/cam/", TextSubstitution(text="raw")])], arguments=["--fast"],
                 ros_arguments=["--log-level", "debug"], additional_env={{"SIZE": "9"}}, output="screen"),
        ])"""
    code, output = launch(body, ns="right")
    (call,) = calls(output)
    argv = call["argv"]
    assert code == 0
    assert argv[:5] == ["talker", "--fast", "--ros-args", "--log-level", "debug"]
    assert argv[5:11] == ["-r", "__node:=t", "-r", "__ns:=/right", "-r", "image:=/cam/raw"]
    assert (call["env"]["COLOUR"], call["env"]["SIZE"]) == ("red", "9")
    assert yaml.safe_load(call["files"][0])["/**"]["ros__parameters"] == {"rate": 1.0}
    assert yaml.safe_load(call["files"][1])["/**"]["ros__parameters"] == {
        "count": 3,
        "text": "abc",
        "list": [1, 2],
        "name": "3",
        "scale": 2.0,
        "deep.er": True,
    }
    assert "[INFO] [talker-1]: process started with pid [" in output
    assert "[INFO] [talker-1]: process has finished cleanly [pid " in output


def test_what_the_launcher_writes_a_node_reads(launch, parameter_file):
    from grasp_nodes.embedded.arguments import parse_arguments

    body = """
        return LaunchDescription([Node(package="grasp_nodes", executable="x", name="n", namespace="a", output="screen",
            parameters=[{"rate": 1e-9, "on": True, "text": "",
                "path": ParameterValue("/a b/c: d.yaml", value_type=str), "names": ["a", "b"]}])])"""
    (call,) = calls(launch(body)[1])
    assert not Path(call["argv"][-1]).exists()  # it lived as long as the launch; the runner reported its text
    path = parameter_file(call["files"][0])
    values = parse_arguments([*call["argv"][1:-1], str(path)]).overrides("n", "/a")
    assert values == {"rate": 1e-9, "on": True, "text": "", "path": "/a b/c: d.yaml", "names": ["a", "b"]}


@pytest.mark.parametrize(
    ("mode", "started"), [("both", ["a", "b", "d"]), ("one", ["a", "c"]), ("none", ["c"]), ("many", ["a", "c", "e"])]
)
def test_conditions_and_groups(launch, mode, started):
    body = """
        def talk(word, **options):
            return Node(package="grasp_nodes", executable=word, output="screen", **options)
        mode = LaunchConfiguration("mode")
        def equals(word): return PythonExpression(["'", mode, "' == '", word, "'"])
        return LaunchDescription([
            DeclareLaunchArgument("mode", default_value="both", choices=["both", "one", "none", "many"]),
            talk("a", condition=UnlessCondition(equals("none"))),
            talk("b", condition=IfCondition(equals("both"))),
            talk("c", condition=IfCondition(PythonExpression(["'", mode, "' != 'both' and not (1 > 2.5)"]))),
            GroupAction([SetEnvironmentVariable("X", "1"), talk("d")], condition=IfCondition(equals("both"))),
            OpaqueFunction(function=lambda context: [talk("e")] if mode.perform(context) == "many" else None),
        ])"""
    code, output = launch(body, mode=mode)
    assert code == 0
    assert sorted(call["argv"][0] for call in calls(output)) == started


def test_a_groups_settings_end_with_it(launch):
    body = """
        node = lambda name: Node(package="grasp_nodes", executable=name, output="screen",
                                 arguments=[LaunchConfiguration("x", default="unset")])
        inner = [DeclareLaunchArgument("x", default_value="1"), SetEnvironmentVariable("INNER", "1"), node("in")]
        return LaunchDescription([GroupAction(inner), node("out")])"""
    found = {call["argv"][0]: call for call in calls(launch(body)[1])}
    assert found["in"]["argv"][1] == "1"
    assert found["in"]["env"].get("INNER") == "1"
    assert found["out"]["argv"][1] == "unset"
    assert "INNER" not in found["out"]["env"]


def test_includes_pass_arguments_on(launch, write):
    write(
        """
        return LaunchDescription([
            DeclareLaunchArgument("word"), DeclareLaunchArgument("other", default_value="o"),
            Node(package="grasp_nodes", executable="inner", output="screen",
                 arguments=[LaunchConfiguration("word"), ThisLaunchFileDir()])])""",
        "inner.launch.py",
    )
    outer = write("""
        source = PythonLaunchDescriptionSource([ThisLaunchFileDir(), "/inner.launch.py"])
        return LaunchDescription([DeclareLaunchArgument("w", default_value="hello"), IncludeLaunchDescription(
            source, launch_arguments={"word": LaunchConfiguration("w")}.items())])""")
    (call,) = calls(launch(outer)[1])
    assert call["argv"][1:3] == ["hello", str(outer.parent)]
    shown = embedded.show_arguments(outer)
    assert "'other'" in shown
    assert "'word'" not in shown


def test_substitutions(launch, monkeypatch):
    monkeypatch.setenv("PLACE", "here")
    body = """
        return LaunchDescription([LogInfo(msg=[EnvironmentVariable("PLACE"), "|",
            EnvironmentVariable("NO_SUCH_PLACE", default_value="there"), "|",
            PathJoinSubstitution([FindPackageShare("grasp_nodes"), "config", "x.yaml"]), "|",
            PythonExpression(["1 < ", "2", " and 'a' in ['a', 'b']"])])])"""
    code, output = launch(body)
    share = embedded.modules.get_package_share_directory("grasp_nodes")
    assert code == 0
    assert f"[INFO] [launch.user]: here|there|{share}/config/x.yaml|True" in output


@pytest.mark.parametrize(
    "expression", ["__import__('os').system('true')", "().__class__", "[x for x in 'ab']", "2 ** 99", "open", "f'{1}'"]
)
def test_expressions_cannot_run_code(launch, expression):
    with pytest.raises(embedded.NotSupportedByEmbeddedRuntime, match="PythonExpression"):
        launch(f"return LaunchDescription([LogInfo(msg=PythonExpression([{expression!r}]))])")


ARGUMENTS = """
    return LaunchDescription([
        DeclareLaunchArgument("device", default_value="cpu", choices=["cpu", "cuda"], description="Where to compute."),
        DeclareLaunchArgument("source", description="What to play."),
        GroupAction([DeclareLaunchArgument("rate", default_value=["3", ".0"])])])"""


def test_arguments_are_shown_as_ros2_launch_shows_them(write):
    assert embedded.show_arguments(write(ARGUMENTS)).splitlines() == [
        "Arguments (pass arguments as '<name>:=<value>'):",
        "",
        "    'device':",
        "        Where to compute. Valid choices are: ['cpu', 'cuda']",
        "        (default: 'cpu')",
        "",
        "    'source':",
        "        What to play.",
        "",
        "    'rate':",
        "        no description given",
        "        (default: '3.0')",
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"source": "a", "devise": "cpu"}, "unknown launch argument devise.*knows: device, rate, source"),
        ({"source": "a", "device": "tpu"}, r"device:='tpu': valid choices are \['cpu', 'cuda'\]"),
        ({}, r"'source' is required \(What to play"),
    ],
)
def test_bad_arguments_are_named(launch, arguments, complaint):
    with pytest.raises(embedded.LaunchError, match=complaint):
        launch(ARGUMENTS, **arguments)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return LaunchDescription([EmitEvent()])", "launch.actions.EmitEvent|EmitEvent"),
        ("from launch.actions import EmitEvent", "launch.actions.EmitEvent is not supported"),
        ("from launch_ros.actions import LifecycleNode", "launch_ros.actions.LifecycleNode is not supported"),
        ("return LaunchDescription([python('', shell=True)])", "the option 'shell' of ExecuteProcess"),
        ("return LaunchDescription([Node(package='rviz2', executable='rviz2')])", "'rviz2' cannot be started without"),
        ("return LaunchDescription([LogInfo(msg=FindPackageShare('no_such'))])", "'no_such' not found"),
        ("return LaunchDescription([LogInfo(msg=LaunchConfiguration('x'))])", "'x' does not exist"),
        ("return LaunchDescription([LogInfo(msg='', condition=IfCondition('maybe'))])", "got 'maybe'"),
        ("return 3", "returned int"),
        (
            "return LaunchDescription([Node(package='grasp_nodes', executable='x', parameters=[{'a': 'b: c'}])])",
            "use ParameterValue",
        ),
        ("return LaunchDescription([ExecuteProcess(cmd=['/no/such/program'])])", "cannot start.*no/such/program"),
    ],
)
def test_what_cannot_be_done_says_so(launch, body, complaint):
    with pytest.raises((embedded.LaunchError, embedded.NotSupportedByEmbeddedRuntime, NameError), match=complaint):
        launch(body)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.launch\.py not found"):
        embedded.launch_file(tmp_path / "no.launch.py", {}, runner=[])


FOREVER = "import time; print('up', flush=True); time.sleep(60)"


def test_shutdown_at_a_processs_end_ends_the_others_well(launch):
    begin = time.monotonic()
    code, output = launch(f"""
        return LaunchDescription([python({FOREVER!r}),
            python("import time; time.sleep(0.5)", on_exit=Shutdown(reason="the report is written"))])""")
    assert code == 0
    assert "[p-1] up" in output
    assert "[INFO] [launch]: shutting down: the report is written" in output
    assert "[INFO] [p-1]: sending signal 'SIGINT' to process[p-1]" in output
    assert time.monotonic() - begin < 8


def test_a_process_that_fails_makes_the_launch_fail(launch):
    code, output = launch("""return LaunchDescription([python("raise SystemExit(3)"), python("")])""")
    assert code == 1
    assert "[ERROR] [p-1]: process has died [pid " in output
    assert "exit code 3" in output


def test_a_process_that_ignores_every_polite_signal_is_killed(launch, monkeypatch):
    from grasp_nodes.embedded import launch as launcher

    monkeypatch.setattr(launcher, "PATIENCE_S", 0.3)
    stubborn = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print('up'); time.sleep(60)"
    code, output = launch(f"""
        return LaunchDescription([python({stubborn!r}),
            TimerAction(period=1.5, actions=[Shutdown(reason="enough")])])""")
    assert code == 1
    sent = [line.split("'")[1] for line in output.splitlines() if "sending signal" in line]
    assert sent == ["SIGINT", "SIGTERM", "SIGKILL"]


def test_timers_respawn_and_event_handlers(launch, tmp_path):
    marks = tmp_path / "marks"
    count = f"open({str(marks)!r}, 'a').write('x'); raise SystemExit(len(open({str(marks)!r}).read()) < 3)"
    code, output = launch(f"""
        first = python("print('first')")
        return LaunchDescription([first, python({count!r}, respawn=True, respawn_delay=0.1),
            RegisterEventHandler(OnProcessExit(target_action=first, on_exit=[LogInfo(msg="first is gone")])),
            TimerAction(period=3.0, actions=[LogInfo(msg="late"), Shutdown(reason="end")])])""")
    assert code == 1  # a process died, although it was started again
    assert output.index("[p-1] first") < output.index("first is gone") < output.index("late")
    assert len(marks.read_text()) >= 3


def test_output_log_hides_standard_output_only(launch, capfd):
    code = "import sys; print('quiet'); print('loud', file=sys.stderr)"
    body = f"return LaunchDescription([ExecuteProcess(cmd=[sys.executable, '-c', {code!r}], name='p')])"
    _, output = launch(body)
    assert "quiet" not in output


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_quickly(write, number):
    path = write(f"return LaunchDescription([python({FOREVER!r}), python({FOREVER!r})])")
    program = (
        "import sys; from grasp_nodes import embedded; embedded.install({}, {});"
        f"sys.exit(embedded.launch_file({str(path)!r}, {{}}, runner=[]))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        lines = []
        while sum("] up" in line for line in lines) < 2:
            lines.append(process.stdout.readline())
            assert lines[-1], "the launcher ended before its processes were up"
        process.send_signal(number)
        begin = time.monotonic()
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert time.monotonic() - begin < 5
    assert f"user interrupted with {number.name}" in rest
    pids = [int(line.rpartition("[")[2].rstrip("]\n")) for line in lines if "started with pid" in line]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_other_modules_called_launch_are_back_afterwards(launch):
    before = sys.modules.get("launch")
    launch("return LaunchDescription([])")
    assert sys.modules.get("launch") is before
    assert "launch_ros.actions" not in sys.modules or before is not None
