"""Requests of the service GenerateGrasps -> what the cloud and the generator are asked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.fields import finite
from grasp_nodes.objects.clouds.observed import CloudOptions
from grasp_nodes.synthesis.grasp_request import GraspRequest

NAMES = ("region_center", "region_extent", "approach", "object_center", "object_extent")


def read_vectors(request: Any) -> dict[str, np.ndarray | None]:
    """The points and vectors of a request, m; None for what was left at zero.

    Raises:
        InputError: one is not finite.
    """
    given: dict[str, np.ndarray | None] = {}
    for name in NAMES:
        field = getattr(request, name)
        given[name] = finite(f"GenerateGrasps.{name}", np.array([field.x, field.y, field.z], np.float64))
    if not np.any(given["approach"]):
        given["approach"] = None
    for center, extent in (("region_center", "region_extent"), ("object_center", "object_extent")):
        if not np.any(given[extent]):
            given[center] = given[extent] = None
    return given


def to_cloud_options(request: Any, scale: float, table: str, completion: str) -> CloudOptions:
    """How a cloud is looked at for a request; scale, table and completion are the node's."""
    given = read_vectors(request)
    return CloudOptions(
        scale=read_scale(request) * scale,
        region_center=given["region_center"],
        region_extent=given["region_extent"],
        table=table,
        completion=completion,
        center=given["object_center"],
        extent=given["object_extent"],
        seed=int(request.seed) % 2**31,
    )


def to_grasp_request(request: Any, count: int, origin: np.ndarray, contact_maps: int) -> GraspRequest:
    """What the generator is asked; origin: (3,), m, of the object's frame in the frame of the request.

    Raises:
        InputError: a count, a seed or a direction that cannot be.
    """
    given = read_vectors(request)
    center = given["region_center"]
    return GraspRequest(
        count=int(request.count) or count,
        seed=read_seed(request),
        region_center=None if center is None else center - origin,
        region_extent=given["region_extent"],
        approach=given["approach"],
        approach_angle=float(request.approach_angle) or math.pi / 4,
        contact_maps=contact_maps,
    )


def read_scale(request: Any) -> float:
    """Factor to metres; 0 stands for 1.

    Raises:
        InputError: negative or not finite.
    """
    scale = float(request.scale) or 1.0
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"GenerateGrasps.scale: expected a positive number, got {scale}")
    return scale


def read_seed(request: Any) -> int:
    """The seed.

    Raises:
        InputError: 2^63 or more.
    """
    seed = int(request.seed)
    if seed >= 2**63:
        raise InputError(f"GenerateGrasps.seed: expected less than 2^63, got {seed}")
    return seed
