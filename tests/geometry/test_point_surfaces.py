"""Closed surfaces out of points: volumes that are known, holes that stay, and clouds that enclose nothing."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import is_watertight, mesh_edges, sample_surface, signed_volume
from grasp_nodes.geometry.point_surfaces import AlphaShapes, closed_surface, enclosed_surface, point_spacing

SOLIDS = {
    "ball": trimesh.creation.icosphere(4, 0.04),
    "box": trimesh.creation.box((0.03, 0.05, 0.08)),
    "ring": trimesh.creation.torus(0.04, 0.012, 64, 32),
    "shell": trimesh.creation.annulus(0.034, 0.04, 0.07),
}


def cloud(name: str, count: int = 2048) -> np.ndarray:
    mesh = SOLIDS[name]
    return sample_surface(np.asarray(mesh.vertices), np.asarray(mesh.faces), count, 0)[0]


def holes(faces: np.ndarray, count: int) -> int:
    """Genus of a closed surface in one piece."""
    return 1 - (count - len(mesh_edges(faces).counts) + len(faces)) // 2


@pytest.mark.parametrize("name", SOLIDS)
@pytest.mark.parametrize(("prefer", "error"), [("alpha", 0.06), ("enclosed", 0.15)])
def test_volumes(name: str, prefer, error: float):
    """The volume is the solid's, its hole is there, and every vertex is near the points."""
    points = cloud(name)
    vertices, faces, kind = closed_surface(points, prefer)
    assert kind == prefer
    assert is_watertight(faces)
    assert signed_volume(vertices, faces) == pytest.approx(SOLIDS[name].volume, rel=error)
    used = len(np.unique(faces))
    if (name, prefer) != ("shell", "enclosed"):  # made thinner, its thin wall gets holes
        assert holes(faces, used) == (1 if name in ("ring", "shell") else 0)
    distance = np.abs(trimesh.proximity.signed_distance(SOLIDS[name], vertices[::5]))
    assert distance.max() < 0.004


def test_a_skin_is_no_solid():
    """The finest closed alpha shape of a ball's points is a thin skin with a hole in it: it is not taken."""
    points = cloud("ball")
    spacing = point_spacing(points)
    skin = AlphaShapes(points).closed([6.0 * spacing])
    assert skin is None or signed_volume(*skin) < 0.5 * SOLIDS["ball"].volume
    assert signed_volume(*closed_surface(points)[:2]) > 0.9 * SOLIDS["ball"].volume


def test_without_a_closed_alpha_shape_it_is_what_is_enclosed():
    """Two balls apart are no solid in one piece: the larger one is what is enclosed."""
    points = np.concatenate([cloud("ball"), 0.5 * cloud("ball", 512) + [0.3, 0, 0]])
    vertices, faces, kind = closed_surface(points)
    assert kind == "enclosed"
    assert is_watertight(faces)
    assert np.abs(vertices.mean(axis=0)).max() < 0.002
    assert signed_volume(vertices, faces) == pytest.approx(SOLIDS["ball"].volume, rel=0.15)


def test_points_that_enclose_nothing():
    points = cloud("ball")
    flat = points * [1.0, 1.0, 0.0]
    with pytest.raises(InputError, match="plane"):
        AlphaShapes(flat)
    with pytest.raises(InputError, match="at least 16"):
        closed_surface(points[:10])
    with pytest.raises(InputError, match="1 of 2048 points are NaN"):
        closed_surface(np.where(np.arange(2048)[:, None] == 3, np.nan, points))
    with pytest.raises(InputError, match="expected at least 16 of shape"):
        enclosed_surface(points[:, :2], 0.01)
