"""HoNet: hand and object poses from one image, after MIHO (Yang et al., ICCV 2021, section 5.1) and MeshRegNet.

37 coefficients in the paper's size: 6 of the object's pose, 6 of the wrist's, 15 of the hand's posture (principal
components), 10 of its shape. Depth is told by weak perspective: the network sees how large things are in the crop, so
it tells how wide the view is where the hand is, and the focal length makes metres of it.

Where we deviate: rotations can be told in the continuous 6D form, the object's depth is told relative to the hand's,
and the network can be told the object's shape (`shape_code`), since our objects are of no fixed list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_6d_to_matrix
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams
from grasp_nodes.miho.backbones import RESNET_18, Backbone, BackboneConfig
from grasp_nodes.miho.second_moments import rotation_of_moments, second_moments
from grasp_nodes.miho.shape_code import CODE_SIZE

ROOT_JOINT = 4
"""The knuckle of the middle finger, in MANO's order: it lies near the middle of what is seen."""
NUM_PCA = 15
WIDTH_AT_ROOT = 0.3
"""m: how wide the view usually is where the hand is."""
WIDTH_SCALE = 0.3
DEPTH_SCALE = 0.05
"""m: unit of the object's depth relative to the hand's."""
MOMENTS_SCALE = 0.3
"""Unit of the object's second moments."""
PIXEL_MEAN, PIXEL_SCALE = 0.45, 0.25
_SYMMETRIC = [[0, 1, 2], [1, 3, 4], [2, 4, 5]]
"""Places of six coefficients in a symmetric matrix."""


@dataclass(frozen=True)
class HoNetConfig:
    """Sizes.

    backbone: see there. size: px, of the square crops. condition: numbers that tell the object, 0 = none, as in the
    paper; a shape code's length, or that of a list of known objects. hidden: of the two layers before the coefficients.
    rotation: ``axis_angle`` has 3 coefficients, as the paper; ``six`` is continuous (Zhou et al., CVPR 2019).
    in_hand: whether the object's rotation is told relative to the hand's: hands hold long things across the palm, so
    that knowing the hand is half of knowing the object. moments: whether the object's second moments in the camera are
    told as well, see `second_moments`.
    """

    backbone: BackboneConfig = field(default_factory=lambda: RESNET_18)
    size: int = 256
    condition: int = 0
    hidden: tuple[int, int] = (512, 256)
    rotation: Literal["axis_angle", "six"] = "axis_angle"
    in_hand: bool = False
    moments: bool = False

    @property
    def num_coefficients(self) -> int:
        """37 with axis-angle rotations and without moments."""
        return 6 + 2 * self.rotation_size + NUM_PCA + NUM_BETAS + (6 if self.moments else 0)

    @property
    def rotation_size(self) -> int:
        """Of one rotation."""
        return 3 if self.rotation == "axis_angle" else 6


PAPER_HONET = HoNetConfig()
SMALL_HONET = HoNetConfig(
    BackboneConfig(stem=32, widths=(32, 64, 128, 224), blocks=(2, 2, 2, 2), pool="grid", squeezed=48),
    size=128,
    condition=CODE_SIZE + 3,
    hidden=(256, 192),
    rotation="six",
    in_hand=True,
    moments=True,
)


@dataclass(frozen=True)
class HandObjectPoses:
    """B hands and objects in the crop's camera.

    hands: right hands. hand_pca: (B, 15), what `hands.hand_pose` was made of. object_rotation: (B, 3, 3) and
    object_position: (B, 3), m, of T_camera_object. root: (B, 3), m, the middle knuckle.
    """

    hands: HandParams
    hand_pca: Tensor
    root: Tensor
    object_rotation: Tensor
    object_position: Tensor


@dataclass(frozen=True)
class HoNetOutput:
    """Of B crops, each in units in which it is about one; see `poses`.

    hand_place, object_place: (B, 2), where root and object's origin are in the crop, -1..1 from border to border.
    width: (B,), logarithm of the view's width at the root. depth: (B,), of the object beyond the root.
    hand_rotation, object_rotation: (B, 3, 3). pca: (B, 15). betas: (B, 10). moments: (B, 3, 3), the object's in the
    camera, None where the network does not tell them.
    """

    hand_place: Tensor
    width: Tensor
    hand_rotation: Tensor
    pca: Tensor
    betas: Tensor
    object_place: Tensor
    depth: Tensor
    object_rotation: Tensor
    moments: Tensor | None = None

    def poses(self, focal: Tensor, size: int, model: HandModel, points: Tensor) -> HandObjectPoses:
        """What the coefficients mean.

        Args:
            focal: (B,), px, of the crops' cameras. size: px, of the crops. model: of the right hand, full or not.
            points: (B, N, 3), m, of the objects' surfaces, canonical frame: what told moments are compared with.
        """
        root = _lift(self.hand_place, view_width(self.width) * focal / size, focal, size)
        depth = root[:, 2] + DEPTH_SCALE * self.depth
        position = _lift(self.object_place, depth, focal, size)
        hands = place_root(self.hand_rotation, self.pca, self.betas, root, model)
        rotation = self.object_rotation
        if self.moments is not None:
            rotation = rotation_of_moments(self.moments, second_moments(points), rotation)
        return HandObjectPoses(hands, self.pca, root, rotation, position)


class HoNet(nn.Module):
    """The network."""

    def __init__(self, config: HoNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, config.size)
        told = 0
        if config.condition:
            told = config.hidden[1] // 2
            self.telling: nn.Module = nn.Sequential(
                *(nn.Linear(config.condition, config.hidden[1]), nn.ReLU(), nn.Linear(config.hidden[1], told)),
                nn.ReLU(),
            )
            # Telling multiplies what is seen, too: which features matter depends on what the object is.
            self.weighing = nn.Linear(told, 2 * self.backbone.num_features)
        first, second = config.hidden
        self.head = nn.Sequential(
            *(nn.Linear(self.backbone.num_features + told, first), nn.ReLU()),
            *(nn.Linear(first, second), nn.ReLU(), nn.Linear(second, config.num_coefficients)),
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)
        if config.rotation == "six":
            with torch.no_grad():
                for start in (3, 12):  # the identity
                    last.bias[start], last.bias[start + 4] = 1.0, 1.0

    def forward(self, images: Tensor, condition: Tensor | None = None) -> HoNetOutput:
        """Coefficients of crops.

        Args:
            images: (B, 3, S, S) in [0, 1], of right hands. condition: (B, C), where the network takes one.

        Raises:
            InputError: images or condition of another size than the network's.
        """
        size, told = self.config.size, self.config.condition
        if images.shape[1:] != (3, size, size):
            raise InputError(f"HoNet: expected images (B, 3, {size}, {size}), got {tuple(images.shape)}")
        given = () if condition is None else tuple(condition.shape[1:])
        if given != ((told,) if told else ()):
            raise InputError(f"HoNet: this network takes a condition of {told} numbers, got shape {given}")
        pixels = ((images - PIXEL_MEAN) / PIXEL_SCALE).contiguous(memory_format=torch.channels_last)
        features = self.backbone(pixels)
        if condition is not None:
            known = self.telling(condition)
            scale, shift = self.weighing(known).chunk(2, dim=1)
            features = torch.cat([features * (1 + scale) + shift, known], dim=1)
        values = self.head(features).float()
        turn = self.config.rotation_size
        sizes = (2, 1, turn, 2, 1, turn, NUM_PCA, NUM_BETAS, 6 if self.config.moments else 0)
        place, width, hand, object_place, depth, thing, pca, betas, moments = values.split(sizes, dim=1)
        hand_rotation, object_rotation = self._rotation(hand), self._rotation(thing)
        if self.config.in_hand:
            # Without a way back: what is wrong with the object is not mended by turning the hand.
            with torch.autocast(values.device.type, enabled=False):
                object_rotation = hand_rotation.detach() @ object_rotation
        return HoNetOutput(
            *(place, width[:, 0], hand_rotation, pca, betas),
            *(object_place, depth[:, 0], object_rotation),
            MOMENTS_SCALE * moments[:, _SYMMETRIC] if self.config.moments else None,
        )

    def _rotation(self, values: Tensor) -> Tensor:
        return rotation_6d_to_matrix(values) if self.config.rotation == "six" else axis_angle_to_matrix(values)


def place_root(rotation: Tensor, pca: Tensor, betas: Tensor, root: Tensor, model: HandModel) -> HandParams:
    """Right hands whose middle knuckle is at given places.

    Args:
        rotation: (B, 3, 3) of the wrist. pca: (B, 15). betas: (B, 10). root: (B, 3), m.
    """
    zeros = torch.zeros_like(root)
    pose = model.pose_from_pca(pca)
    hands = HandParams(matrix_to_axis_angle(rotation), pose, betas, zeros, torch.ones_like(root[:, 0]), "right")
    joints, _ = model.joints(hands)
    return HandParams(hands.global_orient, pose, betas, root - joints[:, ROOT_JOINT], hands.scale, "right")


def view_width(value: Tensor) -> Tensor:
    """m, of the network's logarithm."""
    return WIDTH_AT_ROOT * torch.exp(WIDTH_SCALE * value)


def width_value(width: Tensor) -> Tensor:
    """The inverse of `view_width`."""
    return torch.log(width / WIDTH_AT_ROOT) / WIDTH_SCALE


def _lift(place: Tensor, depth: Tensor, focal: Tensor, size: int) -> Tensor:
    """(B, 3), m, of places in the crop and depths along the optical axis."""
    plane = place * (0.5 * size) / focal[:, None]
    return torch.cat([plane * depth[:, None], depth[:, None]], dim=1)


def place_in_crop(points: Tensor, focal: Tensor, size: int) -> Tensor:
    """(B, 2) of points (B, 3), m: the inverse of lifting."""
    return points[:, :2] / points[:, 2:] * focal[:, None] / (0.5 * size)
