"""``grasp-nodes transfer-contact``: the contact of a trajectory as it would be said of another hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import typer

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import HandObjectState, HandObjectTrajectory
from grasp_nodes.contact.transfer import transfer_contact_map
from grasp_nodes.data.trajectory_files import read_trajectory, write_trajectory
from grasp_nodes.data.workers import writing_below
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import Side


def transfer_contact(trajectory: Path, output: Path, source: str | None, target: str | None, mirror: bool) -> int:
    """Write a trajectory whose contact maps are of another hand.

    Objects stay; hands are left out, since their poses are not the other hand's.

    Args:
        trajectory: of ``grasp-nodes reconstruct``. output: file to write. source: hand model that it was made with,
            None = the one in use; target: the other one, None = the same. mirror: contact is said of the other side.

    Returns:
        0.

    Raises:
        InputError: no contact in it, or it was made with another hand than `source`. MissingFileError: no such file.
        WorkError: the file cannot be written.
    """
    recorded = read_trajectory(trajectory)
    states = recorded.trajectory.states
    found = [contact for state in states for contact in state.contact_maps]
    if not found:
        raise InputError(f"{trajectory}: holds no contact map: no hand came near an object")
    sides = {contact.hand_side for contact in found}
    models = {side: load_hand_model(side, source) for side in get_args(Side)}
    others = {side: load_hand_model(side, source if target is None else target) for side in get_args(Side)}
    _check(trajectory, states, models)
    pairs: dict[str, tuple[HandModel, HandModel]] = {
        side: (models[side], others[_other(side) if mirror else side]) for side in get_args(Side) if side in sides
    }

    def carried(contact: ContactMap) -> ContactMap:
        return transfer_contact_map(contact, *pairs[contact.hand_side])

    moved = [replace(state, hands=(), contact_maps=tuple(map(carried, state.contact_maps))) for state in states]
    with writing_below(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_trajectory(output, replace(recorded, trajectory=HandObjectTrajectory(recorded.trajectory.source, moved)))
    names = ", ".join(f"{one.side} {one.model_id} -> {two.side} {two.model_id}" for one, two in pairs.values())
    typer.echo(f"{output}: {len(found)} contact maps ({names})")
    return 0


def _check(trajectory: Path, states: Sequence[HandObjectState], models: dict[Side, HandModel]) -> None:
    for state in states:
        for hand in state.hands:
            model = models[hand.params.side]
            if hand.model_fingerprint and hand.model_fingerprint != model.fingerprint:
                raise InputError(
                    f"{trajectory}: was made with the {hand.params.side} hand {hand.model_id}, not with "
                    f"{model.model_id} (fingerprints differ): name it with --from"
                )


def _other(side: Side) -> Side:
    return "left" if side == "right" else "right"
