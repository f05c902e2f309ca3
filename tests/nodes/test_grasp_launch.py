"""The grasp launch file under the embedded launcher: a rendered camera's clouds become grasps in its frame."""

import os
import subprocess
import sys

import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from grasp_nodes.paths import share_dir

pytestmark = [pytest.mark.processes, pytest.mark.slow]
FRAMES, COUNT = 2, 3


def command(*arguments):
    return [sys.executable, "-m", "grasp_nodes", "launch", "grasp", "viewer:=false", "stay:=false", *arguments]


def run(*arguments, domain):
    environment = {**os.environ, "GRASP_NODES_ROS": "embedded", "ROS_DOMAIN_ID": str(domain)}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=200, check=False, env=environment
    )


def test_clouds_of_the_rendered_camera_become_grasps(tmp_path):
    result = run(
        f"frames:={FRAMES}",
        f"count:={COUNT}",
        "method:=random",
        "object:=family:mug:12",
        f"record:={tmp_path / 'bag'}",
        domain=95,
    )
    text = result.stdout + result.stderr
    assert result.returncode == 0, text[-4000:]
    assert f"{FRAMES} frames sent, {FRAMES} answered" in text
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in share_dir().glob("msg/*.msg"):
        store.register(get_types_from_msg(path.read_text(), f"grasp_msgs/msg/{path.stem}"))
    with AnyReader([tmp_path / "bag"], default_typestore=store) as reader:
        clouds, grasps = {}, {}
        for connection, _, data in reader.messages():
            kept = {"/camera/depth/points": clouds, "/grasps": grasps}.get(connection.topic)
            if kept is not None:
                message = store.deserialize_cdr(data, connection.msgtype)
                kept[(message.header.stamp.sec, message.header.stamp.nanosec)] = message
    assert len(grasps) == FRAMES
    assert grasps.keys() <= clouds.keys()
    for stamp, message in grasps.items():
        assert message.header.frame_id == clouds[stamp].header.frame_id
        assert len(message.grasps) == COUNT
        # The table is 0.6 m before the camera, and so is what is grasped on it.
        assert all(0.3 < grasp.hand.translation[2] < 0.9 for grasp in message.grasps)


def test_bad_argument_is_refused_with_what_is_expected():
    result = run("count:=many", domain=96)
    assert result.returncode == 2
    assert "count:=many: expected a whole number" in result.stdout + result.stderr
