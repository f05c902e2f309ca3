"""The noun of a grasp data set: hands on objects, batch first, whoever recorded or made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from grasp_nodes.errors import InputError
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.kinds import KINDS
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

UNLABELLED = -1
_REFLECTION = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class GraspedObject:
    """One object of a data set: where its mesh comes from and how that becomes the frame of the grasps.

    name: unique in the data set. mesh: what `load_object` takes: a file or ``family:mug:12``; empty if there is none.
    scale: factor from the mesh's unit to metres. transform: (4, 4) float64, scaled mesh frame to grasp frame, m; a
    rotation, or one that also reflects (of a mirrored object).
    category: such as ``mug``. split: ``train``, ``val``, ``test`` or empty.
    mesh_sha256: of a procedural object, `grasp_files.mesh_sha256`; empty = not known.
    """

    name: str
    mesh: str = ""
    scale: float = 1.0
    transform: np.ndarray = field(default_factory=lambda: np.eye(4))
    category: str = ""
    split: str = ""
    mesh_sha256: str = ""


@dataclass(frozen=True, eq=False)
class LabelledGrasps:
    """N grasps of one hand model and one side, each in the frame of its object.

    source: the data set, such as ``grab``. hands: N hands, object frame, m and rad.
    hand_fingerprint: of the hand model whose parameters they are (`HandModel.fingerprint`); empty where the data set's
    own files do not tell, then `hand_model_id` names it, such as ``mano``.
    objects: those that occur. object_index: (N,) int64 into them.
    kind: (N,) int64 into `KINDS`, -1 = not labelled.
    subject, sequence: (N,) str, who grasped and in which recording, empty = unknown. frame: (N,) int64 there.
    metrics: (N,) float arrays by name, SI units.
    attributes: of the whole set: seed, versions, licence.
    """

    source: str
    hands: HandParams
    hand_model_id: str
    hand_fingerprint: str
    objects: Sequence[GraspedObject]
    object_index: np.ndarray
    kind: np.ndarray
    subject: np.ndarray
    sequence: np.ndarray
    frame: np.ndarray
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.hands)
        columns = {
            **{name: getattr(self, name) for name in ("object_index", "kind", "subject", "sequence", "frame")},
            **{f"metrics[{name}]": values for name, values in self.metrics.items()},
        }
        for name, values in columns.items():
            if values.shape != (count,):
                raise InputError(f"{self.source}: {name}: expected shape ({count},), got {values.shape}")
        if count and not (self.object_index.min() >= 0 and self.object_index.max() < len(self.objects)):
            raise InputError(f"{self.source}: object_index: expected 0..{len(self.objects) - 1}")
        if count and not (self.kind.min() >= UNLABELLED and self.kind.max() < len(KINDS)):
            raise InputError(f"{self.source}: kind: expected {UNLABELLED}..{len(KINDS) - 1}")

    def __len__(self) -> int:
        return len(self.hands)

    def __getitem__(self, rows: np.ndarray) -> LabelledGrasps:
        """Some of the grasps, by index or mask; objects that no longer occur stay."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(
            self,
            hands=self.hands[torch.from_numpy(np.asarray(index, np.int64))],
            **{name: getattr(self, name)[index] for name in ("object_index", "kind", "subject", "sequence", "frame")},
            metrics={name: values[index] for name, values in self.metrics.items()},
        )

    def check_hand_model(self, model: HandModel) -> None:
        """Refuse another hand model than that of the grasps, where these tell of theirs.

        Raises:
            InputError: the model is another.
        """
        if self.hand_fingerprint and self.hand_fingerprint != model.fingerprint:
            raise InputError(f"{self.source}: its poses belong to another hand model than {model.model_id}")

    def of_object(self, number: int) -> LabelledGrasps:
        """The grasps of one of `objects`."""
        return self[self.object_index == number]

    def mirrored(self) -> LabelledGrasps:
        """The same grasps by the other hand on the mirrored objects: everything is reflected along x.

        The hand model must be the mirror image of its other side, as the open hand and MANO are.
        """
        hands = self.hands

        def turned(pose: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(mirror_pose(pose.numpy())).to(pose.dtype)

        other = replace(
            hands,
            global_orient=turned(hands.global_orient),
            hand_pose=turned(hands.hand_pose),
            transl=hands.transl * torch.tensor(np.diag(_REFLECTION), dtype=hands.transl.dtype),
            side="left" if hands.side == "right" else "right",
        )
        reflect = np.eye(4)
        reflect[:3, :3] = _REFLECTION
        return replace(
            self, hands=other, objects=[replace(one, transform=reflect @ one.transform) for one in self.objects]
        )
