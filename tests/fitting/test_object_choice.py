"""Which motions of a mesh are followed: every thing gets its turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting import object_choice
from grasp_nodes.fitting.guided_following import GuidedMotion
from grasp_nodes.fitting.object_choice import Placed, choose_motion
from grasp_nodes.fitting.object_fit import make_solver_mesh
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.objects.loading import load_object
from grasp_nodes.perception.evidence import Evidence, ObservedFrame

_FRAMES = 4
_CAMERA = CameraModel(np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]]), 64, 48)


@dataclass(frozen=True)
class _Seen:
    score: float
    visible_share: float = 1.0
    evidence: float = 0.5


class _FollowerOfStills:
    """Says that nothing moves, and how well each place explains the clip."""

    def __init__(self, scores: dict[tuple[float, ...], float]) -> None:
        self._scores = scores
        self.followed: list[tuple[float, ...]] = []

    def follow(self, frame: int, pose: tuple[np.ndarray, np.ndarray]) -> GuidedMotion:
        place = tuple(np.round(pose[1], 3).tolist())
        self.followed.append(place)
        seen = [_Seen(self._scores[place])] * _FRAMES
        return GuidedMotion(np.tile(pose[0], (_FRAMES, 1, 1)), np.tile(pose[1], (_FRAMES, 1)), seen)


@pytest.mark.parametrize("turns", [1, 2, 6])
def test_the_object_does_not_wait_behind_many_turns_of_a_thing_beside(monkeypatch, turns):
    """Of a thing that looks a little like it in one frame from everywhere; followed, the object explains the clip."""
    mesh = make_solver_mesh(load_object("box:0.2,0.05,0.03"))
    beside, own = (0.4, 0.0, 0.7), (0.0, 0.0, 0.7)
    spin = Rotation.from_rotvec(np.linspace(0, 0.9 * np.pi, turns)[:, None] * np.array([0.6, 0.0, 0.8])).as_matrix()
    places = [Placed(0, (turn, np.array(beside)), 0.9 - 0.01 * index) for index, turn in enumerate(spin)]
    places.append(Placed(0, (np.eye(3), np.array(own)), 0.7))
    monkeypatch.setattr(object_choice, "place_on_things", lambda *_: places)
    follower = _FollowerOfStills({beside: 0.5, own: 0.9})
    frames = [ObservedFrame(Evidence(index, _CAMERA)) for index in range(_FRAMES)]
    best = choose_motion(mesh, frames, [None] * _FRAMES, follower)[0]
    np.testing.assert_allclose(best.centres[0], own)
    assert len(follower.followed) <= 6
    assert follower.followed.count(beside) == min(turns, 5), "room that is left goes to other turns of one thing"
