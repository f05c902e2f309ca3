from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.fitting import landmark_reading
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.landmark_reading import (
    MIRROR,
    LandmarkReading,
    canonical_landmarks,
    disagreement,
    load_landmark_reader,
    nearest_rotation,
    rotation_of_columns,
)
from grasp_nodes.fitting.posture_prior import PosturePrior
from grasp_nodes.hand.files import load_hand_model

SKELETONS = {side: make_hand_skeleton(load_hand_model(side)) for side in ("right", "left")}
BACK_UP = Rotation.from_euler("z", -90, degrees=True).as_matrix() @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Back of the right hand to the camera, fingers up."""


def seen(side="right", turn=(0.0, 0.0, 0.0), place=(0.03, 0.02, 0.6), posture=((15, 20, 12), (8, 10, 12, -15, 0))):
    """A true hand, and its landmarks as a perfect network sees them."""
    skeleton = SKELETONS[side]
    facing = BACK_UP if side == "right" else MIRROR @ BACK_UP @ MIRROR
    rotation = Rotation.from_rotvec(turn).as_matrix() @ facing
    hand = HandConfiguration(rotation, np.array(place), skeleton.angles(*posture), 1.0)
    points = pose_keypoints(skeleton, hand, landmarks=True)
    return hand, points[:, :2] / points[:, 2:], points - points.mean(axis=0)


def angle(first, second):
    return float(np.linalg.norm(Rotation.from_matrix(first @ second.T).as_rotvec()))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.3, 0.2, 0.0), (0.0, -0.3, 1.2)])
def test_well_seen_hands_are_read(side, turn):
    hand, rays, relative = seen(side, turn)
    reading = load_landmark_reader().read(SKELETONS[side], rays, relative, 0.98)
    assert angle(reading.rotation, hand.rotation) < 0.3
    assert np.abs(reading.postures.mean - hand.angles).mean() < 0.25
    assert reading.wrist[2] == pytest.approx(0.6, rel=0.15)
    np.testing.assert_allclose(reading.wrist[:2], hand.wrist[:2], atol=0.03)


def test_the_other_side_is_the_mirror_image():
    reader = load_landmark_reader()
    _, rays, relative = seen("right", (0.2, -0.3, 0.4))
    right = reader.read(SKELETONS["right"], rays, relative, 0.9)
    left = reader.read(SKELETONS["left"], rays * [-1, 1], relative * [-1, 1, 1], 0.9)
    np.testing.assert_allclose(left.rotation, MIRROR @ right.rotation @ MIRROR, atol=1e-9)
    np.testing.assert_allclose(left.postures.mean, right.postures.mean, atol=1e-9)
    np.testing.assert_allclose(left.wrist, MIRROR @ right.wrist, atol=2e-3)


def test_landmarks_that_no_hand_has_are_less_sure():
    reader = load_landmark_reader()
    _, rays, relative = seen()
    good = reader.read(SKELETONS["right"], rays, relative, 0.98)
    order = np.random.default_rng(0).permutation(21)
    wrong = reader.read(SKELETONS["right"], rays[order], relative[order], 0.3)
    bare = reader.read(SKELETONS["right"], rays, None, 0.98)
    assert wrong.rotation_error > 2 * good.rotation_error
    assert wrong.log_volume > good.log_volume
    assert bare.rotation_error > good.rotation_error
    for reading in (good, wrong, bare):
        assert (np.linalg.eigvalsh(reading.postures.precision) > 0).all()


def test_canonical_landmarks_do_not_depend_on_where_and_how_large_they_are():
    hand, rays, relative = seen()
    points = pose_keypoints(SKELETONS["right"], hand, landmarks=True)
    middle = np.append(rays.mean(axis=0), 1.0)
    roll = Rotation.from_rotvec(0.7 * middle / np.linalg.norm(middle)).as_matrix()
    first = canonical_landmarks(rays, relative, 0.9)
    rolled = points @ roll.T
    second = canonical_landmarks(rolled[:, :2] / rolled[:, 2:], relative @ roll.T, 0.9)
    third = canonical_landmarks(rays, 2.0 * relative, 0.9)
    np.testing.assert_allclose(second.features[:42], first.features[:42], atol=0.02)
    np.testing.assert_allclose(third.features[:105], first.features[:105], atol=1e-9)
    assert third.features[107] == pytest.approx(first.features[107] + np.log(2.0))
    assert np.sqrt((first.features[:42] ** 2).sum() / 21) == pytest.approx(1.0)
    # The way back: the middle of the landmarks lies before the canonical camera.
    np.testing.assert_allclose(first.rotation @ middle / np.linalg.norm(middle), [0, 0, 1], atol=1e-9)


def test_rotations_are_rotations_and_the_nearest_ones():
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = rotation_of_columns(rng.normal(0, 2, 6))
        np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(found) == pytest.approx(1.0)
        matrix = rng.normal(size=(3, 3))
        nearest = nearest_rotation(matrix)
        others = Rotation.random(200, random_state=2).as_matrix()
        assert np.linalg.det(nearest) == pytest.approx(1.0)
        assert (np.einsum("nij,ij->n", others, matrix) <= np.sum(nearest * matrix) + 1e-9).all()


def test_the_network_is_what_torch_computes():
    reader = load_landmark_reader()
    features = np.random.default_rng(3).normal(size=len(reader.mean))
    hidden = torch.from_numpy((features - reader.mean) / reader.spread)
    first, first_offset, second, second_offset, last, last_offset = (torch.from_numpy(x) for x in reader.layers[0])
    hidden = torch.nn.functional.silu(first @ hidden + first_offset)
    hidden = torch.nn.functional.silu(second @ hidden + second_offset)
    expected = (last @ hidden + last_offset).numpy()
    rotation, angles, _, _, log_size, _ = reader._forward(features, reader.layers[0])
    np.testing.assert_allclose(rotation, rotation_of_columns(expected[:6]), atol=1e-9)
    np.testing.assert_allclose(angles, expected[6:27] * reader.angle_spread + reader.angle_mean, atol=1e-9)
    assert log_size == pytest.approx(-3.0 + expected[-1])


def test_a_hand_that_bends_by_other_angles_is_refused():
    reader = load_landmark_reader()
    _, rays, relative = seen()
    with pytest.raises(InputError, match="angles"):
        replace(reader, names=reader.names[1:]).read(SKELETONS["right"], rays, relative, 0.9)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "reader.npz"
    np.savez(path, format="something else")
    with pytest.raises(InputError, match="format"):
        load_landmark_reader(path)


def test_a_damaged_file_of_the_package_is_refused(tmp_path, monkeypatch):
    content = bytearray(landmark_reading.READER_FILE.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "reader.npz"
    path.write_bytes(content)
    monkeypatch.setattr(landmark_reading, "READER_FILE", path)
    with pytest.raises(InputError, match="SHA-256"):
        load_landmark_reader(path)


def test_a_hand_agrees_with_its_own_landmarks_and_not_with_a_finger_bent_otherwise():
    hand, rays, _ = seen()
    skeleton = SKELETONS["right"]
    sure = np.eye(len(hand.angles))
    reading = LandmarkReading(hand.rotation, 0.1, hand.wrist, 0.05, PosturePrior(hand.angles, sure), -40.0)
    assert disagreement(skeleton, reading, rays) < 1e-9
    bent = hand.angles + skeleton.dofs.values(index_bend_0=60, index_bend_1=60)
    other = reading._replace(postures=PosturePrior(bent, sure), wrist=np.zeros(3))
    tip = pose_keypoints(skeleton, hand._replace(angles=bent)) - pose_keypoints(skeleton, hand)
    apart = disagreement(skeleton, other, rays)
    assert 0.003 < apart < np.linalg.norm(tip, axis=1).max()
