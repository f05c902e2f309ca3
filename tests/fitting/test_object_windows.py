"""One object through consecutive windows: its unit, its size, and where one window hands it to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open3d
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.clip_states import clip_states
from grasp_nodes.fitting.guided_object import initialise_guided_object
from grasp_nodes.fitting.homan.joint_fit import JointFitSettings, JointFitter
from grasp_nodes.fitting.object_clip import initialise_object
from grasp_nodes.fitting.reconstruction import ClipReconstructor, ReconstructionSettings
from grasp_nodes.fitting.tracks import ObjectTrack
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence, ObservedFrame

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


def true_track(poses: np.ndarray, scale: float = 1.0) -> ObjectTrack:
    every = np.ones(len(poses), bool)
    return ObjectTrack("bracket", poses, every, every * 0.9, every * 0.9, ~every, scale=scale)


@pytest.mark.parametrize("guided", [False, True])
def test_a_size_that_was_fitted_is_kept_and_searched_with(bracket, guided):
    poses, size = motion(5), 1.25
    frames = observe(bracket, poses, size)
    past = true_track(poses[:2], size)
    if guided:
        track, _ = initialise_guided_object(bracket, frames, previous=past)
    else:
        track = initialise_object(bracket, frames, previous=past)
    assert track.scale == size
    assert track.seen.all()
    assert add(bracket.resized(size), track.T_camera_object, poses).max() < 0.003
    fitter = JointFitter({}, {"bracket": bracket}, JointFitSettings(iterations=(5, 5), scale_free=True))
    (fitted,) = fitter.fit(frames, [], [track], anchored=np.arange(5) < 1).objects
    assert fitted.scale == pytest.approx(size)


def test_a_resized_object_measures_its_own_distances(bracket):
    big = bracket.resized(2.0)
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (50, 3))
    np.testing.assert_allclose(
        big.signed_distance.query(2 * points)[0], 2 * bracket.signed_distance.query(points)[0], atol=1e-6
    )
    np.testing.assert_allclose(np.ptp(big.vertices, axis=0), 2 * np.ptp(bracket.vertices, axis=0), rtol=1e-6)
    assert big.scale == 2 * bracket.scale


class Given:
    """Evidence that was made before, by stamp."""

    def __init__(self, frames: list[ObservedFrame]) -> None:
        self.frames = {frame.evidence.stamp: frame for frame in frames}

    def perceive(self, frames):
        return [self.frames[frame.stamp] for frame in frames]

    def reset(self) -> None:
        pass

    def images(self):
        blank = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
        return (Frame(stamp, blank, CAMERA) for stamp in self.frames)


HANDS = {"right": load_hand_model("right")}


class Watched(ClipReconstructor):
    """Remembers the objects of each window before and after the fit, which moves them by 7 mm in the first one."""

    def fit(self, window):
        if not hasattr(self, "windows"):
            self.windows = []
        hands, objects, losses = super().fit(window)
        if not self.windows:
            poses = objects[0].T_camera_object.copy()
            poses[:, 0, 3] += 0.007
            objects = [replace(objects[0], T_camera_object=poses, score=objects[0].score * 0.5)]
        self.windows.append((window.kept, window.objects[0], objects[0]))
        return hands, objects, losses


@pytest.mark.parametrize("guided", [False, True])
def test_frames_that_are_final_hold_the_next_window(bracket, guided):
    given = Given(observe(bracket, motion(12)))
    joint = JointFitSettings(iterations=(10, 10))
    settings = ReconstructionSettings(window=8, overlap=2, guided=guided, joint=joint, candidates=20)
    watched = Watched(given, HANDS, {"bracket": bracket}, settings)
    states = [state for result in watched.reconstruct(given.images()) for state in result.states]
    assert len(states) == 12
    (_, _, before), (kept, started, after) = watched.windows
    assert kept == 2
    for track in (started, after):
        for name in ("T_camera_object", "seen", "score", "iou", "lost"):
            np.testing.assert_array_equal(getattr(track, name)[:kept], getattr(before, name)[4:6])
    for t, state in enumerate(states[:6]):
        np.testing.assert_array_equal(state.objects[0].T_camera_object, before.T_camera_object[t])


def test_the_past_is_where_it_says(bracket):
    """Two of the same kind: the past tells which one is followed by where that was in the first frame."""
    poses = motion(8)
    beside = poses[::-1].copy()  # ends where the other one begins
    beside[:, :3, :3] = poses[0, :3, :3]
    both = []
    for first, second in zip(observe(bracket, poses), observe(bracket, beside), strict=True):
        items = (first.evidence.objects[0], replace(second.evidence.objects[0], track_id=1))
        both.append(replace(first, evidence=replace(first.evidence, objects=items), depth=None))
    track = initialise_object(bracket, both, previous=true_track(poses[:6]))
    assert add(bracket, track.T_camera_object, poses).max() < 0.01


def test_frames_are_judged_by_themselves(bracket):
    """Six frames show the object and twelve a thing that it cannot be: the six stay, the rest is not seen."""
    poses = motion(6)
    frames = [replace(frame, depth=None) for frame in observe(bracket, poses)]
    cross = np.zeros((CAMERA.height, CAMERA.width), bool)
    cross[20:220, 150:158] = cross[116:124, 60:260] = True
    wrong = [shown(6 + t, np.roll(cross, 3 * t, axis=1), None) for t in range(12)]
    track = initialise_object(bracket, [*frames, *wrong])
    np.testing.assert_array_equal(track.seen, np.arange(18) < 6)
    assert np.median(add(bracket, track.T_camera_object[:6], poses)) < 0.02
    assert track.iou[:6].min() > 0.8
    # With nothing but wrong masks after them, frames that are known keep what is known of them.
    past = true_track(poses[:2])
    track = initialise_object(bracket, [shown(t, cross, None) for t in range(12)], previous=past)
    np.testing.assert_array_equal(track.seen, np.arange(12) < 2)
    np.testing.assert_array_equal(track.T_camera_object[:2], past.T_camera_object)
    np.testing.assert_array_equal(track.iou[:2], past.iou)


def test_windows_without_overlap(bracket):
    params = replace(HandParams.zeros(1), transl=torch.tensor([[-0.05, 0.0, 0.5]]))
    with torch.no_grad():
        pixels = CAMERA.project(HANDS["right"](params).keypoints[0].double().numpy()).astype(np.float32)
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    hand = HandEvidence("right", 0.95, 0.95, box, pixels, None, None, 1)
    frames = observe(bracket, motion(6))
    given = Given([replace(f, evidence=replace(f.evidence, hands=(hand,)), depth=None) for f in frames])
    settings = ReconstructionSettings(window=3, overlap=0, independent=True, candidates=10)
    reconstructor = ClipReconstructor(given, HANDS, {"bracket": bracket}, settings)
    states = [state for result in reconstructor.reconstruct(given.images()) for state in result.states]
    assert [state.stamp for state in states] == [STEP * t for t in range(6)]
    assert all(state.hands and state.objects for state in states)
