"""Rings and flat things: rings, phones, plates."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.random import Generator

from grasp_nodes.objects.families.solids import prism, turned
from grasp_nodes.objects.surfaces import divided, length_of, loft_loop, rounded


def ring(radius: float, width: float, height: float, squareness: float = 1.0) -> trimesh.Trimesh:
    """A torus about z, or a roll of tape.

    Args:
        radius: from the axis to the middle of the tube. width, height: half sizes of the tube across and along z.
        squareness: exponent of its cross-section, 1 = ellipse, 0 = rectangle.
    """
    turn = np.arange(28) * 2 * np.pi / 28
    around = np.arange(72) * 2 * np.pi / 72
    x, y = (np.sign(f) * np.abs(f) ** squareness for f in (np.cos(turn), np.sin(turn)))
    out = radius + width * x
    rings = np.stack(
        [
            out * np.cos(around)[:, None],
            out * np.sin(around)[:, None],
            np.broadcast_to(height * y, (72, 28)),
        ],
        axis=-1,
    )
    return loft_loop(rings)


def phone(half: np.ndarray, corner: float, edge: float) -> trimesh.Trimesh:
    """A flat slab in the plane z = 0.

    Args:
        half: (3,), half sides. corner: radius of its four corners. edge: width of its bevel.
    """
    x, y = half[:2]
    corners = np.array([[0, -y], [x, -y], [x, y], [-x, y], [-x, -y], [0, -y]], float)
    outline = rounded(corners, corner)
    return prism(divided(outline, length_of(outline) / 72)[:-1], 2 * half[2], edge)


def plate(radius: float, height: float, wall: float, rim: float) -> trimesh.Trimesh:
    """A dish on z = 0.

    Args:
        radius, height: of all. wall: thickness. rim: share of the radius that rises.
    """
    foot = (1 - rim) * radius
    corners = [
        *((0.0, 0.0), (foot, 0.0), (radius, height - wall), (radius, height)),
        *((radius - 0.4 * wall, height), (foot - 0.4 * wall, wall), (0.0, wall)),
    ]
    edges = np.array([0.3 * foot, 0.4 * wall, 0.4 * wall, 0.4 * wall, 0.3 * foot])
    return turned(np.array(corners), edges, 60, 64)


def random_ring(rng: Generator) -> trimesh.Trimesh:
    """From a round torus to a roll of tape, 6-13 cm across."""
    width = rng.uniform(0.007, 0.014)
    height = width * rng.uniform(0.7, 1.8)
    return ring(rng.uniform(0.024, 0.050), width, height, rng.uniform(0.3, 1.0))


def random_phone(rng: Generator) -> trimesh.Trimesh:
    """6-8 x 12-17 x 0.7-1.5 cm."""
    half = 0.5 * rng.uniform([0.060, 0.120, 0.007], [0.080, 0.170, 0.015])
    return phone(half, rng.uniform(0.004, 0.014), rng.uniform(0.001, 0.4 * half[2]))


def random_plate(rng: Generator) -> trimesh.Trimesh:
    """13-21 cm across."""
    radius, wall = rng.uniform(0.065, 0.105), rng.uniform(0.004, 0.006)
    return plate(radius, rng.uniform(0.014, 0.028), wall, rng.uniform(0.25, 0.4))
