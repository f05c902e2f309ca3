"""Every input as frames: a clip folder, a video, images, a stereo pair, a recording; and what is said of bad ones."""

import json
import os
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from grasp_nodes.data.bag_source import BagSource, decode_color, decode_depth
from grasp_nodes.data.clip_files import ClipInfo, write_clip_info, write_image
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.frame_source import guessed_camera
from grasp_nodes.data.sources import open_source
from grasp_nodes.data.stereo_source import StereoSource
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel

SAMPLES = Path(os.environ.get("GRASP_NODES_SAMPLES", Path(__file__).parents[2].parent / "shared" / "samples"))
CAMERA = CameraModel(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48)
STORE = get_typestore(Stores.ROS2_JAZZY)


def picture(index):
    """64 x 48, smooth, different for each index."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([x * 3, y * 4, np.full_like(x, 40 * index)], axis=-1).astype(np.uint8)


def make_clip(folder, frames=3, **changes):
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    for index in range(frames):
        write_image(folder / "color" / f"{index:06d}.png", picture(index))
        write_image(folder / "depth" / f"{index:06d}.png", np.full((48, 64), 500 + index, np.uint16))
    write_clip_info(
        folder, ClipInfo(**({"frames": frames, "fps": 10, "camera": CAMERA, "depth_unit": 0.001} | changes))
    )
    return folder


# -- clips


def test_clip_without_truth(tmp_path):
    source = open_source(str(make_clip(tmp_path / "clip")))
    assert (len(source), source.fps, source.has_depth, source.has_truth, source.is_live) == (3, 10, True, False, False)
    frames = list(source)
    assert [frame.stamp for frame in frames] == [0, 100_000_000, 200_000_000]
    assert (frames[2].color == picture(2)).all()
    assert frames[2].depth == pytest.approx(np.full((48, 64), 0.502), abs=1e-6)
    assert source.truth(0) is None
    assert len(list(source)) == 3  # a second pass starts again
    assert len(open_source(str(tmp_path / "clip"), frames=2)) == 2


def test_clip_with_damaged_parts_names_the_file(tmp_path):
    folder = make_clip(tmp_path / "clip")
    (folder / "color" / "000001.png").write_bytes(b"x")
    frames = iter(open_clip(folder))
    next(frames)
    with pytest.raises(InputError, match=r"000001\.png"):
        next(frames)
    write_image(folder / "color" / "000001.png", picture(1)[:20])
    with pytest.raises(InputError, match=r"clip, frame 000001: color: expected uint8"):
        open_clip(folder).frame(1)
    (folder / "depth" / "000002.png").unlink()
    with pytest.raises(MissingFileError, match=r"depth/000002\.png"):
        open_clip(folder).frame(2)


def test_clip_whose_mesh_is_missing_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"cup\.obj"):
        open_clip(make_clip(tmp_path / "clip", objects={"cup": "objects/cup.obj"}))


# -- videos and images


def test_video(tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for index in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * index), np.uint8))
    writer.release()
    source = open_source(str(path), field_of_view=90.0)
    frames = list(source)
    assert (len(source), source.fps, source.has_depth, source.camera.is_metric) == (5, 25, False, False)
    assert source.camera.camera_k[0, 0] == pytest.approx(32.0)
    assert frames[4].stamp == 160_000_000
    assert frames[4].color[..., 0].mean() == pytest.approx(160, abs=6)  # red, although OpenCV writes blue first
    assert frames[4].color[..., 2].mean() < 10


def test_images_in_order_of_their_names(tmp_path):
    for index in (2, 0, 1):
        write_image(tmp_path / f"{index}.png", picture(index))
    (tmp_path / "notes.txt").write_text("not an image")
    frames = list(open_source(str(tmp_path)))
    assert [int(frame.color[0, 0, 2]) for frame in frames] == [0, 40, 80]


def test_images_of_different_sizes_are_named(tmp_path):
    write_image(tmp_path / "0.png", picture(0))
    write_image(tmp_path / "1.png", picture(1)[:30])
    with pytest.raises(InputError, match=r"1\.png"):
        list(open_source(str(tmp_path)))


def test_guessed_camera_has_the_field_of_view():
    camera = guessed_camera(640, 480, 60.0)
    edge = camera.normalise(np.array([[-0.5, 239.5], [639.5, 239.5]]))
    assert np.rad2deg(np.arctan(edge[:, 0])) == pytest.approx([-30, 30])
    assert not camera.is_metric
    with pytest.raises(InputError, match="field_of_view"):
        guessed_camera(640, 480, 0.0)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.mp4", b"no video", "video"),
        ("a.xyz", b"", r"\.xyz"),
        ("a.mcap", b"no recording", r"a\.mcap"),
        ("a.db3", b"", r"a\.db3"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        open_source(str(tmp_path / name))


def test_missing_and_empty_sources_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no images"):
        open_source(str(tmp_path))
    with pytest.raises(InputError, match="camera 97"):
        open_source("97")
    with pytest.raises(InputError, match="frames"):
        open_source(str(tmp_path), frames=-1)


# -- stereo


def make_stereo(folder, disparity, width=320, height=120, focal=200.0, baseline=0.1):
    """A textured plane that faces the cameras, at depth focal * baseline / disparity."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (height, width + 100)), (0, 0), 1.0)
    texture = np.clip((texture - texture.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    for side, shift in (("left", 0), ("right", disparity)):
        (folder / side).mkdir(parents=True)
        image = np.repeat(texture[:, shift : shift + width, None], 3, axis=2)
        write_image(folder / side / "1700000000123456789.png", image)
    lens = {"focal": [focal] * 2, "principal": [159.5, 59.5], "size": [width, height], "distortion_params": []}
    placed = [np.eye(4)[:3].tolist(), np.c_[np.eye(3), [baseline, 0, 0]].tolist()]
    cameras = [{"intrinsics": lens, "transform": transform} for transform in placed]
    (folder / "stereo.edex").write_text(json.dumps([{"cameras": cameras}]))
    return folder


@pytest.mark.parametrize("disparity", [10, 40])
def test_stereo_depth_of_a_plane(tmp_path, disparity):
    source = open_source(str(make_stereo(tmp_path, disparity)), object_spec="sphere:0.1")
    (frame,) = source
    assert (len(source), source.has_depth, source.camera.is_metric) == (1, True, True)
    assert (frame.stamp, source.first_stamp) == (1700000000123456789,) * 2
    measured = frame.depth[:, : 320 - disparity]
    assert (measured > 0).mean() > 0.5
    assert np.median(measured[measured > 0]) == pytest.approx(200 * 0.1 / disparity, rel=0.01)


def test_stereo_without_partners_or_calibration_is_named(tmp_path):
    folder = make_stereo(tmp_path, 10)
    for path in (folder / "right").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="partner"):
        StereoSource(folder)
    (folder / "stereo.edex").write_text('[{"cameras": []}]')
    with pytest.raises(InputError, match=r"stereo\.edex.*intrinsics"):
        StereoSource(folder)
    shutil.rmtree(folder / "left")
    make_stereo(tmp_path / "other", 10)
    shutil.copy(tmp_path / "other" / "stereo.edex", folder)
    with pytest.raises(InputError, match="no image in left/"):
        StereoSource(folder)
    (folder / "stereo.edex").unlink()
    with pytest.raises(InputError, match=r"stereo\.edex: not found"):
        StereoSource(folder)


def turned(cameras):
    cameras[1]["transform"] = np.c_[cv2.Rodrigues(np.array([0, 0.05, 0]))[0], [0.1, 0, 0]].tolist()


def shifted_principal(cameras):
    cameras[1]["intrinsics"] = cameras[1]["intrinsics"] | {"principal": [150.5, 59.5]}


def bent(cameras):
    cameras[1]["intrinsics"] = cameras[1]["intrinsics"] | {"distortion_params": [0.1, 0, 0, 0]}


def placed_at(x, y):
    def change(cameras):
        cameras[1]["transform"] = np.c_[np.eye(3), [x, y, 0]].tolist()

    return change


@pytest.mark.parametrize(
    "change", [turned, shifted_principal, bent, placed_at(-0.1, 0), placed_at(0, 0.1), placed_at(float("nan"), 0)]
)
def test_a_pair_that_is_not_rectified_is_refused(tmp_path, change):
    folder = make_stereo(tmp_path / "stereo", 10)
    content = json.loads((folder / "stereo.edex").read_text())
    change(content[0]["cameras"])
    (folder / "stereo.edex").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not a rectified pair"):
        StereoSource(folder)


def test_stamps_of_a_stereo_pair_have_to_increase(tmp_path):
    folder = make_stereo(tmp_path / "stereo", 10)
    for side in ("left", "right"):
        shutil.copy(folder / side / "1700000000123456789.png", folder / side / "170000000000000000.png")
        shutil.copy(folder / side / "1700000000123456789.png", folder / side / "1700000000123456789.PNG")
    with pytest.raises(InputError, match="do not increase"):
        StereoSource(folder)


@pytest.mark.skipif(not (SAMPLES / "ball_stereo").is_dir(), reason=f"no sample ball_stereo in {SAMPLES}")
def test_stereo_sample_sees_the_ball():
    """The basketball is a sphere of 117 mm radius: the depth of its cap agrees with one."""
    source = StereoSource(SAMPLES / "ball_stereo")
    assert len(source) == 40
    assert source.baseline == pytest.approx(0.14956, abs=1e-4)
    assert source.fps == pytest.approx(3.0, abs=0.01)
    depth = next(iter(source)).depth
    y, x = np.nonzero((depth > 0.2) & (depth < 0.36))
    points = source.camera.unproject(np.stack([x, y], axis=1), depth[y, x])
    points = points[(points[:, 1] < -0.05) & (points[:, 0] > 0)]
    center = points.mean(axis=0) + [0, 0, 0.1]
    for _ in range(50):  # fixed radius, median instead of mean against outliers
        outward = points - center
        length = np.linalg.norm(outward, axis=1, keepdims=True)
        near = np.abs(length[:, 0] - 0.117) < 0.02
        center = center + ((length - 0.117) * outward / length)[near].mean(axis=0)
    assert np.abs(length[near, 0] - 0.117).mean() < 0.004
    assert near.mean() > 0.8


@pytest.mark.skipif(not (SAMPLES / "hand_video.mp4").is_file(), reason=f"no sample hand_video.mp4 in {SAMPLES}")
def test_video_sample():
    source = open_source(str(SAMPLES / "hand_video.mp4"), frames=4)
    assert [frame.color.shape for frame in source] == [(720, 1280, 3)] * 4


# -- recordings


def header(stamp, frame_id="optical"):
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def image_message(stamp, pixels, encoding, padding=0, big=0):
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    return STORE.types["sensor_msgs/msg/Image"](
        header(stamp), pixels.shape[0], pixels.shape[1], encoding, big, rows.shape[1], rows.reshape(-1)
    )


def info_message(stamp, camera=CAMERA, k=None):
    types = STORE.types
    k = camera.camera_k.reshape(-1) if k is None else k
    roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    zero = np.zeros(5)
    return types["sensor_msgs/msg/CameraInfo"](
        header(stamp), camera.height, camera.width, "plumb_bob", zero, k, np.eye(3).reshape(-1), np.zeros(12), 0, 0, roi
    )


def write_bag(path, messages, storage=StoragePlugin.MCAP):
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            writer.write(connections[topic], stamp, STORE.serialize_cdr(message, kind))
    return path


def recording(depth_encoding="16UC1", compressed=False):
    messages = []
    for index in range(3):
        stamp = 10**18 + index * 100_000_000
        if compressed:
            content = cv2.imencode(".png", picture(index)[..., ::-1])[1].reshape(-1)
            color = STORE.types["sensor_msgs/msg/CompressedImage"](header(stamp), "png", content)
        else:
            color = image_message(stamp, picture(index), "rgb8", padding=5)
        messages.append(("/cam/color/image_raw", color))
        messages.append(("/cam/color/camera_info", info_message(stamp)))
        if depth_encoding and index != 1:
            value = 700 + index
            depth = (
                np.full((48, 64), value, np.uint16)
                if depth_encoding == "16UC1"
                else np.full((48, 64), value / 1000, np.float32)
            )
            messages.append(("/cam/depth/image_raw", image_message(stamp + 4_000_000, depth, depth_encoding)))
    return messages


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("depth_encoding", ["16UC1", "32FC1"])
@pytest.mark.parametrize("compressed", [False, True])
def test_recording(tmp_path, storage, depth_encoding, compressed):
    bag = write_bag(tmp_path / "bag", recording(depth_encoding, compressed), storage)
    source = open_source(str(bag))
    frames = list(source)
    assert len(source) == len(frames) == 3
    assert source.fps == pytest.approx(10)
    assert source.camera.is_metric
    assert (source.camera.camera_k == CAMERA.camera_k).all()
    assert source.camera.frame_id == "optical"
    assert [frame.stamp for frame in frames] == [10**18 + index * 10**8 for index in range(3)]
    assert all((frame.color == picture(index)).all() for index, frame in enumerate(frames))
    assert frames[0].depth == pytest.approx(np.full((48, 64), 0.700), abs=1e-6)
    assert frames[1].depth is None  # the nearest depth image is too far away in time
    assert frames[2].depth == pytest.approx(np.full((48, 64), 0.702), abs=1e-6)


def test_single_mcap_file_opens(tmp_path):
    bag = write_bag(tmp_path / "bag", recording())
    (file,) = bag.glob("*.mcap")
    assert len(list(open_source(str(file)))) == 3


def test_recording_without_the_topic_lists_what_it_has(tmp_path):
    bag = write_bag(tmp_path / "bag", recording())
    with pytest.raises(InputError, match=r"no topic /other.*/cam/color/image_raw \(sensor_msgs/msg/Image\)"):
        BagSource(bag, color_topic="/other")
    only_info = write_bag(tmp_path / "info", [("/i", info_message(10**18))])
    with pytest.raises(InputError, match=r"no colour image topic.*/i \(sensor_msgs/msg/CameraInfo\)"):
        BagSource(only_info)


def test_recording_without_camera_info_is_not_metric(tmp_path):
    bag = write_bag(tmp_path / "bag", [item for item in recording("") if "info" not in item[0]])
    source = BagSource(bag)
    assert not source.camera.is_metric
    assert not source.has_depth


def test_recording_with_an_uncalibrated_camera_is_refused(tmp_path):
    messages = [*recording("")[:1], ("/cam/color/camera_info", info_message(10**18, k=np.zeros(9)))]
    with pytest.raises(InputError, match=r"camera_info.*not calibrated"):
        BagSource(write_bag(tmp_path / "bag", messages))


def test_truncated_recording_is_named(tmp_path):
    bag = write_bag(tmp_path / "bag", recording())
    (file,) = bag.glob("*.mcap")
    content = file.read_bytes()
    for share in (0.3, 0.6, 0.9):
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="bag"):
            list(BagSource(bag))


@pytest.mark.parametrize(
    ("suffix", "old", "new"),
    [
        (".mcap", b"image_raw", b"image_row"),  # the chunk's checksum no longer fits
        (".yaml", b"mcap", b"1234"),
    ],
)
def test_changed_recording_is_named(tmp_path, suffix, old, new):
    bag = write_bag(tmp_path / "bag", recording())
    (file,) = bag.glob(f"*{suffix}")
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(InputError, match="bag"):
        list(BagSource(bag))


def test_stamps_that_jump_back_are_named(tmp_path):
    first, second = recording("")[0], recording("")[2]
    first[1].header.stamp.sec += 5
    bag = tmp_path / "bag"
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/c", first[1].__msgtype__, typestore=STORE)
        for index, (_, message) in enumerate((first, second)):
            writer.write(connection, 10**18 + index, STORE.serialize_cdr(message, message.__msgtype__))
    with pytest.raises(InputError, match="jump back"):
        list(BagSource(bag))


def test_odd_encodings():
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    assert (decode_color(image_message(0, pixels, "bgra8"), "x") == pixels[..., 2::-1]).all()
    depth = np.array([[1000, 2000], [0, 500]], ">u2")
    decoded = decode_depth(image_message(0, depth, "16UC1", padding=2, big=1), "x")
    assert decoded == pytest.approx(np.array([[1, 2], [0, 0.5]]))
    holes = np.array([[np.nan, np.inf], [-1, 0.25]], np.float32)
    assert decode_depth(image_message(0, holes, "32FC1"), "x").tolist() == [[0, 0], [0, 0.25]]


def test_malformed_images_are_named():
    message = image_message(0, picture(0), "rgb8")
    message.step = 10
    with pytest.raises(InputError, match=r"topic: .*step 10"):
        decode_color(message, "topic")
    with pytest.raises(InputError, match="32FC1"):
        decode_color(image_message(0, np.zeros((2, 2), np.float32), "32FC1"), "topic")
    with pytest.raises(InputError, match="rgb8"):
        decode_depth(image_message(0, picture(0), "rgb8"), "topic")
    empty = image_message(0, picture(0), "bgr8")
    empty.width = 0
    with pytest.raises(InputError, match=r"topic: .*0x48"):
        decode_color(empty, "topic")


def compressed_depth(content, encoding):
    kind = STORE.types["sensor_msgs/msg/CompressedImage"]
    return kind(header(0), f"{encoding}; compressedDepth png", np.frombuffer(content, np.uint8))


def test_compressed_depth_in_millimetres_and_quantised():
    """The encoder's formula: counts = factor / depth + offset, factor = quantisation * (quantisation + 1)."""
    depth = np.array([[0.4, 0.75], [2.0, 0.0]])
    millimetres = cv2.imencode(".png", np.round(depth * 1000).astype(np.uint16))[1].tobytes()
    for before in (b"", bytes(12)):
        assert decode_depth(compressed_depth(before + millimetres, "16UC1"), "x") == pytest.approx(depth)
    factor, offset = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0
    counts = np.where(depth > 0, factor / np.where(depth > 0, depth, 1) + offset, 0)
    picture_ = cv2.imencode(".png", counts.astype(np.uint16))[1].tobytes()
    before = struct.pack("<iff", 0, factor, offset)
    decoded = decode_depth(compressed_depth(before + picture_, "32FC1"), "x")
    assert decoded == pytest.approx(depth, rel=1e-3)
    with pytest.raises(InputError, match="header"):
        decode_depth(compressed_depth(picture_, "32FC1"), "x")
    with pytest.raises(InputError, match="not a depth image"):
        decode_depth(compressed_depth(before + picture_[:40], "32FC1"), "x")
