"""What GeO does to perturbed grasps, measured by CPF's metrics: the variants, the work on one object, and the rows."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

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
from grasp_nodes.hand.anatomy import KNUCKLES, HandAnatomy
from grasp_nodes.hand.keypoints import FINGER_JOINTS, closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel

OBJECT_POINTS = 4000
METRICS = (
    *("hand_mm", "object_mm", "penetration_mm", "volume_cm3", "disjointedness_mm", "touching_mm", "anatomy"),
    "displacement_cm",
)
TOUCHING = 0.005
"""m: fingertip vertices that are nearer than this in the unperturbed grasp are those that `touching_mm` is of."""
TWIST = math.radians(50.0)
"""Of the thumb's two outer joints about their bones, in what stands for the paper's figure 15."""
FORMAT = 3
SPRING_STRENGTHS = (2e-4, 6e-4, 1e-3, 1.4e-3, 4e-3, 8e-3)
"""k_rpl of the paper's Table 5; that of `GeoSettings` is GeO as it is."""
VANILLA_WEIGHTS = (2.0, 8.0, 30.0, 120.0, 480.0, 1920.0)
OBMAN_WEIGHTS = (300.0, 1200.0, 4800.0, 12000.0, 48000.0)
"""The paper gives none: each baseline is compared at its best."""


@dataclass(frozen=True)
class Variant:
    """One way to refine. what: for the table. contact: where springs come from. settings: None = nothing is done.

    weight: of a baseline's contact. start: what is refined: the ``perturbed`` grasps, the unperturbed ones (``truth``),
    these with a ``twisted`` thumb, or such ``projected`` onto the anatomical set.
    """

    what: str
    contact: str = "true"
    settings: GeoSettings | None = field(default_factory=GeoSettings)
    solver: str = "newton"
    weight: float = 0.0
    start: Literal["perturbed", "truth", "twisted", "projected"] = "perturbed"


_FREE = GeoSettings(anatomy=0.0)
_PCA = GeoSettings(components=15)
VARIANTS: Mapping[str, Variant] = {
    "truth": Variant("the grasps before they were perturbed", settings=None, start="truth"),
    "perturbed": Variant("where every variant starts", settings=None),
    "geo": Variant("oracle springs, hand alone, Levenberg-Marquardt"),
    "geo_hand_object": Variant("oracle springs, hand and object", settings=GeoSettings(move_object=True)),
    "geo_adam": Variant("oracle springs, hand alone, Adam as the paper", solver="adam"),
    "geo_predicted": Variant("no oracle: contact guessed from the perturbed hand by distance", "guessed"),
    "geo_from_truth": Variant("as geo, from the unperturbed grasps: where its own minimum lies", start="truth"),
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
    "no_anatomy": Variant("without anatomy", settings=_FREE),
    "pca_pose": Variant("15 principal components instead of 45 angles, Adam", settings=_PCA, solver="adam"),
    "twisted": Variant("the unperturbed grasps with a twisted thumb", settings=None, start="twisted"),
    "twisted_projected": Variant(
        "all angles of these moved into their limits (A-MANO's projection)", settings=None, start="projected"
    ),
    "twisted_geo": Variant("GeO from there", start="twisted"),
    "twisted_no_anatomy": Variant("GeO from there without anatomy", settings=_FREE, start="twisted"),
    "no_thin_walls": Variant("far sides of thin walls push, too", settings=GeoSettings(thin_walls=False)),
    **{
        f"krpl_{k:g}": Variant(
            f"k_rpl = {k:g}, which is {k * GeoSettings().length:g} in the paper's metres",
            settings=GeoSettings(repulsion=k),
        )
        for k in SPRING_STRENGTHS
    },
}
MEASURED = (
    *("truth", "perturbed", "geo", "geo_hand_object", "geo_from_truth", "geo_predicted", "no_repulsion", "no_anatomy"),
)
"""Of all grasps; so is each baseline with its best weight."""


@dataclass(frozen=True)
class Sweep:
    """Variants that are compared on some of the grasps. title: of their table. names: in its order."""

    title: str
    names: tuple[str, ...]


SWEEPS = (
    Sweep(
        "Weights of the baselines",
        ("perturbed", "geo", *(name for name, one in VARIANTS.items() if one.contact in ("vanilla", "obman"))),
    ),
    Sweep(
        "Strength of repulsion (Table 5)",
        (
            *("perturbed", *(f"krpl_{k:g}" for k in SPRING_STRENGTHS if k < GeoSettings().repulsion), "geo"),
            *(f"krpl_{k:g}" for k in SPRING_STRENGTHS if k > GeoSettings().repulsion),
        ),
    ),
    Sweep(
        "Posture by principal components (Table 6), solver, thin walls",
        ("perturbed", "geo", "geo_adam", "pca_pose", "no_thin_walls"),
    ),
    Sweep(
        "A thumb's unwanted twist (Fig. 15)",
        ("truth", "twisted", "twisted_projected", "twisted_geo", "twisted_no_anatomy"),
    ),
)


@dataclass(frozen=True)
class Asked:
    """grasps: in all. per_object: of them on one object. simulated: of them that are dropped, spread over objects.

    swept: about so many of them are those of the sweeps, all on some objects.
    """

    grasps: int = 500
    per_object: int = 5
    simulated: int = 50
    seed: int = 0
    swept: int = 60


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
    def swept(self) -> list[int]:
        """Numbers of the objects of the sweeps, spread over all."""
        count = min(len(self.objects), max(1, round(self.asked.swept / self.asked.per_object)))
        return [number * len(self.objects) // count for number in range(count)]

    @cached_property
    def key(self) -> str:
        """Of everything that results depend on, code aside."""
        text = repr((FORMAT, replace(self.asked, swept=0), self._noise, self.model.fingerprint, GeoSettings()))
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
        tips = np.concatenate(self._tips)
        touching = np.abs(hand_signed_distance(true.double().numpy()[:, tips], job.solid)) < TOUCHING
        distance = hand_signed_distance(found, job.solid)
        result = {
            "hand_mm": 1e3 * (vertices - true).norm(dim=-1).mean(dim=1).numpy(),
            "object_mm": 1e3 * object_error,
            "penetration_mm": 1e3 * penetration_depth(distance),
            "volume_cm3": 1e6 * solid_intersection_volume(found, self._faces, job.solid),
            "disjointedness_mm": 1e3 * disjointedness_distance(distance, self._tips),
            "touching_mm": 1e3 * _mean_where(np.abs(distance[:, tips]), touching),
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
            return self._start(variant, job), still
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
        result = refiner.refine(self._start(variant, job), job.object_model, springs)
        points = job.object_model.points.astype(np.float64)
        moved = (
            np.einsum("bij,nj->bni", result.T_start_object[:, :3, :3], points) + result.T_start_object[:, None, :3, 3]
        )
        return result.hands, np.linalg.norm(moved - points, axis=2).mean(axis=1)

    def _start(self, variant: Variant, job: Job) -> HandParams:
        if variant.start == "perturbed":
            return job.start
        if variant.start == "truth":
            return job.truth
        anatomy = self._refiners["geo"].anatomy
        hands = twisted(anatomy, job.truth)
        return replace(hands, hand_pose=anatomy.project(hands.hand_pose)) if variant.start == "projected" else hands


def twisted(anatomy: HandAnatomy, hands: HandParams) -> HandParams:
    """Hands with a thumb that is twisted about its bones."""
    angles = anatomy.angles(hands.hand_pose)
    for joint in FINGER_JOINTS["thumb"]:
        if joint not in KNUCKLES:
            angles[:, joint - 1, 0] += TWIST
    return replace(hands, hand_pose=anatomy.hand_pose(angles))


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(B,) means of chosen (B, V) values, NaN where none is."""
    count = chosen.sum(axis=1)
    return np.where(count > 0, (values * chosen).sum(axis=1) / np.maximum(count, 1), np.nan)


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


def read_rows(
    folder: Path, evaluation: GeoEvaluation, names: Sequence[str], numbers: Sequence[int]
) -> list[dict[str, Any]]:
    """One row per variant, of what was measured on some objects: means over grasps that every variant has.

    Ratios are to the perturbed grasps, where these are among the variants.
    """
    parts: dict[str, dict[int, dict[str, list[float]]]] = {name: {} for name in names}
    for name in names:
        for number in numbers:
            path = result_file(folder, evaluation, number, name)
            if path.is_file():
                parts[name][number] = json.loads(path.read_text())
    common = sorted(set(numbers).intersection(*parts.values()))
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
            ("touching_ratio", "touching_mm"),
            ("sd_ratio", "displacement_cm"),
        ):  # fmt: skip
            before = start[metric] if start else None
            row[ratio] = row[metric] / before if before and row[metric] is not None else None
    return rows
