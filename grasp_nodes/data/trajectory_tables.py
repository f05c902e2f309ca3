"""Every state of a clip as tables of numbers, and back. The columns are described in docs/reconstruct.md.

T frames hold any number of hands, objects and contact maps, so each of these is a table of its own whose column
``..._frame`` says to which frame a row belongs. What differs in length between contact maps is padded with NaN.
The tables of a clip are those of its windows one after the other: `join_tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import torch

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import FitStatus, HandObjectState, HandState, ObjectState
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_KEYPOINTS, NUM_POSE, HandParams, Side

Tables = dict[str, np.ndarray]

_HAND_FIELDS = {"global_orient": (3,), "hand_pose": (NUM_POSE,), "betas": (NUM_BETAS,), "transl": (3,), "scale": ()}
"""Of `HandParams`, and the shape of a row; the column of hand_pose is called pose, as the table's prefix is hand_."""
_TABLES: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {
    "": {"stamps": ((), "i"), "status": ((), "i"), "status_text": ((), "U"), "frame_id": ((), "U")},
    "hand_": {
        "frame": ((), "i"),
        "side": ((), "U"),
        "track_id": ((), "i"),
        "score": ((), "f"),
        "is_metric": ((), "b"),
        "model_id": ((), "U"),
        "model_fingerprint": ((), "U"),
        **{name.removeprefix("hand_"): (tail, "f") for name, tail in _HAND_FIELDS.items()},
        "keypoints": ((NUM_KEYPOINTS, 3), "f"),
        "joint_poses": ((NUM_JOINTS, 7), "f"),
    },
    "object_": {
        "frame": ((), "i"),
        "id": ((), "U"),
        "T_camera_object": ((4, 4), "f"),
        "covariance": ((6, 6), "f"),
        "scale": ((), "f"),
        "score": ((), "f"),
        "is_metric": ((), "b"),
        "mesh_resource": ((), "U"),
    },
    "contact_": {
        "frame": ((), "i"),
        "object_id": ((), "U"),
        "hand_side": ((), "U"),
        "hand_track_id": ((), "i"),
        "threshold": ((), "f"),
        "point_set": ((), "i"),
        "num_hand_vertices": ((), "i"),
    },
}
"""Shape of a row and kind of number of every table's columns; contact_ has `_PADDED` and the point sets besides."""
_PADDED: dict[str, tuple[type[np.generic], Any]] = {
    "signed_distance": (np.float16, np.nan),
    "contact": (np.float16, np.nan),
    "region": (np.uint8, 255),
    "elasticity": (np.float16, np.nan),
    "hand_signed_distance": (np.float16, np.nan),
    "hand_contact": (np.float16, np.nan),
}


def state_tables(states: Sequence[HandObjectState]) -> Tables:
    """The tables of some states; `table_states` is the way back."""
    hands = [(row, hand) for row, state in enumerate(states) for hand in state.hands]
    objects = [(row, found) for row, state in enumerate(states) for found in state.objects]
    contacts = [(row, contact) for row, state in enumerate(states) for contact in state.contact_maps]
    names = sorted({name for state in states for name in state.residuals})
    tables: Tables = {
        "stamps": np.array([state.stamp for state in states], np.int64),
        "status": np.array([int(state.status) for state in states], np.int8),
        "status_text": _texts(state.status_text for state in states),
        "frame_id": _texts(state.frame_id for state in states),
        "residual_names": _texts(names),
        "residual_values": np.array(
            [[state.residuals.get(name, np.nan) for name in names] for state in states], np.float64
        ).reshape(len(states), len(names)),
    }
    tables |= _hand_table(hands)
    tables |= _object_table(objects)
    return tables | _contact_table(contacts)


def _hand_table(hands: Sequence[tuple[int, HandState]]) -> Tables:
    for _, hand in hands:
        if len(hand.params) != 1:
            raise InputError(f"HandState.params: expected a batch of one hand, got {len(hand.params)}")
    params = {
        name.removeprefix("hand_"): np.array(
            [getattr(hand.params, name)[0].detach().cpu().numpy() for _, hand in hands], None if hands else np.float32
        ).reshape(len(hands), *tail)
        for name, tail in _HAND_FIELDS.items()
    }
    return _prefixed(
        "hand_",
        {
            "frame": np.array([row for row, _ in hands], np.int32),
            "side": _texts(hand.params.side for _, hand in hands),
            "track_id": np.array([hand.track_id for _, hand in hands], np.int64),
            "score": np.array([hand.score for _, hand in hands], np.float64),
            "is_metric": np.array([hand.is_metric for _, hand in hands], bool),
            "model_id": _texts(hand.model_id for _, hand in hands),
            "model_fingerprint": _texts(hand.model_fingerprint for _, hand in hands),
            **params,
            "keypoints": _rows([hand.keypoints for _, hand in hands], (NUM_KEYPOINTS, 3)),
            "joint_poses": _rows([hand.joint_poses for _, hand in hands], (NUM_JOINTS, 7)),
        },
    )


def _object_table(objects: Sequence[tuple[int, ObjectState]]) -> Tables:
    unknown = np.full((6, 6), np.nan)
    covariance = [unknown if found.covariance is None else found.covariance for _, found in objects]
    return _prefixed(
        "object_",
        {
            "frame": np.array([row for row, _ in objects], np.int32),
            "id": _texts(found.object_id for _, found in objects),
            "T_camera_object": _rows([found.T_camera_object for _, found in objects], (4, 4)),
            "covariance": _rows(covariance, (6, 6)),
            "scale": np.array([found.scale for _, found in objects], np.float64),
            "score": np.array([found.score for _, found in objects], np.float64),
            "is_metric": np.array([found.is_metric for _, found in objects], bool),
            "mesh_resource": _texts(found.mesh_resource for _, found in objects),
        },
    )


def _contact_table(contacts: Sequence[tuple[int, ContactMap]]) -> Tables:
    """Every set of object points once: it is the same in all frames."""
    sets: dict[bytes, tuple[int, np.ndarray]] = {}
    for _, contact in contacts:
        points = np.ascontiguousarray(contact.points, np.float32)
        sets.setdefault(points.tobytes(), (len(sets), points))
    start = np.cumsum([0, *(len(points) for _, points in sets.values())])
    return _prefixed(
        "contact_",
        {
            "frame": np.array([row for row, _ in contacts], np.int32),
            "object_id": _texts(contact.object_id for _, contact in contacts),
            "hand_side": _texts(contact.hand_side for _, contact in contacts),
            "hand_track_id": np.array([contact.hand_track_id for _, contact in contacts], np.int64),
            "threshold": np.array([contact.contact_threshold for _, contact in contacts], np.float64),
            "point_set": np.array(
                [sets[np.ascontiguousarray(contact.points, np.float32).tobytes()][0] for _, contact in contacts],
                np.int32,
            ),
            "num_hand_vertices": np.array([len(contact.hand_contact) for _, contact in contacts], np.int32),
            "points": np.concatenate([np.zeros((0, 3), np.float32), *(points for _, points in sets.values())]),
            "point_set_start": start.astype(np.int64),
            **{
                name: _padded([getattr(contact, name) for _, contact in contacts], dtype, fill)
                for name, (dtype, fill) in _PADDED.items()
            },
        },
    )


def join_tables(parts: Sequence[Tables]) -> Tables:
    """The tables of windows, one after the other, as the tables of the whole.

    Args:
        parts: of `state_tables`, in time order. They are used up, so that a long clip is in memory only once.

    Raises:
        InputError: no parts.
    """
    if not parts:
        raise InputError("trajectory: expected the tables of at least one window, got none")
    counts = [len(part["stamps"]) for part in parts]
    first_frames = np.cumsum([0, *counts])
    joined = _joined_points(parts) | _joined_residuals(parts, counts)
    for prefix, columns in _TABLES.items():
        for column in columns:
            name = prefix + column
            if name in joined:
                continue
            arrays = [part.pop(name) for part in parts]
            if column == "frame":
                arrays = [array + array.dtype.type(first) for array, first in zip(arrays, first_frames, strict=False)]
            joined[name] = np.concatenate(arrays)
    for column, (_, fill) in _PADDED.items():
        arrays = [part.pop("contact_" + column) for part in parts]
        width = max(array.shape[1] for array in arrays)
        joined["contact_" + column] = np.concatenate([_widened(array, width, fill) for array in arrays])
    return joined


def _joined_points(parts: Sequence[Tables]) -> Tables:
    sets: dict[bytes, tuple[int, np.ndarray]] = {}
    rows = []
    for part in parts:
        numbers = []
        for begin, end in pairwise(part["contact_point_set_start"]):
            points = np.ascontiguousarray(part["contact_points"][begin:end])
            numbers.append(sets.setdefault(points.tobytes(), (len(sets), points))[0])
        rows.append(np.array(numbers, np.int32)[part["contact_point_set"]])
    start = np.cumsum([0, *(len(points) for _, points in sets.values())])
    return {
        "contact_point_set": np.concatenate(rows),
        "contact_points": np.concatenate([np.zeros((0, 3), np.float32), *(points for _, points in sets.values())]),
        "contact_point_set_start": start.astype(np.int64),
    }


def _joined_residuals(parts: Sequence[Tables], counts: Sequence[int]) -> Tables:
    names = sorted({str(name) for part in parts for name in part["residual_names"]})
    blocks = []
    for part, count in zip(parts, counts, strict=True):
        block = np.full((count, len(names)), np.nan)
        columns = [names.index(str(name)) for name in part["residual_names"]]
        block[:, columns] = part["residual_values"]
        blocks.append(block)
    return {"residual_names": _texts(names), "residual_values": np.concatenate(blocks)}


def table_states(tables: Mapping[str, np.ndarray], where: str = "trajectory") -> list[HandObjectState]:
    """The states of tables. where: what messages call them.

    Raises:
        InputError: a table is missing, has another shape, or holds values that no state has.
    """
    check_tables(tables, where)
    frames = len(tables["stamps"])
    try:
        hands = _grouped(tables["hand_frame"], frames, lambda row: _hand(tables, row))
        objects = _grouped(tables["object_frame"], frames, lambda row: _object(tables, row))
        contacts = _grouped(tables["contact_frame"], frames, lambda row: _contact(tables, row))
        names, values = [str(name) for name in tables["residual_names"]], tables["residual_values"]
        return [
            HandObjectState(
                stamp=int(tables["stamps"][row]),
                frame_id=str(tables["frame_id"][row]),
                hands=tuple(hands[row]),
                objects=tuple(objects[row]),
                contact_maps=tuple(contacts[row]),
                residuals={
                    name: float(value) for name, value in zip(names, values[row], strict=True) if np.isfinite(value)
                },
                status=FitStatus(int(tables["status"][row])),
                status_text=str(tables["status_text"][row]),
            )
            for row in range(frames)
        ]
    except (ValueError, IndexError) as error:
        raise InputError(f"{where}: {error}") from error


def _grouped(frame: np.ndarray, frames: int, make: Callable[[int], Any]) -> list[list[Any]]:
    groups: list[list[Any]] = [[] for _ in range(frames)]
    for row, number in enumerate(frame):
        groups[number].append(make(row))
    return groups


def _hand(tables: Mapping[str, np.ndarray], row: int) -> HandState:
    side: Side = "left" if str(tables["hand_side"][row]) == "left" else "right"
    rows = {name: tables["hand_" + name.removeprefix("hand_")][row : row + 1] for name in _HAND_FIELDS}
    values = {name: torch.from_numpy(array.copy()) for name, array in rows.items()}
    return HandState(
        HandParams(**values, side=side),
        tables["hand_keypoints"][row].astype(np.float64),
        tables["hand_joint_poses"][row].astype(np.float64),
        str(tables["hand_model_id"][row]),
        str(tables["hand_model_fingerprint"][row]),
        int(tables["hand_track_id"][row]),
        float(tables["hand_score"][row]),
        bool(tables["hand_is_metric"][row]),
    )


def _object(tables: Mapping[str, np.ndarray], row: int) -> ObjectState:
    covariance = tables["object_covariance"][row].astype(np.float64)
    return ObjectState(
        str(tables["object_id"][row]),
        tables["object_T_camera_object"][row].astype(np.float64),
        covariance if np.isfinite(covariance).all() else None,
        float(tables["object_scale"][row]),
        float(tables["object_score"][row]),
        str(tables["object_mesh_resource"][row]),
        bool(tables["object_is_metric"][row]),
    )


def _contact(tables: Mapping[str, np.ndarray], row: int) -> ContactMap:
    number = int(tables["contact_point_set"][row])
    begin, end = (int(value) for value in tables["contact_point_set_start"][number : number + 2])
    vertices = int(tables["contact_num_hand_vertices"][row])

    def values(name: str) -> np.ndarray:
        count = vertices if name.startswith("hand_") else end - begin
        array = tables["contact_" + name][row, :count]
        return array if array.dtype == np.uint8 else array.astype(np.float32)

    return ContactMap(
        object_id=str(tables["contact_object_id"][row]),
        points=tables["contact_points"][begin:end],
        contact_threshold=float(tables["contact_threshold"][row]),
        hand_side=str(tables["contact_hand_side"][row]),
        hand_track_id=int(tables["contact_hand_track_id"][row]),
        **{name: values(name) for name in _PADDED},
    )


def check_tables(tables: Mapping[str, np.ndarray], where: str) -> None:
    """Every table whole, with rows of the right shape and numbers of frames that exist.

    Raises:
        InputError: one is not; the message names it.
    """
    for prefix, columns in _TABLES.items():
        first = prefix + next(iter(columns))
        count = len(_table(tables, first, where))
        for column, (tail, kind) in columns.items():
            array = _table(tables, prefix + column, where)
            if array.shape != (count, *tail) or array.dtype.kind not in (kind, "u" if kind == "i" else kind):
                raise InputError(
                    f"{where}: {prefix + column}: expected {(count, *tail)} of kind {kind!r}, got {array.dtype} "
                    f"{array.shape}"
                )
    frames, contacts = len(tables["stamps"]), len(tables["contact_frame"])
    for prefix in ("hand_", "object_", "contact_"):
        rows = tables[prefix + "frame"]
        if len(rows) and not 0 <= rows.min() <= rows.max() < frames:
            raise InputError(f"{where}: {prefix}frame: expected 0 to {frames - 1}, got {rows.min()} to {rows.max()}")
    for column in _PADDED:
        array = _table(tables, "contact_" + column, where)
        if array.ndim != 2 or len(array) != contacts:
            raise InputError(f"{where}: contact_{column}: expected {contacts} rows, got shape {array.shape}")
    for name, dimensions in (("contact_points", 2), ("contact_point_set_start", 1), ("residual_names", 1)):
        if _table(tables, name, where).ndim != dimensions:
            raise InputError(f"{where}: {name}: expected {dimensions} dimensions, got shape {tables[name].shape}")
    start, sets = tables["contact_point_set_start"], tables["contact_point_set"]
    if contacts and not 0 <= sets.min() <= sets.max() < len(start) - 1:
        raise InputError(f"{where}: contact_point_set: expected 0 to {len(start) - 2}, got up to {sets.max()}")
    if (np.diff(start) < 0).any() or not len(start) or start[0] != 0 or start[-1] != len(tables["contact_points"]):
        raise InputError(f"{where}: contact_point_set_start: expected 0 to {len(tables['contact_points'])}, rising")
    if _table(tables, "residual_values", where).shape != (frames, len(tables["residual_names"])):
        raise InputError(f"{where}: residual_values: expected a row for each of {frames} frames")
    sides = {str(side) for side in np.unique(tables["hand_side"])}
    if not sides <= set(get_args(Side)):
        raise InputError(f"{where}: hand_side: expected right or left, got {sorted(sides)}")


def _table(tables: Mapping[str, np.ndarray], name: str, where: str) -> np.ndarray:
    array = tables.get(name)
    if array is None or not array.ndim:
        raise InputError(f"{where}: {name} is missing or is no table")
    return array


def _prefixed(prefix: str, columns: Tables) -> Tables:
    return {prefix + name: array for name, array in columns.items()}


def _texts(texts: Iterable[str]) -> np.ndarray:
    return np.array(list(texts), np.str_)


def _rows(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.array(arrays, np.float64).reshape(len(arrays), *shape)


def _padded(arrays: Sequence[np.ndarray], dtype: type[np.generic], fill: Any) -> np.ndarray:
    table = np.full((len(arrays), max((len(array) for array in arrays), default=0)), fill, dtype)
    for row, array in zip(table, arrays, strict=True):
        row[: len(array)] = array
    return table


def _widened(array: np.ndarray, width: int, fill: Any) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)
