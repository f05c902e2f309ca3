from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.cli.listing_sequences import list_sequences
from grasp_nodes.data.clip_datasets.splits import dexycb_split, fhb_split, ho3d_minus
from grasp_nodes.errors import InputError

SUBJECTS = ("20200709-subject-01", "20200813-subject-02", "20200820-subject-03", "20200928-subject-07")
LATE = ("20201002-subject-08",)


@pytest.fixture(scope="module")
def dexycb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dexycb")
    for subject in (*SUBJECTS, *LATE):
        for sequence in range(100):
            folder = root / subject / f"2020_{sequence:06d}"
            for view in range(8):
                (folder / f"83621206012{view}").mkdir(parents=True)
            (folder / "meta.yml").touch()
    return root


@pytest.mark.parametrize(
    ("setup", "train", "val", "test"),
    [
        # 80 of 100 sequences train; the others of subjects 1 and 2 validate, of the rest test
        ("s0", 5 * 80 * 8, 2 * 20 * 8, 3 * 20 * 8),
        ("s1", 3 * 800, 800, 800),
        ("s2", 5 * 600, 500, 500),
        ("s3", 5 * 75 * 8, 5 * 10 * 8, 5 * 15 * 8),
    ],
)
def test_dexycb_is_divided_as_published(dexycb: Path, setup: str, train: int, val: int, test: int) -> None:
    parts = {part: dexycb_split(dexycb, part, setup) for part in ("train", "val", "test")}
    assert {part: len(names) for part, names in parts.items()} == {"train": train, "val": val, "test": test}
    assert len({name for names in parts.values() for name in names}) == 5 * 800
    if setup == "s1":
        assert {name.split("/")[0] for name in parts["val"]} == {SUBJECTS[3]}
        assert {name.split("/")[0] for name in parts["test"]} == set(LATE)
    if setup == "s2":
        assert {name[-1] for name in parts["test"]} == {"7"}
    if setup == "s3":
        assert {int(name.split("/")[1][-2:]) // 5 for name in parts["test"]} == {7, 11, 15}


def test_a_part_of_dexycb_cannot_be_divided(dexycb: Path, tmp_path: Path) -> None:
    folder = tmp_path / SUBJECTS[0] / "2020_000000"
    (folder / "836212060120").mkdir(parents=True)
    (folder / "meta.yml").touch()
    with pytest.raises(InputError, match=r"subject-01 has 1 sequences of \[1\] views; expected 100 of 8"):
        dexycb_split(tmp_path, "train")
    with pytest.raises(InputError, match=r"expected s0, s1, s2 or s3"):
        dexycb_split(dexycb, "train", "s4")


def test_frames_of_firm_grasps_are_those_of_the_paper(tmp_path: Path) -> None:
    counts = {"SM1": 890, "MPM10": 700, "MPM14": 687, "SB13": 1700, "AP10": 5}
    for name, count in counts.items():
        (tmp_path / "evaluation" / name / "rgb").mkdir(parents=True)
        for number in range(count):
            (tmp_path / "evaluation" / name / "rgb" / f"{number:04d}.png").touch()
    (tmp_path / "train" / "SB11" / "rgb").mkdir(parents=True)
    found = ho3d_minus(tmp_path)
    assert found[0] == "evaluation/MPM10:30-450"
    assert found[-1] == "evaluation/SM1"
    parts = [name.split(":") for name in found]
    lengths = dict.fromkeys((name.split("/")[1] for name, *_ in parts), 0)
    for name, *part in parts:
        first, last = map(int, part[0].split("-")) if part else (0, 889)
        lengths[name.split("/")[1]] += last - first + 1
    assert lengths == {"SM1": 890, "MPM10": 522, "MPM14": 522, "SB13": 1288}
    assert (lengths["SM1"] + 5 * lengths["MPM10"] + 2 * lengths["SB13"]) == 6076
    listed = CliRunner().invoke(app, ["sequences", "ho3d", str(tmp_path), "--cpf", "--json"], catch_exceptions=False)
    assert json.loads(listed.stdout) == found
    with pytest.raises(InputError, match=r"--cpf: HO3Dv2- is a part of ho3d, got fhb"):
        list_sequences("fhb", tmp_path, homan=False, as_json=True, cpf=True)


def test_fhb_is_divided_by_subject(tmp_path: Path) -> None:
    for subject in range(1, 7):
        (tmp_path / "Video_files" / f"Subject_{subject}" / "put_salt/1/color").mkdir(parents=True)
    assert fhb_split(tmp_path, "train") == [f"Subject_{k}/put_salt/1" for k in (1, 3, 4)]
    assert fhb_split(tmp_path, "test") == [f"Subject_{k}/put_salt/1" for k in (2, 5, 6)]
    with pytest.raises(InputError, match=r"FHB has train and test"):
        fhb_split(tmp_path, "val")
