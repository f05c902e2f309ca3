"""What must agree between the files that describe the package."""

from __future__ import annotations

import dataclasses
import re
import stat
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import typer

import grasp_nodes
from grasp_nodes.cli.app import app
from grasp_nodes.nodes.parameters import NODES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "package.xml", ROOT / "ros2_ws" / "src" / "grasp_msgs" / "package.xml")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_lines(page: Path) -> list[str]:
    """Lines of the fenced code blocks of a page."""
    return [
        line.strip()
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_package_xml_says_the_same_as_the_package(path: Path) -> None:
    root = ET.parse(path).getroot()
    assert root.get("format") == "3"
    assert root.findtext("version") == grasp_nodes.__version__
    assert root.findtext("license") == "Apache-2.0"


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == grasp_nodes.__version__


def test_the_workspace_links_to_the_root() -> None:
    link = ROOT / "ros2_ws" / "src" / "grasp_nodes"
    assert link.is_symlink()
    assert link.resolve() == ROOT


def test_colcon_installs_an_executable_for_every_node() -> None:
    listed = re.search(r"^NODES = \((.*?)\)", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    nodes = {path.stem: path for path in (ROOT / "grasp_nodes" / "nodes").glob("*_node.py")}
    assert set(re.findall(r'"(\w+)"', listed[1])) == set(nodes)
    for name, path in nodes.items():
        assert re.search(r"^def main\(", path.read_text(), re.MULTILINE), f"{name} has no main()"


def test_nodes_depend_on_the_packages_that_they_import() -> None:
    declared = {element.text for element in ET.parse(PACKAGES[0]).getroot().iter("exec_depend")}
    imported = set()
    for folder, pattern in (
        ("grasp_nodes/nodes", r"^\s*(?:from|import) (\w+_msgs|rclpy|std_srvs)\b"),
        ("launch", r"^from (launch\w*)"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            imported |= set(re.findall(pattern, path.read_text(), re.MULTILINE))
    assert imported <= declared, f"package.xml lacks {sorted(imported - declared)}"


@pytest.mark.parametrize("path", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_scripts_can_be_run(path: Path) -> None:
    if path.suffix == ".py":
        compile(path.read_text(), path.name, "exec")
        return
    assert path.stat().st_mode & stat.S_IXUSR, f"{path.name} is not executable"
    subprocess.run(["sh", "-n", str(path)], check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_pages_exist(page: Path) -> None:
    group = typer.main.get_command(app)
    commands = set(group.commands)  # type: ignore[attr-defined]
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in code_lines(page):
        for command in re.findall(r"(?:^|[\s/])grasp-nodes ([a-z][\w-]*)", line):
            assert command in commands, f"{page.name}: there is no command 'grasp-nodes {command}'"
        for target in re.findall(r"^make ([a-z]+)", line):
            assert target in targets, f"{page.name}: there is no 'make {target}'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_launch_arguments_of_the_pages_are_declared(page: Path) -> None:
    declared = set()
    for path in (ROOT / "launch").glob("*.launch.py"):
        declared |= set(re.findall(r"""(?:Argument\(|\bargument\()\s*["'](\w+)["']""", path.read_text()))
    lines = [line for line in code_lines(page) if "--ros-args" not in line]
    used = {name for line in lines for name in re.findall(r"\b(\w+):=", line)}
    assert used <= declared, f"{page.name}: no launch file declares {sorted(used - declared)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_node_parameters_of_the_pages_exist(page: Path) -> None:
    for line in code_lines(page):
        for node, arguments in re.findall(r"\brun (?:grasp_nodes )?(\w+_node) (.*--ros-args.*)", line):
            known = {entry.name for entry in dataclasses.fields(NODES[node])}
            assert set(re.findall(r"-p (\w+):=", arguments)) <= known, f"{page.name}: {line}"


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    missing = [str(path) for path in pages if path.name != "index.md" and f"({path})" not in index]
    assert not missing, f"docs/index.md does not link to {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target} does not exist"
