"""Sequences of data sets as clips to be judged, kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from grasp_nodes.data.clip_datasets.export import export_clip
from grasp_nodes.data.clip_datasets.registry import find_dataset
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.paths import cache_dir


def sequence_clips(name: str, folders: Sequence[Path], sequences: Sequence[str], frames: int) -> tuple[Path, ...]:
    """Clip folders with the annotated frames of sequences; those of an earlier call are taken up again.

    Args:
        name: of the data set. folders: the one that it lies in. sequences: of it, at least one.
        frames: of each, at most.

    Raises:
        InputError, MissingFileError: not one folder, no sequence, or one that cannot be read or has no annotations.
    """
    dataset = find_dataset(name)
    if len(folders) != 1:
        raise InputError(f"--dataset {name}: expected one folder of {dataset.title} as --clips, got {len(folders)}")
    if not sequences:
        raise InputError(f"--dataset {name}: name a sequence with --sequence, such as {dataset.sequence}")
    folder = folders[0].expanduser().resolve()
    hand = load_hand_model("right").fingerprint
    clips = []
    for sequence in sequences:
        key = hashlib.sha256(repr((str(folder), sequence, frames, hand)).encode()).hexdigest()[:12]
        clip = cache_dir() / "sequences" / f"{name}_{sequence.replace('/', '_')}_{key}"
        if not (clip / "clip.json").is_file():
            shutil.rmtree(clip, ignore_errors=True)  # what a call that was stopped left
            try:
                export_clip(dataset.open(folder, sequence), clip, frames)
            except InputError as error:
                raise InputError(f"{name} {sequence}: {error}") from error
        clips.append(clip)
    return tuple(clips)
