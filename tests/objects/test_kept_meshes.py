"""Meshes that are written for others: they are the object, once each, and not without end."""

import os
from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.objects.kept_meshes import keep_mesh
from grasp_nodes.objects.loading import load_object


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    return load_object("box:0.05,0.06,0.1")


def test_the_file_is_the_object(box, tmp_path):
    kept = keep_mesh(box, tmp_path / "meshes")
    again = load_object(kept.mesh_resource)
    np.testing.assert_array_equal(again.vertices, box.vertices)
    np.testing.assert_array_equal(again.faces, box.faces)
    np.testing.assert_array_equal(again.points, box.points)
    assert keep_mesh(replace(box, object_id="other"), tmp_path / "meshes").mesh_resource == kept.mesh_resource
    assert [one.suffix for one in (tmp_path / "meshes").iterdir()] == [".ply"]


def test_the_oldest_go(box, tmp_path):
    folder = tmp_path / "meshes"
    files = []
    for number in range(3):
        files.append(keep_mesh(box.resized(1 + 0.1 * number), folder, most=2).mesh_resource)
        os.utime(files[-1], (number, number))
    assert sorted(map(str, folder.iterdir())) == sorted(files[1:])
    keep_mesh(box.resized(1.1), folder, most=2)  # counts as written anew
    keep_mesh(box.resized(1.3), folder, most=2)
    assert files[1] in map(str, folder.iterdir())


def test_a_folder_that_cannot_be(box, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        keep_mesh(box, tmp_path / "file" / "meshes")
