"""The floors are checked by import-linter: the package keeps them, and a package that climbs is caught."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="the lint extra is not installed")

ROOT = Path(__file__).resolve().parents[2]
FLOORS = "Floors"
EMBEDDED = "The embedded runtime"
MATHEMATICS = "Mathematics"


def lint(folder: Path) -> tuple[int, dict[str, str], str]:
    """Run the checker in a folder: its exit code, contract name to KEPT or BROKEN, all that it said."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
        "--no-cache",
        "--no-logo",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    results = {name.strip(): state for name, state in re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, re.MULTILINE)}
    return done.returncode, results, done.stdout + done.stderr


def state_of(results: dict[str, str], beginning: str) -> str:
    return next(state for name, state in results.items() if name.startswith(beginning))


@pytest.fixture
def empty_house(tmp_path: Path) -> Path:
    """The same rooms with nothing in them, under the same contracts."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    package = tmp_path / "grasp_nodes"
    package.mkdir()
    (package / "__init__.py").touch()
    for path in sorted((ROOT / "grasp_nodes").iterdir()):
        if (path / "__init__.py").is_file():
            (package / path.name).mkdir()
            (package / path.name / "__init__.py").touch()
        elif path.suffix == ".py":
            (package / path.name).touch()
    return tmp_path


def test_the_package_keeps_its_floors() -> None:
    code, results, output = lint(ROOT)
    assert set(results.values()) == {"KEPT"}, output
    assert len(results) == 3
    assert code == 0


def test_an_empty_house_is_in_order(empty_house: Path) -> None:
    code, results, output = lint(empty_house)
    assert code == 0, output
    assert set(results.values()) == {"KEPT"}


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("geometry", "from grasp_nodes.hand import anything", FLOORS),
        ("contact", "import grasp_nodes.fitting", FLOORS),
        ("errors", "import grasp_nodes.paths", FLOORS),
        ("fitting", "def late():\n    from grasp_nodes.viewer import page", FLOORS),
        ("hand", "import grasp_nodes.objects", FLOORS),
        ("nodes", "import grasp_nodes.embedded", FLOORS),
        ("nodes", "from grasp_nodes.cli import app", FLOORS),
        ("embedded", "import grasp_nodes.errors", EMBEDDED),
        ("embedded", "import grasp_nodes.geometry", EMBEDDED),
        ("perception", "import rclpy", MATHEMATICS),
        ("viewer", "from sensor_msgs.msg import Image", MATHEMATICS),
    ],
)
def test_an_import_that_climbs_is_caught(empty_house: Path, room: str, line: str, contract: str) -> None:
    target = empty_house / "grasp_nodes" / room
    target = target / "climbs.py" if target.is_dir() else target.with_suffix(".py")
    target.write_text(line + "\n")
    code, results, output = lint(empty_house)
    assert code != 0, output
    assert state_of(results, contract) == "BROKEN", output


@pytest.mark.parametrize(
    ("room", "line"),
    [("fitting", "import grasp_nodes.geometry"), ("cli", "import grasp_nodes.embedded"), ("nodes", "import rclpy")],
)
def test_an_import_that_goes_down_is_allowed(empty_house: Path, room: str, line: str) -> None:
    (empty_house / "grasp_nodes" / room / "stays.py").write_text(line + "\n")
    code, _, output = lint(empty_house)
    assert code == 0, output


def test_a_room_without_a_floor_is_caught(empty_house: Path) -> None:
    room = empty_house / "grasp_nodes" / "attic"
    room.mkdir()
    (room / "__init__.py").touch()
    code, results, output = lint(empty_house)
    assert code != 0, output
    assert state_of(results, FLOORS) == "BROKEN", output
