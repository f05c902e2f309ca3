"""Recorded MANO hands, brought into the frame of their object.

Every data set of MANO grasps needs the user's MANO files to be understood: they hold where the wrist of a shape is,
about which the hand turns, and the mean pose, on top of which some data sets count their angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from grasp_nodes.data.grasp_readers.registry import find_reader
from grasp_nodes.data.labelled_grasps import UNLABELLED, GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.files import MODEL_VARIABLE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_POSE, NUM_VERTICES, HandParams, Side


def require_mano(hand: HandModel | None, side: Side, title: str) -> HandModel:
    """The hand model in whose terms a data set is recorded.

    Args:
        hand: the one to take; None = the user's MANO, from the place that GRASP_NODES_HAND_MODEL names.
        side: which hand. title: of the data set, for messages.

    Raises:
        MissingFileError: there is no MANO. InputError: `hand` is of the other side.
    """
    if hand is None:
        hand = load_hand_model(side)
        if hand.model_id != "mano":
            raise MissingFileError(
                f"{title}: its hands are MANO's, and the hand model in use is {hand.model_id}. MANO is free for "
                "research after registration at https://mano.is.tue.mpg.de: put MANO_RIGHT.pkl and MANO_LEFT.pkl into "
                f"one folder and set {MODEL_VARIABLE} to that folder"
            )
    if hand.side != side:
        raise InputError(f"{title}: a {side} hand is asked for, the hand model is of a {hand.side} hand")
    return hand


def rest_wrist(hand: HandModel, betas: np.ndarray) -> np.ndarray:
    """Where the wrist joint of a shape is, before any pose.

    Args:
        hand: the model. betas: (N, 10).

    Returns:
        (N, 3), m.
    """
    arrays = hand.arrays
    shapes = np.einsum("v,vck->ck", arrays.J_regressor[0], arrays.shapedirs)
    return arrays.J_regressor[0] @ arrays.v_template + np.asarray(betas) @ shapes.T


def template_wrist(hand: HandModel, template: np.ndarray) -> np.ndarray:
    """(3,) m: where the wrist joint of a subject's own hand mesh (778, 3) is."""
    return hand.arrays.J_regressor[0] @ template


def fit_betas(hand: HandModel, template: np.ndarray, source: str) -> tuple[np.ndarray, float]:
    """The shape of the model that is nearest to a subject's own mesh in its rest pose, by least squares.

    A shift of the whole mesh is left free: hands are placed by their wrist.

    Args:
        hand: the model. template: (778, 3), m. source: its file, for messages.

    Returns:
        betas (10,), and the root mean square distance of the vertices that remains, m.

    Raises:
        InputError: the mesh is not a MANO hand in metres.
    """
    arrays = hand.arrays
    if template.shape != (NUM_VERTICES, 3) or not np.isfinite(template).all():
        raise InputError(f"{source}: expected a hand of {NUM_VERTICES} finite vertices, got {template.shape}")
    shift = np.tile(np.eye(3), (NUM_VERTICES, 1))
    system = np.concatenate([arrays.shapedirs.reshape(-1, NUM_BETAS), shift], 1)
    offset = (template - arrays.v_template).ravel()
    solution = np.linalg.lstsq(system, offset, rcond=None)[0]
    residual = (offset - system @ solution).reshape(-1, 3)
    distance = float(np.sqrt((residual**2).sum(1).mean()))
    if distance > 0.02:
        raise InputError(f"{source}: not a MANO hand in metres, no shape comes nearer to it than {distance:.3g} m")
    return solution[:NUM_BETAS], distance


@dataclass(frozen=True, eq=False)
class Recording:
    """T hands of one recording on one object; a row with a number that is not finite is one that was not measured.

    orientation: (T, 3, 3), of the hand. wrist: (T, 3), m, its wrist joint. Both in the frame of the recording.
    hand_pose: (T, 45), rad, full rotations. betas: (10,) or (T, 10).
    object_rotation (T, 3, 3), object_translation (T, 3), m: object frame to recording frame.
    object_name: a key of the objects. subject, sequence: see `LabelledGrasps`. Each is one or (T,).
    frame: (T,). metrics: (T,) by name, SI.
    """

    orientation: np.ndarray
    wrist: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    object_rotation: np.ndarray
    object_translation: np.ndarray
    object_name: str | np.ndarray
    subject: str | np.ndarray
    sequence: str | np.ndarray
    frame: np.ndarray
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)


def label_grasps(
    source: str,
    hand: HandModel,
    recordings: Sequence[Recording],
    objects: Mapping[str, GraspedObject],
    attributes: Mapping[str, str],
) -> LabelledGrasps:
    """The recorded hands in the frames of their objects; rows that are not finite are counted and left out.

    Args:
        source: name of the data set in the registry. hand: the model. recordings: with the same metrics.
        objects: by name, at least those that occur. attributes: of the set; added are licence, home page and
            `not_finite_dropped`.
    """
    if not recordings:
        raise InputError(
            f"{source}: nothing to read is left after the choice of subjects, objects, sequences and split"
        )
    kept = [_finite_rows(one) for one in recordings]
    names = np.concatenate(
        [np.broadcast_to(one.object_name, len(rows))[rows] for one, rows in zip(recordings, kept, strict=True)]
    )

    def rows_of(attribute: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        parts = [
            np.broadcast_to(getattr(one, attribute), (len(rows), *shape))[rows]
            for one, rows in zip(recordings, kept, strict=True)
        ]
        return np.concatenate(parts)

    turn_back = rows_of("object_rotation", (3, 3)).swapaxes(1, 2)
    betas = rows_of("betas", (NUM_BETAS,))
    wrist = np.einsum("nij,nj->ni", turn_back, rows_of("wrist", (3,)) - rows_of("object_translation", (3,)))

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))

    hands = HandParams(
        global_orient=tensor(axis_angle(turn_back @ rows_of("orientation", (3, 3)))),
        hand_pose=tensor(rows_of("hand_pose", (NUM_POSE,))),
        betas=tensor(betas),
        # The hand turns about its wrist joint, which `transl` moves from its place at rest.
        transl=tensor(wrist - rest_wrist(hand, betas)),
        scale=torch.ones(len(betas)),
        side=hand.side,
    )
    used = sorted(set(names.tolist()))
    number = {name: index for index, name in enumerate(used)}
    return LabelledGrasps(
        source=source,
        hands=hands,
        hand_model_id=hand.model_id,
        hand_fingerprint=hand.fingerprint,
        objects=[objects[name] for name in used],
        object_index=np.array([number[name] for name in names.tolist()], np.int64),
        kind=np.full(len(names), UNLABELLED, np.int64),
        subject=rows_of("subject").astype(str),
        sequence=rows_of("sequence").astype(str),
        frame=rows_of("frame").astype(np.int64),
        metrics={
            name: np.concatenate([one.metrics[name][rows] for one, rows in zip(recordings, kept, strict=True)])
            for name in recordings[0].metrics
        },
        attributes={
            "licence": find_reader(source).licence,
            "home_page": find_reader(source).home_page,
            **attributes,
            "not_finite_dropped": str(sum(int((~rows).sum()) for rows in kept)),
        },
    )


def rotation_matrices(axis_angles: np.ndarray) -> np.ndarray:
    """(..., 3) rad to (..., 3, 3)."""
    return axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(axis_angles, np.float64))).numpy()


def axis_angle(matrices: np.ndarray) -> np.ndarray:
    """(..., 3, 3) to (..., 3), rad."""
    return matrix_to_axis_angle(torch.from_numpy(np.ascontiguousarray(matrices, np.float64))).numpy()


def _finite_rows(recording: Recording) -> np.ndarray:
    """(T,) bool."""
    values = (
        *(recording.orientation, recording.wrist, recording.hand_pose, recording.object_rotation),
        *(recording.object_translation, np.broadcast_to(recording.betas, (len(recording.wrist), NUM_BETAS))),
    )
    finite = [np.isfinite(one).all(tuple(range(1, one.ndim))) for one in values]
    return np.logical_and.reduce(finite)
