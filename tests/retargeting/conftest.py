"""Robot hands and an object for the tests."""

import pytest

from grasp_nodes.objects.loading import load_object
from grasp_nodes.retargeting.hand_catalogue import open_robot_hand


@pytest.fixture(scope="session")
def generic():
    return open_robot_hand("generic", "right")


@pytest.fixture(scope="session")
def generic_left():
    return open_robot_hand("generic", "left")


@pytest.fixture(scope="session")
def ball():
    return load_object("sphere:0.035", "ball")
