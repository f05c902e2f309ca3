"""JointDiffusion and its keypoint baseline: what networks read and tell, batches, training, refinement, synthesis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from grasp_nodes.contact.choir.field import anchor_distances, object_distances
from grasp_nodes.contact.choir.space import ChoirSettings, ChoirSpace
from grasp_nodes.contact.hand_states import stack_hands
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.fitting.choir.choir_fit import NETWORK_FIT, REFINED_FIT, ChoirFit
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.weights import WEIGHTS_VARIABLE
from grasp_nodes.objects.loading import load_object
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jointdiffusion.batches import (
    FieldBatches,
    FieldOptions,
    GraspFields,
    held_out_split,
    split_by_hand,
)
from grasp_nodes.synthesis.jointdiffusion.config import JointConfig
from grasp_nodes.synthesis.jointdiffusion.grasps import FieldSampling, JointScenes, View, field_to_object, load_refiner
from grasp_nodes.synthesis.jointdiffusion.keypoints import KeypointConfig, KeypointNetwork
from grasp_nodes.synthesis.jointdiffusion.layers import Attention
from grasp_nodes.synthesis.jointdiffusion.network import JointNetwork, Scene
from grasp_nodes.synthesis.jointdiffusion.trained import load_joint, save_network
from grasp_nodes.synthesis.jointdiffusion.training import joint_denoiser, train_joint, train_keypoints
from grasp_nodes.synthesis.jointdiffusion.unet import OwnBlocks
from grasp_nodes.synthesis.registry import make_base
from grasp_nodes.synthesis.schedules import NoiseSchedule

TINY = JointConfig(
    stem="own",
    channels=(8, 16),
    attention=(False, True),
    head=8,
    tokens=16,
    token_layers=1,
    encoder=(8, 8),
    context=16,
    time=16,
    contact_width=16,
    contact_blocks=1,
    noise_steps=50,
    facing="aligned",
    grid_distance=True,
)
"""Of 8^3 basis points."""
PLAIN = replace(TINY, stem="convolution", tokens=0, token_layers=0, facing="random", grid_distance=False)
"""As the paper's, but small."""
SPACE = ChoirSpace(ChoirSettings(per_side=8))
TINY_KEYPOINT = KeypointConfig(32, 16, 1, 32, 1, 16, 8, 16, noise_steps=50)


@pytest.fixture(scope="module")
def fields(toy_grasps: LabelledGrasps, right: HandModel, tmp_path_factory: pytest.TempPathFactory) -> GraspFields:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return GraspFields.of_grasps(toy_grasps, right, validation=0.5)


def scene(count: int, seed: int = 0) -> Scene:
    drawn = torch.randn(2, count, len(SPACE), generator=torch.Generator().manual_seed(seed))
    return Scene(drawn[0], drawn[1], torch.arange(count) % 2 == 0)


def opened(config: JointConfig) -> JointNetwork:
    """A network whose last layers are not zero, as they begin."""
    torch.manual_seed(0)
    network = JointNetwork(config, SPACE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("config", [TINY, PLAIN])
def test_a_sample_depends_on_what_it_is_told_and_on_no_other_sample(config: JointConfig) -> None:
    network, told = opened(config), scene(4)
    sample, time = torch.randn(4, network.size, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 9, 40, 7])
    found = network(sample, time, told, network.context(told))
    assert found.shape == (4, len(SPACE) + 320)
    rows = torch.tensor([2])
    alone = Scene(told.object[rows], told.noisy[rows], told.has_hand[rows])
    assert torch.allclose(network(sample[rows], time[rows], alone, network.context(alone)), found[rows], atol=1e-5)

    def changed(part: str, row: int) -> float:
        values = getattr(told, part).clone()
        values[row] = -values[row] if values.dtype.is_floating_point else ~values[row]
        other = replace(told, **{part: values})
        return float((network(sample, time, other, network.context(other)) - found)[row].detach().abs().max())

    assert changed("object", 0) > 1e-4
    assert changed("noisy", 0) > 1e-4
    assert changed("noisy", 1) == 0.0  # a scene without a hand does not look at one
    assert changed("has_hand", 1) > 1e-4
    later = network(sample, time + 5, told, network.context(told))
    assert (later - found).abs().amin(dim=0).max() > 1e-4


def test_every_parameter_of_a_multimodal_network_learns() -> None:
    for config in (TINY, PLAIN):
        network, told = opened(config).train(), scene(4)
        found = network(torch.randn(4, network.size), torch.arange(4), told, network.context(told))
        found.square().mean().backward()
        still = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
        assert still == []


def test_own_blocks_are_linear_maps_of_their_own() -> None:
    torch.manual_seed(1)
    down, up = OwnBlocks(8, 2, 5, True), OwnBlocks(8, 5, 1, False)
    grid = torch.randn(3, 2, 8, 8, 8)
    features = down(grid)
    block = grid[1, :, 2:4, 4:6, 0:2].reshape(-1)
    number = 1 * 16 + 2 * 4 + 0
    assert torch.allclose(features[1, :, 1, 2, 0], block @ down.weight[number] + down.bias[number, 0], atol=1e-5)
    back = up(features)
    assert back.shape == (3, 1, 8, 8, 8)
    told = features[1, :, 1, 2, 0] @ up.weight[number]
    assert torch.allclose(back[1, 0, 2:4, 4:6, 0:2].reshape(-1), told, atol=1e-5)


def test_the_network_is_told_the_times_of_its_training() -> None:
    """Steps that a sampler asks for are those whose noise its input has."""
    schedule, seen = NoiseSchedule.make("linear", 1000), []
    sampler = FieldSampling(steps=4).sampler(schedule)

    def spy(noisy: Tensor, time: Tensor) -> Tensor:
        seen.append(time.tolist())
        return torch.zeros_like(noisy)

    sampler(spy, torch.randn(2, 5))
    assert seen == [[999, 999], [749, 749], [499, 499], [249, 249]]
    assert FieldSampling("ddpm").sampler(schedule).steps == 1000


def test_a_batch_is_of_the_fields_of_its_grasps(fields: GraspFields, right: HandModel) -> None:
    options = FieldOptions("refinement", 2, "random", False)
    batches = FieldBatches(fields, SPACE, options)
    rows = np.array([1, 4, 7, 12])
    batch = batches.of_rows(rows, Step(3))
    again = batches.of_rows(rows, Step(3))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["field"], batches.of_rows(rows, Step(4))["field"])
    assert batch["has_hand"].all()
    points = FieldBatches(fields, SPACE, options, points_only=True).of_rows(rows, Step(3))
    assert set(batch) - set(points) == {"field", "noisy", "object", "contacts"}
    assert all(torch.equal(batch[name], points[name]) for name in points)
    # The object of these rows is a ball about the centre: turned or not, its distances are known.
    radius = np.where(fields.grasps.object_index[rows] == 0, 0.03, 0.04)
    far = np.abs(np.linalg.norm(SPACE.basis, axis=1) - radius[:, None])
    assert np.allclose(SPACE.distances(batch["object"]).numpy(), far, atol=4e-3)
    # The anchors' distances are those of the anchors that come with it.
    frame = SPACE.frame(torch.zeros(4, 3), batch["points"])
    told = anchor_distances(SPACE, batch["keypoints"][:, 21:], frame)
    assert torch.allclose(SPACE.distances(batch["field"]), told, atol=1e-5)
    # Turning changes no length.
    hands = right(fields.grasps[rows].hands)
    between = torch.cdist(batch["keypoints"][:, :21], batch["keypoints"][:, :21])
    assert torch.allclose(between, torch.cdist(hands.keypoints, hands.keypoints), atol=1e-4)
    moved = (batch["noisy_keypoints"] - batch["keypoints"]).norm(dim=-1).mean()
    assert 0.03 < float(moved) < 0.2  # 5 cm along each axis


def test_aligned_scenes_are_seen_from_the_noisy_hand(fields: GraspFields, right: HandModel) -> None:
    batch = FieldBatches(fields, SPACE, FieldOptions("refinement", 0, "aligned", True)).of_rows(np.arange(6), Step(0))
    hands = fields.grasps[np.arange(6)].hands
    still = right(replace(hands, global_orient=torch.zeros_like(hands.global_orient))).keypoints
    shape = batch["keypoints"][:, :21]
    assert torch.allclose(shape - shape[:, :1], still - still[:, :1], atol=1e-4)


def test_distances_from_the_grid_are_about_those_to_the_points(fields: GraspFields) -> None:
    rows = np.arange(6)
    one, other = (
        SPACE.distances(
            FieldBatches(fields, SPACE, FieldOptions("synthesis", 0, "aligned", grid)).of_rows(rows, Step(1))["object"]
        )
        for grid in (True, False)
    )
    assert float((one - other).abs().median()) < 3e-3
    assert float((one - other).abs().max()) < 0.012
    ball = load_object("sphere:0.03")
    view = View(torch.eye(3)[None], torch.zeros(3))
    points = torch.from_numpy(ball.points)[None]
    frame = SPACE.frame(torch.zeros(1, 3), points)
    by_grid, by_points = (field_to_object(SPACE, ball, view, points, frame, grid) for grid in (True, False))
    assert float((by_grid - by_points).abs().median()) < 3e-3
    assert torch.allclose(by_points, object_distances(SPACE, points, frame))


def test_half_of_a_multimodal_batch_has_a_hand(fields: GraspFields) -> None:
    batches = FieldBatches(fields, SPACE, FieldOptions("both"))
    shares = [int(batches.of_rows(np.arange(8), Step(k))["has_hand"].sum()) for k in range(4)]
    assert shares == [4, 4, 4, 4]
    with pytest.raises(InputError, match="level"):
        FieldOptions(level=7)


def test_no_hand_is_on_both_sides_of_a_split_by_hands(toy_grasps: LabelledGrasps) -> None:
    split = split_by_hand(toy_grasps, 0.25, 0)
    assert len(split.validation) == 4
    assert len(split.training) == 12
    betas = toy_grasps.hands.betas
    apart = torch.cdist(betas[split.training], betas[split.validation])
    assert float(apart.min()) > 1e-3
    assert len(np.unique(toy_grasps.object_index[split.validation])) == 2


def test_held_out_by_both_are_unseen_objects_and_unseen_hands(toy_grasps: LabelledGrasps) -> None:
    both = held_out_split(toy_grasps, "both", 0.25)
    index, betas = toy_grasps.object_index, toy_grasps.hands.betas
    assert not set(index[both.training]) & set(index[both.validation])
    unseen = split_by_hand(toy_grasps, 0.25, 0).validation
    assert float(torch.cdist(betas[both.training], betas[unseen]).min()) > 1e-3
    # Of the objects that are trained on, all hands are, but for the unseen ones.
    assert set(both.training) | set(unseen) | set(both.validation) == set(range(len(toy_grasps)))
    assert len(both.training) == 5


def settings(steps: int) -> TrainingSettings:
    return TrainingSettings(steps=steps, rate=3e-3, average=0.9, device="cpu", evaluate_every=0)


def test_training_lowers_the_loss(fields: GraspFields, tmp_path: Path) -> None:
    config = replace(TINY, prediction="clean")

    def run(steps: int, folder: str) -> dict[str, float]:
        trained = train_joint(config, SPACE, fields, FieldOptions(), settings(steps), RunOptions(8, tmp_path / folder))
        return dict(trained.values)

    first, later = run(1, "one"), run(30, "two")
    assert later["field"] < 0.8 * first["field"]
    assert later["distance_mm"] < first["distance_mm"]
    assert set(later) >= {"loss", "field", "contacts", "distance_mm", "noisy_distance_mm"}


@pytest.fixture(scope="module")
def folder(fields: GraspFields, right: HandModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of both networks, hardly trained."""
    made = tmp_path_factory.mktemp("weights")
    joint = train_joint(
        replace(TINY, prediction="clean"), SPACE, fields, FieldOptions(), settings(5), RunOptions(8, made / "joint")
    )
    save_network(made / "jointdiffusion.safetensors", joint.network, right, command="grasp-nodes train ...")
    points = train_keypoints(
        replace(TINY_KEYPOINT, prediction="clean", facing="aligned"),
        *(SPACE, fields, FieldOptions(), settings(5), RunOptions(8, made / "keypoint")),
    )
    save_network(made / "keypoint.safetensors", points.network, right)
    return made


@pytest.mark.parametrize("name", ["jointdiffusion", "keypoint"])
def test_refined_hands_turn_with_the_scene_and_follow_from_the_seed(
    name: str, folder: Path, toy_grasps: LabelledGrasps, right: HandModel
) -> None:
    refiner, ball = load_refiner(name, right, folder, FieldSampling(steps=3)), load_object("sphere:0.03")
    hands = toy_grasps.hands[:3]
    found = refiner.refine(hands, ball, seed=4)
    again, fewer = refiner.refine(hands, ball, seed=4), refiner.refine(hands[:2], ball, seed=4)
    assert torch.equal(found.hand_pose, again.hand_pose)
    assert torch.allclose(found.transl[:2], fewer.transl, atol=1e-5)
    assert len(found) == 3
    for part in (found.global_orient, found.hand_pose, found.betas, found.transl):
        assert part.isfinite().all()
    with pytest.raises(InputError, match="right hands"):
        refiner.refine(replace(hands, side="left"), ball)
    with pytest.raises(InputError, match="NaN"):
        refiner.refine(replace(hands, transl=hands.transl * float("nan")), ball)


def test_refinement_starts_without_noise_unless_a_draw_is_asked_for(
    folder: Path, toy_grasps: LabelledGrasps, right: HandModel
) -> None:
    ball, hands = load_object("sphere:0.03"), toy_grasps.hands[:2]
    mean = load_refiner("jointdiffusion", right, folder, FieldSampling(steps=3))
    draw = load_refiner("jointdiffusion", right, folder, FieldSampling(steps=3, refined_spread=1.0))
    assert torch.equal(mean.refine(hands, ball, seed=1).transl, mean.refine(hands, ball, seed=2).transl)
    assert not torch.allclose(draw.refine(hands, ball, seed=1).transl, draw.refine(hands, ball, seed=2).transl)
    assert mean.version != draw.version
    with pytest.raises(InputError, match="refined_spread"):
        FieldSampling(refined_spread=-0.1)


def test_new_and_refined_hands_are_fitted_by_settings_of_their_own(
    folder: Path, right: HandModel, toy_grasps: LabelledGrasps, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    plain = ChoirFit.stage2
    monkeypatch.setattr(ChoirFit, "stage2", lambda self, *args: held.append(self.settings.held) or plain(self, *args))
    grasps, item = load_refiner("jointdiffusion", right, folder), load_object("box:0.05,0.06,0.07")
    grasps.generate(item, 1, 0)
    grasps.refine(toy_grasps.hands[:1], item)
    assert held == [NETWORK_FIT.held, REFINED_FIT.held]
    assert REFINED_FIT.held < NETWORK_FIT.held
    assert NETWORK_FIT.usual == REFINED_FIT.usual > 0


def test_new_hands_from_less_noise_are_more_alike(folder: Path, right: HandModel) -> None:
    item = load_object("box:0.05,0.06,0.07")

    def apart(spread: float) -> float:
        network = load_refiner("jointdiffusion", right, folder, FieldSampling(steps=3, spread=spread)).network
        assert isinstance(network, JointScenes)
        noise = spread * torch.randn(4, network.size, generator=torch.Generator().manual_seed(1))
        view = View(torch.eye(3).expand(4, 3, 3), torch.zeros(3))
        field, _ = network.field(item, view, None, noise, torch.Generator().manual_seed(0))
        return float(field.anchor_distance.std(dim=0).mean())

    assert 0 <= apart(0.0) < 1e-6 < apart(0.5) < apart(1.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_is_that_of_the_formula(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 8, head=8)
    torch.nn.init.normal_(attention.out.weight)
    tokens, context = torch.randn(2, 5, 16, requires_grad=True), torch.randn(2, 7, 8)
    query = attention.query(attention.norm(tokens)).unflatten(-1, (2, 8)).transpose(1, 2)
    key, value = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in attention.key_value(context).chunk(2, dim=-1))
    told = ((query @ key.mT) / 8**0.5).softmax(dim=-1) @ value
    expected = tokens + attention.out(told.transpose(1, 2).flatten(2))
    (slope,) = torch.autograd.grad(expected.square().sum(), tokens)
    if dtype == torch.float64:
        attention = attention.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        own = tokens.double() if dtype == torch.float64 else tokens
        found = attention(own, context.to(own.dtype))
    (own_slope,) = torch.autograd.grad(found.float().square().sum(), tokens)
    share = 0.03 if dtype == torch.bfloat16 else 1e-5
    assert float((found.float() - expected).detach().abs().max()) < share * float(expected.detach().abs().max())
    assert float((own_slope - slope).abs().max()) < share * float(slope.abs().max())
    # Weights that are bfloat16 themselves, without autocast.
    plain = attention.bfloat16()(tokens.bfloat16(), context.bfloat16())
    assert plain.dtype == torch.bfloat16


def test_new_grasps_are_the_first_of_more(folder: Path, right: HandModel) -> None:
    refiner, ball = load_refiner("jointdiffusion", right, folder, FieldSampling(steps=2)), load_object("sphere:0.03")
    few, many = refiner.generate(ball, 2, 7), refiner.generate(ball, 3, 7)
    assert few.method == "jointdiffusion"
    one, other = stack_hands(few.grasps), stack_hands(many.grasps[:2])
    assert torch.allclose(one.transl, other.transl, atol=1e-5)
    assert len(many.grasps) == 3


def test_hands_of_a_view_come_back(toy_grasps: LabelledGrasps, right: HandModel) -> None:
    turn = torch.linalg.qr(torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))).Q
    turn = turn * torch.linalg.det(turn)[:, None, None]
    view, hands = View(turn, torch.tensor([0.1, 0.2, -0.1])), toy_grasps.hands[:2]
    vertices = right(hands).vertices
    moved = right(view.back(hands, right)).vertices
    assert torch.allclose(view.seen(moved), vertices, atol=1e-5)


def test_methods_are_registered_and_say_what_is_missing(
    folder: Path, right: HandModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(folder))
    models = {"right": right, "left": right}
    for name in ("jointdiffusion", "keypoint"):
        method = make_base(name, models)  # type: ignore[arg-type]
        assert method.generator is not None
        assert method.name in method.version
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(folder.parent / "nowhere"))
    with pytest.raises(MissingFileError):
        make_base("jointdiffusion", models)  # type: ignore[arg-type]


def test_weights_of_another_permutation_are_refused(folder: Path, right: HandModel, tmp_path: Path) -> None:
    network = load_joint(right, folder).network
    network.space = _WrongSpace(SPACE.settings)
    save_network(tmp_path / "jointdiffusion.safetensors", network, right)
    with pytest.raises(InputError, match="belongs to CHOIR fields of fingerprint"):
        load_joint(right, tmp_path)


class _WrongSpace(ChoirSpace):
    """As if another version of the package had drawn another permutation from the same seed."""

    fingerprint = "0123456789abcdef"  # type: ignore[assignment]


def test_the_paper_s_sizes_can_be_built() -> None:
    network = KeypointNetwork(KeypointConfig())
    count = sum(parameter.numel() for parameter in network.parameters())
    assert 6e7 < count < 1.2e8
    with pytest.raises(InputError, match="multiples of head"):
        JointConfig(tokens=40, head=32)
    with pytest.raises(InputError, match="grid"):
        JointNetwork(TINY, ChoirSpace(ChoirSettings(layout="ball", per_side=8)))


def test_a_denoiser_of_a_scene_asks_the_context_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, calls = opened(TINY), []
    plain = network.context
    monkeypatch.setattr(network, "context", lambda told: calls.append(1) or plain(told))
    denoiser = joint_denoiser(network, scene(2))
    for _ in range(3):
        denoiser(torch.zeros(2, network.size), torch.tensor([1, 1]))
    assert len(calls) == 1
