"""One hand, and one object, through the frames of a clip or of a window of it: what fits take and give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from grasp_nodes.hand.parameters import HandParams


@dataclass(frozen=True)
class HandTrack:
    """One hand in T frames, camera frame.

    params: T hands of one side, float32; `betas` and `scale` are the same in all frames.
    seen: (T,) bool, frames in which the hand's own evidence (landmarks, mask or depth) was used; the others are carried
    over or interpolated. score: (T,) in [0, 1]. lost: (T,) bool, frames for which there is no usable answer at all.
    track_id: stable while the same hand is followed. without_depth: the depth there contradicts it and does not count.
    reader_doubt: 0 to 1, how little the reader of landmarks is believed of this hand, see `reader_doubt`.
    """

    params: HandParams
    seen: np.ndarray
    score: np.ndarray
    lost: np.ndarray
    track_id: int = 0
    without_depth: bool = False
    reader_doubt: float = 0.0

    def __len__(self) -> int:
        return len(self.params)

    def part(self, start: int, stop: int) -> HandTrack:
        """Frames start to stop - 1."""
        rows = slice(start, stop)
        return replace(
            self, params=self.params[rows], seen=self.seen[rows], score=self.score[rows], lost=self.lost[rows]
        )


@dataclass(frozen=True)
class RivalTrack:
    """Another motion of the object that explains the images nearly as well.

    T_camera_object: (T, 4, 4). score: mean over the frames, as of `ObjectTrack.score`.
    """

    T_camera_object: np.ndarray
    score: float


@dataclass(frozen=True)
class ObjectTrack:
    """One object in T frames, camera frame.

    T_camera_object: (T, 4, 4) float64, m. seen: (T,) bool, frames in which its own evidence was used. score: (T,) in
    [0, 1]. iou: (T,), of silhouette and mask where nothing hides the object, NaN where not seen. lost: (T,) bool,
    frames without a usable answer. covariance: (T, 6, 6), as of `ObjectState`, or None. scale: of the object to its
    `ObjectModel`, whose vertices are in m already; 1 unless its size was fitted.
    rotation_ambiguity: rad, largest rotation to a rival that the images cannot tell from the answer; 0 = none found.
    """

    object_id: str
    T_camera_object: np.ndarray
    seen: np.ndarray
    score: np.ndarray
    iou: np.ndarray
    lost: np.ndarray
    covariance: np.ndarray | None = None
    scale: float = 1.0
    rotation_ambiguity: float = 0.0
    rivals: Sequence[RivalTrack] = field(default_factory=tuple)

    def __len__(self) -> int:
        return len(self.T_camera_object)

    def part(self, start: int, stop: int) -> ObjectTrack:
        """Frames start to stop - 1; rivals are cut likewise."""
        rows = slice(start, stop)
        return replace(
            self,
            T_camera_object=self.T_camera_object[rows],
            seen=self.seen[rows],
            score=self.score[rows],
            iou=self.iou[rows],
            lost=self.lost[rows],
            covariance=None if self.covariance is None else self.covariance[rows],
            rivals=tuple(replace(rival, T_camera_object=rival.T_camera_object[rows]) for rival in self.rivals),
        )

    def with_rows(self, other: ObjectTrack, rows: np.ndarray) -> ObjectTrack:
        """This track with some of its first frames as another track has them; rivals stay.

        Args:
            other: of the first N of these frames. rows: (N,) bool, those that are taken over.
        """
        taken = np.flatnonzero(rows)

        def joined(own: np.ndarray, others: np.ndarray) -> np.ndarray:
            own = np.array(own)
            own[taken] = others[taken]
            return own

        covariance = self.covariance
        if covariance is not None and other.covariance is not None:
            covariance = joined(covariance, other.covariance)
        return replace(
            self,
            T_camera_object=joined(self.T_camera_object, other.T_camera_object),
            seen=joined(self.seen, other.seen),
            score=joined(self.score, other.score),
            iou=joined(self.iou, other.iou),
            lost=joined(self.lost, other.lost),
            covariance=covariance,
        )
