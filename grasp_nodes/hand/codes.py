"""Hands as vectors that a network reads and writes, and back.

A vector is ``[position | orientation | pose | shape]``, each number with mean 0 and deviation 1 over the training's
hands. Positions are those of a point of the hand itself, so that hand and object can be turned together exactly; all
of a position, and all of an orientation in 6D, have one scale, so that no direction is preferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
)
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_POSE, HandParams

Orient = Literal["rotation_6d", "axis_angle"]
Pose = Literal["freedom", "axis_angle", "rotation_6d", "pca"]
Point = Literal["palm", "wrist"]

_SIXTH = 3**-0.5
"""Deviation of the numbers of a random rotation in 6D."""
_LEAST_DEVIATION = 0.05
"""rad, and unit of betas: what hardly varies is not blown up."""


@dataclass(frozen=True)
class HandLayout:
    """What a vector holds.

    point: whose position: ``palm``, in the middle between wrist and knuckles, or ``wrist``. orient: of the hand.
    pose: ``freedom``: the 21 angles of `DegreesOfFreedom`, exact for hands made of them; ``axis_angle``: all 45;
    ``rotation_6d``: 90; ``pca``: the hand model's first `components`.
    shape: whether betas are in the vector; else they are given when it is decoded.
    """

    point: Point = "palm"
    orient: Orient = "rotation_6d"
    pose: Pose = "freedom"
    components: int = NUM_POSE
    shape: bool = False

    def __post_init__(self) -> None:
        for name, kinds in (("point", Point), ("orient", Orient), ("pose", Pose)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"{name}: expected one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}")
        if not 1 <= self.components <= NUM_POSE:
            raise InputError(f"components: expected 1 to {NUM_POSE}, got {self.components}")


@dataclass(frozen=True)
class HandParts:
    """B hands before they become numbers of one scale.

    position: (B, 3), m, of the layout's point. orient: (B, 3, 3), the hand's frame to the frame it is in. pose: (B, n)
    in the layout's numbers. betas: (B, 10).
    """

    position: Tensor
    orient: Tensor
    pose: Tensor
    betas: Tensor

    def __getitem__(self, rows: Tensor | slice) -> HandParts:
        """Some of the hands."""
        return HandParts(self.position[rows], self.orient[rows], self.pose[rows], self.betas[rows])

    def shifted(self, shift: Tensor) -> HandParts:
        """Moved by (B, 3) or (3,), m."""
        return replace(self, position=self.position + shift)

    def turned(self, turn: Tensor) -> HandParts:
        """Turned about the origin by rotations (B, 3, 3) or (3, 3)."""
        return replace(self, position=(turn @ self.position[..., None])[..., 0], orient=turn @ self.orient)


class HandCoder:
    """Turns hands of one model into vectors (B, `size`) and back; differentiable both ways.

    Args:
        model: a full hand. layout: of the vectors. mean, deviation: (`size`,), None = 0 and 1; see `fitted`.

    Raises:
        InputError: mean and deviation of another size.
    """

    def __init__(
        self,
        model: HandModel,
        layout: HandLayout | None = None,
        mean: Tensor | None = None,
        deviation: Tensor | None = None,
    ) -> None:
        self.model, self.layout = model, layout or HandLayout()
        flat = model(HandParams.zeros(1, model.side, model.dtype, model.device)).keypoints[0]
        self._point = 0.5 * (flat[0] + flat[[5, 9, 13, 17]].mean(dim=0))
        self._basis, self._offset = self._linear_pose()
        self._inverse = torch.linalg.pinv(self._basis)
        sizes = (3, 6 if self.layout.orient == "rotation_6d" else 3, self._pose_size())
        self._sizes = (*sizes, NUM_BETAS) if self.layout.shape else sizes
        self.size = sum(self._sizes)
        numbers = {"mean": torch.zeros(self.size) if mean is None else mean}
        numbers["deviation"] = torch.ones(self.size) if deviation is None else deviation
        wrong = [f"{name} {tuple(value.shape)}" for name, value in numbers.items() if value.shape != (self.size,)]
        if wrong:
            raise InputError(f"hand code: expected shape ({self.size},), got {', '.join(wrong)}")
        if not (numbers["deviation"] > 0).all():
            raise InputError("hand code: expected deviations above 0")
        self.mean, self.deviation = (value.to(model.dtype).to(model.device) for value in numbers.values())

    def fitted(self, parts: HandParts) -> HandCoder:
        """The same layout with the mean and the deviations of these hands.

        The orientation and the mean position count as those of objects that are turned at random about the origin.
        """
        rows = self._joined(parts)
        mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION)
        turned = sum(self._sizes[:2])
        mean[:turned] = 0.0
        deviation[:3] = parts.position.square().mean().sqrt()
        if self.layout.orient == "rotation_6d":
            deviation[3:turned] = _SIXTH
        return HandCoder(self.model, self.layout, mean, deviation)

    def to(self, device: torch.device) -> HandCoder:
        """The same on another device, with a hand model there; itself where it is there already."""
        if self.mean.device == device:
            return self
        model = HandModel(self.model.arrays, self.model.dtype).to(device)
        return HandCoder(model, self.layout, self.mean.to(device), self.deviation.to(device))

    def encode(self, hands: HandParams) -> Tensor:
        """(B, size) of hands of the model's side, dtype and device.

        Raises:
            InputError: a scale other than 1.
        """
        return self.vectors(self.parts(hands))

    def decode(self, vectors: Tensor, betas: Tensor | None = None) -> HandParams:
        """Hands of vectors (B, size).

        Args:
            vectors: of the model's dtype and device. betas: (B, 10) or (10,), where the layout has none; None = zeros.
        """
        return self.hands(self.parts_of(vectors, betas))

    def parts(self, hands: HandParams) -> HandParts:
        """The parts of hands.

        Raises:
            InputError: a scale other than 1.
        """
        if not torch.allclose(hands.scale, torch.ones_like(hands.scale)):
            raise InputError("hand code: expected hands of scale 1: fold the scale into the object's instead")
        orient = axis_angle_to_matrix(hands.global_orient)
        wrist = self._wrist(hands.betas)
        position = wrist + hands.transl
        if self.layout.point == "palm":
            position = position + (orient @ (self._point - wrist)[..., None])[..., 0]
        return HandParts(position, orient, self._pose_numbers(hands.hand_pose), hands.betas)

    def hands(self, parts: HandParts) -> HandParams:
        """Hands of parts, the inverse of `parts`."""
        wrist = self._wrist(parts.betas)
        transl = parts.position - wrist
        if self.layout.point == "palm":
            transl = transl - (parts.orient @ (self._point - wrist)[..., None])[..., 0]
        return HandParams(
            matrix_to_axis_angle(parts.orient),
            self._hand_pose(parts.pose),
            parts.betas,
            transl,
            torch.ones_like(transl[:, 0]),
            self.model.side,
        )

    def points(self, parts: HandParts, model: HandModel | None = None) -> Tensor:
        """The vertices alone of `posed`."""
        return self.posed(parts, model)[0]

    def posed(self, parts: HandParts, model: HandModel | None = None) -> tuple[Tensor, Tensor]:
        """Vertices (B, V, 3) and keypoints (B, 21, 3), m, of hands as parts.

        No rotation of the whole hand becomes an axis and an angle on the way.

        Args:
            parts: of B hands. model: whose vertices, such as a subset of the coder's model; None = the coder's.
        """
        zero, betas = torch.zeros_like(parts.position), parts.betas
        scale = torch.ones_like(betas[:, 0])
        local = HandParams(zero, self._hand_pose(parts.pose), betas, zero, scale, self.model.side)
        flat = (model or self.model)(local)
        point = self._point if self.layout.point == "palm" else self._wrist(betas)[:, None]
        here, turn = parts.position[:, None], parts.orient.mT
        return here + (flat.vertices - point) @ turn, here + (flat.keypoints - point) @ turn

    def vectors(self, parts: HandParts) -> Tensor:
        """(B, size) of parts."""
        return (self._joined(parts) - self.mean) / self.deviation

    def parts_of(self, vectors: Tensor, betas: Tensor | None = None) -> HandParts:
        """Parts of vectors (B, size), rotations in 6D made orthogonal by Gram and Schmidt; `betas` as for `decode`."""
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise InputError(f"hand code: expected vectors (B, {self.size}), got {tuple(vectors.shape)}")
        position, orient, pose, *shape = (vectors * self.deviation + self.mean).split(self._sizes, dim=1)
        matrix = rotation_6d_to_matrix(orient) if orient.shape[1] == 6 else axis_angle_to_matrix(orient)
        if shape:
            betas = shape[0]
        elif betas is None:
            betas = vectors.new_zeros(len(vectors), NUM_BETAS)
        return HandParts(position, matrix, pose, betas.expand(len(vectors), NUM_BETAS))

    def description(self) -> dict[str, Any]:
        """Layout, mean and deviation as JSON, for a weight file's card."""
        return {
            "layout": asdict(self.layout),
            "mean": [float(value) for value in self.mean],
            "deviation": [float(value) for value in self.deviation],
        }

    @staticmethod
    def of_description(model: HandModel, description: Mapping[str, Any]) -> HandCoder:
        """The coder that `description` describes.

        Raises:
            InputError: it is incomplete or of something else.
        """
        try:
            layout = HandLayout(**description["layout"])
            numbers = [torch.tensor(description[name], dtype=torch.float64) for name in ("mean", "deviation")]
        except (KeyError, TypeError, ValueError) as error:
            known = ", ".join(field.name for field in fields(HandLayout))
            raise InputError(
                f"hand code: expected a layout ({known}), a mean and a deviation; got {sorted(description)} ({error})"
            ) from error
        return HandCoder(model, layout, *numbers)

    def _joined(self, parts: HandParts) -> Tensor:
        sixth = self.layout.orient == "rotation_6d"
        orient = matrix_to_rotation_6d(parts.orient) if sixth else matrix_to_axis_angle(parts.orient)
        shape = [parts.betas] if self.layout.shape else []
        return torch.cat([parts.position, orient, parts.pose, *shape], dim=1)

    def _linear_pose(self) -> tuple[Tensor, Tensor]:
        """(n, 45) and (45,): hand_pose = offset + numbers @ basis, of all but rotations in 6D."""
        model = self.model
        eye = torch.eye(NUM_POSE, dtype=model.dtype, device=model.device)
        if self.layout.pose == "freedom":
            matrix = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model)).matrix
            return torch.as_tensor(matrix, dtype=model.dtype, device=model.device), 0.0 * eye[0]
        if self.layout.pose == "pca":
            return model.hands_components[: self.layout.components], model.hands_mean
        return eye, 0.0 * eye[0]

    def _pose_size(self) -> int:
        return 6 * (NUM_JOINTS - 1) if self.layout.pose == "rotation_6d" else len(self._basis)

    def _pose_numbers(self, hand_pose: Tensor) -> Tensor:
        if self.layout.pose == "rotation_6d":
            joints = hand_pose.unflatten(1, (NUM_JOINTS - 1, 3))
            return matrix_to_rotation_6d(axis_angle_to_matrix(joints)).flatten(1)
        return (hand_pose - self._offset) @ self._inverse

    def _hand_pose(self, numbers: Tensor) -> Tensor:
        if self.layout.pose == "rotation_6d":
            matrix = rotation_6d_to_matrix(numbers.unflatten(1, (NUM_JOINTS - 1, 6)))
            return matrix_to_axis_angle(matrix).flatten(1)
        return self._offset + numbers @ self._basis

    def _wrist(self, betas: Tensor) -> Tensor:
        """(B, 3), m: of hands at the origin."""
        return self.model.rest_joints(betas)[:, 0]
