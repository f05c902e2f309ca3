"""Light, colours and surfaces of the benchmark's clips, drawn at random and made to be neither easy nor camouflaged."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from grasp_nodes.data.shading import ColorsOfPoints, StudioLook
from grasp_nodes.data.skin import ArmLook

SKIN_TONES = (
    (1.10, 1.16, 1.18),
    (1.04, 1.08, 1.06),
    (1.00, 1.00, 1.00),
    (0.92, 0.90, 0.86),
    (0.82, 0.76, 0.70),
    (0.66, 0.58, 0.52),
    (0.50, 0.42, 0.38),
)
"""Factors of the default skin, from light to dark."""
SLEEVES = ((0.20, 0.23, 0.33), (0.72, 0.72, 0.70), (0.12, 0.12, 0.13), (0.45, 0.16, 0.16), (0.30, 0.38, 0.30))
WARM, COOL = np.array([1.10, 1.0, 0.86]), np.array([0.92, 1.0, 1.10])
TABLES = ("wood", "plain", "plain", "cloth", "stone")
COATS = ("plain", "plain", "plain", "stripes", "two_tone", "label", "mottled")
DARKEST = 0.06


@dataclass(frozen=True)
class ClipLook:
    """studio: light and surroundings. arm: skin and sleeve. coat: the object's colours. props: colours of each."""

    studio: StudioLook
    arm: ArmLook
    coat: ColorsOfPoints
    props: tuple[tuple[float, float, float], ...]


def clip_look(rng: np.random.Generator, half_extent: np.ndarray, wrist_bend: np.ndarray, props: int) -> ClipLook:
    """Draw the look of one clip.

    Args:
        half_extent: (3,), m, of the object. wrist_bend: see `ArmLook`. props: how many things stand around.
    """
    warmth = rng.uniform(-1, 1)
    tint = 1 + abs(warmth) * ((WARM if warmth > 0 else COOL) - 1)
    key, fill = rng.uniform(0.65, 1.15), rng.uniform(0.85, 1.2)
    studio = StudioLook(
        light=_light(rng),
        key=_triple(key * tint),
        fill=_triple(fill * (1 + 0.3 * (2 - tint - 1))),
        table=_table(rng),
        wall=_wall(rng),
        gloss=rng.uniform(0.5, 4.0),
        blur=rng.uniform(0.6, 1.1),
        color_noise=rng.uniform(0.008, 0.02),
    )
    arm = ArmLook(
        tone=SKIN_TONES[int(rng.integers(len(SKIN_TONES)))],
        sleeve_start=rng.uniform(0.10, 0.42),
        sleeve_color=SLEEVES[int(rng.integers(len(SLEEVES)))],
        wrist_bend=_triple(wrist_bend),
    )
    return ClipLook(studio, arm, _coat(rng, half_extent), tuple(_triple(_color(rng)) for _ in range(props)))


def _light(rng: np.random.Generator) -> tuple[float, float, float]:
    """Towards the key light, camera axes: from any side, always from above, mostly from the camera's half."""
    azimuth, height = rng.uniform(-1.9, 1.9), rng.uniform(0.8, 1.3)
    return _triple(
        np.array([np.sin(azimuth) * np.cos(height), -np.sin(height) - 0.15, -np.cos(azimuth) * np.cos(height) * 0.8])
    )


def _color(rng: np.random.Generator) -> np.ndarray:
    """(3,) colour of a manufactured thing: a third is grey, the rest of any hue and of medium saturation."""
    value = rng.uniform(0.18, 0.88)
    saturation = rng.uniform(0.0, 0.08) if rng.random() < 0.33 else rng.uniform(0.25, 0.8)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value))


def _coat(rng: np.random.Generator, half: np.ndarray) -> ColorsOfPoints:
    kind = COATS[int(rng.integers(len(COATS)))]
    first, second = _color(rng), _color(rng)
    axis = int(np.argmax(half)) if rng.random() < 0.7 else int(rng.integers(3))
    width = half[axis] * rng.uniform(0.15, 0.4)
    start = rng.uniform(-0.5, 0.1) * half[axis]
    stop = start + rng.uniform(0.5, 0.9) * half[axis]
    noise = _waves(rng, rng.uniform(60, 160), 24)

    def colors(points: np.ndarray) -> np.ndarray:
        along = points[:, axis]
        share = {
            "plain": lambda: np.zeros(len(points)),
            "stripes": lambda: _soft(np.sin(np.pi * along / width) * width),
            "two_tone": lambda: _soft(along - start),
            "label": lambda: _soft(along - start) * _soft(stop - along),
            "mottled": lambda: np.clip(0.5 + noise(points), 0, 1),
        }[kind]()
        base = first + share[:, None] * (second - first)
        return np.clip(base * (1 + 0.04 * noise(3 * points)[:, None]), DARKEST, 1)

    return colors


def _soft(distance: np.ndarray) -> np.ndarray:
    """0 to 1 over the millimetre about a border."""
    return np.clip(0.5 + distance / 0.001, 0, 1)


def _waves(rng: np.random.Generator, frequency: float, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """A random smooth function of points, about -1 to 1; frequency in rad/m."""
    waves, phases = rng.normal(size=(count, 3)) * frequency, rng.uniform(0, 2 * np.pi, count)
    return lambda points: np.sin(points @ waves.T + phases).sum(axis=1) / np.sqrt(count / 2) / 2


def _table(rng: np.random.Generator) -> ColorsOfPoints | None:
    kind = TABLES[int(rng.integers(len(TABLES)))]
    value = rng.uniform(0.25, 0.85)
    base = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.35), value))
    other = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.4), np.clip(value + 0.2, 0, 0.9)))
    fine, broad = _waves(rng, 500, 24), _waves(rng, 25, 12)
    size = rng.uniform(0.02, 0.05)
    weave = cv2.GaussianBlur(rng.normal(size=(256, 256)), (0, 0), 0.8, borderType=cv2.BORDER_REFLECT)

    def grain(points: np.ndarray) -> np.ndarray:
        column, row = (np.floor(points[:, :2] / 0.0015).astype(np.int64) % 256).T
        return weave[row, column]

    def plain(points: np.ndarray) -> np.ndarray:
        return base * (1 + 0.03 * broad(points) + 0.015 * grain(points))[:, None]

    def cloth(points: np.ndarray) -> np.ndarray:
        bands = (np.floor(points[:, :2] / size).astype(np.int64) % 2).mean(axis=1)
        return (base + bands[:, None] * 0.7 * (other - base)) * (1 + 0.05 * grain(points))[:, None]

    def stone(points: np.ndarray) -> np.ndarray:
        share = np.clip(0.5 + 0.5 * np.sin(6 * broad(points) + 2 * fine(points) * 0.3), 0, 1)
        return (base + share[:, None] * 0.25 * (other - base)) * (1 + 0.05 * fine(points))[:, None]

    tables: dict[str, ColorsOfPoints | None] = {"wood": None, "plain": plain, "cloth": cloth, "stone": stone}
    return tables[kind]


def _wall(rng: np.random.Generator) -> ColorsOfPoints:
    base = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.25), rng.uniform(0.35, 0.85)))
    posters = [
        (rng.uniform(-0.9, 0.9), rng.uniform(-0.3, 0.4), *rng.uniform(0.08, 0.3, 2), _color(rng)) for _ in range(3)
    ]
    shown = posters[: int(rng.integers(4))]
    waves = _waves(rng, 6, 8)

    def colors(points: np.ndarray) -> np.ndarray:
        color = base * (1 + 0.08 * waves(points) - 0.2 * np.clip(np.abs(points[:, 2]), 0, 1))[:, None]
        for x, z, wide, high, poster in shown:
            inside = (np.abs(points[:, 0] - x) < wide) & (np.abs(points[:, 2] - z) < high)
            color[inside] = poster * (1 + 0.1 * waves(4 * points[inside]))[:, None]
        return np.clip(color, DARKEST, 1)

    return colors


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
