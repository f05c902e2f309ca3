"""Where the package finds the files that travel with it, and where it keeps what it makes.

The repository root is the package's home in a checkout; in a wheel the same folders (``msg``, ``srv``, ``launch``,
``config``) travel inside the package as ``grasp_nodes/share``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from grasp_nodes.errors import InputError, MissingFileError

PACKAGE_DIR = Path(__file__).resolve().parent


def share_dir() -> Path:
    """Folder that holds ``msg``, ``srv``, ``launch`` and ``config``: in the wheel, the checkout or the ament prefix.

    Raises:
        MissingFileError: the installation is incomplete.
    """
    # colcon installs PREFIX/lib/python3.x/site-packages/grasp_nodes beside PREFIX/share/grasp_nodes.
    prefixes = [folder / "share" / "grasp_nodes" for folder in PACKAGE_DIR.parents[:5]]
    for candidate in (PACKAGE_DIR / "share", PACKAGE_DIR.parent, *prefixes):
        if (candidate / "msg").is_dir() and (candidate / "launch").is_dir():
            return candidate
    raise MissingFileError(
        f"the message and launch files of grasp_nodes were found neither in {PACKAGE_DIR / 'share'}, nor in "
        f"{PACKAGE_DIR.parent}, nor in a share/grasp_nodes above it: reinstall the package with "
        "'pip install --force-reinstall grasp_nodes'"
    )


def cache_dir(*parts: str) -> Path:
    """Folder for what can be made again: ``$GRASP_NODES_CACHE``, else ``$XDG_CACHE_HOME/grasp_nodes``; created.

    Args:
        parts: sub-folders below it.

    Raises:
        InputError: it cannot be created.
    """
    own, user = os.environ.get("GRASP_NODES_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else (Path(user) if user else Path("~/.cache").expanduser()) / "grasp_nodes"
    folder = root.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cache folder {folder}: cannot be created ({error}); set GRASP_NODES_CACHE to a folder that can be written"
        ) from error
    return folder


@contextlib.contextmanager
def working_alone(folder: Path) -> Iterator[None]:
    """Make a folder and hold its file ``lock``, so that no second run mixes its results into it.

    Raises:
        InputError: another run is at work there. OSError: it cannot be made or locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another run is at work in this folder; wait for it or end it") from error
        yield
