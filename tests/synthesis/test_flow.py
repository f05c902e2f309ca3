"""The flow's parts: frames, what the hand feels, times, guidance, determinism, weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, random_rotations
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.core import CORE_SIZE
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object, make_object
from grasp_nodes.synthesis.flow import generator as flow_generator
from grasp_nodes.synthesis.flow.fields import OneObject, with_slope
from grasp_nodes.synthesis.flow.frames import FLIPS, principal_turns
from grasp_nodes.synthesis.flow.generator import FlowGenerationSettings, FlowGenerator, draw_noise
from grasp_nodes.synthesis.flow.guidance import Guidance, GuidanceSettings
from grasp_nodes.synthesis.flow.hand_points import PointCounts
from grasp_nodes.synthesis.flow.network import FlowConfig, FlowNetwork, Wishes
from grasp_nodes.synthesis.flow.sampling import Conditions, sample_vectors
from grasp_nodes.synthesis.flow.trained import load_flow, save_flow
from grasp_nodes.synthesis.registry import make_method
from grasp_nodes.synthesis.samplers import FlowSampler

TINY = FlowConfig(width=32, blocks=2, condition=16, basis=40, encoder=(24,), points=PointCounts(3, 8, 4))


@pytest.fixture(scope="module")
def models():
    return {"right": load_hand_model("right"), "left": load_hand_model("left")}


@pytest.fixture(scope="module")
def network(models):
    """Untrained, but of some effect: the last layer of a new one is zero."""
    torch.manual_seed(3)
    made = FlowNetwork(HandCoder(models["right"], None, *_scales()), TINY)
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def hammer():
    return load_object("family:hammer:3", resolution=48)


def _scales():
    deviation = torch.full((30,), 0.3)
    deviation[:3] = 0.05
    return torch.zeros(30), deviation


def _field(thing, count) -> OneObject:
    return OneObject(thing.signed_distance, torch.eye(3).expand(count, 3, 3), torch.zeros(count, 3))


def _wishes(count) -> Wishes:
    return Wishes(torch.zeros(count, dtype=torch.int64), torch.zeros(count, 10))


def test_an_object_looks_the_same_however_it_is_turned():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1, 500, 3, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0])
    turns = random_rotations(20, generator, dtype=torch.float64)
    frames = principal_turns(points @ turns.mT)
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(20, dtype=torch.float64))
    seen = points @ turns.mT @ frames.mT
    first = FLIPS.double() @ principal_turns(points)
    # The same up to one of the four half turns.
    apart = (seen[:, None] - (points @ first.mT)[None]).abs().amax(dim=(2, 3))
    assert float(apart.amin(dim=1).max()) < 1e-9
    assert float(seen.std(dim=1).diff(dim=1).max()) < 0  # x along the longest


def test_the_hand_feels_slopes_in_its_own_frame(models, network, hammer):
    """Object and hand turned together: the hand feels the same."""
    generator = torch.Generator().manual_seed(1)
    count, points = 6, network.hand_points
    vectors, betas = torch.randn(count, 30, generator=generator), torch.zeros(count, 10)
    parts = network.coder.parts_of(vectors, betas)
    turn = random_rotations(count, generator, dtype=torch.float32)
    here = points.felt(vectors, betas, _field(hammer, count))
    turned = network.coder.vectors(parts.turned(turn))
    there = points.felt(turned, betas, replace(_field(hammer, count), turn=turn.mT))
    torch.testing.assert_close(there, here, atol=2e-3, rtol=0)
    places, below = points(parts)
    distance, slope = with_slope(_field(hammer, count), places)
    torch.testing.assert_close(distance, hammer.signed_distance(places))
    torch.testing.assert_close(slope, hammer.signed_distance.gradient(places))
    torch.testing.assert_close(points.clearance(parts, _field(hammer, count)), distance - below)
    assert below[:, :-CORE_SIZE].eq(0).all()
    assert below[:, -CORE_SIZE:].gt(0.003).all()
    assert here.shape == (count, 4 * TINY.points.total)
    pads = points.pads(torch.arange(float(TINY.points.total))[None])
    assert pads[0, 1].tolist() == [3.0, 4.0, 5.0]


class Spy:
    """Goes straight to a target; remembers what it is called with."""

    def __init__(self, target) -> None:
        self.target, self.times, self.thoughts = target, [], []

    def told(self, time, code, wishes):
        return time[:, None] + code + wishes.kind[:, None]

    def __call__(self, noisy, told, betas, field, thought):
        time = told[:, 0] - torch.tensor([10.0, 20.0, 10.0]) - torch.tensor([1.0, 2.0, 1.0])
        self.times.append(time)
        self.thoughts.append(None if thought is None else thought.clone())
        return (self.target - noisy) / (1.0 - time[:, None])


def test_steps_have_their_times_and_know_the_prediction_before():
    generator = torch.Generator().manual_seed(2)
    target, noise = torch.randn(3, 30, generator=generator), torch.randn(3, 30, generator=generator)
    spy = Spy(target)
    groups = Conditions(
        torch.tensor([[10.0], [20.0]]), Wishes(torch.tensor([1, 2]), torch.zeros(2, 10)), torch.tensor([0, 1, 0])
    )
    found = sample_vectors(spy, None, groups, noise, FlowSampler(4))
    torch.testing.assert_close(found, target)
    # The times are those of each hand's own group, exactly.
    assert [time.tolist() for time in spy.times] == [[k / 4] * 3 for k in range(4)]
    assert spy.thoughts[0] is None
    for thought in spy.thoughts[1:]:
        torch.testing.assert_close(thought, target, atol=1e-5, rtol=0)
    guided = Spy(target)
    better = sample_vectors(guided, None, groups, noise, FlowSampler(4), lambda clean, _time: clean + 1.0)
    torch.testing.assert_close(better, target + 1.0, atol=1e-5, rtol=0)
    torch.testing.assert_close(guided.thoughts[-1], target + 1.0, atol=1e-5, rtol=0)


def test_rows_without_a_thought_are_as_without_any(network, hammer):
    generator = torch.Generator().manual_seed(5)
    noisy, time = torch.randn(4, 30, generator=generator), torch.rand(4, generator=generator)
    thought = torch.randn(4, 30, generator=generator)
    thought[1:3] = torch.nan
    field, wishes = _field(hammer, 4), _wishes(4)
    told = network.told(time, network.encode(field, 4), wishes)
    mixed = network(noisy, told, wishes.betas, field, thought)
    without = network(noisy, told, wishes.betas, field, None)
    torch.testing.assert_close(mixed[1:3], without[1:3])
    assert float((mixed[[0, 3]] - without[[0, 3]]).abs().max()) > 1e-3


def test_guidance_leaves_the_object(models, network):
    """A finger pad 8 mm deep in a ball comes out of it; a hand that is far away stays."""
    ball, model = load_object("sphere:0.03"), models["right"]
    flat = HandParams.zeros(2)
    pad = model(flat).vertices[0, network.hand_points.ids[4]]
    hands = replace(flat, transl=torch.stack([torch.tensor([0.0, -0.022, 0.0]) - pad, torch.tensor([0.5, 0.0, 0.0])]))
    vectors = network.coder.encode(hands)
    guide = Guidance(network, _field(ball, 2), torch.zeros(2, 10), GuidanceSettings(rounds=6, last=6))

    def depth(those):
        return -ball.signed_distance(model(network.coder.decode(those)).vertices).amin(dim=1)

    moved = guide(vectors, torch.full((2,), 0.75))
    assert float(depth(vectors)[0]) > 0.005
    assert float(depth(moved)[0]) < 0.5 * float(depth(vectors)[0])
    torch.testing.assert_close(moved[1], vectors[1])
    assert float(guide.energy(moved)[0]) < 0.2 * float(guide.energy(vectors)[0])
    torch.testing.assert_close(guide(vectors, torch.full((2,), 0.25)), vectors)  # too early
    torch.testing.assert_close(guide.settle(vectors), moved)  # as many rounds when the flow has ended


def test_the_slope_of_the_guidance_is_that_of_finite_differences(models):
    model = load_hand_model("right", dtype=torch.float64)
    network = FlowNetwork(HandCoder(model, None, *(x.double() for x in _scales())), TINY).double()
    box = load_object("box:0.05,0.06,0.07").signed_distance
    field = OneObject(box, torch.eye(3, dtype=torch.float64).expand(1, 3, 3), torch.zeros(1, 3, dtype=torch.float64))
    guide = Guidance(network, field, torch.zeros(1, 10, dtype=torch.float64))
    vectors = 0.3 * torch.randn(1, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    vectors[:, :9] = torch.tensor([0.0, 0.3, 0.0, 3.0, 0.3, -0.3, 0.3, 3.0, 0.3])  # the palm 15 mm beside the middle
    leaf = vectors.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(guide.energy(leaf).sum(), leaf)
    assert float(guide.energy(vectors)) > 1.0
    steps = 1e-6 * torch.eye(30, dtype=torch.float64)
    found = [(guide.energy(vectors + one) - guide.energy(vectors - one)) / 2e-6 for one in steps]
    close = (torch.cat(found) - slope[0]).abs() < 1e-3 * slope.abs().max()
    assert close.float().mean() > 0.9  # where a point crosses a cell's face the slope jumps


def test_grasps_follow_from_seed_and_number(models, network, hammer, monkeypatch):
    settings = FlowGenerationSettings(FlowSampler(2), guidance=None)  # it makes more of how sums were rounded
    generator = FlowGenerator(network, models, settings)
    many = generator.hands(hammer, 70, seed=4)
    few = FlowGenerator(network, models, settings).hands(hammer, 10, seed=4)
    torch.testing.assert_close(few.transl, many.transl[:10], atol=1e-6, rtol=0)
    torch.testing.assert_close(few.hand_pose, many.hand_pose[:10], atol=1e-5, rtol=0)
    monkeypatch.setattr(flow_generator, "AT_ONCE", 8)
    torch.testing.assert_close(generator.hands(hammer, 70, seed=4).transl, many.transl, atol=1e-6, rtol=0)
    assert float((generator.hands(hammer, 10, seed=5).transl - few.transl).abs().max()) > 1e-3
    again = generator.generate(hammer, 10, seed=4)
    assert [grasp.kind for grasp in again.grasps] == ["power"] * 4 + ["precision"] * 4 + ["power"] * 2
    np.testing.assert_allclose(again.grasps[3].hand.params.transl[0], few.transl[3], atol=1e-6)


def test_many_objects_at_once_are_as_one_by_one(models, network, hammer):
    few_rounds = GuidanceSettings(rounds=2, last=6)  # every round makes more of how sums were rounded
    generator = FlowGenerator(network, models, FlowGenerationSettings(FlowSampler(2), guidance=few_rounds))
    objects = [load_object(f"box:0.04,0.0{k},0.1", resolution=20 + k) for k in (5, 6, 7)]
    together = generator.hands_of_each([hammer, *objects], seed=6)
    for number, thing in enumerate((hammer, *objects)):
        alone = generator.hands(thing, number + 1, seed=6)[number : number + 1]
        torch.testing.assert_close(together.transl[number : number + 1], alone.transl, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.hand_pose[number : number + 1], alone.hand_pose, atol=1e-4, rtol=0)


def test_noise_of_a_grasp_does_not_depend_on_how_many_there_are():
    whole = draw_noise(0, 200, 7, seed=1)
    torch.testing.assert_close(draw_noise(50, 100, 7, seed=1), whole[50:150], atol=0, rtol=0)
    torch.testing.assert_close(draw_noise(0, 3, 7, seed=1), whole[:3], atol=0, rtol=0)
    assert abs(float(whole.mean())) < 0.1
    assert float((whole - draw_noise(0, 200, 7, seed=2)).abs().min(dim=1).values.max()) > 0


def test_objects_are_encoded_once(network, models, hammer):
    generator = FlowGenerator(network, models, FlowGenerationSettings(FlowSampler(1)))
    seen = []
    encode = network.encode
    try:
        network.encode = lambda field, count: seen.append(count) or encode(field, count)
        for _ in range(3):
            generator.hands(hammer, 2, seed=0)
        generator.hands(load_object("sphere:0.03", resolution=24), 2, seed=0)
    finally:
        del network.encode
    assert seen == [4, 4]


def test_a_left_hand_grasps_the_mirrored_object_as_the_right_one_does_the_object(models, network, hammer):
    mirror = np.array([-1.0, 1.0, 1.0])
    mirrored = make_object(hammer.vertices * mirror, hammer.faces[:, ::-1], "mirrored", resolution=48)
    mirrored = replace(mirrored, points=(hammer.points * mirror).astype(np.float32))
    settings = FlowGenerationSettings(FlowSampler(2))
    right = FlowGenerator(network, models, settings).hands(hammer, 4, seed=0)
    left = FlowGenerator(network, models, replace(settings, side="left")).hands(mirrored, 4, seed=0)
    assert left.side == "left"
    here = models["right"](right).vertices * torch.tensor(mirror, dtype=torch.float32)
    there = models["left"](left).vertices
    torch.testing.assert_close(there, here, atol=2e-3, rtol=0)  # the two grids have other nodes


def test_a_turned_object_gets_the_turned_grasps(models, network, hammer):
    turn = axis_angle_to_matrix(torch.tensor([[0.4, -0.9, 0.3]]))[0]
    generator = FlowGenerator(network, models, FlowGenerationSettings(FlowSampler(2)))
    seen = generator._encoded(hammer)
    noise = draw_noise(0, 4, 30, seed=0)
    here = generator._sampled(hammer, seen, noise, 0)
    # The same grid, asked in the turned frame: all that a turn changes is where the object is.
    turned = replace(seen, turns=seen.turns @ turn.mT, center=turn @ seen.center)
    field = OneObject(hammer.signed_distance, seen.turns.mT, seen.center.expand(4, -1))
    vectors = sample_vectors(network, field, Conditions.of_each(seen.codes, _wishes(4)), noise, FlowSampler(2))
    parts = network.coder.parts_of(vectors).turned(turned.turns.mT).shifted(turned.center)
    there = models["right"](network.coder.hands(parts)).vertices
    torch.testing.assert_close(there, models["right"](here).vertices @ turn.mT, atol=1e-5, rtol=0)


def test_weights_travel(models, network, hammer, tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_WEIGHTS", str(tmp_path))
    card = save_flow(tmp_path / "fastgrasp-flow.safetensors", network, data="none", seed=1, command="c", hours=0.1)
    assert card.hand_fingerprint == models["right"].fingerprint
    again, weights = load_flow(models["right"])
    assert weights.card.config["points"] == {"pad": 3, "palmar": 8, "rest": 4, "core": True}
    torch.testing.assert_close(again.coder.deviation, network.coder.deviation)
    found = make_method("fastgrasp-flow+rank2", models).generator.generate(hammer, 3, seed=0)
    assert found.method == "fastgrasp-flow+rank2"
    assert all("penetration_depth" in grasp.metrics for grasp in found.grasps)
    assert make_method("fastgrasp-flow-unguided", models).generator.generate(hammer, 1, seed=0).method == (
        "fastgrasp-flow-unguided"
    )
    made = [FlowGenerator(one, models).hands(hammer, 3, seed=0).transl for one in (network, again)]
    torch.testing.assert_close(made[0], made[1], atol=2e-3, rtol=0)  # large tensors travel in half precision
    other = replace(models["right"].arrays, v_template=models["right"].arrays.v_template * 1.1)
    with pytest.raises(InputError, match="fingerprint"):
        load_flow(type(models["right"])(other))
    (tmp_path / "fastgrasp-flow.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable weight file"):
        load_flow(models["right"])
    with pytest.raises(MissingFileError):
        load_flow(models["right"], tmp_path / "other.safetensors")


def test_a_network_without_feeling_is_blind_at_the_hand(models, hammer):
    """The ablation: told by its code alone, it does not see that the object is elsewhere."""
    torch.manual_seed(0)
    for local in (True, False):
        network = FlowNetwork(HandCoder(models["right"], None, *_scales()), replace(TINY, local=local)).eval()
        torch.nn.init.normal_(network.exit[1].weight)
        here = _field(hammer, 2)
        there = replace(here, shift=here.shift + 0.03)
        told = network.told(torch.zeros(2), network.encode(here, 2), _wishes(2))
        noisy = 0.1 * torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            apart = network(noisy, told, torch.zeros(2, 10), here, None)
            apart = apart - network(noisy, told, torch.zeros(2, 10), there, None)
        assert (float(apart.abs().max()) > 1e-3) == local


def test_wishes_that_are_none():
    with pytest.raises(InputError, match="power, precision"):
        FlowGenerationSettings(kinds=("fist",))
    with pytest.raises(InputError, match="got none"):
        FlowGenerationSettings(kinds=())
    with pytest.raises(InputError, match="10 numbers"):
        FlowGenerationSettings(betas=(0.0,))
    with pytest.raises(InputError, match="pace"):
        GuidanceSettings(pace=0.0)
