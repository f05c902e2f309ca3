"""What the launch files tell the nodes of a robot hand; nothing is started."""

from pathlib import Path

import pytest
import yaml

from grasp_nodes import embedded
from grasp_nodes.embedded import launch
from grasp_nodes.paths import share_dir


@pytest.fixture
def told(monkeypatch):
    """Launches a file and gives the parameters of each node that it would start."""

    def start(file, **arguments):
        found = {}

        def remember(_launcher, node, command, _context):
            texts = [Path(word).read_text() for word in command if str(word).startswith("/") and Path(word).is_file()]
            found[node.executable] = {}
            for text in texts:
                content = yaml.safe_load(text)
                if isinstance(content, dict):
                    found[node.executable] |= content.get("/**", {}).get("ros__parameters", {})

        monkeypatch.setattr(launch.Launcher, "start", remember)
        assert embedded.launch_file(share_dir() / "launch" / file, arguments, runner=["none"]) == 0
        return found

    return start


def test_the_demo_has_no_robot_unless_asked(told):
    assert "retargeting_node" not in told("demo.launch.py")
    found = told("demo.launch.py", robot="allegro", robot_side="left")
    assert found["retargeting_node"]["robot"] == "allegro"
    assert found["retargeting_node"]["side"] == "left"
    assert (found["viewer_node"]["robot"], found["viewer_node"]["robot_side"]) == ("allegro", "left")


def test_teleop_follows_a_camera_without_an_object(told):
    found = told("teleop.launch.py")
    assert found["source_node"]["source"] == "0"
    assert found["perception_node"]["object_backend"] == "none"
    assert found["retargeting_node"]["mode"] == "dexpilot"
    assert found["retargeting_node"]["robot"] == found["viewer_node"]["robot"] == "generic"
    assert "recorder_node" not in found
    other = told("teleop.launch.py", viewer="false", record="bag", mode="vector", robot_side="left")
    assert "viewer_node" not in other
    assert other["recorder_node"]["output"] == "bag"
    assert (other["retargeting_node"]["mode"], other["retargeting_node"]["side"]) == ("vector", "left")


def test_a_mode_that_is_not_there_is_refused(told):
    with pytest.raises(embedded.LaunchError, match="mode"):
        told("teleop.launch.py", mode="magic")
