"""JHOD: who is told what, what is kept clean, and which loss reaches whom."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.object_distances import ObjectDistances
from grasp_nodes.data.object_surfaces import sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.weights import WeightCard, save_weights
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.flow.batches import field_of, wishes_of
from grasp_nodes.synthesis.flow.hand_points import PointCounts
from grasp_nodes.synthesis.flow.network import Wishes
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jhod.batches import PLAIN, EncodedObjects, JhodBatches, mixed_rows
from grasp_nodes.synthesis.jhod.generator import (
    PAPER_SAMPLING,
    JhodGenerator,
    JhodSettings,
    checked_cloud,
)
from grasp_nodes.synthesis.jhod.imagination import Imagination, ImagineSettings
from grasp_nodes.synthesis.jhod.joint_generator import make_joint_jhod
from grasp_nodes.synthesis.jhod.loss import JhodLoss, JhodLossSettings, distance_field
from grasp_nodes.synthesis.jhod.network import PAPER_JHOD, JhodConfig, JhodNetwork, Tokens
from grasp_nodes.synthesis.jhod.ordering import tree_order
from grasp_nodes.synthesis.jhod.point_autoencoder import PointAutoEncoder, PointAutoEncoderConfig
from grasp_nodes.synthesis.jhod.sampling import HandSampling, from_midway, sample_hands, sample_objects, sample_pairs
from grasp_nodes.synthesis.jhod.trained import TrainedJhod, load_jhod, save_jhod
from grasp_nodes.synthesis.jhod.training import JhodData, train_jhod
from grasp_nodes.synthesis.samplers import DiffusionSampler

POINTS = PointAutoEncoderConfig(points=128, width=8, grid=4, voxel_width=4)
TINY = JhodConfig(
    *(128, 0, 8, 24, 32, 1, 2, 48), local=True, residual=True, told=True, felt=PointCounts(2, 4, 2), noise_steps=50
)
TINY_PAPER = JhodConfig(128, 16, 8, 24, 32, 1, 2, 48, noise_steps=50)


@pytest.fixture(scope="module", autouse=True)
def own_cache_of_module(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def encoder() -> PointAutoEncoder:
    torch.manual_seed(0)
    return PointAutoEncoder(POINTS).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(right: HandModel, toy_grasps: LabelledGrasps, encoder: PointAutoEncoder) -> JhodData:
    objects = [replace(one, name=f"{one.name}:0") for one in toy_grasps.objects]
    grasps = replace(toy_grasps, objects=objects)
    surfaces = sample_surfaces(grasps.objects, 256)
    return JhodData.of_sources([grasps], right, encoder, TINY.layout, True, 2, surfaces, 1, validation=0.0)


def network_of(data: JhodData, config: JhodConfig) -> JhodNetwork:
    torch.manual_seed(0)
    coder = data.batches.coder
    if config.layout != coder.layout:
        coder = HandCoder(coder.model, config.layout)
    network = JhodNetwork(coder, config)
    network.latent_mean, network.latent_deviation = data.latent_statistics()
    for last in (network.hand_exit, network.object_exit):  # they begin with nothing, through which nothing flows
        torch.nn.init.normal_(last.weight, std=0.1)
    return network


def batch_of(data: JhodData, config: JhodConfig, plain: int = 4, step: int = 0):
    batch = data.training(8, plain, 0)(Step(step))
    if config.layout != data.batches.coder.layout:
        coder = HandCoder(data.batches.coder.model, config.layout)
        parts = data.batches.coder.parts_of(batch["code"], batch["betas"])
        batch = {**batch, "code": coder.encode(data.batches.coder.hands(parts)), "betas": 0 * batch["betas"]}
    return batch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Spy:
    """Calls a network and remembers what it was asked."""

    def __init__(self, network: JhodNetwork) -> None:
        self.calls: list[tuple] = []
        self._forward = network.forward

        def forward(*arguments):
            self.calls.append(arguments)
            return self._forward(*arguments)

        network.forward = forward  # type: ignore[method-assign]


def test_the_order_of_points_follows_from_where_they_are():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((3, 64, 3))
    ordered = np.take_along_axis(points, tree_order(points)[..., None], axis=1)
    shuffled = points[:, rng.permutation(64)]
    np.testing.assert_array_equal(np.take_along_axis(shuffled, tree_order(shuffled)[..., None], axis=1), ordered)
    assert (ordered[:, :32, 0].max(axis=1) <= ordered[:, 32:, 0].min(axis=1)).all()
    assert (ordered[:, :16, 1].max(axis=1) <= ordered[:, 16:32, 1].min(axis=1)).all()
    assert (ordered[:, :8, 2].max(axis=1) <= ordered[:, 8:16, 2].min(axis=1)).all()
    with pytest.raises(InputError, match="power of 2"):
        tree_order(points[:, :63])
    points[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 points are not finite"):
        tree_order(points)


def test_batches_keep_hand_and_object_together(data: JhodData, toy_grasps: LabelledGrasps, right: HandModel):
    """Each vertex is as far from the ball as in the frame of the grasp, and the latents' points are on the ball."""
    rows = np.arange(16)
    batch = data.batches.of_rows(rows, Step(5))
    coder = data.batches.coder
    found = field_of(batch, data.stack)(coder.posed(coder.parts_of(batch["code"], batch["betas"]))[0])
    vertices = right(toy_grasps.hands).vertices
    radius = torch.tensor([0.03, 0.04])[torch.from_numpy(toy_grasps.object_index)]
    true = vertices.norm(dim=2) - radius[:, None]
    near = true < 0.02  # as far as grids reach
    assert near.sum() > 1000
    np.testing.assert_allclose(found[near], true[near], atol=4e-4)
    points = 0.05 * batch["latents"][..., :3]  # an auto-encoder at its beginning: a latent is its point
    assert float((field_of(batch, data.stack)(points)).abs().max()) < 1.5e-3


def test_paper_size(right: HandModel):
    """Hand 51 numbers, tokens 1 x 512 and 4 x 512, two-layer networks of width 1024."""
    network = JhodNetwork(HandCoder(right, PAPER_JHOD.layout), PAPER_JHOD)
    assert network.coder.size == 51
    assert network.hand_tokens.encode(torch.zeros(2, 51)).shape == (2, 512)
    assert network.encode_object(torch.zeros(2, 2048, 4)).shape == (2, 4, 512)
    assert [one[0].out_features for one in (network.hand_tokens.into, *network.object_tokens.into)] == [1024] * 5
    assert len(network.schedule) == 1000


@pytest.mark.parametrize("config", [TINY, TINY_PAPER], ids=["small", "paper"])
def test_objects_alone_leave_the_hand_alone(data: JhodData, config: JhodConfig):
    """The loss of objects without hands has no gradient at anything of the hand's, and does not know the token."""
    network, batch = network_of(data, config), batch_of(data, config)
    spy = Spy(network)
    JhodLoss(data.stack)(network, batch, generator())
    noisy, hand_time, object_time, _, _, no_hand = spy.calls[-1]
    assert no_hand.tolist() == [False] * 8 + [True] * 4
    assert hand_time[8:].eq(network.steps).all()
    assert object_time[8:].ge(1).all()
    spread = float(noisy.hand[8:].std())
    assert 0.7 < spread < 1.3  # noise alone
    found = network(*spy.calls[-1])
    network.zero_grad()
    found.object[8:].square().sum().backward()
    touched = {name for name, one in network.named_parameters() if one.grad is not None and one.grad.any()}
    assert not {name for name in touched if name.startswith(("hand_", "kind", "betas", "felt"))}
    assert any(name.startswith("object_entrance") for name in touched)
    network.zero_grad()
    found = network(*spy.calls[-1])
    found.object[:8].square().sum().backward()  # with a hand the object's loss does reach it
    assert network.hand_entrance.weight.grad is not None
    assert network.hand_entrance.weight.grad.any()


def test_a_batch_of_objects_alone_trains_no_hand(data: JhodData):
    network = network_of(data, TINY)
    batch = batch_of(data, TINY)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    only = JhodLoss(data.stack, JhodLossSettings(distance=0, joints=0))
    terms = only(network, batch, generator())
    assert set(terms) == {"loss", "joint_hand", "joint_object", "conditional", "plain_object", "rebuilt"}
    spy = Spy(network)
    only(network, batch, generator())
    found = network(*spy.calls[-1])
    clean = network.encode_object(batch[PLAIN])
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    (found.object[8:] - clean.detach()).square().mean().backward()
    optimizer.step()
    changed = {name for name, one in network.state_dict().items() if not torch.equal(one, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith(("hand_", "kind", "betas", "felt"))]


def test_times_of_hand_and_object(data: JhodData):
    """Half of a batch has clean objects; in the rest both times are independent, or the same."""
    network, batch = network_of(data, TINY), data.batches.of_rows(np.arange(400) % 16, Step(0))
    spy = Spy(network)
    for asynchronous in (True, False):
        JhodLoss(data.stack, JhodLossSettings(asynchronous=asynchronous, known=0.0))(network, batch, generator())
        noisy, hand_time, object_time = spy.calls[-1][:3]
        assert object_time[:200].eq(0).all()
        assert hand_time.min() >= 1
        assert hand_time.max() <= network.steps == 50
        assert bool((hand_time[200:] == object_time[200:]).all()) != asynchronous
        clean = network.encode_object(batch["latents"])
        torch.testing.assert_close(noisy.object[:200], clean[:200].detach())
        assert float((noisy.object[200:] - clean[200:]).detach().abs().mean()) > 0.1
    assert abs(float(torch.corrcoef(torch.stack([hand_time[:200].float(), object_time[200:].float()]))[0, 1])) < 0.3


def test_each_time_reaches_its_own_tokens(data: JhodData):
    """Without the transformer the hand knows its own time only, and each object token the object's."""
    network = network_of(data, replace(TINY, residual=False))
    network.body = torch.nn.Identity()  # type: ignore[assignment]
    tokens = Tokens(torch.randn(1, network.hand_tokens.size), torch.randn(1, 4, 8))

    def at(hand: int, item: int) -> Tokens:
        return network(tokens, torch.tensor([hand]), torch.tensor([item]))

    first, hand, item = at(10, 10), at(20, 10), at(10, 20)
    assert not torch.equal(first.hand, hand.hand)
    torch.testing.assert_close(first.object, hand.object, atol=0, rtol=0)
    assert not torch.equal(first.object, item.object)
    torch.testing.assert_close(first.hand, item.hand, atol=0, rtol=0)
    assert not torch.equal(at(0, 10).hand, at(1, 10).hand)


def test_no_noise_at_time_zero_and_nothing_else_at_the_last(data: JhodData):
    network = network_of(data, TINY)
    clean, noise = torch.randn(3, 5), torch.randn(3, 5)
    found = network.noised(clean, noise, torch.tensor([0, 25, 50]))
    torch.testing.assert_close(found[0], clean[0], atol=0, rtol=0)
    torch.testing.assert_close(found[2], noise[2], atol=0.05, rtol=0)
    share = float(network.schedule.kept[24])
    torch.testing.assert_close(found[1], share**0.5 * clean[1] + (1 - share) ** 0.5 * noise[1])


def told_of(count: int) -> Wishes:
    return Wishes(torch.zeros(count, dtype=torch.int64), torch.zeros(count, 10))


def test_what_is_given_stays_clean(data: JhodData):
    """Conditional: every call has the object's own tokens and time 0; likewise for a given hand."""
    network = network_of(data, TINY).eval()
    batch = data.batches.of_rows(np.arange(4), Step(0))
    items, wishes, field = network.encode_object(batch["latents"]), wishes_of(batch), field_of(batch, data.stack)
    sampler = DiffusionSampler(network.schedule, "ddim", 5)
    spy = Spy(network)
    noise = torch.randn(4, network.hand_tokens.size)
    sample_hands(network, items, wishes, field, noise, HandSampling(sampler))
    assert [int(call[1][0]) for call in spy.calls] == [time + 1 for time in network.schedule.times(5)]
    assert all(call[2].eq(0).all() and torch.equal(call[0].object, items) for call in spy.calls)
    assert spy.calls[0][4] is None  # nothing was thought before the first call
    torch.testing.assert_close(spy.calls[1][4].thought, network.forward(*spy.calls[0]).hand)
    spy.calls.clear()
    sample_objects(network, batch["code"], torch.randn(4, 4, 8), wishes, sampler)
    assert all(call[1].eq(0).all() and torch.equal(call[0].hand, batch["code"]) for call in spy.calls)
    assert [int(call[2][0]) for call in spy.calls] == [time + 1 for time in network.schedule.times(5)]
    spy.calls.clear()
    sample_pairs(network, Tokens(noise, torch.randn(4, 4, 8)), told_of(4), sampler)
    assert all(torch.equal(call[1], call[2]) for call in spy.calls)


def test_the_residual_network_gives_back_what_is_clean(data: JhodData):
    network = network_of(data, TINY)
    tokens = Tokens(torch.randn(2, network.hand_tokens.size), torch.randn(2, 4, 8))
    found = network(tokens, torch.tensor([30, 30]), torch.tensor([0, 0]))
    torch.testing.assert_close(found.object, tokens.object, atol=0, rtol=0)


def test_the_distance_field_is_that_of_a_search():
    rng = np.random.default_rng(0)
    joints, points = rng.standard_normal((2, 16, 3)), rng.standard_normal((2, 40, 3))
    found = distance_field(torch.from_numpy(joints), torch.from_numpy(points))
    assert found.shape == (2, 16, 10, 3)
    for b in range(2):
        for j in range(16):
            vectors = points[b] - joints[b, j]
            nearest = vectors[np.linalg.norm(vectors, axis=1).argsort()[:10]]
            np.testing.assert_allclose(found[b, j], nearest)


def test_the_right_answer_costs_nothing(data: JhodData):
    """Where clean tokens are predicted, only what tokens do not keep is left of the loss."""
    network, batch = network_of(data, TINY), batch_of(data, TINY)
    clean = network.encode_object(torch.cat([batch["latents"], batch[PLAIN]]))
    vectors = torch.cat([batch["code"], torch.zeros(4, batch["code"].shape[1])])

    def known(noisy, *_):
        count = len(noisy.hand)
        return Tokens(vectors[:count], clean[:count])

    network.forward = known  # type: ignore[method-assign, assignment]
    settings = JhodLossSettings(physical=1.0)
    terms = JhodLoss(data.stack, settings)(network, batch, generator())
    for name in ("conditional", "joint_hand", "joint_object", "plain_object", "joints", "too_deep", "too_far"):
        assert float(terms.get(name, torch.zeros(()))) == pytest.approx(0.0, abs=1e-9), name


def vars_of(stack: StackedDistances) -> tuple[torch.Tensor, ...]:
    return stack.values, stack.shapes, stack.origins, stack.spacings


def test_sources_share_a_batch():
    assert mixed_rows([100, 100], 8) == [4, 4]
    assert mixed_rows([900, 90, 1], 10) == [8, 1, 1]
    assert sum(mixed_rows([7, 5, 3, 1], 64)) == 64
    with pytest.raises(InputError, match="a row and a grasp of each source"):
        mixed_rows([1, 1, 1], 2)


def test_several_sources(
    data: JhodData, toy_grasps: LabelledGrasps, right: HandModel, encoder: PointAutoEncoder, monkeypatch
):
    known, two = data.stack, data.batches.distances
    twice = StackedDistances(*(torch.cat([one, one]) for one in vars_of(known)))
    distances = ObjectDistances(twice, torch.cat([two.turns] * 2), torch.cat([two.shifts] * 2))
    monkeypatch.setattr("grasp_nodes.synthesis.jhod.training.measure_objects", lambda *_: distances)
    objects = [replace(one, name=f"{one.name}:1") for one in toy_grasps.objects]
    other = replace(toy_grasps[np.arange(4)], source="other", objects=objects)
    both = JhodData.of_sources([toy_grasps, other], right, encoder, TINY.layout, False, 1, validation=0.0)
    assert [len(rows) for rows in both.sources] == [16, 4]
    assert both.what.startswith("toy: 16 grasps, other: 4 grasps")
    assert not both.batches.parts.betas.any()  # not told: every hand has the mean shape
    batch = both.training(10, 4, 0)(Step(0))
    assert sorted((batch["object"] >= 2).tolist()) == [False] * 8 + [True] * 2
    assert PLAIN not in batch
    with pytest.raises(InputError, match="do not occur"):
        JhodData.of_sources([toy_grasps], right, encoder, TINY.layout, True, 1, leave_out=["nothing"])
    held_out = [replace(toy_grasps.objects[0], mesh="family:banana:1"), toy_grasps.objects[1]]
    with pytest.raises(InputError, match="held out"):
        JhodData.of_sources([replace(toy_grasps, objects=held_out)], right, encoder, TINY.layout, True, 1)


def test_wrong_objects(data: JhodData, toy_grasps: LabelledGrasps, right: HandModel, encoder: PointAutoEncoder):
    surfaces = sample_surfaces(toy_grasps.objects, 64)
    with pytest.raises(InputError, match="at least 128 points"):
        EncodedObjects.of_surfaces(surfaces, encoder, 1)
    two = data.batches.distances
    distances = ObjectDistances(two.stack, two.turns[:1], two.shifts[:1])
    with pytest.raises(InputError, match="2 objects, 2 encoded, distances to 1"):
        JhodBatches.of_grasps(toy_grasps, data.batches.encoded, distances, HandCoder(right), True)


@pytest.fixture(scope="module")
def trained(data: JhodData, encoder: PointAutoEncoder, tmp_path_factory) -> TrainedJhod:
    """Forty steps: enough to be somewhere."""
    settings = TrainingSettings(steps=40, rate=3e-3, log_every=20, device="cpu", average=None)
    run = RunOptions(16, tmp_path_factory.mktemp("jhod"))
    found = train_jhod(TINY, data, settings, run, JhodLossSettings(field_points=32), plain_batch=4)
    rows = found.rows
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert isinstance(found.network, JhodNetwork)
    return TrainedJhod(found.network.requires_grad_(False), encoder, "toy")


def test_conditional_grasps(trained: TrainedJhod, right: HandModel):
    ball = load_object("sphere:0.04")
    made = JhodGenerator(trained, {"right": right}, JhodSettings(steps=3))
    found = made.generate(ball, 6, seed=1)
    again = made.generate(ball, 3, seed=1)
    assert [one.kind for one in found.grasps] == ["power"] * 4 + ["precision"] * 2
    for one, other in zip(found.grasps, again.grasps, strict=False):
        np.testing.assert_allclose(one.hand.keypoints, other.hand.keypoints, atol=1e-6)
    other = made.generate(ball, 3, seed=2).grasps[0].hand.keypoints
    assert np.abs(other - found.grasps[0].hand.keypoints).max() > 1e-3
    # An object that is moved takes its grasps along.
    shift = np.array([0.02, -0.01, 0.03], np.float32)
    moved = replace(
        ball,
        vertices=ball.vertices + shift,
        points=ball.points + shift,
        signed_distance=replace(ball.signed_distance, origin=ball.signed_distance.origin + torch.from_numpy(shift)),
    )
    there = made.generate(moved, 6, seed=1)
    for one, other in zip(found.grasps, there.grasps, strict=True):
        np.testing.assert_allclose(other.hand.keypoints, one.hand.keypoints + shift, atol=2e-3)


def test_whole_schedule_and_guidance(trained: TrainedJhod, right: HandModel):
    ball = load_object("sphere:0.04")
    for settings in (PAPER_SAMPLING, JhodSettings(steps=4)):
        spy = Spy(trained.network)
        found = JhodGenerator(trained, {"right": right}, settings).generate(ball, 2, seed=0)
        del trained.network.forward
        assert len(spy.calls) == (settings.steps or 50)
        assert np.isfinite(found.grasps[0].hand.keypoints).all()


def test_pairs(trained: TrainedJhod, right: HandModel):
    """The first ones of more are the same; a given hand is kept as it is."""
    models = {"right": right}
    settings = ImagineSettings(steps=4, settle=0.5, settle_steps=2, surface="enclosed")
    imagination = Imagination(trained, models, settings)
    many, few = imagination.imagine(3, seed=3), imagination.imagine(2, seed=3)
    for one, other in zip(many, few, strict=False):
        np.testing.assert_allclose(one.points, other.points, atol=1e-5)
        np.testing.assert_allclose(one.grasp.hand.keypoints, other.grasp.hand.keypoints, atol=1e-4)
        assert (one.model is None) == (one.reason != "") == (one.surface is None)
    hands = HandParams.zeros(2)
    for one in imagination.objects_for(hands, seed=0):
        np.testing.assert_allclose(one.grasp.hand.keypoints, right(hands).keypoints[0], atol=1e-6)
        assert one.points.shape == (128, 3)
    with pytest.raises(InputError, match="right hands"):
        imagination.objects_for(HandParams.zeros(1, "left"), 0)
    with pytest.raises(InputError, match="count"):
        imagination.imagine(0, 0)
    with pytest.raises(InputError, match="seed"):
        imagination.imagine(1, -1)


def test_grasps_of_an_imagined_object_begin_with_its_own(ball_dreams: float, right: HandModel, monkeypatch):
    """Others come in their own places; and what no hand can hold is no object."""
    imagining = ImagineSettings(steps=4, settle_steps=2, surface="enclosed")
    joint = make_joint_jhod({"right": right}, imagining, JhodSettings(steps=2), "joint")
    model, grasps = joint.imagine(3)
    assert np.ptp(model.vertices, axis=0).max() == pytest.approx(2 * ball_dreams, rel=0.2)
    own, others = joint.imagination.imagine(1, seed=3)[0].grasp, joint.grasping.generate(model, 3, seed=3)

    def places(found):
        return [one.hand.keypoints.tolist() for one in found]

    found = grasps.generate(model, 3, seed=3)
    assert found.method == "joint"
    assert places(found.grasps) == places([own, *others.grasps[1:]])
    assert places(grasps.generate(model, 1, seed=3).grasps) == places([own])
    # Candidates and further tries have seeds of their own.
    assert places(grasps.generate(model, 2, seed=4).grasps) == places(joint.grasping.generate(model, 2, seed=4).grasps)
    with pytest.raises(InputError, match="count"):
        grasps.generate(model, 0, seed=3)
    monkeypatch.setattr("grasp_nodes.objects.clouds.observed.LARGEST_WIDTH", ball_dreams)
    with pytest.raises(InputError, match="that a hand can hold"):
        joint.imagine(3)


def test_settling_begins_midway(data: JhodData):
    network = network_of(data, TINY)
    sampler, last = from_midway(network.schedule, 0.5, 10)
    assert last == 24
    assert sampler.schedule.times(10)[0] == 24
    with pytest.raises(InputError, match="share of the time"):
        from_midway(network.schedule, 0.0, 10)


def test_clouds_of_all_kinds():
    rng = np.random.default_rng(0)
    points = 0.05 * rng.standard_normal((2_000_000, 3)).clip(-2, 2).astype(np.float32)
    found = checked_cloud(points, 2048)
    assert found.shape == (2048, 3)
    assert len(np.unique(found, axis=0)) == 2048
    few = checked_cloud(points[:100], 256)
    assert len(np.unique(few, axis=0)) == 100
    with pytest.raises(InputError, match="at least 64 points"):
        checked_cloud(points[:10], 2048)
    with pytest.raises(InputError, match=r"longest side is 200 m.*scale"):
        checked_cloud(1000.0 * points, 2048)
    with pytest.raises(InputError, match=r"longest side is 0\.0002 m"):
        checked_cloud(0.001 * points, 2048)
    points[5, 1] = np.inf
    with pytest.raises(InputError, match="1 of 2000000 points are NaN or infinite"):
        checked_cloud(points, 2048)


def test_weights(trained: TrainedJhod, right: HandModel, tmp_path):
    card = WeightCard("jhod-objects", asdict(POINTS))
    sha = save_weights(tmp_path / "jhod-objects.safetensors", trained.encoder.state_dict(), card)
    save_jhod(tmp_path / "jhod.safetensors", trained.network, sha, {"steps": 40}, data="toy")
    found = load_jhod(right, tmp_path)
    assert found.network.config == TINY
    ball = load_object("sphere:0.04")
    one, other = (JhodGenerator(each, {"right": right}).hands(ball, 2, 0) for each in (trained, found))
    torch.testing.assert_close(one.transl, other.transl, atol=3e-3, rtol=0)
    other_sha = save_weights(
        tmp_path / "jhod-objects.safetensors", trained.encoder.state_dict(), replace(card, data="x")
    )
    assert other_sha != sha
    with pytest.raises(InputError, match="was trained with another jhod-objects"):
        load_jhod(right, tmp_path)
