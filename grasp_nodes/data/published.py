"""Data sets that others publish: how one is found by name, and what is said when a file of it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from grasp_nodes.errors import InputError, MissingFileError


@dataclass(frozen=True)
class PublishedDataset:
    """One data set.

    title: as its authors write it. home_page: where it is asked for. licence: in short. layout: the files that are
    read, below the folder that the reader takes.
    """

    title: str
    home_page: str
    licence: str
    layout: str

    def require(self, path: Path, what: str = "file") -> Path:
        """The path, if it is there.

        Args:
            path: a file or folder of the data set. what: it is, for the message.

        Raises:
            MissingFileError: it is not there; the message says where the data set comes from and how it must lie.
        """
        if not path.exists():
            raise MissingFileError(
                f"{path}: there is no such {what}. {self.title} comes from {self.home_page} ({self.licence}); "
                f"unpack it so that its folder holds {self.layout}"
            )
        return path


Dataset = TypeVar("Dataset", bound=PublishedDataset)


def find_published(name: str, known: Mapping[str, Dataset]) -> Dataset:
    """The data set of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    if name not in known:
        raise InputError(f"data set: unknown {name!r}; known: {', '.join(known)}")
    return known[name]
