"""Images to put behind rendered hands, and small things to put before them: nothing in them means anything.

Domain randomisation (Tobin et al., 2017): a network that has seen any background takes a real one for one more.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from grasp_nodes.data.shading import ColorsOfPoints
from grasp_nodes.geometry.rendering import box_pixels

OCTAVES = (2, 4, 8, 16, 32)
"""Cells of noise along an image's side."""


def backdrop(rng: np.random.Generator, size: int, focal: float, table: ColorsOfPoints | None) -> np.ndarray:
    """One background.

    Args:
        rng: draws it. size: px, of the square image. focal: px, of its camera.
        table: colours of a plane's points, m; seen at an angle in half of the images. None: no plane.

    Returns:
        (size, size, 3) float64 in [0, 1].
    """
    image = _noise(rng, size)
    if table is not None and rng.random() < 0.5:
        image = _with_plane(rng, image, focal, table)
    for _ in range(int(rng.integers(0, 9))):
        image = _with_shape(rng, image, rng.uniform(0.05, 0.45) * size, rng.uniform(0, size, 2))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3.0))
    return np.clip(image, 0.0, 1.0)


def cover_edges(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A thing before an image's border, up to a quarter of its side large; the image (S, S, 3) is not changed."""
    size = len(image)
    turn = rng.uniform(0, 2 * np.pi)
    middle = 0.5 * size + 0.45 * size * np.array([np.cos(turn), np.sin(turn)])
    return _with_shape(rng, image, rng.uniform(0.08, 0.25) * size, middle)


def random_color(rng: np.random.Generator) -> np.ndarray:
    """(3,) in [0, 1], of any hue."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.random() ** 2, rng.uniform(0.05, 0.95)))


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two colours mixed by noise of several scales."""
    first, second = random_color(rng), random_color(rng)
    total = np.zeros((size, size))
    roughness = rng.uniform(0.3, 0.9)
    for level, cells in enumerate(OCTAVES):
        grid = rng.normal(size=(cells + 3, cells + 3))
        total += roughness**level * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    share = np.clip(0.5 + rng.uniform(0.05, 0.6) * total, 0, 1)[..., None]
    return first + share * (second - first)


def _with_plane(rng: np.random.Generator, image: np.ndarray, focal: float, colors: ColorsOfPoints) -> np.ndarray:
    size = len(image)
    pixels = (box_pixels((0, 0, size, size)) - 0.5 * (size - 1)) / focal
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    normal = np.append(rng.normal(size=2), -rng.uniform(0.2, 1.5))
    normal /= np.linalg.norm(normal)
    distance = rng.uniform(0.3, 0.9)
    along = rays @ -normal
    reached = along > 0.05
    points = rays[reached] * (distance / along[reached])[:, None]
    first = np.cross(normal, [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    flat = np.stack([points @ first, points @ second, np.zeros(len(points))], axis=1)
    result = image.reshape(-1, 3).copy()
    fall_off = np.clip(rng.uniform(0.7, 1.2) * (1 - 0.3 * rng.random() * pixels[reached, 1]), 0.2, 1.4)
    result[reached] = colors(flat) * fall_off[:, None]
    return result.reshape(image.shape)


def _with_shape(rng: np.random.Generator, image: np.ndarray, radius: float, middle: np.ndarray) -> np.ndarray:
    """A polygon or an ellipse of one colour, shaded along one direction."""
    size = len(image)
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < 0.5:
        turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        reach = radius * rng.uniform(0.4, 1.0, len(turns))[:, None]
        corners = middle + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
    else:
        axes = np.maximum(1, radius * rng.uniform(0.2, 1.0, 2)).astype(int)
        center = tuple(int(value) for value in middle)
        cv2.ellipse(mask, center, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 1, -1)
    ramp = np.linspace(-1, 1, size)
    shade = 1 + rng.uniform(-0.3, 0.3) * ramp[:, None] + rng.uniform(-0.3, 0.3) * ramp[None]
    return np.where(mask[..., None] > 0, random_color(rng) * shade[..., None], image)
