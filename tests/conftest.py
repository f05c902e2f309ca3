"""What every test stands on."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

# Processes that test side by side must not hear each other: each has a domain of its own, which it does not take over
# from the process that started it. Tests that start a graph of their own take domains from 91 on.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["ROS_DOMAIN_ID"] = str(1 + _worker % 10 + 10 * random.SystemRandom().randrange(9))


def pytest_sessionstart() -> None:
    """Let started processes hear Ctrl-C: a shell's background jobs ignore it, and so would all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals that do not come in the same millisecond are two wishes to stop."""
    monkeypatch.setattr("grasp_nodes.interrupts._ONE_WISH_S", 0.001)


@pytest.fixture
def ball_dreams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """Installed weights of JHOD's networks without any training, whose object is always a ball of this radius, m."""
    import torch

    from grasp_nodes.hand.codes import HandCoder
    from grasp_nodes.hand.files import load_hand_model
    from grasp_nodes.learning.weights import WeightCard, save_weights
    from grasp_nodes.synthesis.flow.hand_points import PointCounts
    from grasp_nodes.synthesis.jhod.network import JhodConfig, JhodNetwork
    from grasp_nodes.synthesis.jhod.ordering import tree_order
    from grasp_nodes.synthesis.jhod.point_autoencoder import LENGTH, PointAutoEncoder, PointAutoEncoderConfig
    from grasp_nodes.synthesis.jhod.trained import save_jhod

    torch.manual_seed(0)
    folder, radius = tmp_path / "w", 0.04
    points = PointAutoEncoderConfig(points=256, width=8, grid=4, voxel_width=4)
    encoder = PointAutoEncoder(points)
    sizes = (256, 0, 8, 16, 32, 1, 2, 32)
    config = JhodConfig(*sizes, local=True, residual=True, told=True, felt=PointCounts(2, 4, 2), noise_steps=60)
    network = JhodNetwork(HandCoder(load_hand_model("right")), config)
    directions = torch.nn.functional.normalize(torch.randn(256, 3), dim=1)
    ball = radius / LENGTH * directions[torch.from_numpy(tree_order(directions[None].numpy())[0])]
    for channel, layers in enumerate(network.object_tokens.back):
        layers[2].weight.data.zero_()
        layers[2].bias.data = ball[:, channel] if channel < 3 else torch.zeros(256)
    card = WeightCard("jhod-objects", asdict(points))
    sha = save_weights(folder / "jhod-objects.safetensors", encoder.state_dict(), card)
    save_jhod(folder / "jhod.safetensors", network, sha, {})
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(folder))
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    return radius
