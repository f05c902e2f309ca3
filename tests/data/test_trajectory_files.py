"""Files of trajectories: what comes back, what is refused, and windows that are joined."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandObjectTrajectory, HandState, ObjectState
from grasp_nodes.data.trajectory_files import (
    RecordedTrajectory,
    holds_trajectory,
    read_trajectory,
    write_trajectory,
)
from grasp_nodes.data.trajectory_tables import join_tables, state_tables, table_states
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.parameters import HandParams, Side

CAMERA = CameraModel(
    np.array([[500.0, 0, 31.5], [0, 501.0, 23.5], [0, 0, 1]]), 64, 48, np.array([0.1, -0.02, 0, 0]), is_metric=False
)
POINTS = {"mug": 5, "box": 3}
FIELDS = ("global_orient", "hand_pose", "betas", "transl", "scale")


def hand(rng: np.random.Generator, side: Side, track_id: int) -> HandState:
    values = {name: torch.from_numpy(rng.normal(size=getattr(HandParams.zeros(1), name).shape)) for name in FIELDS}
    values = {name: tensor.float() for name, tensor in values.items()}
    return HandState(
        HandParams(**values, side=side), rng.normal(size=(21, 3)), rng.normal(size=(16, 7)), "m", "f" * 8, track_id, 0.5
    )


def contact(rng: np.random.Generator, object_id: str, side: str, track_id: int) -> ContactMap:
    count = POINTS[object_id]
    return ContactMap(
        object_id,
        np.arange(3 * count, dtype=np.float32).reshape(count, 3),
        rng.normal(scale=0.05, size=count).astype(np.float32),
        rng.random(count, np.float32),
        rng.normal(scale=0.05, size=4).astype(np.float32),
        rng.random(4, np.float32),
        0.005,
        side,
        track_id,
        region=rng.integers(0, 17, count).astype(np.uint8),
    )


def some_states() -> list[HandObjectState]:
    """Two hands and two objects, one of each, nothing at all, an object alone."""
    rng = np.random.default_rng(5)
    covariance = np.diag(rng.random(6))

    def state(row: int, hands: list[HandState], names: list[str], status: FitStatus, text: str = "") -> HandObjectState:
        objects = [
            ObjectState(name, rng.normal(size=(4, 4)), covariance if row else None, 1.1, 0.7, f"{name}.obj", bool(row))
            for name in names
        ]
        maps = [contact(rng, name, one.params.side, one.track_id) for one in hands for name in names]
        residuals = {"px": 0.5 * row, **({"iou": 0.9} if row == 1 else {})}
        return HandObjectState(10**18 + row, "cam", tuple(hands), tuple(objects), tuple(maps), residuals, status, text)

    return [
        state(0, [hand(rng, "right", 1), hand(rng, "left", 2)], ["mug", "box"], FitStatus.OK),
        state(1, [hand(rng, "right", 1)], ["mug"], FitStatus.HELD, "hand not seen"),
        state(2, [], [], FitStatus.NOTHING, "no hand — nichts"),
        state(3, [], ["box"], FitStatus.OK),
    ]


def check_equal(back: HandObjectState, state: HandObjectState) -> None:
    for name in ("stamp", "frame_id", "residuals", "status", "status_text"):
        assert getattr(back, name) == getattr(state, name), name
    assert [len(part) for part in (back.hands, back.objects, back.contact_maps)] == [
        len(part) for part in (state.hands, state.objects, state.contact_maps)
    ]
    for ours, theirs in zip(back.hands, state.hands, strict=True):
        for name in ("model_id", "model_fingerprint", "track_id", "score", "is_metric"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.params.side == theirs.params.side
        for name in FIELDS:
            assert getattr(ours.params, name).dtype == getattr(theirs.params, name).dtype
            assert torch.equal(getattr(ours.params, name), getattr(theirs.params, name)), name
        np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
        np.testing.assert_array_equal(ours.joint_poses, theirs.joint_poses)
    for mine, other in zip(back.objects, state.objects, strict=True):
        for name in ("object_id", "scale", "score", "mesh_resource", "is_metric"):
            assert getattr(mine, name) == getattr(other, name), name
        np.testing.assert_array_equal(mine.T_camera_object, other.T_camera_object)
        if other.covariance is None:
            assert mine.covariance is None
        else:
            np.testing.assert_array_equal(mine.covariance, other.covariance)
    for got, given in zip(back.contact_maps, state.contact_maps, strict=True):
        for name in ("object_id", "hand_side", "hand_track_id", "contact_threshold"):
            assert getattr(got, name) == getattr(given, name)
        np.testing.assert_array_equal(got.points, given.points)
        np.testing.assert_array_equal(got.region, given.region)
        for name in ("signed_distance", "contact", "elasticity", "hand_signed_distance", "hand_contact"):
            assert getattr(got, name).dtype == np.float32
            # Half precision has 11 bits: the relative error is at most 2^-11, below 2^-14 the absolute one 2^-25.
            np.testing.assert_allclose(getattr(got, name), getattr(given, name), rtol=2**-11, atol=2**-25)


def recorded(states: list[HandObjectState]) -> RecordedTrajectory:
    return RecordedTrajectory(HandObjectTrajectory("clip", states), CAMERA, 29.97, {"seed": "3", "versions": "{}"})


def test_a_trajectory_comes_back(tmp_path: Path) -> None:
    states = some_states()
    path = tmp_path / "trajectory.npz"
    write_trajectory(path, recorded(states))
    back = read_trajectory(path)
    assert back.trajectory.source == "clip"
    assert back.fps == 29.97
    assert back.attributes == {"seed": "3", "versions": "{}"}
    np.testing.assert_array_equal(back.camera.camera_k, CAMERA.camera_k)
    np.testing.assert_array_equal(back.camera.distortion, CAMERA.distortion)
    assert not back.camera.is_metric
    for ours, theirs in zip(back.trajectory.states, states, strict=True):
        check_equal(ours, theirs)


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 3), (1, 2, 3)])
def test_joined_windows_are_the_whole(cuts: tuple[int, ...]) -> None:
    states = some_states()
    edges = [0, *cuts, len(states)]
    parts = [state_tables(states[begin:end]) for begin, end in pairwise(edges)]
    joined, whole = join_tables(parts), state_tables(states)
    assert joined.keys() == whole.keys()
    for name, array in whole.items():
        assert joined[name].dtype == array.dtype, name
        np.testing.assert_array_equal(joined[name], array, err_msg=name)


def test_object_points_are_kept_once() -> None:
    states = some_states()
    assert len(state_tables(states)["contact_points"]) == sum(POINTS.values())
    again = state_tables([*states, *states])
    assert len(again["contact_points"]) == sum(POINTS.values())
    assert again["contact_point_set"].max() == 1


def test_a_trajectory_without_hands_comes_back(tmp_path: Path) -> None:
    states = [HandObjectState(0, "cam"), HandObjectState(5, "cam")]
    path = tmp_path / "empty.npz"
    write_trajectory(path, recorded(states))
    assert list(read_trajectory(path).trajectory.states) == states
    path = tmp_path / "none.npz"
    write_trajectory(path, recorded([]))
    assert list(read_trajectory(path).trajectory.states) == []


def test_a_trajectory_is_told_from_other_archives(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "a.npz", recorded(some_states()))
    np.savez(tmp_path / "b.npz", format=np.array("grasp_nodes/grasps"))
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    (tmp_path / "d.npz").write_bytes(b"PK no archive")
    assert [holds_trajectory(tmp_path / f"{name}.npz") for name in "abcde"] == [True, False, False, False, False]


def test_a_missing_file_and_other_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.npz"):
        read_trajectory(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", format=np.array("x"))
    with pytest.raises(InputError, match="grasp_nodes/trajectory"):
        read_trajectory(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("format_version", np.array(2), "format_version 2"),
        ("stamps", None, "stamps"),
        ("camera_k", None, "camera_k"),
        ("camera_k", np.zeros((3, 3)), "focal"),
        ("hand_keypoints", np.zeros((3, 20, 3)), "hand_keypoints"),
        ("hand_frame", np.array([0, 0, 4], np.int32), "hand_frame"),
        ("hand_side", np.array(["right", "up", "left"]), "hand_side"),
        ("contact_point_set", np.full(5, 7, np.int32), "contact_point_set"),
        ("contact_point_set_start", np.array([0, 9, 3]), "contact_point_set_start"),
        ("contact_signed_distance", np.zeros((5, 1), np.float16), "shape"),
        ("status", np.array([0, 1, 2, 9], np.int8), "9"),
        ("residual_values", np.zeros((4, 9)), "residual_values"),
        ("attributes", np.array("[]"), "attributes"),
        ("attributes", np.array("{"), "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, value: np.ndarray | None, said: str) -> None:
    path = tmp_path / "trajectory.npz"
    write_trajectory(path, recorded(some_states()))
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays.pop(name)
    if value is not None:
        arrays[name] = value
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=said):
        read_trajectory(path)


def test_tables_of_no_windows_are_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        join_tables([])
    assert table_states(state_tables([])) == []
