"""A batch of hands at one object in the variables of a grasp search: finger angles, a turn and a place of the palm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy
from grasp_nodes.hand.keypoints import FINGERS
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

_BONE_SAMPLES = (0.25, 0.75)
_PALM_SAMPLES = (0.5, 0.75, 0.95)


@dataclass(frozen=True)
class GraspPose:
    """B hands near an object, in its frame.

    angles: (B, D), rad, of `DegreesOfFreedom`. orient: (B, 3, 3), hand frame to object frame. position: (B, 3), m, of
    the hand's pivot, a point in the hollow of the palm. betas: (B, 10).
    rest: (B, 45), rad: what of `hand_pose` the angles cannot say (zero for hands that are made of angles); it stays.
    """

    angles: Tensor
    orient: Tensor
    position: Tensor
    betas: Tensor
    rest: Tensor

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, rows: Tensor | slice) -> GraspPose:
        """Some of the hands."""
        return GraspPose(self.angles[rows], self.orient[rows], self.position[rows], self.betas[rows], self.rest[rows])

    def repeated(self, times: int) -> GraspPose:
        """Each hand `times` times in a row."""
        return self[torch.arange(len(self)).repeat_interleave(times)]

    def with_angles(self, angles: Tensor) -> GraspPose:
        """With other angles (B, D), rad."""
        return replace(self, angles=angles)

    def moved(self, angles: Tensor, turn: Tensor, shift: Tensor) -> GraspPose:
        """With other angles (B, D), turned about the pivot by axis-angle turn (B, 3) and shifted by shift (B, 3), m."""
        return replace(
            self, angles=angles, orient=axis_angle_to_matrix(turn) @ self.orient, position=self.position + shift
        )

    @staticmethod
    def joined(parts: list[GraspPose]) -> GraspPose:
        """One batch of several."""
        names = ("angles", "orient", "position", "betas", "rest")
        return GraspPose(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class GraspHand:
    """A hand model in the variables of `GraspPose`.

    All vertices are computed: at every second one fingertips sink 2 mm deeper into a small object unseen.

    Args:
        model: the full hand, of either side.
    """

    def __init__(self, model: HandModel) -> None:
        self.model = model
        self.freedom = DegreesOfFreedom.of_anatomy(HandAnatomy.of_model(model))
        self._matrix = torch.as_tensor(self.freedom.matrix, dtype=model.dtype, device=model.device)
        self._inverse = torch.linalg.pinv(self._matrix)
        self.low, self.high = (
            torch.as_tensor(limit, dtype=model.dtype, device=model.device)
            for limit in (self.freedom.low, self.freedom.high)
        )
        self._flat = model(HandParams.zeros(1, model.side, model.dtype, model.device))
        # In the hollow of the palm: below the knuckles by 2 cm. There a turn moves fingers and wrist about equally.
        knuckles = self._flat.keypoints[0, [5, 9, 13, 17]].mean(dim=0)
        self.pivot = knuckles + knuckles.new_tensor([0.0, -0.02, 0.0])

    def pose(self, hands: HandParams) -> GraspPose:
        """The variables of hands; `params` gives the same hands back.

        Raises:
            InputError: hands of another side, type or scale, see `check`.
        """
        self.check(hands)
        angles = hands.hand_pose @ self._inverse
        orient = axis_angle_to_matrix(hands.global_orient)
        wrist = self._wrist(hands.betas)
        position = (orient @ (self.pivot - wrist)[..., None])[..., 0] + wrist + hands.transl
        return GraspPose(angles, orient, position, hands.betas, hands.hand_pose - angles @ self._matrix)

    def check(self, hands: HandParams) -> None:
        """Refuse hands that this model cannot pose or that are not of scale 1.

        Raises:
            InputError: another side or dtype than the model's, or another scale than 1.
        """
        model = self.model
        if hands.side != model.side or hands.betas.dtype != model.dtype:
            raise InputError(
                f"grasp search: expected {model.side} hands in {model.dtype}, as {model.model_id} was loaded; got "
                f"{hands.side} ones in {hands.betas.dtype}"
            )
        if not torch.allclose(hands.scale, torch.ones_like(hands.scale)):
            raise InputError("grasp search: expected hands of scale 1: fold the scale into the object's instead")

    def params(self, pose: GraspPose) -> HandParams:
        """The parameters of a batch."""
        wrist = self._wrist(pose.betas)
        return HandParams(
            matrix_to_axis_angle(pose.orient),
            pose.angles @ self._matrix + pose.rest,
            pose.betas,
            pose.position - (pose.orient @ (self.pivot - wrist)[..., None])[..., 0] - wrist,
            torch.ones_like(pose.betas[:, 0]),
            self.model.side,
        )

    def posed(self, pose: GraspPose) -> tuple[Tensor, Tensor]:
        """Vertices (B, 778, 3) and keypoints (B, 21, 3), m, object frame."""
        zero = torch.zeros_like(pose.position)
        hands = HandParams(
            zero, pose.angles @ self._matrix + pose.rest, pose.betas, zero, zero.new_ones(len(zero)), self.model.side
        )
        output = self.model(hands)
        turned = pose.orient.transpose(1, 2)
        place = pose.position[:, None]
        return (output.vertices - self.pivot) @ turned + place, (output.keypoints - self.pivot) @ turned + place

    def _wrist(self, betas: Tensor) -> Tensor:
        flat = replace(HandParams.zeros(len(betas), self.model.side, self.model.dtype, self.model.device), betas=betas)
        return self.model.joints(flat)[0][:, 0]

    @cached_property
    def spheres(self) -> SelfSpheres:
        """Spheres by which the hand feels itself and thin walls."""
        return SelfSpheres.of_hand(self._flat.keypoints[0], self._flat.vertices[0])


@dataclass(frozen=True)
class SelfSpheres:
    """Spheres between keypoints: seven in each finger, three in each metacarpal.

    Each reaches to the nearest vertex of the flat hand of mean shape, so that it stands out of the skin between
    vertices by up to 2 mm: the search's quick feelers, not a measure.

    first, second: (S,) keypoints, share: (S,) of the way between. radius: (S,) m.
    pairs: (2, P): spheres of different fingers, or of a finger and the palm, that are apart in the flat hand.
    """

    first: Tensor
    second: Tensor
    share: Tensor
    radius: Tensor
    pairs: Tensor

    @staticmethod
    def of_hand(keypoints: Tensor, vertices: Tensor) -> SelfSpheres:
        """From the flat hand: keypoints (21, 3) and all vertices (V, 3), m."""
        rows: list[tuple[int, int, float, int]] = []
        for number in range(len(FINGERS)):
            base = 1 + 4 * number
            rows += [(base + bone, base + bone + 1, share, number) for bone in range(3) for share in _BONE_SAMPLES]
            rows.append((base + 2, base + 3, 0.95, number))
            if number:
                rows += [(0, base, share, len(FINGERS)) for share in _PALM_SAMPLES]
        first, second = (torch.tensor([row[k] for row in rows]) for k in (0, 1))
        share, chain = vertices.new_tensor([row[2] for row in rows]), torch.tensor([row[3] for row in rows])
        centres = torch.lerp(keypoints[first], keypoints[second], share[:, None])
        radius = torch.cdist(centres, vertices).amin(dim=1)
        apart = torch.cdist(centres, centres) > radius + radius[:, None]
        pairs = torch.nonzero((chain[:, None] < chain[None]) & apart).T
        return SelfSpheres(first, second, share, radius, pairs)

    def centres(self, keypoints: Tensor) -> Tensor:
        """(B, S, 3), m, of hands with keypoints (B, 21, 3), m."""
        return torch.lerp(keypoints[:, self.first], keypoints[:, self.second], self.share[:, None])

    def overlap(self, centres: Tensor) -> Tensor:
        """How far the spheres of each pair are in each other: (B, P) m, negative = apart; centres: (B, S, 3), m."""
        one, other = self.pairs
        return self.radius[one] + self.radius[other] - (centres[:, one] - centres[:, other]).norm(dim=-1)
