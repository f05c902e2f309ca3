"""Hands in the variables of the grasp search, against the hand model and the measured self-penetration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.self_penetration import SelfPenetration
from grasp_nodes.fitting.grasp_hand import GraspHand, GraspPose
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams

MODELS = {side: load_hand_model(side, OPEN_HAND_FILE, torch.float64) for side in ("right", "left")}
HANDS = {side: GraspHand(model) for side, model in MODELS.items()}
MIRROR = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


def random_hands(side, count=6, seed=0):
    """Any MANO poses: twisted and spread joints, too, which no angle of the search can say."""
    rng = np.random.default_rng(seed)
    return HandParams(
        torch.from_numpy(Rotation.random(count, random_state=seed).as_rotvec()),
        torch.from_numpy(rng.normal(0.0, 0.5, (count, 45))),
        torch.from_numpy(rng.normal(0.0, 1.0, (count, 10))),
        torch.from_numpy(rng.normal(0.0, 0.2, (count, 3))),
        torch.ones(count, dtype=torch.float64),
        side,
    )


def bent(side="right", **degrees):
    """One flat hand with some angles, deg, where the model's own zero pose is."""
    hand = HANDS[side]
    angles = torch.from_numpy(hand.freedom.values(**degrees))[None]
    return hand.pose(HandParams.zeros(1, side, torch.float64)).with_angles(angles)


def overlap(pose, side="right"):
    return HANDS[side].spheres.overlap(HANDS[side].spheres.centres(HANDS[side].posed(pose)[1]))


@pytest.mark.parametrize("side", ["right", "left"])
def test_any_hand_comes_back(side):
    hands, hand = random_hands(side), HANDS[side]
    back = hand.params(hand.pose(hands))
    assert back.side == side
    for name in ("hand_pose", "betas", "transl", "scale"):
        torch.testing.assert_close(getattr(back, name), getattr(hands, name), atol=1e-9, rtol=0)
    # The same turn may have another rotation vector.
    np.testing.assert_allclose(
        Rotation.from_rotvec(back.global_orient.numpy()).as_matrix(),
        Rotation.from_rotvec(hands.global_orient.numpy()).as_matrix(),
        atol=1e-9,
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_posed_hands_are_those_of_the_model(side):
    hands, hand = random_hands(side), HANDS[side]
    vertices, keypoints = hand.posed(hand.pose(hands))
    truth = MODELS[side](hands)
    torch.testing.assert_close(vertices, truth.vertices, atol=1e-9, rtol=0)
    torch.testing.assert_close(keypoints, truth.keypoints, atol=1e-9, rtol=0)


def test_angles_and_the_rest_make_the_pose_and_hands_of_angles_have_no_rest():
    hand = HANDS["right"]
    generator = torch.Generator().manual_seed(1)
    angles = torch.randn(4, len(hand.freedom.names), generator=generator, dtype=torch.float64)
    hands = replace(random_hands("right", 4), hand_pose=torch.from_numpy(hand.freedom.pose(angles.numpy())))
    pose = hand.pose(hands)
    torch.testing.assert_close(pose.angles, angles, atol=1e-9, rtol=0)
    assert pose.rest.abs().max() < 1e-9
    strange = hand.pose(random_hands("right", 4))
    assert strange.rest.abs().max() > 0.1
    # New angles leave alone what angles cannot say: undoing them gives the first hand back.
    there = hand.params(strange.with_angles(strange.angles + 0.3))
    np.testing.assert_allclose(
        there.hand_pose - hand.params(strange).hand_pose,
        hand.freedom.pose(np.full(strange.angles.shape, 0.3)),
        atol=1e-9,
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_turn_leaves_the_pivot_and_turns_everything_about_it(side):
    hands, hand = random_hands(side), HANDS[side]
    pose = hand.pose(hands)
    turn = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = pose.moved(pose.angles, turn, torch.zeros(6, 3, dtype=torch.float64))
    torch.testing.assert_close(moved.position, pose.position)
    before, after = (MODELS[side](hand.params(one)).vertices.numpy() for one in (pose, moved))
    about = pose.position.numpy()[:, None]
    rotation = Rotation.from_rotvec(turn.numpy()).as_matrix()
    np.testing.assert_allclose(after - about, (before - about) @ rotation.transpose(0, 2, 1), atol=1e-9)
    shift = torch.full((6, 3), 0.01, dtype=torch.float64)
    shifted = MODELS[side](hand.params(pose.moved(pose.angles, 0 * turn, shift))).vertices.numpy()
    np.testing.assert_allclose(shifted, before + 0.01, atol=1e-9)


def test_the_pivot_lies_in_the_hollow_of_the_palm_and_mirrors():
    flat = MODELS["right"](HandParams.zeros(1, "right", torch.float64))
    pivot, knuckle, wrist = HANDS["right"].pivot, flat.keypoints[0, 9], flat.keypoints[0, 0]
    assert (pivot - knuckle).norm() < 0.03
    assert (pivot - knuckle).norm() < (pivot - wrist).norm()
    # Bent fingers close around it.
    fist = bent(**{f"{finger}_bend_{k}": 80 for finger in ("index", "middle", "ring", "little") for k in range(2)})
    tips = HANDS["right"].posed(fist)[1][0, [8, 12, 16, 20]]
    assert (tips - pivot).norm(dim=1).max() < 0.06
    assert (flat.keypoints[0, [8, 12, 16]] - pivot).norm(dim=1).min() > 0.09
    torch.testing.assert_close(HANDS["left"].pivot, pivot * MIRROR, atol=1e-9, rtol=0)


def test_scaled_hands_are_refused():
    hands = random_hands("right", 2)
    with pytest.raises(InputError, match="scale 1"):
        HANDS["right"].pose(replace(hands, scale=1.1 * hands.scale))


def test_rows_repeats_and_joins():
    pose = HANDS["right"].pose(random_hands("right"))
    fields = ("angles", "orient", "position", "betas", "rest")
    twice = pose.repeated(2)
    assert len(twice) == 12
    chosen = pose[torch.tensor([4, 1])]
    joined = GraspPose.joined([pose[:2], pose[2:3], pose[3:]])
    for name in fields:
        truth = getattr(pose, name)
        np.testing.assert_array_equal(getattr(twice, name), np.repeat(truth.numpy(), 2, axis=0))
        np.testing.assert_array_equal(getattr(chosen, name), truth.numpy()[[4, 1]])
        np.testing.assert_array_equal(getattr(joined, name), truth)
    assert len(GraspPose.joined([pose[:0], pose])) == 6


@pytest.mark.parametrize("side", ["right", "left"])
def test_spheres_touch_the_skin_from_inside(side):
    hand, model = HANDS[side], MODELS[side]
    flat = model(HandParams.zeros(1, side, torch.float64))
    vertices, spheres = flat.vertices[0].numpy(), hand.spheres
    centres = spheres.centres(flat.keypoints)[0].numpy()
    nearest = np.linalg.norm(centres[:, None] - vertices, axis=2).min(axis=1)
    np.testing.assert_allclose(spheres.radius, nearest, atol=1e-12)
    assert nearest.max() < 0.02
    mesh = trimesh.Trimesh(vertices, closed_faces(model.faces.numpy()), process=False)
    to_skin = trimesh.proximity.signed_distance(mesh, centres)  # positive inside
    assert (to_skin > 0).all()
    # Between vertices the skin may be a little nearer than they are.
    assert (nearest - to_skin < 0.0025).all()
    assert overlap(hand.pose(HandParams.zeros(1, side, torch.float64)), side).max() <= 0


def test_spheres_belong_to_every_finger_and_are_not_compared_within_one():
    spheres = HANDS["right"].spheres
    finger = np.where(spheres.first.numpy() == 0, 5, (spheres.first.numpy() - 1) // 4)
    assert np.bincount(finger).tolist() == [7, 7, 7, 7, 7, 12]
    one, other = spheres.pairs.numpy()
    assert (finger[one] < finger[other]).all()
    assert {(a, b) for a, b in zip(finger[one], finger[other], strict=True)} == {
        (a, b) for a in range(6) for b in range(a + 1, 6)
    }


THROUGH = {
    "index through middle": {"index_spread": 14, "middle_spread": -14},
    "thumb through palm": {"thumb_bend_0": 56, "thumb_spread": 12, "thumb_twist": -53, "thumb_bend_1": 67},
    "fingers through palm": {
        f"{finger}_bend_{k}": angle for finger in ("index", "middle", "ring") for k, angle in enumerate((100, 100, 20))
    },
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("case", THROUGH)
def test_a_hand_in_itself_overlaps_where_its_skin_does(case, side):
    hand, model = HANDS[side], MODELS[side]
    measure = SelfPenetration(closed_faces(model.arrays.faces), model.arrays.weights)
    inside, flat = bent(side, **THROUGH[case]), bent(side)
    depth = measure(torch.cat([hand.posed(inside)[0], hand.posed(flat)[0]]).numpy())
    assert depth[0] > 0.003
    assert depth[1] == 0
    found = overlap(inside, side)
    assert found.max() > 0.002
    # No sphere is out of the skin: spheres are in each other at most as deep as the hand is thick there.
    assert found.max() < 2 * hand.spheres.radius.max()


def test_overlap_is_that_of_two_balls():
    spheres = HANDS["right"].spheres
    centres = torch.zeros(1, len(spheres.radius), 3, dtype=torch.float64)
    centres[0, :, 0] = torch.arange(len(spheres.radius), dtype=torch.float64)  # 1 m from each other
    one, other = spheres.pairs[:, 0]
    centres[0, other] = centres[0, one] + torch.tensor([0.0, 0.003, 0.004], dtype=torch.float64)
    found = spheres.overlap(centres)[0]
    assert found[0].item() == pytest.approx((spheres.radius[one] + spheres.radius[other] - 0.005).item())
    apart = ((spheres.pairs != one) & (spheres.pairs != other)).all(dim=0)
    assert found[apart].max() < -0.9
