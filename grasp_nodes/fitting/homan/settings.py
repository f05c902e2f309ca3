"""Weights, switches and rates of the joint fit."""

from __future__ import annotations

from dataclasses import dataclass, fields

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.homan.losses import WEIGHTS


@dataclass(frozen=True)
class JointFitSettings:
    """How a clip is fitted jointly. A weight of 0 switches its term off.

    The weights are ours: those that differ from HOMan's (Hasson et al. 2021), and the terms that it does not have, say
    so. `PAPER_HOMAN` holds the paper's.
    """

    obj: float = 30 * WEIGHTS["obj"]
    """Object silhouettes against masks, pixels of hands not counted. Thirty times the paper's: its objects start
    roughly placed, ours within millimetres, which `smooth` and `centroid` would undo."""
    v2d: float = WEIGHTS["v2d"]
    """Projected hand vertices stay where the initial ones were."""
    pca: float = WEIGHTS["pca"]
    """Hand poses stay near the mean."""
    scale: float = WEIGHTS["scale"]
    """Free object scales stay near one, hand scales near the initial ones."""
    smooth: float = WEIGHTS["smooth"]
    """Vertices of hands and objects move little, or change their velocity little, from frame to frame."""
    smooth_order: int = 2
    """1: change of place, as in the paper, whose clips have few frames per second: at 30 per second it pulls fast
    motions centimetres together. 2: change of velocity."""
    centroid: float = WEIGHTS["centroid"]
    """Hands come near to the objects whose boxes they overlap."""
    local: float = 10 * WEIGHTS["local"]
    """Attraction and repulsion near the object's surface (second pass). Ten times the paper's: with its own weight a
    hand whose distance colour alone tells badly stays a centimetre from what it holds."""
    collision: float = 150 * WEIGHTS["col"]
    """No vertex inside another mesh (second pass). 150 times the paper's, whose fits keep 3 mm of penetration."""
    holding: float = 10.0
    """1/m; what moves in front of a hand is touched by it (second pass), see `holding`. Not in the paper."""
    anatomy: float = 1.0
    """1/rad^2; finger angles stay within what a hand can do. Not in the paper."""
    depth: float = 1e4
    """1/m^2; measured depth against posed surfaces, both ways. Not in the paper."""
    start: float = 2e4
    """1/m^2; where depth is measured, hands and objects stay near their initial places, which solvers found that match
    depth better than a few hundred steps of Adam do. Objects with `scale_free` have none. Not in the paper."""
    shape: float = 1e3
    """1/m^2; where depth is not measured, seen hands keep their turn and bends. Pixels say nothing of what comes or
    goes along the rays: `local` and `collision` bent and turned hands there, where moving them along the ray, which
    colour tells worst, does as well. A millimetre of it weighs as three pixels of `v2d`. Not in the paper."""
    object_start: float = 3e2
    """1/m^2; where depth is not measured, objects stay near their initial places, which were chosen among many by all
    frames, and by hands near them. Masks of colour alone miss parts and hold others', and `obj`, which knows no
    outliers, draws objects centimetres towards or away from the camera for that, and the hands that hold them along.
    A centimetre of it weighs as much as a thousandth of the mask's window does in `obj`. Off with `scale_free`: a start
    of another size is no place to stay. Not in the paper."""
    iterations: tuple[int, int] = (200, 200)
    """Adam steps of the first pass, without `local` and `collision`, and of the second, with all terms: at most."""
    scale_free: bool = False
    """Whether the objects' scales are fitted as well, for meshes whose size is only about right."""
    rotation_rate: float = 0.1
    """Adam's rate for rotations and PCA coefficients."""
    translation_rate: float = 0.01
    """Adam's rate for translations and scales."""
    rate_start: float = 0.05
    """Factor on the rates at the start of a pass: a good initial estimate is not shaken out of its place."""
    rate_end: float = 0.002
    """Factor on the rates at the end of a pass; they begin to fall when nothing is gained, or half-way."""
    early_stop: bool = True
    """Whether a pass ends when its loss no longer falls."""
    window: int = 128
    """px, sides of the windows in which silhouettes are compared."""
    depth_points: int = 200
    """Measured points per frame and hand or object."""
    renewal: int = 10
    """Steps for which the matches of measured points and the pairs that interact are kept."""
    seed: int = 0
    """Of the choice of depth points."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not 0 <= value < float("inf"):
                raise InputError(f"{item.name}: expected a finite number of at least 0, got {value}")
        if len(self.iterations) != 2 or min(self.iterations) < 0:
            raise InputError(f"iterations: expected two numbers of at least 0, got {self.iterations}")
        if self.smooth_order not in (1, 2):
            raise InputError(f"smooth_order: expected 1 or 2, got {self.smooth_order}")
        if not 0 < self.rate_end <= self.rate_start:
            raise InputError(
                f"rate_end, rate_start: expected 0 < rate_end <= rate_start, got {self.rate_end} and {self.rate_start}"
            )
        for name, least in (("window", 16), ("depth_points", 1), ("renewal", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")


PAPER_HOMAN = JointFitSettings(
    obj=WEIGHTS["obj"],
    v2d=WEIGHTS["v2d"],
    pca=WEIGHTS["pca"],
    scale=WEIGHTS["scale"],
    smooth=WEIGHTS["smooth"],
    smooth_order=1,
    centroid=WEIGHTS["centroid"],
    local=WEIGHTS["local"],
    collision=WEIGHTS["col"],
    holding=0.0,
    anatomy=0.0,
    depth=0.0,
    start=0.0,
    shape=0.0,
    object_start=0.0,
    iterations=(200, 200),
    rate_start=1.0,
    rate_end=1.0,
    early_stop=False,
)
"""HOMan's eight losses with its weights, constant rates and numbers of steps, and none of our terms; colour alone.

The losses are in our units and of our object's and hand's meshes; how the fit begins is ours as well.
"""
