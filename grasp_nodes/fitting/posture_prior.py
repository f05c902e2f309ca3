"""Which postures of a hand are usual: normal distributions of its joint angles, as the pose solver takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_skeleton import HandSkeleton

GRASPS_FILE = Path(__file__).resolve().parent / "posture_prior.json"
FORMAT, VERSION = "grasp_nodes/posture_prior", 1
BEYOND_GRASPS = 0.15
"""rad; hands do what the measured grasps do not, by about as much in every angle."""
POSTURE_ERROR = 0.45
COUPLING_ERROR = 0.25
"""rad; how far hands deviate from the relaxed posture, and from bending the two outer joints together."""
OUTER_PER_MIDDLE = 0.66
"""Bend of a finger's outer joint per bend of its middle one, in unforced motion."""
RELAXED = ((20.0, 22.0, 14.0), (5.0, 10.0, 12.0, -15.0, 0.0))
"""deg: three finger bends, and the thumb's bends, spread and twist."""


class PosturePrior(NamedTuple):
    """A normal distribution of the D angles.

    mean: (D,), rad. precision: (D, D), 1 / rad^2, the inverse of its covariance.
    """

    mean: np.ndarray
    precision: np.ndarray


def unforced_postures(skeleton: HandSkeleton) -> PosturePrior:
    """Around the relaxed posture, the two outer joints of a finger bending together: what is known of any hand."""
    names = skeleton.dofs.names
    coupled = np.zeros((len(names), len(names)))
    for row, name in enumerate(names):
        if name.endswith("_bend_2") and not name.startswith("thumb"):
            coupled[row, row] = 1.0
            coupled[row, names.index(name.replace("_bend_2", "_bend_1"))] = -OUTER_PER_MIDDLE
    spread = np.eye(len(names)) / POSTURE_ERROR**2
    precision = spread + coupled.T @ coupled / COUPLING_ERROR**2
    return PosturePrior(np.linalg.solve(precision, spread @ skeleton.angles(*RELAXED)), precision)


def grasping_postures(skeleton: HandSkeleton, path: Path = GRASPS_FILE) -> PosturePrior:
    """Measured on the open grasps, a little wider: hands that hold something, and open and close to do so.

    The benchmark's clips show grasps out of the same set: on other hands it is worth less there than it seems.
    `unforced_postures` is the prior that knows nothing of them.

    Raises:
        InputError: not such a table, or of other angles.
    """
    table = json.loads(path.read_text())
    if table.get("format") != FORMAT or table.get("version") != VERSION:
        raise InputError(
            f"{path}: expected format {FORMAT!r} version {VERSION}, got {table.get('format')!r} version "
            f"{table.get('version')!r}"
        )
    if tuple(table["names"]) != tuple(skeleton.dofs.names):
        raise InputError(f"{path}: names: expected {list(skeleton.dofs.names)}, got {table['names']}")
    covariance = np.array(table["covariance"], np.float64) + BEYOND_GRASPS**2 * np.eye(skeleton.num_dofs)
    return PosturePrior(np.array(table["mean"], np.float64), np.linalg.inv(covariance))
