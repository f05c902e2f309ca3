"""The network behind the default Fréchet distance, trained on made-up grasps: what it learns, what its file holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grasp_nodes.cli.app import app
from grasp_nodes.data import view_feature_images
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.data.view_feature_images import BEND, SHIFT, TURN, ViewSamples, disturb, draw_samples
from grasp_nodes.data.view_feature_training import CHECKPOINT, TrainingSettings, fit, train_view_features
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.frechet import frechet_distance
from grasp_nodes.evaluation.view_features import FEATURES, load_view_features
from grasp_nodes.evaluation.view_images import GraspViews
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, geodesic_angle
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel

SETTINGS = TrainingSettings(per_object=10, epochs=12, batch=24, seed=1)
SPHERES = ("sphere:0.022", "sphere:0.027", "sphere:0.032", "sphere:0.037")
BOXES = ("box:0.04,0.05,0.06", "box:0.05,0.04,0.09", "box:0.06,0.06,0.06", "box:0.05,0.07,0.05")


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model("right", OPEN_HAND_FILE)


def toy_grasps(model: HandModel, per_object: int = 10, seed: int = 0) -> LabelledGrasps:
    """Slightly curled hands whose palms rest on spheres and boxes; power on spheres, precision on boxes."""
    rng = np.random.default_rng(seed)
    objects = [GraspedObject(name, name, category=name.partition(":")[0]) for name in (*SPHERES, *BOXES)]
    index = np.repeat(np.arange(len(objects)), per_object)
    depth = np.array([_half_height(one.mesh) for one in objects])[index]
    pose = np.zeros((len(index), 45), np.float32)
    pose[:, 2::3] = 0.25  # curls the fingers a little towards the palm
    pose += 0.04 * rng.normal(size=pose.shape)
    # The palm looks along -y: the object's centre is so far below it.
    place = np.array([0.02, 0.02, 0.0]) + 0.004 * rng.normal(size=(len(index), 3))
    place[:, 1] += depth
    hands = replace(
        HandParams.zeros(len(index)),
        hand_pose=torch.from_numpy(pose),
        transl=torch.from_numpy(place.astype(np.float32)),
    )
    text = np.full(len(index), "")
    return LabelledGrasps(
        *("toy", hands, model.model_id, model.fingerprint, objects, index),
        *((index >= len(SPHERES)).astype(np.int64), text, text, np.zeros(len(index), np.int64)),
    )


def _half_height(mesh: str) -> float:
    sizes = [float(size) for size in mesh.partition(":")[2].split(",")]
    return sizes[0] if len(sizes) == 1 else sizes[1] / 2


@pytest.fixture(scope="module")
def trained(model: HandModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list]:
    folder = tmp_path_factory.mktemp("training")
    seen: list[tuple[str, int, int]] = []
    torch.set_num_threads(1)
    card = train_view_features(
        toy_grasps(model), model, SETTINGS, folder / "work", folder / "weights.npz", lambda *at: seen.append(at)
    )
    return folder, card, seen


def test_disturbances_grow_with_the_level() -> None:
    count = 4000
    levels = np.repeat([0.0, 0.2, 1.0], count)
    hands = HandParams.zeros(len(levels))
    moved = disturb(hands, levels, np.random.default_rng(0))
    shift = moved.transl.numpy().reshape(3, count, 3)
    turn = geodesic_angle(axis_angle_to_matrix(moved.global_orient), torch.eye(3)).numpy().reshape(3, count)
    bend = moved.hand_pose.numpy().reshape(3, count, 45)
    assert not shift[0].any()
    assert turn[0].max() < 1e-3
    assert not bend[0].any()
    for level, row in ((0.2, 1), (1.0, 2)):
        # Every disturbance is in about 0.6 of the hands.
        assert shift[row].std() == pytest.approx(level * SHIFT * np.sqrt(0.62), rel=0.05)
        assert bend[row].std() == pytest.approx(level * BEND * np.sqrt(0.62), rel=0.05)
        assert (turn[row] > 1e-4).mean() == pytest.approx(0.62, abs=0.04)
    assert np.median(turn[1][turn[1] > 1e-3]) == pytest.approx(0.2 * TURN * np.sqrt(2.366), rel=0.1)


def test_the_network_learns_what_it_is_asked(trained: tuple[Path, dict, list]) -> None:
    _, card, seen = trained
    assert card["family_accuracy"] > 0.65
    assert card["real_accuracy"] > 0.65
    assert card["level_correlation"] > 0.5
    assert card["objects_aside"] == 1
    assert seen[-1] == ("training", SETTINGS.epochs, SETTINGS.epochs)


def test_the_file_gives_the_same_features_and_is_small(trained: tuple[Path, dict, list], model: HandModel) -> None:
    folder, card, _ = trained
    path = folder / "weights.npz"
    assert path.stat().st_size < 500_000
    features = load_view_features(path)
    assert json.loads(features.card) == card
    assert features.name.startswith("view_features_v1-")
    samples = draw_samples(toy_grasps(model), model, 10, 1, folder / "work")
    values = features.of_images(samples.images[samples.level == 0])
    assert values.shape == (80, FEATURES)
    assert values.var(axis=0).mean() == pytest.approx(1, rel=0.02)  # half precision


def test_the_distance_is_a_distance_and_grows_with_noise(trained: tuple[Path, dict, list], model: HandModel) -> None:
    features = load_view_features(trained[0] / "weights.npz")
    item = load_object("sphere:0.03")
    grasps = toy_grasps(model, per_object=6, seed=5)
    values = {}
    for level in (0.0, 0.15, 0.4, 1.0):
        # The same noise at every level, only larger.
        moved = disturb(grasps.hands, np.full(len(grasps), level), np.random.default_rng(0))
        with torch.no_grad():
            values[level] = features(item, model(moved).vertices.numpy())
    distances = [frechet_distance(values[level], values[0.0]).distance for level in values]
    assert distances[0] < 1e-9
    assert np.all(np.diff(distances) > 0)
    assert distances[-1] > 5 * distances[1]
    order = np.random.default_rng(1).permutation(len(grasps))
    assert frechet_distance(values[0.4][order], values[0.0]).distance == pytest.approx(distances[2])
    assert frechet_distance(values[0.0], values[0.4]).distance == pytest.approx(distances[2])


def test_a_hand_off_the_object_or_in_it_is_farther_than_one_that_touches(
    trained: tuple[Path, dict, list], model: HandModel
) -> None:
    """Features react to contact: a few millimetres along the palm's normal are seen."""
    features = load_view_features(trained[0] / "weights.npz")
    item = load_object("sphere:0.03")
    grasps = toy_grasps(model, per_object=6, seed=6)
    grasps = grasps[grasps.object_index == 2]
    with torch.no_grad():
        vertices = model(grasps.hands).vertices.numpy()
    real = features(item, vertices)

    def apart(shift: float) -> float:
        return float(
            np.linalg.norm(features(item, vertices + np.array([0, shift, 0], np.float32)) - real, axis=1).mean()
        )

    assert apart(0.001) < apart(0.006) < apart(0.02)
    assert apart(-0.001) < apart(-0.006) < apart(-0.012)


def test_it_goes_on_where_it_was_stopped(model: HandModel, tmp_path: Path) -> None:
    samples = random_samples(40)
    whole, _ = fit(samples, ["a", "b", "a", "b"], TrainingSettings(epochs=3, batch=8), _folder(tmp_path / "whole"))
    folder = _folder(tmp_path / "stopped")

    class StoppedError(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise StoppedError

    settings = TrainingSettings(epochs=3, batch=8)
    with pytest.raises(StoppedError):
        fit(samples, ["a", "b", "a", "b"], settings, folder, stop)
    seen: list[int] = []
    again, _ = fit(samples, ["a", "b", "a", "b"], settings, folder, lambda done, _: seen.append(done))
    assert seen == [3]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def random_samples(count: int) -> ViewSamples:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 3, 3, 64, 64)).astype(np.uint8)
    level = np.where(rng.random(count) < 0.5, 0, rng.random(count)).astype(np.float32)
    return ViewSamples(images, rng.integers(-1, 5, count), rng.integers(0, 4, count), level)


def test_checkpoints_of_another_training_are_refused(tmp_path: Path) -> None:
    samples, names = random_samples(24), ["a", "b", "a", "b"]
    fit(samples, names, TrainingSettings(epochs=1, batch=8), tmp_path)
    with pytest.raises(InputError, match="other settings; delete it"):
        fit(samples, names, TrainingSettings(epochs=1, batch=8, seed=1), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        fit(samples, names, TrainingSettings(epochs=1, batch=8), tmp_path)
    with pytest.raises(InputError, match="two objects or more"):
        fit(replace(samples, object=np.zeros(24, np.int64)), names, TrainingSettings(epochs=1), tmp_path / "x")


def test_finished_objects_are_not_drawn_again(
    model: HandModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grasps = toy_grasps(model, per_object=2)
    grasps = grasps[grasps.object_index < 2]
    first = draw_samples(grasps, model, 2, 0, tmp_path)
    assert first.images.shape == (8, 3, 3, 64, 64)
    assert (first.object == [0, 0, 0, 0, 1, 1, 1, 1]).all()
    assert ((first.level == 0) == [True, True, False, False] * 2).all()
    drawn: list[str] = []

    class CountedViews(GraspViews):
        def __init__(self, object_model: ObjectModel, threads: int = 0) -> None:
            super().__init__(object_model, threads)
            drawn.append(object_model.object_id)

    monkeypatch.setattr(view_feature_images, "GraspViews", CountedViews)
    (tmp_path / "samples_00001.npz").unlink()
    second = draw_samples(grasps, model, 2, 0, tmp_path)
    assert drawn == [SPHERES[1]]
    assert (second.images == first.images).all()
    draw_samples(grasps, model, 2, 5, tmp_path)
    assert len(drawn) == 3, "another seed makes other images"


def test_grasps_that_cannot_be_used_are_named(model: HandModel, tmp_path: Path) -> None:
    grasps = toy_grasps(model, per_object=1)
    with pytest.raises(InputError, match="another hand model"):
        train_view_features(
            replace(grasps, hand_fingerprint="0" * 64), model, SETTINGS, tmp_path, tmp_path / "w.npz", print
        )
    bare = replace(grasps, objects=[replace(one, mesh="") for one in grasps.objects])
    with pytest.raises(InputError, match="has no mesh"):
        draw_samples(bare, model, 1, 0, tmp_path)
    for wrong in ({"epochs": 0}, {"batch": 1}, {"rate": 0.0}, {"per_object": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TrainingSettings(**wrong)


def test_the_command_trains(model: HandModel, tmp_path: Path) -> None:
    write_grasps(tmp_path / "grasps.npz", toy_grasps(model, per_object=2))
    command = ["train", "view-features", "--data", str(tmp_path / "grasps.npz"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--set", "epochs=1", "--set", "per_object=2", "--json"])
    assert result.exit_code == 0, result.output
    card = json.loads(result.output.splitlines()[-1])
    assert card["images"] == 28
    assert load_view_features(tmp_path / "out" / "view_features_v1.npz").name.startswith("view_features_v1-")
