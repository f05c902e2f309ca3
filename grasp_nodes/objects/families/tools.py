"""Things with a handle, and long ones: hammers, screwdrivers, dumb-bells, bananas; along z."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator

from grasp_nodes.objects.families.solids import SECTIONS, turned
from grasp_nodes.objects.surfaces import loft, tidied


def hammer(length: float, grip: float, head: float, face: float) -> trimesh.Trimesh:
    """A handle along z and a head along x at its upper end.

    Args:
        length: of the handle. grip: half of its width. head: length of the head. face: radius of its striking face.
    """
    levels = length * np.array([0.0, 0.03, 0.18, 0.45, 0.75, 1.0])
    z = np.linspace(0, length, 40)
    wide = PchipInterpolator(levels, grip * np.array([0.70, 0.95, 1.0, 0.82, 0.62, 0.60]))(z)
    turn = np.arange(32) * 2 * np.pi / 32
    rings = np.stack(
        [wide[:, None] * np.cos(turn), 0.72 * wide[:, None] * np.sin(turn), np.broadcast_to(z[:, None], (40, 32))], -1
    )
    handle = loft(rings, np.array([0, 0, -0.002]), np.array([0, 0, length + 0.001]))
    half, waist = 0.5 * head, 0.72 * face
    corners = [
        *((0.0, -half), (0.35 * face, -half), (waist, -0.25 * head), (0.9 * face, -0.12 * head)),
        *((0.9 * face, 0.12 * head), (waist, 0.25 * head), (face, half - 0.35 * face), (face, half), (0.0, half)),
    ]
    block = turned(np.array(corners), 0.0015, 30, 32)
    block.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
    block.apply_translation([0, 0, length - 0.45 * face])
    return tidied(trimesh.boolean.union([handle, block], engine="manifold"))


def screwdriver(handle: float, radius: float, shaft: float, shaft_radius: float, flutes: int) -> trimesh.Trimesh:
    """A fluted handle, a round shaft and a flat tip, in one skin.

    Args:
        handle, radius: length and radius of the handle. shaft, shaft_radius: of the shaft. flutes: grooves around.
    """
    levels = handle * np.array([0.0, 0.02, 0.10, 0.30, 0.62, 0.84, 0.97, 1.0])
    shape = radius * np.array([0.45, 0.70, 0.92, 1.0, 0.96, 0.68, 0.80, 0.55])
    z_handle = np.linspace(0, handle, 40)
    r_handle = PchipInterpolator(levels, shape)(z_handle)
    depth = 0.07 * np.clip(np.sin(np.pi * (z_handle / handle - 0.08) / 0.7), 0, 1) * (z_handle < 0.78 * handle)
    z_shaft = handle + np.linspace(0, shaft, 24)
    z = np.concatenate([z_handle, z_shaft])
    r = np.concatenate([r_handle, np.full(24, shaft_radius)])
    depth = np.concatenate([depth, np.zeros(24)])
    z[40] += 1e-4  # the step from handle to shaft
    tip = np.clip((z - z[-1] + 0.014) / 0.014, 0, 1)  # flattens over the last 14 mm
    turn = np.arange(SECTIONS) * 2 * np.pi / SECTIONS
    around = r[:, None] * (1 - depth[:, None] * (1 - np.cos(flutes * turn)))
    rings = np.stack(
        [
            around * np.cos(turn) * (1 + 0.25 * tip[:, None]),
            around * np.sin(turn) * (1 - 0.50 * tip[:, None]),
            np.broadcast_to(z[:, None], around.shape),
        ],
        axis=-1,
    )
    return loft(rings, np.array([0, 0, -0.0015]), np.array([0, 0, z[-1] + 1e-4]))


def dumbbell(radius: float, grip: float, length: float, edge: float) -> trimesh.Trimesh:
    """Two discs on a bar.

    Args:
        radius: of the discs. grip: radius of the bar. length: of all. edge: radius of the rounding.
    """
    end, inner = 0.5 * length, 0.27 * length
    corners = [
        *((0, -end), (radius, -end), (radius, -inner), (grip, -inner)),
        *((grip, inner), (radius, inner), (radius, end), (0, end)),
    ]
    return turned(np.array(corners, float), edge, 55)


def banana(radius: float, length: float, bend: float, corners: float) -> trimesh.Trimesh:
    """A bent fruit in the plane y = 0.

    Args:
        radius: in the middle. length: along its middle line. bend: rad, by which it turns from end to end.
        corners: how far the five edges stand out, as a share of the radius.
    """
    share = np.linspace(0, 1, 48)
    levels, shape = [0, 0.03, 0.12, 0.3, 0.6, 0.82, 0.92, 1.0], [0.25, 0.5, 0.8, 0.97, 1.0, 0.72, 0.32, 0.26]
    wide = radius * PchipInterpolator(levels, shape)(share)
    turn = np.arange(40) * 2 * np.pi / 40
    around = wide[:, None] * (1 + corners * (np.cos(5 * turn) - 1))
    arm = length / bend
    angle = bend * (share - 0.5)
    center = arm * np.stack([1 - np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=1)
    out = np.stack([np.cos(angle), np.zeros_like(angle), -np.sin(angle)], axis=1)
    rings = center[:, None] + around[..., None] * (
        np.cos(turn)[:, None] * out[:, None] + np.sin(turn)[:, None] * np.array([0.0, 1.0, 0.0])
    )
    along = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=1)
    return loft(rings, center[0] - 0.001 * along[0], center[-1] + 0.001 * along[-1])


def random_hammer(rng: Generator) -> trimesh.Trimesh:
    """19-28 cm long."""
    return hammer(
        rng.uniform(0.19, 0.28), rng.uniform(0.012, 0.018), rng.uniform(0.075, 0.115), rng.uniform(0.011, 0.016)
    )


def random_screwdriver(rng: Generator) -> trimesh.Trimesh:
    """14-26 cm long."""
    handle, shaft = rng.uniform(0.075, 0.115), rng.uniform(0.06, 0.14)
    return screwdriver(handle, rng.uniform(0.011, 0.018), shaft, rng.uniform(0.0035, 0.0045), int(rng.integers(5, 9)))


def random_dumbbell(rng: Generator) -> trimesh.Trimesh:
    """The hand fits between the discs, or nearly."""
    radius, grip = rng.uniform(0.022, 0.042), rng.uniform(0.009, 0.016)
    return dumbbell(radius, grip, rng.uniform(0.12, 0.20), rng.uniform(0.001, 0.004))


def random_banana(rng: Generator) -> trimesh.Trimesh:
    """13-21 cm along the middle."""
    return banana(rng.uniform(0.015, 0.022), rng.uniform(0.13, 0.21), rng.uniform(0.6, 1.5), rng.uniform(0.0, 0.05))
