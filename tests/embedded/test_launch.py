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
from grasp_nodes.paths import share_dir

HEAD = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution, TextSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
def node(executable="p", **options):
    return Node(package="grasp_nodes", executable=executable, **{"output": "screen", **options})
def python(code, **options):
    return node("p", arguments=["--run", code], **options)
def generate_launch_description():
"""

# Stands for the command that runs a node: it reports what it was called with, or runs the code that it is given.
RUNNER = """
import json, os, sys
if "--run" in sys.argv:
    exec(sys.argv[sys.argv.index("--run") + 1])
else:
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
                     "scale": ParameterValue("2.0", value_type=float)}}],
                 remappings=[("image", ["/cam/", TextSubstitution(text="raw")])], arguments=["--fast"],
                 ros_arguments=["--log-level", "debug"], output="screen"),
        ])"""
    code, output = launch(body, ns="right")
    (call,) = calls(output)
    argv = call["argv"]
    assert code == 0
    assert argv[:5] == ["talker", "--fast", "--ros-args", "--log-level", "debug"]
    assert argv[5:11] == ["-r", "__node:=t", "-r", "__ns:=/right", "-r", "image:=/cam/raw"]
    assert call["env"]["COLOUR"] == "red"
    assert yaml.safe_load(call["files"][0])["/**"]["ros__parameters"] == {"rate": 1.0}
    assert yaml.safe_load(call["files"][1])["/**"]["ros__parameters"] == {
        "count": 3,
        "text": "abc",
        "list": [1, 2],
        "name": "3",
        "scale": 2.0,
    }
    assert "[INFO] [talker-1]: process started with pid [" in output
    assert "[INFO] [talker-1]: process has finished cleanly [pid " in output


def test_what_the_launcher_writes_a_node_reads(launch, parameter_file):
    from grasp_nodes.embedded.process import parse_arguments

    body = """
        return LaunchDescription([Node(package="grasp_nodes", executable="x", name="n", namespace="a", output="screen",
            parameters=[{"rate": 1e-9, "on": True, "text": "",
                "path": ParameterValue("/a b/c: d.yaml", value_type=str), "names": ["a", "b"]}])])"""
    (call,) = calls(launch(body)[1])
    assert not Path(call["argv"][-1]).exists()  # it lived as long as the launch; the runner reported its text
    path = parameter_file(call["files"][0])
    values = parse_arguments([*call["argv"][1:-1], str(path)]).overrides("n", "/a")
    assert values == {"rate": 1e-9, "on": True, "text": "", "path": "/a b/c: d.yaml", "names": ["a", "b"]}


@pytest.mark.parametrize(("flag", "word", "started"), [("true", "", ["a", "b"]), ("0", "many", ["a", "c", "e"])])
def test_conditions_and_functions(launch, flag, word, started):
    body = """
        flag, word = LaunchConfiguration("flag"), LaunchConfiguration("word")
        return LaunchDescription([
            DeclareLaunchArgument("flag"), DeclareLaunchArgument("word", default_value="x"),
            node("a"), node("b", condition=IfCondition(flag)), node("c", condition=UnlessCondition([flag, ""])),
            OpaqueFunction(function=lambda c: [node("e")] if word.perform(c) == "many" else None),
        ])"""
    code, output = launch(body, flag=flag, word=word)
    assert code == 0
    assert sorted(call["argv"][0] for call in calls(output)) == started


def test_substitutions(launch, monkeypatch):
    monkeypatch.setenv("PLACE", "here")
    body = """
        return LaunchDescription([node(arguments=[EnvironmentVariable("PLACE"),
            EnvironmentVariable("NO_SUCH_PLACE", default_value="there"),
            PathJoinSubstitution([PathJoinSubstitution([FindPackageShare("grasp_nodes"), "config"]), "x.yaml"]),
            ["a", TextSubstitution(text="b")]])])"""
    code, output = launch(body)
    assert code == 0
    assert calls(output)[0]["argv"][1:5] == ["here", "there", f"{share_dir()}/config/x.yaml", "ab"]


ARGUMENTS = """
    return LaunchDescription([
        DeclareLaunchArgument("device", default_value="cpu", choices=["cpu", "cuda"], description="Where to compute."),
        DeclareLaunchArgument("source", description="What to play."),
        DeclareLaunchArgument("rate", default_value=["3", ".0"])])"""


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
        ("from launch.actions import EmitEvent", "launch.actions.EmitEvent is not supported.*install ROS 2"),
        ("from launch_xml import Parser", "launch_xml"),
        ("return LaunchDescription([LaunchDescription()])", "LaunchDescription in a launch file is not supported"),
        ("return LaunchDescription([node(respawn=True)])", "the option 'respawn' of an action"),
        (
            "return LaunchDescription([node(parameters=[{'a': ParameterValue('x', value_type=int)}])])",
            "not of type int",
        ),
        ("return LaunchDescription([Node(package='rviz2', executable='rviz2')])", "'rviz2' cannot be started without"),
        ("return LaunchDescription([node(name=FindPackageShare('no_such'))])", "'no_such' not found"),
        ("return LaunchDescription([node(name=LaunchConfiguration('x'))])", "'x' does not exist"),
        ("return LaunchDescription([node(condition=IfCondition('maybe'))])", "got 'maybe'"),
        ("return 3", "returned int"),
        (
            "return LaunchDescription([Node(package='grasp_nodes', executable='x', parameters=[{'a': 'b: c'}])])",
            "use ParameterValue",
        ),
        ("return LaunchDescription([node(parameters=['/no/such.yaml'])])", "parameter file /no/such.yaml not found"),
        ("return LaunchDescription([node(name=EnvironmentVariable('NO_SUCH_PLACE'))])", "NO_SUCH_PLACE is not set"),
        ("return LaunchDescription([node(name=3)])", "expected text or a substitution, got 3"),
    ],
)
def test_what_cannot_be_done_says_so(launch, body, complaint):
    with pytest.raises((embedded.LaunchError, embedded.NotSupportedByEmbeddedRuntime, ImportError), match=complaint):
        launch(body)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.launch\.py not found"):
        embedded.launch_file(tmp_path / "no.launch.py", {}, runner=[])


def test_a_runner_that_is_not_there_is_named(write):
    with pytest.raises(embedded.LaunchError, match=r"cannot start p-1.*no/such/program"):
        embedded.launch_file(write("return LaunchDescription([node()])"), {}, runner=["/no/such/program"])


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
            python("import time; time.sleep(1.5)", on_exit=[Shutdown(reason="enough")])])""")
    assert code == 1
    sent = [line.split("'")[1] for line in output.splitlines() if "sending signal" in line]
    assert sent == ["SIGINT", "SIGTERM", "SIGKILL"]


def test_what_a_failed_start_leaves_is_killed(launch):
    begin = time.monotonic()
    with pytest.raises(embedded.LaunchError, match="rviz2"):
        launch(f"return LaunchDescription([python({FOREVER!r}), Node(package='rviz2', executable='rviz2')])")
    assert time.monotonic() - begin < 8


def test_output_log_hides_standard_output_only(write, capfd):
    code = "import sys; print('quiet'); print('loud', file=sys.stderr)"
    path = write(f"return LaunchDescription([python({code!r}, output='log')])")
    embedded.launch_file(path, {}, runner=[sys.executable, "-c", RUNNER])
    printed = capfd.readouterr()
    assert "quiet" not in printed.out
    assert "[p-1] loud" in printed.err


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_quickly(write, number):
    path = write(f"return LaunchDescription([python({FOREVER!r}), python({FOREVER!r})])")
    program = (
        "import sys; from grasp_nodes import embedded; embedded.install({}, {'grasp_nodes': '.'});"
        f"sys.exit(embedded.launch_file({str(path)!r}, {{}}, runner=[sys.executable, '-c', {RUNNER!r}]))"
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


@pytest.mark.parametrize(
    ("argument", "executable", "parameter"),
    [
        ("source", "source_node", "source"),
        ("object", "fitting_node", "object"),
        ("report_file", "report_node", "report_file"),
        ("record", "recorder_node", "output"),
    ],
)
@pytest.mark.parametrize("text", ["0", "1e3", "true", "[1]", "a: b", "~"])
def test_the_demos_texts_stay_texts(monkeypatch, argument, executable, parameter, text):
    """As camera 0 of source:=0. What would be started is looked at, because the end of one process ends the others."""
    from grasp_nodes.embedded import launch

    files = {}

    def remember(_launcher, node, command, _context):
        files[node.executable] = Path(command[-1]).read_text()

    monkeypatch.setattr(launch.Launcher, "start", remember)
    path = share_dir() / "launch" / "demo.launch.py"
    assert embedded.launch_file(path, {"viewer": "false", argument: text}, runner=["none"]) == 0
    assert yaml.safe_load(files[executable])["/**"]["ros__parameters"][parameter] == text
