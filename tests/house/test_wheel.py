"""The wheel works alone: messages, services, launch files, configuration and the open hand travel inside it."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("msg", "srv", "launch", "config")
BUILD_FILES = ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "MANIFEST.in", "README.md", "LICENSE")
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources: building leaves files behind."""
    pytest.importorskip("wheel", reason="the test extra is not installed")
    sources = tmp_path_factory.mktemp("sources")
    for name in BUILD_FILES:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, sources)
    for name in ("grasp_nodes", "resource", "data", *SHARED):
        shutil.copytree(ROOT / name, sources / name, ignore=IGNORED)
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
    ]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def python(unpacked: Path, code: str) -> str:
    """What a program prints that finds the package of the wheel, and not the checkout's."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=unpacked, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_shared_files_are_inside_unchanged(unpacked: Path) -> None:
    expected = {
        path.relative_to(ROOT)
        for folder in SHARED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.suffix for path in expected} >= {".msg", ".srv"}
    share = unpacked / "grasp_nodes" / "share"
    assert {path.relative_to(share) for path in share.rglob("*") if path.is_file()} == expected
    for path in expected:
        assert (share / path).read_bytes() == (ROOT / path).read_bytes()


def test_data_of_the_rooms_is_inside(unpacked: Path) -> None:
    endings = {".npz", ".json", ".html"}
    data = [path for path in (ROOT / "grasp_nodes").rglob("*") if path.suffix in endings and "share" not in path.parts]
    assert any(path.name == "open_hand_v1.npz" for path in data)
    for path in data:
        assert (unpacked / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_nothing_else_is_installed(unpacked: Path) -> None:
    top = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"grasp_nodes"}


def test_the_unpacked_wheel_finds_its_own_share_folder(unpacked: Path) -> None:
    found = python(unpacked, "from grasp_nodes.paths import share_dir; print(share_dir())")
    assert Path(found) == unpacked / "grasp_nodes" / "share"


def test_the_unpacked_wheel_answers_on_the_command_line(unpacked: Path) -> None:
    import grasp_nodes

    code = "import sys; sys.argv = ['grasp-nodes', '--version']; from grasp_nodes.cli.app import main; main()"
    assert python(unpacked, code) == grasp_nodes.__version__


def test_the_unpacked_wheel_loads_its_hand(unpacked: Path) -> None:
    code = (
        "from grasp_nodes.hand.files import load_hand_arrays, OPEN_HAND_FILE; "
        "print(OPEN_HAND_FILE, len(load_hand_arrays('right').v_template))"
    )
    file, count = python(unpacked, code).split()
    assert Path(file).is_relative_to(unpacked)
    assert int(count) == 778


def test_the_only_executable_is_the_command(unpacked: Path) -> None:
    # Node executables belong to ament's lib folder: in a PATH without ROS 2 they could not import rclpy.
    scripts = configparser.ConfigParser()
    scripts.read(next(unpacked.glob("*.dist-info")) / "entry_points.txt")
    assert dict(scripts["console_scripts"]) == {"grasp-nodes": "grasp_nodes.cli.app:main"}
