"""Files of robot trajectories and grasps: round trips and refusals."""

import numpy as np
import pytest

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.retargeting.robot_files import (
    read_robot_grasps,
    read_robot_trajectory,
    write_robot_grasps,
    write_robot_trajectory,
)
from grasp_nodes.retargeting.robot_states import RobotGrasp, RobotGraspSet, RobotHandState, RobotTrajectory

NAMES = ("one", "two", "three")


def trajectory(count, rng):
    states = [
        RobotHandState(10**9 + k, "camera", rng.normal(size=3), rng.normal(size=(4, 4)), 0.1 * k) for k in range(count)
    ]
    return RobotTrajectory("a clip", "hand", "left", NAMES, states)


@pytest.mark.parametrize("count", [0, 4])
def test_trajectories_come_back_as_they_were(tmp_path, count):
    written = trajectory(count, np.random.default_rng(0))
    write_robot_trajectory(tmp_path / "t.npz", written)
    found = read_robot_trajectory(tmp_path / "t.npz")
    assert (found.source, found.robot, found.side, found.joint_names) == ("a clip", "hand", "left", NAMES)
    assert [state.stamp for state in found.states] == [state.stamp for state in written.states]
    for mine, theirs in zip(found.states, written.states, strict=True):
        np.testing.assert_array_equal(mine.positions, theirs.positions)
        np.testing.assert_array_equal(mine.T_frame_base, theirs.T_frame_base)
        assert (mine.frame_id, mine.residual) == ("camera", theirs.residual)


def test_grasps_come_back_with_the_metrics_that_each_has(tmp_path):
    grasps = [
        RobotGrasp(np.arange(3.0), np.eye(4), 4, {"penetration_depth_m": 0.001}),
        RobotGrasp(np.ones(3), 2 * np.eye(4), 7, {}),
    ]
    write_robot_grasps(tmp_path / "g.npz", RobotGraspSet("mug", "hand", "right", NAMES, grasps, "mug.obj"))
    found = read_robot_grasps(tmp_path / "g.npz")
    assert (found.object_id, found.mesh_resource, [each.number for each in found.grasps]) == ("mug", "mug.obj", [4, 7])
    assert [each.metrics for each in found.grasps] == [{"penetration_depth_m": 0.001}, {}]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_robot_trajectory(tmp_path / "none.npz")
    path = tmp_path / "t.npz"
    write_robot_trajectory(path, trajectory(2, np.random.default_rng(1)))
    with pytest.raises(InputError, match="robot_grasps"):
        read_robot_grasps(path)
    arrays = read_npz(path)
    for change, message in (
        ({"positions": np.zeros((2, 9))}, "positions"),
        ({"positions": np.full((2, 3), np.nan)}, "finite"),
        ({"format_version": np.array(9)}, "format_version 9"),
    ):
        write_npz(path, arrays | change)
        with pytest.raises(InputError, match=message):
            read_robot_trajectory(path)
