"""The harness from objects to rows: bounds, failures of every sort, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.contact.hand_states import make_grasps, stack_hands
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.diversity import diversity
from grasp_nodes.evaluation.harness.bounds import (
    BOUNDS,
    BestOfMany,
    RandomHands,
    bounding_center,
    donors,
    move_to_object,
    polish,
)
from grasp_nodes.evaluation.harness.judging import MEASURES, ObjectJudge, judged_hands
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject, object_set
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.evaluation.harness.records import RecordFolder
from grasp_nodes.evaluation.harness.report import markdown, notes, text_table
from grasp_nodes.evaluation.harness.running import Evaluation, InThisProcess
from grasp_nodes.evaluation.harness.samples import draw_places, write_samples
from grasp_nodes.evaluation.harness.table import COLUMNS, TableMaker
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from tests.evaluation import harness_doubles as doubles

DESIGN_KEYS = {
    *("method", "penetration_cm3", "depth_mm", "displacement_cm", "contact_ratio", "six_direction_hold", "good"),
    *("entropy", "cluster_size", "seconds_per_grasp", "n", "families"),
}
COUNT = 5


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def balls() -> list[EvaluatedObject]:
    return object_set(["sphere:0.04", "sphere:0.03", "cylinder:0.03,0.1"])


def params_with_nan() -> HandParams:
    hands = doubles.scattered_hands(COUNT, 8)
    transl = hands.transl.clone()
    transl[1, 2] = torch.nan
    return replace(hands, transl=transl)


def evaluated(tmp_path: Path, objects, parts, names, count=COUNT, seed=0, progress=None):
    folder = RecordFolder(tmp_path / "run", {"count": count, "seed": seed})
    evaluation = Evaluation(objects, names, parts, count, seed, folder, InThisProcess(parts), progress)
    records = evaluation.run()
    methods = [parts.methods.get(name, Method(name)) for name in names]
    maker = TableMaker(parts.hand_models, seed, [one.name for one in objects])
    return {row["method"]: row for row in maker.rows(methods, evaluation.missing(), records)}, records


@pytest.fixture(scope="module")
def whole(tmp_path_factory, balls):
    """Bounds, one method with a NaN and one that refuses an object, over three objects."""
    folder = tmp_path_factory.mktemp("whole")
    model = doubles.hand_models()["right"]
    bad = Method("bad", doubles.FixedHands(model, params_with_nan()))
    picky = Method("picky", doubles.FixedHands(model, doubles.scattered_hands(4, 1), refuses="sphere:0.03"))
    parts = doubles.parts_with(bad, picky)
    rows, records = evaluated(folder, balls, parts, ["bad", "picky", *BOUNDS])
    return folder, parts, rows, records


def test_rows_have_the_names_that_scripts_rely_on(whole):
    _, _, rows, _ = whole
    assert list(rows) == ["bad", "picky", *BOUNDS]
    for row in rows.values():
        assert set(row) >= DESIGN_KEYS
        assert {f"{column.key}_low" for column in COLUMNS} < set(row)
        json.dumps(row, allow_nan=False)


def test_a_grasp_with_nan_is_counted_and_fails_every_share(whole):
    _, _, rows, records = whole
    row = rows["bad"]
    assert (row["n"], row["nan"], row["missing"], row["refused"]) == (3 * COUNT, 3, 0, 0)
    found = [records["bad", name] for name in ("sphere:0.04", "sphere:0.03", "cylinder:0.03,0.1")]
    for one in found:
        assert not one.finite[1]
        assert one.finite.sum() == COUNT - 1
        for name in ("contact", "six_direction_hold", "shake", "good"):
            assert one.values[name][1] == 0
        for name in ("penetration_volume", "penetration_depth", "self_penetration", "mujoco_displacement"):
            assert np.isnan(one.values[name][1])
    touching = sum(one.values["contact"].sum() for one in found)
    assert 0 < touching < 3 * COUNT
    assert row["contact_ratio"] == pytest.approx(touching / (3 * COUNT))
    depths = np.concatenate([one.values["penetration_depth"] for one in found])
    assert row["depth_mm"] == pytest.approx(1e3 * np.nanmean(depths))


def test_a_refused_object_is_named_and_counts_as_not_good(whole):
    _, _, rows, _ = whole
    row = rows["picky"]
    assert (row["n"], row["refused"], row["missing"]) == (3 * COUNT, 1, COUNT)
    assert row["refused_objects"] == {"sphere:0.03": "sphere:0.03: too odd"}
    assert row["families"]["sphere"]["n"] == 2 * COUNT
    assert row["families"]["sphere"]["missing"] == COUNT
    said = notes([row])
    assert any("sphere:0.03 (picky)" in one for one in said)
    assert any(f"{COUNT} of {3 * COUNT} places" in one for one in said)


def test_the_mesh_that_cannot_be_an_object_is_refused_for_every_method(tmp_path, balls):
    sheet = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], [[0, 1, 2], [0, 2, 1]], process=False)
    sheet.export(tmp_path / "sheet.ply")
    objects = [balls[0], EvaluatedObject("sheet", "sheet", str(tmp_path / "sheet.ply"))]
    parts = doubles.parts_with()
    rows, _ = evaluated(tmp_path, objects, parts, list(BOUNDS), count=2)
    for name in BOUNDS:
        assert "volume" in rows[name]["refused_objects"]["sheet"]
        assert (rows[name]["n"], rows[name]["refused"]) == (4, 1)
    # One object has grasps, so that none can be exchanged: the places stay empty and count.
    assert rows["shuffled"]["missing"] == 4
    assert rows["shuffled"]["good"] == 0


def test_an_object_that_was_refused_is_tried_again(tmp_path, balls):
    """A folder that was not there for a while: the table becomes that of a run that always had it."""
    late = EvaluatedObject("late", "box", str(tmp_path / "late.ply"))
    objects, parts = [*balls[:2], late], doubles.parts_with()
    first, _ = evaluated(tmp_path, objects, parts, list(BOUNDS), count=2)
    assert "no such mesh file" in first["random"]["refused_objects"]["late"]
    trimesh.creation.box((0.05, 0.06, 0.07)).export(tmp_path / "late.ply")
    again, _ = evaluated(tmp_path, objects, parts, list(BOUNDS), count=2)
    fresh, _ = evaluated(tmp_path / "fresh", objects, parts, list(BOUNDS), count=2)
    assert [again[name]["refused"] for name in BOUNDS] == [0] * len(BOUNDS)
    assert {name: untimed(row) for name, row in again.items()} == {name: untimed(row) for name, row in fresh.items()}


def test_only_what_makes_grasps_takes_time(whole):
    _, _, rows, _ = whole
    assert rows["shuffled"]["seconds_per_grasp"] is None
    for name in ("random", "random+polish", "shuffled+polish", "bad"):
        assert 0 < rows[name]["seconds_per_grasp_low"] <= rows[name]["seconds_per_grasp"]


def test_a_polish_moves_the_grasps_that_it_is_given(whole):
    _, _, _, records = whole
    for name in ("random", "shuffled"):
        before, after = (records[one, "sphere:0.04"].hands for one in (name, f"{name}+polish"))
        np.testing.assert_allclose((after - before)[:, 60], 0.01, atol=1e-6)


def test_diversity_and_frechet_distance_are_those_of_all_finite_grasps(whole):
    _, parts, rows, records = whole
    names = ("sphere:0.04", "sphere:0.03", "cylinder:0.03,0.1")
    assert rows["bad"]["entropy"] is None  # 12 finite grasps are fewer than the clusters
    hands = [grasp for name in names for grasp in records["random", name].grasps(parts.hand_models)]
    assert rows["random"]["entropy"] is None
    with torch.no_grad():
        vertices = parts.hand_models["right"](stack_hands(hands)).vertices.double().numpy()
    features = np.concatenate([records["random", name].features for name in names])
    np.testing.assert_allclose(features, vertices.mean(axis=1), atol=1e-6)
    assert rows["synthetic"]["frechet_view_features"] is None
    assert rows["random"]["frechet_view_features"] > 0


def test_diversity_with_enough_grasps(tmp_path, balls):
    parts = doubles.parts_with()
    rows, records = evaluated(tmp_path, balls[:2], parts, ["synthetic", "random"], count=15)
    found = [records["random", one.name].grasps(parts.hand_models) for one in balls[:2]]
    keypoints = np.stack([grasp.hand.keypoints for part in found for grasp in part])
    expected = diversity(keypoints, seed=0)
    assert rows["random"]["entropy"] == pytest.approx(expected.entropy, abs=1e-6)
    assert rows["random"]["cluster_size"] == pytest.approx(100 * expected.cluster_size, rel=1e-4)


def test_the_same_seed_gives_the_same_rows_and_another_does_not(tmp_path, balls, whole):
    _, parts, rows, _ = whole
    again, _ = evaluated(tmp_path, balls, parts, ["random", "shuffled", "synthetic"])
    for name in ("random", "shuffled"):
        assert untimed(again[name]) == untimed(rows[name])
    other, _ = evaluated(tmp_path / "other", balls, parts, ["random"], seed=1)
    assert untimed(other["random"]) != untimed(rows["random"])


def untimed(row):
    return {key: value for key, value in row.items() if not key.startswith("seconds")}


def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_rows(tmp_path, balls, whole):
    _, _, rows, _ = whole
    model = doubles.hand_models()["right"]
    generator = doubles.FixedHands(model, params_with_nan())
    parts = doubles.parts_with(Method("bad", generator))
    names = ["bad", *BOUNDS]

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path, balls, parts, names, progress=stop)
    file = tmp_path / "run" / "grasps.jsonl"
    assert len(file.read_text().splitlines()) == 7
    with file.open("a") as stream:
        stream.write('{"method":"random","object":"sphere')  # what a killed process leaves
    before = len(generator.calls)
    seen = []
    again, _ = evaluated(tmp_path, balls, parts, names, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (7, 18)
    assert seen[-1] == (18, 18)
    judged = {name for name, count in generator.calls[before:] if count == COUNT}
    assert 0 < len(judged) < 3
    assert {name: untimed(row) for name, row in again.items()} == {name: untimed(rows[name]) for name in names}
    assert len(file.read_text().splitlines()) == 18


def test_results_of_another_version_are_made_again_and_of_other_settings_refused(tmp_path, balls):
    model = doubles.hand_models()["right"]
    old = doubles.FixedHands(model, doubles.scattered_hands(2, 1))
    evaluated(tmp_path, balls[:1], doubles.parts_with(Method("m", old, version="1")), ["m"], count=2)
    new = doubles.FixedHands(model, doubles.scattered_hands(2, 2))
    parts = doubles.parts_with(Method("m", new, version="2"))
    _, records = evaluated(tmp_path, balls[:1], parts, ["m"], count=2)
    np.testing.assert_array_equal(records["m", "sphere:0.04"].hands[:, 58:61], new.params.transl.numpy())
    with pytest.raises(InputError, match=r"count was 2, is 3"):
        evaluated(tmp_path, balls[:1], parts, ["m"], count=3)


def test_what_cannot_run_here_is_a_row_that_says_why(tmp_path, balls):
    parts = doubles.parts_with(polish=False)
    parts = replace(
        parts, methods={**parts.methods, "random+polish": Method("random+polish", missing="no polish is installed")}
    )
    rows, _ = evaluated(tmp_path, balls[:1], parts, list(BOUNDS), count=2)
    for name in ("random+polish", "shuffled+polish"):
        assert rows[name]["not_available"] == "no polish is installed"
        assert rows[name]["good"] is None
        assert rows[name]["n"] == 0
    assert "of which there is one" in rows["shuffled"]["not_available"]
    page = markdown(list(rows.values()), {"objects": 1})
    assert "`random+polish`: no polish is installed" in page


def test_an_engine_that_cannot_take_a_mesh_refuses_its_object_alone(tmp_path, balls, monkeypatch):
    from grasp_nodes.evaluation.harness import judging

    engine = judging.MujocoEngine

    def fussy(solid, faces):
        if solid.name == "sphere:0.03":
            raise ValueError("mesh volume is too small")
        return engine(solid, faces)

    monkeypatch.setattr(judging, "MujocoEngine", fussy)
    rows, _ = evaluated(tmp_path, balls[:2], doubles.parts_with(), ["random"], count=2)
    assert rows["random"]["refused_objects"] == {"sphere:0.03": "mesh volume is too small"}
    with pytest.raises(InputError, match="are made of the grasps of synthetic"):
        evaluated(tmp_path / "other", balls[:2], doubles.parts_with(), ["shuffled"], count=2)


class TestBounds:
    def test_every_object_gets_the_grasps_of_another_one(self):
        names = [f"o{k}" for k in range(9)]
        given = donors(names, seed=3)
        assert sorted(given) == sorted(given.values()) == names
        assert all(name != donor for name, donor in given.items())
        assert given == donors(names[::-1], seed=3)
        assert given != donors(names, seed=4)
        assert donors(["one"], 0) == {}

    def test_moved_grasps_keep_their_place_about_the_centre(self):
        models = doubles.hand_models()
        grasps = make_grasps(doubles.scattered_hands(3, 0), models["right"])
        item = load_object("box:0.05,0.06,0.07")
        item = replace(item, vertices=item.vertices + np.float32([0.1, -0.2, 0.3]))
        moved = move_to_object(grasps, np.array([0.01, 0.02, 0.03]), item, models)
        for before, after in zip(grasps, moved, strict=True):
            shift = after.hand.keypoints - before.hand.keypoints
            np.testing.assert_allclose(shift, np.tile([0.09, -0.22, 0.27], (21, 1)), atol=1e-6)
        np.testing.assert_allclose(bounding_center(item), [0.1, -0.2, 0.3], atol=1e-7)

    def test_random_hands_are_near_the_surface_and_reproducible(self):
        model = doubles.hand_models()["right"]
        item = load_object("sphere:0.04")
        grasps = RandomHands(model).generate(item, 50, seed=1).grasps
        palms = np.stack([grasp.hand.keypoints[[0, 9]].mean(axis=0) for grasp in grasps])
        distance = np.linalg.norm(palms, axis=1) - 0.04
        assert distance.min() > -0.001
        assert distance.max() < 0.061
        # Uniform over the sphere: the mean of 50 unit vectors has the length of a random walk, 1 / sqrt(50) = 0.14.
        assert np.linalg.norm((palms / np.linalg.norm(palms, axis=1, keepdims=True)).mean(axis=0)) < 0.4
        again = RandomHands(model).generate(item, 50, seed=1).grasps
        assert torch.equal(stack_hands(grasps).transl, stack_hands(again).transl)

    def test_polish_leaves_a_hand_with_nan_alone(self):
        models = doubles.hand_models()
        grasps = make_grasps(params_with_nan(), models["right"])
        better = polish(grasps, load_object("sphere:0.04"), doubles.LiftingPolish(), models)
        lifted = np.array(
            [
                after.hand.params.transl[0, 2] - before.hand.params.transl[0, 2]
                for before, after in zip(grasps, better, strict=True)
            ]
        )
        np.testing.assert_allclose(lifted[[0, 2, 3, 4]], 0.01, atol=1e-6)
        assert np.isnan(lifted[1])

    def test_the_best_of_each_group_is_kept(self):
        model = doubles.hand_models()["right"]
        scores = np.random.default_rng(0).permutation(24).astype(float)
        generator = doubles.FixedHands(model, doubles.scattered_hands(24, 0), scores)
        item = load_object("sphere:0.04")
        best = BestOfMany(generator, 8).generate(item, 3, seed=2)
        found = [grasp.score for grasp in best.grasps]
        assert found == sorted(found, reverse=True)
        # Three disjoint groups of eight: each winner beats seven others, and the best of all wins.
        assert found[0] == 23
        assert min(found) >= 7
        assert best.method == "fixed+rank8"
        with pytest.raises(InputError, match="same score"):
            BestOfMany(replace(generator, scores=None), 8).generate(item, 3, seed=2)


class TestJudge:
    def test_left_and_right_hands_of_mirrored_grasps_get_equal_marks(self):
        models = doubles.hand_models()
        judge = ObjectJudge(load_object("cylinder:0.03,0.1"), judged_hands(models), displacement=False)
        right = doubles.scattered_hands(3, 5)
        flip = torch.tensor([-1.0, 1.0, 1.0])
        left = replace(right, side="left", transl=right.transl * flip, global_orient=right.global_orient * -flip)
        mixed = [*make_grasps(right, models["right"]), *make_grasps(left, models["left"])]
        found = judge(mixed)
        for name in ("penetration_depth", "contact_area", "disjointedness", "self_penetration"):
            np.testing.assert_allclose(found.values[name][3:], found.values[name][:3], rtol=0.05, atol=2e-4)
        assert set(found.values) == set(MEASURES)

    def test_grasps_of_another_hand_model_are_refused(self):
        models = doubles.hand_models()
        judge = ObjectJudge(load_object("sphere:0.04"), judged_hands(models), displacement=False)
        grasp = make_grasps(HandParams.zeros(1), models["right"])[0]
        alien = replace(grasp, hand=replace(grasp.hand, model_fingerprint="f" * 64, model_id="mano"))
        with pytest.raises(InputError, match="mano"):
            judge([grasp, alien])

    def test_only_a_labelled_pinch_may_have_two_fingers(self, monkeypatch):
        """Thumb and index touch, the object is held: good as a labelled pinch, not as a generated grasp."""
        from grasp_nodes.evaluation.harness import judging
        from grasp_nodes.evaluation.simulation.mujoco_engine import Hold

        models = doubles.hand_models()
        judge = ObjectJudge(load_object("sphere:0.04"), judged_hands(models), displacement=False)
        grasps = make_grasps(doubles.scattered_hands(3, 5), models["right"])
        touching = np.zeros((3, 5), bool)
        touching[:, :2] = True
        monkeypatch.setattr(judging, "fingers_in_contact", lambda *_: touching)
        monkeypatch.setattr(judging, "penetration_depth", lambda distance: np.zeros(len(distance)))
        monkeypatch.setattr(
            judging.MujocoEngine, "six_direction_hold", lambda *_: Hold(np.ones(3, bool), np.zeros((3, 6)))
        )
        assert judge(grasps).values["good"].tolist() == [0, 0, 0]
        assert judge(grasps, ["pinch", "power", ""]).values["good"].tolist() == [1, 0, 0]


def test_samples_are_the_same_places_of_every_method(whole, balls, tmp_path):
    _, parts, _, records = whole
    names = ["bad", "picky", *BOUNDS]
    places = draw_places(balls, COUNT, 4, seed=0)
    assert places == draw_places(balls, COUNT, 4, seed=0)
    assert {place.item.name for place in places[:3]} == {one.name for one in balls}
    pictures = doubles.PicturesInJson(tmp_path)
    sheet = write_samples(tmp_path, names, places, records, parts.hand_models, pictures)
    captions, columns = json.loads(sheet.read_text())
    assert columns == 4
    assert len(captions) == len(pictures.written) == 4 * len(names)
    assert captions[0] == f"bad  {places[0].item.name}  {places[0].number}"
    refused = [finite for method, name, _, finite in pictures.written if (method, name) == ("picky", "sphere:0.03")]
    assert refused
    assert not any(refused)


def test_the_table_reads_the_same_both_ways_round(whole):
    _, _, rows, _ = whole
    table = text_table(list(rows.values()))
    turned = table.transposed()
    assert [row[0][0] for row in table.rows] == list(turned.header[1:])
    column = table.header.index("good")
    line = next(row for row in turned.rows if row[0][0] == "good")
    assert list(line[1:]) == [row[column] for row in table.rows]
