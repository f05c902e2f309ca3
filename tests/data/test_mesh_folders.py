from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from grasp_nodes.data.grasp_readers.mesh_folders import affordpose_objects, dexgraspnet_objects, folder_objects
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.objects.loading import load_object


def test_dexgraspnet_objects_at_their_five_scales(tmp_path: Path) -> None:
    for code in ("core-mug-8570d9a8", "sem-Bottle-437678d4", "ddg-gd_banana_poisson_002", "mujoco-Ecoforms_Plate"):
        file = tmp_path / code / "coacd" / "decomposed.obj"
        file.parent.mkdir(parents=True)
        trimesh.creation.icosphere(radius=0.9).export(file)
    objects = dexgraspnet_objects(tmp_path)
    assert len(objects) == 4 * 5
    of_name = {one.name: one for one in objects}
    assert {one.category for one in objects} == {"mug", "bottle", ""}
    assert of_name["sem-Bottle-437678d4@0.08"].category == "bottle"
    for scale in (0.06, 0.08, 0.1, 0.12, 0.15):
        one = of_name[f"core-mug-8570d9a8@{scale:g}"]
        loaded = load_object(one.mesh, scale=one.scale)
        np.testing.assert_allclose(np.linalg.norm(loaded.vertices, axis=1), 0.9 * scale, rtol=1e-4)
    assert len(dexgraspnet_objects(tmp_path, scales=[0.1], limit=2)) == 2
    with pytest.raises(MissingFileError, match="pku-epic"):
        dexgraspnet_objects(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"coacd/decomposed\.obj"):
        dexgraspnet_objects(tmp_path / "core-mug-8570d9a8")


def affordpose_grasp(root: Path, path: str, mesh: trimesh.Trimesh) -> None:
    lines = [f"v {x:.8f} {y:.8f} {z:.8f} {k % 6}\n" for k, (x, y, z) in enumerate(mesh.vertices)]
    lines += [f"f {a} {b} {c}\n" for a, b, c in mesh.faces + 1]
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    content = {"rhand_mesh": ["v 0 0 0\n"], "dofs": [0.0] * 16, "object_mesh": lines}
    (root / path).write_text(json.dumps(content))


def test_affordpose_objects_are_written_out_once(tmp_path: Path) -> None:
    box = trimesh.creation.box((0.05, 0.06, 0.2))
    source, target = tmp_path / "AffordPose", tmp_path / "meshes"
    affordpose_grasp(source, "bottle/3415/3415_Twist/1.json", box)
    affordpose_grasp(source, "bottle/3415/3415_Wrap-grasp/2.json", box)
    affordpose_grasp(source, "mug/8554/8554_Handle-grasp/1.json", trimesh.creation.box((80, 80, 90)))
    bottle, mug = affordpose_objects(source, target)
    assert (bottle.name, bottle.category, bottle.scale) == ("bottle/3415", "bottle", 1.0)
    assert (mug.name, mug.scale) == ("mug/8554", 0.001)
    loaded = load_object(bottle.mesh)
    np.testing.assert_allclose(np.ptp(loaded.vertices, axis=0), (0.05, 0.06, 0.2), atol=1e-6)
    written = Path(bottle.mesh).stat().st_mtime_ns
    affordpose_objects(source, target)
    assert Path(bottle.mesh).stat().st_mtime_ns == written

    with pytest.raises(MissingFileError, match="affordpose"):
        affordpose_objects(tmp_path / "nowhere", target)
    (source / "pot/1/1_Lift").mkdir(parents=True)
    (source / "pot/1/1_Lift/1.json").write_text("{}")
    with pytest.raises(InputError, match=r"pot/1/1_Lift/1\.json: not a grasp of AffordPose"):
        affordpose_objects(source, target)


def test_normalised_folders_get_a_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        file = tmp_path / "02876657" / name / "models" / "model_normalized.obj"
        file.parent.mkdir(parents=True)
        trimesh.creation.box((0.2, 0.4, 0.8)).export(file)
    (tmp_path / "02876657" / "c").mkdir()
    (tmp_path / "02876657" / "c" / "model_normalized.obj").write_text("v 0 0 0\n")  # left out
    objects = folder_objects(tmp_path, size=0.12)
    assert [(one.name, one.category) for one in objects] == [("02876657/a", "02876657"), ("02876657/b", "02876657")]
    extents = [np.ptp(load_object(one.mesh, scale=one.scale).vertices, axis=0) for one in objects]
    np.testing.assert_allclose(extents, [[0.03, 0.06, 0.12]] * 2, rtol=1e-5)
    with pytest.raises(InputError, match="size"):
        folder_objects(tmp_path, size=12)
