"""``grasp-nodes reconstruct --dataset``: the sequences of data sets as clips."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grasp_nodes.cli import app as app_module
from grasp_nodes.cli.clip_evaluation.sequences import sequence_clips
from grasp_nodes.cli.reconstruction import setup
from grasp_nodes.cli.reconstruction.setup import Request, open_inputs
from grasp_nodes.contact.interaction import FitStatus, HandObjectState
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.trajectory_files import read_trajectory
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.reconstruction import WindowResult
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.hand.files import load_hand_arrays, mano_entries, save_npz
from tests.data import clip_dataset_doubles as doubles
from tests.data.test_clip_datasets_ho3d import OBJECT, Writer, empty_meta
from tests.data.test_clip_datasets_videos import write_core50


@pytest.fixture
def mano(tmp_path: Path) -> Path:
    """A folder of hand models that say they are MANO."""
    folder = tmp_path / "mano"
    folder.mkdir()
    for side in doubles.SIDES:
        entries = {**mano_entries(load_hand_arrays(side)), "model_id": np.array("mano")}
        del entries["fingerprint"]
        save_npz(folder / f"MANO_{side.upper()}.npz", entries)
    return folder


class Oracle:
    """Answers with the truth; a frame without one is lost."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def reconstruct(self, frames: Iterable[Frame], first: int = 0) -> Iterator[WindowResult]:
        states = []
        for frame in frames:
            assert frame.depth is not None
            known = self.source.truth(frame.stamp)
            lost = HandObjectState(frame.stamp, frame.camera.frame_id, status=FitStatus.NOTHING)
            states.append(known if known is not None else lost)
        yield WindowResult(first, states, {"rotation_ambiguity_rad": {}})


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["grasp-nodes", "reconstruct", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        app_module.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_a_sequence_is_reconstructed_beside_its_annotations(
    tmp_path: Path, mano: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(tmp_path / "HO3D")
    for number in range(4):
        writer.frame("train/ABF10", number, **(empty_meta() if number == 2 else {}))
    monkeypatch.setattr(setup, "make_reconstructor", lambda _request, inputs, _boxes: Oracle(inputs.source))
    out = tmp_path / "out"
    options = ("--dataset", "ho3d", "--sequence", "ABF10", "--hand-model", mano, "-o", out, "--json")
    code, printed, said = run(monkeypatch, capsys, tmp_path / "HO3D", *options)
    assert code == 0, said
    row = json.loads(printed.splitlines()[-1])
    assert row["frames_out"] == 4
    assert row["hand_mpjpe_mm"] == pytest.approx(0.0, abs=1e-4)
    assert row["object_add_s_mm"] == pytest.approx(0.0, abs=1e-4)
    back = read_trajectory(out / "trajectory.npz")
    assert [len(state.hands) for state in back.trajectory.states] == [1, 1, 0, 1]
    settings = json.loads((out / "report.json").read_text())["settings"]
    assert (settings["dataset"], settings["sequence"]) == ("ho3d", "ABF10")


def test_an_object_of_the_users_own_needs_no_model_of_the_data_set(tmp_path: Path, mano: Path) -> None:
    Writer(tmp_path).frame("train/ABF10", 0)
    request = Request(str(tmp_path), tmp_path / "out", hand_model=mano, dataset="ho3d", sequence="ABF10")
    assert list(open_inputs(request).objects) == [OBJECT]
    (tmp_path / "models" / OBJECT / "textured_simple.obj").unlink()
    own = Request(str(tmp_path), tmp_path / "out", ("sphere:0.05",), dataset="ho3d", sequence="ABF10")
    inputs = open_inputs(own)
    assert list(inputs.objects) == ["sphere"]
    truth = inputs.source.truth(0)
    assert truth is not None
    assert not truth.hands  # the open hand cannot say what MANO's parameters mean


def test_the_assumed_field_of_view_is_the_data_sets_or_the_users(tmp_path: Path) -> None:
    write_core50(tmp_path, 1, 21)
    request = Request(str(tmp_path), tmp_path / "out", dataset="core50", sequence="s1/o21")
    assert open_inputs(request).source.camera.camera_k[0, 0] == pytest.approx(480)
    asked = Request(str(tmp_path), tmp_path / "out", field_of_view=60.0, dataset="core50", sequence="s1/o21")
    assert open_inputs(asked).source.camera.camera_k[0, 0] == pytest.approx(175 * np.sqrt(3))


def test_wrong_names_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_core50(tmp_path, 1, 21)
    for words, expected in (
        (("--dataset", "coco"), "unknown 'coco'; known: ho3d"),
        (("--dataset", "core50"), "no sequence '' there; expected a name such as s1/o21; there are: s1/o21"),
        (("--sequence", "s1/o21"), "of which data set? Add --dataset"),
        (("--dataset", "epic", "--sequence", "P01_01_0"), "EPIC-KITCHENS-100 comes from"),
    ):
        code, _, said = run(monkeypatch, capsys, tmp_path, *words, "-o", tmp_path / "out")
        assert code != 0
        assert expected in said
        assert "Traceback" not in said
    with pytest.raises(InputError, match=r"--object-box: 2 boxes"):
        open_inputs(Request(str(tmp_path), tmp_path, boxes=("1", "2"), dataset="core50", sequence="s1/o21"))


def test_sequences_that_are_there_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (20, 21):
        write_core50(tmp_path, 1, number)

    def listed(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["grasp-nodes", "sequences", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            app_module.main()
        printed = capsys.readouterr()
        return printed.out if not ended.value.code else printed.err

    assert listed("core50", tmp_path).split() == ["s1/o20", "s1/o21"]
    assert listed("core50", tmp_path, "--homan").split() == ["s1/o21"]
    assert json.loads(listed("core50", tmp_path, "--json")) == ["s1/o20", "s1/o21"]
    assert "HOMan was not evaluated on it" in listed("fhb", tmp_path, "--homan")
    assert "comes from" in listed("ho3d", tmp_path / "nowhere")


def test_sequences_can_be_judged_as_clips(tmp_path: Path, mano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRASP_NODES_HAND_MODEL", str(mano))
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    writer = Writer(tmp_path)
    for number in range(3):
        writer.frame("train/ABF10", number)
    found: list[Any] = []
    monkeypatch.setattr("grasp_nodes.cli.evaluating_clips.evaluate_clips", lambda request: found.append(request) or 0)
    words = ("evaluate-clips", "--dataset", "ho3d", "--clips", tmp_path, "--sequence", "ABF10", "--frames", "2")
    monkeypatch.setattr(sys, "argv", ["grasp-nodes", *map(str, words), "-o", str(tmp_path / "out")])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            app_module.main()
        assert not ended.value.code
    (clip,) = found[0].clips
    assert found[1].clips == found[0].clips
    opened = open_clip(clip)
    assert (len(opened), opened.object_id, opened.has_truth) == (2, OBJECT, True)
    for folders, sequences, expected in (
        ([], ["ABF10"], "expected one folder of HO-3D"),
        ([tmp_path], [], "name a sequence with --sequence, such as train/ABF10"),
        ([tmp_path], ["ABF99"], "ho3d ABF99: .* no sequence 'ABF99' there"),
    ):
        with pytest.raises(InputError, match=expected):
            sequence_clips("ho3d", folders, sequences, 2)
