"""A data set made in shards, one per object, that can be stopped anywhere and gone on with.

A shard depends on (settings, object name) alone, so the set is the same whoever makes its shards, in whatever order.
The first shards are those of the first `objects` training objects; where an engine finds fewer grasps than its share on
some, further objects are planned in rounds, each from the results of the rounds before it and from nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import grasp_nodes
from grasp_nodes.data.grasp_files import (
    FORMAT_VERSION,
    REGISTRY_VERSION,
    drop_not_finite,
    mesh_sha256,
    pack_grasps,
    read_grasps,
)
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.workers import Task, WorkError, Workers, resolve, run_tasks, writing_below
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.files import OPEN_HAND_ID, load_hand_arrays
from grasp_nodes.npz import UNFINISHED, replacing
from grasp_nodes.objects import registry
from grasp_nodes.objects.registry import ObjectName, training_names
from grasp_nodes.paths import working_alone

ENGINE = "grasp_nodes.data.synthetic_grasps:synthesize_grasps"
JOB = "grasp_nodes.data.shards:make_shard"
VERSION_NAME = "SYNTHESIS_VERSION"
LICENCE = "CC0-1.0"
LIBRARIES = ("numpy", "scipy", "torch", "numba", "trimesh", "manifold3d", "open3d", "mujoco")
"""Another version of one of these may make other grasps of the same seed."""
BARREN_OBJECTS = 2 * len(registry.TRAINING_FAMILIES)
"""So many objects in a row without one grasp: more objects will not help."""

_JSON_TYPES = {"int": int, "str": str, "Mapping[str, str]": dict}

_log = logging.getLogger(__name__)


def library_versions() -> dict[str, str]:
    """Installed versions of what computes; empty = not installed."""
    versions = {"grasp_nodes": grasp_nodes.__version__}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


@dataclass(frozen=True)
class Settings:
    """All that decides what a set holds.

    engine: ``module:function(name, count, seed) -> LabelledGrasps``, its module has SYNTHESIS_VERSION. objects: to
    begin with. grasps: in the set. seed: of the set. The rest: versions of what makes it, and the hand.
    """

    engine: str
    objects: int
    grasps: int
    seed: int
    synthesis_version: int
    hand_model_id: str
    hand_fingerprint: str
    registry_version: int
    format_version: int
    libraries: Mapping[str, str]

    def __post_init__(self) -> None:
        for name in ("objects", "grasps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.seed < 0:
            raise InputError(f"seed: expected 0 or more, got {self.seed}")

    @property
    def quota(self) -> int:
        """Grasps that a shard is asked for: the share of one object, rounded up."""
        return -(-self.grasps // self.objects)

    def shard_seed(self, name: ObjectName) -> int:
        """Seed of an object's shard, 32 bits."""
        return int.from_bytes(hashlib.sha256(f"{self.seed} {name}".encode()).digest()[:4], "little")

    def planned(self, made: Mapping[str, int]) -> list[ObjectName]:
        """Objects whose shards the set needs, as far as the results tell; all made = the set is complete.

        Args:
            made: grasps by object name, of the shards that are done.

        Raises:
            WorkError: the objects give nothing any more.
        """
        names = training_names(self.objects)
        while all(str(name) in made for name in names):
            missing = self.grasps - sum(made[str(name)] for name in names)
            if missing <= 0:
                break
            latest = names[-max(BARREN_OBJECTS, self.objects) :]
            if len(names) >= BARREN_OBJECTS and not any(made[str(name)] for name in latest):
                raise WorkError(
                    f"{missing} of {self.grasps} grasps are missing, and the last {len(latest)} of {len(names)} "
                    "objects gave none"
                )
            names = training_names(len(names) + -(-missing // self.quota))
        return names

    def differences(self, other: Settings) -> list[str]:
        """What differs, in words; these come first."""
        ours, theirs = ({**content.pop("libraries"), **content} for content in (asdict(self), asdict(other)))
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return [f"{name} {ours.get(name)!r} instead of {theirs.get(name)!r}" for name in names]

    def attributes(self) -> dict[str, str]:
        """What a file of the set says about itself."""
        # What is made with a hand of others is theirs to license.
        licence = {"licence": LICENCE} if self.hand_model_id == OPEN_HAND_ID else {}
        return {
            "seed": str(self.seed),
            "synthesis_version": str(self.synthesis_version),
            REGISTRY_VERSION: str(self.registry_version),
            **licence,
            **{f"version_{name}": version for name, version in self.libraries.items()},
        }


@dataclass(frozen=True)
class Progress:
    """accepted: grasps so far, of wanted. shards: done, of planned. failed: shards given up."""

    accepted: int
    wanted: int
    shards_done: int
    shards: int
    failed: int


def settings_here(objects: int, grasps: int, seed: int, engine: str = ENGINE) -> Settings:
    """The settings with the versions and the hand of this installation.

    Raises:
        InputError: a number is out of range, or there is no such engine.
    """
    hand = load_hand_arrays("right")
    version = resolve(f"{engine.partition(':')[0]}:{VERSION_NAME}")
    return Settings(
        engine,
        objects,
        grasps,
        seed,
        synthesis_version=int(version),
        hand_model_id=hand.model_id,
        hand_fingerprint=hand.fingerprint,
        registry_version=registry.VERSION,
        format_version=FORMAT_VERSION,
        libraries=library_versions(),
    )


class ShardFolder:
    """Where a set is made: ``settings.json``, ``shards/FAMILY-SEED.npz``, ``failed.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shards = path / "shards"

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[None]:
        """Make the folder, or go on in it; nobody else works in it meanwhile.

        Raises:
            InputError: it holds something else, a set of other settings, or another run works in it.
            WorkError: it cannot be written.
        """
        there = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if "settings.json" not in there and there - {"lock", "shards"}:
            names = ", ".join(sorted(there)[:3])
            raise InputError(f"{self.path}: not empty, and not a folder of 'grasp-nodes synthesize' (it has {names})")
        with contextlib.ExitStack() as stack:
            with self.writing():
                self.shards.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(working_alone(self.path))
            except OSError as error:
                raise WorkError(f"{self.path}: cannot be locked ({error}); take a folder of a local disk") from error
            self._agree(settings)
            with self.writing():
                for leftover in self.path.rglob(f"*{UNFINISHED}"):
                    leftover.unlink()
            yield

    def settings(self) -> Settings:
        """What the set is made with.

        Raises:
            MissingFileError: no set was begun here. InputError: the file is damaged.
        """
        file = self.path / "settings.json"
        if not file.is_file():
            raise MissingFileError(f"{file}: no set was begun here; begin one with 'grasp-nodes synthesize'")
        content = _read_json(file)
        kinds = {one.name: _JSON_TYPES[str(one.type)] for one in fields(Settings)}
        fits = isinstance(content, dict) and content.keys() == kinds.keys()
        if not fits or not all(isinstance(content[name], kind) for name, kind in kinds.items()):
            raise InputError(f"{file}: not the settings of a set of this version; make the set in another folder")
        return Settings(**content)

    def made(self, settings: Settings) -> dict[str, int]:
        """Grasps by object of the shards that are done; one that is damaged counts as not done."""
        made: dict[str, int] = {}
        for name in _names_of_files(self.shards):
            try:
                made[str(name)] = len(self.read(name, settings))
            except InputError as error:
                _log.warning("%s; it is made again", error)
        return made

    def read(self, name: ObjectName, settings: Settings) -> LabelledGrasps:
        """A shard.

        Raises:
            MissingFileError: it is not done. InputError: it is damaged.
        """
        return read_grasps(self._file(name), settings.hand_fingerprint, allow_empty=True)

    def keep(self, name: ObjectName, content: bytes, settings: Settings) -> int:
        """Write a shard, whole; the grasps in it.

        Raises:
            WorkError: it cannot be written.
        """
        self.write(self._file(name), content)
        return len(self.read(name, settings))

    def failed(self) -> dict[str, str]:
        """What went wrong by object, of the shards that the latest run gave up."""
        file = self.path / "failed.json"
        return {str(name): str(why) for name, why in _read_json(file).items()} if file.is_file() else {}

    def keep_failed(self, failed: Mapping[str, str]) -> None:
        """Replace what `failed` tells."""
        file = self.path / "failed.json"
        if failed:
            self.write(file, (json.dumps(dict(failed), indent=1) + "\n").encode())
        else:
            with self.writing():
                file.unlink(missing_ok=True)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
            WorkError: it cannot be written.
        """
        with self.writing(), replacing(path) as stream:
            stream.write(content)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """What is done within it may write to the folder; see `writing_below`."""
        return writing_below(self.path)

    def _file(self, name: ObjectName) -> Path:
        return self.shards / f"{name.family}-{name.seed}.npz"

    def _agree(self, settings: Settings) -> None:
        file = self.path / "settings.json"
        if not file.is_file():
            self.write(file, (json.dumps(asdict(settings), indent=1) + "\n").encode())
            return
        differ = self.settings().differences(settings)
        if differ:
            raise InputError(
                f"{self.path}: holds a set of other settings ({'; '.join(differ)}). Give the same to go on with it, or "
                "another folder to begin anew"
            )


def make_shard(settings: Settings, name: ObjectName) -> bytes:
    """Run the engine on one object: the content of its shard's file.

    Raises:
        InputError: this installation is not the one of the settings, or the engine broke its promise.
    """
    here = settings_here(settings.objects, settings.grasps, settings.seed, settings.engine)
    differ = settings.differences(here)
    if differ:
        raise InputError(f"the worker's host has other versions ({'; '.join(differ)}): install the same on all hosts")
    begin = time.perf_counter()
    grasps: LabelledGrasps = resolve(settings.engine)(name, settings.quota, settings.shard_seed(name))
    seconds = time.perf_counter() - begin
    hand, count = grasps.hand_fingerprint, len(grasps)
    if count > settings.quota or len(grasps.objects) != 1 or hand != settings.hand_fingerprint:
        raise InputError(
            f"{settings.engine}: expected up to {settings.quota} grasps of one object by the hand "
            f"{settings.hand_fingerprint[:12]}, got {count} of {len(grasps.objects)} by {hand[:12]}"
        )
    grasps = drop_not_finite(grasps, str(name))
    thing = replace(grasps.objects[0], name=str(name), mesh_sha256=mesh_sha256(name))
    attributes = {**grasps.attributes, **settings.attributes(), "seconds": f"{seconds:.3f}"}
    return pack_grasps(replace(grasps, objects=[thing], attributes=attributes))


def make_shards(
    folder: ShardFolder, settings: Settings, workers: Callable[[], Workers], report: Callable[[Progress], None]
) -> dict[str, str]:
    """Make every shard that the set still needs, in a folder that is open.

    Args:
        folder, settings: the set. workers: starts them; called only if there is something to do; they run `JOB`.
        report: is called about twice a second.

    Returns:
        What went wrong by object, of the shards that failed; the objects after them made up for what they lack.

    Raises:
        WorkError: the folder cannot be written, there can be no workers, or objects give no grasps any more.
    """
    made = folder.made(settings)
    failed: dict[str, str] = {}
    names: list[ObjectName] = []

    def keep(task: Task, content: bytes) -> None:
        name = task.arguments[1]
        made[str(name)] = folder.keep(name, content, settings)

    def look() -> None:
        done = [made[str(name)] for name in names if str(name) in made]
        report(Progress(sum(done), settings.grasps, len(done), len(names), len(failed)))

    with contextlib.ExitStack() as stack:
        team: Workers | None = None
        while True:
            try:
                names = settings.planned({**made, **dict.fromkeys(failed, 0)})
            except WorkError as error:
                first = next(iter(failed.items()), None)
                reason = f"; {len(failed)} failed, the first, {first[0]}, with: {first[1]}" if first else ""
                raise WorkError(f"{folder.path}: {error}{reason}") from error
            look()
            todo = [name for name in names if str(name) not in made and str(name) not in failed]
            if not todo:
                break
            if team is None:
                team = workers()
                stack.callback(team.close)
            tasks = [Task(str(name), (settings, name)) for name in todo]
            failed |= run_tasks(tasks, team, keep, look)
            folder.keep_failed(failed)
    folder.keep_failed({name: why for name, why in failed.items() if name in {str(one) for one in names}})
    return failed


def _names_of_files(folder: Path) -> Iterator[ObjectName]:
    for path in sorted(folder.glob("*.npz")):
        family, _, seed = path.stem.rpartition("-")
        with contextlib.suppress(InputError):  # a file of somebody else
            yield registry.parse_name(f"{family}:{seed}")


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable ({error})") from error
