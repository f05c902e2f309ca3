"""The published divisions of the recorded data sets into training, validation and test.

HO-3D's are its folders. DexYCB's: the authors' toolkit (https://github.com/NVlabs/dex-ycb-toolkit). FHB's, for hand
poses: the authors' README (https://github.com/guiggh/hand_pose_action).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from grasp_nodes.data.clip_datasets import dexycb, fhb, ho3d
from grasp_nodes.errors import InputError

Part = Literal["train", "val", "test"]
DexYcbSetup = Literal["s0", "s1", "s2", "s3"]
_SEQUENCES = 100
"""Of each of DexYCB's ten subjects, five in a row of each of 20 objects."""
_VIEWS = 8

_TEST: dict[str, Callable[[int, int, int], bool]] = {
    "s0": lambda subject, _view, sequence: sequence % 5 == 4 and subject > 1,
    "s1": lambda subject, _view, _sequence: subject in (7, 8),
    "s2": lambda _subject, view, _sequence: view == 7,
    "s3": lambda _subject, _view, sequence: sequence // 5 in (7, 11, 15),
}
_VAL: dict[str, Callable[[int, int, int], bool]] = {
    "s0": lambda subject, _view, sequence: sequence % 5 == 4 and subject <= 1,
    "s1": lambda subject, _view, _sequence: subject == 6,
    "s2": lambda _subject, view, _sequence: view == 6,
    "s3": lambda _subject, _view, sequence: sequence // 5 in (3, 19),
}


def dexycb_split(folder: str | Path, part: Part, setup: DexYcbSetup = "s0") -> list[str]:
    """DexYCB's sequences of a part: s0 seen subjects, views and objects; unseen subjects s1, views s2, objects s3.

    Sequences and views count in the order of their names, so that all of a subject must be there.

    Raises:
        MissingFileError: no data set. InputError: an unknown name, or a subject with fewer sequences or views.
    """
    if setup not in _TEST or part not in ("train", "val", "test"):
        raise InputError(f"split: expected s0, s1, s2 or s3 and train, val or test, got {setup!r} and {part!r}")
    subjects: dict[str, dict[str, list[str]]] = {}
    for name in dexycb.list_sequences(Path(folder)):
        subject, sequence, _ = name.split("/")
        subjects.setdefault(subject, {}).setdefault(sequence, []).append(name)
    chosen = []
    for subject, sequences in subjects.items():
        views = {len(names) for names in sequences.values()}
        if len(sequences) != _SEQUENCES or views != {_VIEWS}:
            raise InputError(
                f"{folder}: {subject} has {len(sequences)} sequences of {sorted(views)} views; expected {_SEQUENCES} "
                f"of {_VIEWS}: they are divided by their place in the full list"
            )
        number = int(subject.rsplit("-", 1)[1]) - 1
        for place, names in enumerate(sequences.values()):
            chosen += [name for view, name in enumerate(names) if _part(setup, number, view, place) == part]
    return chosen


def _part(setup: str, subject: int, view: int, sequence: int) -> Part:
    if _TEST[setup](subject, view, sequence):
        return "test"
    return "val" if _VAL[setup](subject, view, sequence) else "train"


HO3D_MINUS: dict[str, tuple[tuple[int, int], ...]] = {
    "SM1": (),
    **{f"MPM{number}": ((30, 450), (585, 685)) for number in range(10, 15)},
    **dict.fromkeys(("SB11", "SB13"), ((340, 1355), (1415, 1686))),
}
"""First and last frame of each part; none = all frames."""


def ho3d_minus(folder: str | Path) -> list[str]:
    """Frames of HO-3D's version 2 in which an object is held firmly: CPF's HO3Dv2-, 6,076 frames.

    Yang et al., "CPF: Learning a Contact Potential Field to Model the Hand-Object Interaction", ICCV 2021, appendix
    C.1, table 4. That both ends of a part belong to it follows from the number of frames.

    Returns:
        Sequences and parts of such (``evaluation/SM1``, ``evaluation/MPM10:30-450`` ...), as `ho3d.open_sequence`
        takes them, as far as they are there.

    Raises:
        MissingFileError: no data set.
    """
    chosen = []
    for name in ho3d.list_sequences(Path(folder)):
        split, sequence = name.split("/")
        if split == "evaluation" and sequence in HO3D_MINUS:
            chosen += [f"{name}:{first}-{last}" for first, last in HO3D_MINUS[sequence]] or [name]
    return chosen


def fhb_split(folder: str | Path, part: Part) -> list[str]:
    """FHB's sequences across subjects: 1, 3 and 4 train, the others test; there is no validation part."""
    if part not in ("train", "test"):
        raise InputError(f"split: FHB has train and test, got {part!r}")
    names = fhb.list_sequences(Path(folder))
    return [
        name for name in names if (name.split("/")[0] in ("Subject_1", "Subject_3", "Subject_4")) == (part == "train")
    ]
