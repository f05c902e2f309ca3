"""What an image shows of an object whose pose is supposed: its pixels by depth, what hides it, and what contradicts.

A known mesh at a supposed pose predicts the depth of every pixel that it covers. A measurement at that depth is of the
object, a nearer one of something that hides it, labelled or not, and one that is farther away contradicts the pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numba import njit

from grasp_nodes.fitting.pose_residuals import SolverMesh
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.silhouette import nearest_surface
from grasp_nodes.perception.color_model import color_cells
from grasp_nodes.perception.evidence import ObservedFrame
from grasp_nodes.perception.foreground import PLANE_MARGIN
from grasp_nodes.perception.ray_grid import RayGrid
from grasp_nodes.perception.table_plane import TablePlane

GROWTH = 0.15
"""Share of the silhouette's size beyond it where more of the object is looked for."""
HAND_STEP = 0.007
"""m at 0.6 m distance; a finger on the object stands out by more, so that what agrees better is no hand."""
HIDDEN_WEIGHT = 0.02
"""What a pixel counts against a pose where something without a label hides it; hands cost nothing."""
HAND_SHARE, HAND_LOSS = 0.25, 0.35
"""What a pixel counts for and against a pose that agrees but was taken for a hand's: arms have surfaces, too."""
MORE_SHARE = 0.5
"""What a pixel counts against a pose that continues the object beyond its silhouette."""
HAND_REACH = 0.04
"""Share of the image's width around a hand's mask that may be the hand's, too."""
LEAST_VISIBLE, LEAST_PIXELS = 0.06, 60
"""Share of the silhouette, and pixels, below which an image says nothing of the pose."""
_NEAREST_DEPTH = 0.02


@dataclass(frozen=True)
class Scene:
    """One frame as predictions are compared with it, all (H, W).

    depth: float32, m, 0 = not measured. raised: bool, off the table. hand: bool, pixels of hands.
    cells: int32, colours as of `color_model`, None = not known.
    """

    camera: CameraModel
    depth: np.ndarray
    raised: np.ndarray
    hand: np.ndarray
    cells: np.ndarray | None = None

    @cached_property
    def near_hand(self) -> tuple[tuple[slice, slice], np.ndarray]:
        """Rows and columns around the hands' pixels, of which there are some, and which of these may be a hand's, too.

        The window is one pixel wider than what may be.
        """
        radius = max(3, round(HAND_REACH * self.hand.shape[1]))
        sides = (np.flatnonzero(self.hand.any(axis=1)), np.flatnonzero(self.hand.any(axis=0)))
        rows, columns = (slice(max(int(s[0]) - radius - 1, 0), int(s[-1]) + radius + 2) for s in sides)
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return (rows, columns), cv2.dilate(self.hand[rows, columns].astype(np.uint8), brush) > 0


def read_scenes(frames: Sequence[ObservedFrame]) -> list[Scene | None]:
    """Scenes of frames of one camera in time order; None where a frame has no depth."""
    table, rays_of = TablePlane(), RayGrid()
    answer: list[Scene | None] = []
    for frame in frames:
        camera = frame.evidence.camera
        if frame.depth is None:
            answer.append(None)
            continue
        depth = np.nan_to_num(frame.depth, nan=0.0, posinf=0.0, neginf=0.0)
        rays = rays_of(camera)
        plane, raised = table.update(rays, depth), depth > 0
        if plane is not None:
            raised &= plane.height(rays, depth) > PLANE_MARGIN * np.maximum(depth / 0.6, 0.6) ** 2
        cells = None if frame.color is None else color_cells(frame.color)
        answer.append(Scene(camera, depth, raised, hand_pixels(frame), cells))
    return answer


def hand_pixels(frame: ObservedFrame) -> np.ndarray:
    """(H, W) bool, pixels of any hand."""
    masks = [np.asarray(hand.mask, bool) for hand in frame.evidence.hands if hand.mask is not None]
    camera = frame.evidence.camera
    return np.logical_or.reduce(masks) if masks else np.zeros((camera.height, camera.width), bool)


@dataclass(frozen=True)
class Prediction:
    """Depth (h, w) float32, m, of the mesh in a window of the image, 0 where it does not reach; window: rows, columns.

    whole: px, of the silhouette as far as it lies in the image.
    """

    window: tuple[slice, slice]
    depth: np.ndarray
    whole: int


def predict(mesh: SolverMesh, camera: CameraModel, rotation: np.ndarray, centre: np.ndarray) -> Prediction | None:
    """What the camera would see of the mesh alone; None where it is behind the camera or outside of the image.

    Args:
        rotation: (3, 3), object to camera. centre: (3,), m, the mesh's centre in the camera's frame.
    """
    vertices = (mesh.vertices - mesh.centre) @ rotation.T + centre
    if not (vertices[:, 2] > _NEAREST_DEPTH).all():
        return None
    pixels = camera.project(vertices)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    border = 4 + GROWTH * float((high - low).max())
    x0, y0 = (max(int(value), 0) for value in np.maximum(low - border, 0))
    x1 = min(int(min(high[0] + border, camera.width)) + 2, camera.width)
    y1 = min(int(min(high[1] + border, camera.height)) + 2, camera.height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    inverse = np.zeros((y1 - y0, x1 - x0), np.float32)
    face_of = np.zeros(inverse.shape, np.int32)
    corner = np.array([x0, y0], np.float64)
    nearest_surface(np.ascontiguousarray(pixels - corner), vertices[:, 2].copy(), mesh.faces, inverse, face_of, True)
    depth = np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse > 0)
    return Prediction((slice(y0, y1), slice(x0, x1)), depth, int(np.count_nonzero(depth)))


@dataclass(frozen=True)
class Sighting:
    """What an image says about a supposed pose, (h, w) bool in the prediction's window.

    visible: the object's pixels. hiding: what is in front of it or may be.
    agreeing, against, hidden: px that agree with the prediction, contradict it, and are hidden by no known hand.
    """

    prediction: Prediction
    visible: np.ndarray
    hiding: np.ndarray
    agreeing: float
    against: float
    hidden: float

    @property
    def score(self) -> float:
        """In [0, 1]: share of what can be seen that agrees."""
        return self.agreeing / max(self.agreeing + self.against + HIDDEN_WEIGHT * self.hidden, 1.0)

    @property
    def evidence(self) -> float:
        """At most 1: by how much of the silhouette what agrees outweighs what contradicts."""
        return (self.agreeing - self.against - HIDDEN_WEIGHT * self.hidden) / max(self.prediction.whole, 1)

    @property
    def is_enough(self) -> bool:
        """Whether enough is seen to say anything of the pose."""
        return self.agreeing >= LEAST_PIXELS and self.visible_share >= LEAST_VISIBLE

    @property
    def visible_share(self) -> float:
        """Of the silhouette."""
        return self.agreeing / max(self.prediction.whole, 1)


def sight_by_depth(prediction: Prediction, scene: Scene, tolerance: float) -> Sighting:
    """Compare a prediction with measured depth.

    Args:
        tolerance: m; how far off the pose may be.
    """
    expected = prediction.depth
    measured = np.ascontiguousarray(scene.depth[prediction.window], np.float32)
    hand, raised = (np.ascontiguousarray(image[prediction.window]) for image in (scene.hand, scene.raised))
    agree, more, hiding = (np.zeros(expected.shape, np.bool_) for _ in range(3))
    own, of_hand, through, hidden, beyond = _compare(
        expected, _nearest_values(expected), measured, hand, raised, np.float32(tolerance), agree, more, hiding
    )
    more_pixels = _keep_connected(agree, more) if beyond else 0
    visible = agree | more
    return Sighting(
        prediction,
        visible,
        hiding | (hand & ~visible),
        own + HAND_SHARE * of_hand,
        through + MORE_SHARE * more_pixels + HAND_LOSS * of_hand,
        float(hidden),
    )


@njit(cache=True)
def _compare(
    expected: np.ndarray,
    nearest: np.ndarray,
    measured: np.ndarray,
    hand: np.ndarray,
    raised: np.ndarray,
    tolerance: np.float32,
    agree: np.ndarray,
    more: np.ndarray,
    hiding: np.ndarray,
) -> tuple[int, int, int, int, int]:
    """Expected and measured depth, pixel by pixel; the last three images are filled.

    Args:
        nearest: `expected` continued beyond the silhouette. agree: pixels of the silhouette at the expected depth.
        more: those that would continue it. hiding: what is in front, or may be. All (h, w), m float32 or bool.

    Returns:
        Pixels that agree and are no hand's, and a hand's; that are seen through; hidden without a label; of `more`.
    """
    own, of_hand, through, hidden, beyond = 0, 0, 0, 0, 0
    unit, least, step = np.float32(0.6), np.float32(0.6), np.float32(HAND_STEP)
    for y in range(expected.shape[0]):
        for x in range(expected.shape[1]):
            inside, known, is_hand = expected[y, x] > 0, measured[y, x] > 0, hand[y, x]
            apart = measured[y, x] - nearest[y, x]
            limit = tolerance
            if is_hand:
                far = max(nearest[y, x] / unit, least)
                limit = min(step * (far * far), tolerance)
            alike = known and abs(apart) < limit
            nearer = known and apart < 0 and not alike
            if not inside:
                hiding[y, x] = raised[y, x] and nearer
                if alike and not is_hand and raised[y, x]:
                    more[y, x] = True
                    beyond += 1
            elif alike:
                agree[y, x] = True
                of_hand += is_hand
                own += not is_hand
            elif nearer or not known or (is_hand and apart < tolerance):
                hiding[y, x] = True
                hidden += nearer and not is_hand
            else:
                through += 1
    return own, of_hand, through, hidden, beyond


def _nearest_values(values: np.ndarray) -> np.ndarray:
    """Values (h, w), 0 where they are not known, continued from the nearest one that is."""
    inside = values > 0
    if not inside.any():
        return values
    _, labels = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    continued = np.empty_like(values)
    _spread_values(values, labels, np.zeros(int(labels.max()) + 1, values.dtype), continued)
    return continued


@njit(cache=True)
def _spread_values(values: np.ndarray, labels: np.ndarray, table: np.ndarray, continued: np.ndarray) -> None:
    """Give every pixel the value of the known one with its label."""
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            if values[y, x] > 0:
                table[labels[y, x]] = values[y, x]
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            continued[y, x] = table[labels[y, x]]


def _keep_connected(seed: np.ndarray, more: np.ndarray) -> int:
    """Take out of `more` what does not hang together with `seed`; pixels that stay."""
    count, labels = cv2.connectedComponents((seed | more).astype(np.uint8), connectivity=4)
    return int(_keep_labels(seed, more, labels, np.zeros(count, np.bool_)))


@njit(cache=True)
def _keep_labels(seed: np.ndarray, more: np.ndarray, labels: np.ndarray, kept: np.ndarray) -> int:
    for y in range(seed.shape[0]):
        for x in range(seed.shape[1]):
            if seed[y, x]:
                kept[labels[y, x]] = True
    count = 0
    for y in range(seed.shape[0]):
        for x in range(seed.shape[1]):
            more[y, x] = more[y, x] and kept[labels[y, x]]
            count += more[y, x]
    return count
