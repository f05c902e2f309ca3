"""Files of robot trajectories and robot grasps (.npz).

Arrays of a trajectory of T states and J joints: ``format``, ``format_version``, ``source``, ``robot``, ``side``,
``joint_names`` (J,), ``stamp`` (T,) int64 ns, ``frame_id`` (T,), ``positions`` (T, J) rad or m, ``T_frame_base``
(T, 4, 4) m, ``residual`` (T,) m. Of N grasps: ``object_id``, ``mesh_resource`` instead of the source, ``number`` (N,),
``positions`` (N, J), ``T_object_base`` (N, 4, 4), and each metric as ``metric_NAME`` (N,), NaN where it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.retargeting.robot_states import RobotGrasp, RobotGraspSet, RobotHandState, RobotTrajectory

TRAJECTORY_FORMAT = "grasp_nodes/robot_trajectory"
GRASPS_FORMAT = "grasp_nodes/robot_grasps"
FORMAT_VERSION = 1
_METRIC = "metric_"


def write_robot_trajectory(path: Path, trajectory: RobotTrajectory) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    states, joints = trajectory.states, len(trajectory.joint_names)
    write_npz(
        path,
        {
            **_header(TRAJECTORY_FORMAT, trajectory.robot, trajectory.side, trajectory.joint_names),
            "source": np.array(trajectory.source),
            "stamp": np.array([state.stamp for state in states], np.int64),
            "frame_id": np.array([state.frame_id for state in states], np.str_),
            "positions": np.array([state.positions for state in states]).reshape(-1, joints),
            "T_frame_base": np.array([state.T_frame_base for state in states]).reshape(-1, 4, 4),
            "residual": np.array([state.residual for state in states], np.float64),
        },
        compressed=True,
    )


def read_robot_trajectory(path: Path) -> RobotTrajectory:
    """Read and check a file.

    Raises:
        MissingFileError: there is none. InputError: it is something else or damaged.
    """
    arrays, joint_names = _read(path, TRAJECTORY_FORMAT)
    count, joints = len(_table(path, arrays, "stamp", (None,))), len(joint_names)
    positions, base = (
        _table(path, arrays, "positions", (count, joints)),
        _table(path, arrays, "T_frame_base", (count, 4, 4)),
    )
    frames, residual = _table(path, arrays, "frame_id", (count,)), _table(path, arrays, "residual", (count,))
    states = [
        RobotHandState(int(arrays["stamp"][k]), str(frames[k]), positions[k], base[k], float(residual[k]))
        for k in range(count)
    ]
    return RobotTrajectory(
        str(arrays.get("source", "")), str(arrays["robot"]), str(arrays["side"]), joint_names, states
    )


def write_robot_grasps(path: Path, grasps: RobotGraspSet) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    every, joints = grasps.grasps, len(grasps.joint_names)
    names = sorted({name for grasp in every for name in grasp.metrics})
    write_npz(
        path,
        {
            **_header(GRASPS_FORMAT, grasps.robot, grasps.side, grasps.joint_names),
            "object_id": np.array(grasps.object_id),
            "mesh_resource": np.array(grasps.mesh_resource),
            "number": np.array([grasp.number for grasp in every], np.int64),
            "positions": np.array([grasp.positions for grasp in every]).reshape(-1, joints),
            "T_object_base": np.array([grasp.T_object_base for grasp in every]).reshape(-1, 4, 4),
            **{
                _METRIC + name: np.array([grasp.metrics.get(name, np.nan) for grasp in every], np.float64)
                for name in names
            },
        },
        compressed=True,
    )


def read_robot_grasps(path: Path) -> RobotGraspSet:
    """Read and check a file; errors as `read_robot_trajectory`."""
    arrays, joint_names = _read(path, GRASPS_FORMAT)
    count, joints = len(_table(path, arrays, "number", (None,))), len(joint_names)
    positions, base = (
        _table(path, arrays, "positions", (count, joints)),
        _table(path, arrays, "T_object_base", (count, 4, 4)),
    )
    metrics = {
        name.removeprefix(_METRIC): _table(path, arrays, name, (count,)) for name in arrays if name.startswith(_METRIC)
    }
    found = [
        RobotGrasp(
            positions[k],
            base[k],
            int(arrays["number"][k]),
            {name: float(values[k]) for name, values in metrics.items() if np.isfinite(values[k])},
        )
        for k in range(count)
    ]
    return RobotGraspSet(
        str(arrays.get("object_id", "")),
        str(arrays["robot"]),
        str(arrays["side"]),
        joint_names,
        found,
        str(arrays.get("mesh_resource", "")),
    )


def _header(kind: str, robot: str, side: str, joint_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {
        "format": np.array(kind),
        "format_version": np.array(FORMAT_VERSION),
        "robot": np.array(robot),
        "side": np.array(side),
        "joint_names": np.array(joint_names, np.str_),
    }


def _read(path: Path, kind: str) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file")
    arrays = read_npz(path, kind)
    if str(arrays.get("format", "")) != kind:
        raise InputError(f"{path}: expected format {kind!r}, got {str(arrays.get('format', ''))!r}")
    version = arrays.get("format_version")
    if version is None or version.shape or version.item() != FORMAT_VERSION:
        raise InputError(f"{path}: format_version {version}, expected {FORMAT_VERSION}: retarget again")
    names = _table(path, arrays, "joint_names", (None,))
    for name in ("robot", "side"):
        _table(path, arrays, name, ())
    return arrays, tuple(str(each) for each in names)


def _table(path: Path, arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"{path}: there is no array {name!r}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or (array.dtype.kind == "f" and not name.startswith(_METRIC) and not np.isfinite(array).all()):
        raise InputError(f"{path}: {name}: expected finite values of shape {shape}, got {array.dtype} {array.shape}")
    return array
