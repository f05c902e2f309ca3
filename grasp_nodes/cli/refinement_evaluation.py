"""Noisy grasps refined by several methods, beside the true ones: what is asked, and the work on one object."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from grasp_nodes.data.grasp_batches import split_by_object
from grasp_nodes.data.grasp_readers.contact_filter import object_mesh
from grasp_nodes.data.grasp_readers.perturbation import COPIES, NOISE_LEVELS, perturb
from grasp_nodes.data.grasp_readers.splits import PROTOCOLS, split_of
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.refinement_metrics import RefinementJudge
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.fitting.choir.contact_driven import ContactDrivenRefiner
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.learning.weights import OtherHandError, WeightCard
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.synthesis.jointdiffusion.batches import split_by_hand
from grasp_nodes.synthesis.jointdiffusion.grasps import FieldGrasps, FieldSampling, load_refiner
from grasp_nodes.synthesis.jointdiffusion.trained import JOINT, KEYPOINT

INPUT, CONTACT, GEO = "input", "contact-driven", "geo"
DRAWN = "jointdiffusion-draw"
"""JointDiffusion from standard normal noise, as the paper does: one draw of what the true grasp may be."""
NETWORKS = {
    KEYPOINT: (KEYPOINT, FieldSampling()),
    JOINT: (JOINT, FieldSampling()),
    DRAWN: (JOINT, FieldSampling(refined_spread=1.0)),
}
"""By the method: whose weights it runs, and how it draws."""
METHODS = (INPUT, CONTACT, GEO, *NETWORKS)
METRICS = ("mpjpe", "root_aligned", "volume", "f1", "precision", "recall")
FORMAT = 1
_OWN_DIVISIONS = ("objects", "hands")
"""Those that trainings make themselves; others are published protocols."""

Refiner = Callable[[HandParams, ObjectModel], HandParams]


@dataclass(frozen=True)
class Asked:
    """grasps: noisy ones in all. per_object: true ones on one object. copies: noisy ones of each.

    level: of the noise. division: ``objects``: those that training did not see; ``hands``: hands that it did not see,
    on objects that it did; or a published protocol of the set (``contactpose-subjects``, ``contactpose-objects``),
    whose test part counts. validation: share that was held out of the training. seed: of the choice and the noise.
    """

    grasps: int = 200
    per_object: int = 2
    copies: int = COPIES["test"]
    level: int = 2
    division: str = "objects"
    validation: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        known = dict.fromkeys((*_OWN_DIVISIONS, *PROTOCOLS))
        if self.division not in known:
            raise InputError(f"division: expected {', '.join(known)}, got {self.division!r}")
        if not 0 <= self.level < len(NOISE_LEVELS):
            raise InputError(f"level: expected 0 to {len(NOISE_LEVELS) - 1}, got {self.level}")


@dataclass(frozen=True)
class Job:
    """One object with noisy grasps and the true ones, row by row."""

    object_model: ObjectModel
    solid: Solid
    truth: HandParams
    start: HandParams


class RefinementEvaluation:
    """Held-out grasps of a set, made noisy, and what methods make of them.

    Args:
        model: of the hands, on the CPU. grasps: the set. asked: how many. folder: of the networks' weights; None = the
            installed ones.
    """

    def __init__(self, model: HandModel, grasps: LabelledGrasps, asked: Asked, folder: Path | None = None) -> None:
        self.model, self.asked, self._folder = model, asked, folder
        self._judge = RefinementJudge(model)
        self._grasps = grasps[_held_out(grasps, asked)]
        counts = np.bincount(self._grasps.object_index, minlength=len(grasps.objects))
        order = np.random.default_rng(asked.seed).permutation(np.flatnonzero(counts >= asked.per_object))
        self.objects = [int(k) for k in order[: -(-asked.grasps // (asked.per_object * asked.copies))]]
        if not self.objects:
            raise InputError(f"refinement: no object of {grasps.source} has {asked.per_object} held-out grasps")
        self._refiners: dict[str, Refiner] = {}

    @cached_property
    def key(self) -> str:
        """Of everything that results depend on, code and weights aside."""
        text = repr((FORMAT, self.asked, self.model.fingerprint, self._grasps.source, len(self._grasps)))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def missing(self, name: str) -> str | None:
        """Why a method cannot run here, None = it can.

        Raises:
            InputError: no such method, or its weights cannot be used.
        """
        if name not in METHODS:
            raise InputError(f"method {name!r}: expected some of {', '.join(METHODS)}")
        try:
            refiner = self._refiner(name)
        except (MissingFileError, OtherHandError) as error:
            return str(error)
        card = refiner.card if isinstance(refiner, FieldGrasps) else None
        return None if card is None else self._seen(card)

    def _seen(self, card: WeightCard) -> str | None:
        """What of the held-out grasps is not known to have been kept from a training, None = nothing."""
        asked, source = self.asked, self._grasps.source
        if not card.data.startswith(f"{source}:"):
            return None
        if asked.division not in _OWN_DIVISIONS:
            return f"its weights were trained on {source}, of which {asked.division} holds some out"
        division, share = card.notes.get("division"), float(card.notes.get("validation", 0.0))
        if division not in ("both", asked.division):
            return f"its weights, of division={division}, have seen what is held out by {asked.division}"
        if share < asked.validation:
            return f"its training held out {share:g} of {source}, less than validation={asked.validation:g}"
        return None

    def version(self, name: str) -> str:
        """Of a method's weights; empty without any."""
        refiner = self._refiner(name)
        return refiner.version if isinstance(refiner, FieldGrasps) else ""

    def job(self, number: int) -> Job:
        """The grasps on the `number`-th object."""
        index, asked = self.objects[number], self.asked
        found = self._grasps.objects[index]
        rng = np.random.default_rng([asked.seed, zlib.crc32(found.name.encode())])
        own = self._grasps.of_object(index)
        own = own[np.sort(rng.choice(len(own), asked.per_object, replace=False))]
        components = self.model.hands_components.numpy()
        noisy = perturb(own, asked.level, int(rng.integers(2**31)), components, asked.copies)
        truth = own[np.repeat(np.arange(len(own)), asked.copies)]
        item = make_object(*object_mesh(found), found.name)
        parts = (one.hands.to(dtype=self.model.dtype) for one in (truth, noisy))
        return Job(item, Solid.of(item), *parts)

    def run(self, name: str, job: Job) -> dict[str, list[float]]:
        """Metrics of each grasp after a method: one sample each."""
        began = time.perf_counter()
        hands = self._refiner(name)(job.start, job.object_model)
        seconds = (time.perf_counter() - began) / len(hands)
        return {**self._judge(hands, job.truth, job.solid).lists(), "seconds": [seconds] * len(hands)}

    def _refiner(self, name: str) -> Refiner:
        if name not in self._refiners:
            if name == INPUT:
                self._refiners[name] = lambda hands, _: hands
            elif name == CONTACT:
                self._refiners[name] = ContactDrivenRefiner(self.model)
            elif name == GEO:
                self._refiners[name] = GeoRefiner(self.model)
            else:
                network, sampling = NETWORKS[name]
                self._refiners[name] = load_refiner(network, self.model, self._folder, sampling)
        return self._refiners[name]


def result_file(folder: Path, evaluation: RefinementEvaluation, number: int, name: str) -> Path:
    """Where the results of a method on one object are."""
    version = zlib.crc32(evaluation.version(name).encode())
    return folder / "parts" / f"{evaluation.key}-{number:03d}-{name}-{version:08x}.json"


def read_rows(folder: Path, evaluation: RefinementEvaluation, names: Sequence[str]) -> list[dict[str, Any]]:
    """Means of each method over all objects that are done, and the number of grasps."""
    rows = []
    for name in names:
        values: dict[str, list[float]] = {}
        for number in range(len(evaluation.objects)):
            path = result_file(folder, evaluation, number, name)
            for metric, found in (json.loads(path.read_text()) if path.is_file() else {}).items():
                values.setdefault(metric, []).extend(found)
        known: Mapping[str, Any] = {metric: float(np.nanmean(found)) for metric, found in values.items()}
        rows.append({"method": name, "n": len(values.get("mpjpe", [])), **known})
    return rows


def _held_out(grasps: LabelledGrasps, asked: Asked) -> np.ndarray:
    """Rows that a training of division ``both`` holds out, or the test part of a published protocol."""
    if asked.division == "objects":
        return split_by_object(grasps, asked.validation).validation
    if asked.division == "hands":
        unseen = split_by_hand(grasps, asked.validation, 0).validation
        return np.setdiff1d(unseen, split_by_object(grasps, asked.validation).validation)
    return np.flatnonzero(split_of(grasps, asked.division) == "test")
