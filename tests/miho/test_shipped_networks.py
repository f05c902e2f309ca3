"""The weights that travel with the package: of the open hand, small, and with what is asked of their cards."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from grasp_nodes.data.hand_object_images import (
    HandObjectImages,
    ImageSettings,
    draw_shard,
    join_images,
    split_objects,
)
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.learning.weights import SHIPPED_FOLDER, WEIGHTS_VARIABLE, read_weights
from grasp_nodes.miho.honet import HoNetOutput
from grasp_nodes.miho.honet_training import CropData, honet_errors
from grasp_nodes.miho.judgement import answer_errors, constant_contact
from grasp_nodes.miho.picr_training import picr_scores
from grasp_nodes.miho.samples import ObjectTable
from grasp_nodes.miho.trained import CONTACT_THRESHOLD, MEAN_ANSWER, load_honet, load_picr
from grasp_nodes.objects.registry import family_mesh

FILES = [SHIPPED_FOLDER / f"{name}.safetensors" for name in ("honet", "picr")]


def test_they_are_found_for_the_open_hand_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    fingerprint = load_hand_model("right", OPEN_HAND_FILE).fingerprint
    honet, picr = load_honet(None, fingerprint), load_picr(None, fingerprint)
    size = honet.config.size
    assert picr.config.size == size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = honet(images, torch.zeros(2, honet.config.condition))
    assert isinstance(said, HoNetOutput)
    assert said.moments is not None
    assert torch.isfinite(said.object_rotation).all()
    assert not torch.allclose(said.hand_rotation[0], said.hand_rotation[1], atol=1e-3)
    assert 0.2 < picr.threshold < 0.8


@pytest.fixture(scope="module")
def judged() -> CropData:
    """Four crops each of three objects that neither training nor the choice of weights has seen, drawn as the
    benchmark's are."""
    settings, names = ImageSettings(per_object=4, seed=1000), split_objects("judged")[:3]
    parts = []
    for name in names:
        with np.load(io.BytesIO(draw_shard(settings, name))) as arrays:
            columns = {column: arrays[column] for column in arrays.files if column != "key"}
        count = len(columns["images"])
        parts.append(HandObjectImages(**columns, object_index=np.zeros(count, np.int64), objects=(name,)))
    crops = join_images(parts)
    return CropData.of(crops, ObjectTable.of_meshes([family_mesh(name) for name in crops.objects]))


def test_they_know_more_of_unseen_objects_than_one_who_looks_at_no_image(judged: CropData) -> None:
    """The benchmark, of 108 crops: 20 mm instead of the mean pose's 74 relative to the root, precision 0.54 instead of
    the 0.28 of a constant."""
    model = load_hand_model("right", OPEN_HAND_FILE)
    honet, picr = load_honet(FILES[0], model.fingerprint), load_picr(FILES[1], model.fingerprint)
    mean = answer_errors(read_weights(FILES[0]).card.normalization[MEAN_ANSWER], judged, model).means()
    found = honet_errors(honet, judged, model).means()
    assert found["hand_relative_mpvpe_mm"] < 0.5 * mean["hand_relative_mpvpe_mm"]
    for name in ("hand_mpvpe_mm", "object_mpvpe_mm", "object_relative_mpvpe_mm"):
        assert found[name] < 0.85 * mean[name], name
    scores = picr_scores(picr, judged, model, HandAnchors.of_model(model), honet)
    precision, accuracy = constant_contact(judged, judged, model)  # its region is the best of all on these very crops
    assert scores.contact_ap > precision + 0.1
    assert scores.region_accuracy > accuracy


def test_their_cards_say_how_they_were_made() -> None:
    assert sum(path.stat().st_size for path in FILES) <= 10_000_000
    honet, picr = (read_weights(path).card for path in FILES)
    for card in (honet, picr):
        assert card.hours > 0
        assert card.command.startswith("grasp-nodes train ")
        assert len(card.notes["curves"]) >= 3
        assert card.notes["licence"] == "CC0-1.0"
    assert abs(picr.normalization[CONTACT_THRESHOLD] - picr.metrics["threshold"]) < 1e-3
    assert np.asarray(honet.normalization[MEAN_ANSWER]["hand_rotation"]).shape == (3, 3)
    losses = [row["loss"] for row in honet.notes["curves"]]
    assert losses[-1] == min(losses)
