"""What an image shows of an object whose pose is supposed: its pixels by depth, what hides it, and what contradicts.

A known mesh at a supposed pose predicts the depth of every pixel that it covers. A measurement at that depth is of the
object, a nearer one of something that hides it, labelled or not, and one that is farther away contradicts the pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

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
    measured, hand = scene.depth[prediction.window], scene.hand[prediction.window]
    inside, known = expected > 0, measured > 0
    nearest = _nearest_values(expected, inside)
    apart = measured - nearest
    hand_step = np.minimum(HAND_STEP * np.maximum(nearest / 0.6, 0.6) ** 2, tolerance)
    alike = known & (np.abs(apart) < np.where(hand, hand_step, np.float32(tolerance)))
    agree = inside & alike
    agreeing = np.count_nonzero(agree & ~hand) + HAND_SHARE * np.count_nonzero(agree & hand)
    beyond = ~inside & alike & ~hand & scene.raised[prediction.window]
    more = _connected(agree, beyond)
    nearer = known & (apart < 0) & ~alike
    hiding = (inside & (nearer | ~known | (hand & ~alike & (apart < tolerance)))) | (
        ~inside & scene.raised[prediction.window] & nearer
    )
    through = inside & known & (apart > 0) & ~alike & ~hiding
    unlabelled = inside & known & nearer & ~hand
    return Sighting(
        prediction,
        agree | more,
        hiding | (hand & ~(agree | more)),
        float(agreeing),
        float(
            np.count_nonzero(through) + MORE_SHARE * np.count_nonzero(more) + HAND_LOSS * np.count_nonzero(agree & hand)
        ),
        float(np.count_nonzero(unlabelled)),
    )


def _nearest_values(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values (h, w) continued from where they are known to everywhere else."""
    if not inside.any():
        return values
    outside = (~inside).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(labels.max()) + 1, values.dtype)
    table[labels[inside]] = values[inside]
    continued: np.ndarray = table[labels]
    return continued


def _connected(seed: np.ndarray, more: np.ndarray) -> np.ndarray:
    """The part of `more` that hangs together with `seed`."""
    count, labels = cv2.connectedComponents((seed | more).astype(np.uint8), connectivity=4)
    kept = np.zeros(count, bool)
    kept[np.unique(labels[seed])] = True
    kept[0] = False
    connected: np.ndarray = kept[labels] & more
    return connected
