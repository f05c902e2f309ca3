"""CORe50 and EPIC-KITCHENS, which have no poses, and the clips that HOMan was evaluated on."""

from __future__ import annotations

import csv
import math
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grasp_nodes.data.clip_datasets.core50 import Core50Source
from grasp_nodes.data.clip_datasets.epic import EpicSource
from grasp_nodes.data.clip_datasets.epic_detections import read_detections
from grasp_nodes.data.clip_datasets.registry import DATASETS, ClipOptions, find_dataset
from grasp_nodes.data.clip_datasets.selection import core50_clips, epic_clips, ho3d_clips, homan_clips
from grasp_nodes.errors import InputError, MissingFileError
from tests.data import clip_dataset_doubles as doubles


def write_core50(root: Path, session: int, number: int, frames: Sequence[int] = (0, 1, 2), size: int = 350) -> None:
    folder = root / f"core50_{size}x{size}" / f"s{session}" / f"o{number}"
    for frame in frames:
        image = np.full((size, size, 3), (frame, 100, 200), np.uint8)
        doubles.write_image(folder / f"C_{session:02d}_{number:02d}_{frame:03d}.png", image)


def test_core50_has_a_guessed_camera_and_twenty_frames_a_second(tmp_path: Path) -> None:
    write_core50(tmp_path, 2, 21, frames=(0, 2, 10))
    write_core50(tmp_path, 11, 6)
    write_core50(tmp_path, 2, 5)
    assert find_dataset("core50").sequences(tmp_path) == ["s2/o5", "s2/o21", "s11/o6"]
    source = find_dataset("core50").open(tmp_path, "s2/o21")
    assert isinstance(source, Core50Source)
    assert [frame.stamp for frame in source] == [0, 100_000_000, 500_000_000]
    assert tuple(source.frame(2).color[0, 0]) == (10, 100, 200)
    assert not source.camera.is_metric
    assert source.camera.camera_k[0, 0] == pytest.approx(480)
    assert (source.side, source.category, source.object_id) == ("left", "can", "o21")
    assert (source.has_truth, source.truth(0), source.object_spec) == (False, None, "")
    doubles.write_mesh(tmp_path / "models/o21.obj")
    options = ClipOptions(field_of_view=90.0, frames=2)
    source = find_dataset("core50").open(tmp_path, "s2/o21", options)
    assert len(source) == 2
    assert source.camera.camera_k[0, 0] == pytest.approx(175)
    assert source.object_spec == str(tmp_path / "models/o21.obj")


def test_core50_may_lie_in_its_image_folder_and_be_small(tmp_path: Path) -> None:
    write_core50(tmp_path, 1, 1, size=128)
    for folder in (tmp_path, tmp_path / "core50_128x128"):
        assert find_dataset("core50").open(folder, "s1/o1").frame(0).color.shape == (128, 128, 3)
    with pytest.raises(MissingFileError, match=r"vlomonaco.github.io"):
        find_dataset("core50").sequences(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no sequence 's1/o2' there; .*s1/o1"):
        find_dataset("core50").open(tmp_path, "s1/o2")
    (tmp_path / "core50_128x128/s1/o3").mkdir()
    with pytest.raises(InputError, match=r"no images in it; expected C_01_03_000.png"):
        find_dataset("core50").open(tmp_path, "s1/o3")


def test_the_clips_of_homan_on_core50_and_ho3d(tmp_path: Path) -> None:
    for session in range(1, 12):
        for number in range(1, 51):
            (tmp_path / "core50_350x350" / f"s{session}" / f"o{number}").mkdir(parents=True)
    clips = core50_clips(tmp_path)
    assert len(clips) == 286  # as the paper says
    assert {"s1/o6", "s11/o50"} <= set(clips)
    assert "s1/o7" not in clips
    for name in ("evaluation/SM1", "evaluation/AP14", "evaluation/SiBF1", "train/SM2"):
        (tmp_path / "ho3d" / name / "rgb").mkdir(parents=True)
    assert ho3d_clips(tmp_path / "ho3d") == ["evaluation/AP14", "evaluation/SM1"]


# The messages of the detections, written by the rules of protobuf's wire format.


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def real(field: int, value: float) -> bytes:
    return varint(field << 3 | 5) + struct.pack("<f", value) if value else b""


def whole(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def box(*sides: float) -> bytes:
    return message(1, b"".join(real(1 + k, side) for k, side in enumerate(sides)))


def detections(number: int, hands: Sequence[Any], objects: Sequence[Any]) -> bytes:
    content = message(1, b"P01_01") + whole(2, number)
    for sides, score, side in hands:
        offset = message(4, real(1, 0.1) + real(2, -0.2))
        content += message(3, box(*sides) + real(2, score) + whole(3, 3) + offset + whole(5, side))
    for sides, score in objects:
        content += message(4, box(*sides) + real(2, score))
    return content


def test_detections_are_protobuf_in_a_pickled_list(tmp_path: Path) -> None:
    path = tmp_path / "P01_01.pkl"
    hands = [((0.0, 0.25, 0.5, 0.75), 0.9, 0), ((0.5, 0.5, 0.75, 1.0), 0.5, 1)]
    frames = [detections(1, [], []), detections(300, hands, [((0.25, 0.0, 0.5, 0.5), 0.75)])]
    path.write_bytes(pickle.dumps(frames))
    found = read_detections(path)
    assert set(found) == {1, 300}
    assert (found[1].hands, found[1].objects) == ((), ())
    left, right = found[300].hands
    assert (left.side, right.side) == ("left", "right")
    np.testing.assert_allclose(left.box, hands[0][0])
    assert left.score == pytest.approx(0.9)
    assert found[300].objects[0].side is None
    np.testing.assert_allclose(found[300].objects[0].box, (0.25, 0.0, 0.5, 0.5))
    for content in ([b"\x12\xff"], [b"\x0b"], [b"\x1a\x02\x28\x09"], [b"\xff" * 12]):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match=r"P01_01.pkl: a detection is not a protobuf message"):
            read_detections(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"expected a list of messages \(bytes\), got a dict"):
        read_detections(path)
    path.write_bytes(pickle.dumps([Path("x")]))
    with pytest.raises(InputError, match=r"refused"):
        read_detections(path)


COLUMNS = (
    *("narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"),
    *("start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns"),
    "all_noun_classes",
)


def write_epic(root: Path, actions: Sequence[tuple[str, int, int, str]], frames: int = 0) -> None:
    """Actions (name, first and last frame, noun) of the video P01_01."""
    with (root / "EPIC_100_train.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for name, first, last, noun in actions:
            times = ("00:00:01.089", "00:00:00.14", "00:00:03.37")
            writer.writerow(
                [name, "P01", "P01_01", *times, first, last, f"take {noun}", "take", 0, noun, 3, [noun], [3]]
            )
    (root / "EPIC_100_video_info.csv").write_text(
        "video_id,duration,fps,resolution\nP01_01,1652.15,50.0,1920x1080\nP02_01,1.0,59.94,1920x1080\n"
    )
    for number in range(1, frames + 1):
        path = root / "P01/rgb_frames/P01_01" / f"frame_{number:010d}.jpg"
        doubles.write_image(path, np.full((256, 456, 3), 10 * number, np.uint8))


def test_an_epic_action_is_a_sequence(tmp_path: Path) -> None:
    write_epic(tmp_path, [("P01_01_0", 3, 6, "cup"), ("P01_01_1", 5, 9, "plate:small")], frames=8)
    assert find_dataset("epic").sequences(tmp_path) == ["P01_01_0", "P01_01_1"]
    source = find_dataset("epic").open(tmp_path, "P01_01_0")
    assert isinstance(source, EpicSource)
    assert [frame.stamp for frame in source] == [number * 20_000_000 for number in (3, 4, 5, 6)]
    assert abs(int(source.frame(0).color[0, 0, 0]) - 30) <= 2
    assert source.first_stamp == 60_000_000
    assert (source.object_id, source.action.verb) == ("cup", "take")
    assert not source.camera.is_metric
    assert source.camera.camera_k[0, 0] == pytest.approx(228 / math.tan(math.radians(40)))
    assert len(find_dataset("epic").open(tmp_path, "P01_01_1", ClipOptions(frames=0))) == 4  # as far as they are there


def test_frames_of_an_epic_action_are_a_sequence(tmp_path: Path) -> None:
    write_epic(tmp_path, [("P01_01_0", 3, 6, "cup")], frames=8)
    assert find_dataset("epic").open(tmp_path, "P01_01_0:4-5").numbers == [4, 5]
    for part in ("4", "5-4", "1-4", "4-9"):
        with pytest.raises(InputError, match=f"sequence P01_01_0:{part}: expected"):
            find_dataset("epic").open(tmp_path, f"P01_01_0:{part}")
    with pytest.raises(InputError, match=r"HOMan was not evaluated on it"):
        homan_clips("dexycb", tmp_path)


def test_epic_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"EPIC_100_train.csv: .*epic-kitchens.github.io"):
        find_dataset("epic").sequences(tmp_path)
    write_epic(tmp_path, [("P01_01_0", 3, 6, "cup")])
    with pytest.raises(MissingFileError, match=r"P01_01: there is no such folder.*P01_01.tar"):
        find_dataset("epic").open(tmp_path, "P01_01_0")
    with pytest.raises(InputError, match=r"no sequence 'P09_01_0' there; expected a name such as P01_01_0"):
        find_dataset("epic").open(tmp_path, "P09_01_0")
    write_epic(tmp_path, [("P01_01_0", 3, 6, "cup")], frames=2)
    with pytest.raises(InputError, match=r"expected the frames 3 to 6 of action P01_01_0"):
        find_dataset("epic").open(tmp_path, "P01_01_0")
    path = tmp_path / "EPIC_100_train.csv"
    path.write_text("narration_id,video_id\nP01_01_0,P01_01\n")
    with pytest.raises(InputError, match=r"expected the column participant_id; found narration_id, video_id"):
        find_dataset("epic").sequences(tmp_path)
    write_epic(tmp_path, [("P01_01_0", 1, 2, "cup")], frames=2)
    (tmp_path / "EPIC_100_video_info.csv").write_text("video_id,fps\nP01_02,50\n")
    with pytest.raises(InputError, match=r"has no line for the video P01_01"):
        find_dataset("epic").open(tmp_path, "P01_01_0")


def test_homan_keeps_epic_actions_with_long_tracks(tmp_path: Path) -> None:
    """Of the object that is longest in sight; sights of less than 0.5 do not count; gaps are bridged."""
    actions = [
        ("P01_01_0", 1, 60, "cup"),
        ("P01_01_1", 101, 160, "cup"),
        ("P01_01_2", 201, 260, "bottle"),
        ("P01_01_3", 301, 360, "knife"),
    ]
    write_epic(tmp_path, actions)
    with pytest.raises(InputError, match=r"P01/hand-objects/P01_01.pkl"):
        epic_clips(tmp_path)

    def frame(number: int) -> bytes:
        start, within = number - number % 100, number % 100
        hands, objects = [], []
        if within <= 50:
            score = 0.3 if start == 100 else 0.9  # the second action's hand is unsure
            hands.append(((0.1 + 0.002 * within, 0.5, 0.3 + 0.002 * within, 0.8), score, 1))
        if 10 <= within <= (25 if start == 200 else 45) and within not in (20, 21, 22):
            objects.append(((0.3, 0.4, 0.4 + 0.002 * within, 0.7), 0.8))  # the third action's object is gone too soon
        if 5 <= within <= 15:
            objects.append(((0.7, 0.1, 0.9, 0.3), 0.99))  # another one, for a shorter time
        return detections(number, hands, objects)

    path = tmp_path / "P01/hand-objects/P01_01.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps([frame(number) for number in range(1, 400)]))
    clips = epic_clips(tmp_path)
    assert [(clip.action.name, clip.first, clip.last) for clip in clips] == [("P01_01_0", 10, 45)]
    assert homan_clips("epic", tmp_path) == ["P01_01_0:10-45"]


def test_every_data_set_names_its_home_and_layout() -> None:
    for dataset in DATASETS.values():
        assert dataset.home_page.startswith("https://")
        assert dataset.layout
    with pytest.raises(InputError, match=r"unknown 'coco'; known: ho3d, dexycb, fhb, core50, epic"):
        find_dataset("coco")
    with pytest.raises(InputError, match=r"frames: expected 0 or more, got -1"):
        ClipOptions(frames=-1)
