"""Both networks learn eight crops by heart, and their trainings run, stop and end in files that can be used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_nodes.data.hand_object_images import HandObjectImages, ImageSettings, draw_shard
from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.weights import read_weights
from grasp_nodes.miho import honet_training, picr_training
from grasp_nodes.miho.backbones import BackboneConfig
from grasp_nodes.miho.honet import HoNet, HoNetConfig
from grasp_nodes.miho.honet_loss import honet_loss
from grasp_nodes.miho.honet_training import CropData, honet_errors, train_honet
from grasp_nodes.miho.hourglass import HourglassConfig
from grasp_nodes.miho.judgement import answer_errors, mean_answer
from grasp_nodes.miho.picr import PiCR, PiCRConfig
from grasp_nodes.miho.picr_loss import picr_loss
from grasp_nodes.miho.picr_training import picr_scores, train_picr
from grasp_nodes.miho.pose_errors import as_pixels
from grasp_nodes.miho.samples import CropBatches, ObjectTable, crop_rows
from grasp_nodes.miho.shape_code import CODE_SIZE
from grasp_nodes.miho.trained import load_honet, load_picr, save_network
from grasp_nodes.miho.truth import TruePoses, transform_points

HONET = HoNetConfig(
    BackboneConfig(12, (16, 32, 32), (1, 1, 1), "grid", 8), size=48, condition=CODE_SIZE + 3, hidden=(64, 48),
    rotation="six",
)  # fmt: skip
PICR = PiCRConfig(HourglassConfig(2, 2, 16, 12), size=48, points=(24, 32), heads=(32,), told="position_normal")
OBJECT = "mug:2"


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return load_hand_model("right")


@pytest.fixture(scope="module")
def data() -> CropData:
    with np.load(io.BytesIO(draw_shard(ImageSettings(size=48, per_object=8), OBJECT))) as arrays:
        columns = {name: arrays[name] for name in arrays.files if name != "key"}
    images = HandObjectImages(**columns, object_index=np.zeros(8, np.int64), objects=(OBJECT,))
    return CropData.of(images, ObjectTable.of_names([OBJECT]))


def test_honet_learns_eight_crops_by_heart(data: CropData, hand: HandModel) -> None:
    torch.manual_seed(0)
    network, batch = HoNet(HONET).train(), crop_rows(data.crops, np.arange(8))
    truth = TruePoses.of_batch(batch, hand)
    images, told = as_pixels(batch["images"]), data.table.codes[batch["object_index"]]
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        loss = honet_loss(network(images, told), truth, data.table, 48, hand)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    errors, mean = honet_errors(network, data, hand).means(), answer_errors(mean_answer(data, hand), data, hand).means()
    for name, value in errors.items():
        assert value < 0.45 * mean[name], name
    assert errors["hand_relative_mpvpe_mm"] < 25


def test_picr_learns_eight_crops_by_heart(data: CropData, hand: HandModel) -> None:
    torch.manual_seed(0)
    anchors = HandAnchors.of_model(hand)
    network, batch = PiCR(PICR).train(), crop_rows(data.crops, np.arange(8))
    truth = TruePoses.of_batch(batch, hand)
    points, normals = (one[batch["object_index"]][:, :512] for one in (data.table.points, data.table.normals))
    placed = transform_points(truth.object_rotation, truth.object_position, points)
    labels = picr_training.ContactLabels.of_pose(anchors, anchors.positions(truth.vertices), placed)
    before = picr_scores(PiCR(PICR).eval(), data, hand, anchors)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        turned = normals @ truth.object_rotation.mT
        loss = picr_loss(network(as_pixels(batch["images"]), placed, turned, truth.root, truth.focal), labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = picr_scores(network.eval(), data, hand, anchors)
    assert after.contact_ap > max(0.8, before.contact_ap)
    assert after.region_accuracy > max(0.75, before.region_accuracy)
    assert after.elasticity_error < 0.5 * before.elasticity_error


def test_a_training_of_both_ends_in_files_that_answer_the_same(data: CropData, hand: HandModel, tmp_path: Path) -> None:
    settings = TrainingSettings(steps=2, warmup=1, evaluate_every=1, log_every=1, device="cpu", average=0.5)
    trained = train_honet(HONET, data, data, hand, settings, 4, tmp_path / "honet")
    assert trained.best is not None
    save_network(tmp_path / "honet.safetensors", trained.best, HONET, hand.fingerprint, seed=0)
    honet = load_honet(tmp_path / "honet.safetensors", hand.fingerprint)
    assert honet.config == HONET
    images, told = as_pixels(torch.from_numpy(data.crops.images)), data.table.codes[:1].expand(8, -1)
    network = HoNet(HONET)
    network.load_state_dict(dict(trained.best))
    expected, found = network.eval()(images, told), honet(images, told)
    torch.testing.assert_close(found.pca, expected.pca, atol=2e-2, rtol=0)  # stored in half precision

    first = train_picr(PICR, data, data, hand, settings, 4, tmp_path / "picr")
    save_network(tmp_path / "first.safetensors", first.network.state_dict(), PICR, hand.fingerprint)
    start = read_weights(tmp_path / "first.safetensors", "picr")
    tuned = train_picr(PICR, data, data, hand, settings, 4, tmp_path / "tuned", honet, start=start)
    assert {"loss", "contact_ap", "region_accuracy", "elasticity_error", "threshold"} <= set(tuned.values)
    save_network(tmp_path / "picr.safetensors", tuned.network.state_dict(), PICR, hand.fingerprint)
    assert load_picr(tmp_path / "picr.safetensors").config == PICR
    with pytest.raises(InputError, match="method"):
        load_picr(tmp_path / "honet.safetensors")
    with pytest.raises(InputError, match="another network, data or settings"):
        train_picr(PICR, data, data, hand, settings, 4, tmp_path / "picr", honet)


def test_the_same_step_gives_the_same_batch_and_another_another(data: CropData) -> None:
    batches = CropBatches(data.crops, 4, seed=3)
    first, again, other = (
        batches(Step(1, seed=3)),
        CropBatches(data.crops, 4, seed=3)(Step(1, seed=3)),
        batches(Step(2)),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["images"], other["images"])
    assert first["images"].shape == (4, 48, 48, 3)


def test_the_schedules_of_the_paper() -> None:
    honet = honet_training.paper_settings(epochs=200, images=3200)
    assert honet.steps == 20_000
    assert honet.rate_at(0, 0.0) == honet.rate_at(19_999, 1.0) == 5e-4
    picr = picr_training.paper_settings(epochs=200, images=3200)
    tuned = picr_training.paper_settings(epochs=200, images=3200, finetuning=True)
    assert [picr.rate_at(0, share) for share in (0.0, 0.49, 0.51, 0.99)] == [1e-3, 1e-3, 5e-4, 5e-4]
    assert [tuned.rate_at(0, share) for share in (0.0, 0.51)] == [5e-4, 2.5e-4]
