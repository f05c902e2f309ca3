"""``grasp-nodes retarget`` and ``grasp-nodes hands``: the work."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from grasp_nodes.contact.hand_states import make_grasps
from grasp_nodes.contact.interaction import GraspSet, HandObjectTrajectory
from grasp_nodes.data.clip_readers import open_clip
from grasp_nodes.data.grasp_files import check_meshes, read_grasps
from grasp_nodes.data.trajectory_files import holds_trajectory, read_trajectory
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.export.sources import TRAJECTORY
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.retargeting.dex_retargeting_backend import DexRetargeting
from grasp_nodes.retargeting.hand_catalogue import KNOWN, fetch_robot_hand, open_robot_hand
from grasp_nodes.retargeting.judgement import HoldJudge, judge_contact, kept_report
from grasp_nodes.retargeting.retargeter import Mode, Retargeter, RetargetSettings, Wrist
from grasp_nodes.retargeting.robot_files import write_robot_grasps, write_robot_trajectory
from grasp_nodes.retargeting.robot_hand import RobotHand
from grasp_nodes.retargeting.state_retargeter import StateRetargeter

BACKENDS = ("own", "dex_retargeting")


@dataclass(frozen=True)
class Request:
    """What the command line asks."""

    what: Path
    output: Path
    hand: str
    mode: str
    wrist: str
    side: str
    backend: str
    smoothing: float
    object_spec: str
    hold: bool
    json: bool

    def __post_init__(self) -> None:
        if self.side not in ("auto", "right", "left"):
            raise InputError(f"side: expected auto, right or left, got {self.side!r}")
        if self.backend not in BACKENDS:
            raise InputError(f"backend: expected one of {', '.join(BACKENDS)}, got {self.backend!r}")
        if self.output.suffix != ".npz":
            raise InputError(f"output {self.output}: expected a name that ends in .npz")
        if self.output.is_dir():
            raise InputError(f"output {self.output}: is a folder; expected a file")
        if not self.what.exists():
            raise MissingFileError(f"{self.what}: there is no such file")

    def retargeter(self, side: Side) -> StateRetargeter:
        """What follows the hand of a side."""
        hand = open_robot_hand(self.hand, side)
        settings = RetargetSettings(cast(Mode, self.mode), cast(Wrist, self.wrist), self.smoothing)
        made = Retargeter(hand, settings) if self.backend == "own" else DexRetargeting(hand, settings)
        return StateRetargeter(made, lambda: load_hand_model(side))


def tell_hands() -> None:
    """A table of the hands that are known by name."""
    table = Table()
    for heading in ("name", "driven joints", "sides", "licence of the description", "where"):
        table.add_column(heading)
    for known in KNOWN.values():
        here = "ready" if known.is_here else f"grasp-nodes hands fetch {known.name}"
        table.add_row(known.name, str(known.joints), ", ".join(known.files), known.licence, here)
    Console().print(table)


def fetch_hand(name: str) -> None:
    """Fetch a description and say where it is."""
    known = fetch_robot_hand(name)
    for side in known.files:
        typer.echo(known.path(side))
    typer.echo(f"licence of the description: {known.licence}")


def retarget(request: Request) -> None:
    """Retarget a file and write the result.

    Raises:
        InputError, MissingFileError: a file, hand or option that cannot be used, or an output that cannot be written.
        MissingDependencyError: the other back end, or what judges a hold, is not installed.
    """
    recorded = request.what / TRAJECTORY if request.what.is_dir() else request.what
    if holds_trajectory(recorded):
        report = _trajectory(request, read_trajectory(recorded).trajectory)
    elif request.what.is_dir():
        report = _trajectory(request, _truth(request.what))
    else:
        report = _grasps(request)
    for name, value in report.items():
        told = f"{value:.4g}" if isinstance(value, float) else value
        typer.echo(f"{name.replace('_', ' ')}: {told}")
    if request.json:
        typer.echo(json.dumps(report))


def _truth(folder: Path) -> HandObjectTrajectory:
    """Of a clip's folder."""
    found = open_clip(folder).trajectory
    if found is None:
        raise InputError(f"{folder}: holds no truth; reconstruct the clip and retarget what comes out")
    return found


def _trajectory(request: Request, trajectory: HandObjectTrajectory) -> dict[str, Any]:
    if request.hold:
        raise InputError("--hold: a hold is judged of grasps; expected a file of grasps, got a trajectory")
    names = sorted({pose.object_id for state in trajectory.states for pose in state.objects})
    if request.object_spec and len(names) > 1:
        raise InputError(f"--object: {request.what} holds several objects ({', '.join(names)}), which one is meant?")
    sides = Counter(hand.params.side for state in trajectory.states for hand in state.hands)
    side = cast(Side, request.side) if request.side != "auto" else sides.most_common(1)[0][0] if sides else "right"
    if not sides[side]:
        raise InputError(f"{request.what}: holds no {side} hand; sides seen: {dict(sides) or 'none'}")
    worker = request.retargeter(side)
    models: dict[str, ObjectModel] = {}
    for state in trajectory.states:
        for pose in state.objects:
            if pose.object_id not in models:
                spec = request.object_spec or pose.mesh_resource
                if not spec:
                    raise InputError(f"{request.what}: names no mesh of {pose.object_id!r}: give it with --object")
                models[pose.object_id] = load_object(spec, pose.object_id, pose.scale)
                worker.add_object(models[pose.object_id])
    found = worker.of_trajectory(trajectory)
    with _writing(request.output):
        write_robot_trajectory(request.output, found)
    kept = []
    hand, states = worker.retargeter.hand, {state.stamp: state for state in found.states}
    solids = {name: Solid.of(model) for name, model in models.items()}
    for state in trajectory.states:
        targets = worker.targets(state) if state.stamp in states and len(state.objects) == 1 else None
        if targets is not None:
            pose = state.objects[0]
            robot = states[state.stamp]
            T = np.linalg.inv(pose.T_camera_object) @ robot.T_frame_base
            driven = hand.kinematics.reduce(robot.positions)
            kept.append(judge_contact(hand, driven, T, targets, solids[pose.object_id]))
    return {
        **_head(request, hand),
        "frames": len(found.states),
        "solver_ms": float(np.median([state.seconds for state in found.states]) * 1e3),
        **kept_report(kept),
    }


def _grasps(request: Request) -> dict[str, Any]:
    grasps = read_grasps(request.what)
    if request.side not in ("auto", grasps.hands.side):
        raise InputError(f"{request.what}: holds grasps by {grasps.hands.side} hands, asked for the {request.side} one")
    occurring = sorted(set(grasps.object_index.tolist()))
    if len(occurring) != 1:
        raise InputError(f"{request.what}: holds grasps of {len(occurring)} objects; expected a file of one object")
    item = grasps.objects[occurring[0]]
    check_meshes(request.what, [item])
    spec = request.object_spec or item.mesh
    if not spec:
        raise InputError(f"{request.what}: names no mesh of {item.name!r}: give it with --object")
    worker = request.retargeter(grasps.hands.side)
    human, model = load_hand_model(grasps.hands.side), load_object(spec, item.name, item.scale)
    motion = np.linalg.inv(item.transform)
    if np.linalg.det(motion[:3, :3]) < 0:
        raise InputError(f"{request.what}: its object is a mirrored one; expected one that is only moved")
    hands = move_hands(grasps.hands, np.repeat(motion[None], len(grasps), axis=0), human)
    asked = GraspSet(model.object_id, grasps.source, 0, 0.0, make_grasps(hands, human), model.mesh_resource)
    found = worker.of_grasps(asked, model)
    hand, solid, kept = worker.retargeter.hand, Solid.of(model), []
    driven = [hand.kinematics.reduce(grasp.positions) for grasp in found.grasps]
    for one, grasp, source in zip(driven, found.grasps, asked.grasps, strict=True):
        targets = worker.grasp_targets(source, model)
        if targets is not None:
            kept.append(judge_contact(hand, one, grasp.T_object_base, targets, solid))
            grasp.metrics["penetration_depth_m"] = kept[-1].depth
    report = {**_head(request, hand), "grasps": len(found.grasps), **kept_report(kept)}
    if request.hold:
        holds = HoldJudge(hand, solid)(driven, [grasp.T_object_base for grasp in found.grasps])
        report["hold_share"] = float(np.mean(holds))
        found = replace(
            found,
            grasps=[
                replace(grasp, metrics={**grasp.metrics, "six_direction_hold": float(each)})
                for grasp, each in zip(found.grasps, holds, strict=True)
            ],
        )
    with _writing(request.output):
        write_robot_grasps(request.output, found)
    return report


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make a file's folder, and say it where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"output {path}: cannot be written ({error}); name another place with -o") from error


def _head(request: Request, hand: RobotHand) -> dict[str, Any]:
    return {"output": str(request.output), "robot": hand.name, "mode": request.mode, "backend": request.backend}
