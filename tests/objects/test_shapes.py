"""The mug against solid geometry."""

import numpy as np
import open3d as o3d
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.objects.shapes import mug


def signed_distance(mesh, points):
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(mesh.vertices.astype(np.float32)), o3d.core.Tensor(mesh.faces.astype(np.uint32))
    )
    return scene.compute_signed_distance(o3d.core.Tensor(np.asarray(points, np.float32))).numpy()


def test_is_a_closed_body_with_one_handle():
    mesh = mug()
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.euler_number == 0  # one handle: a torus


def test_sizes_are_those_asked_for():
    mesh = mug(radius=0.04, height=0.1, handle_reach=0.03, handle_angle=np.pi / 2)
    low, high = mesh.bounds
    assert low[2] == pytest.approx(0, abs=1e-9)
    assert high[2] == pytest.approx(0.1)
    assert (low[0], high[0]) == pytest.approx((-0.04, 0.04), abs=1e-4)
    assert low[1] == pytest.approx(-0.04, abs=1e-4)
    assert high[1] == pytest.approx(0.04 + 0.03, abs=4e-3)


def test_is_hollow_with_a_wall_and_a_floor():
    mesh = mug(radius=0.036, height=0.1, wall=0.004)
    cavity, wall, floor, above = [0, 0, 0.06], [-0.034, 0, 0.06], [0, 0, 0.002], [0, 0, 0.11]
    distance = signed_distance(mesh, [cavity, wall, floor, above])
    assert distance[0] == pytest.approx(0.032, abs=5e-4)
    assert distance[1] == pytest.approx(-0.002, abs=3e-4)
    assert distance[2] == pytest.approx(-0.002, abs=3e-4)
    assert distance[3] > 0


def test_volume_is_that_of_wall_floor_and_handle():
    radius, height, wall = 0.036, 0.1, 0.004
    shell = np.pi * (radius**2 - (radius - wall) ** 2) * height + np.pi * (radius - wall) ** 2 * wall
    handle = np.pi * 0.0062 * 0.0040 * 0.095  # ellipse along a bent tube of about 95 mm
    assert mug(radius, height, wall).volume == pytest.approx(shell + handle, rel=0.08)


@pytest.mark.parametrize("sizes", [{"radius": 0.0}, {"wall": 0.02}, {"height": -0.1}])
def test_impossible_sizes_are_named(sizes):
    with pytest.raises(InputError, match="mug"):
        mug(**sizes)
