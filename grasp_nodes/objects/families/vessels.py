"""Things that are turned on a wheel or a lathe, standing on z = 0: bottles, vases, glasses, bowls, bulbs, mugs."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator

from grasp_nodes.objects.families.solids import turned
from grasp_nodes.objects.shapes import mug
from grasp_nodes.objects.surfaces import tidied

HOLLOW_PIECES = 50


def bottle(radius: float, height: float, neck: float, shoulder: float, cap: float) -> trimesh.Trimesh:
    """A closed bottle.

    Args:
        radius, height: of body and whole. neck: its radius.
        shoulder: share of the height at which the body begins to narrow. cap: height of the cap.
    """
    below, above = shoulder * height, (0.45 * shoulder + 0.55) * height - 0.3 * cap
    wide = 1.18 * neck
    corners = [
        *((0.0, 0.0), (radius, 0.0), (radius, below), (neck, above), (neck, height - cap)),
        *((wide, height - cap), (wide, height), (0.0, height)),
    ]
    edges = np.array([0.12 * radius, 0.7 * radius, 0.8 * neck, 5e-4, 5e-4, 1.5e-3])
    return turned(np.array(corners), edges)


def hollow(outside: np.ndarray, wall: float, floor: float) -> trimesh.Trimesh:
    """An open vessel with a rounded rim.

    Args:
        outside: (N, 2), radius and z, from the foot's edge up to the rim; single-valued in z.
        wall: thickness. floor: z of the inside's bottom.
    """
    radius = PchipInterpolator(outside[:, 1], outside[:, 0])
    rim = outside[-1, 1]
    up = np.linspace(0, 1, 21)
    outer_z = outside[0, 1] + up * (rim - wall / 2 - outside[0, 1])
    outer = np.stack([radius(outer_z), outer_z], axis=1)
    turn = np.linspace(0, np.pi, 7)[1:-1]
    middle = radius(rim - wall / 2) - wall / 2
    lip = np.stack([middle + wall / 2 * np.cos(turn), rim - wall / 2 + wall / 2 * np.sin(turn)], axis=1)
    inner_z = rim - wall / 2 + up * (floor - rim + wall / 2)
    slant = np.minimum(np.hypot(1.0, radius(inner_z, 1)), 3.0)
    inner = np.stack([radius(inner_z) - wall * slant, inner_z], axis=1)
    edges = np.zeros(len(outer) + len(lip) + len(inner))
    edges[0] = 0.3 * wall
    edges[-1] = 0.35 * inner[-1, 0]
    corners = np.concatenate([[[0.0, outside[0, 1]]], outer, lip, inner, [[0.0, floor]]])
    return turned(corners, edges, HOLLOW_PIECES)


def goblet(radius: float, cup: float, stem: float, foot: float, wall: float) -> trimesh.Trimesh:
    """A wine glass.

    Args:
        radius, cup: of the cup and its height. stem: its length. foot: radius of the foot. wall: thickness.
    """
    thin, z = 0.0045, 0.004
    belly = stem + 0.42 * cup
    corners = [
        *((0.0, 0.0), (foot, 0.0), (foot, 0.6 * z), (0.55 * foot, 1.5 * z), (thin, 4 * z), (thin, stem)),
        *((0.75 * radius, stem + 0.12 * cup), (radius, belly), (0.82 * radius, stem + cup)),
        *((0.82 * radius - wall, stem + cup), (radius - wall, belly), (0.75 * radius - wall, stem + 0.12 * cup + wall)),
        (0.0, stem + 2 * wall),
    ]
    edges = np.array([8e-4, 8e-4, 0.02, 0.012, 0.006, 0.03, 0.06, 0.45 * wall, 0.45 * wall, 0.06, 0.03])
    return turned(np.array(corners), edges, HOLLOW_PIECES)


def bulb(radius: float, neck: float, height: float) -> trimesh.Trimesh:
    """A lamp with its screw at the bottom.

    Args:
        radius: of the glass. neck: of the screw. height: of all.
    """
    screw = 0.26 * height
    center = height - radius
    turn = np.linspace(-0.32 * np.pi, 0.5 * np.pi, 20)[:-1]
    glass = np.stack([radius * np.cos(turn), center + radius * np.sin(turn)], axis=1)
    threads = np.linspace(0.18 * screw, screw, 7)
    thread = np.stack([neck * (1 - 0.06 * (np.arange(7) % 2)), threads], axis=1)
    corners = np.concatenate([[[0.0, 0.0], [0.45 * neck, 0.0]], thread, glass, [[0.0, height]]])
    edges = np.zeros(len(corners) - 2)  # the glass is round already
    edges[: len(thread)] = 6e-4
    return turned(corners, edges)


def random_bottle(rng: Generator) -> trimesh.Trimesh:
    """Closed, 4.4-8 cm across, 12-26 cm high."""
    radius, height = rng.uniform(0.022, 0.040), rng.uniform(0.12, 0.26)
    neck = rng.uniform(0.3, 0.55) * radius
    return bottle(radius, height, neck, rng.uniform(0.45, 0.72), rng.uniform(0.010, 0.022))


def random_vase(rng: Generator) -> trimesh.Trimesh:
    """Hollow, of any outline."""
    height, wall = rng.uniform(0.10, 0.22), rng.uniform(0.0045, 0.006)
    base = rng.uniform(0.022, 0.036)
    shares = np.concatenate([[0.75], rng.uniform([0.8, 0.7, 0.45], [1.15, 1.15, 0.9]), [rng.uniform(0.65, 1.1)]])
    levels = height * np.array([0.0, rng.uniform(0.2, 0.3), 0.5, rng.uniform(0.72, 0.82), 1.0])
    return hollow(np.stack([base * shares, levels], axis=1), wall, 1.5 * wall)


def random_glass(rng: Generator) -> trimesh.Trimesh:
    """A tumbler that widens upwards."""
    height, top, wall = rng.uniform(0.07, 0.15), rng.uniform(0.028, 0.042), rng.uniform(0.0035, 0.005)
    foot = top * rng.uniform(0.68, 0.98)
    levels = np.array([0.0, 0.5 * height, height])
    return hollow(np.stack([[foot, 0.5 * (foot + top), top], levels], axis=1), wall, rng.uniform(1.3, 3.0) * wall)


def random_bowl(rng: Generator) -> trimesh.Trimesh:
    """10-16 cm across."""
    radius, wall = rng.uniform(0.050, 0.080), rng.uniform(0.004, 0.0055)
    height = rng.uniform(0.55, 0.85) * radius
    foot = rng.uniform(0.35, 0.5)
    up = np.linspace(0, 1, 7)
    outline = np.stack([radius * (foot + (1 - foot) * np.sqrt(1 - (1 - up) ** 2)), height * up], axis=1)
    return hollow(outline, wall, 1.4 * wall)


def random_mug(rng: Generator) -> trimesh.Trimesh:
    """With a handle."""
    radius = rng.uniform(0.030, 0.046)
    height = radius * rng.uniform(2.0, 3.0)
    return tidied(mug(radius, height, rng.uniform(0.0035, 0.005), rng.uniform(0.022, 0.036), sections=48))


def random_bulb(rng: Generator) -> trimesh.Trimesh:
    """A lamp."""
    radius = rng.uniform(0.022, 0.038)
    return bulb(radius, rng.uniform(0.36, 0.5) * radius, radius * rng.uniform(3.2, 4.0))


def random_goblet(rng: Generator) -> trimesh.Trimesh:
    """A wine glass."""
    radius = rng.uniform(0.028, 0.042)
    cup, stem = radius * rng.uniform(1.9, 2.7), rng.uniform(0.045, 0.085)
    return goblet(radius, cup, stem, radius * rng.uniform(0.75, 1.0), rng.uniform(0.0035, 0.0045))
