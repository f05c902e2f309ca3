"""What ``reconstruct --method`` makes of its word, before a clip is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from grasp_nodes.cli.reconstruction import setup
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.fitting.reconstruction import ClipReconstructor
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.learning.weights import WEIGHTS_VARIABLE, shipped_hashes
from grasp_nodes.miho.honet import SMALL_HONET, HoNet
from grasp_nodes.miho.picr import SMALL_PICR, PiCR
from grasp_nodes.miho.reconstruction import MihoReconstructor
from grasp_nodes.miho.trained import save_network


def images(folder: Path) -> Path:
    """A folder of two images."""
    place = folder / "images"
    place.mkdir()
    for number in range(2):
        assert cv2.imwrite(str(place / f"{number:04d}.png"), np.full((48, 64, 3), 90, np.uint8))
    return place


def request(method: str) -> setup.Request:
    return setup.Request("mug", Path("out"), objects=("sphere:0.03",), method=method)


def test_another_method_is_refused() -> None:
    with pytest.raises(InputError, match="--method: expected one of homan, honet, miho, got 'nosuch'"):
        setup.check_refinement(request("nosuch"))


def test_a_beginning_is_for_the_joint_fit_alone() -> None:
    with pytest.raises(InputError, match="--initialise: expected one of fit, honet, got 'nosuch'"):
        setup.check_refinement(replace(request("homan"), initialise="nosuch"))
    with pytest.raises(InputError, match="--initialise honet: --method miho has no joint fit to begin"):
        setup.check_refinement(replace(request("miho"), initialise="honet"))


def test_the_joint_fit_begins_with_honet_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = load_hand_model("right").fingerprint
    save_network(tmp_path / "honet.safetensors", HoNet(SMALL_HONET).state_dict(), SMALL_HONET, fingerprint)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    asked = replace(request("homan"), clip=str(images(tmp_path)), output=tmp_path, initialise="honet")
    inputs = setup.open_inputs(asked)
    assert isinstance(setup.make_reconstructor(asked, inputs, {}), ClipReconstructor)
    assert setup.settings_of(asked, inputs)["initialise"] == "honet"
    (tmp_path / "honet.safetensors").unlink()
    with pytest.raises(MissingFileError, match="holds no weight file"):
        setup.make_reconstructor(asked, inputs, {})


@pytest.mark.parametrize("method", ["honet", "miho"])
def test_the_networks_of_a_method_are_loaded(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = load_hand_model("right").fingerprint
    torch.manual_seed(0)
    save_network(tmp_path / "honet.safetensors", HoNet(SMALL_HONET).state_dict(), SMALL_HONET, fingerprint)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    inputs = setup.open_inputs(setup.Request(str(images(tmp_path)), tmp_path, objects=("sphere:0.03",), method=method))
    if method == "miho" and "picr.safetensors" not in shipped_hashes():
        with pytest.raises(MissingFileError, match="grasp-nodes train picr"):
            setup.make_reconstructor(request(method), inputs, {})
    save_network(tmp_path / "picr.safetensors", PiCR(SMALL_PICR).state_dict(), SMALL_PICR, fingerprint)
    assert isinstance(setup.make_reconstructor(request(method), inputs, {}), MihoReconstructor)
    assert setup.settings_of(request(method), inputs)["method"] == method
