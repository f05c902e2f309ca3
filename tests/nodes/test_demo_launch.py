"""The demo's launch file under the embedded launcher: ends by itself, reports, records, and stops when told to."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from grasp_nodes.data.sources import open_source
from grasp_nodes.perception.model_files import find_hand_models

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(find_hand_models() is None, reason="the hand models are not in the cache: run 'make models'"),
]
FRAMES = 6


def command(*arguments):
    return [sys.executable, "-m", "grasp_nodes", "launch", "demo", "viewer:=false", f"frames:={FRAMES}", *arguments]


def environment(domain):
    return {**os.environ, "GRASP_NODES_ROS": "embedded", "ROS_DOMAIN_ID": str(domain)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run in a name space, recorded."""
    folder = tmp_path_factory.mktemp("demo")
    arguments = [f"report_file:={folder / 'report.json'}", f"record:={folder / 'bag'}", "namespace:=left"]
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=280, check=False, env=environment(91)
    )
    return folder, result


def test_run_ends_by_itself_with_a_report(run):
    folder, result = run
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    report = json.loads((folder / "report.json").read_text())
    assert report["complete"]
    assert (report["frames_in"], report["frames_out"], report["found_share"]) == (FRAMES, FRAMES, 1.0)
    # Wide limits: six frames say that the parts fit together, not how good they are.
    assert 0 < report["hand_mpjpe_mm"] < 30
    assert 0 < report["object_add_s_mm"] < 20
    assert report["fps"] > 0
    assert report["latency_p50_ms"] > 0


def test_recording_holds_the_whole_run(run):
    folder, result = run
    assert (folder / "bag").is_dir(), result.stdout[-4000:]
    assert not list(folder.glob("*.partial"))
    with AnyReader([folder / "bag"]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    for topic in ("camera/color/image_raw", "camera/depth/image_raw", "evidence", "hand_object/state", "truth/state"):
        assert counts[f"/left/{topic}"] == FRAMES, topic
    assert counts["/left/hand_model_info"] == 2
    assert counts["/tf"] == FRAMES


def test_recording_can_be_played(run):
    folder, _ = run
    bag, clip = open_source(str(folder / "bag")), open_source("", frames=FRAMES)
    assert len(bag) == FRAMES
    assert bag.has_depth
    for recorded, original in zip(bag, clip, strict=True):
        assert recorded.stamp == original.stamp
        np.testing.assert_array_equal(recorded.color, original.color)
        np.testing.assert_allclose(recorded.depth, original.depth, atol=1e-6)
        np.testing.assert_array_equal(recorded.camera.camera_k, original.camera.camera_k)


def test_endless_run_is_stopped_by_ctrl_c_with_whole_files(tmp_path):
    report = tmp_path / "report.json"
    process = subprocess.Popen(
        command("loop:=true", f"report_file:={report}", f"record:={tmp_path / 'bag'}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(92),
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 200
        while not report.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert report.exists(), output[-4000:]
    json.loads(report.read_text())
    assert "process has died" not in output, output[-4000:]
    assert "Traceback" not in output
    with AnyReader([tmp_path / "bag"]) as reader:
        assert reader.message_count > FRAMES


@pytest.mark.parametrize(
    ("argument", "said"), [("pace:=fast", "realtime"), ("seed:=x", "seed:=x: expected a whole number")]
)
def test_bad_argument_is_refused_with_what_is_expected(argument, said):
    result = subprocess.run(
        command(argument), capture_output=True, text=True, timeout=60, check=False, env=environment(93)
    )
    assert result.returncode == 2
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_parameters_of_the_users_file_count_and_arguments_count_more(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**/source_node:\n  ros__parameters:\n    source: /nowhere/mine.mp4\n    seed: 3\n")
    result = subprocess.run(
        command(f"params_file:={file}"), capture_output=True, text=True, timeout=100, check=False, env=environment(94)
    )
    assert "'/nowhere/mine.mp4': not found" in result.stdout + result.stderr
    result = subprocess.run(
        command(f"params_file:={file}", "source:=/nowhere/other.mp4"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment(94),
    )
    assert "'/nowhere/other.mp4': not found" in result.stdout + result.stderr
