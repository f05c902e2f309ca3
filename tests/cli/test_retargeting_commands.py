"""``grasp-nodes retarget`` and ``grasp-nodes hands``: files are read without us, the limits from the URDF itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.contact.hand_states import hand_states
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandObjectTrajectory, ObjectState
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.trajectory_files import RecordedTrajectory, write_trajectory
from grasp_nodes.errors import GraspNodesError, InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.retargeting.hand_catalogue import KNOWN, SHIPPED

CAMERA = CameraModel(np.array([[500.0, 0, 159.5], [0, 500.0, 119.5], [0, 0, 1]]), 320, 240)
PERIOD = 33_000_000
FRAMES = 5
URDF = SHIPPED / "generic_right.urdf"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def last_row(result):
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout.strip().splitlines()[-1])


def joints_of(path):
    """Of a URDF, by the text alone: name -> (lower, upper, velocity, what it mimics), in the file's order."""
    found = {}
    for joint in ET.parse(path).getroot().findall("joint"):
        if joint.get("type") == "fixed":
            continue
        limit, mimic = joint.find("limit"), joint.find("mimic")
        numbers = [float(limit.get(name)) for name in ("lower", "upper", "velocity")]
        found[joint.get("name")] = (*numbers, None if mimic is None else dict(mimic.attrib))
    return found


def write_states(path, hands, objects=()):
    """A trajectory of given hands, in each of whose frames are the same objects: id, mesh, and place of each."""
    states = []
    for row, hand in enumerate(hands):
        placed = []
        for name, mesh, place in objects:
            pose = np.eye(4)
            pose[:3, 3] = place
            placed.append(ObjectState(name, pose, mesh_resource=mesh))
        status = FitStatus.OK if hand else FitStatus.NOTHING
        seen = () if hand is None else (hand,)
        states.append(HandObjectState(10**9 + row * PERIOD, "cam", seen, tuple(placed), status=status))
    write_trajectory(path, RecordedTrajectory(HandObjectTrajectory("made up", states), CAMERA, 30.0))
    return path


def closing_hands(side="right", count=FRAMES):
    """A hand that closes, faster than the robot's joints may follow."""
    params = HandParams.zeros(count, side)
    bend = np.linspace(0, 1.4, count)
    pose = params.hand_pose.reshape(count, 15, 3)
    pose[:, :, 2] = params.hand_pose.new_tensor((-1 if side == "left" else 1) * bend)[:, None]
    params.transl[:, 2] = 0.5
    return hand_states(params, load_hand_model(side))


@pytest.fixture(scope="module")
def closing(tmp_path_factory):
    """A folder as reconstruct leaves it: a hand that closes around a ball, and is gone in one frame."""
    hands = closing_hands()
    place = hands[0].keypoints[[5, 9, 13]].mean(0) + [0, -0.05, 0]
    hands[3] = None
    folder = tmp_path_factory.mktemp("out")
    write_states(folder / "trajectory.npz", hands, [("ball", "sphere:0.03", place)])
    return folder


@pytest.fixture(scope="module")
def grasps(tmp_path_factory):
    """Two recorded grasps of one object."""
    found = open_grasps(load_hand_model("right").fingerprint)
    path = tmp_path_factory.mktemp("grasps") / "grasps.npz"
    write_grasps(path, found[np.flatnonzero(found.object_index == 7)[:2]])
    return path


@pytest.mark.parametrize("mode", ["contact", "dexpilot"])
def test_trajectory_keeps_to_the_limits_of_the_urdf_in_its_order(tmp_path, closing, mode):
    output = tmp_path / "new" / "robot.npz"
    row = last_row(run("retarget", closing / "trajectory.npz", "--mode", mode, "-o", output, "--json"))
    name = ET.parse(URDF).getroot().get("name")
    assert (row["output"], row["robot"], row["mode"], row["frames"]) == (str(output), name, mode, FRAMES - 1)
    with np.load(output, allow_pickle=False) as found:
        content = dict(found)
    joints = joints_of(URDF)
    assert content["joint_names"].tolist() == list(joints)
    lower, upper, velocity = (np.array([one[k] for one in joints.values()]) for k in range(3))
    positions = content["positions"]
    assert positions.shape == (FRAMES - 1, len(joints))
    assert (positions >= lower - 1e-6).all()
    assert (positions <= upper + 1e-6).all()
    assert np.abs(positions[-1] - positions[0]).max() > 0.3, "it closes"
    seconds = np.diff(content["stamp"]) * 1e-9
    assert (np.abs(np.diff(positions, axis=0)) <= velocity * seconds[:, None] + 1e-6).all()
    for name, (*_, mimic) in joints.items():
        if mimic:
            names = list(joints)
            other = positions[:, names.index(mimic["joint"])]
            expected = float(mimic.get("multiplier", 1)) * other + float(mimic.get("offset", 0))
            np.testing.assert_allclose(positions[:, names.index(name)], expected, atol=1e-9)
    assert content["stamp"].tolist() == [10**9 + k * PERIOD for k in (0, 1, 2, 4)]
    assert set(content["frame_id"].tolist()) == {"cam"}
    turns = content["T_frame_base"][:, :3, :3]
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)


def test_folder_of_a_reconstruction_is_the_trajectory_in_it(tmp_path, closing):
    for name, what in (("a", closing), ("b", closing / "trajectory.npz")):
        assert run("retarget", what, "--mode", "vector", "-o", tmp_path / f"{name}.npz").exit_code == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_side_that_is_seen_most_is_followed_by_a_hand_of_that_side(tmp_path):
    path = write_states(tmp_path / "left.npz", closing_hands("left", 3))
    last_row(run("retarget", path, "--mode", "vector", "-o", tmp_path / "robot.npz", "--json"))
    with np.load(tmp_path / "robot.npz", allow_pickle=False) as found:
        assert str(found["side"]) == "left"
        assert found["joint_names"].tolist() == list(joints_of(SHIPPED / "generic_left.urdf"))


def test_grasps_become_robot_grasps_with_what_was_kept(tmp_path, grasps):
    row = last_row(run("retarget", grasps, "-o", tmp_path / "robot.npz", "--hold", "--json"))
    assert row["grasps"] == 2
    assert 0 <= row["hold_share"] <= 1
    with np.load(tmp_path / "robot.npz", allow_pickle=False) as found:
        content = dict(found)
    joints = joints_of(URDF)
    assert content["joint_names"].tolist() == list(joints)
    assert content["number"].tolist() == [0, 1]
    limits = np.array([one[:2] for one in joints.values()])
    assert (content["positions"] >= limits[:, 0] - 1e-6).all()
    assert (content["positions"] <= limits[:, 1] + 1e-6).all()
    assert content["metric_six_direction_hold"].mean() == row["hold_share"]
    assert content["metric_penetration_depth_m"].mean() * 1e3 == pytest.approx(row["penetration_mm"])


def test_hand_by_the_path_of_its_urdf(tmp_path, closing):
    """A description of the user's own, whose joints are in another order."""
    tree = ET.parse(URDF)
    robot = tree.getroot()
    joints = robot.findall("joint")
    for joint in joints:
        robot.remove(joint)
    robot.extend(reversed(joints))
    tree.write(tmp_path / "mine.urdf")
    result = run("retarget", closing, "--hand", tmp_path / "mine.urdf", "--mode", "vector", "-o", tmp_path / "o.npz")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "o.npz", allow_pickle=False) as found:
        assert found["joint_names"].tolist() == list(joints_of(URDF))[::-1]


def one_message(result, kind, said):
    """A refusal is one line that says it, and leaves no file."""
    assert isinstance(result.exception, kind), result.output + repr(result.exception)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (("--mode", "exact"), InputError, "expected one of position, vector, dexpilot, contact, got 'exact'"),
        (("--wrist", "loose"), InputError, "expected auto, free or fixed, got 'loose'"),
        (("--side", "both"), InputError, "side: expected auto, right or left, got 'both'"),
        (("--side", "left"), InputError, "holds no left hand; sides seen: {'right': 4}"),
        (("--backend", "magic"), InputError, "expected one of own, dex_retargeting, got 'magic'"),
        (("--hand", "alegro"), MissingFileError, "path of a URDF file or one of generic, allegro"),
        (("--hand", "allegro"), MissingFileError, "grasp-nodes hands fetch allegro"),
        (("--hand", SHIPPED / "generic_left.urdf"), InputError, "expected a right hand"),
        (("--object", "nothing.obj"), MissingFileError, "nothing.obj"),
        (("--hold",), InputError, "--hold: a hold is judged of grasps"),
    ],
)
def test_bad_requests_say_what_was_expected(tmp_path, closing, monkeypatch, options, kind, said):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "empty"))
    one_message(run("retarget", closing, "-o", tmp_path / "robot.npz", *options), kind, said)
    assert not (tmp_path / "robot.npz").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<robot", "not XML"),
        (b"<robot><link name='a'/></robot>", "no joint moves"),
        (b"\xff\xfe", "not a text in UTF-8"),
        (b"<robot xmlns:xacro='x'><xacro:include/></robot>", "turn it into a URDF first"),
    ],
)
def test_descriptions_that_are_none_are_named(tmp_path, closing, content, said):
    (tmp_path / "hand.urdf").write_bytes(content)
    result = run("retarget", closing, "--hand", tmp_path / "hand.urdf", "-o", tmp_path / "robot.npz")
    one_message(result, InputError, said)
    assert str(tmp_path / "hand.urdf") in str(result.exception)


def test_files_that_hold_nothing_to_retarget_are_named(tmp_path, closing):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for what in ("nothing.npz", "empty", "text.npz", "other.npz"):
        one_message(run("retarget", tmp_path / what, "-o", tmp_path / "robot.npz"), GraspNodesError, what)
    cut = (closing / "trajectory.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(cut[: len(cut) // 2])
    one_message(run("retarget", tmp_path / "cut.npz", "-o", tmp_path / "robot.npz"), InputError, "cut.npz")
    assert not (tmp_path / "robot.npz").exists()


def test_objects_without_a_mesh_or_one_mesh_for_several_are_refused(tmp_path):
    hands = closing_hands(count=2)
    bare = write_states(tmp_path / "bare.npz", hands, [("mug", "", (0, 0, 0.9))])
    one_message(run("retarget", bare, "-o", tmp_path / "o.npz"), InputError, "names no mesh of 'mug': give it with")
    assert run("retarget", bare, "--object", "sphere:0.03", "-o", tmp_path / "o.npz").exit_code == 0
    two = [("mug", "sphere:0.03", (0, 0, 0.9)), ("box", "box:0.1,0.1,0.1", (0, 0, 1.2))]
    both = write_states(tmp_path / "both.npz", hands, two)
    result = run("retarget", both, "--object", "sphere:0.03", "-o", tmp_path / "two.npz")
    one_message(result, InputError, "several objects (box, mug)")
    assert run("retarget", both, "--mode", "vector", "-o", tmp_path / "two.npz").exit_code == 0


@pytest.mark.parametrize("name", ["robot.txt", "robot", "folder.npz", "file.txt/robot.npz"])
def test_output_that_cannot_be_is_said_in_one_line(tmp_path, closing, name):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file.txt").write_text("")
    one_message(run("retarget", closing, "--mode", "vector", "-o", tmp_path / name), InputError, str(tmp_path / name))


def test_grasps_of_the_other_side_and_mirrored_objects_are_refused(tmp_path, grasps):
    one_message(run("retarget", grasps, "--side", "left", "-o", tmp_path / "o.npz"), InputError, "asked for the left")
    found = open_grasps(load_hand_model("right").fingerprint)
    own = found[np.flatnonzero(found.object_index == 7)[:1]]
    flip = np.diag([-1.0, 1, 1, 1])
    mirrored = replace(own, objects=tuple(replace(one, transform=one.transform @ flip) for one in own.objects))
    write_grasps(tmp_path / "mirrored.npz", mirrored)
    one_message(run("retarget", tmp_path / "mirrored.npz", "-o", tmp_path / "o.npz"), InputError, "mirrored")
    write_grasps(tmp_path / "several.npz", found[np.arange(0, 2000, 400)])
    one_message(run("retarget", tmp_path / "several.npz", "-o", tmp_path / "o.npz"), InputError, "of one object")


def test_hands_are_listed_with_their_licence_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    told = run("hands")
    assert told.exit_code == 0
    rows = {line.split("│")[1].strip(): line for line in told.stdout.splitlines() if "│" in line}
    assert set(KNOWN) <= set(rows)
    assert "ready" in rows["generic"]
    assert "BSD-2-Clause" in rows["allegro"]
    assert "grasp-nodes hands fetch allegro" in rows["allegro"]
    driven = sum(mimic is None for *_, mimic in joints_of(URDF).values())
    assert str(driven) in rows["generic"].split("│")[2]


def test_fetch_says_where_the_description_is(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path))
    told = run("hands", "fetch", "generic")
    assert told.exit_code == 0
    *paths, licence = told.stdout.splitlines()
    assert [Path(path).name for path in paths] == ["generic_right.urdf", "generic_left.urdf"]
    assert all(ET.parse(path).getroot().tag == "robot" for path in paths)
    assert licence == "licence of the description: Apache-2.0"
    one_message(run("hands", "fetch", "alegro"), InputError, "expected one of generic, allegro")
