"""HoNet: sizes, what its coefficients mean, and its loss."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.miho.backbones import BackboneConfig
from grasp_nodes.miho.honet import PAPER_HONET, ROOT_JOINT, SMALL_HONET, HoNet, HoNetConfig, HoNetOutput
from grasp_nodes.miho.honet_loss import honet_loss
from grasp_nodes.miho.pose_errors import PoseErrors
from grasp_nodes.miho.samples import ObjectTable, turn_image, turn_poses
from grasp_nodes.miho.second_moments import second_moments
from grasp_nodes.miho.truth import TruePoses

TINY = HoNetConfig(BackboneConfig(8, (8, 12), (1, 1), "grid", 4), size=32, condition=5, hidden=(16, 12), rotation="six")


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return load_hand_model("right")


def make_table(symmetries: torch.Tensor | None = None) -> ObjectTable:
    points = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(1)) * 0.1 - 0.05
    turns = torch.eye(3)[None, None] if symmetries is None else symmetries[None]
    normals = torch.nn.functional.normalize(points, dim=2)
    return ObjectTable(points, normals, torch.zeros(1, 5), turns, torch.eye(4)[None])


def make_batch(count: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = Rotation.random(count, random_state=rng).as_matrix()
    pose[:, :3, 3] = rng.uniform([-0.05, -0.05, 0.4], [0.05, 0.05, 0.7], (count, 3))
    columns = {
        "focal": rng.uniform(200, 300, count),
        "global_orient": Rotation.random(count, random_state=rng).as_rotvec(),
        "hand_pose": rng.normal(0, 0.2, (count, 45)),
        "betas": rng.normal(0, 1, (count, 10)),
        "transl": rng.uniform([-0.05, -0.05, 0.4], [0.05, 0.05, 0.7], (count, 3)),
        "T_camera_object": pose,
    }
    batch = {name: torch.from_numpy(value.astype(np.float32)) for name, value in columns.items()}
    return {**batch, "object_index": torch.zeros(count, dtype=torch.int64)}


def perfect(truth: TruePoses, size: int) -> HoNetOutput:
    """Written out from the definition of weak perspective, not with the network's own helpers."""
    half = 0.5 * size

    def place(point: torch.Tensor) -> torch.Tensor:
        return point[:, :2] / point[:, 2:] * truth.focal[:, None] / half

    width = torch.log(truth.root[:, 2] * size / truth.focal / 0.3) / 0.3
    depth = (truth.object_position[:, 2] - truth.root[:, 2]) / 0.05
    return HoNetOutput(
        *(place(truth.root), width, truth.hand_rotation, truth.pca, truth.hands.betas),
        *(place(truth.object_position), depth, truth.object_rotation),
    )


def test_the_paper_has_37_coefficients_and_a_resnet_18() -> None:
    assert PAPER_HONET.num_coefficients == 37
    network = HoNet(PAPER_HONET)
    backbone = sum(value.numel() for value in network.backbone.parameters())
    assert backbone == 11_176_512  # torchvision's resnet18 without its last layer
    with torch.no_grad():
        output = network.eval()(torch.rand(1, 3, 256, 256))
    assert output.pca.shape == (1, 15)
    assert output.betas.shape == (1, 10)
    torch.testing.assert_close(output.hand_rotation @ output.hand_rotation.mT, torch.eye(3)[None], atol=1e-5, rtol=0)


def test_an_object_told_in_the_hand_turns_with_the_hand() -> None:
    """With the same weights, what is told of the object is multiplied by the hand's rotation."""
    torch.manual_seed(1)
    network = HoNet(replace(TINY, in_hand=True)).eval()
    torch.nn.init.normal_(network.head[-1].weight, std=0.5)  # type: ignore[arg-type]
    plain = HoNet(TINY).eval()
    plain.load_state_dict(network.state_dict())
    images, told = torch.rand(3, 3, 32, 32), torch.rand(3, 5)
    in_hand, by_itself = network(images, told), plain(images, told)
    torch.testing.assert_close(in_hand.hand_rotation, by_itself.hand_rotation)
    assert (by_itself.hand_rotation - torch.eye(3)).abs().max() > 0.1
    torch.testing.assert_close(in_hand.object_rotation, by_itself.hand_rotation @ by_itself.object_rotation)


def test_poses_are_told_in_full_precision_under_autocast(hand: HandModel) -> None:
    network = HoNet(replace(TINY, in_hand=True)).train()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(torch.rand(4, 3, 32, 32), torch.rand(4, 5))
    truth = TruePoses.of_batch(make_batch(), hand)
    loss = honet_loss(output, truth, make_table(), 32, hand)["loss"]
    assert loss.dtype == torch.float32
    eye = torch.eye(3).expand(4, 3, 3)
    torch.testing.assert_close(output.object_rotation @ output.object_rotation.mT, eye, atol=1e-5, rtol=0)
    loss.backward()


def test_the_small_one_is_small_enough_to_ship() -> None:
    assert 2 * sum(value.numel() for value in HoNet(SMALL_HONET).parameters()) < 6e6


def test_before_training_it_says_upright_hands_in_the_middle(hand: HandModel) -> None:
    torch.manual_seed(0)
    output = HoNet(TINY).eval()(torch.rand(2, 3, 32, 32), torch.zeros(2, 5))
    poses = output.poses(torch.full((2,), 60.0), 32, hand, torch.rand(2, 50, 3))
    torch.testing.assert_close(output.hand_rotation, torch.eye(3).expand(2, 3, 3), atol=0.2, rtol=0)
    assert poses.root[:, :2].abs().max() < 0.05


def test_perfect_coefficients_give_the_true_poses(hand: HandModel) -> None:
    """Up to what 15 components of the posture leave out, which is taken out of the truth here."""
    batch = make_batch()
    truth = TruePoses.of_batch(batch, hand)
    batch["hand_pose"] = hand.pose_from_pca(truth.pca)
    truth = TruePoses.of_batch(batch, hand)
    said = perfect(truth, 128)
    poses = said.poses(truth.focal, 128, hand, make_table().points[truth.object_index])
    torch.testing.assert_close(hand(poses.hands).vertices, truth.vertices, atol=2e-5, rtol=0)
    torch.testing.assert_close(hand(poses.hands).joints[:, ROOT_JOINT], truth.root, atol=1e-6, rtol=0)
    torch.testing.assert_close(poses.object_position, truth.object_position, atol=1e-5, rtol=0)
    errors = PoseErrors.of(poses, truth, make_table(), hand).means()
    assert max(errors.values()) < 0.05
    loss = honet_loss(said, truth, make_table(), 128, hand)
    assert float(loss["loss"]) < 1e-2


def test_true_moments_mend_a_rotation_and_wrong_ones_cost(hand: HandModel) -> None:
    truth, table = TruePoses.of_batch(make_batch(), hand), make_table()
    table = replace(table, points=table.points * torch.tensor([0.3, 0.6, 1.2]))
    points = table.points[truth.object_index]
    moments = truth.object_rotation @ second_moments(points) @ truth.object_rotation.mT
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, -1.0]), dim=0)
    off = replace(perfect(truth, 128), object_rotation=truth.object_rotation @ axis_angle_to_matrix(0.6 * axis))
    told = replace(off, moments=10 * moments)
    found = (one.poses(truth.focal, 128, hand, points).object_rotation for one in (off, told))
    alone, mended = ((rotation - truth.object_rotation).norm() for rotation in found)
    assert float(mended) < 0.2 * float(alone)
    right, wrong, without = (
        honet_loss(one, truth, table, 128, hand)
        for one in (replace(off, moments=moments), replace(off, moments=-moments), off)
    )
    assert float(right["moments"]) < 1e-10
    assert float(wrong["loss"]) > float(right["loss"]) + 0.01
    torch.testing.assert_close(right["loss"], without["loss"])


def test_each_term_of_the_loss_sees_its_own_error(hand: HandModel) -> None:
    truth = TruePoses.of_batch(make_batch(), hand)
    said = perfect(truth, 128)
    base = honet_loss(said, truth, make_table(), 128, hand)
    moved = replace(said, object_place=said.object_place + torch.tensor([0.1, -0.3]))
    assert float(honet_loss(moved, truth, make_table(), 128, hand)["object_place"]) == pytest.approx(0.2, abs=1e-5)
    deeper = replace(said, depth=said.depth + 0.5)
    assert float(honet_loss(deeper, truth, make_table(), 128, hand)["depth"]) == pytest.approx(0.5, abs=1e-4)
    turn = torch.from_numpy(Rotation.from_rotvec([0, 0, math.pi / 2]).as_matrix().astype(np.float32))
    turned = honet_loss(replace(said, hand_rotation=turn @ said.hand_rotation), truth, make_table(), 128, hand)
    # |R - Q|^2 = 6 - 2 tr(R^T Q) = 4 (1 - cos angle)
    assert float(turned["hand_rotation"]) == pytest.approx(4.0, abs=1e-4)
    assert float(turned["hand_vertices"]) > float(base["hand_vertices"]) + 0.3
    assert float(turned["object_vertices"]) == pytest.approx(float(base["object_vertices"]), abs=1e-6)


def test_a_symmetric_object_may_be_told_either_way(hand: HandModel) -> None:
    over = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    truth = TruePoses.of_batch(make_batch(), hand)
    said = perfect(truth, 128)
    other = replace(said, object_rotation=said.object_rotation @ over)
    table = make_table(torch.stack([torch.eye(3), over]))
    assert float(honet_loss(other, truth, table, 128, hand)["object_rotation"]) < 1e-8
    assert float(honet_loss(other, truth, make_table(), 128, hand)["object_rotation"]) == pytest.approx(8.0, abs=1e-4)


def test_turned_and_magnified_crops_show_the_turned_and_magnified_scene(hand: HandModel) -> None:
    """The projection of the turned poses is the image of the projection; seen by a bright dot, too."""
    batch, turns, zooms = make_batch(), np.array([0.3, -2.0, 1.2, 3.0]), np.array([0.9, 1.1, 1.0, 1.05])
    before = TruePoses.of_batch(batch, hand)
    after = TruePoses.of_batch(turn_poses(batch, turns, zooms), hand)

    def project(points: torch.Tensor, focal: torch.Tensor) -> np.ndarray:
        return (points[..., :2] / points[..., 2:] * focal[:, None, None]).numpy()

    old, new = project(before.vertices, before.focal), project(after.vertices, after.focal)
    for row, (turn, zoom) in enumerate(zip(turns, zooms, strict=True)):
        flat = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        np.testing.assert_allclose(new[row], old[row] @ flat.T, atol=1e-2)
        image = np.zeros((101, 101, 3), np.uint8)
        image[40:43, 60:63] = 255  # the dot at (61, 41), from the middle (11, -9)
        seen = turn_image(image, turn, zoom)[..., 0].astype(float)
        y, x = np.mgrid[:101, :101]
        found = np.array([(x * seen).sum(), (y * seen).sum()]) / seen.sum() - 50
        np.testing.assert_allclose(found, flat @ [11, -9], atol=0.3)
    placed = before.object_position[:, None], after.object_position[:, None]
    old, new = project(placed[0], before.focal), project(placed[1], after.focal)
    np.testing.assert_allclose(np.linalg.norm(new, axis=2), zooms[:, None] * np.linalg.norm(old, axis=2), rtol=1e-4)


@pytest.mark.parametrize(
    ("images", "condition"),
    [((1, 3, 48, 48), (1, 5)), ((1, 3, 32, 32), None), ((1, 3, 32, 32), (1, 4))],
)
def test_other_sizes_are_refused(images: tuple[int, ...], condition: tuple[int, ...] | None) -> None:
    with pytest.raises(InputError, match="HoNet"):
        HoNet(TINY).eval()(torch.zeros(images), None if condition is None else torch.zeros(condition))
