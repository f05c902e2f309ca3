"""Clouds of points in files: numpy arrays, ply without faces, xyz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from grasp_nodes.errors import InputError

ENDINGS = (".npy", ".xyz", ".ply")


def holds_cloud(path: Path) -> bool:
    """Whether a file is a cloud: a ply is one if it has no faces."""
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return False
    if path.suffix.lower() != ".ply":
        return True
    with path.open("rb") as file:
        header = file.read(65536).split(b"end_header")[0]
    words = [line.split() for line in header.splitlines() if line.startswith(b"element face")]
    return not any(len(line) == 3 and line[2] != b"0" for line in words)


def read_cloud(path: Path) -> np.ndarray:
    """Points (N, 3), in the file's unit; more columns than three are left out.

    Raises:
        InputError: it cannot be read as points.
    """
    try:
        if path.suffix.lower() == ".npy":
            points = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".xyz":
            points = np.loadtxt(path, ndmin=2)
        else:
            points = np.asarray(getattr(trimesh.load(path, process=False), "vertices", np.zeros((0, 3))))
    except Exception as error:  # a parser fails with whatever its malformed input provokes
        raise InputError(f"{path}: cannot be read as a cloud of points: {error}") from error
    if points.dtype.kind not in "fiu" or points.ndim < 2 or points.shape[-1] < 3:
        raise InputError(f"{path}: expected numbers of shape (N, 3), got {points.dtype} {points.shape}")
    return points[..., :3].reshape(-1, 3).astype(np.float64)
