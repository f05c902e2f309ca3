"""The shipped open hand: frozen, well made, and what its generator says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.errors import MissingDependencyError
from grasp_nodes.hand import files
from grasp_nodes.hand.keypoints import (
    FINGERS,
    PARENTS,
    SECOND_TIP_VERTICES,
    TIP_VERTICES,
    WRIST_LOOP,
    closed_faces,
)
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.open_hand.assemble import mano_numbering
from grasp_nodes.hand.open_hand.field import HandField
from grasp_nodes.hand.open_hand.pose_space import pose_space
from grasp_nodes.hand.open_hand.proportions import Proportions, build_skeleton
from grasp_nodes.hand.open_hand.remesh import remesh_hand
from grasp_nodes.hand.open_hand.skinning import bone_heat_weights
from grasp_nodes.hand.open_hand.surgery import CutMesh, rim_edges, rim_loop
from grasp_nodes.hand.parameters import HandParams, Side

FROZEN: dict[Side, str] = {
    "right": "574bf07208920a2f83050a22051edefe134f762f0c1b63a444e0d3a13348ff63",
    "left": "2a74d382dfcc0497d028b45291fe550b64f0df21b9f5bff030f5b2ffd0d0dd88",
}
HAND = files.load_hand_arrays("right", files.OPEN_HAND_FILE)


def corner_angles(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) degrees."""
    corners = vertices[faces]
    u, v = np.roll(corners, -1, 1) - corners, np.roll(corners, 1, 1) - corners
    cosine = (u * v).sum(2) / (np.linalg.norm(u, axis=2) * np.linalg.norm(v, axis=2))
    return np.degrees(np.arccos(cosine))


@pytest.mark.parametrize("side", ["right", "left"])
def test_v1_is_frozen(side: Side) -> None:
    """Data and weights carry this fingerprint: another hand needs another id."""
    model = files.load_hand_model(side, files.OPEN_HAND_FILE)
    assert model.model_id == "open_hand_v1"
    assert model.fingerprint == FROZEN[side]


def test_the_file_is_small_and_plain() -> None:
    assert files.OPEN_HAND_FILE.stat().st_size <= 2_000_000
    with np.load(files.OPEN_HAND_FILE, allow_pickle=False) as data:
        assert str(data["fingerprint"]) == FROZEN["right"]
        assert str(data["licence"]).startswith("CC0-1.0")


def test_one_disk_with_a_rim_of_16() -> None:
    assert HAND.v_template.shape == (778, 3)
    assert HAND.faces.shape == (1538, 3)
    mesh = trimesh.Trimesh(HAND.v_template, HAND.faces, process=False)
    assert mesh.euler_number == 1
    assert mesh.body_count == 1
    assert mesh.is_winding_consistent
    assert sorted(rim_loop(HAND.faces)) == sorted(WRIST_LOOP)
    pairs = {frozenset(pair) for pair in zip(WRIST_LOOP, (*WRIST_LOOP[1:], WRIST_LOOP[0]), strict=True)}
    assert {frozenset(edge) for edge in rim_edges(HAND.faces).tolist()} == pairs


@pytest.mark.parametrize("side", ["right", "left"])
def test_closed_at_the_wrist_it_is_a_solid_of_a_hands_volume(side: Side) -> None:
    arrays = files.load_hand_arrays(side)
    solid = trimesh.Trimesh(arrays.v_template, closed_faces(arrays.faces), process=False)
    assert len(solid.faces) == 1538 + 14
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert 250e-6 < solid.volume < 400e-6  # m3; positive: wound outwards
    assert solid.area_faces.min() > 0


def test_triangles_are_well_shaped_and_fine_where_it_bends() -> None:
    angles = corner_angles(HAND.v_template, HAND.faces).min(1)
    assert angles.min() > 20
    assert np.percentile(angles, 5) > 35
    assert angles.mean() > 48
    mesh = trimesh.Trimesh(HAND.v_template, HAND.faces, process=False)
    middles = HAND.v_template[mesh.edges_unique].mean(1)
    field = HandField()
    for one, other in (("index", "middle"), ("middle", "ring"), ("ring", "little")):
        web = field.web_centre(one, other) * 1e-3
        near = np.linalg.norm(middles - web, axis=1) < 8e-3
        assert np.median(mesh.edges_unique_length[near]) < 4.6e-3
    assert (np.bincount(mesh.edges_unique.ravel()) == 6).mean() > 0.65


def test_size_frame_and_landmarks() -> None:
    joints = HAND.J_regressor @ HAND.v_template
    tips = {finger: HAND.v_template[TIP_VERTICES[finger]] for finger in FINGERS}
    length = np.linalg.norm(tips["middle"] - joints[0])
    assert 0.17 < length < 0.20  # ANSUR II: 189 mm on average
    assert 0.07 < abs(joints[1, 2] - joints[7, 2]) + 0.022 < 0.09
    assert tips["middle"][0] < joints[4, 0] < joints[0, 0]  # fingers along -x
    assert tips["thumb"][2] > tips["index"][2] > tips["little"][2]  # thumb at +z
    for finger, tip in tips.items():
        second = HAND.v_template[SECOND_TIP_VERTICES[finger]]
        assert np.linalg.norm(second - tip) < 8e-3
        expected = build_skeleton(Proportions()).tips[finger] * 1e-3
        nearest = np.argsort(np.linalg.norm(HAND.v_template - expected, axis=1))[:2]
        assert nearest.tolist() == [TIP_VERTICES[finger], SECOND_TIP_VERTICES[finger]]
    inside = trimesh.Trimesh(HAND.v_template, closed_faces(HAND.faces), process=False)
    assert trimesh.proximity.signed_distance(inside, joints).min() > 4e-3


def test_positive_rotation_about_z_curls_the_fingers_to_the_palm() -> None:
    model = HandModel(HAND)
    pose = torch.zeros(1, 45)
    pose[0, 2:36:3] = 1.0  # z of every joint but the thumb's
    curled = model(_with_pose(pose)).keypoints[0]
    flat = model(HandParams.zeros()).keypoints[0]
    assert bool((curled[[8, 12, 16, 20], 1] < flat[[8, 12, 16, 20], 1] - 0.02).all())


def _with_pose(pose: torch.Tensor) -> HandParams:
    zero = HandParams.zeros(len(pose))
    return HandParams(zero.global_orient, pose, zero.betas, zero.transl, zero.scale)


def test_weights_and_regressor() -> None:
    for rows in (HAND.weights, HAND.J_regressor):
        assert rows.min() >= 0
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    assert (HAND.weights > 0).sum(1).max() <= 5
    joints = build_skeleton(Proportions()).joints * 1e-3
    np.testing.assert_allclose(HAND.J_regressor @ HAND.v_template, joints, atol=2e-4)
    for finger, tip in TIP_VERTICES.items():
        assert HAND.weights[tip].argmax() == {"thumb": 15, "index": 3, "middle": 6, "ring": 12, "little": 9}[finger]
    np.testing.assert_array_equal(HAND.weights[list(WRIST_LOOP)].argmax(1), 0)
    # every joint moves something, and a joint's influence stays within its own finger and its parent's
    owner = HAND.weights.argmax(1)
    assert set(owner.tolist()) == set(range(16))
    finger_of = np.array([-1, *([0] * 3), *([1] * 3), *([2] * 3), *([3] * 3), *([4] * 3)])
    ends = [j for j in range(1, 16) if j not in PARENTS]
    for j in ends:
        moved = finger_of[owner[HAND.weights[:, j] > 0.2]]
        assert set(moved.tolist()) == {finger_of[j]}


def test_shapes_are_ordered_and_plausible() -> None:
    rms = np.sqrt((HAND.shapedirs**2).sum(1).mean(0))
    assert (np.diff(rms) < 1e-9).all()
    assert rms[0] > 4e-3
    assert rms[-1] > 5e-5
    assert not HAND.posedirs.any()
    faces = HAND.faces
    normals = trimesh.triangles.normals(HAND.v_template[faces])[0]
    for k in range(10):
        for beta in (-3.0, 3.0):
            shaped = HAND.v_template + beta * HAND.shapedirs[:, :, k]
            assert corner_angles(shaped, faces).min() > 8
            turned = trimesh.triangles.normals(shaped[faces])[0]
            assert (normals * turned).sum(1).min() > 0.5  # no triangle turns over
    larger = HAND.v_template + HAND.shapedirs[:, :, 0]
    assert np.ptp(larger, axis=0)[0] > np.ptp(HAND.v_template, axis=0)[0]


def test_pose_components() -> None:
    components = HAND.hands_components
    np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-6)
    skeleton = build_skeleton(Proportions())
    mean, again = pose_space(skeleton, seed=0)
    np.testing.assert_allclose(HAND.hands_mean, mean, atol=1e-6)
    np.testing.assert_allclose(components[:6], again[:6], atol=1e-4)
    assert not np.allclose(pose_space(skeleton, seed=1)[0], mean)
    model = HandModel(HAND)
    flexed = model(_with_pose(model.pose_from_pca(torch.tensor([[1.0], [-1.0]])))).keypoints
    reach = (flexed[:, [8, 12, 16, 20]] - flexed[:, :1]).norm(dim=-1)
    assert bool((reach[0] < reach[1] - 0.01).all())


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=10, deadline=None)
def test_the_left_hand_is_the_exact_mirror(seed: int) -> None:
    right, left = (files.load_hand_model(side, dtype=torch.float64) for side in ("right", "left"))
    generator = torch.Generator().manual_seed(seed)
    orient, coefficients, betas, transl = (
        torch.randn(2, n, generator=generator, dtype=torch.float64) for n in (3, 15, 10, 3)
    )
    scale, axis = torch.ones(2, dtype=torch.float64), torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    one = right(HandParams(orient, right.pose_from_pca(coefficients), betas, transl, scale, "right"))
    other = left(HandParams(-axis * orient, left.pose_from_pca(coefficients), betas, axis * transl, scale, "left"))
    assert (one.vertices * axis - other.vertices).abs().max() < 1e-12
    assert (one.keypoints * axis - other.keypoints).abs().max() < 1e-12
    torch.testing.assert_close(left.faces, right.faces.flip(1))


def test_vertices_lie_on_the_generators_surface_and_weights_are_its() -> None:
    field = HandField()
    millimetres = HAND.v_template * 1e3
    assert np.abs(field.distance(millimetres)).max() < 0.1
    weights = bone_heat_weights(millimetres, HAND.faces, field)
    np.testing.assert_allclose(weights, HAND.weights, atol=5e-3)


def test_the_fields_gradient_has_unit_length_near_the_surface() -> None:
    field = HandField()
    surface = HAND.v_template * 1e3
    gradient = field.gradient(surface)
    length = np.linalg.norm(gradient, axis=1)
    assert np.percentile(length, 2) > 0.7
    assert np.percentile(length, 98) < 1.15
    normals = trimesh.Trimesh(surface, HAND.faces, process=False).vertex_normals
    assert np.median((gradient / length[:, None] * normals).sum(1)) > 0.98


@pytest.fixture(scope="module")
def remeshed() -> tuple[np.ndarray, np.ndarray]:
    pytest.importorskip("skimage", reason="the generator needs scikit-image: pip install 'grasp_nodes[build-hand]'")
    field = HandField()
    return mano_numbering(*remesh_hand(field), field)


def test_the_generator_makes_the_shipped_mesh(remeshed: tuple[np.ndarray, np.ndarray]) -> None:
    """To the same quality everywhere; to the same vertices where the library versions are those of the frozen build."""
    vertices, faces = remeshed
    assert vertices.shape == (778, 3)
    assert faces.shape == (1538, 3)
    mesh = trimesh.Trimesh(vertices, closed_faces(faces), process=False)
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert corner_angles(vertices, faces).min() > 15
    _, gap, _ = trimesh.proximity.closest_point(mesh, HAND.v_template * 1e3)
    assert gap.max() < 1.5  # mm, the sag of a triangle


def test_the_generator_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    from grasp_nodes.hand.open_hand.__main__ import main

    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingDependencyError, match="build-hand"):
        remesh_hand(HandField())
    monkeypatch.setattr(sys, "argv", ["open_hand", "-o", str(tmp_path / "hand.npz")])
    assert main() == 1
    assert not (tmp_path / "hand.npz").exists()


@given(st.lists(st.tuples(st.sampled_from(["split", "collapse", "flip"]), st.integers(0, 10_000)), max_size=40))
@settings(max_examples=40, deadline=None)
def test_surgery_keeps_a_disk(operations: list[tuple[str, int]]) -> None:
    """Whatever is cut, the mesh stays one oriented disk."""
    count = 6
    grid = np.array([[x, y, 0.0] for x in range(count) for y in range(count)])
    corner = np.array([x * count + y for x in range(count - 1) for y in range(count - 1)])
    lower = np.stack([corner, corner + count, corner + 1], 1)
    upper = np.stack([corner + 1, corner + count, corner + count + 1], 1)
    mesh = CutMesh(grid, np.concatenate([lower, upper]))
    for name, pick in operations:
        edges = mesh.edges()
        a, b = edges[pick % len(edges)]
        if name == "split":
            mesh.split(a, b)
        elif name == "flip":
            mesh.flip(a, b)
        else:
            mesh.collapse(a, b, (mesh.positions[a] + mesh.positions[b]) / 2)
    vertices, faces, _ = mesh.compact()
    result = trimesh.Trimesh(vertices, faces, process=False)
    assert result.euler_number == 1
    assert result.is_winding_consistent
    assert result.body_count == 1
    loop = rim_loop(faces)
    assert len(loop) == len(rim_edges(faces))
