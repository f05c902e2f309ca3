"""``grasp-nodes export`` from bags to data sets; bags are written and data sets read by other libraries than ours."""

import json

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.data.message_types import typestore

STORE = typestore()
START = 1_700_000_000_000_000_000
JOINTS = ("thumb", "index")


def message(kind, **fields):
    return STORE.types[kind](**fields)


def header(stamp):
    time = message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return message("std_msgs/msg/Header", stamp=time, frame_id="cam")


def point(values):
    return message("geometry_msgs/msg/Point", **dict(zip("xyz", map(float, values), strict=True)))


def pose(values):
    turn = message("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, values[3:]), strict=True)))
    return message("geometry_msgs/msg/Pose", position=point(values[:3]), orientation=turn)


def state(stamp, row):
    rng = np.random.default_rng(row)
    parts = {"translation": 3, "global_orient": 3, "hand_pose": 45, "betas": 10}
    drawn = {name: rng.normal(size=size).astype(np.float32) for name, size in parts.items()}
    unit = np.array([0, 0, 0, 0, 0, 0, 1.0])
    hand = message(
        "grasp_msgs/msg/HandPose",
        header=header(stamp),
        side=1,
        model_id="open_hand",
        model_fingerprint="f",
        track_id=1,
        **drawn,
        scale=1.0,
        keypoints=[point(0.001 * rng.normal(size=3)) for _ in range(21)],
        joint_frames=[pose(unit)] * 16,
        score=0.9,
        is_metric=True,
    )
    placed = np.concatenate([[0.001 * row, 0.1, 0.5], [0.6, 0, 0, 0.8]])
    covariance = np.full(36, -1.0)
    thing = message(
        "grasp_msgs/msg/ObjectPose",
        header=header(stamp),
        object_id="mug",
        mesh_resource="",
        pose=message("geometry_msgs/msg/PoseWithCovariance", pose=pose(placed), covariance=covariance),
        scale=1.0,
        score=0.9,
        is_metric=True,
    )
    contact = message(
        "grasp_msgs/msg/ContactMap",
        header=header(stamp),
        object_id="mug",
        side=1,
        hand_track_id=1,
        contact_threshold=0.005,
        points=np.zeros(9, np.float32),
        signed_distance=np.zeros(3, np.float32),
        contact=np.array([0.25, 0.75, 0.5], np.float32),
        region=np.array([2, 2, 255], np.uint8),
        elasticity=np.full(3, np.nan, np.float32),
        hand_signed_distance=np.zeros(778, np.float32),
        hand_contact=np.zeros(778, np.float32),
    )
    found = message(
        "grasp_msgs/msg/HandObjectState",
        header=header(stamp),
        hands=[hand],
        objects=[thing],
        contact_maps=[contact],
        residual_names=[],
        residual_values=np.zeros(0, np.float32),
        status=0,
        status_text="",
    )
    vector = np.concatenate([drawn[name] for name in ("translation", "global_orient", "hand_pose")])
    return found, vector, placed


def image(stamp, row):
    pixels = np.full((24, 32, 3), 10 * row, np.uint8)
    kind = "sensor_msgs/msg/Image"
    fields = {"height": 24, "width": 32, "encoding": "rgb8", "is_bigendian": 0, "step": 96, "data": pixels.reshape(-1)}
    return message(kind, header=header(stamp), **fields)


def joint_state(stamp, row):
    position = np.array([0.1 * row, 1.0 - 0.1 * row])
    empty = np.zeros(0)
    return message(
        "sensor_msgs/msg/JointState",
        header=header(stamp),
        name=list(JOINTS),
        position=position,
        velocity=empty,
        effort=empty,
    )


def write_bag(folder, count=8, joints=False, skip=(), task=""):
    """A bag at 30 Hz; returns what its states hold."""
    topics = {
        "/hand_object/state": "grasp_msgs/msg/HandObjectState",
        "/camera/color/image_raw": "sensor_msgs/msg/Image",
    }
    topics |= {"/robot/joint_states": "sensor_msgs/msg/JointState"} if joints else {}
    told = []
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in topics.items()}
        for row in range(count):
            stamp = START + round(row * 1e9 / 30)
            found, vector, placed = state(stamp, row)
            sent = {
                "/hand_object/state": found,
                "/camera/color/image_raw": image(stamp, row),
                "/robot/joint_states": joint_state(stamp, row),
            }
            for topic, connection in connections.items():
                if row not in skip:
                    data = STORE.serialize_cdr(sent[topic], topics[topic])
                    writer.write(connection, stamp, data)
            told.append((vector, placed))
    if task:
        (folder / "demo.json").write_text(json.dumps({"task": task}))
    return np.array([one for one, _ in told]), np.array([one for _, one in told])


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def last_row(result):
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_bags_become_a_lerobot_data_set_in_one_command(tmp_path):
    hands, objects = write_bag(tmp_path / "bags/one", task="lift the mug")
    write_bag(tmp_path / "bags/two", 6)
    result = run("lerobot", tmp_path / "bags", "-o", tmp_path / "set", "--json")
    assert result.exit_code == 0, result.output
    assert last_row(result) == {
        "output": str(tmp_path / "set"),
        "format": "lerobot",
        "episodes": 2,
        "added": 2,
        "refused": 0,
        "frames": 14,
        "warnings": 2,  # fingers at random do not bend as fingers do
    }
    table = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet").to_pydict()
    np.testing.assert_array_equal(np.array(table["observation.state"][:8], np.float32), hands)
    np.testing.assert_allclose(table["observation.environment_state"][:8], objects, rtol=1e-6)
    contact = np.array(table["observation.contact"][0])
    expected = np.zeros(18)
    expected[2], expected[17] = 0.75, 0.75
    np.testing.assert_allclose(contact, expected)
    tasks = pq.read_table(tmp_path / "set/meta/tasks.parquet")["__index_level_0__"].to_pylist()
    assert tasks == ["lift the mug", "manipulate the mug"]
    report = json.loads((tmp_path / "set/export_report.json").read_text())
    assert [one["episode"] for one in report] == [0, 1]
    assert report[0]["findings"][0]["check"] == "limits"


def test_joints_of_a_robot_are_the_state(tmp_path):
    write_bag(tmp_path / "bag", joints=True)
    assert run("npz", tmp_path / "bag", "-o", tmp_path / "out", "--task", "wave", "--images").exit_code == 0
    with np.load(tmp_path / "out/demo_000000.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(found["observation.state"][:, 0], 0.1 * np.arange(8), atol=1e-6)
        assert found["observation.state.names"].tolist() == list(JOINTS)
        assert found["observation.hand"].shape == (8, 51)
        np.testing.assert_array_equal(found["observation.images.camera"][:, 0, 0, 0], 10 * np.arange(8))
        assert str(found["task"]) == "wave"
    assert run("npz", tmp_path / "bag", "-o", tmp_path / "out").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == ["demo_000000.npz", "demo_000001.npz"]


def test_hdf5_as_robomimic_reads_it(tmp_path):
    hands, _ = write_bag(tmp_path / "bag")
    for _ in range(2):
        assert run("hdf5", tmp_path / "bag", "-o", tmp_path / "set.hdf5").exit_code == 0
    with h5py.File(tmp_path / "set.hdf5") as file:
        data = file["data"]
        assert sorted(data) == ["demo_0", "demo_1"]
        assert data.attrs["total"] == 16
        assert set(json.loads(data.attrs["env_args"])) == {"env_name", "type", "env_kwargs"}
        demo = data["demo_1"]
        assert demo.attrs["num_samples"] == 8
        np.testing.assert_array_equal(demo["obs/state"][:], hands)
        np.testing.assert_array_equal(demo["actions"][:-1], hands[1:])
        np.testing.assert_array_equal(demo["dones"][:], [0] * 7 + [1])
        np.testing.assert_array_equal(demo["obs/camera_image"][:, 0, 0, 0], 10 * np.arange(8))


def test_recording_with_faults_is_refused_and_the_others_are_not(tmp_path):
    write_bag(tmp_path / "bags/good")
    write_bag(tmp_path / "bags/gaps", 10, skip=(4, 5))
    (tmp_path / "bags/broken").mkdir()
    (tmp_path / "bags/broken/metadata.yaml").write_text("nonsense")
    result = run("npz", tmp_path / "bags", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert (last_row(result)["added"], last_row(result)["refused"]) == (2, 1)
    report = {
        one["source"].rsplit("/", 1)[1]: one for one in json.loads((tmp_path / "out/export_report.json").read_text())
    }
    assert "cannot be read as a recording" in report["broken"]["error"]
    assert "2 frames are missing" in " ".join(one["text"] for one in report["gaps"]["findings"])
    strict = run("npz", tmp_path / "bags/gaps", "-o", tmp_path / "strict", "--strict")
    assert strict.exit_code == 1
    assert not list((tmp_path / "strict").glob("*.npz"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("lerobot", "nowhere"), "not found"),
        (("xyz", "bag"), "expected one of lerobot, hdf5, npz"),
        (("npz", "bag", "--side", "both"), "--side: expected one of"),
        (("npz", "empty"), "holds no recording"),
    ],
)
def test_bad_requests_say_what_is_wrong(tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    write_bag(tmp_path / "bag", 3)
    (tmp_path / "empty").mkdir()
    result = run(*arguments, "-o", tmp_path / "out")
    assert result.exit_code != 0
    assert reason in str(result.exception)


def test_topics_that_could_be_meant_are_named(tmp_path):
    write_bag(tmp_path / "bag", 3)
    run("npz", tmp_path / "bag", "-o", tmp_path / "out", "--state-topic", "/other")
    report = json.loads((tmp_path / "out/export_report.json").read_text())
    assert (
        "no topic /other of type grasp_msgs/msg/HandObjectState; the bag has: /camera/color/image_raw"
        in report[0]["error"]
    )
