"""The open hand as it is seen: a smooth skin with forearm, colours, nails and creases.

Landmark networks are trained on photographs: without the palm's creases a flat right palm is taken for the back of a
left hand, and without a forearm half of the single images are missed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from scipy.spatial.transform import Rotation

from grasp_nodes.geometry.mesh import vertex_normals
from grasp_nodes.geometry.subdivision import loop_subdivision
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS, TIP_VERTICES, WRIST_LOOP
from grasp_nodes.hand.model import HandModel

FOREARM_LENGTH = 0.80
FOREARM_RINGS = 24
BENDING_RINGS = 3
ELBOW = 0.40
"""m from the wrist: up to here the arm widens."""
SLEEVE_START = 0.25
SLEEVE_COLOR = (0.20, 0.23, 0.33)
SUBDIVISIONS = 2
SKIN = (0.76, 0.55, 0.44)
NAIL = (0.86, 0.66, 0.60)
CREASE_DEPTH = 0.4
CREASE_WIDTH = 0.0015
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ArmLook:
    """What may differ between arms.

    tone: factors of the skin's colour. sleeve_start: m from the wrist. sleeve_color: in [0, 1].
    wrist_bend: (3,) rad, rotation vector by which the forearm is turned against the hand, hand's rest frame.
    """

    tone: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sleeve_start: float = SLEEVE_START
    sleeve_color: tuple[float, float, float] = SLEEVE_COLOR
    wrist_bend: tuple[float, float, float] = (0.0, 0.0, 0.0)


class SkinnedArm:
    """A hand model with forearm, subdivided, coloured.

    faces: (F, 3). colors: (V, 3) in [0, 1]. skin_paint: (V, 3), without tone and sleeve. is_forearm: (F,) bool.
    """

    def __init__(
        self,
        model: HandModel,
        subdivisions: int = SUBDIVISIONS,
        betas: np.ndarray | None = None,
        look: ArmLook | None = None,
        paint: np.ndarray | None = None,
    ) -> None:
        """Prepare the skin of one hand.

        Args:
            model: the full hand of either side.
            subdivisions: of the skin; each makes four faces of one.
            betas: (10,), of the hand, None = zeros.
            look: colours, sleeve and wrist.
            paint: (V, 3), `skin_paint` of another arm of the same side and subdivisions: saves most of the time, and
                differs where the hands' shapes do. None = made for this hand.
        """
        arrays, look = model.arrays, look or ArmLook()
        self._mirror = MIRROR if model.side == "left" else np.ones(3)
        template = arrays.v_template if betas is None else arrays.v_template + arrays.shapedirs @ betas
        rest_joints = arrays.J_regressor @ template
        self._wrist = rest_joints[0]
        faces = np.asarray(arrays.faces, np.int64)
        rings, forearm_faces = _forearm(template * self._mirror, self._right_handed(faces))
        self._rings = _bent(rings * self._mirror, self._wrist, np.array(look.wrist_bend))
        hand_faces = len(faces)
        faces = np.concatenate([faces, self._right_handed(forearm_faces)])
        vertex_count = len(template) + len(rings)
        self._matrix, self.faces = _subdivided(faces.tobytes(), vertex_count, subdivisions)
        # Children keep the order of their parents: face i of a level comes from face i modulo the parents' number.
        self.is_forearm = np.arange(len(self.faces)) % len(faces) >= hand_faces
        rest = self._matrix @ np.concatenate([template * self._mirror, rings])
        tips = (template * self._mirror)[[TIP_VERTICES[name] for name in FINGERS]]
        if paint is None:
            normals = vertex_normals(rest, self._right_handed(self.faces))
            paint = skin_colors(rest, normals, rest_joints * self._mirror, tips)
        self.skin_paint = paint
        self.colors = paint * np.array(look.tone)
        self.colors[rest[:, 0] > rest[list(WRIST_LOOP), 0].mean() + look.sleeve_start] = look.sleeve_color

    def vertices(self, hand_vertices: np.ndarray, wrist_frame: np.ndarray) -> np.ndarray:
        """The skin of a posed hand.

        Args:
            hand_vertices: (778, 3), m. wrist_frame: (4, 4), joint frame 0 of the same hand.

        Returns:
            (V, 3), m, in the same frame.
        """
        rings = (self._rings - self._wrist) @ wrist_frame[:3, :3].T + wrist_frame[:3, 3]
        return self._matrix @ np.concatenate([hand_vertices, rings])

    def _right_handed(self, faces: np.ndarray) -> np.ndarray:
        return faces[:, ::-1] if self._mirror[0] < 0 else faces


@lru_cache(maxsize=4)
def _subdivided(faces: bytes, vertex_count: int, levels: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Hands differ in their vertices only: what follows from the faces is worked out once."""
    return loop_subdivision(np.frombuffer(faces, np.int64).reshape(-1, 3), vertex_count, levels)


def _forearm(template: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rings that continue the wrist's rim of a right hand, and the faces between them."""
    rim = template[list(WRIST_LOOP)]
    center = rim.mean(axis=0)
    share = np.arange(1, FOREARM_RINGS + 1)[:, None, None] / FOREARM_RINGS
    widening = 1 + 0.75 * np.minimum(share * FOREARM_LENGTH / ELBOW, 1.0) ** 0.8
    rings = center + (rim - center) * np.concatenate([0 * share, 1.05 * widening, widening], axis=-1)
    rings[0, :, 0] = rim[:, 0]  # the first ring keeps the rim's outline
    rings[..., :1] += FOREARM_LENGTH * share
    count, first = len(WRIST_LOOP), len(template)
    loops = np.concatenate([[WRIST_LOOP], first + np.arange(FOREARM_RINGS * count).reshape(FOREARM_RINGS, count)])
    a, b = loops[:-1], np.roll(loops[:-1], -1, axis=1)
    c, d = loops[1:], np.roll(loops[1:], -1, axis=1)
    quads = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    half_edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    same_direction = (half_edges == [WRIST_LOOP[0], WRIST_LOOP[1]]).all(axis=1).any()
    return rings.reshape(-1, 3), quads[:, ::-1] if same_direction else quads


def _bent(rings: np.ndarray, wrist: np.ndarray, bend: np.ndarray) -> np.ndarray:
    """Rings turned about the wrist by a rotation vector, the first ones less so that the skin has no kink."""
    if not bend.any():
        return rings
    share = np.minimum(np.arange(1, FOREARM_RINGS + 1) / BENDING_RINGS, 1.0)
    turns = Rotation.from_rotvec(share[:, None] * bend).as_matrix()
    turned = np.einsum("rij,rkj->rki", turns, (rings - wrist).reshape(FOREARM_RINGS, -1, 3))
    return turned.reshape(-1, 3) + wrist


def skin_colors(vertices: np.ndarray, normals: np.ndarray, joints: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Colours of the right hand in its rest pose.

    Args:
        vertices, normals: (V, 3). joints: (16, 3), MANO's order. tips: (5, 3), thumb to little finger. m.

    Returns:
        (V, 3) in [0, 1].
    """
    rng = np.random.default_rng(0)
    colors = np.tile(np.array(SKIN), (len(vertices), 1))
    colors *= 1 + np.clip(-normals[:, 1:2], 0, 1) * np.array([0.08, 0.03, 0.02])
    waves, phases = rng.normal(size=(40, 3)) * 90, rng.uniform(0, 2 * np.pi, 40)
    mottling = 1.4 * np.sin(vertices @ waves.T + phases).mean(axis=1, keepdims=True)
    colors *= 1 + mottling * np.array([0.06, 0.10, 0.10])
    knuckles = joints[[joint for name in FINGERS for joint in FINGER_JOINTS[name][1:]]]
    distance = np.linalg.norm(vertices[:, None] - knuckles, axis=2).min(axis=1)
    colors *= 1 - np.exp(-((distance / 0.012) ** 2))[:, None] * np.array([0.02, 0.08, 0.08])
    for name, tip in zip(FINGERS, tips, strict=True):
        colors[_nail(vertices, normals, joints[FINGER_JOINTS[name][2]], tip, name == "thumb")] = NAIL
    return colors * (1 - creases(vertices, normals, joints, tips)[:, None] * np.array([0.7, 1.0, 1.0]))


def _nail(vertices: np.ndarray, normals: np.ndarray, joint: np.ndarray, tip: np.ndarray, thumb: bool) -> np.ndarray:
    along = (tip - joint) / np.linalg.norm(tip - joint)
    back = np.array([0.35, 0.75, 0.55]) if thumb else np.array([0.0, 1.0, 0.0])
    back = back - back @ along * along
    back /= np.linalg.norm(back)
    offset = vertices - tip
    length, width = offset @ along, offset @ np.cross(along, back)
    inside = (length > -0.0125) & (length < -0.0015) & (np.abs(width) < 0.0058)
    return inside & (normals @ back > 0.45) & ((vertices - joint) @ back > 0)


def creases(vertices: np.ndarray, normals: np.ndarray, joints: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Darkness (V,) in [0, 1] of the three long creases of the palm and those of the fingers; arguments as above."""
    index, middle, little, ring, wrist = (joints[k][[0, 2]] for k in (1, 4, 7, 10, 0))
    low_on_life = np.array([wrist[0], middle[1]])
    heart = np.array([little, ring, middle, (middle + index) / 2])
    heart += [[0.006, -0.014], [0.010, 0.0], [0.006, 0.0], [-0.008, 0.0]]
    head = np.array([index, index, middle, little])
    head += [[0.014, 0.016], [0.018, 0.0], [0.026, 0.0], [0.034, 0.006]]
    life = np.array([index, index, middle, low_on_life])
    life += [[0.014, 0.016], [0.028, 0.004], [0.046, 0.010], [-0.020, 0.006]]
    flat = vertices[:, [0, 2]]
    distance = np.full(len(vertices), np.inf)
    for line in (heart, head, life):
        for start, end in itertools.pairwise(line):
            distance = np.minimum(distance, _distance_to_segment(flat, start, end))
    facing = np.clip((-normals[:, 1] - 0.15) / 0.35, 0, 1)
    dark = CREASE_DEPTH * np.exp(-((distance / CREASE_WIDTH) ** 2)) * facing
    facing = np.clip((-normals[:, 1] - 0.1) / 0.3, 0, 1)
    for name, tip in zip(FINGERS[1:], tips[1:], strict=True):
        first, second, third = FINGER_JOINTS[name]
        for joint, shift in ((first, 0.020), (second, 0.0), (third, 0.0)):
            end = tip if joint == third else joints[joint + 1]
            along = (end - joints[joint]) / np.linalg.norm(end - joints[joint])
            offset = vertices - joints[joint]
            near = np.linalg.norm(offset - along * shift, axis=1) < 0.0125
            line = np.exp(-(((offset @ along - shift) / 0.0012) ** 2))
            dark = np.maximum(dark, 0.8 * CREASE_DEPTH * line * near * facing)
    return dark


def _distance_to_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    direction = end - start
    share = np.clip((points - start) @ direction / (direction @ direction), 0, 1)
    return np.linalg.norm(points - start - share[:, None] * direction, axis=1)
