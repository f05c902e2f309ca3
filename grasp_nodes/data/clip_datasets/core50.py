"""CORe50: 50 hand-held objects in 11 sessions, RGB, without annotations of poses.

Lomonaco and Maltoni, "CORe50", CoRL 2017. Certain, from its home page (https://vlomonaco.github.io/core50): sessions
``s1`` to ``s11``, objects ``o1`` to ``o50``, 15 s at 20 frames per second of a Kinect 2; files
``core50_350x350/s1/o1/C_01_01_000.png`` (session, object, frame). Five objects of a category follow each other.

Guessed: the camera. The images are cut out of larger ones, those of 128x128 at a place that follows the object; 480 px
for 350 px is what HOMan's authors assumed, so ``is_metric`` is false. The hands' sides are HOMan's annotation, one per
session. The depth maps that are published for the same frames have 8 bits, about 31 mm per count, and are not read.
The data set has no meshes: ``models/o21.obj`` (m) is taken where the user made one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grasp_nodes.data.clip_datasets.annotations import numbered_files
from grasp_nodes.data.clip_datasets.recording import RecordingSource
from grasp_nodes.data.clip_datasets.registry import ClipOptions, require, unknown_sequence
from grasp_nodes.data.clip_files import read_color
from grasp_nodes.data.frame_source import guessed_camera
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import Side

NAME = "core50"
FPS = 20.0
FIELD_OF_VIEW = float(np.rad2deg(2 * np.arctan(350 / 2 / 480)))
"""deg."""
FOLDERS = ("core50_350x350", "core50_128x128")
CATEGORIES = (
    *("plug_adapter", "mobile_phone", "scissors", "light_bulb", "can"),
    *("glasses", "ball", "marker", "cup", "remote_control"),
)
"""Of five objects each: o1 to o5 are plug adapters."""
LEFT_HANDED = (2, 3, 7, 9, 11)
"""The sessions in which the left hand holds the object; HOMan's annotation."""


def session_side(session: int) -> Side:
    """The hand that holds the objects in a session, 1 to 11."""
    return "left" if session in LEFT_HANDED else "right"


def category_of(number: int) -> str:
    """The category of object 1 to 50."""
    return CATEGORIES[(number - 1) // 5]


def list_sequences(folder: Path) -> list[str]:
    """``s1/o1`` ... ``s11/o50``, as far as they are there."""
    root = _images(folder)
    found = sorted(
        (int(path.parent.name[1:]), int(path.name[1:]))
        for path in root.glob("s*/o*")
        if path.parent.name[1:].isdigit() and path.name[1:].isdigit() and path.is_dir()
    )
    return [f"s{session}/o{number}" for session, number in found]


def open_sequence(folder: Path, sequence: str, options: ClipOptions) -> Core50Source:
    """An object in a session, ``s1/o21``. See `ClipDataset.open`."""
    known = list_sequences(folder)
    if sequence not in known:
        raise unknown_sequence(NAME, folder, sequence, known)
    return Core50Source(folder, sequence, options)


class Core50Source(RecordingSource):
    """One object in one session of CORe50. side: of the hand. category: of the object."""

    def __init__(self, folder: Path, sequence: str, options: ClipOptions) -> None:
        """See `ClipDataset.open`."""
        session, number = (int(part[1:]) for part in sequence.split("/"))
        path = _images(folder) / sequence
        prefix = f"C_{session:02d}_{number:02d}_"
        self._colors = numbered_files(path, prefix)
        if not self._colors:
            raise InputError(f"{path}: no images in it; expected {prefix}000.png, ...")
        height, width = read_color(next(iter(self._colors.values()))).shape[:2]
        camera = guessed_camera(width, height, options.field_of_view or FIELD_OF_VIEW)
        super().__init__(FPS, camera, list(self._colors), options.frames)
        self.side = session_side(session)
        self.category = category_of(number)
        self.object_id = f"o{number}"
        mesh = folder / "models" / f"o{number}.obj"
        self.object_spec = options.object_spec or (str(mesh) if mesh.is_file() else "")

    def _color_path(self, number: int) -> Path:
        return self._colors[number]


def _images(folder: Path) -> Path:
    for name in FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    require(NAME, folder / "s1" if folder.is_dir() else folder, "folder")
    return folder
