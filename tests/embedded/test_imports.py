"""Which packages an import reaches where a ROS installation is on the path but the embedded runtime was chosen."""

import subprocess
import sys

import pytest

from grasp_nodes.paths import share_dir

PROGRAM = f"""
from pathlib import Path
from grasp_nodes import embedded
share = Path({str(share_dir())!r})
assert embedded.install({{"grasp_msgs": [share / "msg", share / "srv"]}})
"""


@pytest.fixture
def installation(tmp_path):
    """Folder with an rclpy, message packages (known and unknown) as rosidl installs them, and a plain package."""
    for package in ("rclpy", "sensor_msgs", "made_up_msgs", "plain"):
        for folder in (tmp_path / package, tmp_path / package / "msg"):
            folder.mkdir()
            (folder / "__init__.py").write_text("installed = True\n")
        if package.endswith("_msgs"):
            (tmp_path / package / f"{package}_s__rosidl_typesupport_c.cpython-311-x86_64-linux-gnu.so").touch()
    return tmp_path


def run(installation, text):
    environment = {"GRASP_NODES_ROS": "embedded", "PYTHONPATH": f"{installation}:{share_dir()}"}
    command = [sys.executable, "-c", PROGRAM + text]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_chosen_runtime_comes_before_an_installed_one(installation):
    done = run(
        installation,
        "import rclpy.node, sensor_msgs.msg\n"
        "assert 'installed' not in {*vars(rclpy), *vars(sensor_msgs), *vars(sensor_msgs.msg)}\n"
        "assert sensor_msgs.msg.Image(height=3).height == 3",
    )
    assert done.returncode == 0, done.stderr


def test_installed_messages_that_it_does_not_know_are_refused(installation):
    done = run(installation, "import made_up_msgs.msg")
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: the embedded ROS runtime does not know made_up_msgs.msg"
    )


def test_other_packages_are_left_alone(installation):
    done = run(installation, "import plain.msg; assert plain.msg.installed")
    assert done.returncode == 0, done.stderr
