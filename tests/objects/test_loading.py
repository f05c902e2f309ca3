"""Objects from files of every format, whole and broken."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.mesh import is_watertight, signed_volume
from grasp_nodes.objects.loading import close_mesh, load_object, make_object


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRASP_NODES_CACHE", str(folder))
    return folder


def lump() -> trimesh.Trimesh:
    """A lopsided solid, away from its file's origin."""
    mesh = trimesh.creation.icosphere(2, 0.04)
    mesh.vertices[:, 0] *= 1.5
    mesh.apply_translation([0.02, -0.01, 0.1])
    return mesh


def write_obj_with_seams(path: Path, mesh: trimesh.Trimesh) -> None:
    """Every face has its own copies of its corners, each with a texture coordinate and a normal."""
    lines = ["mtllib missing.mtl", "usemtl nothing"]
    corners = np.array(mesh.triangles).reshape(-1, 3)
    lines += [f"v {x:.9f} {y:.9f} {z:.9f}" for x, y, z in corners]
    lines += [f"vt {u:.5f} {v:.5f}" for u, v in np.random.default_rng(0).random((len(corners), 2))]
    lines += [f"vn {x:.5f} {y:.5f} {z:.5f}" for x, y, z in np.repeat(mesh.face_normals, 3, axis=0)]
    lines += [f"f {k}/{k}/{k} {k + 1}/{k + 1}/{k + 1} {k + 2}/{k + 2}/{k + 2}" for k in range(1, len(corners), 3)]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb", "STL"])
def test_every_format_gives_the_same_solid_in_the_files_own_frame(tmp_path, ending):
    mesh = lump()
    path = tmp_path / f"thing.{ending}"
    mesh.export(path, file_type=ending.lower())
    model = load_object(path, resolution=16, num_points=100)
    assert model.object_id == "thing"
    assert model.mesh_resource == str(path)
    assert len(model.vertices) == len(mesh.vertices)
    assert is_watertight(model.faces)
    assert model.vertices.dtype == np.float32
    assert model.faces.dtype == np.int64
    np.testing.assert_allclose(model.vertices.min(0), mesh.bounds[0], atol=1e-6)
    np.testing.assert_allclose(model.vertices.max(0), mesh.bounds[1], atol=1e-6)
    assert signed_volume(model.vertices, model.faces) == pytest.approx(mesh.volume, rel=1e-4)


def test_texture_seams_are_merged(tmp_path):
    mesh = lump()
    write_obj_with_seams(tmp_path / "seams.obj", mesh)
    model = load_object(tmp_path / "seams.obj", resolution=16)
    assert len(model.vertices) == len(mesh.vertices)
    assert is_watertight(model.faces)


def test_several_parts_of_a_scene_are_one_object(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box(extents=(0.02, 0.02, 0.02)))
    moved = np.eye(4)
    moved[0, 3] = 0.1
    scene.add_geometry(trimesh.creation.box(extents=(0.02, 0.02, 0.02)), transform=moved)
    scene.export(tmp_path / "two.glb")
    model = load_object(tmp_path / "two.glb", resolution=24)
    np.testing.assert_allclose(np.ptp(model.vertices, axis=0), [0.12, 0.02, 0.02], atol=1e-6)
    inside, _ = model.signed_distance.query(np.array([[0.0, 0, 0], [0.1, 0, 0], [0.05, 0, 0]]))
    assert (inside[:2] < 0).all()
    assert inside[2] > 0.03


def test_surface_points_and_signed_distance_belong_together(tmp_path):
    lump().export(tmp_path / "thing.ply")
    model = load_object(tmp_path / "thing.ply", num_points=500)
    assert model.points.shape == model.normals.shape == (500, 3)
    assert model.points.dtype == np.float32
    on_surface, _ = model.signed_distance.query(model.points)
    assert np.abs(on_surface).max() < 0.5 * model.signed_distance.spacing
    outside, _ = model.signed_distance.query(model.points + 0.005 * model.normals)
    inside, _ = model.signed_distance.query(model.points - 0.005 * model.normals)
    np.testing.assert_allclose(outside, 0.005, atol=1e-3)
    np.testing.assert_allclose(inside, -0.005, atol=1e-3)


def test_the_same_call_gives_the_same_object_and_the_seed_changes_the_points(tmp_path):
    lump().export(tmp_path / "thing.ply")
    first, second = (load_object(tmp_path / "thing.ply", resolution=16, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.points, second.points)
    assert bool((first.signed_distance.values == second.signed_distance.values).all())
    other = load_object(tmp_path / "thing.ply", resolution=16, seed=2)
    assert np.abs(other.points - first.points).max() > 1e-3


def test_the_signed_distance_is_kept_and_a_broken_copy_made_again(tmp_path, cache, monkeypatch, caplog):
    lump().export(tmp_path / "thing.ply")
    first = load_object(tmp_path / "thing.ply", resolution=16)
    (kept,) = (cache / "signed_distance").iterdir()

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    from grasp_nodes.geometry.signed_distance import SignedDistanceGrid

    with monkeypatch.context() as patch:
        patch.setattr(SignedDistanceGrid, "from_mesh", refuse)
        second = load_object(tmp_path / "thing.ply", resolution=16)
    assert bool((first.signed_distance.values == second.signed_distance.values).all())
    kept.write_bytes(kept.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        third = load_object(tmp_path / "thing.ply", resolution=16)
    assert "unreadable" in caplog.text
    assert bool((first.signed_distance.values == third.signed_distance.values).all())
    load_object(tmp_path / "thing.ply", resolution=18)
    assert len(list((cache / "signed_distance").iterdir())) == 2


def test_a_full_cache_costs_time_only(tmp_path, cache, monkeypatch, caplog):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    lump().export(tmp_path / "thing.ply")
    monkeypatch.setattr("grasp_nodes.objects.loading.write_npz", full)
    with caplog.at_level(logging.WARNING):
        model = load_object(tmp_path / "thing.ply", resolution=16)
    assert "No space left" in caplog.text
    assert model.signed_distance is not None


def test_a_hole_is_filled_and_said(caplog):
    box = trimesh.creation.box(extents=(0.1, 0.1, 0.1))
    opened = np.array(box.faces)[box.face_normals[:, 2] < 0.5]
    with caplog.at_level(logging.WARNING):
        model = make_object(np.array(box.vertices), opened, "open box", resolution=16)
    assert "closed 1 hole" in caplog.text
    assert is_watertight(model.faces)
    assert signed_volume(model.vertices, model.faces) == pytest.approx(1e-3, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_faces_that_look_anywhere_are_turned_outward(seed):
    mesh = lump()
    faces = np.array(mesh.faces)
    turned = np.random.default_rng(seed).random(len(faces)) < 0.4
    faces[turned] = faces[turned][:, ::-1]
    vertices, faces = close_mesh(np.array(mesh.vertices), faces)
    assert is_watertight(faces)
    assert signed_volume(vertices, faces) == pytest.approx(mesh.volume)


def test_a_mesh_inside_out_is_turned():
    mesh = lump()
    vertices, faces = close_mesh(np.array(mesh.vertices), np.array(mesh.faces)[:, ::-1])
    assert signed_volume(vertices, faces) == pytest.approx(mesh.volume)


def test_two_boxes_that_share_an_edge_are_a_solid():
    first = trimesh.creation.box(bounds=[[0, 0, 0], [0.05, 0.05, 0.05]])
    second = trimesh.creation.box(bounds=[[0.05, 0.05, 0], [0.1, 0.1, 0.05]])
    both = trimesh.util.concatenate([first, second])
    model = make_object(np.array(both.vertices), np.array(both.faces), "pair", resolution=16)
    assert signed_volume(model.vertices, model.faces) == pytest.approx(2 * 0.05**3, rel=1e-5)


def test_what_cannot_be_closed_is_refused_with_the_reason():
    sheet = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]])
    with pytest.raises(InputError, match="encloses no volume"):
        make_object(sheet, np.array([[0, 1, 2], [0, 2, 3]]), "sheet")
    box = trimesh.creation.box(extents=(0.1, 0.1, 0.1))
    vertices = np.concatenate([box.vertices, [[0.2, 0, 0], [0.2, 0.1, 0]]])
    fin = np.concatenate([box.faces, [[0, 1, 8], [0, 1, 9]]])
    with pytest.raises(InputError, match=r"fin: not watertight .* have more than two; close the mesh"):
        make_object(vertices, fin, "fin")


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb"])
def test_garbage_is_refused_by_name(tmp_path, ending):
    rng = np.random.default_rng(0)
    for k, content in enumerate((b"", b"not a mesh at all\n", rng.bytes(4000))):
        path = tmp_path / f"bad{k}.{ending}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"bad{k}.{ending}"):
            load_object(path)


@pytest.mark.parametrize("ending", ["ply", "stl", "glb"])
def test_truncated_files_are_refused_or_whole(tmp_path, ending):
    path = tmp_path / f"thing.{ending}"
    lump().export(path)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="thing"):
            load_object(path)


def test_point_clouds_missing_files_and_unknown_formats(tmp_path):
    trimesh.PointCloud(np.random.default_rng(0).random((20, 3)) * 0.1).export(tmp_path / "cloud.ply")
    with pytest.raises(InputError, match=r"cloud.ply: holds no triangles"):
        load_object(tmp_path / "cloud.ply")
    with pytest.raises(MissingFileError, match=r"gone.obj"):
        load_object(tmp_path / "gone.obj")
    with pytest.raises(InputError, match=r"\.step.*\.obj"):
        load_object(tmp_path / "part.step")
    (tmp_path / "nan.off").write_text(
        "OFF\n4 4 0\n0 0 nan\n0.1 0 0\n0 0.1 0\n0 0 0.1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
    )
    with pytest.raises(InputError, match="NaN"):
        load_object(tmp_path / "nan.off")


@pytest.mark.parametrize(("scale", "given", "hint"), [(1000.0, "120", "0.001 makes"), (0.02, "0.0024", "10 makes")])
def test_sizes_that_no_hand_holds_ask_for_a_scale(tmp_path, scale, given, hint):
    mesh = lump()
    mesh.apply_scale(scale)
    mesh.export(tmp_path / "thing.ply")
    with pytest.raises(InputError, match=rf"longest side is {given} m .* {hint}"):
        load_object(tmp_path / "thing.ply")
    model = load_object(tmp_path / "thing.ply", scale=1 / scale, resolution=16)
    assert model.scale == 1 / scale
    np.testing.assert_allclose(np.ptp(model.vertices, axis=0).max(), 0.12, rtol=1e-3)
    with pytest.raises(InputError, match="scale"):
        load_object(tmp_path / "thing.ply", scale=-1.0)


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("sphere:0.117", 4 / 3 * np.pi * 0.117**3),
        ("box:0.1,0.2,0.05", 0.001),
        ("cylinder:0.03,0.1", np.pi * 0.03**2 * 0.1),
        ("capsule:0.03,0.1", np.pi * 0.03**2 * 0.1 + 4 / 3 * np.pi * 0.03**3),
    ],
)
def test_primitives_are_given_by_their_sizes(text, volume):
    model = load_object(text, resolution=24)
    assert model.object_id == text.partition(":")[0]
    assert signed_volume(model.vertices, model.faces) == pytest.approx(volume, rel=0.01)
    np.testing.assert_allclose(model.vertices.min(0), -model.vertices.max(0), atol=1e-6)


@pytest.mark.parametrize("text", ["sphere:", "sphere:a", "sphere:-1", "box:1,2", "cylinder:0.1,0.1,0.1", "box:nan,1,1"])
def test_malformed_primitives_say_what_is_expected(text):
    with pytest.raises(InputError, match=r"expected (sphere:RADIUS|box:X,Y,Z|cylinder:RADIUS,HEIGHT)"):
        load_object(text)


@pytest.mark.samples
@pytest.mark.parametrize("name", ["003_cracker_box", "006_mustard_bottle", "025_mug"])
def test_scanned_objects(name):
    default = Path(__file__).parents[2].parent / "shared" / "samples"
    path = Path(os.environ.get("GRASP_NODES_SAMPLES", default)) / "ycb" / f"{name}.obj"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set GRASP_NODES_SAMPLES")
    model = load_object(path, resolution=32)
    assert is_watertight(model.faces)
    mesh = trimesh.Trimesh(model.vertices, model.faces, process=False)
    points = np.random.default_rng(0).uniform(*mesh.bounds, (2000, 3))
    distance, _ = model.signed_distance.query(points)
    clear = np.abs(distance) > model.signed_distance.spacing
    np.testing.assert_array_equal((distance < 0)[clear], mesh.contains(points)[clear])
