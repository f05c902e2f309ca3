"""What is compiled tells what torch tells: clearances and slopes of hands, guidance, and whole guided samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.files import load_hand_arrays, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.flow.compiled_hand import CompiledHand
from grasp_nodes.synthesis.flow.fields import ManyObjects, OneObject
from grasp_nodes.synthesis.flow.generator import FlowGenerationSettings, FlowGenerator
from grasp_nodes.synthesis.flow.guidance import Guidance, GuidanceSettings
from grasp_nodes.synthesis.flow.hand_points import HandPoints, PointCounts
from grasp_nodes.synthesis.flow.trained import load_flow

LAYOUTS = (HandLayout(), HandLayout("wrist", pose="axis_angle"), HandLayout(pose="pca", components=12))
COUNT = 12


class Feeling:
    """What guidance needs of a network."""

    def __init__(self, coder: HandCoder, core: bool = True) -> None:
        self.coder, self.hand_points = coder, HandPoints(coder, PointCounts(3, 8, 4, core))


@pytest.fixture(scope="module")
def model() -> HandModel:
    return load_hand_model("right", dtype=torch.float64)


@pytest.fixture(scope="module")
def things():
    return [load_object(name, resolution=32) for name in ("family:hammer:3", "box:0.05,0.06,0.07", "sphere:0.04")]


def _coder(model: HandModel, layout: HandLayout) -> HandCoder:
    size = HandCoder(model, layout).size
    generator = torch.Generator().manual_seed(size)
    mean = 0.1 * torch.randn(size, generator=generator, dtype=torch.float64)
    deviation = 0.2 + 0.3 * torch.rand(size, generator=generator, dtype=torch.float64)
    mean[:3], deviation[:3] = 0.0, 0.05 * deviation[:3]  # in the object, or near it
    return HandCoder(model, layout, mean, deviation)


def _hands(coder: HandCoder, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors and betas; the first hand has no angles, the second hardly any, both have the palm in the middle."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(COUNT, coder.size, generator=generator, dtype=torch.float64)
    flat = -coder.mean[9:] / coder.deviation[9:]
    vectors[0, 9:], vectors[1, 9:] = flat, flat + 1e-5 * vectors[1, 9:]
    vectors[:2, :3] = 0.0
    return vectors, torch.randn(COUNT, 10, generator=generator, dtype=torch.float64)


def _field(things) -> ManyObjects:
    """Turned and, every other one, reflected."""
    generator = torch.Generator().manual_seed(1)
    turns = random_rotations(COUNT, generator, dtype=torch.float64)
    turns[::2] *= -1
    shift = 0.01 * torch.randn(COUNT, 3, generator=generator, dtype=torch.float64)
    return ManyObjects(
        StackedDistances.of([one.signed_distance for one in things]), torch.arange(COUNT) % len(things), turns, shift
    )


def _slope(guide: Guidance, vectors: torch.Tensor) -> torch.Tensor:
    leaf = vectors.clone().requires_grad_(True)
    return torch.autograd.grad(guide.energy(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: f"{one.point}-{one.pose}")
def test_hands_feel_what_torch_says(model, things, layout):
    coder, field = _coder(model, layout), _field(things)
    vectors, betas = _hands(coder)
    for core in (True, False):
        points = HandPoints(coder, PointCounts(3, 8, 4, core))
        for shapes in (betas, betas[:1].expand(COUNT, -1), torch.zeros_like(betas)):
            clearance, slope = points.compiled.feel(vectors, shapes, field.arrays)
            expected = points.slopes(coder.parts_of(vectors, shapes), field)
            torch.testing.assert_close(clearance, expected[0], atol=1e-10, rtol=0)
            torch.testing.assert_close(slope, expected[1], atol=1e-8, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: f"{one.point}-{one.pose}")
def test_the_slope_of_the_energy_is_that_of_autograd(model, things, layout):
    coder, field = _coder(model, layout), _field(things)
    network = Feeling(coder)
    vectors, betas = _hands(coder)
    settings = GuidanceSettings(last=6, tolerated=0.002, near=0.04, touch=0.7, pace=0.8)
    guide = Guidance(network, field, betas, settings)
    moved, energy, slope = network.hand_points.compiled.descend(vectors, betas, field.arrays, settings.cost, 1)
    expected = _slope(guide, vectors)
    assert int((energy > 1.0).sum()) > COUNT // 2
    assert float(energy[:2].min()) > 1.0
    torch.testing.assert_close(energy, guide.energy(vectors))
    torch.testing.assert_close(slope, expected, atol=1e-9 * float(expected.abs().max()), rtol=1e-7)
    torch.testing.assert_close(moved, guide.moved_by_autograd(vectors, 1))
    torch.testing.assert_close(guide.settle(vectors), guide.moved_by_autograd(vectors, settings.last))


def test_the_slope_of_the_energy_is_that_of_finite_differences(model):
    """At a wall whose distance is linear, so that no slope jumps."""
    corners = torch.stack(torch.meshgrid(*[torch.arange(2.0)] * 3, indexing="ij"), dim=-1) - 0.5
    normal = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5]), dim=0)
    wall = SignedDistanceGrid(corners @ normal, torch.full((3,), -0.5), 1.0)
    coder = _coder(model, HandLayout())
    network = Feeling(coder)
    vectors, betas = _hands(coder)
    turns = random_rotations(COUNT, torch.Generator().manual_seed(2), dtype=torch.float64)
    field = OneObject(wall, turns, torch.zeros(COUNT, 3, dtype=torch.float64))
    guide, cost = Guidance(network, field, betas), GuidanceSettings().cost
    _, energy, slope = network.hand_points.compiled.descend(vectors, betas, field.arrays, cost, 1)
    assert int((energy > 1.0).sum()) > COUNT // 2
    for k in range(coder.size):
        step = torch.zeros(coder.size, dtype=torch.float64)
        step[k] = 1e-6
        found = (guide.energy(vectors + step) - guide.energy(vectors - step)) / 2e-6
        torch.testing.assert_close(slope[:, k], found, atol=1e-6 * float(slope.abs().max()), rtol=1e-5)


def test_hands_that_cost_nothing_stay_and_no_hand_disturbs_another(model, things):
    coder, field = _coder(model, HandLayout()), _field(things)
    network = Feeling(coder)
    vectors, betas = _hands(coder)
    whole = Guidance(network, field, betas).settle(vectors)
    away, lost = vectors.clone(), vectors.clone()
    away[3, :3], lost[5, 20] = 40.0, torch.nan
    torch.testing.assert_close(Guidance(network, field, betas).settle(away)[3], away[3], atol=0, rtol=0)
    others = torch.arange(COUNT) != 5
    found = Guidance(network, field, betas).settle(lost)
    torch.testing.assert_close(found[others], whole[others], atol=0, rtol=0)
    assert torch.isnan(found[5]).any()
    some = Guidance(network, field.rows(slice(4, 7)), betas[4:7]).settle(vectors[4:7])
    torch.testing.assert_close(some, whole[4:7], atol=0, rtol=0)


def test_other_hands_and_vectors_are_left_to_autograd(model, things):
    """Pose correctives, poses that are not linear, and shapes in the vector."""
    arrays = load_hand_arrays("right")
    random = np.random.default_rng(0).standard_normal(arrays.posedirs.shape)
    soft = HandModel(replace(arrays, posedirs=1e-3 * random), torch.float64)
    field = _field(things)
    for coder in (
        _coder(soft, HandLayout()),
        _coder(model, HandLayout(pose="rotation_6d")),
        _coder(model, HandLayout(orient="axis_angle")),
        _coder(model, HandLayout(shape=True)),
    ):
        network = Feeling(coder)
        assert network.hand_points.compiled is None
        vectors, betas = _hands(coder)
        guide = Guidance(network, field, betas)
        moved = guide.settle(vectors)
        assert float(guide.energy(moved).sum()) < 0.5 * float(guide.energy(vectors).sum())
        felt = network.hand_points.felt(vectors, betas, field)
        assert felt.shape == (COUNT, 4 * network.hand_points.counts.total)


def test_what_does_not_fit_together_is_refused(model, things):
    """Compiled loops would read memory that is not theirs."""
    coder, field = _coder(model, HandLayout()), _field(things)
    compiled = Feeling(coder).hand_points.compiled
    vectors, betas = _hands(coder)
    cost = GuidanceSettings().cost
    for wrong in ((vectors[1:], betas), (vectors[:, 1:], betas), (vectors, betas[0]), (vectors, betas[:1])):
        with pytest.raises(InputError, match="hands at 12 objects"):
            compiled.feel(*wrong, field.arrays)
        with pytest.raises(InputError, match="hands at 12 objects"):
            compiled.descend(*wrong, field.arrays, cost, 1)
    with pytest.raises(InputError, match="expected 0 to 2"):
        _ = replace(field, index=field.index + 1).arrays
    assert compiled.feel(vectors[:0], betas[:0], field.rows(slice(0)).arrays)[0].shape[0] == 0


def test_nothing_is_compiled_for_other_devices(model, things, monkeypatch):
    """Where a field's tensors are elsewhere: torch's meta device stands for a GPU."""
    field = _field(things)
    elsewhere = replace(field, turn=field.turn.to("meta"))
    one = OneObject(things[0].signed_distance, field.turn.to("meta"), field.shift)
    assert elsewhere.arrays is None
    assert one.arrays is None
    monkeypatch.setattr(CompiledHand, "of", lambda *_: pytest.fail("asked for a compiled hand"))
    network = Feeling(_coder(model, HandLayout()))
    vectors, betas = _hands(network.coder)
    with monkeypatch.context() as patched:
        patched.setattr(ManyObjects, "arrays", None)
        assert torch.isfinite(network.hand_points.felt(vectors, betas, field)).all()
        guide = Guidance(network, field, betas, GuidanceSettings(last=6))
        torch.testing.assert_close(guide.settle(vectors), guide.moved_by_autograd(vectors, 6))


@pytest.fixture
def one_thread():
    """How the network's sums are rounded depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_whole_guided_samples_are_those_of_autograd(monkeypatch, dtype, side):
    """With the published weights."""
    models = {one: load_hand_model(one, dtype=dtype) for one in ("right", "left")}
    network = load_flow(models["right"])[0].to(dtype)
    hammer = load_object("family:hammer:3", resolution=48)
    # A hand that cannot be free of the object makes more of how sums were rounded with every round.
    settings = FlowGenerationSettings(side=side, guidance=GuidanceSettings(rounds=2, last=6))
    compiled = FlowGenerator(network, models, settings).hands(hammer, 16, seed=0)
    with monkeypatch.context() as patched:
        patched.setattr(OneObject, "arrays", None)
        expected = FlowGenerator(network, models, settings).hands(hammer, 16, seed=0)
    apart = _apart(models[side], compiled, expected)
    if dtype == torch.float64:
        assert float(apart.max()) < 1e-6
    else:  # which pad is nearest, and in which cell, is decided otherwise now and then; 14 rounds make much of it
        assert float(apart.quantile(0.8)) < 1e-4
    plain = FlowGenerator(network, models, replace(settings, guidance=None)).hands(hammer, 16, seed=0)
    assert float(_apart(models[side], compiled, plain).median()) > 1e-3


def _apart(model: HandModel, first: HandParams, second: HandParams) -> torch.Tensor:
    """(B,), m: the largest distance between a vertex of one hand and the same of the other."""
    return (model(first).vertices - model(second).vertices).norm(dim=2).amax(dim=1)


@pytest.mark.parametrize("one_shape", [True, False])
def test_several_threads_give_the_same_hands(model, things, one_shape, monkeypatch):
    coder, few = _coder(model, LAYOUTS[0]), _field(things)
    vectors, betas = (torch.cat([part] * 4) for part in _hands(coder))
    betas = torch.zeros_like(betas) if one_shape else betas
    field = ManyObjects(few.stack, few.index.repeat(4), few.turn.repeat(4, 1, 1), few.shift.repeat(4, 1))
    compiled = Feeling(coder).hand_points.compiled
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        moved = compiled.descend(vectors, betas, field.arrays, GuidanceSettings().cost, 2)
        found.append([*compiled.feel(vectors, betas, field.arrays), *moved])
    for alone, shared in zip(*found, strict=True):
        assert torch.equal(alone, shared)
