"""Ray-cast pictures against analytic depth, area and light."""

import numpy as np
import pytest
import trimesh

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import (
    RayScene,
    RenderMesh,
    contact_sheet,
    cosine_directions,
    render_meshes,
    sphere_directions,
)

K = np.array([[300.0, 0.0, 159.5], [0.0, 300.0, 119.5], [0.0, 0.0, 1.0]])
CAMERA = CameraModel(K, 320, 240)


def ball(center, radius=0.1, color=(0.5, 0.5, 0.5)):
    mesh = trimesh.creation.icosphere(5, radius)
    return RenderMesh(mesh.vertices + center, mesh.faces, np.array(color))


def test_depth_of_a_sphere():
    center, radius = np.array([0.03, -0.02, 0.8]), 0.1
    image = render_meshes([ball(center, radius)], CAMERA)
    y, x = np.nonzero(image.ids == 0)
    rays = np.stack([(x - 159.5) / 300, (y - 119.5) / 300, np.ones(len(x))], axis=1)
    a, b, c = (rays**2).sum(1), rays @ center, center @ center - radius**2
    discriminant = b**2 - a * c
    inner = discriminant > 2e-3 * radius
    expected = (b - np.sqrt(np.maximum(discriminant, 0))) / a
    assert np.abs(image.depth[y, x] - expected)[inner].max() < 3e-4
    assert (image.depth[image.ids < 0] == 0).all()


def test_outline_of_a_sphere_covers_the_right_area():
    center, radius = np.array([0.0, 0.0, 0.8]), 0.1
    image = render_meshes([ball(center, radius)], CAMERA)
    tangent = radius / np.sqrt(0.8**2 - radius**2)
    assert (image.ids == 0).sum() == pytest.approx(np.pi * (300 * tangent) ** 2, rel=0.01)


def test_nearer_mesh_hides_the_other():
    image = render_meshes([ball([0, 0, 1.0]), ball([0, 0, 0.6], 0.03, (1, 0, 0))], CAMERA)
    assert image.ids[120, 160] == 1
    assert image.ids[120, 180] == 0
    assert image.color[120, 160, 0] > 3 * image.color[120, 160, 1]


def test_distorted_camera_draws_where_it_projects():
    camera = CameraModel(K, 320, 240, np.array([-0.3, 0.1, 0.001, -0.002, 0.0]))
    center = np.array([0.22, 0.15, 0.7])
    image = render_meshes([ball(center, 0.02)], camera)
    y, x = np.nonzero(image.ids == 0)
    assert np.abs([x.mean(), y.mean()] - camera.project(center)).max() < 0.5
    straight = CAMERA.project(center)
    assert np.abs([x.mean(), y.mean()] - straight).max() > 2


def test_background_is_kept_and_outlines_are_smooth():
    background = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    image = render_meshes([ball([0, 0, 0.8])], CAMERA, background)
    far = np.ones((240, 320), bool)
    far[70:170, 110:210] = False
    assert (image.color[far] == background[far]).all()
    white = render_meshes([ball([0, 0, 0.8], color=(0, 0, 0))], CAMERA).color[..., 0]
    assert ((white > 40) & (white < 215)).sum() > 100


def test_a_mesh_outside_of_the_image_leaves_it_alone():
    image = render_meshes([ball([3.0, 0, 0.8])], CAMERA, (0.2, 0.4, 0.6))
    assert (image.ids == -1).all()
    assert (image.color == image.color[0, 0]).all()


def test_openness_under_a_half_space_and_in_the_open():
    """A wall that fills half of the sky above a floor takes half of the light that Lambert's law lets in."""
    floor = RenderMesh(
        np.array([[-5, 0, -5], [5, 0, -5], [5, 0, 5], [-5, 0, 5.0]]), np.array([[0, 2, 1], [0, 3, 2]]), np.ones(3)
    )
    wall = RenderMesh(
        np.array([[0, 0, -50], [0, 0, 50], [0, -50, 50], [0, -50, -50.0]]), np.array([[0, 1, 2], [0, 2, 3]]), np.ones(3)
    )
    points, normals = np.array([[0.001, 0, 0.3], [4.0, 0, 0.3]]), np.tile([0, -1.0, 0], (2, 1))
    scene = RayScene([floor, wall])
    share = scene.open_share(points, normals, cosine_directions(normals, 400), reach=1.0)
    assert share[0] == pytest.approx(0.5, abs=0.03)
    assert share[1] == 1.0


def test_directions_are_spread_evenly():
    directions = sphere_directions(200)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.abs(directions.mean(axis=0)).max() < 0.01
    normal = np.array([[0.6, 0.0, -0.8]])
    about = cosine_directions(normal, 400)[0] @ normal[0]
    assert about.min() > 0
    assert about.mean() == pytest.approx(2 / 3, abs=0.01)  # of a cosine-weighted hemisphere


@pytest.mark.parametrize(
    ("vertices", "faces", "expected"),
    [
        (np.full((3, 3), np.nan), [[0, 1, 2]], "finite"),
        (np.zeros((3, 3)), np.zeros((0, 3), int), "faces"),
        (np.zeros((3, 3)), [[0, 1, 7]], "7"),
    ],
)
def test_bad_meshes_are_named(vertices, faces, expected):
    with pytest.raises(InputError, match=expected):
        RenderMesh(vertices, np.asarray(faces), np.ones(3))


def test_bad_scenes_are_named():
    with pytest.raises(InputError, match="at least one mesh"):
        render_meshes([], CAMERA)
    with pytest.raises(InputError, match="background"):
        render_meshes([ball([0, 0, 1])], CAMERA, np.zeros((10, 10, 3), np.uint8))


def test_contact_sheet_fills_rows():
    tiles = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(tiles, 2)
    assert sheet.shape == (8, 12, 3)
    assert sheet[0, 6, 0] == 20
    assert sheet[4, 0, 0] == 30
    assert (sheet[4:, 6:] == 0).all()
