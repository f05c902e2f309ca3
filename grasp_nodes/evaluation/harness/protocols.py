"""What the harness is handed: parts of higher floors, and the methods that it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from grasp_nodes.contact.interaction import GraspGenerator
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.objects.model import ObjectModel


class Polisher(Protocol):
    """Improves grasps where they are: fingers onto the surface, out of the object."""

    def __call__(self, hands: HandParams, object_model: ObjectModel) -> HandParams:
        """The same B hands, a little moved; object frame."""
        ...


class FeatureNetwork(Protocol):
    """Turns grasps into the vectors whose distribution the Fréchet distance compares.

    name: of the network and its version, goes into the report.
    """

    @property
    def name(self) -> str:
        """Of the network and its version."""
        ...

    def __call__(self, object_model: ObjectModel, hand_vertices: np.ndarray) -> np.ndarray:
        """Features (B, D) of hands (B, V, 3), m, object frame, without NaN."""
        ...


class PictureWriter(Protocol):
    """Draws single grasps into the folder of the evaluation, and a sheet of them."""

    def write(
        self,
        method: str,
        object_id: str,
        number: int,
        hand_vertices: np.ndarray,
        hand_faces: np.ndarray,
        object_vertices: np.ndarray,
        object_faces: np.ndarray,
        signed_distance: np.ndarray | None,
    ) -> Path:
        """Draw grasp `number` of a method on an object.

        Args:
            hand_vertices: (V, 3), m, object frame; with NaN only the object is drawn. hand_faces: (F, 3), closed.
            object_vertices: (W, 3), m. object_faces: (G, 3).
            signed_distance: (V,), m, of the hand's vertices, negative inside the object.
        """
        ...

    def sheet(self, path: Path, cells: Sequence[tuple[Path, str]], columns: int) -> None:
        """Put drawn grasps with their captions into one PNG, row by row, so many to a row."""
        ...


@dataclass(frozen=True)
class Method:
    """One row of the table.

    name: of the row. generator: None for one that cannot run here, then `missing` says why.
    labelled: its grasps come with kinds, so that a pinch needs two fingers only.
    timed: whether the time it takes is that of making grasps; not so for grasps out of a file.
    device: it runs on. version: of weights or file; results of another version are not taken up again.
    """

    name: str
    generator: GraspGenerator | None = None
    labelled: bool = False
    timed: bool = True
    device: str = "cpu"
    version: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Parts:
    """Everything that a process needs to judge: made once in each.

    methods: by name, without those that the harness derives from them. hand_models: of both sides.
    polisher: None = not installed. feature_network: None = no Fréchet distance.
    displacement: whether PyBullet runs.
    """

    methods: Mapping[str, Method]
    hand_models: Mapping[Side, HandModel]
    polisher: Polisher | None = None
    polisher_missing: str = "no polish is installed"
    polisher_version: str = ""
    feature_network: FeatureNetwork | None = None
    displacement: bool = True
