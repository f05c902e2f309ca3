"""``grasp-nodes render TRAJECTORY.npz``: states of a trajectory as the camera sees them and from the side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from grasp_nodes.contact.interaction import HandObjectState
from grasp_nodes.data.trajectory_files import RecordedTrajectory, read_trajectory
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.geometry.rendering import contact_sheet
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.loading import load_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.viewer.pictures import captioned, write_png
from grasp_nodes.viewer.state_pictures import StatePainter

SHOWN = 8
COLUMNS = 2
BACKGROUND = 255


def draw_trajectory(path: Path, output: Path, size: int) -> None:
    """Write a sheet of states, spread evenly over the trajectory.

    Args:
        path: of the file. output: the PNG. size: px, height of a picture with its caption.

    Raises:
        InputError: it is damaged, empty, or of another hand model. MissingFileError: a mesh that it names is gone.
    """
    recorded = read_trajectory(path)
    states = recorded.trajectory.states
    if not states:
        raise InputError(f"{path}: holds no states")
    _check_hands(path, states)
    painter = StatePainter(_objects(path, recorded))
    camera = recorded.camera
    blank = np.full((camera.height, camera.width, 3), BACKGROUND, np.uint8)
    cells = []
    for row in np.unique(np.linspace(0, len(states) - 1, SHOWN).round().astype(int)).tolist():
        state = states[row]
        seen = painter.overlay(Frame(state.stamp, blank, camera), state)
        picture = np.hstack([seen, painter.side_view(state, camera.height)])
        cells.append(captioned(picture, f"{row}  {state.status.name}  {state.status_text}"))
    write_png(output, contact_sheet(cells, COLUMNS, size / cells[0].shape[0]))


def _check_hands(path: Path, states: Sequence[HandObjectState]) -> None:
    known: dict[str, str] = {}
    for hand in (hand for state in states for hand in state.hands):
        side = hand.params.side
        if side not in known:
            known[side] = load_hand_model(side).fingerprint
        if hand.model_fingerprint and hand.model_fingerprint != known[side]:
            raise InputError(
                f"{path}: its {side} hand is of {hand.model_id} ({hand.model_fingerprint[:12]}), the model at hand is "
                f"{known[side][:12]}: set GRASP_NODES_HAND_MODEL to the model that it was made with"
            )


def _objects(path: Path, recorded: RecordedTrajectory) -> list[ObjectModel]:
    """The objects' shapes, from the meshes that the file names."""
    try:
        scales = {
            name: float(mesh["scale"])
            for name, mesh in json.loads(recorded.attributes.get("object_meshes", "{}")).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: attributes: object_meshes is damaged ({error})") from error
    meshes = {
        found.object_id: found.mesh_resource
        for state in recorded.trajectory.states
        for found in state.objects
        if found.mesh_resource
    }
    return [load_object(mesh, name, scales.get(name, 1.0)) for name, mesh in meshes.items()]
