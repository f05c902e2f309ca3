"""All parts together: a small flow learns where hands are on each object, and its samples are hands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grasp_nodes.data.grasp_batches import GraspBatches
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.data.object_surfaces import sample_surfaces
from grasp_nodes.geometry.rotations import geodesic_angle
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.batches import ShuffledRows
from grasp_nodes.learning.object_encoders import PointNet
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import train
from grasp_nodes.synthesis.samplers import FlowSampler
from grasp_nodes.synthesis.schedules import RectifiedFlow

COUNT = 300


class Toy(nn.Module):
    """Velocity of a hand's vector, of the object's points and the time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.encoder = PointNet(3, (16, 32), transform=False, norm="none")
        self.body = nn.Sequential(nn.Linear(size + 32 + 1, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU())
        self.head = nn.Linear(128, size)

    def forward(self, noisy, time, code):
        return self.head(self.body(torch.cat([noisy, code, time[:, None]], dim=1)))


def flow_loss(network, batch, generator):
    clean, flow = batch["code"], RectifiedFlow()
    time = flow.draw_times(len(clean), generator)
    noise = torch.randn(clean.shape, generator=generator)
    velocity = network(flow.noised(clean, noise, time), time, network.encoder(batch["points"] / 0.05))
    return (velocity - flow.target(clean, noise)).square().mean()


def test_a_flow_learns_where_hands_are(tmp_path, monkeypatch):
    """On each object the palm is 10 cm from its centre, on a side of its own: the network must tell them apart."""
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    model = load_hand_model("right")
    generator = torch.Generator().manual_seed(0)
    objects = [GraspedObject(name, f"family:{name}") for name in ("box:0", "plate:0", "hammer:0")]
    sides = 0.1 * torch.eye(3)
    index, words = np.arange(COUNT) % 3, np.full(COUNT, "")
    surfaces = sample_surfaces(objects, 64)
    place = (
        torch.from_numpy(surfaces.centers)[index] + sides[index] + 0.003 * torch.randn(COUNT, 3, generator=generator)
    )
    coder, hands = HandCoder(model), HandParams.zeros(COUNT)
    parts = coder.parts(hands)
    hands = coder.hands(parts.shifted(place - parts.position))
    grasps = LabelledGrasps(
        *("toy", hands, model.model_id, model.fingerprint, objects, index, np.full(COUNT, -1), words, words),
        np.zeros(COUNT, np.int64),
    )
    batches = GraspBatches(grasps, surfaces, coder, 32, turned=False)
    batches = GraspBatches(grasps, surfaces, batches.fitted(np.arange(COUNT)), 32, turned=False)
    shuffled = ShuffledRows(COUNT, 128, 0)

    torch.manual_seed(0)
    settings = TrainingSettings(steps=600, rate=3e-3, average=0.98, log_every=100, device="cpu")
    network = train(
        *(Toy(batches.coder.size), flow_loss, lambda step: batches.of_rows(shuffled(step), step), settings),
        tmp_path / "toy",
    ).network
    seen = batches.of_rows(np.arange(300), Step(5000))
    with torch.no_grad():
        code = network.encoder(seen["points"] / 0.05)
        start = torch.randn(300, batches.coder.size, generator=generator)
        sampled = FlowSampler(8)(lambda noisy, time: network(noisy, time, code), start)
    parts = batches.coder.parts_of(sampled)
    # The noise itself lies 10 cm and more from the place.
    assert float((parts.position - sides[seen["object"]]).norm(dim=1).median()) < 0.02
    assert float(geodesic_angle(parts.orient, torch.eye(3).expand(300, 3, 3)).median()) < 0.2
    assert float(parts.pose.abs().mean()) < 0.03  # one pose: the flat hand's


def test_the_documented_example_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "training.md"
    if not page.is_file():
        pytest.skip("the documentation is not there: not a checkout")
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(example, str(page), "exec"), scope)
    error = scope["network"](torch.from_numpy(scope["x"])) - torch.from_numpy(scope["x"]).sum(1, keepdim=True)
    assert float(error.detach().square().mean()) < 0.2  # 4 without any training
