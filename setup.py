"""Installs the package twice: with pip (wheel, editable) and with colcon (ament_python).

Everything descriptive stands in pyproject.toml. Here is what colcon needs even with a setuptools that is too old to
read that file (ROS 2 Humble): the name, the packages, the files of the ament share folder and the executables.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NAME = "grasp_nodes"
SHARED_FOLDERS = ("msg", "srv", "launch", "config")
NODES = (
    "source_node",
    "perception_node",
    "fitting_node",
    "viewer_node",
    "recorder_node",
    "report_node",
    "grasp_node",
    "retargeting_node",
)
# pip builds wheels through these commands; colcon calls build, install or develop.
FOR_WHEEL = any(command in sys.argv for command in ("dist_info", "bdist_wheel", "editable_wheel"))


def read_version() -> str:
    match = re.search(r'^__version__ = "([^"]+)"', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f'{NAME}/__init__.py has no line __version__ = "..."')
    return match.group(1)


def shared_files() -> list[Path]:
    """Message, launch and configuration files, relative to the root."""
    files = (path for folder in SHARED_FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    return [path.relative_to(ROOT) for path in files if path.is_file() and "__pycache__" not in path.parts]


def ament_share() -> list[tuple[str, list[str]]]:
    """The share folder of an ament package, as setuptools' ``data_files``."""
    folders: dict[str, list[str]] = {
        "share/ament_index/resource_index/packages": [f"resource/{NAME}"],
        f"share/{NAME}": ["package.xml"],
    }
    for path in shared_files():
        folders.setdefault(f"share/{NAME}/{path.parent.as_posix()}", []).append(path.as_posix())
    return list(folders.items())


def console_scripts() -> list[str]:
    """The command, and for ROS 2 one executable per node: without ROS 2 they run through ``grasp-nodes run``."""
    nodes = [f"{node} = {NAME}.nodes.{node}:main" for node in NODES]
    return [f"grasp-nodes = {NAME}.cli.app:main", *([] if FOR_WHEEL else nodes)]


class BuildWithShare(build_py):
    """Puts the shared files inside the package when a wheel is built, so that it works alone."""

    def run(self) -> None:
        super().run()
        if "bdist_wheel" not in sys.argv:
            return
        for path in shared_files():
            target = Path(self.build_lib, NAME, "share", path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target)


setup(
    name=NAME,
    version=read_version(),
    # Namespace packages too: a folder of data alone is a package to setuptools.
    packages=find_namespace_packages(include=[NAME, f"{NAME}.*"], exclude=["*.__pycache__"]),
    package_data={"": ["*.npz", "*.safetensors", "*.json", "*.html", "*.urdf", "LICENSE", "py.typed"]},
    data_files=[] if FOR_WHEEL else ament_share(),
    license="Apache-2.0",
    python_requires=">=3.10",
    zip_safe=False,
    entry_points={"console_scripts": console_scripts()},
    cmdclass={"build_py": BuildWithShare},
)
