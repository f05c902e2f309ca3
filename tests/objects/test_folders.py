"""Folders of meshes as data sets lay them out, whole and broken."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.objects.folders import RefusedMesh, find_meshes, load_folder
from grasp_nodes.objects.model import ObjectModel


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))


def put(folder, *names, size=0.08):
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box((size, 0.5 * size, (0.3 + 0.05 * k) * size)).export(path)
    return folder


def ids(folder):
    return {file.object_id: str(file.path.relative_to(folder)) for file in find_meshes(folder)}


def test_a_flat_folder(tmp_path):
    folder = put(tmp_path / "set", "b.ply", "a.obj", "c.STL")
    (folder / "readme.txt").write_text("hello")
    (folder / ".hidden").mkdir()
    put(folder / ".hidden", "d.ply")
    assert ids(folder) == {"a": "a.obj", "b": "b.ply", "c": "c.STL"}


def test_ycb_takes_one_of_the_meshes_of_an_object(tmp_path):
    kinds = (
        "clouds/merged_cloud.ply",
        "google_64k/nontextured.ply",
        "google_16k/textured.obj",
        "google_16k/nontextured.ply",
    )
    folder = put(tmp_path / "ycb", *(f"models/{name}/{kind}" for name in ("025_mug", "011_banana") for kind in kinds))
    put(folder, "models/003_cracker_box/textured_simple.obj", "models/003_cracker_box/textured.obj")
    assert ids(folder) == {
        "003_cracker_box": "models/003_cracker_box/textured_simple.obj",
        "011_banana": "models/011_banana/google_16k/nontextured.ply",
        "025_mug": "models/025_mug/google_16k/nontextured.ply",
    }
    assert ids(folder / "models" / "025_mug") == {"025_mug": "google_16k/nontextured.ply"}


def test_shapenet_keeps_category_and_model(tmp_path):
    folder = put(tmp_path, "02876657/1a2b/models/model_normalized.obj", "03797390/ff00/models/model_normalized.obj")
    assert list(ids(folder)) == ["02876657/1a2b", "03797390/ff00"]
    assert list(ids(folder / "02876657")) == ["1a2b"]


def test_oakink_prefers_the_aligned_and_decimated_scan(tmp_path):
    folder = put(
        tmp_path / "shape",
        "OakInkObjectsV2/bottle_1/align/scan.obj",
        "OakInkObjectsV2/bottle_1/align_ds/scan_ds.obj",
        "OakInkVirtualObjectsV2/s001/align_ds/1.ply",
    )
    assert ids(folder) == {
        "OakInkObjectsV2/bottle_1": "OakInkObjectsV2/bottle_1/align_ds/scan_ds.obj",
        "OakInkVirtualObjectsV2/s001": "OakInkVirtualObjectsV2/s001/align_ds/1.ply",
    }


def test_objects_come_one_by_one_in_the_files_frame(tmp_path):
    folder = put(tmp_path / "set", "a.obj", "b.ply", "c.ply")
    first, second = load_folder(folder, limit=2, resolution=16, num_points=64)
    assert (first.object_id, second.object_id) == ("a", "b")
    assert first.mesh_resource == str(folder / "a.obj")
    assert first.points.shape == (64, 3)
    np.testing.assert_allclose(first.vertices.max(axis=0), [0.04, 0.02, 0.012], atol=1e-6)


@pytest.mark.parametrize(
    ("size", "unit", "scale"),
    [(80.0, "millimetres", "0.001"), (8.0, "centimetres", "0.01"), (0.003, "decametres", "10")],
)
def test_a_folder_in_another_unit_names_the_scale(tmp_path, size, unit, scale):
    folder = put(tmp_path / "set", "a.obj", "b.ply", size=size)
    with pytest.raises(InputError, match=rf"set: .*{size:g} m .*2 of 2.* looks like {unit}: --scale {scale}$"):
        next(load_folder(folder))
    (first, _) = load_folder(folder, scale=float(scale), resolution=16)
    assert isinstance(first, ObjectModel)
    assert first.scale == float(scale)
    assert 0.02 < np.ptp(first.vertices, axis=0).max() < 0.1


def test_normalised_meshes_ask_for_a_size(tmp_path):
    folder = put(tmp_path / "net", "02876657/1a2b/models/model_normalized.obj", size=0.8)
    with pytest.raises(InputError, match=r"normalised.*--size 0\.12"):
        next(load_folder(folder))
    (model,) = load_folder(folder, size=0.12, resolution=16)
    assert np.ptp(model.vertices, axis=0).max() == pytest.approx(0.12, rel=1e-5)
    assert model.scale == pytest.approx(0.15)
    with pytest.raises(InputError, match="size: expected"):
        next(load_folder(folder, size=12.0))


def test_a_broken_mesh_does_not_end_the_others(tmp_path, caplog):
    folder = put(tmp_path / "set", "a.obj", "c.ply")
    (folder / "b.ply").write_bytes(b"not a mesh")
    put(folder, "d.ply", size=80.0)
    with caplog.at_level(logging.WARNING):
        found = list(load_folder(folder, resolution=16))
    assert [item.object_id for item in found] == ["a", "b", "c", "d"]
    refused = [item for item in found if isinstance(item, RefusedMesh)]
    assert [item.object_id for item in refused] == ["b", "d"]
    assert "cannot be read" in refused[0].reason
    assert "--scale" in refused[1].reason
    assert caplog.text.count("left out") == 2


def test_folders_without_meshes(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        find_meshes(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no mesh; looked for \.obj"):
        find_meshes(tmp_path)
