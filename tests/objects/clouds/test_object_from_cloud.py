"""Objects out of clouds: of shapes whose size, place and volume are known, seen by a ray caster or sampled all over."""

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import is_watertight
from grasp_nodes.objects.clouds.observed import CloudOptions, narrowest_side, object_from_cloud
from grasp_nodes.objects.clouds.table import largest_plane

WIDTH, HEIGHT, FOCAL = 240, 180, 220.0


def seen(mesh, elevation=40.0, distance=0.6, table=True, noise=0.0005, seed=0):
    """A depth camera's points (H W, 3), camera frame, and the mesh in that frame; NaN where nothing is."""
    mesh = mesh.copy()
    mesh.apply_translation([0, 0, -mesh.bounds[0, 2]])
    middle = mesh.bounds.mean(axis=0)
    rise = np.deg2rad(elevation)
    eye = middle + distance * np.array([-np.cos(rise), 0, np.sin(rise)])
    forward = (middle - eye) / distance
    right = np.array([0, -1.0, 0])
    placed = np.eye(4)
    placed[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    placed[:3, 3] = -placed[:3, :3] @ eye
    mesh.apply_transform(placed)
    things = [mesh]
    if table:
        top = trimesh.creation.box(
            [0.9, 0.9, 0.02], transform=trimesh.transformations.translation_matrix([0, 0, -0.01])
        )
        things.append(top.apply_transform(placed))
    import open3d

    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    for one in things:
        scene.add_triangles(
            open3d.core.Tensor(one.vertices.astype(np.float32)), open3d.core.Tensor(one.faces.astype(np.uint32))
        )
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(u - WIDTH / 2) / FOCAL, (v - HEIGHT / 2) / FOCAL, np.ones_like(u)], axis=-1).reshape(-1, 3)
    cast = np.concatenate([np.zeros_like(rays), rays], axis=1).astype(np.float32)
    depth = scene.cast_rays(open3d.core.Tensor(cast))["t_hit"].numpy().astype(np.float64)
    depth[~np.isfinite(depth)] = np.nan
    depth += noise * np.random.default_rng(seed).standard_normal(len(depth))
    return (rays * depth[:, None]).astype(np.float32), mesh


def surface(mesh, count=8000, seed=0):
    return trimesh.sample.sample_surface(mesh, count, seed=seed)[0]


def apart(found, mesh):
    """m: mean distance from the surface that was made to the true one, and back."""
    made = trimesh.Trimesh(found.model.vertices + found.origin, found.model.faces, process=False)
    there = np.abs(trimesh.proximity.signed_distance(mesh, surface(made, 400))).mean()
    back = np.abs(trimesh.proximity.signed_distance(made, surface(mesh, 400))).mean()
    return there, back


SHAPES = {
    "ball": trimesh.creation.icosphere(3, 0.04),
    "box": trimesh.creation.box([0.06, 0.08, 0.12]),
    "can": trimesh.creation.cylinder(0.035, 0.12),
}


@pytest.mark.parametrize("elevation", [30.0, 50.0])
@pytest.mark.parametrize("name", SHAPES)
def test_what_is_seen_from_one_side_on_a_table_is_completed(name, elevation):
    cloud, mesh = seen(SHAPES[name], elevation)
    found = object_from_cloud(cloud)
    assert is_watertight(found.model.faces)
    assert "mirror" in found.completion or "half a turn" in found.completion
    there, back = apart(found, mesh)
    assert there < 0.007
    assert back < 0.007
    made = trimesh.Trimesh(found.model.vertices, found.model.faces)
    assert made.volume == pytest.approx(mesh.volume, rel=0.35)


def test_of_a_full_scan_the_surface_is_that_of_the_mesh_and_hollows_stay():
    outer = trimesh.creation.cylinder(0.045, 0.09, sections=64)
    inner = trimesh.creation.cylinder(0.03, 0.09, sections=64)
    inner.apply_translation([0, 0, 0.02])
    cup = trimesh.boolean.difference([outer, inner], engine="manifold")
    cup.apply_translation([0.3, -0.2, 0.9])
    found = object_from_cloud(surface(cup, 30_000))
    assert "all sides" in found.completion
    assert is_watertight(found.model.faces)
    there, back = apart(found, cup)
    assert there < 0.003
    assert back < 0.003
    # The middle of the hollow is outside, that of the wall inside.
    hollow, wall = np.array([0.3, -0.2, 0.92]), np.array([0.3 + 0.0375, -0.2, 0.9])
    distance, _ = found.model.signed_distance.query(np.stack([hollow, wall]) - found.origin)
    assert distance[0] > 0.01
    assert distance[1] < 0


def test_signed_distance_of_a_ball_is_the_distance_to_its_middle():
    ball = trimesh.creation.icosphere(4, 0.04)
    ball.apply_translation([0.1, 0.2, 0.7])
    found = object_from_cloud(surface(ball, 20_000))
    np.testing.assert_allclose(found.origin, [0.1, 0.2, 0.7], atol=0.001)
    probes = np.random.default_rng(0).uniform(-0.05, 0.05, (500, 3))
    distance, gradient = found.model.signed_distance.query(probes)
    truth = np.linalg.norm(probes, axis=1) - 0.04
    np.testing.assert_allclose(distance, truth, atol=0.0025)
    outward = (gradient * probes).sum(axis=1) / np.linalg.norm(probes, axis=1) / np.linalg.norm(gradient, axis=1)
    assert np.median(outward[truth > -0.03]) > 0.98


def test_table_is_the_plane_that_open3d_finds():
    import open3d

    cloud, _ = seen(SHAPES["box"])
    points = cloud[np.isfinite(cloud).all(axis=1)].astype(np.float64)
    table = largest_plane(points, np.zeros(3))
    theirs = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    (a, b, c, d), _ = theirs.segment_plane(0.006, 3, 500)
    assert abs(table.plane.normal @ [a, b, c]) > np.cos(np.deg2rad(0.5))
    assert abs(table.plane.offset) == pytest.approx(abs(d), abs=0.002)
    assert table.plane.height(np.zeros((1, 3)))[0] > 0


def test_a_segmented_box_is_not_taken_for_a_table():
    cloud, _ = seen(SHAPES["box"], table=False)
    found = object_from_cloud(cloud)
    assert found.table is None
    assert narrowest_side(found.model.vertices.astype(float)) < 0.09


def test_nan_order_and_repeats_do_not_matter():
    cloud, _ = seen(SHAPES["can"])
    rng = np.random.default_rng(1)
    more = np.concatenate([cloud, np.full((500, 3), np.nan, np.float32), np.zeros((500, 3), np.float32)])
    first, second = object_from_cloud(cloud), object_from_cloud(more[rng.permutation(len(more))])
    np.testing.assert_allclose(first.origin, second.origin, atol=0.004)
    sizes = [np.ptp(one.model.vertices, axis=0) for one in (first, second)]
    np.testing.assert_allclose(*sizes, atol=0.008)


def test_of_two_things_the_one_asked_for_is_taken_and_it_is_said():
    small = trimesh.creation.icosphere(3, 0.025)
    small.apply_translation([0.15, 0, 0.6])
    large = trimesh.creation.icosphere(3, 0.04)
    large.apply_translation([-0.05, 0, 0.6])
    cloud = np.concatenate([surface(small, 4000), surface(large, 9000)])
    found = object_from_cloud(cloud)
    np.testing.assert_allclose(found.origin, [-0.05, 0, 0.6], atol=0.002)
    assert "2 things" in found.remarks[0]
    near = object_from_cloud(cloud, CloudOptions(near=np.array([0.2, 0, 0.6])))
    np.testing.assert_allclose(near.origin, [0.15, 0, 0.6], atol=0.002)
    region = CloudOptions(region_center=np.array([0.15, 0, 0.6]), region_extent=np.full(3, 0.1))
    alone = object_from_cloud(cloud, region)
    np.testing.assert_allclose(alone.origin, near.origin, atol=1e-3)
    assert not alone.remarks


def test_the_centre_and_extent_that_are_given_complete_a_view():
    cloud, mesh = seen(SHAPES["ball"], 20.0)
    center = mesh.bounds.mean(axis=0)
    found = object_from_cloud(cloud, CloudOptions(center=center, extent=np.full(3, 0.08)))
    assert "that was given" in found.completion
    np.testing.assert_allclose(found.origin, center, atol=0.002)
    np.testing.assert_allclose(np.ptp(found.model.vertices, axis=0), 0.08, atol=0.006)


def test_without_completion_nothing_is_added():
    cloud, mesh = seen(SHAPES["ball"], table=False)
    found = object_from_cloud(cloud, CloudOptions(completion="none"))
    assert "nothing was added" in found.completion
    # Only the half that faces the camera: its middle is nearer than the ball's.
    assert np.linalg.norm(found.origin) < np.linalg.norm(mesh.bounds.mean(axis=0)) - 0.01


@pytest.mark.parametrize("count", [100, 2_000_000])
def test_few_and_many_points(count):
    found = object_from_cloud(surface(trimesh.creation.icosphere(4, 0.03), count) + [0.0, 0.0, 0.5])
    assert is_watertight(found.model.faces)
    assert np.ptp(found.model.vertices, axis=0).max() == pytest.approx(0.06, abs=0.006)


def line(count=500):
    return np.linspace([0, 0, 0.5], [0.1, 0.05, 0.5], count)


def plane(count=2000):
    return np.random.default_rng(0).uniform([-0.05, -0.05, 0.5], [0.05, 0.05, 0.5], (count, 3))


@pytest.mark.parametrize(
    ("cloud", "said"),
    [
        (np.zeros((0, 3)), "at least 100 points"),
        (np.full((500, 3), np.nan), "at least 100 points that were measured, got 0 of 500"),
        (np.zeros((500, 2)), "shape (N, 3)"),
        (np.tile([[0.1, 0.2, 0.5]], (500, 1)), "in one place"),
        (line(), "on a line"),
        (plane(), "in a plane"),
        (1000 * surface(trimesh.creation.icosphere(3, 0.04)) + [0, 0, 600.0], "millimetres"),
        (surface(trimesh.creation.icosphere(3, 0.12)) + [0, 0, 0.6], "a hand holds at most"),
        (surface(trimesh.creation.box([0.7, 0.05, 0.05])) + [0, 0, 0.9], "0.70 m long"),
        (surface(trimesh.creation.icosphere(3, 0.003)) + [0, 0, 0.6], "within 6 mm"),
        (np.random.default_rng(0).uniform([-0.4, -0.4, 0.5], [0.4, 0.4, 0.501], (20_000, 3)), "in a plane"),
    ],
)
def test_what_cannot_be_grasped_is_refused_with_the_reason(cloud, said):
    with pytest.raises(InputError) as caught:
        object_from_cloud(cloud)
    assert said in str(caught.value)


def test_empty_table_is_called_empty():
    cloud, _ = seen(trimesh.creation.icosphere(2, 0.0005))
    tilted = cloud + np.float32(0.002) * np.random.default_rng(0).standard_normal(cloud.shape).astype(np.float32)
    with pytest.raises(InputError, match=r"nothing stands on the table|in a plane"):
        object_from_cloud(tilted)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CloudOptions(table="maybe"), "auto, always, never"),
        (CloudOptions(completion="maybe"), "auto, mirror, none"),
        (CloudOptions(scale=0.0), "positive number"),
        (CloudOptions(extent=np.array([0.1, -1, 0.1])), "three positive numbers"),
        (CloudOptions(region_center=np.full(3, 9.0), region_extent=np.ones(3)), "region of interest"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(InputError) as caught:
        object_from_cloud(surface(SHAPES["ball"]) + [0, 0, 0.5], options)
    assert said in str(caught.value)


def test_millimetres_with_their_scale_are_taken():
    cloud = 1000 * (surface(SHAPES["ball"]) + [0, 0, 0.5])
    found = object_from_cloud(cloud, CloudOptions(scale=0.001))
    np.testing.assert_allclose(found.origin, [0, 0, 0.5], atol=0.001)
