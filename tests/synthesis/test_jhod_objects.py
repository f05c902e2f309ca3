"""The auto-encoder of objects: what it gives back, and that it looks at places, not at the order of points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grasp_nodes.data.labelled_grasps import GraspedObject
from grasp_nodes.data.object_surfaces import ObjectSurfaces, sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Trained
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jhod.object_data import PlainBatches, plain_objects
from grasp_nodes.synthesis.jhod.object_training import reconstruction_judge, train_objects
from grasp_nodes.synthesis.jhod.point_autoencoder import LENGTH, PointAutoEncoder, PointAutoEncoderConfig

CONFIG = PointAutoEncoderConfig(points=256, width=16, grid=6, voxel_width=8, spread=0.06)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> ObjectSurfaces:
    names = ("sphere:0.03", "sphere:0.05", "box:0.04,0.06,0.09", "cylinder:0.03,0.12")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRASP_NODES_CACHE", str(tmp_path_factory.mktemp("cache")))
        return sample_surfaces([GraspedObject(name, name) for name in names], 512)


@pytest.fixture(scope="module")
def trained(surfaces: ObjectSurfaces, tmp_path_factory) -> Trained:
    settings = TrainingSettings(steps=250, rate=4e-3, log_every=50, evaluate_every=0, device="cpu", average=0.95)
    run = RunOptions(8, tmp_path_factory.mktemp("objects"))
    return train_objects(CONFIG, surfaces, settings, run, validation=0.25)


def points_of(surfaces: ObjectSurfaces, step: int = 9) -> dict[str, torch.Tensor]:
    rows = np.arange(4)
    plain = PlainBatches(surfaces, rows, CONFIG.points, 4, scales=(1.0, 1.0), turned=0.0)
    return plain.of_rows(rows, Step(step))


def test_inverse_error(trained: Trained, surfaces: ObjectSurfaces):
    """The decoder is the encoder's inverse to 1.5 mm, of all objects, the one that validates among them."""
    found = reconstruction_judge(points_of(surfaces)["points"])(trained.network)
    assert found["chamfer_mm"] < 1.5
    assert found["f_1_percent"] > 0.9
    assert trained.values["chamfer_mm"] < 2.0


def test_the_order_of_points_does_not_matter(trained: Trained, surfaces: ObjectSurfaces):
    network, points = trained.network, points_of(surfaces)["points"]
    assert isinstance(network, PointAutoEncoder)
    order = torch.randperm(CONFIG.points, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, log_variance = network.encode(points)
        again, _ = network.encode(points[:, order])
        torch.testing.assert_close(again, mean[:, order], atol=1e-4, rtol=0)
        torch.testing.assert_close(network.decode(again), network.decode(mean)[:, order], atol=1e-5, rtol=0)
    assert mean.shape == (4, 256, 4)
    assert log_variance.exp().sqrt().median() < 0.1


def test_at_first_latents_are_places():
    points = 0.05 * torch.randn(2, 64, 3)
    mean, log_variance = PointAutoEncoder(PointAutoEncoderConfig(points=64)).encode(points)
    torch.testing.assert_close(mean[..., :3], points / LENGTH)
    assert mean[..., 3].eq(0).all()
    torch.testing.assert_close((0.5 * log_variance).exp(), torch.full_like(mean, 0.03))


def test_what_there_is_to_learn_from(tmp_path, monkeypatch):
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="none; name a number"):
        plain_objects(0)
    found = plain_objects(2, points=64)
    assert found.points.shape == (2, 128, 3)
    with pytest.raises(InputError, match="power of 2"):
        PointAutoEncoderConfig(points=100)
