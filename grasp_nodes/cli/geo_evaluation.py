"""What GeO does to perturbed grasps, measured by CPF's metrics: the variants, the work on one object, and the rows."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.perturbed_grasps import PoseNoise, perturbed
from grasp_nodes.errors import MissingDependencyError
from grasp_nodes.evaluation.intersection import solid_intersection_volume
from grasp_nodes.evaluation.penetration import (
    disjointedness_distance,
    fingertip_regions,
    hand_signed_distance,
    penetration_depth,
)
from grasp_nodes.evaluation.simulation.mujoco_engine import MujocoEngine
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.geo import adam
from grasp_nodes.fitting.geo.contact_terms import ContactTerms, ObManContact, VanillaContact
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.fitting.homan.losses import contact_zones
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel

OBJECT_POINTS = 4000
METRICS = ("hand_mm", "object_mm", "penetration_mm", "volume_cm3", "disjointedness_mm", "anatomy", "displacement_cm")
FORMAT = 2
SPRING_STRENGTHS = (2e-4, 6e-4, 1e-3, 1.4e-3, 2e-3, 4e-3, 8e-3)
"""k_rpl of the paper's Table 5."""
VANILLA_WEIGHTS = (2.0, 8.0, 30.0, 120.0, 480.0, 1920.0)
OBMAN_WEIGHTS = (300.0, 1200.0, 4800.0, 12000.0, 48000.0)
"""The paper gives none: each baseline is compared at its best."""


@dataclass(frozen=True)
class Variant:
    """One way to refine. what: for the table. contact: where springs come from. settings: None = nothing is done.

    weight: of a baseline's contact. from_truth: the unperturbed grasps are refined.
    """

    what: str
    contact: str = "true"
    settings: GeoSettings | None = field(default_factory=GeoSettings)
    solver: str = "newton"
    weight: float = 0.0
    from_truth: bool = False


VARIANTS: Mapping[str, Variant] = {
    "truth": Variant("the grasps before they were perturbed", settings=None),
    "perturbed": Variant("where every variant starts", settings=None),
    "geo": Variant("oracle springs, hand alone, Levenberg-Marquardt"),
    "geo_hand_object": Variant("oracle springs, hand and object", settings=GeoSettings(move_object=True)),
    "geo_adam": Variant("oracle springs, hand alone, Adam as the paper", solver="adam"),
    "geo_predicted": Variant("no oracle: contact guessed from the perturbed hand by distance", "guessed"),
    "geo_from_truth": Variant("as geo, from the unperturbed grasps: where its own minimum lies", from_truth=True),
    **{
        f"vanilla_{w:g}": Variant(
            f"no oracle: fingertip anchors to the nearest point, weight {w:g}", "vanilla", weight=w
        )
        for w in VANILLA_WEIGHTS
    },
    **{
        f"obman_{w:g}": Variant(f"no oracle: ObMan's attraction and repulsion, weight {w:g}", "obman", weight=w)
        for w in OBMAN_WEIGHTS
    },
    "no_repulsion": Variant("without repulsion", settings=GeoSettings(repulsion=0.0)),
    "no_anatomy": Variant("without anatomy", settings=GeoSettings(anatomy=0.0)),
    "no_thin_walls": Variant("far sides of thin walls push, too", settings=GeoSettings(thin_walls=False)),
    **{
        f"krpl_{k:g}": Variant(
            f"k_rpl = {k:g}, which is {k * GeoSettings().length:g} in the paper's metres",
            settings=GeoSettings(repulsion=k),
        )
        for k in SPRING_STRENGTHS
    },
}
MAIN = (
    "truth",
    "perturbed",
    "geo",
    "geo_hand_object",
    "geo_adam",
    "geo_from_truth",
    "geo_predicted",
    *(f"vanilla_{w:g}" for w in VANILLA_WEIGHTS),
    *(f"obman_{w:g}" for w in OBMAN_WEIGHTS),
    "no_repulsion",
    "no_anatomy",
    "no_thin_walls",
)


@dataclass(frozen=True)
class Asked:
    """grasps: in all. per_object: of them on one object. simulated: of them that are dropped, spread over objects."""

    grasps: int = 500
    per_object: int = 5
    simulated: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Job:
    """One object with perturbed grasps. simulated: of them that are dropped, the first ones."""

    object_model: ObjectModel
    solid: Solid
    truth: HandParams
    start: HandParams
    simulated: int


class GeoEvaluation:
    """Grasps of a set, perturbed, and what variants make of them.

    Args:
        model: of the grasps' hands. grasps: the set. asked: how many. noise: that was added.
    """

    def __init__(self, model: HandModel, grasps: LabelledGrasps, asked: Asked, noise: PoseNoise) -> None:
        self.model, self._grasps, self.asked, self._noise = model, grasps, asked, noise
        self._faces = closed_faces(model.faces.numpy())
        self._tips = fingertip_regions(model.arrays.weights)
        self._refiners = {
            name: GeoRefiner(model, variant.settings, "adam" if variant.solver == "adam" else "newton")
            for name, variant in VARIANTS.items()
            if variant.settings is not None
        }
        rng = np.random.default_rng(asked.seed)
        counts = np.bincount(grasps.object_index, minlength=len(grasps.objects))
        order = rng.permutation(np.flatnonzero(counts >= asked.per_object))
        self.objects = [int(k) for k in order[: -(-asked.grasps // asked.per_object)]]

    @cached_property
    def key(self) -> str:
        """Of everything that results depend on, code aside."""
        text = repr((FORMAT, self.asked, self._noise, self.model.fingerprint, GeoSettings()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def job(self, number: int) -> Job:
        """The grasps on the `number`-th object."""
        index = self.objects[number]
        found = self._grasps.objects[index]
        rng = np.random.default_rng([self.asked.seed, zlib.crc32(found.name.encode())])
        own = self._grasps.of_object(index)
        own = own[rng.choice(len(own), self.asked.per_object, replace=False)]
        item = make_object(*object_mesh(found), found.name, num_points=OBJECT_POINTS)
        truth = own.hands.to(dtype=self.model.dtype)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        start = perturbed(truth, self.model, self._noise, generator)
        return Job(item, Solid.of(item), truth, start, self.simulated_of(number))

    def simulated_of(self, number: int) -> int:
        """Grasps on the `number`-th object that are dropped: all objects get the same, as nearly as can be."""
        total, count = min(self.asked.simulated, self.asked.per_object * len(self.objects)), len(self.objects)
        return (number + 1) * total // count - number * total // count

    def run(self, name: str, job: Job) -> dict[str, list[float]]:
        """Metrics of each grasp after a variant."""
        began = time.perf_counter()
        hands, object_error = self._refined(name, job)
        seconds = (time.perf_counter() - began) / len(hands)
        with torch.no_grad():
            vertices = self.model(hands).vertices
            true = self.model(job.truth).vertices
            anatomy = self._refiners["geo"].anatomy.costs(hands.hand_pose).paper
        found = vertices.double().numpy()
        distance = hand_signed_distance(found, job.solid)
        result = {
            "hand_mm": 1e3 * (vertices - true).norm(dim=-1).mean(dim=1).numpy(),
            "object_mm": 1e3 * object_error,
            "penetration_mm": 1e3 * penetration_depth(distance),
            "volume_cm3": 1e6 * solid_intersection_volume(found, self._faces, job.solid),
            "disjointedness_mm": 1e3 * disjointedness_distance(distance, self._tips),
            "anatomy": anatomy.numpy(),
            "seconds": np.full(len(found), seconds),
        }
        if job.simulated:
            with contextlib.suppress(MissingDependencyError):
                engine = MujocoEngine(job.solid, self._faces)
                result["displacement_cm"] = 1e2 * engine.displacement(found[: job.simulated])
        return {metric: [float(value) for value in values] for metric, values in result.items()}

    def _refined(self, name: str, job: Job) -> tuple[HandParams, np.ndarray]:
        """Hands in the object's frame, and how far each object's points moved from the truth, m."""
        variant, still = VARIANTS[name], np.zeros(len(job.start))
        if variant.settings is None:
            return (job.truth if name == "truth" else job.start), still
        refiner = self._refiners[name]
        if variant.contact in ("vanilla", "obman"):
            contact: ContactTerms = (
                VanillaContact(refiner.anchors, job.object_model, variant.settings, variant.weight)
                if variant.contact == "vanilla"
                else ObManContact(contact_zones(self.model), job.object_model, variant.settings, variant.weight)
            )
            energy = GraspingEnergy(self.model, job.start, job.object_model, contact, variant.settings)
            return energy.params(adam.descend(energy, GraspShift.none(job.start)).best), still
        springs: AttractiveSprings | None = None
        if variant.contact == "true":
            springs = refiner.springs_of(job.truth, job.object_model)
        start = job.truth if variant.from_truth else job.start
        result = refiner.refine(start, job.object_model, springs)
        points = job.object_model.points.astype(np.float64)
        moved = (
            np.einsum("bij,nj->bni", result.T_start_object[:, :3, :3], points) + result.T_start_object[:, None, :3, 3]
        )
        return result.hands, np.linalg.norm(moved - points, axis=2).mean(axis=1)


def is_measured(path: Path, dropped: int) -> bool:
    """Whether nothing is left to measure of what `path` has: displacements are, where MuJoCo came later.

    Args:
        path: of `result_file`. dropped: `GeoEvaluation.simulated_of` the object.
    """
    if not path.is_file():
        return False
    return not dropped or not can_drop() or "displacement_cm" in json.loads(path.read_text())


def can_drop() -> bool:
    """Whether what displacements need is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("mujoco", "pybullet"))


def best_weights(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By baseline the row of its best weight: the least mean of PD, SIV and DD after / before."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind = VARIANTS[row["variant"]].contact
        ratios = [row[name] for name in ("pd_ratio", "siv_ratio", "dd_ratio")]
        if kind in ("vanilla", "obman") and None not in ratios:
            mean = sum(ratios) / len(ratios)
            if kind not in best or mean < best[kind]["mean_ratio"]:
                best[kind] = {**row, "mean_ratio": mean}
    return best


def result_file(folder: Path, evaluation: GeoEvaluation, number: int, name: str) -> Path:
    """Where a variant's results on an object are kept."""
    return folder / "parts" / f"{evaluation.key}_{number:04d}_{name}.json"


def read_rows(folder: Path, evaluation: GeoEvaluation, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per variant, of what was measured: means over grasps that every variant has."""
    parts: dict[str, dict[int, dict[str, list[float]]]] = {name: {} for name in names}
    for name in names:
        for number in range(len(evaluation.objects)):
            path = result_file(folder, evaluation, number, name)
            if path.is_file():
                parts[name][number] = json.loads(path.read_text())
    common = sorted(set.intersection(*(set(found) for found in parts.values())))
    rows = []
    for name in names:
        row: dict[str, Any] = {"variant": name, "what": VARIANTS[name].what}
        for metric in (*METRICS, "seconds"):
            values = [value for number in common for value in parts[name][number].get(metric, [])]
            finite = np.array([value for value in values if np.isfinite(value)])
            row[metric] = float(finite.mean()) if len(finite) else None
            if metric in ("penetration_mm", "displacement_cm"):
                row["n" if metric == "penetration_mm" else "simulated"] = len(finite)
        rows.append(row)
    start = next((row for row in rows if row["variant"] == "perturbed"), None)
    for row in rows:
        for ratio, metric in (
            ("pd_ratio", "penetration_mm"), ("siv_ratio", "volume_cm3"), ("dd_ratio", "disjointedness_mm"),
            ("sd_ratio", "displacement_cm"),
        ):  # fmt: skip
            before = start[metric] if start else None
            row[ratio] = row[metric] / before if before and row[metric] is not None else None
    return rows
