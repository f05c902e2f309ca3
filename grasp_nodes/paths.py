"""Where the package finds the files that travel with it, and where it keeps what it makes.

The repository root is the package's home in a checkout; in a wheel the same folders (``msg``, ``srv``, ``launch``,
``config``) travel inside the package as ``grasp_nodes/share``.
"""

from __future__ import annotations

import os
from pathlib import Path

from grasp_nodes.errors import MissingFileError

PACKAGE_DIR = Path(__file__).resolve().parent


def share_dir() -> Path:
    """Folder that holds ``msg``, ``srv``, ``launch`` and ``config``.

    Raises:
        MissingFileError: the installation is incomplete.
    """
    for candidate in (PACKAGE_DIR / "share", PACKAGE_DIR.parent):
        if (candidate / "msg").is_dir() and (candidate / "launch").is_dir():
            return candidate
    raise MissingFileError(
        f"the message and launch files of grasp_nodes were found neither in {PACKAGE_DIR / 'share'} nor in "
        f"{PACKAGE_DIR.parent}: reinstall the package with 'pip install --force-reinstall grasp_nodes'"
    )


def cache_dir(*parts: str) -> Path:
    """Folder for what can be made again: ``$GRASP_NODES_CACHE``, else ``$XDG_CACHE_HOME/grasp_nodes``; created.

    Args:
        parts: sub-folders below it.
    """
    root = os.environ.get("GRASP_NODES_CACHE")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "grasp_nodes")
    folder = Path(root, *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
