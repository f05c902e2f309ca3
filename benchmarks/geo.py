"""GeO: one iteration, a whole refinement with Adam and with Levenberg-Marquardt, and what it does to perturbed grasps.

An iteration has all terms: 778 hand vertices, 4,000 object points, attraction, repulsion, anatomy, offset, gradients
and the step of Adam. The baseline is our own implementation of the paper's procedure with all pairs of vertices and
points (`_geo_all_pairs`), in turns with ours in one process. Its energy and ours are compared before anything is timed.
The paper: 55.77 ms per iteration on its GPU; other hardware and code, hence no ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks._geo_all_pairs import AllPairsGeo
from benchmarks.report import Row
from grasp_nodes.cli.geo_evaluation import Asked, GeoEvaluation, Job
from grasp_nodes.contact.as_released import attraction_as_released, repulsion_as_released
from grasp_nodes.contact.springs import AttractiveSprings
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.perturbed_grasps import PoseNoise
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.fitting.geo import adam
from grasp_nodes.fitting.geo.contact_terms import SpringContact, half_thickness, repulsion_of
from grasp_nodes.fitting.geo.energy import GraspingEnergy, GraspShift
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.settings import ADAM_STEPS, GeoSettings
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel

THREADS = 2
SEED = 3
ITERATIONS = 20
REPEATS = 5
BATCH = 64
FEW = 4
"""Hands at once of the baseline beside `BATCH` of ours: each matrix of all pairs of 64 has 0.8 GB."""
JUDGED = 40
"""Perturbed grasps, of which the ratios are; `grasp-nodes evaluate-geo` judges 500."""
BASELINE = "all pairs, autograd"


def rows() -> list[Row]:
    """Times and ratios."""
    model = load_hand_model("right")
    grasps = open_grasps(model.fingerprint)
    crowd = GeoEvaluation(model, grasps, Asked(BATCH, BATCH, 0, SEED), PoseNoise()).job(0)
    settings = GeoSettings()
    one = _part(crowd, 1)
    alone, few = (_all_pairs(model, _part(crowd, count), settings) for count in (1, FEW))
    _check_same(alone, _energy(model, one, settings))
    _check_same(few, _energy(model, _part(crowd, FEW), settings))
    ours: list[float] = []
    ours_many: list[float] = []
    slow: list[float] = []
    slow_few: list[float] = []
    for _ in range(REPEATS):
        slow.append(_milliseconds(alone.step))
        ours.append(_iteration_ms(model, one, settings))
        slow_few.append(_milliseconds(few.step) / FEW)
        ours_many.append(_iteration_ms(model, crowd, settings) / BATCH)
    many, per_hand = statistics.median(ours_many), statistics.median(slow_few)
    return [
        Row.time("geo_iteration_b1_ms", statistics.median(ours), "ms", BASELINE, statistics.median(slow)),
        Row.time("geo_iteration_b64_ms", many, "ms per hand", f"{BASELINE}, per hand of {FEW}", per_hand),
        *_springs_as_released(model, one, settings),
        *_refinements(model, one, settings),
        *_ratios(model, grasps),
    ]


def _part(job: Job, count: int) -> Job:
    return replace(job, truth=job.truth[:count], start=job.start[:count])


def _springs(model: HandModel, job: Job) -> AttractiveSprings:
    return GeoRefiner(model).springs_of(job.truth, job.object_model)


def _energy(model: HandModel, job: Job, settings: GeoSettings) -> GraspingEnergy:
    item = job.object_model
    repulsion = repulsion_of(item, settings)
    contact = SpringContact(GeoRefiner(model).anchors, _springs(model, job).collapsed(), repulsion, settings)
    return GraspingEnergy(model, job.start, item, contact, settings)


def _all_pairs(model: HandModel, job: Job, settings: GeoSettings) -> AllPairsGeo:
    item = job.object_model
    depth = torch.from_numpy(half_thickness(item, settings.reach))
    points, normals = torch.from_numpy(item.points), torch.from_numpy(item.normals)
    return AllPairsGeo(model, job.start, points, normals, depth, _springs(model, job), settings)


def _check_same(theirs: AllPairsGeo, ours: GraspingEnergy) -> None:
    slow, fast = float(theirs.energy().detach()), float(ours.terms(GraspShift.none(ours.hands)).total.sum())
    if abs(slow - fast) > 1e-3 * abs(slow):
        raise GraspNodesError(f"benchmark geo: the baseline's energy is {slow:.6g}, ours {fast:.6g}: not the same")


def _iteration_ms(model: HandModel, job: Job, settings: GeoSettings) -> float:
    """Of Adam, without what is prepared once: the difference of two runs."""

    def run(count: int) -> Callable[[], object]:
        energy = _energy(model, job, replace(settings, iterations=count))
        return lambda: adam.descend(energy, GraspShift.none(job.start))

    short, long = run(1), run(1 + ITERATIONS)
    short()
    return (_milliseconds(long) - _milliseconds(short)) / ITERATIONS


def _springs_as_released(model: HandModel, job: Job, settings: GeoSettings) -> list[Row]:
    """Energies and gradients of one hand's springs beside those of the authors' code, which are others: times alone."""
    anchors, springs, item = GeoRefiner(model).anchors, _springs(model, job), job.object_model
    vertices = model(job.start).vertices.detach().requires_grad_(True)
    points, normals = torch.from_numpy(item.points), torch.from_numpy(item.normals)
    repulsion, collapsed = repulsion_of(item, settings), springs.collapsed()
    assert repulsion is not None

    def median_ms(energy: Callable[[], torch.Tensor]) -> float:
        def work() -> object:
            return torch.autograd.grad(energy().sum(), vertices)

        work()
        return statistics.median(_milliseconds(work) for _ in range(2 * REPEATS + 1))

    return [
        Row.time(
            "geo_repulsion_ms",
            median_ms(lambda: repulsion.energy(vertices)),
            "ms",
            "as released: all distances, sorted",
            median_ms(lambda: repulsion_as_released(vertices, points, normals)),
        ),
        Row.time(
            "geo_attraction_ms",
            median_ms(lambda: collapsed.energy(anchors.positions(vertices))),
            "ms",
            "as released: spring by spring",
            median_ms(lambda: attraction_as_released(springs, anchors, anchors.positions(vertices))),
        ),
    ]


def _refinements(model: HandModel, job: Job, settings: GeoSettings) -> list[Row]:
    springs = _springs(model, job)
    found = {}
    for solver in ("adam", "newton"):
        refiner = GeoRefiner(model, settings, "adam" if solver == "adam" else "newton")
        refiner.refine(job.start, job.object_model, springs)
        found[solver] = refiner.refine(job.start, job.object_model, springs)
    theirs = _all_pairs(model, job, settings)

    def all_steps() -> None:
        for _ in range(ADAM_STEPS):
            theirs.step()

    paper = 1e-3 * _milliseconds(all_steps)
    slow, fast = found["adam"], found["newton"]
    return [
        Row.time("geo_refine_s", slow.seconds, "s, 400 iterations", f"{BASELINE}, 400 iterations", paper),
        Row.time("geo_fast_refine_s", fast.seconds, "s", f"{BASELINE}, 400 iterations", paper),
        Row.time(
            "geo_fast_energy",
            float(fast.energy_after.sum()),
            "energy left; below the baseline's is better",
            "ours, 400 iterations of Adam",
            float(slow.energy_after.sum()),
        ),
    ]


def _ratios(model: HandModel, grasps: LabelledGrasps) -> list[Row]:
    evaluation = GeoEvaluation(model, grasps, Asked(JUDGED, 5, 0, SEED), PoseNoise())
    means: dict[str, dict[str, list[float]]] = {name: {} for name in ("truth", "perturbed", "geo", "geo_hand_object")}
    for number in range(len(evaluation.objects)):
        job = evaluation.job(number)
        for name, so_far in means.items():
            for metric, values in evaluation.run(name, job).items():
                so_far.setdefault(metric, []).extend(values)
    answer = []
    for row, metric in (("pd", "penetration_mm"), ("siv", "volume_cm3"), ("dd", "disjointedness_mm")):
        before = float(np.mean(means["perturbed"][metric]))
        ratio = {name: float(np.mean(values[metric])) / before for name, values in means.items()}
        answer.append(Row(f"{row}_ratio", ratio["geo"], "after / before, hand alone"))
        answer.append(Row(f"{row}_ratio_hand_object", ratio["geo_hand_object"], "after / before"))
        answer.append(Row(f"{row}_ratio_truth", ratio["truth"], "truth / before: the unperturbed grasps"))
    return answer


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)
