"""Where hands are put: pairs on balls, boxes and cylinders, whose normals are known, and on a mug; palms on a ball."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from grasp_nodes.data.grasp_placement import (
    FINGER_CONE,
    MARCH_STEP,
    THUMB_CONE,
    against_palm,
    surface_pairs,
)
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.grasp_hand import GraspHand
from grasp_nodes.geometry.mesh import vertex_normals
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.pads import PALM, contact_patches
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.shapes import mug

BALL, BOX, MUG_RADIUS, MUG_WALL = 0.025, np.array([0.03, 0.05, 0.08]), 0.028, 0.004
ROD_RADIUS, ROD_LENGTH = 0.012, 0.24
GRID_ERROR = 0.0004
"""m, of the signed distance between its nodes."""


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def objects(own_cache):
    meshes = {
        "ball": trimesh.creation.icosphere(subdivisions=4, radius=BALL),
        "box": trimesh.creation.box(BOX),
        "rod": trimesh.creation.cylinder(ROD_RADIUS, ROD_LENGTH, sections=64),
        "mug": mug(MUG_RADIUS, 0.08, MUG_WALL),
    }
    return {name: make_object(np.array(mesh.vertices), np.array(mesh.faces), name) for name, mesh in meshes.items()}


def pairs(model, count=300, widest=0.09, seed=0, **more):
    center = torch.from_numpy(Solid.of(model).center_of_volume).float()
    found = surface_pairs(model, count, widest, torch.Generator().manual_seed(seed), center, **more)
    return found.thumb.double().numpy(), found.finger.double().numpy()


def lines(thumb, finger):
    return (finger - thumb) / np.linalg.norm(finger - thumb, axis=1, keepdims=True)


def angle(first, second):
    return np.arccos(np.clip((first * second).sum(axis=1), -1, 1))


def test_pairs_on_a_ball_oppose_each_other(objects):
    thumb, finger = pairs(objects["ball"])
    assert len(thumb) > 200
    np.testing.assert_allclose(np.linalg.norm(thumb, axis=1), BALL, atol=2e-4)
    np.testing.assert_allclose(np.linalg.norm(finger, axis=1), BALL, atol=MARCH_STEP + GRID_ERROR)
    line = lines(thumb, finger)
    assert angle(-line, thumb / BALL).max() < THUMB_CONE + 0.05
    assert angle(line, finger / BALL).max() < FINGER_CONE + 0.05
    # The lines spread about the normals, they are not all diameters.
    assert 0.05 < np.median(angle(-line, thumb / BALL)) < 0.35
    gap = np.linalg.norm(finger - thumb, axis=1)
    assert gap.max() < 2 * BALL + MARCH_STEP + GRID_ERROR
    assert gap.min() > 2 * BALL * np.cos(THUMB_CONE + 0.05) - MARCH_STEP


def test_pairs_on_a_box_lie_on_opposite_faces(objects):
    thumb, finger = pairs(objects["box"])
    assert len(thumb) > 200
    on_face = [np.abs(np.abs(points) - BOX / 2) for points in (thumb, finger)]
    assert on_face[0].min(axis=1).max() < 1e-5
    assert on_face[1].min(axis=1).max() < 1e-3
    line = lines(thumb, finger)
    inner = (np.sort(on_face[0], axis=1)[:, 1] > 0.004) & (np.sort(on_face[1], axis=1)[:, 1] > 0.004)
    assert inner.sum() > 100
    axis = [error[inner].argmin(axis=1) for error in on_face]
    np.testing.assert_array_equal(axis[0], axis[1])
    rows = np.arange(inner.sum())
    assert (np.sign(thumb[inner][rows, axis[0]]) == -np.sign(finger[inner][rows, axis[0]])).all()
    assert np.abs(line[inner][rows, axis[0]]).min() > np.cos(THUMB_CONE) - 1e-6
    assert set(axis[0]) == {0, 1, 2}


def test_wide_sides_are_left_out(objects):
    thumb, finger = pairs(objects["box"], widest=0.04)
    assert len(thumb) > 50
    assert np.linalg.norm(finger - thumb, axis=1).max() <= 0.04
    normal = np.abs(lines(thumb, finger)).argmax(axis=1)
    assert np.mean(normal == 0) > 0.9  # only the 3 cm side is narrow enough, but for corners
    thumb, finger = pairs(objects["ball"], widest=0.02)
    assert thumb.shape == finger.shape == (0, 3)


def test_pairs_near_the_centre_of_mass_are_preferred(objects):
    rod = objects["rod"]
    anywhere = np.median(np.abs(rod.points[:, 2]))
    assert anywhere > 0.05
    thumb, finger = pairs(rod, count=100, widest=0.06)
    near = np.median(np.abs((thumb + finger)[:, 2] / 2))
    assert near < 0.5 * anywhere
    indifferent = pairs(rod, count=100, widest=0.06, lever=100.0)
    assert np.median(np.abs((indifferent[0] + indifferent[1])[:, 2] / 2)) > 0.75 * anywhere
    # A heavy end draws them.
    at = torch.tensor([0.0, 0.0, 0.1])
    drawn = surface_pairs(rod, 100, 0.06, torch.Generator().manual_seed(0), at)
    assert drawn.thumb[:, 2].median() > 0.05
    torch.testing.assert_close(drawn.gap, (drawn.finger - drawn.thumb).norm(dim=1))


def test_a_mug_is_taken_by_its_wall_and_around_its_body(objects):
    model = objects["mug"]
    thumb, finger = pairs(model, count=500, widest=0.085)
    gap = np.linalg.norm(finger - thumb, axis=1)
    assert np.mean(gap < 2 * MUG_WALL) > 0.05
    assert np.mean(gap > 1.7 * MUG_RADIUS) > 0.05
    mesh = trimesh.Trimesh(model.vertices, model.faces, process=False)
    for points, error in ((thumb, 1e-4), (finger, MARCH_STEP + GRID_ERROR)):
        assert trimesh.proximity.closest_point(mesh, points)[1].max() < error
    # Just inside the skin there is material on both ends of the line.
    line = lines(thumb, finger)
    for inside in (thumb + 0.001 * line, finger - 0.0015 * line):
        assert mesh.contains(inside).mean() > 0.97
    closest, _, face = trimesh.proximity.closest_point(mesh, thumb)
    assert angle(-line, mesh.face_normals[face]).max() < THUMB_CONE + 1e-3
    np.testing.assert_allclose(closest, thumb, atol=1e-4)
    face = trimesh.proximity.closest_point(mesh, finger)[2]
    assert np.quantile(angle(line, mesh.face_normals[face]), 0.9) < FINGER_CONE + 0.05


def test_pairs_are_as_many_as_wanted_and_those_of_the_generator(objects):
    first, again, other = (pairs(objects["ball"], count=20, seed=seed) for seed in (1, 1, 2))
    assert len(first[0]) == 20
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


HAND = GraspHand(load_hand_model("right", OPEN_HAND_FILE))


def placed(model, count=64, tilt=0.0, gap=(-0.004, 0.008), hand=HAND, seed=0):
    angles = torch.zeros(count, len(hand.freedom.names))
    betas = torch.randn(count, 10, generator=torch.Generator().manual_seed(seed))
    return against_palm(model, angles, betas, torch.Generator().manual_seed(seed), gap, tilt)


@pytest.mark.parametrize("side", ["right", "left"])
def test_palms_look_at_the_surface(objects, side):
    hand = GraspHand(load_hand_model(side, OPEN_HAND_FILE))
    pose = placed(objects["ball"], hand=hand)
    torch.testing.assert_close(torch.linalg.det(pose.orient), torch.ones(64))
    vertices = hand.model(hand.params(pose)).vertices.numpy().astype(np.float64)
    patch = contact_patches(hand.model)[PALM]
    back = HAND.model.arrays.v_template[:, 1] > 0.008
    for one in vertices[:8]:
        normal = vertex_normals(one, hand.model.faces.numpy())[patch].mean(axis=0)
        center = one[patch].mean(axis=0)
        assert normal @ -center / np.linalg.norm(normal) / np.linalg.norm(center) > 0.8
        assert np.linalg.norm(one[patch], axis=1).mean() < np.linalg.norm(one[back], axis=1).mean()


def test_the_pivot_is_as_far_from_the_surface_as_asked(objects):
    for gap in ((-0.004, 0.008), (0.02, 0.03)):
        height = placed(objects["ball"], 200, gap=gap).position.norm(dim=1) - BALL
        assert height.min() > gap[0] - 2e-4
        assert height.max() < gap[1] + 2e-4
        assert height.max() - height.min() > 0.8 * (gap[1] - gap[0])


def test_hands_come_from_all_sides_with_all_rolls_and_tilt_as_told(objects):
    pose = placed(objects["ball"], 400)
    outward = torch.nn.functional.normalize(pose.position, dim=1)
    assert outward.mean(dim=0).norm() < 0.15
    upright = pose.orient[:, :, 1]  # out of the back of the hand
    # The facets of the ball are not its tangent planes.
    assert torch.acos((upright * outward).sum(dim=1).clamp(-1, 1)).max() < 0.06
    thumbs = pose.orient[:, :, 0]
    assert thumbs.mean(dim=0).norm() < 0.15
    tilted = placed(objects["ball"], 400, tilt=0.2)
    away = torch.acos((tilted.orient[:, :, 1] * torch.nn.functional.normalize(tilted.position, dim=1)).sum(dim=1))
    # Of three independent angles the two across the normal tilt: a Rayleigh distribution.
    assert away.square().mean().sqrt().item() == pytest.approx(0.2 * np.sqrt(2), rel=0.15)


def test_palms_are_those_of_the_generator(objects):
    first, again, other = (placed(objects["ball"], seed=seed, tilt=0.2) for seed in (1, 1, 2))
    for name in ("orient", "position", "angles", "betas", "rest"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.position, other.position)
    assert (first.rest == 0).all()
