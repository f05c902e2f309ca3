"""What `grasp-nodes train` takes, and what it refuses before it computes anything."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from typer.testing import CliRunner

from grasp_nodes.cli import training
from grasp_nodes.cli.app import app
from grasp_nodes.cli.training import TrainedMethod, train_method
from grasp_nodes.cli.training_request import Outcome, TrainingRequest, apply_options, parse_options
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import HandParams


def test_what_cannot_be_trained_on_is_refused_with_the_remedy(tmp_path):
    file, folder = tmp_path / "g.npz", tmp_path / "weights"
    number, words = np.zeros(3, np.int64), np.full(3, "")
    objects = [GraspedObject("ball", "sphere:0.03")]
    for fingerprint in ("", "a" * 64):
        hands = HandParams.zeros(3)
        columns = (number, number, words, words, number)
        write_grasps(file, LabelledGrasps("test", hands, "mano", fingerprint, objects, *columns))
        with pytest.raises(InputError, match=r"g\.npz: its grasps are of the hand model mano.*GRASP_NODES_HAND_MODEL"):
            train_method("view-features", TrainingRequest(folder, file), as_json=False)
    with pytest.raises(MissingFileError):
        train_method("view-features", TrainingRequest(folder, tmp_path / "none.npz"), as_json=False)
    for wrong in ({"steps": 4}, {"size": "paper"}, {"options": {"width": "3"}}):
        with pytest.raises(InputError, match=r"view-features: knows neither|width: there is no such setting"):
            train_method("view-features", TrainingRequest(folder, file, **wrong), as_json=False)


def test_unknown_method_lists_what_there_is(tmp_path):
    with pytest.raises(InputError, match=r"'nosuch': cannot be trained; expected one of .*view-features \(the network"):
        train_method("nosuch", TrainingRequest(tmp_path / "out"), as_json=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="size: expected one of small, paper"):
        TrainingRequest(tmp_path, size="huge")


@pytest.fixture
def toy(monkeypatch):
    """A method that notes what it is asked."""
    asked = []

    def train(request, report):
        asked.append(request)
        report("counting", 1, 2)
        if request.seed == 9:
            raise KeyboardInterrupt
        if request.seed == 8:
            raise OSError("no space left")
        return Outcome(request.output / "toy.safetensors", {"loss": 0.5}, "use it")

    monkeypatch.setattr(training, "METHODS", {"toy": TrainedMethod("a toy", train)})
    monkeypatch.delenv("RANK", raising=False)
    return asked


def test_the_command_hands_everything_to_the_method(tmp_path, toy):
    words = ["train", "toy", "-o", str(tmp_path / "out"), "--data", str(tmp_path), "--size", "paper", "--steps", "7"]
    words += ["--minutes", "1.5", "--batch", "3", "--seed", "4", "--device", "cpu", "--set", "a=1", "--set", "b=x=y"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output.splitlines()[-1]) == {"loss": 0.5}
    assert "toy.safetensors: use it" in result.output
    (request,) = toy
    assert request.command.startswith("grasp-nodes")
    expected = TrainingRequest(tmp_path / "out", tmp_path, "paper", 7, 1.5, 3, 4, "cpu", {"a": "1", "b": "x=y"})
    assert TrainingRequest(**{**vars(request), "command": ""}) == expected


def test_stopping_and_a_full_disk(tmp_path, toy):
    result = CliRunner().invoke(app, ["train", "toy", "-o", str(tmp_path / "out"), "--seed", "9"])
    assert result.exit_code == 130
    assert "the same command goes on" in " ".join(result.output.split())
    with pytest.raises(Exception, match=r"cannot be written \(no space left\)"):
        train_method("toy", TrainingRequest(tmp_path / "out", seed=8), as_json=False)


def test_further_processes_are_silent(tmp_path, toy, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert train_method("toy", TrainingRequest(tmp_path / "out"), as_json=True) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert not (tmp_path / "out").exists()  # the lock is the first process's


@dataclass(frozen=True)
class Settings:
    width: int = 8
    rate: float = 0.1
    name: str = "a"
    on: bool = True
    layers: tuple[int, ...] = (1, 2)
    limit: float | None = None


def test_settings_by_name():
    words = ["width=16", "rate=1", "name=7", "on=false", "layers=[3, 4]", "limit=2.5"]
    found = apply_options(Settings(), parse_options(words))
    assert found == Settings(16, 1.0, "7", False, (3, 4), 2.5)
    assert isinstance(found.rate, float)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["width"], "expected NAME=VALUE"),
        (["=3"], "expected NAME=VALUE"),
        (["width=1", "width=2"], "width given more than once"),
        (["height=1"], "height: there is no such setting; expected some of width=8, rate=0.1"),
        (["width=wide"], "width=wide: expected a value such as 8"),
        (["width=1.5"], "width=1.5: expected a value such as 8"),
        (["on=1"], "on=1: expected a value such as true"),
        (["width=true"], "width=true"),
        (["layers=3"], "layers=3"),
    ],
)
def test_settings_that_cannot_be(words, message):
    with pytest.raises(InputError, match=message):
        apply_options(Settings(), parse_options(words))
