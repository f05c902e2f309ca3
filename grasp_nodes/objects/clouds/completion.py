"""The side of an object that was not seen: its own mirror image, where that contradicts nothing that was seen.

After Bohg et al., "Mind the gap: robotic grasping under incomplete observation" (ICRA 2011): most things to hold are
symmetric about an upright plane or axis. Of each kind of symmetry the place is the farthest one at which what is added
stays out of free space; of the kinds the one is taken whose image agrees best with what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grasp_nodes.geometry.columns import bounds
from grasp_nodes.objects.clouds.cells import Neighbours
from grasp_nodes.objects.clouds.view import View

_TURNS = np.deg2rad([0, -15, 15, -30, 30, -45, 45])
_PLACES = 20
_TESTED_ON = 500
_TOLERATED = 0.05
"""Share of the image's points that may be in free space: outlines are not sharper than that."""
_STEEPEST = 0.34
"""Of the horizontal part of a look: from farther above (70 deg) the sides of a thing say nothing."""


@dataclass(frozen=True)
class Completion:
    """What was added.

    motions: (K, 4, 4), each maps what was seen to a part that was not. text: how that was done, for people.
    """

    motions: np.ndarray
    text: str


NOTHING = Completion(np.zeros((0, 4, 4)), "as it was seen: nothing was added")


def complete_by_symmetry(
    points: np.ndarray,
    view: View,
    up: np.ndarray | None,
    spacing: float,
    center: np.ndarray | None = None,
    seed: int = 0,
) -> Completion:
    """The upright symmetry of a thing that was seen from one side.

    Args:
        points: (N, 3), m. view: of them. up: (3,), unit, None = not known: the mirror then faces the camera.
        spacing: m, between points. center: (3,), m, of the whole thing where it is known. seed: of tested points.
    """
    middle = 0.5 * np.add(*bounds(points))
    look = points.mean(axis=0) - view.viewpoint
    look /= np.linalg.norm(look)
    ahead = look if up is None else look - (look @ up) * up
    if up is not None and np.linalg.norm(ahead) < _STEEPEST:
        return Completion(np.zeros((0, 4, 4)), "seen from above: its sides go straight down to the table")
    ahead = ahead / np.linalg.norm(ahead)
    tested = points[np.random.default_rng(seed).permutation(len(points))[:_TESTED_ON]]
    along = points @ ahead
    if center is not None:
        places = np.array([float(center @ ahead)])
    else:
        places = np.linspace(np.percentile(along, 20), np.percentile(along, 99.5), _PLACES)
    seen = Neighbours(points, 2 * spacing)
    best, best_worth, best_text = None, -np.inf, ""
    for text, motions in _candidates(ahead, up, middle if center is None else center, places):
        moved = tested @ motions[:, :3, :3].transpose(0, 2, 1) + motions[:, None, :3, 3]
        wrong = view.free(moved.reshape(-1, 3)).reshape(moved.shape[:2]).mean(axis=1)
        allowed = np.flatnonzero(wrong <= _TOLERATED)
        chosen = int(allowed[-1]) if len(allowed) else int(wrong.argmin())
        same = float(seen.within(moved[chosen], 2 * spacing).mean())
        worth = same - 4.0 * float(wrong[chosen])
        if worth > best_worth + 0.02:
            best, best_worth, best_text = motions[chosen], worth, text
    assert best is not None
    where = "about the centre that was given" if center is not None else "where that contradicts nothing seen"
    return Completion(best[None], f"completed by {best_text}, {where}")


def _candidates(
    ahead: np.ndarray, up: np.ndarray | None, middle: np.ndarray, places: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Kinds of symmetry, each at all places along the look, (P, 4, 4)."""
    if up is None:
        return [("mirroring along the look", _mirrors(ahead, places))]
    side = np.cross(up, ahead)
    foot = (middle @ side) * side + places[:, None] * ahead
    half_turn = np.tile(np.eye(4), (len(places), 1, 1))
    half_turn[:, :3, :3] = 2 * np.outer(up, up) - np.eye(3)
    half_turn[:, :3, 3] = 2 * foot
    found = [("half a turn about its upright axis", half_turn)]
    for turn in _TURNS:
        normal = np.cos(turn) * ahead + np.sin(turn) * side
        # The mirror passes through the thing's middle line at the given place.
        found.append(("mirroring at an upright plane", _mirrors(normal, foot @ normal)))
    return found


def _mirrors(normal: np.ndarray, places: np.ndarray) -> np.ndarray:
    motions = np.tile(np.eye(4), (len(places), 1, 1))
    motions[:, :3, :3] = np.eye(3) - 2 * np.outer(normal, normal)
    motions[:, :3, 3] = 2 * places[:, None] * normal
    return motions
