"""FastGrasp's networks and how they are put together: sizes, times, samples of a network that knows, ablations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandCoder
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.fastgrasp.adaptation import PAPER_ADAPTATION, Adaptation, AdaptationConfig
from grasp_nodes.synthesis.fastgrasp.autoencoder import (
    PAPER_AUTOENCODER,
    PAPER_LAYOUT,
    SMALL_LAYOUT,
    AutoEncoderConfig,
    HandAutoEncoder,
)
from grasp_nodes.synthesis.fastgrasp.cvae import PAPER_CVAE, CVAEConfig, GraspCVAE, divergence
from grasp_nodes.synthesis.fastgrasp.denoiser import PAPER_DENOISER, SMALL_DENOISER, DenoiserConfig, LatentDenoiser
from grasp_nodes.synthesis.fastgrasp.generator import CVAENetwork, FastGraspNetwork, SamplingSettings
from grasp_nodes.synthesis.fastgrasp.hand_reader import spread_over
from grasp_nodes.synthesis.fastgrasp.layers import TimeEmbedding
from grasp_nodes.synthesis.fastgrasp.losses import GraspLoss, LossWeights
from grasp_nodes.synthesis.fastgrasp.unet import LatentUNet
from grasp_nodes.synthesis.posed_vectors import PosedVectors
from grasp_nodes.synthesis.schedules import NoiseSchedule
from grasp_nodes.synthesis.vector_generator import VectorGenerator, object_points

TINY_AUTOENCODER = AutoEncoderConfig(24, (16, 32), False, "layer", (32,), (32,))
TINY_DENOISER = DenoiserConfig(24, 64, (16, 32), False, "layer", (8, 16), 1, 16, noise_steps=50)
TINY_ADAPTATION = AdaptationConfig(24, (16, 32), False, "layer", (32,))
TINY_CVAE = CVAEConfig(4, 64, (16, 32), False, "layer", (32,), (32,))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def linear(*widths):
    return sum((widths[k] + 1) * widths[k + 1] for k in range(len(widths) - 1))


def test_points_are_spread_and_the_others_not_read(right):
    rest = torch.from_numpy(right.arrays.v_template)
    chosen = spread_over(rest, 160)
    assert len(chosen.unique()) == 160
    apart = torch.cdist(rest[chosen], rest[chosen]) + torch.eye(160)
    assert torch.cdist(rest, rest[chosen]).amin(dim=1).max() <= apart.min()
    assert spread_over(rest, 778).tolist() == list(range(778))
    network = HandAutoEncoder(replace(TINY_AUTOENCODER, vertices=160), 64).eval()
    network.reader.spread(rest)
    other = torch.randn(1, 778, 3)
    other[:, chosen] = rest[chosen].float()
    vectors = torch.zeros(1, 64)
    torch.testing.assert_close(network(rest[None].float(), vectors), network(other, vectors))
    with pytest.raises(InputError, match="vertices: expected 1 to 778, got 779"):
        replace(TINY_AUTOENCODER, vertices=779)


@pytest.fixture(scope="module")
def ball():
    return load_object("sphere:0.035", resolution=32)


def tiny(right, adapted=False, **settings):
    torch.manual_seed(1)
    coder = HandCoder(right, SMALL_LAYOUT)
    autoencoder, denoiser = HandAutoEncoder(TINY_AUTOENCODER, coder.size), LatentDenoiser(TINY_DENOISER)
    adaptation = Adaptation(TINY_ADAPTATION) if adapted else None
    parts = [part.eval() for part in (autoencoder, denoiser, adaptation) if part is not None]
    network = FastGraspNetwork(autoencoder, denoiser, adaptation, SamplingSettings(**settings))
    return VectorGenerator("fastgrasp", network, coder, "1"), parts


def test_the_papers_sizes(right):
    coder = HandCoder(right, PAPER_LAYOUT)
    assert coder.size == 61 == 48 + 10 + 3
    autoencoder = HandAutoEncoder(PAPER_AUTOENCODER, coder.size)
    assert PAPER_AUTOENCODER.latent == PAPER_DENOISER.latent == PAPER_ADAPTATION.latent == 768
    assert PAPER_DENOISER.points == PAPER_CVAE.points == 3000
    assert count(autoencoder.encoder) == linear(1024, 2048, 1024, 768)
    assert count(autoencoder.decoder) == linear(768, 2048, 1024, 256, 61)
    # Linear layers and the scale and shift of batch norms, beside the small network that turns the points.
    assert count(autoencoder.reader.layers.layers) == linear(3, 64, 128, 1024) + 2 * (64 + 128)
    assert count(Adaptation(PAPER_ADAPTATION).layers) == linear(768 + 1024, 2048, 1024, 768)


def test_paper_size_runs_forward_and_backward(right):
    posed = PosedVectors(HandCoder(right, PAPER_LAYOUT))
    generator = torch.Generator().manual_seed(0)
    truth = 0.1 * torch.randn(2, 61, generator=generator)
    vertices, points = posed(truth), 0.05 * torch.randn(2, 3000, 3, generator=generator)
    autoencoder, denoiser = HandAutoEncoder(PAPER_AUTOENCODER, 61), LatentDenoiser(PAPER_DENOISER)
    adaptation, cvae = Adaptation(PAPER_ADAPTATION), GraspCVAE(PAPER_CVAE, 61)
    latents = autoencoder.encode(vertices, truth)
    noise = denoiser(denoiser.standardise(latents), torch.tensor([3, 999]), denoiser.encode_object(points))
    moved = latents + adaptation(latents, adaptation.encode_object(points))
    told = cvae.encode_object(points)
    mean, log_variance = cvae.encode(vertices, told)
    baseline = cvae.decode(mean, told)
    assert latents.shape == noise.shape == moved.shape == (2, 768)
    assert baseline.shape == (2, 61)
    loss = GraspLoss(posed, LossWeights())
    total = loss(autoencoder.decode(moved), truth, vertices, points)["loss"] + (noise - 1).square().mean()
    total = total + loss(baseline, truth, vertices, points)["loss"] + divergence(mean, log_variance)
    total.backward()
    for network in (autoencoder, denoiser, adaptation, cvae):
        asked = [one for name, one in network.named_parameters() if name != "nothing"]
        assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in asked)


def test_a_line_that_cannot_be_halved_is_refused():
    with pytest.raises(InputError, match="multiple of 12"):
        LatentUNet(100, (8, 8, 8), 4)
    assert LatentUNet(96, (8, 8, 8), 4)(torch.zeros(2, 96), torch.zeros(2, 4)).shape == (2, 96)


def test_steps_of_time_can_be_told_apart():
    torch.manual_seed(0)
    embedding = TimeEmbedding(32)
    with torch.no_grad():
        found = embedding(torch.arange(1000))
        near = (found[1:] - found[:-1]).norm(dim=1)
        scaled = embedding(torch.arange(1000) / 1000)
    assert float(near.min()) > 0.01
    # A step divided by T, as others have fed it, would be ten times as hard to tell from its neighbour.
    assert float(near.median()) > 10 * float((scaled[1:] - scaled[:-1]).norm(dim=1).median())


@pytest.mark.parametrize(
    ("method", "steps", "expected"),
    [("ddim", 5, [49, 39, 29, 19, 9]), ("ddpm", None, list(range(49, -1, -1)))],
)
def test_the_network_is_told_the_time_of_its_input(right, ball, method, steps, expected, monkeypatch):
    generator, (_, denoiser) = tiny(right, method=method, steps=steps)
    schedule, seen = NoiseSchedule.make("linear", 50), []

    def forward(noisy, time, told):
        seen.append((time.clone(), noisy.clone()))
        return noisy * schedule.sigma(time)[:, None].float()  # the best guess where latents are standard normal

    monkeypatch.setattr(denoiser, "forward", forward)
    generator.generate(ball, 100, 0)
    assert [int(time[0]) for time, _ in seen] == expected
    assert all((time == time[0]).all() for time, _ in seen)
    if method == "ddim":
        # With that guess a step from t to s turns (alpha, sigma) by the angle between them: x_s = cos(angle) x_t.
        for (time, noisy), (later, after) in itertools.pairwise(seen):
            turn = schedule.alpha(time) * schedule.alpha(later) + schedule.sigma(time) * schedule.sigma(later)
            torch.testing.assert_close(after, turn[:, None].float() * noisy)


def test_a_network_that_knows_the_noise_gives_the_hand(right, ball, monkeypatch):
    generator, (autoencoder, denoiser) = tiny(right, steps=7)
    schedule = NoiseSchedule.make("linear", 50)
    denoiser.latent_mean += 0.3
    denoiser.latent_deviation *= 2.0
    wanted = torch.randn(24, generator=torch.Generator().manual_seed(4))
    clean = denoiser.standardise(wanted)
    monkeypatch.setattr(
        denoiser, "forward", lambda noisy, time, told: schedule.noise(clean.expand_as(noisy), noisy, time)
    )
    (grasp,) = generator.generate(ball, 1, 0).grasps
    center = object_points(ball, 64)[1]
    parts = generator.coder.parts_of(autoencoder.decode(wanted[None]).detach()).shifted(center)
    torch.testing.assert_close(grasp.hand.params.transl, generator.coder.hands(parts).transl, atol=1e-4, rtol=0)
    torch.testing.assert_close(grasp.hand.params.hand_pose, generator.coder.hands(parts).hand_pose, atol=1e-3, rtol=0)


def test_guidance_needs_a_network_that_saw_no_object(right, ball):
    generator, _ = tiny(right, guidance=1.5)
    with pytest.raises(InputError, match="unconditioned"):
        generator.generate(ball, 1, 0)
    free = LatentDenoiser(replace(TINY_DENOISER, unconditioned=0.1)).eval()
    for block in free.unet.modules():
        if isinstance(block, torch.nn.Conv1d):
            torch.nn.init.normal_(block.weight, std=0.1)
    torch.nn.init.normal_(free.nothing)
    noisy, time, told = torch.randn(3, 24), torch.tensor([1, 20, 49]), torch.randn(3, 16)
    with_object, without = free(noisy, time, told), free(noisy, time, free.nothing.expand(3, -1))
    assert float((with_object - without).abs().max().detach()) > 1e-3
    torch.testing.assert_close(free.for_sampler(told, 1.5)(noisy, time), 2.5 * with_object - 1.5 * without)


def test_the_first_hands_of_many_are_those_of_few(right, ball):
    generator, _ = tiny(right, adapted=True, steps=3)
    few, many = generator.generate(ball, 3, 7), generator.generate(ball, 140, 7)
    for one, other in zip(few.grasps, many.grasps, strict=False):
        torch.testing.assert_close(one.hand.params.transl, other.hand.params.transl, atol=1e-4, rtol=0)
    again, other = generator.generate(ball, 3, 7), generator.generate(ball, 3, 8)
    assert all(
        torch.equal(a.hand.params.hand_pose, b.hand.params.hand_pose)
        for a, b in zip(few.grasps, again.grasps, strict=True)
    )
    assert not torch.allclose(few.grasps[0].hand.params.transl, other.grasps[0].hand.params.transl)
    assert not torch.allclose(many.grasps[0].hand.params.transl, many.grasps[128].hand.params.transl)
    with pytest.raises(InputError, match="count"):
        generator.generate(ball, 0, 0)


def test_moving_the_object_moves_the_hand(right, ball):
    generator, _ = tiny(right, adapted=True, steps=3)
    shift = torch.tensor([0.3, -0.2, 0.1])
    points, center = object_points(ball, 64)
    noise = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    here = generator.hands(points[None], center[None], noise, 0)
    there = generator.hands((points + shift)[None], (center + shift)[None], noise, 0)
    torch.testing.assert_close(there.transl - here.transl, shift.expand(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(there.global_orient, here.global_orient, atol=1e-3, rtol=0)


def test_an_untrained_adaptation_changes_nothing_and_a_trained_one_does(right, ball):
    plain, _ = tiny(right, steps=3)
    adapted, (_, _, adaptation) = tiny(right, adapted=True, steps=3)
    first = plain.generate(ball, 2, 0).grasps[0].hand.params.transl
    torch.testing.assert_close(adapted.generate(ball, 2, 0).grasps[0].hand.params.transl, first)
    torch.nn.init.normal_(adaptation.layers[-1].weight)
    assert not torch.allclose(adapted.generate(ball, 2, 0).grasps[0].hand.params.transl, first)


def test_what_the_autoencoder_reads_is_a_setting(right):
    vectors, vertices = torch.randn(2, 61), torch.randn(2, 778, 3)
    for kind, first, second in (("vertices", 0.0, 1.0), ("ordered", 0.0, 1.0), ("parameters", 1.0, 0.0)):
        network = HandAutoEncoder(replace(TINY_AUTOENCODER, input=kind), 61).eval()
        base = network.encode(vertices, vectors)
        assert torch.equal(network.encode(vertices + first, vectors + second), base)
        assert not torch.allclose(network.encode(vertices + second, vectors + first), base)
    for kind, same in (("vertices", True), ("ordered", False)):  # to a PointNet vertices are a cloud without order
        network = HandAutoEncoder(replace(TINY_AUTOENCODER, input=kind), 61).eval()
        mixed = network.encode(vertices.flip(1), vectors)
        assert torch.allclose(mixed, network.encode(vertices, vectors), atol=1e-6) == same
    with pytest.raises(InputError, match="input: expected vertices or ordered"):
        CVAEConfig(input="parameters")
    with pytest.raises(InputError, match="input: expected one of vertices, ordered, parameters"):
        AutoEncoderConfig(input="joints")  # type: ignore[arg-type]


def test_the_baseline_samples(right, ball):
    torch.manual_seed(0)
    coder = HandCoder(right, SMALL_LAYOUT)
    generator = VectorGenerator("cvae", CVAENetwork(GraspCVAE(TINY_CVAE, coder.size).eval()), coder)
    found = generator.generate(ball, 5, 0)
    assert found.method == "cvae"
    assert len(found.grasps) == 5
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (0.5 * log_variance).exp()), normal(0.0, 1.0)).sum()
    assert float(divergence(mean, log_variance)) == pytest.approx(float(expected), rel=1e-6)


def test_small_is_small():
    assert count(LatentDenoiser(SMALL_DENOISER)) < 0.1 * count(LatentDenoiser(PAPER_DENOISER))
