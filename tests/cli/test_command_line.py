"""The command as a user calls it: exit codes, one line per error, and what goes where."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grasp_nodes
from grasp_nodes import embedded
from grasp_nodes.cli import app as app_module
from grasp_nodes.cli import launching, running, runtime
from grasp_nodes.errors import GraspNodesError, InputError, MissingDependencyError

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grasp-nodes", *words])
        with pytest.raises(SystemExit) as ended:
            app_module.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_python_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "grasp_nodes", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == grasp_nodes.__version__


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['grasp-nodes', '--help']\n"
        "from grasp_nodes.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(sorted({'torch', 'cv2', 'open3d', 'numba', 'trimesh'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "doctor" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "no_such"), "no_such"),
        (("launch", "no_such"), "no_such"),
        (("launch", "no_such.launch.py", "a:=1"), "no_such.launch.py"),
        (("demo", "frames=90"), "frames=90"),
        (("render", "hand:wave", "-o", "x.png"), "wave"),
        (("render", "missing.obj", "-o", "x.png"), "missing.obj"),
        (("render", "hand:flat", "-o", "x.jpg"), "x.jpg"),
        (("render", "hand:flat", "-o", "nowhere/x.png"), "nowhere"),
        (("render", "hand:flat", "--side", "middle", "-o", "x.png"), "middle"),
    ],
)
def test_bad_input_is_one_line_and_code_two(call: Call, words: tuple[str, ...], said: str) -> None:
    code, out, err = call(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("grasp-nodes: ")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("no-such-command",), ("render",), ("render", "hand:flat", "-o", "x.png", "--size", "1")]
)
def test_bad_usage_is_code_two(call: Call, words: tuple[str, ...]) -> None:
    code, _, err = call(*words)
    assert code == 2
    assert "Traceback" not in err


def test_other_failures_are_code_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str, _arguments: list[str]) -> int:
        raise MissingDependencyError("the part is not installed: pip install part")

    monkeypatch.setattr(running, "run_node", fail)
    assert call("run", "fitting_node") == (1, "", "grasp-nodes: the part is not installed: pip install part\n")


def test_the_errors_of_run_list_the_nodes(call: Call) -> None:
    _, _, err = call("run", "no_such")
    for path in Path(grasp_nodes.__file__).parent.glob("nodes/*_node.py"):
        assert path.stem in err


def test_run_hands_everything_behind_the_name_to_the_node(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(running, "run_node", lambda name, arguments: seen.extend([name, *arguments]) or 0)
    words = ["--ros-args", "-p", "frames:=3", "--help", "-r", "a:=b", "--log-level", "debug"]
    code, _, _ = call("run", "source_node", *words)
    assert code == 0
    assert seen == ["source_node", *words]


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


@given(st.dictionaries(NAMES, st.text()))
def test_launch_arguments_come_back(arguments: dict[str, str]) -> None:
    assert launching.parse_arguments([f"{name}:={value}" for name, value in arguments.items()]) == arguments


@given(st.text().filter(lambda word: re.match(r"[A-Za-z_]\w*:=", word) is None))
def test_what_is_no_launch_argument_is_named(word: str) -> None:
    with pytest.raises(InputError, match="NAME:=VALUE"):
        launching.parse_arguments([word])


def test_a_launch_file_is_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, own = tmp_path / "share", tmp_path / "own.launch.py"
    (share / "launch").mkdir(parents=True)
    named = share / "launch" / "named.launch.py"
    for path in (own, named):
        path.touch()
    monkeypatch.setattr(launching, "share_dir", lambda: share)
    assert launching.find_launch_file(str(own)) == own
    assert launching.find_launch_file("named") == launching.find_launch_file("named.launch.py") == named
    with pytest.raises(GraspNodesError, match=r"absent.*named"):
        launching.find_launch_file("absent")


@pytest.mark.parametrize(
    ("variable", "installed", "expected"),
    [("", True, "real"), ("", False, "embedded"), ("embedded", True, "embedded"), ("real", True, "real")],
)
def test_an_installed_ros_wins_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, variable: str, installed: bool, expected: str
) -> None:
    monkeypatch.setenv(embedded.CHOICE_VARIABLE, variable)
    monkeypatch.setattr(embedded, "is_installed", lambda: False)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: object() if installed else None)
    assert runtime.chosen_runtime() == expected


def test_a_runtime_that_is_not_there_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv(embedded.CHOICE_VARIABLE, "real")
    with pytest.raises(MissingDependencyError, match="source"):
        runtime.chosen_runtime()
    monkeypatch.setenv(embedded.CHOICE_VARIABLE, "other")
    with pytest.raises(InputError, match="other"):
        runtime.chosen_runtime()
    monkeypatch.setenv(embedded.CHOICE_VARIABLE, "")
    with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[embedded\]"):
        runtime.prepare_runtime()


def test_doctor_ends_with_one_json_line(call: Call) -> None:
    code, out, _ = call("doctor", "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert answer["usable"] is True
    assert answer["version"] == grasp_nodes.__version__
    found = {row["name"]: row for row in answer["findings"]}
    assert {"python", "numpy", "torch", "open3d", "ROS 2", "hand model", "hand-landmark models", "cache folder"} <= set(
        found
    )
    assert all(row["remedy"] for row in answer["findings"] if row["state"] != "ok")


def test_doctor_names_what_the_core_lacks(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from grasp_nodes.cli import doctor

    find = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name: None if name in ("rosbags", "viser") else find(name)
    )
    code, out, _ = call("doctor", "--json")
    found = {row["name"]: row for row in json.loads(out)["findings"]}
    assert code == 1
    assert found["rosbags"]["state"] == "missing"
    assert found["rosbags"]["remedy"] == "pip install rosbags"
    assert found["viser"]["remedy"].endswith("pip install 'grasp_nodes[viewer]'")
    code, out, _ = call("doctor")
    assert code == 1
    assert "grasp_nodes[viewer]" in out
