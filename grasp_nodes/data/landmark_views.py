"""Rendered hands as a landmark network sees them, with the truth beside: from these its habits are learned.

Three kinds. Grasps: hands of the open grasps, closed or on the way there, with and without their objects, from all
sides, often hidden by what they hold. Free hands: gestures, every finger on its own. Hidden hands: grasps behind
something that leaves little of them.

The benchmark's clips have motions, cameras and looks of their own, but the same code shades them, and they hold objects
of the same set of grasps. No view shows an object, nor any grasp on it, that a clip of the judge (seed 0) or of the
seed that constants are chosen on holds: `BENCHMARK_OBJECTS`. Other objects of those clips are not published at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import cv2
import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from grasp_nodes.data.benchmark_objects import moved, open_grasps_once, open_hand, rest_frames
from grasp_nodes.data.finger_postures import free_posture
from grasp_nodes.data.shading import StudioLook, photograph, skin_shader
from grasp_nodes.data.skin import ArmLook, SkinnedArm
from grasp_nodes.fitting.hand_skeleton import dof_values, make_hand_skeleton
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.rendering import RayScene, RenderMesh, draw_meshes
from grasp_nodes.hand.kinds import KINDS
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.preshapes import HandPreshapes, angles
from grasp_nodes.objects.registry import family_mesh, parse_name
from grasp_nodes.perception.hand_landmarks import PIXEL_CENTER
from grasp_nodes.perception.landmark_search import DOUBT_CROPS, SURE_CROPS, RegionLandmarker, read_crops
from grasp_nodes.perception.region import Region, region_of_landmarks

ViewKind = Literal["grasp", "free", "hidden"]
KINDS_OF_VIEWS: tuple[ViewKind, ...] = get_args(ViewKind)
BENCHMARK_OBJECTS = frozenset(
    {
        *("frustum:25", "phone:21", "frustum:20", "cylinder:15", "superquadric:12", "dumbbell:7", "ring:29", "bowl:12"),
        *("phone:29", "vase:11", "glass:4", "box:24", "prism:6"),
        *("ellipsoid:26", "capsule:0", "bottle:28", "ellipsoid:25", "box:12", "ring:25", "hammer:4", "bowl:2"),
        *("glass:22", "cylinder:8", "sphere:8"),
    }
)
"""Published objects in the 20 clips of seed 0 and, from the third line on, in the first 12 clips of seed 1."""
ARMS: dict[ViewKind, int] = {"grasp": 8, "free": 32, "hidden": 32}
"""Skins that differ in tone and sleeve."""
OPENING, WIDE = 0.4, 0.2
"""Share of hands that are on their way, and the largest closing of the pre-shape they come from."""
WITH_OBJECT, OBJECT_AWAY, WITH_PROP = 0.9, 0.6, 0.12
"""Shares: of hands with their object; of objects beside their place, of hands on their way; of hands behind a box."""
FOREARM_AT_CAMERA = -0.75
"""Cosine between forearm and optical axis below which the arm would come out of the camera."""
NEAREST = 0.2
"""m, of any keypoint."""
FREE_WITH_PROP = 0.08
WALL = ((0.04, 0.12), (0.04, 0.12), (0.01, 0.08))
"""m, least and most sides of what hides most of a hand."""
WALL_OFF = 0.04
"""m, from the hand's middle as it is seen."""
DRIFT = 0.08
"""Of a hidden hand's expected place, in crops; that of others is better known."""
MEADOWS = 6
"""Patches of other colours behind free and hidden hands, at most."""
LEAST_PRESENCE = 0.2
READINGS = 3
"""Best readings of a view that are kept: the worse ones teach what wrong landmarks look like."""


@dataclass(frozen=True)
class SeenLandmarks:
    """One reading of a view: rays (21, 2), x / z and y / z; relative (21, 3), m, camera axes; presence score."""

    rays: np.ndarray
    relative: np.ndarray
    presence: float


@dataclass(frozen=True)
class LandmarkView:
    """A right hand and how it was seen.

    readings: best first. rotation: (3, 3), hand to camera. angles: (D,), rad. keypoints: (21, 3), m, camera frame.
    """

    readings: tuple[SeenLandmarks, ...]
    rotation: np.ndarray
    angles: np.ndarray
    keypoints: np.ndarray


class LandmarkStudio:
    """Renders hands and asks the network."""

    def __init__(self, landmarker: RegionLandmarker, seed: int) -> None:
        """Prepare grasps and skeleton.

        Args:
            landmarker: the network. seed: of everything random.

        Raises:
            MissingFileError: the open grasps are not there.
        """
        self._landmarker, self._seed = landmarker, seed
        self._model = open_hand("right")
        self._skeleton = make_hand_skeleton(self._model)
        self._grasps = open_grasps_once()
        self._shapes = HandPreshapes.of_model(self._model)

    def view(self, number: int, kind: ViewKind = "grasp") -> LandmarkView | None:
        """One hand; None where the forearm is in the way, the object is the benchmark's, or the network sees nothing.

        Args:
            number: of the view; the same number and kind give the same view. kind: of view.
        """
        stream = KINDS_OF_VIEWS.index(kind)
        rng = np.random.default_rng([self._seed, number, stream] if stream else [self._seed, number])
        grasp = self._grasps[np.array([int(rng.integers(len(self._grasps)))])]
        held = grasp.objects[int(grasp.object_index[0])]
        if held.name in BENCHMARK_OBJECTS:
            return None
        hand = grasp.hands.to(torch.float64)
        closing = torch.tensor([rng.uniform(0, WIDE)], dtype=torch.float32)
        wide = self._shapes.hand_pose(angles(KINDS[int(grasp.kind[0])], closing))[0].double()
        opened = rng.uniform(0, 1) if rng.random() < OPENING else 0.0
        hand = replace(hand, hand_pose=hand.hand_pose + opened * (wide - hand.hand_pose))
        if kind == "free":
            hand = replace(hand, hand_pose=self._free_pose(rng)[None])
        T_object_hand = rest_frames(hand)[0]
        focal = rng.uniform(520, 700)
        T_camera_hand = self._placed(hand, rng)
        if T_camera_hand[2, 0] < FOREARM_AT_CAMERA:
            return None
        with torch.no_grad():
            output = self._model(moved(hand, T_camera_hand[None]))
        keypoints, frames = output.keypoints[0].numpy(), output.joint_frames[0].numpy()
        if keypoints[:, 2].min() < NEAREST:
            return None
        camera = _camera_at(keypoints, focal)
        arm = _arm(int(rng.integers(ARMS[kind])))
        light = np.array([rng.uniform(-0.8, 0.8), -rng.uniform(0.3, 1.0), -rng.uniform(0.3, 1.0)])
        light /= np.linalg.norm(light)
        skin = arm.vertices(output.vertices[0].numpy(), frames[0])
        meshes = [RenderMesh(skin, arm.faces, np.clip(arm.colors * rng.uniform(0.8, 1.1), 0, 1))]
        if kind != "free" and rng.random() < WITH_OBJECT:
            T_camera_object = T_camera_hand @ np.linalg.inv(T_object_hand)
            if opened and rng.random() < OBJECT_AWAY:
                T_camera_object[:3, 3] += rng.normal(0, 0.04, 3)
            vertices, faces = _object_mesh(held.name)
            vertices = _moved(T_camera_object, _moved(held.transform, vertices))
            color = np.clip(rng.uniform(0.1, 0.9) + rng.normal(0, 0.15, 3), 0.02, 1)
            meshes.append(RenderMesh(vertices, faces, color))
        if kind == "hidden":
            meshes.append(_wall(keypoints, rng))
        elif rng.random() < (WITH_PROP if kind == "grasp" else FREE_WITH_PROP):
            meshes.append(_prop(keypoints, rng))
        image = _photo(camera, meshes, light, rng, 0 if kind == "grasp" else int(rng.integers(MEADOWS + 1)))
        readings = self._readings(image, camera, keypoints, rng, DRIFT if kind == "hidden" else 0.0)
        if not readings:
            return None
        values = dof_values(self._skeleton, hand.hand_pose[0])
        return LandmarkView(readings, T_camera_hand[:3, :3], values, keypoints)

    def _free_pose(self, rng: np.random.Generator) -> torch.Tensor:
        """(45,) rad."""
        return torch.from_numpy(self._skeleton.dofs.pose(free_posture(self._skeleton, rng)))

    def _placed(self, hand: HandParams, rng: np.random.Generator) -> np.ndarray:
        """T_camera_hand: turned at random, the palm's middle somewhere in the image."""
        far = rng.uniform(0.45, 0.9)
        rotation = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
        zeros = torch.zeros(1, 3, dtype=torch.float64)
        with torch.no_grad():
            at_rest = self._model(replace(hand, global_orient=zeros, transl=zeros)).keypoints[0].numpy()
        place = np.array([rng.uniform(-0.25, 0.25) * far, rng.uniform(-0.18, 0.18) * far, far])
        T_camera_hand = np.eye(4)
        T_camera_hand[:3, :3] = rotation
        T_camera_hand[:3, 3] = place - rotation @ at_rest[[0, 9]].mean(axis=0)
        return T_camera_hand

    def _readings(
        self, image: np.ndarray, camera: CameraModel, keypoints: np.ndarray, rng: np.random.Generator, drift: float
    ) -> tuple[SeenLandmarks, ...]:
        """As a hand that is followed through a clip is read: from about the right place."""
        points = camera.project(keypoints) + PIXEL_CENTER
        mirrored = rng.random() < 0.5
        if mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
            points = np.stack([camera.width - points[:, 0], points[:, 1]], axis=1)
        region = region_of_landmarks(points)
        x, y = (center + rng.normal(0, 0.04 + drift) * region.size for center in region.center)
        region = Region((x, y), region.size * float(np.exp(rng.normal(0, 0.08))), region.angle + rng.normal(0, 0.15))
        crops: Sequence[tuple[float, float, bool]] = SURE_CROPS if rng.random() < 0.7 else DOUBT_CROPS
        found = []
        for reading in read_crops(self._landmarker, image, [region], crops, LEAST_PRESENCE)[:READINGS]:
            seen, relative = reading.landmarks.points - PIXEL_CENTER, reading.landmarks.points_3d
            if mirrored:
                seen = np.stack([camera.width - 1 - seen[:, 0], seen[:, 1]], axis=1)
                relative = relative * [-1.0, 1.0, 1.0]
            found.append(SeenLandmarks(camera.normalise(seen), relative, reading.landmarks.presence))
        return tuple(found)


def _camera_at(keypoints: np.ndarray, focal: float) -> CameraModel:
    """The part of an image that shows the hand, as a camera of its own."""
    pixels = keypoints[:, :2] / keypoints[:, 2:] * focal
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    half = int(1.3 * max(float((high - low).max()) / 2, 40.0)) + 20
    x, y = half - np.round((low + high) / 2)
    return CameraModel(np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]]), 2 * half, 2 * half)


@lru_cache(maxsize=max(ARMS.values()))
def _arm(number: int) -> SkinnedArm:
    rng = np.random.default_rng([number, 77])
    red, green, blue = np.clip(rng.uniform(0.45, 1.15) * rng.normal(1, 0.04, 3), 0.3, 1.25)
    start = float(rng.choice([0.03, 0.07, 0.25]))
    sleeve = rng.uniform(0.1, 0.8, 3)
    look = ArmLook((red, green, blue), start, (sleeve[0], sleeve[1], sleeve[2]))
    return SkinnedArm(open_hand("right"), look=look)


@lru_cache(maxsize=512)
def _object_mesh(name: str) -> tuple[np.ndarray, np.ndarray]:
    vertices, faces = family_mesh(parse_name(name))
    return np.asarray(vertices, np.float64), np.asarray(faces)


def _prop(keypoints: np.ndarray, rng: np.random.Generator) -> RenderMesh:
    """A box before some keypoint."""
    box = trimesh.creation.box(rng.uniform(0.03, 0.12, 3))
    place = keypoints[rng.integers(len(keypoints))] * rng.uniform(0.6, 0.9) + rng.normal(0, 0.03, 3)
    turn = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    return RenderMesh(np.asarray(box.vertices) @ turn.T + place, np.asarray(box.faces), rng.uniform(0.1, 0.9, 3))


def _wall(keypoints: np.ndarray, rng: np.random.Generator) -> RenderMesh:
    """A box before the hand's middle."""
    box = trimesh.creation.box([rng.uniform(*pair) for pair in WALL])
    place = (keypoints.mean(axis=0) + rng.normal(0, WALL_OFF, 3)) * rng.uniform(0.75, 0.88)
    turn = Rotation.from_euler("zxy", [rng.uniform(0, np.pi), *rng.normal(0, 0.4, 2)]).as_matrix()
    return RenderMesh(np.asarray(box.vertices) @ turn.T + place, np.asarray(box.faces), rng.uniform(0.1, 0.9, 3))


def _photo(
    camera: CameraModel, meshes: list[RenderMesh], light: np.ndarray, rng: np.random.Generator, meadows: int
) -> np.ndarray:
    """(H, W, 3) uint8, before clutter with so many patches of other colours."""
    noise = rng.normal(size=(camera.height, camera.width, 3))
    clutter = cv2.GaussianBlur(noise, (0, 0), rng.uniform(3, 40))
    canvas = np.clip(rng.uniform(0.2, 0.8, 3) + rng.uniform(0.02, 0.15) * clutter / clutter.std(), 0, 1)
    for _ in range(meadows):
        corners = np.round(rng.uniform(-0.3, 1.3, (int(rng.integers(3, 6)), 2)) * [camera.width, camera.height])
        patch = cv2.convexHull(corners.astype(np.int32))
        canvas = np.ascontiguousarray(canvas)
        cv2.fillConvexPoly(canvas, patch, [float(part) for part in rng.uniform(0.05, 0.95, 3)], cv2.LINE_AA)
    key = rng.uniform(0.7, 1.2) * np.clip(rng.normal(1, 0.06, 3), 0.8, 1.2)
    look = StudioLook(
        light=(light[0], light[1], light[2]),
        key=(key[0], key[1], key[2]),
        blur=rng.uniform(0.5, 1.2),
        color_noise=rng.uniform(0.004, 0.02),
    )
    draw_meshes(RayScene(meshes, threads=1), camera, canvas, light, skin_shader(light, look), 2)
    return photograph(canvas, rng, look.blur, look.color_noise)


def _moved(T_target_source: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ T_target_source[:3, :3].T + T_target_source[:3, 3]
