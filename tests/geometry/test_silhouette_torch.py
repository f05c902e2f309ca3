"""The torch rasteriser against the compiled one, which ray casting checks elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.geometry import silhouette_torch
from grasp_nodes.geometry.silhouette import rasterise_mask
from grasp_nodes.geometry.silhouette_torch import coverage, overlaps

HEIGHT, WIDTH = 60, 72


def project(poses: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A torus in random poses, partly outside of the window and, at times, behind the camera."""
    mesh = trimesh.creation.torus(0.05, 0.02, major_sections=20, minor_sections=10)
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(poses, random_state=seed).as_matrix()
    centres = rng.uniform([-0.1, -0.1, 0.03], [0.1, 0.1, 0.6], (poses, 3))
    camera = np.einsum("bij,vj->bvi", rotations, mesh.vertices) + centres[:, None]
    depths = camera[..., 2]
    pixels = camera[..., :2] / np.where(np.abs(depths) > 1e-6, depths, 1e-6)[..., None] * 90 + [35.2, 30.7]
    return pixels, depths, np.asarray(mesh.faces)


@pytest.mark.parametrize("elements", [1 << 16, 1 << 25])
def test_same_pixels_as_compiled(monkeypatch, elements):
    monkeypatch.setattr(silhouette_torch, "_CHUNK_ELEMENTS", elements)
    pixels, depths, faces = project(12, 1)
    expected = rasterise_mask(pixels, depths, faces, HEIGHT, WIDTH)
    got = coverage(torch.tensor(pixels), torch.tensor(depths), torch.tensor(faces), HEIGHT, WIDTH)
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(got.numpy(), expected)


def test_single_precision_differs_only_at_the_rim():
    pixels, depths, faces = project(12, 2)
    expected = rasterise_mask(pixels, depths, faces, HEIGHT, WIDTH)
    got = coverage(torch.tensor(pixels).float(), torch.tensor(depths).float(), torch.tensor(faces), HEIGHT, WIDTH)
    assert (got.numpy() != expected).mean() < 5e-4


def test_triangle_by_hand():
    pixels = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]])
    got = coverage(pixels, torch.ones(1, 3), torch.tensor([[0, 1, 2]]), 6, 6)[0]
    x, y = np.meshgrid(np.arange(6), np.arange(6))
    np.testing.assert_array_equal(got.numpy(), x + y <= 4)
    behind = coverage(pixels, -torch.ones(1, 3), torch.tensor([[0, 1, 2]]), 6, 6)
    assert not behind.any()


def test_overlap_leaves_hidden_pixels_out():
    covered = torch.zeros(2, 4, 4, dtype=torch.bool)
    covered[0, :2], covered[1, :, :2] = True, True
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0] = True
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    # Second row hidden: the first pose is perfect, the second shares two of the eight free pixels of either.
    ignored[1] = True
    np.testing.assert_allclose(overlaps(covered, mask, ignored).numpy(), [1.0, 2 / 8])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_pixels_on_gpu():
    pixels, depths, faces = (torch.tensor(a) for a in project(12, 3))
    expected = coverage(pixels, depths, faces, HEIGHT, WIDTH)
    got = coverage(pixels.cuda(), depths.cuda(), faces.cuda(), HEIGHT, WIDTH).cpu()
    assert torch.equal(got, expected)
