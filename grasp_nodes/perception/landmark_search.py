"""A second, closer look at a hand: the landmark network on turned, scaled and mirrored crops around one place.

The network takes palms behind objects for backs of the other hand; among several crops there often is one that it
reads rightly. What is alike is merged, what differs is kept as a choice for those who can tell (by depth or motion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from grasp_nodes.perception.hand_landmarks import Landmarks
from grasp_nodes.perception.region import Region, region_of_landmarks

SURE_CROPS = ((0.0, 1.0, True), (15.0, 1.0, False), (-15.0, 1.0, False))
DOUBT_CROPS = tuple(
    (angle, scale, mirrored)
    for scale in (1.0, 1.25)
    for angle in (0.0, 30.0, -30.0, 60.0, -60.0)
    for mirrored in (False, True)
)
"""deg, factor on the region's size, whether the crop is mirrored."""
ALIKE = 0.08
"""Mean distance of landmarks that are the same reading, as a share of the region's size."""


@runtime_checkable
class RegionLandmarker(Protocol):
    """A landmark network that can be pointed at a place."""

    def landmarks(self, image: np.ndarray, region: Region) -> Landmarks:
        """Run on one region of an image (H, W, 3) uint8, RGB."""
        ...

    def palms(self, image: np.ndarray, threshold: float | None = None) -> list[Region]:
        """Where palms are seen, best first."""
        ...


@dataclass(frozen=True)
class Reading:
    """One way to read the image. landmarks: the median of its crops. support: how many crops agree."""

    landmarks: Landmarks
    support: int

    @property
    def score(self) -> float:
        """Crops that agree make a reading likelier."""
        return self.landmarks.presence * (1.0 - 0.5**self.support)


def read_crops(
    landmarker: RegionLandmarker,
    image: np.ndarray,
    regions: Sequence[Region],
    crops: Sequence[tuple[float, float, bool]],
    min_presence: float,
    first: Sequence[Landmarks] = (),
) -> list[Reading]:
    """Readings of the hand at some places, best first.

    Args:
        landmarker: the network.
        image: (H, W, 3) uint8, RGB.
        regions: where to look.
        crops: turn (deg), factor on the size and mirroring of each look.
        min_presence: lowest presence score of a look that counts.
        first: looks that were taken already.
    """
    looks = list(first)
    flipped = np.ascontiguousarray(image[:, ::-1]) if any(mirrored for _, _, mirrored in crops) else image
    for region in regions:
        for angle, scale, mirrored in crops:
            part = replace(region, size=region.size * scale).turned(np.deg2rad(angle))
            found = _mirrored_look(landmarker, flipped, part) if mirrored else landmarker.landmarks(image, part)
            if found.presence >= min_presence:
                looks.append(found)
    return merged(looks)


def merged(looks: Sequence[Landmarks]) -> list[Reading]:
    """Groups of looks that agree, each its median, best first."""
    rest = sorted(looks, key=lambda look: -look.presence)
    readings = []
    while rest:
        lead = rest[0]
        size = region_of_landmarks(lead.points).size
        same = [look for look in rest if np.linalg.norm(look.points - lead.points, axis=1).mean() < ALIKE * size]
        rest = [look for look in rest if not any(look is other for other in same)]
        weights = np.array([look.presence for look in same])
        readings.append(
            Reading(
                Landmarks(
                    np.median([look.points for look in same], axis=0),
                    np.median([look.points_3d for look in same], axis=0),
                    lead.presence,
                    float(np.average([look.right for look in same], weights=weights)),
                ),
                len(same),
            )
        )
    return sorted(readings, key=lambda reading: -reading.score)


def _mirrored_look(landmarker: RegionLandmarker, flipped: np.ndarray, region: Region) -> Landmarks:
    """A look at the mirror image, told as if it were not one."""
    width = flipped.shape[1]
    there = Region((width - region.center[0], region.center[1]), region.size, -region.angle)
    found = landmarker.landmarks(flipped, there)
    points, points_3d = found.points.copy(), found.points_3d.copy()
    points[:, 0] = width - points[:, 0]
    points_3d[:, 0] *= -1.0
    return Landmarks(points, points_3d, found.presence, 1.0 - found.right)
