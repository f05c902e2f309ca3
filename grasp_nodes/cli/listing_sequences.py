"""``grasp-nodes sequences``: what of a published data set of clips is there, and what of it HOMan and CPF judged on."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from grasp_nodes.data.clip_datasets.registry import find_dataset
from grasp_nodes.data.clip_datasets.selection import homan_clips
from grasp_nodes.data.clip_datasets.splits import ho3d_minus
from grasp_nodes.errors import InputError


def list_sequences(dataset: str, folder: Path, homan: bool, as_json: bool, cpf: bool = False) -> None:
    """Print the sequences' names, one a line, as `--sequence` takes them.

    Args:
        dataset: its name in the registry. folder: that it lies in. homan: only those that HOMan was evaluated on.
        as_json: as one JSON list. cpf: only those that CPF was evaluated on, of HO-3D (HO3Dv2-).

    Raises:
        InputError, MissingFileError: no such data set, or it is not there; the message says where it comes from; or a
            selection that there is not.
    """
    found, place = find_dataset(dataset), folder.expanduser()
    if cpf and (homan or dataset != "ho3d"):
        raise InputError(f"--cpf: HO3Dv2- is a part of ho3d, got {dataset}{' and --homan' if homan else ''}")
    if cpf:
        names = ho3d_minus(place)
    else:
        names = homan_clips(dataset, place) if homan else found.sequences(place)
    if as_json:
        typer.echo(json.dumps(names))
        return
    for name in names:
        typer.echo(name)
