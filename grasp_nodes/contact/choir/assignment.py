"""Which of the hand's 32 anchors each basis point measures: CHOIR's anchor assignment (supplement, section B.1).

*Ordered*: anchor ``i mod 32`` for basis point i. On a grid of 16 x 16 x 16 this puts the 128 basis points of an anchor
onto one plane, since 32 = 2 x 16: their distances are the same for an anchor and for its mirror image in that plane.
*Random*: a fixed permutation of the same numbers, in which no such plane exists.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anchors import NUM_ANCHORS

Assignment = Literal["random", "ordered"]


@dataclass(frozen=True, eq=False)
class AnchorAssignment:
    """kind: how it was made. ids: (K,) int64, the anchor of each basis point; every anchor has as many."""

    kind: Assignment
    ids: np.ndarray

    def __post_init__(self) -> None:
        counts = np.bincount(self.ids, minlength=NUM_ANCHORS)
        if self.ids.ndim != 1 or len(counts) != NUM_ANCHORS or len(set(counts.tolist())) != 1 or not counts[0]:
            raise InputError(
                f"anchor assignment: expected each of {NUM_ANCHORS} anchors equally often, got counts "
                f"{counts.min()} to {counts.max()} of {len(counts)}"
            )

    @staticmethod
    def make(kind: Assignment, count: int, seed: int = 0) -> AnchorAssignment:
        """An assignment for `count` basis points, a multiple of 32.

        Args:
            kind: ``random`` or ``ordered``. seed: of the random one.

        Raises:
            InputError: another kind or count.
        """
        if kind not in get_args(Assignment):
            raise InputError(f"anchor assignment: expected one of {', '.join(get_args(Assignment))}, got {kind!r}")
        if count < NUM_ANCHORS or count % NUM_ANCHORS:
            raise InputError(f"basis points: expected a multiple of {NUM_ANCHORS}, got {count}")
        ids = np.arange(count, dtype=np.int64) % NUM_ANCHORS
        if kind == "random":
            # Sorting drawn keys: numpy promises the raw bits of this generator for good, but not its permutations.
            keys = np.random.Philox(key=np.array([seed, 8], np.uint64)).random_raw(count)
            ids = ids[np.argsort(keys, kind="stable")]
        return AnchorAssignment(kind, ids)

    @cached_property
    def points_of_anchor(self) -> np.ndarray:
        """(32, K / 32) int64: the basis points of each anchor, ascending."""
        return np.argsort(self.ids, kind="stable").reshape(NUM_ANCHORS, -1)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any of the ids."""
        return hashlib.sha256(np.ascontiguousarray(self.ids, "<i8").tobytes()).hexdigest()[:16]
