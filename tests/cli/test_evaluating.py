"""`grasp-nodes evaluate`: names of methods, files of grasps, and whole runs on a few objects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.cli import app, evaluating, generators
from grasp_nodes.cli.evaluating import Request, evaluate
from grasp_nodes.cli.generators import MethodName, load_hand_models, parse_method, parse_methods
from grasp_nodes.cli.grasp_file_methods import FileGrasps, file_objects
from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.data.grasp_files import grasp_arrays, mesh_sha256, write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.bounds import BOUNDS, RandomHands
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.evaluation.harness.protocols import Method
from grasp_nodes.evaluation.harness.report import notes
from grasp_nodes.hand.files import MODEL_VARIABLE
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.viewer.picture_folder import read_pictures

BALLS = ("sphere:0.04", "cylinder:0.03,0.1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def light(monkeypatch):
    """Random hands instead of the synthesis, and a polish that does nothing."""
    monkeypatch.setattr(
        generators, "make_synthetic", lambda models: Method("synthetic", RandomHands(models["right"]), labelled=True)
    )
    monkeypatch.setattr(generators, "make_polisher", lambda models: lambda hands, object_model: hands)


def make_random(models) -> Method:
    return Method("chance", RandomHands(models["right"]), version="1")


class TestNames:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("jhod", MethodName("jhod")),
            ("jhod+rank8", MethodName("jhod", 8)),
            ("jhod+polish", MethodName("jhod", polish=True)),
            ("fastgrasp-no-adaptation+rank16+polish", MethodName("fastgrasp-no-adaptation", 16, True)),
            ("file:a+b/grasps.npz+polish", MethodName("file:a+b/grasps.npz", polish=True)),
        ],
    )
    def test_suffixes(self, text, expected):
        assert parse_method(text) == expected
        assert str(expected) == text

    @pytest.mark.parametrize("text", ["jhod+polish+rank8", "+polish", "jhod+polish+polish", "jhod+rank0+polish", ""])
    def test_suffixes_that_are_none(self, text):
        with pytest.raises(InputError, match=r"expected NAME, NAME\+rank8"):
            parse_method(text)

    def test_unknown_methods_are_told_those_that_exist(self, monkeypatch):
        with pytest.raises(InputError, match=r"'unheard'.*expected some of .*file:PATH"):
            parse_methods("unheard")
        monkeypatch.setattr(generators, "GENERATORS", {"chance": make_random})
        with pytest.raises(InputError, match=r"'unheard\+rank8'.*chance, file:PATH"):
            parse_methods("chance,unheard+rank8")
        assert [str(name) for name in parse_methods(" chance, chance+rank4 ,")] == ["chance", "chance+rank4"]
        with pytest.raises(InputError, match="more than once"):
            parse_methods("chance,chance")
        with pytest.raises(InputError, match="is a bound"):
            parse_methods("random")
        assert parse_methods("") == []


def labelled(count: int = 6, transform: np.ndarray | None = None, **content) -> LabelledGrasps:
    """Hands beside a box, of which the file's frame is turned."""
    rng = np.random.default_rng(0)
    hands = replace(
        HandParams.zeros(count),
        global_orient=torch.tensor(rng.normal(size=(count, 3)), dtype=torch.float32),
        transl=torch.tensor(rng.normal(scale=0.05, size=(count, 3)), dtype=torch.float32),
    )
    one = GraspedObject("box:3", "family:box:3", 1.0, np.eye(4) if transform is None else transform, "box")
    none = np.full(count, "")
    kinds = np.arange(count) % 5
    numbers = np.zeros(count, np.int64)
    model = load_hand_models()["right"]
    defaults = {"hand_model_id": model.model_id, "hand_fingerprint": model.fingerprint, "objects": [one]}
    return LabelledGrasps(
        "test",
        hands,
        **{**defaults, **content},
        object_index=numbers,
        kind=kinds,
        subject=none,
        sequence=none,
        frame=np.arange(count),
    )


def turn(angles) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    return transform


class TestFiles:
    def test_grasps_move_with_the_object(self, tmp_path):
        in_file, here = turn([0.3, -0.5, 1.0]), turn([2.0, 0.1, -0.4])
        here[:3, 3] = [0.01, 0.02, -0.03]
        write_grasps(tmp_path / "g.npz", labelled(transform=in_file), "float32")
        models = load_hand_models()
        item = EvaluatedObject("box:3", "box", "family:box:3", transform=here)
        found = FileGrasps(tmp_path / "g.npz", [item], models).generate(item.build(), 10, 0)
        assert len(found.grasps) == 6
        assert [grasp.kind for grasp in found.grasps][:5] == ["power", "precision", "tripod", "pinch", "lateral"]
        motion = here @ np.linalg.inv(in_file)
        with torch.no_grad():
            before = models["right"](labelled().hands).vertices.double().numpy()
            after = models["right"](stack_hands(found.grasps)).vertices.double().numpy()
        np.testing.assert_allclose(after, before @ motion[:3, :3].T + motion[:3, 3], atol=1e-5)

    def test_more_grasps_than_wanted_are_drawn_by_lot(self, tmp_path):
        write_grasps(tmp_path / "g.npz", labelled(40), "float32")
        item = file_objects(tmp_path / "g.npz")[0]
        source = FileGrasps(tmp_path / "g.npz", [item], load_hand_models())
        model = item.build()

        def places(seed):
            return np.stack([grasp.hand.keypoints[0] for grasp in source.generate(model, 5, seed).grasps])

        assert len(np.unique(places(0), axis=0)) == 5
        np.testing.assert_array_equal(places(0), places(0))
        assert not np.array_equal(places(0), places(1))

    def test_objects_of_a_file_lie_in_the_frame_of_its_grasps(self, tmp_path):
        write_grasps(tmp_path / "g.npz", labelled(transform=turn([0.3, -0.5, 1.0])))
        (item,) = file_objects(tmp_path / "g.npz")
        assert (item.name, item.family, item.mesh) == ("box:3", "box", "family:box:3")
        np.testing.assert_allclose(item.transform, turn([0.3, -0.5, 1.0]), atol=1e-12)

    def test_what_cannot_be_used_is_refused_with_the_remedy(self, tmp_path):
        models = load_hand_models()
        item = EvaluatedObject("sphere:0.04", "sphere", "sphere:0.04")
        write_grasps(tmp_path / "other.npz", labelled(hand_model_id="mano", hand_fingerprint="a" * 64))
        with pytest.raises(InputError, match=r"mano.*GRASP_NODES_HAND_MODEL"):
            FileGrasps(tmp_path / "other.npz", [item], models)
        write_grasps(tmp_path / "empty.npz", labelled(0))
        with pytest.raises(InputError, match="holds no grasps"):
            FileGrasps(tmp_path / "empty.npz", [item], models)
        with pytest.raises(MissingFileError):
            FileGrasps(tmp_path / "none.npz", [item], models)
        write_grasps(tmp_path / "g.npz", labelled())
        with pytest.raises(InputError, match=r"holds no grasps of sphere:0\.04"):
            FileGrasps(tmp_path / "g.npz", [item], models).generate(item.build(), 3, 0)
        box = EvaluatedObject("box:3", "box", "family:box:3")
        made = [GraspedObject("box:3", "family:box:3", mesh_sha256=mesh_sha256("box:3"))]
        write_grasps(tmp_path / "same.npz", labelled(objects=made))
        FileGrasps(tmp_path / "same.npz", [box], models)
        made = [replace(made[0], mesh_sha256="0" * 64)]
        write_grasps(tmp_path / "changed.npz", labelled(objects=made))
        FileGrasps(tmp_path / "changed.npz", [item], models)  # its box is not judged on
        with pytest.raises(InputError, match=r"box:3.*not the mesh that its grasps were made on.*synthesize"):
            FileGrasps(tmp_path / "changed.npz", [box], models)
        mirror = np.diag([-1.0, 1, 1, 1])
        mirrored = EvaluatedObject("box:3", "box", "family:box:3", transform=mirror)
        with pytest.raises(InputError, match="holds no grasps of box:3"):
            FileGrasps(tmp_path / "g.npz", [mirrored], models).generate(mirrored.build(), 3, 0)


def rows_of(folder: Path) -> dict[str, dict]:
    rows = json.loads((folder / "evaluation.json").read_text())["rows"]
    return {row["method"]: {key: row[key] for key in row if not key.startswith("seconds")} for row in rows}


class TestRuns:
    def test_a_run_writes_everything_and_is_not_done_twice(self, light, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(generators, "GENERATORS", {"chance": make_random})
        request = Request("chance", BALLS, 3, 0, tmp_path / "run", displacement=False, pictures=2, as_json=True)
        assert evaluate(request) == 0
        said = capsys.readouterr()
        answer = json.loads(said.out.splitlines()[-1])
        assert [row["method"] for row in answer["rows"]] == ["chance", *BOUNDS]
        assert "seed 0" in said.err
        assert "torch" in said.err
        first = rows_of(tmp_path / "run")
        assert first["chance"]["n"] == 6
        assert first["chance"]["displacement_cm"] is None
        assert first["chance"]["mujoco_displacement_cm"] is not None
        page = (tmp_path / "run" / "evaluation.md").read_text()
        assert "| chance |" in page
        assert "date" in page
        sheet = cv2.imread(str(tmp_path / "run" / "samples.png"))
        assert sheet is not None
        drawn = {entry.method for entry in read_pictures(tmp_path / "run")}
        assert {"chance", "random"} <= drawn

        def none(*_):
            raise AssertionError("judged again")

        monkeypatch.setattr("grasp_nodes.evaluation.harness.running.ObjectWorker.__call__", none)
        assert evaluate(request) == 0
        assert "results of an earlier run" in capsys.readouterr().err
        assert rows_of(tmp_path / "run") == first

    def test_two_processes_give_the_rows_of_one(self, tmp_path):
        """With the real synthesis and polish."""
        request = Request("", BALLS, 2, 5, tmp_path / "one", displacement=False, pictures=0)
        evaluate(request)
        evaluate(replace(request, output=tmp_path / "two", workers=2))
        assert rows_of(tmp_path / "two") == rows_of(tmp_path / "one")
        rows = rows_of(tmp_path / "one")
        assert [rows[name]["n"] for name in BOUNDS] == [4] * len(BOUNDS)
        assert rows["synthetic"]["depth_mm"] < 3 < rows["random"]["depth_mm"]
        assert rows["synthetic"]["kinds"]

    def test_a_file_on_its_own_objects(self, light, tmp_path):
        write_grasps(tmp_path / "g.npz", labelled())
        method = f"file:{tmp_path / 'g.npz'}"
        evaluate(Request(method, (str(tmp_path / "g.npz"),), 6, 0, tmp_path / "run", displacement=False, pictures=0))
        row = rows_of(tmp_path / "run")[method]
        assert (row["n"], row["missing"], row["device"]) == (6, 0, "-")
        assert row["kinds"]["power"]["n"] == 2
        row = json.loads((tmp_path / "run" / "evaluation.json").read_text())["rows"][0]
        assert row["seconds_per_grasp"] is None

    def test_nan_in_a_file_is_counted_and_not_averaged(self, light, tmp_path):
        arrays = grasp_arrays(labelled(), "float32")
        whole, broken = tmp_path / "whole.npz", tmp_path / "broken.npz"
        np.savez(whole, **arrays)
        arrays["hand_pose"][[1, 4], 7] = np.nan
        np.savez(broken, **arrays)
        methods = [f"file:{whole}", f"file:{broken}"]
        asked = Request(",".join(methods), (str(broken),), 6, 0, tmp_path / "run", displacement=False, pictures=1)
        evaluate(asked)
        (sound, row), records = (
            [rows_of(tmp_path / "run")[name] for name in methods],
            [json.loads(line) for line in (tmp_path / "run" / "grasps.jsonl").read_text().splitlines()],
        )
        assert (sound["nan"], sound["missing"]) == (0, 0)
        assert (row["n"], row["nan"], row["missing"]) == (6, 2, 0)
        depth = next(one["values"]["penetration_depth"] for one in records if one["method"] == methods[0])
        assert row["depth_mm"] == pytest.approx(1000 * np.mean(np.delete(depth, [1, 4])))
        assert "2 of 6 grasps have NaN" in "\n".join(notes([row]))

    def test_an_object_whose_grasps_are_all_nan_stays_in_the_set(self, tmp_path):
        arrays = grasp_arrays(labelled(), "float32")
        arrays["transl"][:] = np.nan
        np.savez(tmp_path / "g.npz", **arrays)
        assert [one.name for one in file_objects(tmp_path / "g.npz")] == ["box:3"]

    def test_ctrl_c_says_how_to_go_on(self, light, tmp_path, monkeypatch, capsys):
        def interrupted(self, task):
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr("grasp_nodes.evaluation.harness.running.ObjectWorker.__call__", interrupted)
        request = Request("", BALLS, 2, 0, tmp_path / "run", displacement=False, pictures=0)
        assert evaluate(request) == evaluating.INTERRUPTED
        assert "same command goes on" in capsys.readouterr().err

    def test_bad_usage_is_one_line_and_exit_code_2(self, tmp_path, monkeypatch, capsys):
        words_of = [["--methods", "nosuch"], ["--objects", "family:cup:1"], ["--objects", str(tmp_path / "no.obj")]]
        for words in [*words_of, ["--objects", str(tmp_path / "no_folder")]]:
            monkeypatch.setattr("sys.argv", ["grasp-nodes", "evaluate", *words, "-o", str(tmp_path / "run")])
            with pytest.raises(SystemExit) as ended:
                app.main()
            assert ended.value.code == 2
            assert len(capsys.readouterr().err.splitlines()) == 1
            assert not (tmp_path / "run").exists()
