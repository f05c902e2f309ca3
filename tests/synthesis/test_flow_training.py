"""What the flow is trained on, what it learns of a distribution that is known, and that it goes on to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.data.object_distances import measure_objects
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.flow.batches import field_of
from grasp_nodes.synthesis.flow.generator import FlowGenerationSettings, FlowGenerator
from grasp_nodes.synthesis.flow.hand_points import PointCounts
from grasp_nodes.synthesis.flow.loss import FlowLoss, FlowLossSettings
from grasp_nodes.synthesis.flow.network import ANY_KIND, FlowConfig, FlowNetwork
from grasp_nodes.synthesis.flow.training import FlowData, FlowJudge, train_flow

TINY = FlowConfig(width=64, blocks=2, condition=32, basis=40, encoder=(24,), points=PointCounts(3, 8, 4))
RADIUS = 0.09
PALM = torch.tensor([0.0, -1.0, 0.0])


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model():
    return load_hand_model("right")


def grasps_of(hands: HandParams, model, names: list[str], kind: int = 0) -> LabelledGrasps:
    count, words = len(hands), np.full(len(hands), "")
    objects = []
    for number, name in enumerate(names):
        transform = np.eye(4)
        transform[:3, :3] = Rotation.random(random_state=number).as_matrix()
        transform[:3, 3] = 0.01 * number
        objects.append(GraspedObject(name, f"family:{name}", transform=transform, category=name.partition(":")[0]))
    return LabelledGrasps(
        *("toy", hands, model.model_id, model.fingerprint, objects, np.arange(count) % len(names)),
        *(np.full(count, kind), words, words, np.zeros(count, np.int64)),
    )


@pytest.fixture(scope="module")
def around(model) -> LabelledGrasps:
    """Hands all over three things."""
    generator = torch.Generator().manual_seed(1)
    coder = HandCoder(model)
    hands = coder.decode(
        torch.randn(60, coder.size, generator=generator) * torch.cat([torch.full((3,), 0.05), torch.full((27,), 0.3)]),
        torch.randn(60, 10, generator=generator),
    )
    return grasps_of(hands, model, ["hammer:0", "mug:1", "box:2", "box:3"])


def test_batches_keep_hand_and_object_together(model, around):
    """In the batch's frame each vertex is as far from the object as in the frame of the grasp."""
    data = FlowData.of_grasps(around, model, validation=0.0)
    rows = np.arange(30)
    batch = data.batches.of_rows(rows, Step(3))
    parts = data.batches.coder.parts_of(batch["code"], batch["betas"])
    found = field_of(batch, data.stack)(data.batches.coder.posed(parts)[0])
    vertices = model(around.hands[torch.from_numpy(rows)]).vertices.double().numpy()
    for row in rows:
        thing = around.objects[row % 4]
        own = load_object(thing.mesh, resolution=64 if thing.category != "mug" else 96).signed_distance
        there = (vertices[row] - thing.transform[:3, 3]) @ thing.transform[:3, :3]
        np.testing.assert_allclose(found[row], own(torch.from_numpy(there)), atol=2e-5)
    again = data.batches.of_rows(rows, Step(3))
    torch.testing.assert_close(again["code"], batch["code"], atol=0, rtol=0)
    assert float((data.batches.of_rows(rows, Step(4))["code"] - batch["code"]).abs().max()) > 0.1


def test_long_things_lie_along_x(model, around):
    data = FlowData.of_grasps(around, model, validation=0.0)
    batch = data.batches.of_rows(np.arange(0, 60, 4), Step(0))  # the hammer
    ends = torch.tensor([[[0.08, 0, 0], [-0.08, 0, 0], [0, 0.08, 0], [0, -0.08, 0]]]).expand(15, -1, -1)
    reach = field_of(batch, data.stack)(ends)
    assert float(reach[:, :2].mean()) < 0.03
    assert float(reach[:, 2:].amin(dim=1).mean()) > 0.03


def test_the_cache_gives_the_same_distances(around, monkeypatch):
    first = measure_objects(around.objects)
    monkeypatch.setattr("grasp_nodes.data.object_distances._measured", None)  # nothing is worked out again
    again = measure_objects(around.objects)
    torch.testing.assert_close(again.stack.values, first.stack.values, atol=0, rtol=0)
    torch.testing.assert_close(again.turns, first.turns, atol=0, rtol=0)


def test_the_judges_objects_stay_out(model, around):
    objects = [replace(around.objects[0], mesh="family:banana:4"), *around.objects[1:]]
    with pytest.raises(InputError, match=r"held out for evaluation \(banana:4"):
        FlowData.of_grasps(replace(around, objects=objects), model)
    objects = [replace(around.objects[0], mesh="family:mug:1000000"), *around.objects[1:]]
    with pytest.raises(InputError, match="mug:1000000"):
        FlowData.of_grasps(replace(around, objects=objects), model)


def test_an_example_itself_has_no_physical_fault(model, around):
    """Where the prediction is the example, only the velocity is left to learn."""
    data = FlowData.of_grasps(around, model, validation=0.0)
    batch = data.batches.of_rows(np.arange(40), Step(0))
    network = FlowNetwork(data.batches.coder, TINY)
    generator = torch.Generator().manual_seed(0)
    terms = {name: one.detach() for name, one in FlowLoss(data.stack)(network, batch, generator).items()}
    assert float(terms["too_deep"]) > 0  # an untrained network leads somewhere else
    assert float(terms["loss"]) == pytest.approx(
        float(terms["velocity"] + 0.03 * (terms["too_deep"] + terms["too_far"])), rel=1e-5
    )

    class Knowing(torch.nn.Module):
        hand_points, coder = network.hand_points, network.coder

        def encode(self, field, count):
            return torch.zeros(count, 1)

        def told(self, time, code, wishes):
            return time[:, None]

        def forward(self, noisy, told, betas, field, thought):
            return (batch["code"][: len(noisy)] - noisy) / (1.0 - told)

    terms = FlowLoss(data.stack, FlowLossSettings(known=1.0))(Knowing(), batch, generator)
    assert [round(float(value), 3) for value in terms.values()] == [0.0] * 4


def test_a_part_of_the_kinds_is_kept_back(model, around):
    data = FlowData.of_grasps(around, model, validation=0.0)
    batch = data.batches.of_rows(np.arange(60), Step(0))
    kinds = []

    class Listening(FlowNetwork):
        def told(self, time, code, wishes):
            kinds.append(wishes.kind)
            return super().told(time, code, wishes)

    for share in (0.0, 1.0, 0.5):
        FlowLoss(data.stack, FlowLossSettings(any_kind=share))(
            Listening(data.batches.coder, TINY), batch, torch.Generator().manual_seed(0)
        )
    assert kinds[0].eq(0).all()
    assert kinds[1].eq(ANY_KIND).all()
    assert 15 < int(kinds[2].eq(ANY_KIND).sum()) < 45


def toy(model, count: int) -> LabelledGrasps:
    """Flat hands about a ball, uniformly over all turns: the palm looks at its centre from 9 cm away."""
    generator = torch.Generator().manual_seed(0)
    turns = random_rotations(count, generator, dtype=torch.float32)
    coder = HandCoder(model)
    place = -RADIUS * (turns @ PALM)
    zeros = torch.zeros(count, 21)
    hands = coder.hands(HandParts(place, turns, zeros, torch.zeros(count, 10)))
    ball = grasps_of(hands, model, ["sphere:0"])
    # The ball's points have a mean of their own, and a transform: the hands go with it.
    return replace(ball, objects=[replace(ball.objects[0], transform=np.eye(4))])


def test_it_learns_a_distribution_that_is_known(model, tmp_path):
    """Places are uniform on a sphere, and the palm looks inward: mean 0, each axis' variance a third of the square."""
    data = FlowData.of_grasps(toy(model, 2000), model, validation=0.0)
    settings = TrainingSettings(steps=800, rate=4e-3, average=0.98, log_every=100, device="cpu", seed=1)
    loss = FlowLossSettings(physical=0.0)
    trained = train_flow(TINY, data, settings, 128, tmp_path, loss)
    assert isinstance(trained.network, FlowNetwork)
    generator = FlowGenerator(trained.network, {"right": model}, FlowGenerationSettings(kinds=("power",)))
    hands = generator.hands(load_object("family:sphere:0"), 400, seed=0)
    parts = HandCoder(model).parts(hands)
    radius = parts.position.norm(dim=1)
    assert float(radius.median()) == pytest.approx(RADIUS, abs=0.015)
    inward = -(parts.position / radius[:, None] * (parts.orient @ PALM)).sum(dim=1)
    assert float(inward.median()) > 0.8  # 0 of hands that look anywhere
    direction = parts.position / radius[:, None]
    assert float(direction.mean(dim=0).norm()) < 0.3
    np.testing.assert_allclose(direction.square().mean(dim=0), 1 / 3, atol=0.15)
    assert float(parts.pose.abs().mean()) < 0.05


def test_it_goes_on_to_the_bit(model, around, tmp_path):
    data = FlowData.of_grasps(around, model, validation=0.4)
    settings = TrainingSettings(steps=6, log_every=2, evaluate_every=3, device="cpu")
    whole = train_flow(TINY, data, settings, 16, tmp_path / "whole")

    def stop(report):
        if report.step >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_flow(TINY, data, replace(settings, checkpoint_minutes=1e-6), 16, tmp_path / "parts", progress=stop)
    again = train_flow(TINY, data, settings, 16, tmp_path / "parts")
    assert again.step == whole.step == 6
    for (name, one), other in zip(whole.network.state_dict().items(), again.network.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0, msg=name)
    with pytest.raises(InputError, match="another"):
        train_flow(replace(TINY, width=48), data, settings, 16, tmp_path / "parts")


def test_the_judge_measures_what_is_there(model, around):
    """A network whose hands end far away: no depth, no finger."""
    data = FlowData.of_grasps(around, model, validation=0.4)
    torch.manual_seed(0)
    network = FlowNetwork(data.batches.coder, TINY)
    network.exit[1].bias.data[0] = 100.0
    found = FlowJudge(data)(network.eval())
    assert found["depth_mm"] == 0.0
    assert found["fingers"] == 0.0
    assert found["shallow"] == 1.0
    assert found["promising"] == 0.0
    same = FlowJudge(data)(network)
    assert same == found
