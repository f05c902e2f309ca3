"""``grasp-nodes sequences``: what of a published data set of clips is there, and which of it HOMan was evaluated on."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from grasp_nodes.data.clip_datasets.registry import find_dataset
from grasp_nodes.data.clip_datasets.selection import homan_clips


def list_sequences(dataset: str, folder: Path, homan: bool, as_json: bool) -> None:
    """Print the sequences' names, one a line, as `--sequence` takes them.

    Args:
        dataset: its name in the registry. folder: that it lies in. homan: only those that HOMan was evaluated on.
        as_json: as one JSON list.

    Raises:
        InputError, MissingFileError: no such data set, or it is not there; the message says where it comes from.
    """
    found = find_dataset(dataset)
    names = homan_clips(dataset, folder.expanduser()) if homan else found.sequences(folder.expanduser())
    if as_json:
        typer.echo(json.dumps(names))
        return
    for name in names:
        typer.echo(name)
