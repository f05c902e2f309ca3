"""What 21 landmarks of one image say about a hand's turn and bends, by a network that knows how landmarks err.

Landmark networks guess what is hidden, and shorten what points to the camera or away from it: the pose that lies on the
landmarks best is not the likeliest one. A small network, trained on rendered grasps whose truth is known (see
`grasp_nodes.data.landmark_reading_training`), takes the landmarks and gives the hand's rotation and joint angles, each
with the error that is to be expected: large where such landmarks are often wrong.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_kinematics import HandConfiguration, pose_keypoints
from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.posture_prior import BEYOND_GRASPS, PosturePrior
from grasp_nodes.hand.parameters import NUM_KEYPOINTS

READER_FILE = Path(__file__).resolve().parent / "landmark_reader.npz"
READER_SHA256 = "a46fca0067858609923fbd87b32abfdf1cd92153015dc102a8fcd66e3597b791"
"""Of the file that travels with the package; ``grasp-nodes train landmark-reader`` makes it again."""
FORMAT = "grasp_nodes/landmark_reader/1"
MIRROR = np.diag([-1.0, 1.0, 1.0])
WRIST, MIDDLE = 0, 9
NUM_FEATURES = 4 * NUM_KEYPOINTS // 2 + 3 * NUM_KEYPOINTS + 3
LEAST_LOG_ERROR, MOST_LOG_ERROR = -4.0, 1.0
"""Of errors in rad, as the network may state them."""
USUAL_LOG_SIZE = -3.0
"""Logarithm of distance times extent of the landmarks, m, that a network's offsets begin at."""


class LandmarkReading(NamedTuple):
    """rotation: (3, 3), hand to camera. rotation_error: rad, per axis. postures: the angles and how sure they are.

    wrist: (3,), m, camera frame, of a hand of the model's size. distance_error: relative, the unknown size of the hand
    included.
    log_volume: logarithm of the product of the errors of rotation and angles; of two readings with the same residuals
    the surer is likelier.
    """

    rotation: np.ndarray
    rotation_error: float
    wrist: np.ndarray
    distance_error: float
    postures: PosturePrior
    log_volume: float


class CanonicalLandmarks(NamedTuple):
    """Landmarks as they look from the front, upright and of unit size, and the way back.

    features: (NUM_FEATURES,). rotation: (3, 3), camera to canonical axes. extent: root mean square distance of the
    landmarks from their middle, as a share of the distance.
    """

    features: np.ndarray
    rotation: np.ndarray
    extent: float


def canonical_landmarks(rays: np.ndarray, relative: np.ndarray | None, score: float) -> CanonicalLandmarks:
    """Turn the camera to the landmarks, and them upright.

    Args:
        rays: (21, 2), x / z and y / z, of a right hand.
        relative: (21, 3), m, camera axes, the shape as the landmark network guesses it, or None.
        score: of the landmarks, counts only beside `relative`.
    """
    middle = np.append(rays.mean(axis=0), 1.0)
    middle /= np.linalg.norm(middle)
    turn = Rotation.from_rotvec(_turn_to_front(middle)).as_matrix()
    seen = np.column_stack([rays, np.ones(len(rays))]) @ turn.T
    flat = seen[:, :2] / np.maximum(seen[:, 2:], 1e-3)
    flat = flat - flat.mean(axis=0)
    size = np.sqrt((flat**2).sum(axis=1).mean())
    up = flat[MIDDLE] - flat[WRIST]
    upright = Rotation.from_rotvec([0.0, 0.0, -np.arctan2(up[0], -up[1])]).as_matrix()
    flat = flat @ upright[:2, :2].T / max(size, 1e-9)
    shape, known = np.zeros((NUM_KEYPOINTS, 3)), np.zeros(3)
    if relative is not None:
        shape = (relative - relative.mean(axis=0)) @ upright.T
        extent = max(float(np.sqrt((shape**2).sum(axis=1).mean())), 1e-6)
        shape, known = shape / extent, np.array([1.0, score, np.log(extent / 0.07)])
    return CanonicalLandmarks(
        np.concatenate([flat.ravel(), shape.ravel(), known]), upright @ turn, float(max(size, 1e-6))
    )


def _turn_to_front(direction: np.ndarray) -> np.ndarray:
    """Smallest rotation vector (3,) that takes a unit vector to +z."""
    axis = np.cross(direction, [0.0, 0.0, 1.0])
    sine = np.linalg.norm(axis)
    return axis * (np.arctan2(sine, direction[2]) / sine) if sine > 1e-9 else np.zeros(3)


@dataclass(frozen=True)
class LandmarkReader:
    """A few networks of three layers, whose answers are averaged.

    names: of the D angles. mean, spread: (F,), of the features. layers: of each network its matrices and offsets.
    angle_mean, angle_spread: (D,), rad, of the angles. correlation: (D, D), of their errors. hand_fingerprint: of the
    right hand's model that it was trained with, "" = not known.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray
    angle_mean: np.ndarray
    angle_spread: np.ndarray
    correlation: np.ndarray
    layers: tuple[tuple[np.ndarray, ...], ...]
    hand_fingerprint: str = ""

    def read(
        self, skeleton: HandSkeleton, rays: np.ndarray, relative: np.ndarray | None, score: float
    ) -> LandmarkReading:
        """The hand that such landmarks are usually seen of.

        Args:
            skeleton: tells side and angles. rays, relative, score: as `canonical_landmarks`, of the hand's own side.

        Raises:
            InputError: the hand bends by other angles than those that were learned.
        """
        if skeleton.dofs.names != self.names:
            raise InputError(
                f"landmark reader: its angles are {len(self.names)} ({', '.join(self.names[:3])}, ...), the hand's are "
                f"{len(skeleton.dofs.names)} ({', '.join(skeleton.dofs.names[:3])}, ...); train one for this hand by "
                "'grasp-nodes train landmark-reader'"
            )
        mirrored = skeleton.side == "left"
        if mirrored:
            rays = rays * [-1.0, 1.0]
            relative = None if relative is None else relative * [-1.0, 1.0, 1.0]
        seen = canonical_landmarks(rays, relative, score)
        answers = [self._forward(seen.features, layers) for layers in self.layers]
        rotation = seen.rotation.T @ nearest_rotation(np.sum([answer[0] for answer in answers], axis=0))
        if mirrored:
            rotation = MIRROR @ rotation @ MIRROR
        log_rotation_error = float(np.mean([answer[2] for answer in answers]))
        log_errors = np.mean([answer[3] for answer in answers], axis=0)
        errors = np.exp(log_errors)
        covariance = self.correlation * np.outer(errors, errors) + BEYOND_GRASPS**2 * np.eye(len(errors))
        postures = PosturePrior(np.mean([answer[1] for answer in answers], axis=0), np.linalg.inv(covariance))
        log_volume = 3.0 * log_rotation_error + float(log_errors.sum())
        log_size, log_distance_error = (float(np.mean([answer[k] for answer in answers])) for k in (4, 5))
        middle = np.exp(log_size) / seen.extent * seen.rotation[2]
        if mirrored:
            middle = MIRROR @ middle
        at_origin = HandConfiguration(rotation, np.zeros(3), postures.mean, 1.0)
        wrist = middle - pose_keypoints(skeleton, at_origin).mean(axis=0)
        return LandmarkReading(
            rotation, float(np.exp(log_rotation_error)), wrist, float(np.exp(log_distance_error)), postures, log_volume
        )

    def _forward(
        self, features: np.ndarray, layers: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, float, float]:
        """Rotation (3, 3) in canonical axes, angles (D,), logarithms: of their errors, of size in m, of its error."""
        hidden = (features - self.mean) / self.spread
        for matrix, offset in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            hidden = matrix @ hidden + offset
            hidden = hidden / (1.0 + np.exp(-np.clip(hidden, -60.0, 60.0)))
        found = layers[-2] @ hidden + layers[-1]
        count = len(self.angle_mean)
        logs = np.clip(found[6 + count :], LEAST_LOG_ERROR, MOST_LOG_ERROR)
        angles = found[6 : 6 + count] * self.angle_spread + self.angle_mean
        log_size = USUAL_LOG_SIZE + found[-1]
        return rotation_of_columns(found[:6]), angles, float(logs[0]), logs[1 : 1 + count], log_size, float(logs[-2])


def disagreement(skeleton: HandSkeleton, reading: LandmarkReading, rays: np.ndarray) -> float:
    """Root mean square distance (m, across the rays) of the landmarks from the hand that was read, where it fits best.

    Args:
        skeleton: the hand. reading: of the landmarks. rays: (21, 2), x / z and y / z, that were read.
    """
    hand = HandConfiguration(reading.rotation, np.zeros(3), reading.postures.mean, 1.0)
    points = pose_keypoints(skeleton, hand, landmarks=True)
    across = np.zeros((NUM_KEYPOINTS, 2, 3))
    across[:, 0, 0] = across[:, 1, 1] = 1.0
    across[:, :, 2] = -rays
    wanted = (rays * points[:, 2:] - points[:, :2]).ravel()
    wrist = np.linalg.lstsq(across.reshape(-1, 3), wanted, rcond=None)[0]
    off = across.reshape(-1, 3) @ wrist - wanted
    return float(np.sqrt((off**2).sum() / NUM_KEYPOINTS))


def rotation_of_columns(numbers: np.ndarray) -> np.ndarray:
    """(3, 3) whose first two columns are nearest in turn to those of the identity plus `numbers` (6,)."""
    first = numbers[:3] + [1.0, 0.0, 0.0]
    first = first / max(float(np.linalg.norm(first)), 1e-9)
    second = numbers[3:] + [0.0, 1.0, 0.0]
    second = second - (second @ first) * first
    second = second / max(float(np.linalg.norm(second)), 1e-9)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) with the largest trace of its product with a matrix (3, 3)."""
    left, _, right = np.linalg.svd(matrix)
    return left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right


@lru_cache(maxsize=2)
def load_landmark_reader(path: Path = READER_FILE) -> LandmarkReader:
    """The trained networks that travel with the package, or others; ``card`` in the file says how they were made.

    Raises:
        InputError: not such a file, or the package's own is damaged.
    """
    content = path.read_bytes()
    if path == READER_FILE and (found := hashlib.sha256(content).hexdigest()) != READER_SHA256:
        raise InputError(
            f"{path}: its SHA-256 is {found[:12]}, expected {READER_SHA256[:12]}: damaged or changed; reinstall the "
            "package with 'pip install --force-reinstall grasp_nodes'"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if str(file.get("format", "")) != FORMAT:
            raise InputError(f"{path}: expected format {FORMAT!r}, got {str(file.get('format', ''))!r}")
        arrays = {name: file[name] for name in file.files}
    numbers = {name: values.astype(np.float64) for name, values in arrays.items() if values.dtype.kind == "f"}
    networks = int(arrays["networks"])
    layers = tuple(tuple(numbers[f"network{k}_{part}"] for part in range(6)) for k in range(networks))
    return LandmarkReader(
        names=tuple(str(name) for name in arrays["names"]),
        mean=numbers["mean"],
        spread=numbers["spread"],
        angle_mean=numbers["angle_mean"],
        angle_spread=numbers["angle_spread"],
        correlation=numbers["correlation"],
        layers=layers,
        hand_fingerprint=str(arrays.get("hand_fingerprint", "")),
    )
