"""Plain solids about the origin, the longest side along z: boxes, cylinders, spheres and what lies between them.

Every shape is a function of its sizes, m; every ``random_...`` draws sizes of things that one hand holds.
"""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.random import Generator

from grasp_nodes.objects.surfaces import ARC_PIECES, box_lattice, divided, length_of, loft, revolve, rounded

SECTIONS = 48
CELLS = 18
"""Cells along the edge of the cube from which round blobs are made; even, so that creases lie on its lines."""


def box(half: np.ndarray, edge: float) -> trimesh.Trimesh:
    """A box whose edges are rounded.

    Args:
        half: (3,), half sides. edge: radius of the rounding.
    """
    half = np.asarray(half, float)
    area = 8 * (half[0] * half[1] + half[1] * half[2] + half[2] * half[0])
    spacing = np.sqrt(area / 1200)
    bend = edge * (1 - np.tan(np.linspace(np.pi / 4, 0, ARC_PIECES + 1)))
    planes = []
    for size in half:
        flat = divided(np.array([[edge - size], [size - edge]]), spacing)[:, 0]
        planes.append(np.concatenate([-size + bend[:-1], flat, size - bend[-2::-1]]))
    vertices, faces = box_lattice(*planes)
    core = np.clip(vertices, edge - half, half - edge)
    away = vertices - core
    return trimesh.Trimesh(core + edge * away / np.linalg.norm(away, axis=1, keepdims=True), faces, process=False)


def turned(
    corners: np.ndarray, edges: np.ndarray | float, pieces: int = 45, sections: int = SECTIONS
) -> trimesh.Trimesh:
    """A solid of revolution about z.

    Args:
        corners: (N, 2), radius and z, from the axis below to the axis above, the solid on the left.
        edges: radius of the rounding of the inner corners. pieces: segments along the profile, about.
    """
    profile = rounded(np.asarray(corners, float), edges)
    return revolve(divided(profile, length_of(profile) / pieces), sections)


def frustum(bottom: float, top: float, height: float, edge: float) -> trimesh.Trimesh:
    """A cylinder, or a cone that is cut off or rounded at its tip.

    Args:
        bottom, top: radii. height: m. edge: radius of the rounding of both rims.
    """
    z = 0.5 * height
    return turned(np.array([[0, -z], [bottom, -z], [top, z], [0, z]]), edge)


def ellipsoid(axes: np.ndarray) -> trimesh.Trimesh:
    """Half axes (3,)."""
    mesh = trimesh.creation.icosphere(subdivisions=4)
    return trimesh.Trimesh(np.array(mesh.vertices) * axes, np.array(mesh.faces), process=False)


def capsule(radius: float, length: float) -> trimesh.Trimesh:
    """A cylinder of a length with a half sphere at each end."""
    turn = np.linspace(0, np.pi / 2, 13)
    cap = radius * np.stack([np.sin(turn), -np.cos(turn)], axis=1)
    profile = np.concatenate([cap - [0, length / 2], cap[::-1] * [1, -1] + [0, length / 2]])
    return revolve(divided(profile, length_of(profile) / 45), SECTIONS)


def superquadric(axes: np.ndarray, across: float, around: float) -> trimesh.Trimesh:
    """``(|x/a|^(2/e2) + |y/b|^(2/e2))^(e2/e1) + |z/c|^(2/e1) = 1`` (Barr, 1981).

    Args:
        axes: (3,), half axes a, b, c.
        across, around: exponents e1 (in planes through z) and e2 (about z): 0 = box, 1 = ellipsoid, 2 = octahedron.
    """
    steps = np.tan(np.linspace(-np.pi / 4, np.pi / 4, CELLS + 1))
    vertices, faces = box_lattice(steps, steps, steps)
    x, y, z = np.abs(vertices / np.linalg.norm(vertices, axis=1, keepdims=True)).T
    level = (x ** (2 / around) + y ** (2 / around)) ** (around / across) + z ** (2 / across)
    radius = level ** (-across / 2) / np.linalg.norm(vertices, axis=1)
    return trimesh.Trimesh(vertices * radius[:, None] * axes, faces, process=False)


def prism(outline: np.ndarray, height: float, edge: float) -> trimesh.Trimesh:
    """An outline that is drawn out along z; its rims are bevelled.

    Args:
        outline: (S, 2), counter-clockwise, star-shaped about the origin. edge: m, width of the bevel.
    """
    z = 0.5 * height
    caps = np.linspace(0, 1 - edge / np.linalg.norm(outline, axis=1).min(), 7)[1:]
    side = np.linspace(edge - z, z - edge, 24)
    factors = np.concatenate([caps, np.ones(len(side)), caps[::-1]])
    levels = np.concatenate([np.full(len(caps), -z), side, np.full(len(caps), z)])
    rings = np.empty((len(levels), len(outline), 3))
    rings[..., :2] = factors[:, None, None] * outline
    rings[..., 2] = levels[:, None]
    return loft(rings, np.array([0, 0, -z]), np.array([0, 0, z]))


def polygon(sides: int, radius: float, corner: float) -> np.ndarray:
    """The outline (S, 2) of a regular polygon, counter-clockwise.

    Args:
        radius: of the circle through the corners, before they are rounded. corner: radius of their rounding.
    """
    turn = (np.arange(sides + 2) - 0.5) * 2 * np.pi / sides
    corners = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    start = 0.5 * (corners[0] + corners[1])
    outline = rounded(np.concatenate([[start], corners[1:-1], [start]]), corner)
    return divided(outline, length_of(outline) / SECTIONS)[:-1]


def random_box(rng: Generator) -> trimesh.Trimesh:
    """2-7 x 3-10 x 4-20 cm."""
    half = rng.uniform([0.010, 0.015, 0.020], [0.035, 0.050, 0.100])
    return box(half, rng.uniform(0.0005, 0.25 * half.min()))


def random_cylinder(rng: Generator) -> trimesh.Trimesh:
    """2.4-8 cm across, 4-20 cm long."""
    radius, height = rng.uniform(0.012, 0.040), rng.uniform(0.04, 0.20)
    return frustum(radius, radius, height, rng.uniform(0.0005, 0.2 * radius))


def random_sphere(rng: Generator) -> trimesh.Trimesh:
    """3.2-9 cm across."""
    return ellipsoid(np.full(3, rng.uniform(0.016, 0.045)))


def random_ellipsoid(rng: Generator) -> trimesh.Trimesh:
    """An egg, a lemon, a pebble."""
    return ellipsoid(rng.uniform([0.014, 0.016, 0.020], [0.038, 0.042, 0.070]))


def random_capsule(rng: Generator) -> trimesh.Trimesh:
    """2-7 cm across, up to 20 cm long."""
    return capsule(rng.uniform(0.010, 0.035), rng.uniform(0.02, 0.13))


def random_superquadric(rng: Generator) -> trimesh.Trimesh:
    """From a rounded box over an ellipsoid to a cushion with creases."""
    axes = rng.uniform([0.016, 0.018, 0.020], [0.036, 0.040, 0.075])
    return superquadric(axes, rng.uniform(0.25, 1.4), rng.uniform(0.25, 1.4))


def random_prism(rng: Generator) -> trimesh.Trimesh:
    """3 to 8 sides, sometimes flattened."""
    sides, radius = int(rng.integers(3, 9)), rng.uniform(0.018, 0.042)
    outline = polygon(sides, radius, rng.uniform(0.05, 0.2) * radius) * [1.0, rng.uniform(0.7, 1.0)]
    return prism(outline, rng.uniform(0.04, 0.18), rng.uniform(0.0008, 0.003))


def random_frustum(rng: Generator) -> trimesh.Trimesh:
    """Cones with a rounded tip, and cut ones, either way up."""
    wide, height = rng.uniform(0.022, 0.042), rng.uniform(0.05, 0.17)
    narrow = wide * rng.uniform(0.12, 0.8)
    bottom, top = (wide, narrow) if rng.random() < 0.7 else (narrow, wide)
    return frustum(bottom, top, height, rng.uniform(0.15, 0.6) * narrow)
