"""The depth term, pairs of hands and the light meshes of the joint fit, on shapes with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import minimum_filter

from grasp_nodes.fitting.homan.depth_term import (
    ROBUST_WIDTH,
    SEE_THROUGH_REACH,
    SEE_THROUGH_TOLERANCE,
    DepthPoints,
    HandSurface,
    find_seen_through,
    hand_depth_loss,
    match_hand,
    object_depth_loss,
    posed_normals,
    see_through_loss,
)
from grasp_nodes.fitting.homan.observation import BLUR, read_images
from grasp_nodes.fitting.homan.proxies import make_proxy
from grasp_nodes.fitting.homan.variables import ObjectUnknowns
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.mesh import is_watertight, vertex_normals
from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.geometry.signed_distance import SignedDistanceGrid
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object
from grasp_nodes.perception.evidence import Evidence, ObservedFrame

CAMERA = CameraModel(np.array([[100.0, 0.0, 49.5], [0.0, 100.0, 39.5], [0.0, 0.0, 1.0]]), 100, 80)


def sphere_field(radius: float) -> SignedDistanceGrid:
    axis = torch.linspace(-0.1, 0.1, 81)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return SignedDistanceGrid(grid.norm(dim=-1) - radius, torch.full((3,), -0.1), 0.2 / 80)


def robust(distance: float) -> float:
    return distance**2 / (1 + (distance / ROBUST_WIDTH) ** 2)


@pytest.mark.parametrize("scale", [1.0, 1.2])
@pytest.mark.parametrize("beyond", [-0.003, 0.0, 0.002, 0.02])
def test_points_beside_a_sphere(beyond: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, 50, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    place = torch.tensor([[0.1, -0.1, 0.6], [0.0, 0.2, 0.5]])
    points = torch.from_numpy((0.05 * scale + beyond) * directions).float() + place[:, None]
    weight = torch.full((2, 50), 1 / 50)
    weight[1] = 0
    item = ObjectUnknowns(place, random_rotations(2, generator=torch.Generator().manual_seed(0)), torch.tensor(scale))
    loss = object_depth_loss(DepthPoints(points, weight), item, sphere_field(0.05))
    assert float(loss[0]) == pytest.approx(robust(beyond), rel=0.05, abs=2e-8)
    assert float(loss[1]) == 0


def test_skin_points_above_the_triangles_of_a_hand() -> None:
    model = load_hand_model("right", OPEN_HAND_FILE)
    params = HandParams.zeros(2)
    params.transl[:, 2] = 0.5
    vertices = model(params).vertices
    surface = HandSurface.of_faces(model.faces.numpy(), model.num_vertices)
    normals = posed_normals(vertices.numpy(), surface.faces)
    expected = vertex_normals(vertices[0].double().numpy(), surface.faces)
    assert (normals[0] * expected).sum(-1).min() > 0.8  # weighted by area here, by angle there
    corners = vertices[:, model.faces]
    middle = corners.mean(2)
    toward = torch.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0], dim=-1)
    toward = toward / toward.norm(dim=-1, keepdim=True)
    clear = ((middle * toward).sum(-1) < -0.2)[0] & ~torch.from_numpy(surface.on_rim[surface.faces].any(axis=1))
    chosen = clear.nonzero()[::4, 0]
    lifted = middle[:, chosen] + 0.001 * toward[:, chosen]
    measured = DepthPoints(lifted, torch.full(lifted.shape[:2], 1 / len(chosen)))
    match = match_hand(measured, vertices.numpy(), normals, surface)
    loss = hand_depth_loss(measured, match, vertices)
    assert loss.numpy() == pytest.approx(robust(0.001), rel=0.15)
    # Moving the hand out by the same millimetre along the viewing rays nearly explains the points.
    assert hand_depth_loss(measured, match, vertices - torch.tensor([0.0, 0.0, 0.001])).max() < 0.5 * loss.min()


def test_points_far_from_the_hand_and_at_its_rim_do_not_count() -> None:
    model = load_hand_model("right", OPEN_HAND_FILE)
    params = HandParams.zeros(1)
    params.transl[:, 2] = 0.5
    vertices = model(params).vertices
    surface = HandSurface.of_faces(model.faces.numpy(), model.num_vertices)
    rim = vertices[:, torch.from_numpy(surface.on_rim)]
    points = torch.cat([rim, torch.tensor([[[0.0, 0.3, 0.5]]])], 1)
    measured = DepthPoints(points, torch.ones(points.shape[:2]))
    match = match_hand(measured, vertices.numpy(), posed_normals(vertices.numpy(), surface.faces), surface)
    assert match.weight[0, -1] == 0
    assert match.weight.sum() <= 0.5 * len(rim[0])  # those whose nearest vertex on the seen side lies inwards


def test_only_surfaces_before_a_measured_plane_contradict_it() -> None:
    depth = np.full((1, 80, 100), 0.5, np.float32)
    depth[:, :, 80:] = 0
    toward = np.tile(np.array([0.0, 0.0, -1.0], np.float32), (1, 6, 1))
    toward[0, 5, 2] = 1.0
    z = np.array([0.49, 0.51, 0.5 - 0.5 * SEE_THROUGH_TOLERANCE, 0.49 - SEE_THROUGH_REACH, 0.49, 0.49], np.float32)
    x = np.array([0, 0, 0, 0, 0.4, 0], np.float32) * z  # the fifth: no measurement there
    vertices = np.stack([x, np.zeros(6, np.float32), z], -1)[None]
    seen = find_seen_through(CAMERA, depth, np.ones(1, bool), vertices, toward)
    assert (seen.weight[0] > 0).tolist() == [True, False, False, False, False, False]
    place = torch.from_numpy(vertices).requires_grad_(True)
    loss = see_through_loss(seen, place).sum()
    assert float(loss.detach()) == pytest.approx(robust(0.01 - SEE_THROUGH_TOLERANCE) / 5, rel=1e-3)
    loss.backward()
    assert place.grad is not None
    assert place.grad[0, 0, 2] < 0
    inactive = find_seen_through(CAMERA, depth, np.zeros(1, bool), vertices, toward)
    assert float(inactive.weight.sum()) == 0


def test_nearest_depth_has_holes_where_nothing_is_measured_even_at_the_border() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 5.0, (CAMERA.height, CAMERA.width)).astype(np.float32)
    depth[:20, 30:60], depth[50:70, 40:65], depth[70:, :15] = 0.0, np.nan, np.inf
    images = read_images([ObservedFrame(Evidence(0, CAMERA), depth)], use_depth=True)
    assert images.nearest is not None
    known = np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)
    expected = minimum_filter(known, 2 * BLUR + 1, mode="constant", cval=np.inf)
    assert np.isinf(expected[0]).any()
    assert np.array_equal(images.nearest[0], np.where(np.isinf(expected), 0, expected))


def test_light_mesh_is_closed_small_and_near() -> None:
    model = load_object("family:bottle:3", resolution=32)
    assert len(model.faces) > 1000
    proxy = make_proxy(model, most_faces=600)
    assert len(proxy.faces) <= 600
    assert is_watertight(proxy.faces)
    surface = MeshDistance(model.vertices.astype(np.float64), model.faces)
    assert surface.unsigned(proxy.vertices.double().numpy())[0].max() < 0.002
    whole = make_proxy(model, most_faces=10**6)
    assert len(whole.faces) == len(model.faces)
