"""``grasp-nodes train honet|picr`` from nothing to a weight file, in the smallest size that there is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from grasp_nodes.cli import training_miho
from grasp_nodes.cli.training import train_method
from grasp_nodes.cli.training_request import TrainingRequest, apply_options
from grasp_nodes.data.hand_object_images import HandObjectImages
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.weights import SHIPPED_FOLDER, read_weights
from grasp_nodes.miho.backbones import BackboneConfig
from grasp_nodes.miho.honet import SMALL_HONET, HoNet, HoNetConfig
from grasp_nodes.miho.honet_training import honet_errors
from grasp_nodes.miho.hourglass import HourglassConfig
from grasp_nodes.miho.picr import SMALL_PICR, PiCR, PiCRConfig
from grasp_nodes.miho.trained import CONTACT_THRESHOLD, MEAN_ANSWER, load_honet, load_picr
from grasp_nodes.objects.loading import load_object

TINY = {"per_object": "2", "rounds": "1", "objects": "1", "processes": "1", "precision": "float32", "warmup": "0"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Networks for crops of 32 px, and a cache of their own."""
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.getbasetemp() / "miho_cache"))
    honet, picr = tiny_sizes()
    monkeypatch.setattr(training_miho, "SMALL_HONET", honet)
    monkeypatch.setattr(training_miho, "SMALL_PICR", picr)


def tiny_sizes() -> tuple[HoNetConfig, PiCRConfig]:
    backbone = BackboneConfig(8, (8, 12), (1, 1), "grid", 4)
    honet = replace(SMALL_HONET, backbone=backbone, size=32, hidden=(16, 12))
    picr = replace(SMALL_PICR, hourglass=HourglassConfig(1, 2, 8, 6), size=32, points=(8, 12), heads=(8,))
    return honet, picr


def request(folder: Path, **options: str) -> TrainingRequest:
    return TrainingRequest(folder, steps=2, batch=2, device="cpu", options={**TINY, **options}, command="the command")


@pytest.mark.usefixtures("small")
def test_both_networks_from_nothing_to_files(tmp_path: Path) -> None:
    assert train_method("honet", request(tmp_path / "honet"), as_json=False) == 0
    file = tmp_path / "honet" / "honet.safetensors"
    card = read_weights(file, "honet").card
    assert card.command == "the command"
    assert card.hand_fingerprint == load_hand_model("right").fingerprint
    assert "2 rendered crops of 1 procedural objects" in card.data
    assert np.asarray(card.normalization[MEAN_ANSWER]["hand_rotation"]).shape == (3, 3)
    assert load_honet(file).config.size == 32
    assert train_method("picr", request(tmp_path / "picr"), as_json=False) == 0
    first = tmp_path / "picr" / "picr.safetensors"
    tuned = request(tmp_path / "tuned", honet=str(file), start=str(first))
    assert train_method("picr", tuned, as_json=False) == 0
    assert load_picr(tmp_path / "tuned" / "picr.safetensors").config.size == 32
    card = read_weights(first).card
    assert {"loss", "contact_ap", "region_accuracy", "elasticity_error", "threshold"} <= set(card.metrics)
    assert card.notes["curves"][-1]["step"] == 2
    assert card.notes["curves"][-1]["contact_ap"] == pytest.approx(card.metrics["contact_ap"], abs=1e-3)
    assert load_picr(first).threshold == card.normalization[CONTACT_THRESHOLD] == card.metrics["threshold"]


@pytest.mark.usefixtures("small")
def test_the_card_tells_of_the_weights_that_are_saved_and_other_data_are_refused(tmp_path: Path) -> None:
    trained = request(tmp_path, evaluate_every="1", rate="0.01", average="0.001")
    assert train_method("honet", trained, as_json=False) == 0
    file = tmp_path / "honet.safetensors"
    card, model = read_weights(file).card, load_hand_model("right")
    options = apply_options(training_miho.MihoOptions(), _own(trained.options))
    _, validation, _ = training_miho._rendered(options, 32, lambda *_: None)
    expected = honet_errors(load_honet(file), validation, model).means()
    assert card.metrics == pytest.approx(expected, rel=0.02)
    for changed in ({"per_object": "1"}, {"objects": "2"}, {"rounds": "2"}):
        with pytest.raises(InputError, match="another network, data or settings"):
            train_method("honet", request(tmp_path, **{**dict(trained.options), **changed}), as_json=False)


def _own(options: Mapping[str, str]) -> dict[str, str]:
    known = {one.name for one in fields(training_miho.MihoOptions)}
    return {name: text for name, text in options.items() if name in known}


@pytest.mark.usefixtures("small")
def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is PiCR's"):
        train_method("honet", request(tmp_path, honet="x.safetensors"), as_json=False)
    for rounds in ("0", "1000"):
        with pytest.raises(InputError, match="rounds: expected 1 to 999"):
            train_method("picr", request(tmp_path, rounds=rounds), as_json=False)
    with pytest.raises(InputError, match="there is no such setting"):
        train_method("honet", request(tmp_path, nonsense="1"), as_json=False)
    with pytest.raises(InputError, match=r"clip\.json"):
        train_method("picr", replace(request(tmp_path), data=tmp_path), as_json=False)


@pytest.mark.usefixtures("small")
def test_weights_of_another_size_are_no_start(tmp_path: Path) -> None:
    """The shipped ones are larger than those that are trained here."""
    for method in ("honet", "picr"):
        begun = request(tmp_path / method, start=str(SHIPPED_FOLDER / f"{method}.safetensors"))
        with pytest.raises(InputError, match=f"tensors do not fit the network of method '{method}'"):
            train_method(method, begun, as_json=False)


def test_objects_that_only_validate_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two recorded objects one is seen in training sequences, the other in the sequence that validates."""
    things = [load_object(spec, num_points=300) for spec in ("sphere:0.03", "box:0.05,0.04,0.09")]
    zeros = np.zeros((4, 45), np.float32)
    crops = HandObjectImages(
        np.zeros((4, 32, 32, 3), np.uint8),
        *(zeros[:, 0] + 50, zeros[:, :3], zeros, zeros[:, :10], zeros[:, :3]),
        np.tile(np.eye(4, dtype=np.float32), (4, 1, 1)),
        np.array([0, 0, 0, 1]),
        ("ball", "box"),
    )
    asked = []
    split = crops.rows(slice(0, 3)), crops.rows(slice(3, None)), things
    monkeypatch.setattr(training_miho, "recorded_crops", lambda *_: split)
    monkeypatch.setattr(training_miho, "drawn_crops", lambda thing, *_: asked.append(thing.object_id))
    training, validation = training_miho._recorded(tmp_path, training_miho.MihoOptions(drawn=2), 32, 0)
    assert asked == [things[0].object_id]
    assert (len(training), len(validation)) == (3, 1)
    assert len(training.table.codes) == len(validation.table.codes) == 2


_TWO_PROCESSES = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("sizes", {this!r})
sizes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sizes)
sizes.training_miho.SMALL_HONET, sizes.training_miho.SMALL_PICR = sizes.tiny_sizes()
if __name__ == "__main__":  # processes that draw import this file, too
    asked = sizes.replace(sizes.request(Path({folder!r}) / {method!r}), batch=1)
    assert sizes.train_method({method!r}, asked, as_json=False) == 0
"""


@pytest.mark.processes
@pytest.mark.parametrize(("method", "load"), [("honet", load_honet), ("picr", load_picr)])
def test_two_processes_train_one_network(method: str, load: Callable[[Path], HoNet | PiCR], tmp_path: Path) -> None:
    """Under torchrun, with gloo; the first one alone writes and talks. One training to a launch, as commands are."""
    script = tmp_path / "two.py"
    script.write_text(_TWO_PROCESSES.format(this=__file__, folder=str(tmp_path), method=method))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "GRASP_NODES_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    file = tmp_path / method / f"{method}.safetensors"
    assert load(file).config.size == 32
    assert done.stdout.count(f"{file}: use it with") == 1
    card = read_weights(file).card
    assert card.notes["steps"] == 2
    assert np.isfinite(list(card.metrics.values())).all()
