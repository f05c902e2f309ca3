"""Runs methods over objects and keeps every result, so that an interrupted run goes on where it was."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from grasp_nodes.contact.interaction import Grasp
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.harness.bounds import (
    DERIVED,
    POLISHED,
    SHUFFLED,
    SYNTHETIC,
    bounding_center,
    donors,
    move_to_object,
    polish,
)
from grasp_nodes.evaluation.harness.judging import ObjectJudge, judged_hands
from grasp_nodes.evaluation.harness.object_set import EvaluatedObject
from grasp_nodes.evaluation.harness.protocols import Method, Parts
from grasp_nodes.evaluation.harness.records import Record, RecordFolder, hand_rows
from grasp_nodes.objects.model import ObjectModel


@dataclass(frozen=True, eq=False)
class ObjectTask:
    """Methods to judge on one object.

    methods: names. count: grasps of each. seed: of the whole evaluation. donor: record of another object's grasps, for
    the bounds that are made of them.
    """

    item: EvaluatedObject
    methods: Sequence[str]
    count: int
    seed: int
    donor: Record | None = None


def object_seed(seed: int, name: str) -> int:
    """Seed of one object: every method gets the same, no two objects do."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0] >> 1)


class ObjectWorker:
    """Judges methods on objects; one per process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._hands = judged_hands(parts.hand_models)
        self._warm: set[str] = set()

    def __call__(self, task: ObjectTask) -> Iterator[Record]:
        """One record for each method of the task, as they are done."""
        try:
            model = task.item.build()
            judge = ObjectJudge(model, self._hands, self._parts.displacement, self._parts.feature_network)
        except (ValueError, MissingFileError) as error:  # ValueError: the physics engine's own word for a bad mesh
            for name in task.methods:
                yield self._record(task, name, reason=str(error))
            return
        for name in task.methods:
            yield self._judged(task, name, model, judge)

    def _judged(self, task: ObjectTask, name: str, model: ObjectModel, judge: ObjectJudge) -> Record:
        try:
            grasps, seconds = self._grasps(task, name, model)
        except InputError as error:
            return self._record(task, name, reason=str(error))
        method = self._method(name)
        kinds = [grasp.kind for grasp in grasps] if method.labelled else []
        found = judge(grasps, kinds)
        return self._record(
            task,
            name,
            seconds=seconds if method.timed else float("nan"),
            center=bounding_center(model),
            sides=[grasp.hand.params.side for grasp in grasps],
            hands=hand_rows(grasps),
            kinds=kinds,
            finite=found.finite,
            values=found.values,
            features=np.zeros((len(grasps), 0)) if found.features is None else found.features,
        )

    def _grasps(self, task: ObjectTask, name: str, model: ObjectModel) -> tuple[list[Grasp], float]:
        """Grasps, not more than wanted, and the seconds that making them took."""
        if name in DERIVED:
            return self._shuffled(task, name, model)
        generator, seed = self._method(name).generator, object_seed(task.seed, task.item.name)
        if generator is None:
            raise InputError(f"method {name}: cannot run here: {self._method(name).missing or 'it is not known'}")
        if name not in self._warm:  # what is loaded and compiled at the first call is not the time of a grasp
            self._warm.add(name)
            generator.generate(model, 1, seed)
        start = time.perf_counter()
        grasps = generator.generate(model, task.count, seed).grasps
        return list(grasps[: task.count]), time.perf_counter() - start

    def _shuffled(self, task: ObjectTask, name: str, model: ObjectModel) -> tuple[list[Grasp], float]:
        models, polisher = self._parts.hand_models, self._parts.polisher
        if task.donor is None or task.donor.reason:
            return [], float("nan")
        grasps = move_to_object(task.donor.grasps(models), task.donor.center, model, models)
        if name == SHUFFLED or polisher is None:
            return grasps, float("nan")
        if name not in self._warm:
            self._warm.add(name)
            polish(grasps[:1], model, polisher, models)
        start = time.perf_counter()
        return polish(grasps, model, polisher, models), time.perf_counter() - start

    def _method(self, name: str) -> Method:
        return self._parts.methods.get(name, Method(name))

    def _record(self, task: ObjectTask, name: str, **content: object) -> Record:
        version = method_version(self._parts, name)
        return Record(name, task.item.name, task.item.family, task.count, version, **content)  # type: ignore[arg-type]


def method_version(parts: Parts, name: str) -> str:
    """Version of what makes a method's grasps; of a bound that is derived, of what it is derived from."""
    if name in DERIVED:
        synthetic = parts.methods.get(SYNTHETIC, Method(SYNTHETIC)).version
        return f"{synthetic} {parts.polisher_version}" if name.endswith(POLISHED) else synthetic
    return parts.methods[name].version if name in parts.methods else ""


class Distribute(Protocol):
    """Has tasks done, here or elsewhere."""

    def __call__(self, tasks: Sequence[ObjectTask], keep: Callable[[Record], None]) -> None:
        """Give every record of every task to `keep`, once, in this thread, in any order."""
        ...


class InThisProcess:
    """Does one task after the other."""

    def __init__(self, parts: Parts) -> None:
        self._worker = ObjectWorker(parts)

    def __call__(self, tasks: Sequence[ObjectTask], keep: Callable[[Record], None]) -> None:
        """As `Distribute`."""
        for task in tasks:
            for record in self._worker(task):
                keep(record)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is to be judged.

    objects: of the set. methods: names of the rows in their order; those without a generator are left out.
    parts: of this process. count: grasps of each method on each object. seed: of all that is random.
    folder: keeps the results. distribute: has the work done.
    progress: is told how many of how many pairs of method and object are done; None = nobody is.
    """

    objects: Sequence[EvaluatedObject]
    methods: Sequence[str]
    parts: Parts
    count: int
    seed: int
    folder: RecordFolder
    distribute: Distribute
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise InputError(f"evaluation: expected n >= 1 and seed >= 0, got {self.count} and {self.seed}")
        if set(DERIVED) & set(self.methods) and SYNTHETIC not in self.methods:
            raise InputError(f"evaluation: {' and '.join(DERIVED)} are made of the grasps of {SYNTHETIC}: name it, too")

    def missing(self) -> dict[str, str]:
        """Why methods cannot run here, by name."""
        reasons = {}
        for name in self.methods:
            if name in DERIVED:
                reason = self._missing(SYNTHETIC)
                if not reason and name.endswith(POLISHED) and self.parts.polisher is None:
                    reason = self.parts.polisher_missing
                if not reason and len(self.objects) < 2:
                    reason = "grasps are shuffled between objects, of which there is one"
            else:
                reason = self._missing(name)
            if reason:
                reasons[name] = reason
        return reasons

    def done(self) -> dict[tuple[str, str], Record]:
        """Records of earlier runs that are still valid, by method and object.

        A refused object is tried again: what was wrong, such as a folder that was not there, may have been mended.
        """
        known = {one.name for one in self.objects}
        return {
            key: record
            for key, record in self.folder.read().items()
            if key[1] in known and not record.reason and record.version == method_version(self.parts, key[0])
        }

    def run(self) -> dict[tuple[str, str], Record]:
        """Judge whatever is not there yet.

        Returns:
            All records by method and object; those of methods that cannot run are absent.

        Raises:
            InputError: the disk is full. MissingDependencyError: MuJoCo is not installed.
        """
        missing = self.missing()
        names = [name for name in self.methods if name not in missing]
        done = self.done()
        before = set(done)
        self._tell(done, names)

        def keep(record: Record) -> None:
            done[record.method, record.object] = self.folder.append(record)
            self._tell(done, names)

        self.distribute(self._tasks([name for name in names if name not in DERIVED], done, {}), keep)
        derived = [name for name in names if name in DERIVED]
        if any(len(done[key]) for key in set(done) - before if key[0] == SYNTHETIC):
            # Who gives to whom follows from all that give.
            done = {key: record for key, record in done.items() if key[0] not in DERIVED}
        if derived:
            given = donors([one.name for one in self.objects if len(done[SYNTHETIC, one.name])], self.seed)
            giving = {name: done[SYNTHETIC, donor] for name, donor in given.items()}
            self.distribute(self._tasks(derived, done, giving), keep)
        return {key: record for key, record in done.items() if key[0] in names}

    def _tasks(
        self, names: Sequence[str], done: Mapping[tuple[str, str], Record], giving: Mapping[str, Record]
    ) -> list[ObjectTask]:
        tasks = []
        for item in self.objects:
            left = [name for name in names if (name, item.name) not in done]
            if left:
                tasks.append(ObjectTask(item, left, self.count, self.seed, giving.get(item.name)))
        return tasks

    def _missing(self, name: str) -> str:
        method = self.parts.methods.get(name, Method(name, missing="it is not known"))
        return "" if method.generator is not None else method.missing or "it is not installed"

    def _tell(self, done: Mapping[tuple[str, str], Record], names: Sequence[str]) -> None:
        if self.progress is not None:
            self.progress(sum(method in names for method, _ in done), len(names) * len(self.objects))
