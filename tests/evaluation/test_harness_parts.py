"""The harness's own mathematics and files: intervals, means and shares, records, object sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import cKDTree

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.bootstrap import ratio_interval
from grasp_nodes.evaluation.harness.judging import MEASURES
from grasp_nodes.evaluation.harness.object_set import (
    HELDOUT,
    HELDOUT_CANONICAL,
    EvaluatedObject,
    heldout_objects,
    object_set,
    set_fingerprint,
)
from grasp_nodes.evaluation.harness.records import Record, RecordFolder, from_line, to_line
from grasp_nodes.evaluation.harness.running import object_seed
from grasp_nodes.evaluation.harness.table import COLUMNS, kind_summaries, summary
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.registry import family_mesh, heldout_names


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TestBootstrap:
    def test_interval_of_a_mean_is_the_normal_one(self):
        values = np.random.default_rng(0).normal(3.0, 0.5, 200)
        low, high = ratio_interval(20 * values, np.full(200, 20), seed=1, resamples=20_000)
        error = values.std() / np.sqrt(200)
        assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
        assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)

    def test_objects_that_agree_leave_no_doubt_and_one_object_tells_nothing(self):
        assert ratio_interval(np.array([2.0, 4.0]), np.array([10, 20]), 0) == pytest.approx((0.2, 0.2))
        assert np.isnan(ratio_interval(np.array([2.0, 0.0]), np.array([10, 0]), 0)).all()

    def test_objects_without_grasps_are_drawn_too(self):
        """With one empty object of three the others are drawn 0 to 3 times: the ratio stays between theirs."""
        low, high = ratio_interval(np.array([0.0, 10.0, 0.0]), np.array([10, 10, 0]), 0)
        assert (low, high) == (0.0, 1.0)

    def test_the_seed_decides(self):
        sums, counts = np.arange(10.0), np.full(10, 5)
        assert ratio_interval(sums, counts, 3) == ratio_interval(sums, counts, 3)
        assert ratio_interval(sums, counts, 3) != ratio_interval(sums, counts, 4)


def record(values: dict[str, list[float]], wanted: int = 0, kinds=(), **content) -> Record:
    count = len(next(iter(values.values()))) if values else 0
    filled = {name: np.array(values.get(name, [0.0] * count), np.float64) for name in MEASURES}
    defaults = {"method": "m", "object": "o", "family": "f", "finite": np.ones(count, bool)}
    return Record(
        **{**defaults, **content},
        wanted=wanted or count,
        sides=["right"] * count,
        hands=np.zeros((count, 62), np.float32),
        kinds=kinds,
        values=filled,
    )


class TestSummary:
    def test_perfect_grasps(self):
        perfect = {
            **dict.fromkeys(("contact", "six_direction_hold", "shake", "good"), [1.0] * 4),
            "fingers_in_contact": [5.0] * 4,
            "contact_area": [20e-4] * 4,
        }
        row = summary([record(perfect), record(perfect, object="p")], intervals=True)
        shares = [column.key for column in COLUMNS if column.share]
        assert shares == ["good", "contact_ratio", "six_direction_hold", "shake"]
        for key in shares:
            assert row[key] == row[f"{key}_low"] == row[f"{key}_high"] == 1.0
        assert row["penetration_cm3"] == row["depth_mm"] == row["displacement_cm"] == 0.0
        assert row["contact_area_cm2"] == pytest.approx(20.0)
        assert row["fingers_in_contact"] == 5.0
        assert (row["n"], row["nan"], row["missing"], row["refused"]) == (8, 0, 0, 0)

    def test_units(self):
        one = {
            "penetration_volume": [1e-6],
            "solid_intersection_volume": [2e-6],
            "penetration_depth": [3e-3],
            "disjointedness": [4e-3],
            "self_penetration": [5e-3],
            "displacement": [6e-2],
            "mujoco_displacement": [7e-2],
        }
        row = summary([record(one)])
        expected = {
            "penetration_cm3": 1,
            "siv_cm3": 2,
            "depth_mm": 3,
            "disjointedness_mm": 4,
            "self_penetration_mm": 5,
            "displacement_cm": 6,
            "mujoco_displacement_cm": 7,
        }
        assert {key: row[key] for key in expected} == pytest.approx(expected)

    def test_failures_of_every_sort_are_in_the_share_and_not_in_the_mean(self):
        nan = float("nan")
        some = record(
            {"good": [1.0, 0.0, 0.0], "penetration_depth": [1e-3, 3e-3, nan]},
            wanted=4,
            finite=np.array([True, True, False]),
        )
        refused = Record("m", "broken", "f", 4, reason="it is a sheet")
        row = summary([some, refused])
        assert (row["n"], row["nan"], row["missing"], row["refused"]) == (8, 1, 5, 1)
        assert row["good"] == 1 / 8
        assert row["depth_mm"] == pytest.approx(2.0)

    def test_what_was_not_measured_is_none(self):
        nan = float("nan")
        row = summary([record({"displacement": [nan, nan]})], intervals=True)
        assert row["displacement_cm"] is row["displacement_cm_low"] is None
        assert row["depth_mm"] == 0.0
        assert summary([])["good"] is None

    def test_a_mean_is_over_grasps_and_not_over_objects(self):
        row = summary([record({"penetration_depth": [1e-3]}), record({"penetration_depth": [4e-3] * 3}, object="p")])
        assert row["depth_mm"] == pytest.approx((1 + 3 * 4) / 4)

    def test_kinds(self):
        first = record({"good": [1.0, 0.0, 1.0]}, wanted=5, kinds=["pinch", "pinch", ""])
        second = record({"good": [1.0]}, kinds=["power"], object="p")
        rows = kind_summaries([first, second])
        assert set(rows) == {"pinch", "power"}
        assert (rows["pinch"]["n"], rows["pinch"]["good"]) == (2, 0.5)
        assert (rows["power"]["n"], rows["power"]["good"]) == (1, 1.0)


finite32 = st.floats(-1e3, 1e3, width=32)


class TestRecords:
    @given(
        arrays(np.float32, (2, 62), elements=finite32 | st.just(float("nan"))), arrays(np.float64, 2, elements=finite32)
    )
    def test_a_line_keeps_every_bit_of_a_hand(self, hands, depth):
        before = Record(
            *("m+polish", 'a "quoted"\nname', "f", 3),
            seconds=0.25,
            center=np.array([0.1, 0.2, 0.3]),
            sides=["right", "left"],
            hands=hands,
            kinds=["pinch", ""],
            finite=np.isfinite(hands).all(axis=1),
            values={"penetration_depth": depth, "displacement": np.array([np.nan, 1.0])},
            features=np.array([[1.0, np.nan], [2.0, 3.0]]),
        )
        line = to_line(before)
        assert line.count("\n") == 1
        after = from_line(line)
        np.testing.assert_array_equal(after.hands, hands)
        np.testing.assert_allclose(after.values["penetration_depth"], depth, rtol=1e-8)
        np.testing.assert_array_equal(after.values["displacement"], [np.nan, 1.0])
        np.testing.assert_array_equal(after.features, before.features)
        assert (after.object, after.seconds, after.wanted) == (before.object, 0.25, 3)
        assert list(after.kinds) == ["pinch", ""]
        np.testing.assert_array_equal(after.finite, before.finite)

    def test_a_damaged_line_is_named(self, tmp_path):
        folder = RecordFolder(tmp_path, {"seed": 0})
        folder.append(record({"good": [1.0]}))
        with (tmp_path / "grasps.jsonl").open("a") as stream:
            stream.write('{"method": "m"}\n')
        with pytest.raises(InputError, match="line 2 is damaged"):
            RecordFolder(tmp_path, {"seed": 0}).read()

    def test_a_full_disk_says_what_is_kept(self, tmp_path, monkeypatch):
        folder = RecordFolder(tmp_path, {"seed": 0})
        folder.append(record({"good": [1.0]}))

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("grasp_nodes.evaluation.harness.records.os.fsync", full)
        with pytest.raises(InputError, match=r"No space left.*is kept"):
            folder.append(record({"good": [1.0]}, object="p"))

    def test_settings_of_another_run_are_told(self, tmp_path):
        RecordFolder(tmp_path, {"seed": 0, "names": ["a"]})
        RecordFolder(tmp_path, {"seed": 0, "names": ["a"]})
        with pytest.raises(InputError, match="seed was 0, is 1"):
            RecordFolder(tmp_path, {"seed": 1, "names": ["a"]})
        (tmp_path / "settings.json").write_text("{")
        with pytest.raises(InputError, match="not JSON"):
            RecordFolder(tmp_path, {"seed": 0})


class TestObjectSet:
    def test_heldout_are_the_24_turned_and_not_bent(self):
        objects = object_set([HELDOUT])
        assert [one.name for one in objects] == [str(name) for name in heldout_names()]
        assert len(objects) == 24
        again = heldout_objects()
        for one, other in zip(objects, again, strict=True):
            np.testing.assert_array_equal(one.transform, other.transform)
            np.testing.assert_allclose(one.transform[:3, :3] @ one.transform[:3, :3].T, np.eye(3), atol=1e-12)
        turns = np.stack([one.transform[:3, :3] for one in objects])
        apart = np.linalg.norm((turns[:, None] - turns[None]).reshape(24, 24, 9), axis=2) + np.eye(24)
        assert apart.min() > 0.05

    def test_canonical_are_the_same_objects_in_their_own_frames(self):
        turned, canonical = object_set([HELDOUT]), object_set([HELDOUT_CANONICAL])
        assert [one.name for one in canonical] == [one.name for one in turned]
        assert set_fingerprint(canonical) != set_fingerprint(turned)
        for family in ("mug", "box"):
            item = next(one for one in canonical if one.family == family)
            distance, _ = cKDTree(item.build().vertices).query(family_mesh(item.name)[0])
            assert distance.max() < 1e-7

    def test_the_built_object_is_the_turned_mesh(self):
        item = next(one for one in heldout_objects() if one.family == "mug")
        built = item.build()
        vertices, faces = family_mesh(item.name)
        # Making an object sorts the vertices.
        distance, index = cKDTree(built.vertices).query(vertices @ item.transform[:3, :3].T)
        assert distance.max() < 1e-7
        assert len(np.unique(index)) == len(vertices) == len(built.vertices)
        assert len(faces) == len(built.faces)
        assert item.resolution == 96

    def test_scaled_and_moved(self, tmp_path):
        import trimesh

        trimesh.creation.box((20, 30, 40)).export(tmp_path / "box.ply")
        transform = np.eye(4)
        transform[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
        transform[:3, 3] = [0.1, 0.2, 0.3]
        built = EvaluatedObject("box", "box", str(tmp_path / "box.ply"), 0.001, None, transform).build()
        np.testing.assert_allclose(np.ptp(built.vertices, axis=0), [0.03, 0.02, 0.04], atol=1e-6)
        np.testing.assert_allclose(built.vertices.mean(axis=0), [0.1, 0.2, 0.3], atol=1e-6)
        sized = EvaluatedObject("box", "box", str(tmp_path / "box.ply"), size=0.12).build()
        assert np.ptp(sized.vertices, axis=0).max() == pytest.approx(0.12)

    def test_folders_singles_and_what_is_wrong_with_them(self, tmp_path):
        import trimesh

        (tmp_path / "cups").mkdir()
        trimesh.creation.icosphere(radius=0.03).export(tmp_path / "cups" / "a.obj")
        trimesh.creation.icosphere(radius=0.04).export(tmp_path / "cups" / "b.obj")
        found = object_set([str(tmp_path / "cups"), "family:mug:12", "sphere:0.04"])
        assert [(one.name, one.family) for one in found] == [
            ("a", "cups"),
            ("b", "cups"),
            ("mug:12", "mug"),
            ("sphere:0.04", "sphere"),
        ]
        np.testing.assert_array_equal(found[3].build().vertices, load_object("sphere:0.04").vertices)
        assert len(object_set([HELDOUT], limit=2)) == 2
        with pytest.raises(InputError, match="more than once"):
            object_set(["sphere:0.04", "sphere:0.04"])
        with pytest.raises(InputError, match="none; name heldout"):
            object_set([])
        with pytest.raises(InputError, match="no family 'cup'"):
            object_set(["family:cup:1"])
        with pytest.raises(MissingFileError):
            object_set([str(tmp_path / "none.obj")])
        (tmp_path / "big").mkdir()
        trimesh.creation.icosphere(radius=40).export(tmp_path / "big" / "a.obj")
        with pytest.raises(InputError, match=r"--scale 0\.001"):
            object_set([str(tmp_path / "big")])
        with pytest.raises(InputError, match=r"--scale 0\.001"):
            object_set([str(tmp_path / "big" / "a.obj")])
        assert object_set([str(tmp_path / "big" / "a.obj")], scale=0.001)[0].scale == 0.001
        for scale in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(InputError, match="expected a positive factor"):
                object_set([str(tmp_path / "big")], scale=scale)
        with pytest.raises(MissingFileError, match="no such folder; expected heldout"):
            object_set([str(tmp_path / "none")])

    def test_seeds_of_objects_differ(self):
        seeds = {object_seed(0, one.name) for one in heldout_objects()}
        assert len(seeds) == 24
        assert object_seed(0, "mug:1") != object_seed(1, "mug:1")
        assert json.loads(json.dumps(object_seed(2**40, "x"))) < 2**31
