"""The hand's surface as the zero set of a signed distance: swept spheres and ellipsoids, smoothly joined. Units mm."""

from __future__ import annotations

import itertools

import numpy as np

from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.open_hand.proportions import LONG_FINGERS, WRIST, Array, Proportions, build_skeleton

_FINGER_WIDTH = {"index": 1.0, "middle": 1.02, "ring": 0.96, "little": 0.84}
_FINGER_RADII = np.array([10.9, 9.8, 9.5, 8.8, 8.3, 7.9])  # knuckle, between, middle joint, between, end joint, tip
_THUMB_RADII = np.array([12.0, 11.2, 11.0, 10.3, 10.6, 9.3])
_METACARPAL_RADII = {"index": 11.3, "middle": 11.9, "ring": 11.3, "little": 10.4}
_WEB_REACH = {"index": 19.5, "middle": 20.0, "ring": 17.5}  # mm beyond the knuckles, of the web on the little side


def smooth_min(a: Array, b: Array, radius: float) -> Array:
    """Union of two distances with a fillet of about `radius` (polynomial smooth minimum)."""
    h = np.clip(0.5 + 0.5 * (b - a) / radius, 0, 1)
    return b + (a - b) * h - radius * h * (1 - h)


def swept_sphere(
    points: Array, start: Array, end: Array, radii: tuple[float, float], dorsal: Array | None = None, flat: float = 1.0
) -> Array:
    """Distance to a sphere swept from start to end.

    Args:
        radii: at start and end, linear between. dorsal: direction along which it is flattened to `flat` of its width.
    """
    along = end - start
    square = along @ along
    relative = points - start
    t = np.clip(relative @ along / square, 0, 1)
    away = relative - t[:, None] * along
    radius = radii[0] + (radii[1] - radii[0]) * t
    if dorsal is None:
        return np.linalg.norm(away, axis=1) - radius
    up = dorsal - along * (dorsal @ along) / square
    height = away @ (up / np.linalg.norm(up))
    stretched = np.sqrt(np.maximum((away * away).sum(1) - height * height, 0) + (height / flat) ** 2)
    return (stretched - radius) * flat


def ellipsoid(points: Array, centre: Array, axes: Array, radii: Array) -> Array:
    """First-order distance to an ellipsoid; axes are the columns of a rotation."""
    local = (points - centre) @ axes
    k = np.linalg.norm(local / radii, axis=1)
    return k * (k - 1) / (np.linalg.norm(local / radii**2, axis=1) + 1e-9)


def bone_axes(along: Array, dorsal: Array) -> Array:
    """Rotation whose columns are the bone, its dorsal side and its flank."""
    x = along / np.linalg.norm(along)
    z = np.cross(x, dorsal)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z], 1)


class HandField:
    """Signed distance of one hand in its rest pose, negative inside, near enough to metric close to the surface."""

    def __init__(self, proportions: Proportions | None = None) -> None:
        self.proportions = proportions or Proportions()
        self.skeleton = build_skeleton(self.proportions)

    def distance(self, points: Array) -> Array:
        """(N,) distances of (N, 3) points."""
        fingers, palm = self.parts(points)
        return self._join(fingers, palm)

    def parts(self, points: Array) -> tuple[dict[str, Array], Array]:
        """Distances to each finger and to the palm with the forearm."""
        return {finger: self._finger(points, finger) for finger in FINGERS}, self._palm(points)

    def gradient(self, points: Array, step: float = 0.15) -> Array:
        """(N, 3) by central differences."""
        shifts = np.concatenate([step * np.eye(3), -step * np.eye(3)])
        values = self.distance((points[None] + shifts[:, None]).reshape(-1, 3)).reshape(6, -1)
        return (values[:3] - values[3:]).T / (2 * step)

    def project(self, points: Array, rounds: int = 3, rim: Array | None = None) -> Array:
        """Points moved onto the surface by Newton steps of at most 3 mm; those of the mask `rim` keep their x."""
        points = points.copy()
        for _ in range(rounds):
            gradient = self.gradient(points)
            if rim is not None:
                gradient[rim, 0] = 0
            step = np.clip(self.distance(points) / np.maximum((gradient**2).sum(1), 0.25), -3, 3)
            points -= step[:, None] * gradient
        return points

    @staticmethod
    def _join(fingers: dict[str, Array], palm: Array) -> Array:
        # Neighbouring fingers touch but do not melt into each other: a hard minimum between them.
        long_fingers = np.min([fingers[finger] for finger in LONG_FINGERS], axis=0)
        return smooth_min(smooth_min(palm, long_fingers, 7.0), fingers["thumb"], 9.0)

    def _finger(self, points: Array, finger: str) -> Array:
        girth, dorsal = self.proportions.girth * self.proportions.finger_thickness, self.skeleton.dorsal[finger]
        base, middle, end, tip = self.skeleton.chain(finger)
        radii = (_THUMB_RADII if finger == "thumb" else _FINGER_RADII * _FINGER_WIDTH[finger]) * girth

        def palmar(along: Array) -> Array:
            down = along * (dorsal @ along) / (along @ along) - dorsal
            return down / np.linalg.norm(down)

        first, second = (base + middle) / 2, (middle + end) / 2 + palmar(end - middle) * 0.7
        waist = first + palmar(middle - base) * 0.8
        joined = swept_sphere(points, base, first, (radii[0], radii[1]), dorsal, 0.93)
        for start, stop, k in ((waist, middle, 1), (middle, second, 2), (second, end, 3)):
            # A small fillet: a smooth union of two ends of one radius swells there by a quarter of it.
            joined = smooth_min(joined, swept_sphere(points, start, stop, (radii[k], radii[k + 1]), dorsal, 0.93), 1.5)
        # The soft pads on the palmar side of the two inner phalanges.
        for start, stop, radius in ((base + (middle - base) * 0.45, middle, radii[1]), (middle, end, radii[3])):
            along = stop - start
            size = np.array([np.linalg.norm(along) * 0.46, radius * 0.84, radius * 0.90])
            centre = (start + stop) / 2 + palmar(along) * 2.4 * girth
            joined = smooth_min(joined, ellipsoid(points, centre, bone_axes(along, dorsal), size), 3.0)
        # The last phalanx: flatter on the nail's side, a pad below.
        along = tip - end
        length, down = float(np.linalg.norm(along)), palmar(along)
        tip_radius = radii[5] * 0.86
        stop = end + along * (1 - tip_radius / length) + down * 0.6
        joined = smooth_min(joined, swept_sphere(points, end, stop, (radii[4], tip_radius), dorsal, 0.84), 2.0)
        pad = np.array([length * 0.47, radii[4] * 0.80, radii[5] * 0.99])
        centre = end + along * 0.50 + down * 1.6 * girth
        return smooth_min(joined, ellipsoid(points, centre, bone_axes(along, dorsal), pad), 3.0)

    def _palm(self, points: Array) -> Array:
        (joined, _), *pieces = self._metacarpals(points)
        for piece, radius in (*pieces, *self._webs(points), *self._thenar(points), *self._forearm(points)):
            joined = smooth_min(joined, piece, radius)
        return joined

    def _metacarpals(self, points: Array) -> list[tuple[Array, float]]:
        girth, pieces = self.proportions.girth, []
        for finger in LONG_FINGERS:
            base, middle, _, _ = self.skeleton.chain(finger)
            dorsal, radius = self.skeleton.dorsal[finger], _METACARPAL_RADII[finger] * girth
            along = (middle - base) / np.linalg.norm(middle - base)
            carpal = WRIST + np.array([-14.0, -2.0, (base - WRIST)[2] * 0.52])
            below = base + np.array([0.0, -2.2, 0.0])
            pieces.append((swept_sphere(points, carpal, below, (13.5 * girth, radius), dorsal, 0.92), 9.0))
            root, reach = base + np.array([0.0, -3.0, 0.0]), base + along * 13 + np.array([0.0, -2.6, 0.0])
            ends = (radius * 0.98, 9.0 * _FINGER_WIDTH[finger] * girth)
            pieces.append((swept_sphere(points, root, reach, ends, dorsal, 0.86), 7.0))
            knuckle = base + np.array([1.5, 4.4 * girth, 0.0])
            pieces.append((np.linalg.norm(points - knuckle, axis=1) - 7.6 * girth * _FINGER_WIDTH[finger], 5.0))
        return pieces

    def _webs(self, points: Array) -> list[tuple[Array, float]]:
        girth, pieces = self.proportions.girth, []
        for one, other in itertools.pairwise(LONG_FINGERS):
            ends = self._web_ends(one, other)
            pieces.append((swept_sphere(points, ends[0], ends[1], (5.0 * girth, 5.0 * girth)), 6.0))
        return pieces

    def web_centre(self, one: str, other: str) -> Array:
        """(3,) on the free edge of the web between two neighbouring fingers, to a few mm."""
        return np.mean(self._web_ends(one, other), axis=0) - np.array([7.0, 0.0, 0.0])

    def _web_ends(self, one: str, other: str) -> list[Array]:
        ends = []
        for finger in (one, other):
            base, middle, _, _ = self.skeleton.chain(finger)
            reach = _WEB_REACH[one] - (2.0 if finger == "little" else 0.0)
            ends.append(base + (middle - base) / np.linalg.norm(middle - base) * reach + np.array([4.0, -2.5, 0.0]))
        return ends

    def _thenar(self, points: Array) -> list[tuple[Array, float]]:
        girth, joints = self.proportions.girth, self.skeleton.joints
        wide = self.proportions.hand_breadth / 84.0
        thumb, thumb_knuckle, index, little = joints[13], joints[14], joints[1], joints[7]
        along, dorsal = thumb_knuckle - thumb, self.skeleton.dorsal["thumb"]
        heel = WRIST + np.array([-16.0, -7.0, -17.0 * wide])
        side = little + np.array([14.0, -6.0, -1.0])
        root = thumb + np.array([6.0, -2.0, -3.0])
        ball = thumb + along * 0.48 + np.array([-1.0, -4.5, -6.5])
        web = thumb + along * 0.80 + np.array([-3.0, 1.0, -2.0])
        return [
            (swept_sphere(points, heel, side, (13.5 * girth, 10.0 * girth)), 9.0),
            (swept_sphere(points, root, thumb_knuckle, (13.8 * girth, 11.6 * girth)), 9.0),
            (ellipsoid(points, ball, bone_axes(along, dorsal), np.array([30.0, 13.5, 15.0]) * girth), 8.0),
            (swept_sphere(points, web, index + np.array([16.0, -4.0, 0.0]), (5.2 * girth, 7.6 * girth)), 12.0),
        ]

    def _forearm(self, points: Array) -> list[tuple[Array, float]]:
        girth, pieces = self.proportions.girth * self.proportions.wrist_thickness, []
        half = (0.335 * self.proportions.hand_breadth - 17.0) * self.proportions.wrist_thickness
        for share in (-1.0, -0.33, 0.33, 1.0):
            z = share * half
            start, end = WRIST + np.array([45.0, -1.0, z]), WRIST + np.array([-12.0, -2.0, z * 1.05])
            pieces.append((swept_sphere(points, start, end, (17.0 * girth, 16.2 * girth)), 8.0))
        return pieces
