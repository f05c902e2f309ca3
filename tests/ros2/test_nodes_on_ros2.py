"""The tests of the nodes once more, on an installed ROS 2: the node files are the same, so must be the behaviour."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL = {**os.environ, "GRASP_NODES_ROS": "real"}
# These damage bytes on purpose, which the middleware of ROS 2 answers in its own way, or start the embedded launcher.
EMBEDDED_ONLY = ("test_fuzz.py", "test_demo_launch.py", "test_grasp_launch.py")


def has_ros2():
    """Whether the real rclpy and this package's messages can be imported."""
    check = [sys.executable, "-c", "import rclpy, grasp_msgs.msg"]
    return subprocess.run(check, env=REAL, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.ros2
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nodes_pass_their_tests_on_ros2():
    if not has_ros2():
        pytest.skip("no ROS 2: source one, build ros2_ws with colcon and source ros2_ws/install/setup.bash")
    ignored = [f"--ignore=tests/nodes/{name}" for name in EMBEDDED_ONLY]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/nodes", *ignored]
    result = subprocess.run(command, env=REAL, cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert result.returncode == 0, result.stdout[-6000:]
