"""Retargeting: time of a frame, contact kept, penetration and hold, of two robot hands, beside dex_retargeting.

200 grasps of the published set, five on each of 40 objects, each solved by itself; and the truth of the 20 benchmark
clips, frame after frame. Rows without a robot's name are of the generic hand. Times are of one core (its own time, so
that others on the machine do not count), of a clip's frames with the reading of the contact map, p95.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Row
from grasp_nodes.contact.computation import compute_contact_map
from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import HandState
from grasp_nodes.data.benchmark_clips import benchmark_clips
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.errors import GraspNodesError, MissingDependencyError
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.retargeting.contact_targets import ContactTargets, contact_targets
from grasp_nodes.retargeting.dex_retargeting_backend import DexRetargeting
from grasp_nodes.retargeting.hand_catalogue import fetch_robot_hand, open_robot_hand
from grasp_nodes.retargeting.judgement import HoldJudge, Kept, judge_contact, kept_report
from grasp_nodes.retargeting.retargeter import FrameRetargeter, Mode, Retargeter, RetargetSettings
from grasp_nodes.retargeting.robot_hand import RobotHand

OBJECTS, PER_OBJECT, CLIPS = 40, 5, 20
SEED = 0
ROBOTS = ("generic", "allegro")
MODES: tuple[Mode, ...] = ("contact", "position", "vector", "dexpilot")
HELD_MODES = ("contact",)
"""Hold is simulated of these: it takes more time than everything else."""
NAMES = {"contact": "contact_aware"}


@dataclass(frozen=True)
class Case:
    """A human hand at an object: T_frame_object (4, 4) m, stamp ns."""

    human: HandState
    model: ObjectModel
    contact: Callable[[], ContactTargets]
    targets: ContactTargets
    T_frame_object: np.ndarray = field(default_factory=lambda: np.eye(4))
    stamp: int = 0


def rows() -> list[Row]:
    """Shares, depths and times of all robots and modes."""
    grasps, clips = list(_grasps()), [list(_clip(folder)) for folder in benchmark_clips(CLIPS)]
    found: list[Row] = []
    for robot in ROBOTS:
        prefix = "" if robot == ROBOTS[0] else f"{robot}_"
        try:
            fetch_robot_hand(robot)
        except GraspNodesError as error:
            print(f"{robot}: left out: {error}")
            continue
        hands = {side: open_robot_hand(robot, side) for side in ("right", "left")}
        for mode in MODES:
            found += _judged(prefix + NAMES.get(mode, mode), mode, hands, grasps, clips)
    return found


def _judged(
    name: str, mode: Mode, hands: dict[str, RobotHand], grasps: Sequence[Case], clips: Sequence[Sequence[Case]]
) -> list[Row]:
    settings = RetargetSettings(mode)
    single, _, poses = _run(lambda hand: Retargeter(hand, settings), hands, [[case] for case in grasps])
    motion, times, _ = _run(lambda hand: Retargeter(hand, settings), hands, clips)
    values = {f"grasp_{key}": value for key, value in kept_report(single).items()}
    values |= {f"clip_{key}": value for key, value in kept_report(motion).items()}
    if mode in HELD_MODES:
        values["hold_share"] = float(np.mean(_holds(hands, grasps, poses)))
    baseline: dict[str, float] = {}
    if mode != "contact":
        try:
            theirs, their_times, _ = _run(lambda hand: DexRetargeting(hand, settings), hands, clips)
            baseline = {f"clip_{key}": value for key, value in kept_report(theirs).items()}
            baseline["p95_ms"] = float(np.percentile(their_times, 95))
        except MissingDependencyError as error:
            print(f"dex_retargeting: not installed: {error}")
    p95 = float(np.percentile(times, 95))
    rows = [
        Row.time(f"{name}_p95_ms", p95, "ms", "dex_retargeting", baseline["p95_ms"])
        if baseline
        else Row(f"{name}_p95_ms", p95, "ms")
    ]
    for key, value in values.items():
        label = f"{name}_{key}"
        if mode == "contact" and name == NAMES["contact"] and key in ("clip_contact_kept_share", "hold_share"):
            label = key.removeprefix("clip_")
        other = baseline.get(key)
        unit = "mm" if key.endswith("mm") else "share"
        rows.append(Row(label, value, unit, "dex_retargeting" if other is not None else None, other))
    return rows


def _run(
    make: Callable[[RobotHand], FrameRetargeter], hands: dict[str, RobotHand], sequences: Iterable[Sequence[Case]]
) -> tuple[list[Kept], list[float], list[tuple[np.ndarray, np.ndarray]]]:
    """What was kept in each frame, ms of each frame, and driven joints and T_object_base of each frame."""
    followers = {side: make(hand) for side, hand in hands.items()}
    solids: dict[str, Solid] = {}
    kept, times, poses = [], [], []
    for sequence in sequences:
        side = sequence[0].human.params.side
        follower, hand = followers[side], hands[side]
        follower.reset()
        for case in sequence:
            started = time.thread_time()
            targets = case.contact() if follower.settings.mode == "contact" else None
            state = follower.update(case.human, case.stamp, "", case.T_frame_object, case.model, targets)
            times.append(1e3 * (time.thread_time() - started))
            driven = hand.kinematics.reduce(state.positions)
            T = np.linalg.inv(case.T_frame_object) @ state.T_frame_base
            solid = solids.setdefault(case.model.object_id, Solid.of(case.model))
            kept.append(judge_contact(hand, driven, T, case.targets, solid))
            poses.append((driven, T))
    return kept, times, poses


def _holds(
    hands: dict[str, RobotHand], grasps: Sequence[Case], poses: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[bool]:
    found: list[bool] = []
    by_object: dict[str, list[int]] = {}
    for number, case in enumerate(grasps):
        by_object.setdefault(f"{case.human.params.side} {case.model.object_id}", []).append(number)
    for numbers in by_object.values():
        first = grasps[numbers[0]]
        judge = HoldJudge(hands[first.human.params.side], Solid.of(first.model))
        found += judge([poses[k][0] for k in numbers], [poses[k][1] for k in numbers]).tolist()
    return found


def _grasps() -> Iterable[Case]:
    human = load_hand_model("right")
    grasps, rng = open_grasps(human.fingerprint), np.random.default_rng(SEED)
    for number in rng.permutation(len(grasps.objects))[:OBJECTS]:
        item, own = grasps.objects[number], np.flatnonzero(grasps.object_index == number)
        chosen = grasps[rng.choice(own, PER_OBJECT, replace=False)]
        model = load_object(item.mesh, item.name, item.scale)
        hands = move_hands(chosen.hands, np.repeat(np.linalg.inv(item.transform)[None], PER_OBJECT, axis=0), human)
        for grasp in make_grasps(hands, human):
            yield _case(grasp.hand, model, human, np.eye(4), 0)


def _clip(folder: Path) -> Iterable[Case]:
    clip = open_clip(folder)
    models: dict[str, ObjectModel] = {}
    for state in clip.trajectory.states if clip.trajectory else ():
        pose = state.objects[0]
        if pose.object_id not in models:
            models[pose.object_id] = load_object(pose.mesh_resource, pose.object_id)
        human = load_hand_model(state.hands[0].params.side)
        yield _case(state.hands[0], models[pose.object_id], human, pose.T_camera_object, state.stamp)


def _case(human: HandState, model: ObjectModel, hand_model: HandModel, T: np.ndarray, stamp: int) -> Case:
    with torch.no_grad():
        vertices = hand_model(human.params.to(dtype=hand_model.dtype)).vertices[0].double().numpy()
    contact = compute_contact_map(
        (vertices - T[:3, 3]) @ T[:3, :3],
        closed_faces(hand_model.faces.numpy()),
        model,
        hand_side=human.params.side,
        anchors=anchors_of(hand_model),
    )
    return Case(human, model, lambda: contact_targets(contact, model), contact_targets(contact, model), T, stamp)
