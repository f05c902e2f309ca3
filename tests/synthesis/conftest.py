"""A few hands about two balls, as a set of grasps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams


@pytest.fixture(scope="session")
def right() -> HandModel:
    return load_hand_model("right")


@pytest.fixture(scope="session")
def toy_grasps(right: HandModel) -> LabelledGrasps:
    """16 hands of random bends, turns and shapes, palms 35 mm from the middle of a ball, each on a side of its own."""
    count, generator = 16, torch.Generator().manual_seed(0)
    objects = [GraspedObject(name, f"sphere:{radius}", category="ball") for name, radius in (("a", 0.03), ("b", 0.04))]
    coder = HandCoder(right, HandLayout(pose="axis_angle", shape=True))
    vectors = 0.2 * torch.randn(count, coder.size, generator=generator)
    vectors[:, 3:9] += torch.tensor([1.0, 0, 0, 0, 1, 0])
    parts = coder.parts_of(vectors)
    place = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    hands: HandParams = coder.hands(parts.shifted(0.035 * place - parts.position))
    words = np.full(count, "")
    columns = (np.arange(count) % 2, np.full(count, -1), words, words, np.zeros(count, np.int64))
    return LabelledGrasps("toy", hands, right.model_id, right.fingerprint, objects, *columns)


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache that goes when the test is over."""
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
