"""LeRobot data sets, read back with pyarrow, av and json alone, field by field of the documented layout v3.0."""

import hashlib
import json

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.export.demonstration import ACTION, CAMERA, CONTACT, OBJECT, STATE
from grasp_nodes.export.lerobot.dataset import MADE, MAKING, LeRobotDataset
from grasp_nodes.export.sampling import SamplingOptions, sample
from tests.export import demonstration_double as double

TASKS = ("lift the mug", "turn the mug")


def demonstration(seed, count=12, task=TASKS[0], fps=0, **more):
    found = double.recording(count, seed=seed, name=f"demo_{seed}", **more)
    return sample(found, task, SamplingOptions(fps)).demonstration


def write(folder, demonstrations):
    with LeRobotDataset(folder, "human_hand") as dataset:
        return [dataset.add(one, {"source": one.name}) for one in demonstrations]


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """Ten demonstrations of different lengths and two tasks, in two runs."""
    folder = tmp_path_factory.mktemp("lerobot") / "set"
    demonstrations = [demonstration(seed, 8 + seed, TASKS[seed % 2]) for seed in range(10)]
    assert write(folder, demonstrations[:6]) == [0, 1, 2, 3, 4, 5]
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files(folder)}
    assert write(folder, demonstrations[6:]) == [6, 7, 8, 9]
    return folder, demonstrations, before


def files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"]


def table(folder, pattern):
    paths = sorted(folder.glob(pattern))
    return paths, [pq.read_table(path, partitioning=None) for path in paths]


def rows_of(folder, pattern):
    return [row for one in table(folder, pattern)[1] for row in one.to_pylist()]


def test_info_describes_every_column(ten):
    folder, demonstrations, _ = ten
    info = json.loads((folder / "meta/info.json").read_text())
    frames = sum(len(one) for one in demonstrations)
    assert {name: info[name] for name in info if name != "features"} == {
        "codebase_version": "v3.0",
        "robot_type": "human_hand",
        "total_episodes": 10,
        "total_frames": frames,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 30,
        "splits": {"train": "0:10"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    features = info["features"]
    assert features[STATE]["dtype"] == "float32"
    assert features[STATE]["shape"] == [51]
    assert features[STATE]["names"][:4] == [
        "right.transl.x",
        "right.transl.y",
        "right.transl.z",
        "right.global_orient.x",
    ]
    assert features[OBJECT]["names"] == [f"object.{name}" for name in ("x", "y", "z", "qx", "qy", "qz", "qw")]
    for name, dtype in (("timestamp", "float32"), ("index", "int64"), ("task_index", "int64")):
        assert features[name] == {"dtype": dtype, "shape": [1], "names": None}
    video = features[CAMERA]
    assert (video["dtype"], video["shape"], video["names"]) == ("video", [24, 32, 3], ["height", "width", "channels"])
    assert video["info"] == {
        "video.height": 24,
        "video.width": 32,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": 30,
        "video.channels": 3,
        "has_audio": False,
    }


def test_rows_are_the_numbers_that_were_recorded(ten):
    folder, demonstrations, _ = ten
    _, tables = table(folder, "data/chunk-*/file-*.parquet")
    assert len(tables) == 2, "several episodes to a file, a file to a run"
    columns = {
        name: np.concatenate([np.array(one[name].to_pylist()) for one in tables]) for name in tables[0].schema.names
    }
    for name in demonstrations[0].columns:
        expected = np.concatenate([one.columns[name].values for one in demonstrations])
        np.testing.assert_array_equal(columns[name].astype(np.float32), expected)
        field = tables[0].schema.field(name).type
        assert (str(field.value_type), field.list_size) == ("float", expected.shape[1])
    lengths = [len(one) for one in demonstrations]
    np.testing.assert_array_equal(columns["index"], np.arange(sum(lengths)))
    np.testing.assert_array_equal(columns["episode_index"], np.repeat(np.arange(10), lengths))
    np.testing.assert_array_equal(columns["frame_index"], np.concatenate([np.arange(length) for length in lengths]))
    np.testing.assert_allclose(columns["timestamp"], columns["frame_index"] / 30, atol=1e-6)
    np.testing.assert_array_equal(columns["task_index"], np.repeat(np.arange(10) % 2, lengths))
    # What was recorded, and not only what was handed over.
    first = double.recording(8, seed=0)
    np.testing.assert_allclose(columns[STATE][:8], [state.hands[0].params for state in first.states], rtol=1e-6)
    contact = [state.contact["right", "mug"] for state in first.states]
    np.testing.assert_allclose(columns[CONTACT][:8], contact, rtol=1e-6)
    np.testing.assert_array_equal(columns[ACTION][:7], columns[STATE][1:8])


def test_episodes_say_where_their_parts_are(ten):
    folder, demonstrations, _ = ten
    rows = rows_of(folder, "meta/episodes/chunk-*/file-*.parquet")
    begin = 0
    for number, (row, one) in enumerate(zip(rows, demonstrations, strict=True)):
        assert row["episode_index"] == number
        assert row["tasks"] == [TASKS[number % 2]]
        assert row["length"] == len(one)
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (begin, begin + len(one))
        begin += len(one)
        run = int(number >= 6)
        assert (row["data/chunk_index"], row["data/file_index"]) == (0, run)
        assert (row["meta/episodes/chunk_index"], row["meta/episodes/file_index"]) == (0, run)
        assert (row[f"videos/{CAMERA}/chunk_index"], row[f"videos/{CAMERA}/file_index"]) == (0, run)
        values = one.columns[STATE].values.astype(np.float64)
        np.testing.assert_allclose(row[f"stats/{STATE}/mean"], values.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(row[f"stats/{STATE}/q90"], np.quantile(values, 0.9, axis=0), atol=1e-12)
        assert row[f"stats/{STATE}/count"] == [len(one)]
        assert np.shape(row[f"stats/{CAMERA}/mean"]) == (3, 1, 1)


def test_pictures_of_an_episode_are_where_its_row_says(ten):
    folder, demonstrations, _ = ten
    for number, row in enumerate(rows_of(folder, "meta/episodes/chunk-*/file-*.parquet")):
        path = folder / f"videos/{CAMERA}/chunk-000/file-{row[f'videos/{CAMERA}/file_index']:03d}.mp4"
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            found = {
                round(float(frame.pts * stream.time_base) * 30): frame.to_ndarray(format="rgb24")
                for frame in container.decode(stream)
            }
        first, last = (row[f"videos/{CAMERA}/{name}_timestamp"] * 30 for name in ("from", "to"))
        assert round(last - first) == len(demonstrations[number])
        for frame in range(len(demonstrations[number])):
            difference = found[round(first) + frame].astype(int) - double.picture(frame + number)
            # Away from the edge, which the codec's halved colours blur.
            assert np.abs(np.delete(difference, slice(14, 18), axis=1)).max() < 8


def test_tasks_are_named_rows_for_pandas(ten):
    folder, _, _ = ten
    read = pq.read_table(folder / "meta/tasks.parquet")
    assert read["task_index"].to_pylist() == [0, 1]
    described = json.loads(read.schema.metadata[b"pandas"])
    assert described["index_columns"] == ["__index_level_0__"]
    assert read["__index_level_0__"].to_pylist() == list(TASKS)


def test_statistics_are_those_of_all_rows(ten):
    folder, demonstrations, _ = ten
    stats = json.loads((folder / "meta/stats.json").read_text())
    for name in (STATE, ACTION, OBJECT):
        values = np.concatenate([one.columns[name].values for one in demonstrations]).astype(np.float64)
        for key in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(stats[name][key], getattr(values, key)(axis=0), atol=1e-9)
        assert stats[name]["count"] == [len(values)]
        assert (np.array(stats[name]["q01"]) <= stats[name]["q50"]).all()
        assert (np.array(stats[name]["q50"]) <= stats[name]["q99"]).all()
    assert stats["index"]["max"] == [sum(len(one) for one in demonstrations) - 1]
    every = np.concatenate(
        [double.picture(frame + seed) for seed, one in enumerate(demonstrations) for frame in range(len(one))]
    )
    np.testing.assert_allclose(np.reshape(stats[CAMERA]["mean"], 3), every.reshape(-1, 3).mean(axis=0) / 255, atol=1e-9)


def test_appending_writes_nothing_anew(ten):
    folder, _, before = ten
    rewritten = {"info.json", "stats.json", "tasks.parquet"}
    for path, digest in before.items():
        if path.name not in rewritten:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, path
    assert not list(folder.glob(".export*"))


def test_what_is_known_besides_lies_beside_it(ten):
    folder, _, _ = ten
    facts = [json.loads(path.read_text()) for path in sorted((folder / "meta/grasp_nodes").glob("episode-*.json"))]
    assert [one["source"] for one in facts] == [f"demo_{seed}" for seed in range(10)]


def test_another_rate_or_hand_does_not_fit(tmp_path):
    write(tmp_path / "set", [demonstration(0)])
    with pytest.raises(InputError, match=r"15 Hz, the data set has 30 Hz"):
        write(tmp_path / "set", [demonstration(1, fps=15)])
    states = [double.state_row(stamp, row, side="left") for row, stamp in enumerate(double.stamps_at(30, 5))]
    left = sample(double.Recording("l", "l", states), "x", SamplingOptions())
    with pytest.raises(InputError, match=f"lacks {CAMERA}"):
        write(tmp_path / "set", [left.demonstration])
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["total_episodes"] == 1
    write(tmp_path / "blind", [demonstration(0, with_pictures=False)])
    with pytest.raises(InputError, match=r"names of action is \['left\.transl\.x'"):
        write(tmp_path / "blind", [left.demonstration])


def test_run_that_was_killed_while_it_moved_its_files_is_finished(tmp_path):
    folder = tmp_path / "set"
    write(folder, [demonstration(0)])
    before = json.loads((folder / "meta/info.json").read_text())
    # As the second run left it: whole in its own folder, two of its files moved already.
    write(tmp_path / "other", [demonstration(0)])
    write(tmp_path / "other", [demonstration(1)])
    made = folder / MADE
    for path in files(tmp_path / "other"):
        target = made / path.relative_to(tmp_path / "other")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    moved = made / "data/chunk-000/file-001.parquet"
    moved.rename(folder / "data/chunk-000/file-001.parquet")
    assert before["total_episodes"] == 1
    assert write(folder, [demonstration(2)]) == [2]
    assert len(rows_of(folder, "data/chunk-*/file-*.parquet")) == 36
    assert not made.exists()


def test_run_that_was_killed_while_it_wrote_leaves_nothing(tmp_path):
    folder = tmp_path / "set"
    write(folder, [demonstration(0)])
    junk = folder / MAKING / "data/chunk-000/file-001.parquet"
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"half a file")
    assert write(folder, [demonstration(1)]) == [1]
    assert len(rows_of(folder, "data/chunk-*/file-*.parquet")) == 24


def test_demonstration_whose_pictures_end_early_is_not_added(tmp_path):
    whole = demonstration(0)
    short = double.recording(12, seed=1)

    def few():
        yield from list(short.pictures())[:5]

    cut = sample(
        double.Recording("cut", "cut", short.states, pictures=few, picture_stamps=short.picture_stamps),
        "x",
        SamplingOptions(),
    )
    with LeRobotDataset(tmp_path / "set") as dataset:
        with pytest.raises(InputError, match="5 pictures for 12 frames"):
            dataset.add(cut.demonstration, {})
        assert dataset.add(whole, {}) == 0
        with pytest.raises(InputError, match="5 pictures for 12 frames"):
            dataset.add(cut.demonstration, {})
        assert dataset.add(demonstration(2), {}) == 1
    rows = rows_of(tmp_path / "set", "meta/episodes/chunk-*/file-*.parquet")
    assert [row[f"videos/{CAMERA}/from_timestamp"] for row in rows] == [0.0, 17 / 30]


def test_odd_pictures_are_made_even(tmp_path):
    write(tmp_path / "set", [demonstration(0, size=(23, 31))])
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["features"][CAMERA]["shape"] == [24, 32, 3]


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="it holds other things"):
        LeRobotDataset(tmp_path)
    (tmp_path / "set/meta").mkdir(parents=True)
    (tmp_path / "set/meta/info.json").write_text('{"codebase_version": "v2.1"}')
    with pytest.raises(InputError, match=r"expected a LeRobot data set v3\.0, got 'v2\.1'"):
        LeRobotDataset(tmp_path / "set")
