"""MIHO as a whole: HoNet tells poses, PiCR the springs between them, and GeO lets the springs pull.

GeO comes in as an argument typed by `SpringRefiner`, so that whoever puts the parts together chooses its settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.contact.springs import CONTACT_PROBABILITY, AttractiveSprings
from grasp_nodes.errors import InputError
from grasp_nodes.fitting.geo.result import GeoResult
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.geometry.crop_camera import CropCamera
from grasp_nodes.hand.anatomy import mirror_pose
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams, Side
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.miho.canonical_frame import canonical_frame
from grasp_nodes.miho.honet import HandObjectPoses, HoNet
from grasp_nodes.miho.picr import PiCR, PiCROutput
from grasp_nodes.miho.pose_errors import as_pixels
from grasp_nodes.miho.shape_code import mesh_code
from grasp_nodes.objects.model import ObjectModel

MIRROR = np.diag([-1.0, 1.0, 1.0])
LONGEST_SPRING = 0.10
"""m, from a hand's anchor to the object's point, as HoNet places them. It misses the object, seen from the hand, by
67 mm in the mean, which springs are there to mend; what is farther away, half a hand's length, is not held by all that
is known, and springs would drag hand and object through the image."""


class SpringRefiner(Protocol):
    """GeO: moves hands at one object until springs and hand are at rest."""

    def refine(
        self, hands: HandParams, object_model: ObjectModel, springs: AttractiveSprings | None = None
    ) -> GeoResult:
        """Hands in the object's frame, B of them with the springs of each."""
        ...


@dataclass(frozen=True)
class SpringField:
    """What PiCR tells of B objects, each with the same N points: a contact potential field (CPF).

    points: (N, 3), m, object's frame. contact: (B, N) in [0, 1], 0 where the point is not in the image. region: (B, N)
    int64. elasticity: (B, N, 4) in [0, 1], of the anchors of the region.
    """

    points: Tensor
    contact: Tensor
    region: Tensor
    elasticity: Tensor

    @staticmethod
    def of_output(output: PiCROutput, points: Tensor) -> SpringField:
        """From the network's logits."""
        contact = output.contact.sigmoid() * output.in_image
        return SpringField(points, contact, output.region.argmax(dim=2), output.elasticity.sigmoid())

    def springs(self, anchors: HandAnchors, threshold: float = CONTACT_PROBABILITY) -> AttractiveSprings:
        """Algorithm 1, lines 2 to 6."""
        return AttractiveSprings.of_contact(anchors, self.points, self.contact, self.region, self.elasticity, threshold)


@dataclass(frozen=True)
class GraspInView:
    """One hand and one object of one image.

    hands: one hand, in the object's frame. T_camera_object: (4, 4) float64, m. field: of the springs, None without
    PiCR; its points are the object's. refined: whether springs pulled: there are none where PiCR tells no contact, and
    where the hand is farther than `LONGEST_SPRING` from what it is to touch. score: of the hand's detection, 0..1.
    """

    hands: HandParams
    T_camera_object: np.ndarray
    field: SpringField | None = None
    refined: bool = False
    score: float = 1.0

    def hands_in_camera(self, model: HandModel) -> HandParams:
        """The hand in the camera."""
        return move_hands(self.hands, self.T_camera_object, model)


class MihoPipeline:
    """From images of a hand with a known object to their poses.

    Args:
        models: of the hands by side; the networks know right hands, left ones are seen in a mirror.
        honet, picr: networks; picr None = poses are HoNet's alone. refiners: GeO by side, None = no refinement.
        threshold: of contact, from which a point has springs; None = PiCR's own.
    """

    def __init__(
        self,
        models: Mapping[Side, HandModel],
        honet: HoNet,
        picr: PiCR | None = None,
        refiners: Mapping[Side, SpringRefiner] | None = None,
        threshold: float | None = None,
    ) -> None:
        if "right" not in models:
            raise InputError(
                "MIHO: the networks are of right hands: the right hand's model is needed for left ones, too"
            )
        self._models, self._honet, self._picr = models, honet.eval(), picr.eval() if picr is not None else None
        self._refiners = refiners or {}
        own = CONTACT_PROBABILITY if picr is None else picr.threshold
        self._threshold = own if threshold is None else threshold
        self._anchors = {side: HandAnchors.of_model(model) for side, model in models.items()}

    @property
    def size(self) -> int:
        """px, of the crops that the networks read."""
        return self._honet.config.size

    def __call__(
        self, image: np.ndarray, camera: CameraModel, box: np.ndarray, object_model: ObjectModel, side: Side
    ) -> GraspInView:
        """One image.

        Args:
            image: (H, W, 3) uint8, RGB. camera: that took it. box: (4,) px: x0, y0, x1, y1, about hand and object.
            object_model: what is held. side: of the hand.

        Raises:
            InputError: an image of another type or size than the camera's, or a box without extent.
        """
        if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
            raise InputError(
                f"image: expected uint8 {(camera.height, camera.width, 3)}, got {image.dtype} {image.shape}"
            )
        crop = CropCamera.around(box, camera, self.size)
        cut = crop.cut(image, camera)
        found = self.crops(cut[None], np.array([crop.focal]), object_model, side)[0]
        pose = found.T_camera_object.copy()
        pose[:3] = crop.R_crop_camera.T @ pose[:3]
        return replace(found, T_camera_object=pose)

    def crops(
        self, images: np.ndarray, focal: np.ndarray, object_model: ObjectModel, side: Side = "right"
    ) -> list[GraspInView]:
        """Crops of one object.

        Args:
            images: (B, S, S, 3) uint8, RGB. focal: (B,) px; principal points are the images' middles.
        """
        if side not in self._models:
            raise InputError(f"MIHO: there is no model of a {side} hand")
        flip = MIRROR if side == "left" else np.eye(3)
        seen = images[:, :, ::-1] if side == "left" else images
        vertices = np.asarray(object_model.vertices, np.float64) @ flip
        frame = canonical_frame(vertices, object_model.faces)
        points = object_model.points @ flip @ frame[:3, :3].T + frame[:3, 3]
        code = None
        if self._honet.config.condition:
            code = mesh_code(vertices @ frame[:3, :3].T + frame[:3, 3], object_model.faces)
        with torch.no_grad():
            poses, field = self._told(seen, focal, code, points, object_model.normals @ flip @ frame[:3, :3].T)
        return self._placed(poses, field, object_model, frame, side)

    def _told(
        self, images: np.ndarray, focal: np.ndarray, code: np.ndarray | None, points: np.ndarray, normals: np.ndarray
    ) -> tuple[HandObjectPoses, SpringField | None]:
        """What the networks tell of right hands and an object's points in its canonical frame."""
        device = next(self._honet.parameters()).device
        condition = None if code is None else torch.from_numpy(code).to(device).expand(len(images), -1)
        pixels = as_pixels(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        length = torch.from_numpy(np.asarray(focal, np.float32)).to(device)
        surface = torch.from_numpy(points.astype(np.float32)).to(device).expand(len(images), -1, -1)
        poses = self._honet(pixels, condition).poses(length, self.size, self._models["right"], surface)
        if self._picr is None:
            return poses, None
        return poses, self._field(self._picr, pixels, length, poses, points, normals)

    def _field(
        self, picr: PiCR, images: Tensor, focal: Tensor, poses: HandObjectPoses, points: np.ndarray, normals: np.ndarray
    ) -> SpringField:
        own, directions = (torch.from_numpy(value.astype(np.float32)).to(images.device) for value in (points, normals))
        turned = poses.object_rotation.mT
        seen = own @ turned + poses.object_position[:, None]
        output = picr(images, seen, directions @ turned, poses.root, focal)[-1]
        return SpringField.of_output(output, own)

    def _placed(
        self,
        poses: HandObjectPoses,
        field: SpringField | None,
        object_model: ObjectModel,
        T_told_object: np.ndarray,
        side: Side,
    ) -> list[GraspInView]:
        """Poses of the frame that the networks are told of become those of the object, out of the mirror again."""
        count = len(poses.root)
        told = np.tile(np.eye(4), (count, 1, 1))
        told[:, :3, :3] = poses.object_rotation.double().numpy()
        told[:, :3, 3] = poses.object_position.double().numpy()
        seen = told @ T_told_object
        hands = move_hands(poses.hands, np.linalg.inv(seen), self._models["right"])
        flip = np.eye(4)
        if side == "left":
            flip[:3, :3] = MIRROR
            hands = mirrored(hands)
        placed = flip @ seen @ flip
        if field is not None:
            points = torch.from_numpy(np.asarray(object_model.points, np.float32))
            field = replace(field, points=points)
        refiner = self._refiners.get(side)
        if field is None or refiner is None:
            return [_grasp(hands, placed, field, row) for row in range(count)]
        with torch.no_grad():
            anchors = self._anchors[side].positions(self._models[side](hands).vertices)
        springs = field.springs(self._anchors[side], self._threshold).within(anchors, LONGEST_SPRING)
        result = refiner.refine(hands, object_model, springs)
        touched = (springs.count > 0).tolist()
        moved = placed @ result.T_start_object
        return [_grasp(result.hands, moved, field, row, touched[row]) for row in range(count)]


def _grasp(
    hands: HandParams, placed: np.ndarray, field: SpringField | None, row: int, refined: bool = False
) -> GraspInView:
    rows = slice(row, row + 1)
    own = None
    if field is not None:
        own = SpringField(field.points, field.contact[rows], field.region[rows], field.elasticity[rows])
    return GraspInView(hands[rows], placed[row], own, refined)


def mirrored(hands: HandParams) -> HandParams:
    """The same hands of the other side, mirrored along x, as the models of both sides are each other's mirror image."""

    def turned(pose: Tensor) -> Tensor:
        return torch.from_numpy(mirror_pose(pose.numpy())).to(pose.dtype)

    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=hands.transl.dtype)
    other: Side = "left" if hands.side == "right" else "right"
    return HandParams(
        turned(hands.global_orient),
        turned(hands.hand_pose),
        hands.betas,
        hands.transl * flip,
        hands.scale,
        other,
    )
