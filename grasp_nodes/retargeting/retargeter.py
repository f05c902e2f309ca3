"""From a human hand to a robot hand, frame by frame.

Modes: ``position`` puts the fingertips where the human's are (video); ``vector`` keeps the directions and, scaled by
the size of the two hands, the lengths from palm to fingertips (live); ``dexpilot`` adds the vectors between fingertips,
so that a pinch stays one (after Handa et al., "DexPilot", ICRA 2020); ``contact`` keeps the contact map: what touched
the object touches it at the same place, and nothing goes into it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np

from grasp_nodes.contact.interaction import HandState
from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.retargeting.contact_targets import ContactTargets
from grasp_nodes.retargeting.finger_roles import human_palm
from grasp_nodes.retargeting.robot_hand import RobotHand
from grasp_nodes.retargeting.robot_states import RobotHandState
from grasp_nodes.retargeting.solver import Bounds, Contacts, Effort, Obstacle, Vectors, solve
from grasp_nodes.retargeting.solver_skin import solver_skin

Mode = Literal["position", "vector", "dexpilot", "contact"]
MODES: tuple[Mode, ...] = ("position", "vector", "dexpilot", "contact")
Wrist = Literal["auto", "free", "fixed"]

PINCH = 0.03
"""m between fingertips from which on they pinch."""
_PINCH_WEIGHT = 2.0
_KNUCKLE_WEIGHT = 0.3
"""Of the joint before the last phalanx, against 1 for the fingertip."""
_ELSEWHERE = 0.12
"""m between palms, from which on the last frame says nothing of this one."""
_AWAY = 500_000_000
"""ns without a hand, after which it is a new one."""
_REST_WEIGHT = 0.0015
"""m per rad, that a joint is drawn to its rest."""


@dataclass(frozen=True)
class RetargetSettings:
    """What is asked of the robot hand.

    wrist: whether the base may leave the place where palm lies on palm; auto: free for position and contact.
    smoothing: 0 = none; weight of the last frame against this one. velocity_limits: whether joints keep to theirs.
    scale: of the human hand's vectors, for a fixed wrist; 0 = by the lengths of the fingers.
    fingertip_offset: m, that the robot's fingertips are taken farther out.
    squeeze: m, that touching links are pressed into the object. iterations: of a frame, at most.
    """

    mode: Mode = "contact"
    wrist: Wrist = "auto"
    smoothing: float = 0.3
    velocity_limits: bool = True
    scale: float = 0.0
    fingertip_offset: float = 0.0
    squeeze: float = 0.001
    iterations: int = 30

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"retargeting mode: expected one of {', '.join(MODES)}, got {self.mode!r}")
        if self.wrist not in ("auto", "free", "fixed"):
            raise InputError(f"retargeting wrist: expected auto, free or fixed, got {self.wrist!r}")
        for name, least, most in (
            ("smoothing", 0.0, 100.0),
            ("scale", 0.0, 10.0),
            ("fingertip_offset", -0.05, 0.05),
            ("squeeze", 0.0, 0.01),
            ("iterations", 1, 10_000),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"retargeting {name}: expected {least:g} to {most:g}, got {value:g}")

    @property
    def free_wrist(self) -> bool:
        """Whether the base is solved for."""
        return self.wrist == "free" or (self.wrist == "auto" and self.mode in ("position", "contact"))


class FrameRetargeter(Protocol):
    """Follows one human hand with one robot hand, frame by frame."""

    hand: RobotHand
    settings: RetargetSettings

    def reset(self) -> None:
        """Forget the last frame."""
        ...

    def update(
        self,
        human: HandState,
        stamp: int = 0,
        frame_id: str = "",
        T_frame_object: np.ndarray | None = None,
        object_model: ObjectModel | None = None,
        targets: ContactTargets | None = None,
    ) -> RobotHandState:
        """The robot hand of one frame, see `Retargeter.update`."""
        ...


class Retargeter:
    """Follows one human hand with one robot hand. Hold one for each hand.

    Args:
        hand: the robot. settings: see there.
    """

    def __init__(self, hand: RobotHand, settings: RetargetSettings | None = None) -> None:
        self.hand, self.settings = hand, settings or RetargetSettings()
        self._skin = solver_skin(hand)
        self._T_base_palm = resting_palm(hand)
        self._lengths = finger_lengths(hand)
        self._last: tuple[int, np.ndarray, np.ndarray] | None = None
        self._last_object: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the last frame."""
        self._last = None

    def warm_up(self) -> None:
        """Compile, at the very first run, what a frame needs."""
        self._solve(self.hand.rest, np.eye(4), _no_vectors(), _no_contacts(), _no_obstacle(), np.eye(4), 1, free=True)

    def update(
        self,
        human: HandState,
        stamp: int = 0,
        frame_id: str = "",
        T_frame_object: np.ndarray | None = None,
        object_model: ObjectModel | None = None,
        targets: ContactTargets | None = None,
    ) -> RobotHandState:
        """The robot hand of one frame.

        Args:
            human: of the robot's side, in some frame. stamp: ns, for limits of velocity; 0 = unknown.
            T_frame_object, object_model, targets: of mode ``contact``; without them a frame has no contact.

        Raises:
            InputError: a hand of the other side, or NaN in it.
        """
        started = time.perf_counter()
        keypoints = checked_keypoints(human, self.hand)
        T = np.eye(4) if T_frame_object is None else np.asarray(T_frame_object, np.float64)
        keypoints = (keypoints - T[:3, 3]) @ T[:3, :3]
        aligned = human_palm(keypoints, self.hand.finger_names) @ np.linalg.inv(self._T_base_palm)
        self._carry_over(aligned, stamp, T, T_frame_object is not None)
        driven, T_object_base, residual, tried = self._frame(keypoints, aligned, stamp, object_model, targets)
        T_frame_base = T @ T_object_base
        self._last = (stamp, driven, T_frame_base)
        self._last_object = T_frame_object
        return RobotHandState(
            stamp,
            frame_id,
            self.hand.kinematics.expand(driven),
            T_frame_base,
            residual,
            time.perf_counter() - started,
            tried,
        )

    def _carry_over(self, aligned: np.ndarray, stamp: int, T: np.ndarray, at_object: bool) -> None:
        """The last frame's base in this frame's coordinates: on the object, where there was and is one, else in space.

        It is forgotten where the hand is elsewhere now, or was away: what was found there is a bad start.
        """
        if self._last is None:
            return
        before, driven, T_frame_base = self._last
        frame = self._last_object if at_object and self._last_object is not None else T
        base = np.linalg.inv(frame) @ T_frame_base
        away = np.linalg.norm((base @ self._T_base_palm - aligned @ self._T_base_palm)[:3, 3])
        self._last = (before, driven, base)
        if away > _ELSEWHERE or not 0 <= stamp - before <= _AWAY:
            self._last = None

    def _frame(
        self,
        keypoints: np.ndarray,
        aligned: np.ndarray,
        stamp: int,
        object_model: ObjectModel | None,
        targets: ContactTargets | None,
    ) -> tuple[np.ndarray, np.ndarray, float, int]:
        settings, free = self.settings, self.settings.free_wrist
        first = self._last is None
        driven, base = (self.hand.rest, aligned) if self._last is None else (self._last[1], self._last[2])
        if not free:
            base = aligned
        touching = settings.mode == "contact" and targets is not None and object_model is not None
        mode = settings.mode if settings.mode != "contact" else "position" if free else "dexpilot"
        vectors = self._vectors(keypoints, cast(Mode, mode), free)
        tried = 0
        if first:
            # From far away the object is in the way of its own grasp: fingers get around it first.
            driven, base, _, tried = self._solve(
                driven, base, vectors, _no_contacts(), _no_obstacle(), aligned, 2 * settings.iterations, free
            )
        contacts = self._contacts(targets) if touching and targets is not None else _no_contacts()
        obstacle = self._obstacle(object_model) if touching and object_model is not None else _no_obstacle()
        if touching:
            vectors = vectors._replace(weight=0.3 * vectors.weight)
        driven, base, cost, more = self._solve(
            driven, base, vectors, contacts, obstacle, aligned, settings.iterations * (3 if first else 1), free, stamp
        )
        asked = max(float((vectors.weight > 0).sum() + (contacts.weight > 0).sum()), 1.0)
        return driven, base, float(np.sqrt(2 * cost / asked)), tried + more

    def _solve(
        self,
        driven: np.ndarray,
        base: np.ndarray,
        vectors: Vectors,
        contacts: Contacts,
        obstacle: Obstacle,
        aligned: np.ndarray,
        iterations: int,
        free: bool,
        stamp: int = 0,
    ) -> tuple[np.ndarray, np.ndarray, float, int]:
        kinematics, settings = self.hand.kinematics, self.settings
        lower, upper, rest = kinematics.lower, kinematics.upper, self.hand.rest
        weight, prior = np.full(len(rest), _REST_WEIGHT), aligned
        place_weight, turn_weight = 0.05, 0.01
        if self._last is not None:
            last_stamp, last, last_base = self._last
            elapsed = 1e-9 * (stamp - last_stamp)
            if settings.velocity_limits and elapsed > 0:
                lower = np.maximum(lower, last - elapsed * kinematics.velocity)
                upper = np.minimum(upper, last + elapsed * kinematics.velocity)
            if settings.smoothing > 0:
                hold = 0.02 * settings.smoothing
                rest = (weight**2 * rest + hold**2 * last) / (weight**2 + hold**2)
                weight = np.sqrt(weight**2 + hold**2)
                if free:
                    prior, place_weight, turn_weight = _between(
                        aligned, last_base, (place_weight, settings.smoothing), (turn_weight, 0.05 * settings.smoothing)
                    )
        bounds = Bounds(
            lower,
            upper,
            rest,
            weight,
            np.ascontiguousarray(prior[:3, :3]),
            np.ascontiguousarray(prior[:3, 3]),
            np.ascontiguousarray(self._T_base_palm[:3, 3]),
            place_weight,
            turn_weight,
            free,
        )
        found, turn, place, cost, tried = solve(
            kinematics.chain,
            self._skin,
            vectors,
            contacts,
            obstacle,
            bounds,
            Effort(iterations, 1e-4),
            np.ascontiguousarray(driven, np.float64),
            np.ascontiguousarray(base[:3, :3], np.float64),
            np.ascontiguousarray(base[:3, 3], np.float64),
        )
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = turn, place
        return found, T, cost, tried

    # -- terms

    def _vectors(self, keypoints: np.ndarray, mode: Mode, free: bool) -> Vectors:
        hand, rows = self.hand, []
        palm = human_palm(keypoints, hand.finger_names)
        scale = 1.0 if free else self.settings.scale or hand_scale(keypoints, hand, self._lengths)
        palm_point = hand.T_body_palm[:3, 3]
        none = np.zeros(3)
        for finger in hand.fingers:
            first = 1 + 4 * FINGERS.index(finger.name)
            tip = finger.tip * (1 + self.settings.fingertip_offset / np.linalg.norm(finger.tip))
            weight = 1.0
            for point, human, share in (
                (tip, keypoints[first + 3], 1.0),
                (none, keypoints[first + 2], _KNUCKLE_WEIGHT),
            ):
                if free:
                    rows.append((finger.tip_body, point, -1, none, human, share * weight))
                else:
                    vector = scale * (human - palm[:3, 3])
                    rows.append((finger.tip_body, point, hand.palm_body, palm_point, vector, share * weight))
        if mode == "dexpilot":
            for a, one in enumerate(hand.fingers):
                for two in hand.fingers[a + 1 :]:
                    human = keypoints[4 + 4 * FINGERS.index(one.name)] - keypoints[4 + 4 * FINGERS.index(two.name)]
                    pinches = float(1 / (1 + np.exp((np.linalg.norm(human) - PINCH) / 0.004)))
                    vector = (pinches + (1 - pinches) * scale) * human
                    weight = 0.3 + _PINCH_WEIGHT * pinches * (one.name == "thumb")
                    rows.append((one.tip_body, one.tip, two.tip_body, two.tip, vector, weight))
        return Vectors(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.float64),
            np.array([row[2] for row in rows], np.int64),
            np.array([row[3] for row in rows], np.float64),
            np.array([row[4] for row in rows], np.float64),
            np.array([row[5] for row in rows], np.float64),
        )

    def _contacts(self, targets: ContactTargets) -> Contacts:
        body = self.hand.region_body[targets.region]
        kept = body >= 0
        share = np.where(targets.of_fingertips, 1.0, 0.35)[kept]
        gap = targets.gap[kept]
        return Contacts(
            body[kept],
            targets.point[kept],
            targets.normal[kept],
            # A human's skin gives way and a robot's does not: what touches is pressed in by as much as is asked for.
            np.where(gap < 0.003, -self.settings.squeeze, gap - 0.003),
            share * targets.weight[kept],
        )

    def _obstacle(self, object_model: ObjectModel) -> Obstacle:
        values, origin = object_model.signed_distance.arrays
        return Obstacle(values, origin, float(object_model.signed_distance.spacing), 0.7, self.settings.squeeze)


def checked_keypoints(human: HandState, hand: RobotHand) -> np.ndarray:
    """(21, 3) float64, m.

    Raises:
        InputError: a hand of the other side than the robot's, or NaN in it.
    """
    if human.params.side != hand.side:
        raise InputError(
            f"retargeting: the human hand is a {human.params.side} one, the robot hand {hand.name} a {hand.side} one; "
            "take the robot's other side"
        )
    keypoints = np.asarray(human.keypoints, np.float64)
    if not np.isfinite(keypoints).all():
        raise InputError("retargeting: NaN or infinity among the hand's keypoints")
    return keypoints


def resting_palm(hand: RobotHand) -> np.ndarray:
    """T_base_palm (4, 4) m of a hand at rest."""
    return hand.kinematics.body_poses(hand.rest)[hand.palm_body] @ hand.T_body_palm


def _between(
    aligned: np.ndarray, last: np.ndarray, place: tuple[float, float], turn: tuple[float, float]
) -> tuple[np.ndarray, float, float]:
    """One prior that says what two say: of the wrist on the human's (weights [0]) and on its last pose ([1])."""
    p, r = np.square(place), np.square(turn)
    T = np.eye(4)
    T[:3, 3] = (p[0] * aligned[:3, 3] + p[1] * last[:3, 3]) / p.sum()
    u, _, v = np.linalg.svd(r[0] * aligned[:3, :3] + r[1] * last[:3, :3])
    T[:3, :3] = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
    return T, float(np.sqrt(p.sum())), float(np.sqrt(r.sum()))


def finger_lengths(hand: RobotHand) -> dict[str, float]:
    """m, from the first joint of each finger to its tip while the hand is open."""
    poses = hand.kinematics.body_poses(hand.open_joints)
    tips = hand.fingertips(hand.open_joints)
    return {
        finger.name: float(np.linalg.norm(tip - poses[finger.bodies[0], :3, 3]))
        for finger, tip in zip(hand.fingers, tips, strict=True)
    }


def hand_scale(keypoints: np.ndarray, hand: RobotHand, lengths: dict[str, float]) -> float:
    """Size of the robot's fingers by the human's, without the thumbs, whose first joints are hardly comparable."""
    ratios = []
    for finger in hand.finger_names:
        if finger != "thumb":
            first = 1 + 4 * FINGERS.index(finger)
            human = np.linalg.norm(np.diff(keypoints[first : first + 4], axis=0), axis=1).sum()
            ratios.append(lengths[finger] / max(float(human), 1e-3))
    return float(np.mean(ratios))


def _no_vectors() -> Vectors:
    none, points = np.zeros(0, np.int64), np.zeros((0, 3))
    return Vectors(none, points, none, points, points, np.zeros(0))


def _no_contacts() -> Contacts:
    points = np.zeros((0, 3))
    return Contacts(np.zeros(0, np.int64), points, points, np.zeros(0), np.zeros(0))


def _no_obstacle() -> Obstacle:
    return Obstacle(np.zeros((2, 2, 2), np.float32), np.zeros(3), 1.0, 0.0, 0.0)
