"""The weights that travel with the package: of the open hand, small, and with what is asked of their cards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.learning.weights import SHIPPED_FOLDER, WEIGHTS_VARIABLE, read_weights
from grasp_nodes.miho.honet import HoNetOutput
from grasp_nodes.miho.trained import CONTACT_THRESHOLD, MEAN_ANSWER, load_honet, load_picr

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
