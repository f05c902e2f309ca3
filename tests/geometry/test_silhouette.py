"""Silhouettes against Open3D's ray caster and closed forms."""

from __future__ import annotations

import numpy as np
import open3d
import pytest
import trimesh

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.silhouette import mask_contour, mask_signed_distance, rasterise_depth, rasterise_mask

CAMERA = CameraModel(np.array([[150.0, 0, 60.3], [0, 140.0, 47.8], [0, 0, 1]]), 128, 96)


def cast_rays(shape: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(np.array(shape.vertices, np.float32)), open3d.core.Tensor(np.array(shape.faces, np.uint32))
    )
    x, y = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    rays = CAMERA.unproject(np.stack([x, y], axis=-1), np.ones(x.shape))
    rays = np.concatenate([np.zeros_like(rays), rays], axis=-1).astype(np.float32)
    hits = scene.cast_rays(open3d.core.Tensor(rays))
    # The rays have z = 1, so that the hit's parameter is the depth.
    return hits["t_hit"].numpy(), hits["primitive_ids"].numpy().astype(np.int64)


def posed_torus(seed: int) -> trimesh.Trimesh:
    torus = trimesh.creation.torus(0.1, 0.03, major_sections=30, minor_sections=12)
    rng = np.random.default_rng(seed)
    torus.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
    torus.apply_translation([rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), rng.uniform(0.3, 0.6)])
    return torus


@pytest.mark.parametrize("seed", range(6))
def test_coverage_depth_and_face_agree_with_a_ray_caster(seed):
    shape = posed_torus(seed)
    depth, face = cast_rays(shape)
    pixels, z = CAMERA.project(shape.vertices)[None], np.array(shape.vertices)[None, :, 2]
    mask = rasterise_mask(pixels, z, np.array(shape.faces), CAMERA.height, CAMERA.width)[0]
    ours, our_face = rasterise_depth(pixels, z, np.array(shape.faces), CAMERA.height, CAMERA.width)
    hit = np.isfinite(depth)
    # A ray along an outline edge is a matter of rounding.
    assert np.count_nonzero(mask != hit) <= 2
    assert np.count_nonzero((ours[0] > 0) != hit) <= 2
    both = hit & (ours[0] > 0)
    assert both.sum() > 300
    assert np.quantile(np.abs(ours[0] - depth)[both], 0.99) < 1e-5
    assert (our_face[0] == face)[both].mean() > 0.99
    assert (our_face[0][~mask] == -1).mean() > 0.999


def test_batches_are_independent():
    shapes = [posed_torus(k) for k in range(3)]
    pixels = np.stack([CAMERA.project(shape.vertices) for shape in shapes])
    z = np.stack([np.array(shape.vertices)[:, 2] for shape in shapes])
    faces = np.array(shapes[0].faces)
    together = rasterise_mask(pixels, z, faces, 96, 128)
    for k in range(3):
        np.testing.assert_array_equal(together[k], rasterise_mask(pixels[k : k + 1], z[k : k + 1], faces, 96, 128)[0])


def test_neighbouring_triangles_leave_no_crack():
    # A fan of slivers over the whole image, its corners between and on pixel centres.
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    rim = np.stack([200 * np.cos(angles), 200 * np.sin(angles)], axis=1) + 50
    for centre in ([50.0, 50.0], [37.123, 61.7]):
        pixels = np.concatenate([[centre], rim])
        faces = np.stack([np.zeros(200, int), 1 + np.arange(200), 1 + (np.arange(200) + 1) % 200], axis=1)
        assert rasterise_mask(pixels[None], np.ones((1, 201)), faces, 100, 100).all()


def test_pixel_centres_are_whole_numbers():
    pixels = np.array([[[2.0, 3.0], [6.0, 3.0], [2.0, 7.0]]])
    mask = rasterise_mask(pixels, np.ones((1, 3)), np.array([[0, 1, 2]]), 10, 10)[0]
    y, x = np.mgrid[:10, :10]
    np.testing.assert_array_equal(mask, (x >= 2) & (y >= 3) & (x + y <= 9))


def test_triangles_behind_the_camera_are_left_out():
    pixels = np.array([[[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
    for z in (-1.0, 0.0, np.nan):
        assert not rasterise_mask(pixels, np.array([[1.0, 1.0, z]]), np.array([[0, 1, 2]]), 10, 10).any()


def test_contour_and_distance_of_a_disc():
    y, x = np.mgrid[:80, :100]
    radius = 25.3
    distance = np.hypot(x - 47.2, y - 40.6) - radius
    mask = distance <= 0
    contour = mask_contour(mask)
    around = np.hypot(contour[:, 0] - 47.2, contour[:, 1] - 40.6)
    assert around.mean() == pytest.approx(radius, abs=0.15)
    assert np.abs(around - radius).max() < 1.0
    error = mask_signed_distance(mask) - distance
    assert abs(error[np.abs(distance) < 1].mean()) < 0.05
    assert np.abs(error).max() < 0.9


def test_what_hides_the_object_draws_no_outline():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    hand = np.zeros_like(mask)
    hand[:, 30:] = True
    contour = mask_contour(mask, hand)
    assert contour[:, 0].max() < 29.5
    assert len(mask_contour(mask)) == len(contour) + 20
    # A mask that the image cuts off has no outline there.
    assert len(mask_contour(np.ones((5, 5), bool))) == 0


def test_mask_distance_is_the_same_wherever_the_mask_lies_in_memory() -> None:
    mask = np.hypot(*(np.mgrid[:73, :101] - np.array([30.0, 40.0])[:, None, None])) < 22
    answers = set()
    kept = []
    for shift in range(40):
        kept.append(np.zeros(1000 + 37 * shift, np.uint8))  # what OpenCV allocates next lies elsewhere each time
        answers.add(mask_signed_distance(mask).tobytes())
    assert len(answers) == 1
