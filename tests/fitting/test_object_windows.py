"""One object through consecutive windows: its unit, its size, and where one window hands it to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open3d
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.homan.joint_fit import JointFitSettings, JointFitter
from grasp_nodes.fitting.object_clip import initialise_object
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, ObjectEvidence, ObservedFrame

CAMERA = CameraModel(np.array([[280.0, 0, 160], [0, 280.0, 120], [0, 0, 1]]), 320, 240)
STEP = 33_000_000

pytestmark = pytest.mark.usefixtures("cache")


def motion(count: int) -> np.ndarray:
    """(T, 4, 4): carried by 8 mm and turned by 0.06 rad per frame."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    start = Rotation.from_euler("xyz", [70, 25, 40], degrees=True)
    for t in range(count):
        poses[t, :3, :3] = (Rotation.from_rotvec(np.array([0.3, 0.8, 0.5]) * 0.06 * t) * start).as_matrix()
        poses[t, :3, 3] = [-0.04 + 0.006 * t, 0.03 - 0.004 * t, 0.42 + 0.003 * t]
    return poses


def observe(model: ObjectModel, poses: np.ndarray, size: float = 1.0, noise: float = 0.002) -> list[ObservedFrame]:
    """Exact masks, and depth with noise (m), of the object at `size` times its model."""
    rng, frames = np.random.default_rng(0), []
    x, y = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    rays = CAMERA.unproject(np.stack([x, y], axis=-1).astype(float), np.ones(x.shape))
    rays = open3d.core.Tensor(np.concatenate([np.zeros_like(rays), rays], axis=-1).astype(np.float32))
    for t, pose in enumerate(poses):
        vertices = (size * model.vertices @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
        scene = open3d.t.geometry.RaycastingScene()
        scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(model.faces.astype(np.uint32)))
        depth = scene.cast_rays(rays)["t_hit"].numpy()
        mask = np.isfinite(depth)
        depth = np.where(mask, depth, 1.1) + rng.normal(scale=noise, size=depth.shape)
        frames.append(shown(t, mask, depth.astype(np.float32)))
    return frames


def shown(row: int, mask: np.ndarray, depth: np.ndarray | None) -> ObservedFrame:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    return ObservedFrame(Evidence(row * STEP, CAMERA, (), (ObjectEvidence("bracket", 0.9, box, mask),)), depth)


def add(model: ObjectModel, got: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(T,) m, mean distance of the object's points to where they truly are."""
    first, second = ([pose[:3, :3] @ model.points.T + pose[:3, 3:] for pose in poses] for poses in (got, true))
    return np.array([np.linalg.norm(a - b, axis=0).mean() for a, b in zip(first, second, strict=True)])


def test_a_mesh_in_millimetres_is_scaled_once(bracket):
    """What a state says of size is the factor on the file's coordinates; everything in between is in metres."""
    model = make_object(bracket.vertices * 1000.0, bracket.faces, "bracket", scale=0.001)
    np.testing.assert_allclose(model.vertices, bracket.vertices, atol=1e-7)
    poses = motion(3)
    frames = observe(model, poses)
    track = initialise_object(model, frames)
    assert track.scale == 1.0
    unseen = [replace(frame, evidence=replace(frame.evidence, objects=())) for frame in frames]
    assert initialise_object(model, unseen).scale == 1.0
    fitter = JointFitter({}, {"bracket": model}, JointFitSettings(iterations=(10, 10)))
    (fitted,) = fitter.fit(frames, [], [track]).objects
    assert fitted.scale == 1.0
    assert add(model, fitted.T_camera_object, poses).max() < 0.002
    for state in clip_states([frame.evidence for frame in frames], [], [fitted], {}, {"bracket": model}):
        assert state.objects[0].scale == pytest.approx(0.001)
