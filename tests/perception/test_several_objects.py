"""Objects that are found by a segmenter each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.perception.several_objects import SeveralObjects

CAMERA = CameraModel(np.array([[10.0, 0, 3.5], [0, 10.0, 2.5], [0, 0, 1]]), 8, 6)
FRAMES = [Frame(row, np.zeros((6, 8, 3), np.uint8), CAMERA) for row in range(2)]


class Columns:
    """Finds an object in some columns of every frame but the first; without columns, a box alone."""

    def __init__(self, name: str, columns: slice | None) -> None:
        self.name, self.columns, self.resets = name, columns, 0

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        assert len(hands) == len(frames)
        mask = None
        if self.columns is not None:
            mask = np.zeros((6, 8), bool)
            mask[:, self.columns] = True
        found = ObjectEvidence(self.name, 0.5, np.array([0, 0, 7, 5], np.float32), mask)
        return [() if row == 0 else (found,) for row in range(len(frames))]

    def reset(self) -> None:
        self.resets += 1


def test_a_pixel_goes_to_the_first_that_claims_it() -> None:
    parts = [Columns("mug", slice(0, 4)), Columns("box", slice(2, 6)), Columns("far", None)]
    answer = SeveralObjects(parts).segment_clip(FRAMES, [(), ()])
    assert list(answer[0]) == []
    assert [item.object_id for item in answer[1]] == ["mug", "box", "far"]
    masks = [item.mask for item in answer[1]]
    assert masks[0] is not None
    assert masks[1] is not None
    assert np.flatnonzero(masks[0][0]).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(masks[1][0]).tolist() == [4, 5]
    assert masks[2] is None


def test_all_are_reset_and_none_is_refused() -> None:
    parts = [Columns("mug", None), Columns("box", None)]
    SeveralObjects(parts).reset()
    assert [part.resets for part in parts] == [1, 1]
    with pytest.raises(InputError, match="at least one"):
        SeveralObjects([])
