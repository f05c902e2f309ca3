"""The pictures of an evaluation as files, with an index that says whose they are.

``DIR/pictures/METHOD/OBJECT/NUMBER.png`` and ``DIR/pictures/index.csv`` with the columns id, method, object, file. The
id tells nothing of the method, so that a page may show it to somebody who must not know. Names are percent-encoded
where a file system would not take them.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from urllib.parse import quote

import numpy as np

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.viewer.pictures import grasp_picture, write_png
from grasp_nodes.viewer.row_file import RowFile, read_rows

PICTURES = "pictures"
INDEX = "index.csv"


@dataclass(frozen=True)
class PictureEntry:
    """One picture of the index. file: relative to the folder of the index."""

    id: str
    method: str
    object: str
    file: str


COLUMNS = tuple(field.name for field in fields(PictureEntry))


class PictureFolder:
    """Writes pictures of grasps into an evaluation's folder; what a harness is handed to write its pictures with.

    An interrupted evaluation goes on: a grasp that is drawn again replaces its picture and keeps its row.
    """

    def __init__(self, folder: Path, size: int = 240, threads: int = 0) -> None:
        """Open or make the folder.

        Args:
            folder: of the evaluation (DIR). size: px, edge of a view. threads: of the ray caster, 0 = all cores.

        Raises:
            InputError: it cannot be made, or holds an index of another form.
        """
        self.root = folder / PICTURES
        self._size, self._threads = size, threads
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"pictures {self.root}: the folder cannot be made ({error})") from error
        self._index = RowFile(self.root / INDEX, COLUMNS)
        self._known = {row[0] for row in read_rows(self.root / INDEX, COLUMNS)}

    def write(
        self,
        method: str,
        object_id: str,
        number: int,
        hand_vertices: np.ndarray,
        hand_faces: np.ndarray,
        object_vertices: np.ndarray,
        object_faces: np.ndarray,
        signed_distance: np.ndarray | None,
    ) -> Path:
        """Draw one grasp from three sides and add it to the index.

        Args:
            method: whose grasp. object_id: of which object. number: which of this method's grasps of it, from 0.
            hand_vertices: (V, 3), m, object frame; with NaN only the object is drawn. hand_faces: (F, 3), outward.
            object_vertices: (W, 3), m. object_faces: (G, 3).
            signed_distance: (V,), m, of the hand's vertices to the object, negative inside; None = unknown.

        Returns:
            The picture's file.

        Raises:
            InputError: arrays of other shapes, or a file that cannot be written.
        """
        picture = grasp_picture(
            hand_vertices, hand_faces, object_vertices, object_faces, signed_distance, self._size, self._threads
        )
        file = f"{_file_name(method)}/{_file_name(object_id)}/{number}.png"
        path = self.root / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"picture {path}: its folder cannot be made ({error})") from error
        write_png(path, picture)
        entry = PictureEntry(picture_id(method, object_id, number), method, object_id, file)
        if entry.id not in self._known:
            self._index.append(astuple(entry))
            self._known.add(entry.id)
        return path


def picture_id(method: str, object_id: str, number: int) -> str:
    """A name for one grasp that hides its method."""
    return hashlib.sha256(f"{method}\0{object_id}\0{number}".encode()).hexdigest()[:16]


def read_pictures(folder: Path) -> list[PictureEntry]:
    """The index of an evaluation's folder, in its order.

    Raises:
        MissingFileError: no index there. InputError: a damaged index, or one that names files outside of its folder.
    """
    root = folder / PICTURES
    if not (root / INDEX).is_file():
        raise MissingFileError(
            f"pictures: there is no {root / INDEX}; make the pictures with 'grasp-nodes evaluate ... -o {folder}'"
        )
    entries = [PictureEntry(*row) for row in read_rows(root / INDEX, COLUMNS)]
    inside = root.resolve()
    for entry in entries:
        path = (root / entry.file).resolve()
        if inside not in path.parents or path.suffix != ".png":
            raise InputError(f"{root / INDEX}: file {entry.file!r}: expected a .png below {root}")
        if not path.is_file():
            raise MissingFileError(f"{root / INDEX}: names {entry.file}, which is not there")
    return entries


def _file_name(text: str) -> str:
    """A name of one level for any text; different texts have different names."""
    return quote(text, safe="+").replace(".", "%2E") or "%00"
