"""``grasp-nodes train`` of FastGrasp's and GrabNet's parts: from nothing to grasps by name, in tiny sizes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_nodes.cli import training_fastgrasp, training_grabnet
from grasp_nodes.cli.training import METHODS, train_method
from grasp_nodes.cli.training_grasps import SMALL_SETTINGS, DataOptions
from grasp_nodes.cli.training_request import TrainingRequest, split_options, words_of
from grasp_nodes.cli.training_run import write_outcome
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.weights import WEIGHTS_VARIABLE, WeightCard, read_weights, save_weights
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.fastgrasp.losses import LossWeights
from grasp_nodes.synthesis.registry import GENERATORS, make_base
from grasp_nodes.synthesis.trained_parts import BUILT_ON

ALL = ("fastgrasp-autoencoder", "fastgrasp-latent", "fastgrasp-adaptation", "cvae", "grabnet", "grabnet-refine")


@pytest.fixture
def grasps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of twelve flat hands beside two balls, a cache of its own, and networks that take no time."""
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RANK", raising=False)
    model, count = load_hand_model("right"), 12
    objects = [GraspedObject(name, f"sphere:{radius}", category="ball") for name, radius in (("a", 0.03), ("b", 0.04))]
    hands = replace(HandParams.zeros(count), transl=0.1 * torch.randn(count, 3))
    words, index = np.full(count, ""), np.arange(count) % 2
    columns = (objects, index, np.full(count, -1), words, words, np.zeros(count, np.int64))
    write_grasps(tmp_path / "toy.npz", LabelledGrasps("toy", hands, model.model_id, model.fingerprint, *columns))
    own = training_fastgrasp
    sizes = {"widths": (8, 16)}
    monkeypatch.setattr(own, "LOSS_POINTS", {"small": 32, "paper": 32})
    autoencoder = replace(own.SMALL_AUTOENCODER, latent=24, encoder=(16,), decoder=(16,), **sizes)
    monkeypatch.setattr(own, "SMALL_AUTOENCODER", autoencoder)
    denoiser = replace(own.SMALL_DENOISER, points=32, levels=(8, 8), condition=16, noise_steps=50, **sizes)
    monkeypatch.setattr(own, "SMALL_DENOISER", denoiser)
    monkeypatch.setattr(own, "SMALL_ADAPTATION", replace(own.SMALL_ADAPTATION, layers=(16,), **sizes))
    cvae = replace(own.SMALL_CVAE, points=32, encoder=(16,), decoder=(16,), **sizes)
    monkeypatch.setattr(own, "SMALL_CVAE", cvae)
    coarse = replace(training_grabnet.SMALL_COARSE, basis=32, width=16, turns=2, points=32)
    monkeypatch.setattr(training_grabnet, "SMALL_COARSE", coarse)
    monkeypatch.setattr(training_grabnet, "SMALL_REFINE", replace(training_grabnet.SMALL_REFINE, width=16, points=32))
    return tmp_path / "toy.npz"


def request(folder: Path, data: Path, **options: str) -> TrainingRequest:
    return TrainingRequest(folder, data, steps=2, batch=4, device="cpu", options=options, command="the command")


def test_from_nothing_to_grasps_by_name(grasps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    for method in ALL:
        assert train_method(method, request(folder, grasps, validation="0.5"), as_json=False) == 0
    cards = {method: read_weights(folder / f"{method}.safetensors", method).card for method in ALL}
    for card in cards.values():
        assert card.command == "the command"
        assert card.hand_fingerprint == load_hand_model("right").fingerprint
        assert card.data == "toy: 6 grasps of 1 objects"
        assert card.metrics["loss"] >= 0
    sha256 = read_weights(folder / "fastgrasp-autoencoder.safetensors").sha256
    assert cards["fastgrasp-latent"].notes[BUILT_ON] == {"fastgrasp-autoencoder": sha256}
    assert set(cards["fastgrasp-adaptation"].notes[BUILT_ON]) == {"fastgrasp-autoencoder", "fastgrasp-latent"}
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(folder))
    models, ball = (
        {side: load_hand_model(side) for side in ("right", "left")},
        load_object("sphere:0.03", resolution=32),
    )
    versions = set()
    for name in ("fastgrasp", "fastgrasp-ddpm", "fastgrasp-no-adaptation", "cvae", "grabnet", "grabnet-refine"):
        assert name in GENERATORS
        method = make_base(name, models)
        assert method.generator is not None
        found = method.generator.generate(ball, 2, 0)
        assert (found.method, len(found.grasps)) == (name, 2)
        versions.add(method.version)
    assert len(versions) == 6
    # The same training again is finished already; another auto-encoder no longer fits the latents.
    assert train_method("fastgrasp-autoencoder", request(folder, grasps, validation="0.5"), as_json=False) == 0
    assert read_weights(folder / "fastgrasp-autoencoder.safetensors").sha256 == sha256
    more = replace(request(folder, grasps, validation="0.5"), steps=3)
    assert train_method("fastgrasp-autoencoder", more, as_json=False) == 0
    with pytest.raises(InputError, match="was trained with another fastgrasp-autoencoder"):
        make_base("fastgrasp", models)


def test_ablations_are_settings(grasps: Path, tmp_path: Path) -> None:
    plain = request(tmp_path / "a", grasps, physics="false", input="parameters", validation="0")
    assert train_method("fastgrasp-autoencoder", plain, as_json=False) == 0
    card = read_weights(tmp_path / "a" / "fastgrasp-autoencoder.safetensors").card
    assert card.config["input"] == "parameters"
    assert card.notes["weights"] == vars(LossWeights().without_physics())
    physical = request(tmp_path / "a", grasps, physics="true", validation="0", unconditioned="0.1")
    assert train_method("fastgrasp-latent", physical, as_json=False) == 0
    card = read_weights(tmp_path / "a" / "fastgrasp-latent.safetensors").card
    assert card.notes["weights"] == vars(LossWeights())
    assert card.config["unconditioned"] == 0.1


def test_parts_come_in_order_and_unknown_settings_are_listed(grasps: Path, tmp_path: Path) -> None:
    for method, first in (
        ("fastgrasp-latent", "fastgrasp-autoencoder"),
        ("fastgrasp-adaptation", "fastgrasp-autoencoder"),
        ("grabnet-refine", "grabnet"),
    ):
        with pytest.raises(MissingFileError, match=f"grasp-nodes train {first}"):
            train_method(method, request(tmp_path / "none", grasps), as_json=False)
    with pytest.raises(InputError, match=r"--set colour: there is no such setting; expected some of steps=.*physics="):
        train_method("fastgrasp-autoencoder", request(tmp_path / "none", grasps, colour="1"), as_json=False)
    with pytest.raises(InputError, match="families to leave out: mug do not occur"):
        train_method("grabnet", request(tmp_path / "none", grasps, leave_out="mug"), as_json=False)
    assert set(ALL) <= set(METHODS)


def test_no_name_of_a_setting_has_two_meanings() -> None:
    fast, grab = training_fastgrasp, training_grabnet
    for own in (
        (fast.SMALL_AUTOENCODER, LossWeights(), fast.Physics()),
        (fast.SMALL_DENOISER, LossWeights(), fast.Physics()),
        (fast.SMALL_ADAPTATION, LossWeights(), fast.AdaptationTraining()),
        (fast.SMALL_CVAE, LossWeights(), fast.Physics()),
        (grab.SMALL_COARSE, grab.GrabNetWeights()),
        (grab.SMALL_REFINE, grab.GrabNetWeights()),
    ):
        names = [one.name for each in (SMALL_SETTINGS, DataOptions(), *own) for one in fields(each)]
        assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


def test_options_go_where_they_belong() -> None:
    data, weights = split_options({"mesh": "2", "validation": "0.2"}, DataOptions(), LossWeights())
    assert data == DataOptions(validation=0.2)
    assert weights == LossWeights(mesh=2.0)


def test_under_torchrun_only_the_first_process_writes_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(target: Path) -> WeightCard:
        card = WeightCard("toy", normalization={"scale": [1.0, 2.0]}, hours=0.5)
        save_weights(target, {"weight": torch.ones(2)}, card)
        return card

    request = TrainingRequest(tmp_path)
    monkeypatch.setenv("RANK", "1")
    assert write_outcome("toy", request, save).card == {}
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "0")
    outcome = write_outcome("toy", request, save)
    assert outcome.card["hours"] == 0.5
    assert "normalization" not in outcome.card
    assert read_weights(outcome.weights, "toy").card.normalization == {"scale": [1.0, 2.0]}


def test_words_are_separated_by_commas() -> None:
    assert words_of(" mugs, ,bowls ,") == ["mugs", "bowls"]
    assert words_of("") == []
