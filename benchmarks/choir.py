"""CHOIR: a field, hands out of fields (test-time optimisation, stages 1 and 2), and refinement where there are weights.

Baselines run in the same process: all distances of a field by one table, and our implementation of the paper's Adam
(`AdamChoirFit`) with the constants of the authors' configuration. It moves all 45 numbers of the posture here, not 15
principal components, which could not say the grasps of the open set. The paper, on a GPU: 0.13 s for a field, 49 s for
a refinement, 13 s of it diffusion; other hardware, hence no ratio.

Rows of the network (``refine_...``) are there only if its weights are installed.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.report import Row
from grasp_nodes.cli.refinement_evaluation import INPUT, Asked, RefinementEvaluation
from grasp_nodes.contact.choir.field import ChoirField, anchor_distances, make_field, object_distances
from grasp_nodes.contact.choir.gaussians import ContactGaussians, ContactSkin, encode_contacts, skin_contact
from grasp_nodes.contact.choir.space import ChoirSettings, ChoirSpace
from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import GraspNodesError
from grasp_nodes.fitting.choir.adam_fit import AdamChoirFit, AdamFitSettings
from grasp_nodes.fitting.choir.choir_fit import ChoirFit, FittedHands
from grasp_nodes.hand.anchors import anchors_of
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_POSE, HandParams
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.jointdiffusion.trained import JOINT

THREADS = 2
SEED = 5
GRASPS = 1000
NOISY = 16
NOISES = (0.002, 0.005)
"""m."""
REPEATS = 9
BATCH = 64
TIMED = 10
"""Iterations of the baseline that are timed where all would take minutes."""
JUDGED = 96
PAPER = "the paper's Adam"

_log = logging.getLogger(__name__)


def rows() -> list[Row]:
    """Times and errors."""
    model, space = load_hand_model("right"), ChoirSpace()
    grasps = open_grasps(model.fingerprint)
    chosen = grasps[np.random.default_rng(SEED).choice(len(grasps), GRASPS, replace=False)]
    fields = _fields(model, space, chosen.hands)
    item = _object_of(chosen)
    return [
        _field_row(model, space, item, chosen.hands[:1]),
        *_stage1_rows(model, space, fields),
        _stage2_row(model, space, item, chosen),
        *_truth_rows(model, space, fields, chosen.hands),
        *_noise_rows(model, space, fields, chosen.hands),
        *_ordered_rows(model, chosen.hands),
        *_network_rows(model, grasps),
    ]


def _fields(model: HandModel, space: ChoirSpace, hands: HandParams) -> ChoirField:
    """Hand distances about the origin; stage 1 looks at no others."""
    with torch.no_grad():
        anchors = anchors_of(model).positions(model(hands.to(dtype=model.dtype)).vertices)
    frame = space.frame(torch.zeros(len(hands), 3), anchors)
    distance = anchor_distances(space, anchors, frame)
    return ChoirField(distance, distance, frame, space.fingerprint)


def _object_of(grasps: LabelledGrasps) -> ObjectModel:
    one = grasps.objects[grasps.object_index[0]]
    return make_object(*object_mesh(one), one.name)


def _field_row(model: HandModel, space: ChoirSpace, item: ObjectModel, hand: HandParams) -> Row:
    points = torch.from_numpy(item.points)
    with torch.no_grad():
        anchors = anchors_of(model).positions(model(hand.to(dtype=model.dtype)).vertices)
    frame = space.frame(points.mean(dim=0)[None], points[None], anchors)
    basis = space.basis_like(points)

    def table() -> torch.Tensor:
        return torch.cdist(basis, frame.scaled(points[None])[0]).amin(dim=1)

    slow = table()
    off = float((object_distances(space, points, frame)[0] - slow).abs().max())
    if off > 1e-5:
        raise GraspNodesError(f"benchmark choir: the field differs from the table of all distances by {off:.3g}")
    ours = _median_ms(lambda: make_field(space, points, anchors))
    return Row.time("field_ms", ours, f"ms, {len(points)} points", "all distances in one table", _median_ms(table))


def _stage1_rows(model: HandModel, space: ChoirSpace, fields: ChoirField) -> list[Row]:
    fit, adam = ChoirFit(model, space), AdamChoirFit(model, space, AdamFitSettings(components=NUM_POSE))
    fit.stage1(fields[:2])
    singles = [fields[k : k + 1] for k in range(REPEATS)]
    alone = statistics.median(_milliseconds(lambda one=one: fit.stage1(one)) for one in singles)
    many = min(_milliseconds(lambda: fit.stage1(fields[:BATCH])) for _ in range(3)) / BATCH
    found: list[FittedHands] = []
    slow = _milliseconds(lambda: found.append(adam.stage1(fields[:1])))
    short = AdamChoirFit(model, space, AdamFitSettings(components=NUM_POSE, steps=TIMED))
    crowd = _milliseconds(lambda: short.stage1(fields[:BATCH])) / BATCH * AdamFitSettings.steps / TIMED
    made = int(found[0].steps[0])
    return [
        Row.time("stage1_b1_ms", alone, "ms", f"{PAPER}, {made} iterations", slow),
        Row.time("stage1_b64_ms", many, "ms per grasp", f"{PAPER}, {AdamFitSettings.steps} of {TIMED} timed", crowd),
    ]


def _stage2_row(model: HandModel, space: ChoirSpace, item: ObjectModel, grasps: LabelledGrasps) -> Row:
    hands = grasps.hands[:1].to(dtype=model.dtype)
    fit, adam = ChoirFit(model, space), AdamChoirFit(model, space)
    gaussians = _contacts(model, item, hands)
    start = FittedHands(hands, np.zeros(1), np.zeros(1, np.int64), torch.zeros(1, 32, 3, dtype=torch.float64))
    fit.stage2(start, gaussians, item, 2)

    def per_iteration(stage: Callable[..., FittedHands], count: int) -> float:
        stage(start, gaussians, item, 1)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            made = int(stage(start, gaussians, item, count).steps[0])
            times.append(1e3 * (time.perf_counter() - began) / max(made, 1))
        return statistics.median(times)

    ours, slow = per_iteration(fit.stage2, fit.settings.surface_steps), per_iteration(adam.stage2, TIMED)
    return Row.time("stage2_iteration_ms", ours, "ms, with what is prepared once", f"{PAPER}, stage 2", slow)


def _contacts(model: HandModel, item: ObjectModel, hands: HandParams) -> ContactGaussians:
    with torch.no_grad():
        vertices = model(hands).vertices
    return encode_contacts(ContactSkin.of_model(model), vertices, skin_contact(item.signed_distance(vertices)))


def _truth_rows(model: HandModel, space: ChoirSpace, fields: ChoirField, hands: HandParams) -> list[Row]:
    joints, vertices = _errors(model, ChoirFit(model, space).stage1(fields).hands, hands)
    adam = AdamChoirFit(model, space, AdamFitSettings(components=NUM_POSE))
    slow_joints, slow_vertices = _errors(model, adam.stage1(fields[:NOISY]).hands, hands[:NOISY])
    what = f"{PAPER}, {NOISY} grasps"
    return [
        Row("gt_mpjpe_mm", float(joints.mean()), f"mm, {len(joints)} grasps", what, float(slow_joints.mean())),
        Row("gt_mpjpe_max_mm", float(joints.max()), "mm, the worst", what, float(slow_joints.max())),
        Row("gt_mpvpe_mm", float(vertices.mean()), "mm", what, float(slow_vertices.mean())),
    ]


def _noise_rows(model: HandModel, space: ChoirSpace, fields: ChoirField, hands: HandParams) -> list[Row]:
    """Independent noise on every distance."""
    result = []
    for noise in NOISES:
        drawn = torch.randn(NOISY, len(space), generator=torch.Generator().manual_seed(SEED))
        distance = (fields.anchor_distance[:NOISY] + noise * drawn).clamp(min=0.0)
        field = ChoirField(distance, distance, fields.frame[:NOISY], space.fingerprint)
        ours, _ = _errors(model, ChoirFit(model, space).stage1(field).hands, hands[:NOISY])
        adam = AdamChoirFit(model, space, AdamFitSettings(components=NUM_POSE))
        theirs, _ = _errors(model, adam.stage1(field).hands, hands[:NOISY])
        result.append(Row(f"noise{1e3 * noise:g}_mpjpe_mm", float(ours.mean()), "mm", PAPER, float(theirs.mean())))
    return result


def _ordered_rows(model: HandModel, hands: HandParams) -> list[Row]:
    """The ordered assignment: how far the mirrored anchors are, and what is left after they were told apart."""
    space = ChoirSpace(ChoirSettings(assignment="ordered"))
    few = hands[:NOISY]
    field = _fields(model, space, few)
    fit = ChoirFit(model, space)
    estimate = fit.multilateration(field)
    assert estimate.mirrored is not None
    away = (estimate.positions - estimate.mirrored).norm(dim=-1)
    joints, _ = _errors(model, fit.stage1(field).hands, few)
    return [
        Row("ordered_mirror_mm", 1e3 * float(away.mean()), "mm, between an anchor and its mirror image"),
        Row("ordered_mpjpe_mm", float(joints.mean()), f"mm, {NOISY} grasps"),
    ]


def _network_rows(model: HandModel, grasps: LabelledGrasps) -> list[Row]:
    evaluation = RefinementEvaluation(model, grasps, Asked(JUDGED))
    why = evaluation.missing(JOINT)
    if why is not None:
        _log.warning("no rows refine_s, refine_mpjpe_ratio, refine_f1: %s", why)
        return []
    values: dict[str, dict[str, list[float]]] = {INPUT: {}, JOINT: {}}
    for number in range(len(evaluation.objects)):
        job = evaluation.job(number)
        for name, so_far in values.items():
            for metric, found in evaluation.run(name, job).items():
                so_far.setdefault(metric, []).extend(found)
    job = evaluation.job(0)
    one = type(job)(job.object_model, job.solid, job.truth[:1], job.start[:1])
    seconds = statistics.median(evaluation.run(JOINT, one)["seconds"][0] for _ in range(3))
    mean = {name: {metric: float(np.mean(found)) for metric, found in one.items()} for name, one in values.items()}
    return [
        Row("refine_s", seconds, "s per grasp, batch 1"),
        Row("refine_mpjpe_ratio", mean[JOINT]["mpjpe"] / mean[INPUT]["mpjpe"], "after / before"),
        Row("refine_f1", mean[JOINT]["f1"], "0..1", "the input's", mean[INPUT]["f1"]),
    ]


def _errors(model: HandModel, found: HandParams, truth: HandParams) -> tuple[np.ndarray, np.ndarray]:
    """MPJPE and MPVPE of each hand, mm."""
    with torch.no_grad():
        ours, theirs = model(found), model(truth.to(dtype=model.dtype))
    joints = (ours.keypoints - theirs.keypoints).norm(dim=-1).mean(dim=1)
    vertices = (ours.vertices - theirs.vertices).norm(dim=-1).mean(dim=1)
    return 1e3 * joints.double().numpy(), 1e3 * vertices.double().numpy()


def _median_ms(work: Callable[[], object]) -> float:
    work()
    return statistics.median(_milliseconds(work) for _ in range(REPEATS))


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)
