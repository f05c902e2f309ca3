"""Pre-shapes of the hand: apertures, opposition, placement and mirror image, on the open hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.self_penetration import SelfPenetration
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy, mirror_pose
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, closed_faces
from grasp_nodes.hand.kinds import KINDS
from grasp_nodes.hand.naturalness import is_natural, unnaturalness
from grasp_nodes.hand.pads import INDEX_SIDE, PALM, contact_patches, patch_contact
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.preshapes import PRESHAPES, HandPreshapes, angles, palmward

SIDES = ("right", "left")
MODELS = {side: load_hand_model(side, OPEN_HAND_FILE, torch.float64) for side in SIDES}
HANDS = {side: HandPreshapes.of_model(MODELS[side]) for side in SIDES}
CLOSINGS = torch.linspace(0, 1, 13, dtype=torch.float64)
PADS = ("precision", "tripod", "pinch", "lateral")
APERTURES_MM = {"power": (22, 98), "precision": (10, 88), "tripod": (4, 60), "pinch": (3, 58), "lateral": (2, 29)}
"""What the families must reach, from closed to wide open."""
MIRROR = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


def posed(side, kind, closing=CLOSINGS, curl=1.0):
    params = HandParams.zeros(len(closing), side, torch.float64)
    return MODELS[side](replace(params, hand_pose=HANDS[side].hand_pose(angles(kind, closing, curl))))


def opposition(side, kind, hands):
    return HANDS[side].opposition(kind, hands.vertices, hands.joints)


def turn(axis_angle, points):
    return torch.from_numpy(Rotation.from_rotvec(axis_angle).apply(points))


@pytest.mark.parametrize("side", SIDES)
def test_patches_lie_on_their_bones_and_face_the_palm_or_the_thumb(side):
    model, patches = MODELS[side], contact_patches(MODELS[side])
    part = model.arrays.weights.argmax(axis=1)
    rest = model(HandParams.zeros(1, side, torch.float64)).vertices
    assert set(part[patches[PALM]]) == {0}
    assert set(part[patches[INDEX_SIDE]]) <= set(FINGER_JOINTS["index"][1:])
    for finger in FINGERS:
        assert set(part[patches[f"{finger}_pad"]]) == {FINGER_JOINTS[finger][2]}
        assert patch_contact(rest, model.faces, patches[f"{finger}_pad"])[1][0, 1] < -0.4  # the palm looks to -y
    assert patch_contact(rest, model.faces, patches[INDEX_SIDE])[1][0, 2] > 0.8  # the thumb is at +z
    assert contact_patches(model) is patches
    for name, ids in contact_patches(MODELS["right"]).items():
        np.testing.assert_array_equal(ids, patches[name])


def test_a_flat_surface_touches_a_patch_at_its_highest_vertex():
    model = MODELS["right"]
    hands = posed("right", "power")
    patch = contact_patches(model)["middle_pad"]
    point, normal = patch_contact(hands.vertices, model.faces, patch)
    height = ((hands.vertices[:, patch] - point[:, None]) * normal[:, None]).sum(-1)
    torch.testing.assert_close(height.amax(1), torch.zeros(len(CLOSINGS), dtype=torch.float64))
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(len(CLOSINGS), dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_the_aperture_falls_from_wide_open_to_closed(kind):
    apertures = opposition("right", kind, posed("right", kind, torch.linspace(0, 1, 101, dtype=torch.float64))).aperture
    assert (apertures.diff() < 0).all()
    smallest, largest = APERTURES_MM[kind]
    assert 0 < apertures[-1] * 1e3 < smallest
    assert apertures[0] * 1e3 > largest
    table = HANDS["right"].aperture(kind, torch.linspace(0, 1, 101, dtype=torch.float64))
    torch.testing.assert_close(table, apertures, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_is_the_inverse_of_aperture_and_stays_in_range(kind):
    hand = HANDS["right"]
    torch.testing.assert_close(hand.closing(kind, hand.aperture(kind, CLOSINGS)), CLOSINGS, atol=1e-9, rtol=0)
    beyond = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(hand.closing(kind, beyond), torch.tensor([1.0, 0.0], dtype=torch.float64))
    low, high = hand.aperture_range(kind)
    assert (low, high) == (hand.aperture(kind, CLOSINGS[-1:]).item(), hand.aperture(kind, CLOSINGS[:1]).item())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("curl", [0.0, 0.5, 1.0])
def test_hands_are_within_limits_natural_and_not_in_themselves(kind, curl):
    freedom = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(MODELS["right"]))
    values = angles(kind, CLOSINGS, curl)
    assert (values >= torch.from_numpy(freedom.low) - 1e-6).all()
    assert (values <= torch.from_numpy(freedom.high) + 1e-6).all()
    assert unnaturalness(values, kind).max() < 0.01
    assert is_natural(values, kind, tolerance=np.deg2rad(1.0)).all()
    model = MODELS["right"]
    depth = SelfPenetration(closed_faces(model.arrays.faces), model.arrays.weights)
    assert depth(posed("right", kind, CLOSINGS, curl).vertices.numpy()).max() < 0.002


@pytest.mark.parametrize("kind", PADS)
def test_pads_face_each_other(kind):
    hands = posed("right", kind)
    found = opposition("right", kind, hands)
    assert (torch.rad2deg(torch.arccos(found.facing)) > 128).all()
    # Independent of `opposition`: the vertices of both pads nearest to each other lie where it says.
    patches = contact_patches(MODELS["right"])
    thumb = hands.vertices[-1, patches["thumb_pad"]]
    others = hands.vertices[-1, np.concatenate([patches[name] for name in PRESHAPES[kind].opposing[1]])]
    assert torch.cdist(thumb, others).min() < found.aperture[-1] + 0.006


def test_a_fist_surrounds_the_cylinder_it_is_said_to_hold():
    hands = posed("right", "power")
    found = opposition("right", "power", hands)
    patches = contact_patches(MODELS["right"])
    inner = [patches[f"{f}_{part}"] for f in FINGERS[1:] for part in ("proximal", "middle", "pad")]
    local = (hands.vertices - found.frame[:, None, :3, 3]) @ found.frame[:, :3, :3]
    distance = torch.stack([local[:, ids, :2].norm(dim=-1).amin(dim=1) for ids in inner], dim=1)
    assert (distance - found.aperture[:, None] / 2).abs().max() < 0.012
    palm = local[:, patches[PALM], :2].norm(dim=-1).amin(dim=1)
    assert (palm - found.aperture / 2).abs().max() < 0.012
    assert (local[:, patches[PALM], 1].mean(dim=1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_frames_are_rigid_and_look_from_thumb_to_fingers_and_palm(kind, side):
    hands = posed(side, kind)
    frame = opposition(side, kind, hands).frame
    turned = frame[:, :3, :3]
    torch.testing.assert_close(turned.transpose(1, 2) @ turned, torch.eye(3).to(turned).expand_as(turned))
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(len(turned), dtype=turned.dtype))
    patches = contact_patches(MODELS[side])
    local = (hands.vertices - frame[:, None, :3, 3]) @ turned
    assert (local[:, patches[PALM], 1].mean(dim=1) > 0).all()
    if kind != "power":
        assert (local[:, patches["thumb_pad"], 0].mean(dim=1) < 0.001).all()


@pytest.mark.parametrize("kind", KINDS)
def test_left_hands_are_mirror_images(kind):
    right, left = (posed(side, kind) for side in SIDES)
    torch.testing.assert_close(left.vertices, right.vertices * MIRROR)
    first, second = opposition("right", kind, right), opposition("left", kind, left)
    torch.testing.assert_close(first.aperture, second.aperture)
    torch.testing.assert_close(first.facing, second.facing)
    torch.testing.assert_close(second.frame[:, :3, 3], first.frame[:, :3, 3] * MIRROR)
    for axis, sign in ((0, 1), (1, 1), (2, -1)):  # a mirror turns the handedness: z looks the other way
        torch.testing.assert_close(second.frame[:, :3, axis], sign * first.frame[:, :3, axis] * MIRROR)
    pose = HANDS["right"].hand_pose(angles(kind, CLOSINGS)).numpy()
    np.testing.assert_allclose(HANDS["left"].hand_pose(angles(kind, CLOSINGS)).numpy(), mirror_pose(pose), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_placed_hands_oppose_the_points_given(kind, side):
    generator = torch.Generator().manual_seed(3)
    thumb, way = 0.3 * torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    betas = torch.randn(6, 10, generator=generator, dtype=torch.float64)
    up = palmward(way, torch.linspace(0, 6, 6, dtype=torch.float64))
    hand = HANDS[side]
    closing = torch.linspace(0, 1, 6, dtype=torch.float64)
    params, fingers = hand.placed(kind, closing, thumb, thumb + way, up, betas)
    out = MODELS[side](params)
    found = hand.opposition(kind, out.vertices, out.joints)
    torch.testing.assert_close(found.frame[:, :3, 3], thumb + way / 2, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.frame[:, :3, 0], way / way.norm(dim=1, keepdim=True), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.frame[:, :3, 1], up, atol=1e-9, rtol=0)
    torch.testing.assert_close(fingers, angles(kind, closing))


def test_rolls_go_around_the_axis():
    axis = torch.tensor([[0.0, 0.0, 2.0], [1.0, -1.0, 0.5]], dtype=torch.float64).repeat_interleave(3, 0)
    roll = torch.tensor([0.0, 0.7, 2.0] * 2, dtype=torch.float64)
    found = palmward(axis, roll)
    for k in (0, 3):
        for j in (1, 2):
            unit = (axis[k] / axis[k].norm()).numpy()
            torch.testing.assert_close(found[k + j], turn(unit * roll[k + j].item(), found[k].numpy()))
    torch.testing.assert_close((found * axis).sum(-1), torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)


def test_angles_pass_through_the_key_poses_and_stop_at_the_ends():
    keys = PRESHAPES["tripod"].angles[1].double()
    torch.testing.assert_close(angles("tripod", torch.linspace(0, 1, len(keys), dtype=torch.float64)), keys)
    torch.testing.assert_close(angles("tripod", torch.tensor([-1.0, 2.0], dtype=torch.float64)), keys[[0, -1]])


def test_only_the_resting_fingers_of_a_pinch_curl():
    half = torch.full((2,), 0.5)
    open_, curled = angles("pinch", half, torch.tensor([0.0, 1.0]))
    moved = {name for name, a, b in zip(HANDS["right"].freedom.names, open_, curled, strict=True) if a != b}
    assert {name.split("_")[0] for name in moved} == set(PRESHAPES["pinch"].relaxed)
    torch.testing.assert_close(angles("pinch", half, 0.5)[0], (open_ + curled) / 2)


def test_every_finger_has_one_part_to_play():
    for family in PRESHAPES.values():
        assert sorted((*family.required, *family.optional, *family.relaxed)) == sorted(FINGERS)
        assert {"thumb", "index"} <= set(family.required)
        assert set(family.opposing[1]) <= set(contact_patches(MODELS["right"]))


def test_bad_input_is_refused():
    hand, one = HANDS["right"], torch.ones(1, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="expected one of power"):
        angles("hook", torch.zeros(1))
    with pytest.raises(InputError, match="two different points"):
        hand.placed("pinch", CLOSINGS[:1], one, one, one)
    with pytest.raises(InputError, match="across their line"):
        hand.placed("pinch", CLOSINGS[:1], 0 * one, one, one)
