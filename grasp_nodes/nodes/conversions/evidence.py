"""Evidence messages <-> `Evidence`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from grasp_msgs.msg import Evidence as EvidenceMessage
from grasp_msgs.msg import HandEvidence as HandEvidenceMessage
from grasp_msgs.msg import HandPose, InstanceMask
from grasp_msgs.msg import ObjectEvidence as ObjectEvidenceMessage

from grasp_nodes.errors import InputError
from grasp_nodes.nodes.conversions.fields import checked_share, finite, from_time, read_array, set_array, to_header
from grasp_nodes.nodes.conversions.images import to_camera_info, to_camera_model
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence

SIDES: dict[Literal["right", "left", "unknown"], int] = {
    "unknown": HandPose.SIDE_UNKNOWN,
    "right": HandPose.SIDE_RIGHT,
    "left": HandPose.SIDE_LEFT,
}


def to_instance_mask(mask: np.ndarray | None) -> InstanceMask:
    """Crop of a (H, W) bool mask to its true pixels; None and an empty mask give width 0."""
    if mask is None or not mask.any():
        return InstanceMask()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    message = InstanceMask(
        x_offset=int(columns[0]), y_offset=int(rows[0]), width=int(crop.shape[1]), height=int(crop.shape[0])
    )
    set_array(message, "pixels", crop.astype(np.uint8))
    return message


def from_instance_mask(message: InstanceMask, width: int, height: int) -> np.ndarray | None:
    """Mask (H, W) bool of an image of the given size; None where the message has none.

    Raises:
        InputError: the crop does not fit the image, or its data not the crop.
    """
    if not message.width or not message.height:
        return None
    right, bottom = message.x_offset + message.width, message.y_offset + message.height
    if right > width or bottom > height:
        raise InputError(
            f"mask: crop of {message.width}x{message.height} at ({message.x_offset}, {message.y_offset}) does not fit "
            f"an image of {width}x{height}"
        )
    mask = np.zeros((height, width), bool)
    crop = read_array(message, "pixels", np.uint8, (message.height, message.width))
    mask[message.y_offset : bottom, message.x_offset : right] = crop != 0
    return mask


def to_evidence(evidence: Evidence) -> EvidenceMessage:
    """Message of the evidence; masks are cropped."""
    header = to_header(evidence.stamp, evidence.camera.frame_id)
    return EvidenceMessage(
        header=header,
        camera_info=to_camera_info(evidence.camera, evidence.stamp),
        is_metric=bool(evidence.camera.is_metric),
        hands=[_to_hand(hand) for hand in evidence.hands],
        objects=[_to_object(found) for found in evidence.objects],
    )


def from_evidence(message: EvidenceMessage) -> Evidence:
    """The evidence of a message.

    Raises:
        InputError: a camera without calibration, numbers that are not finite, a mask that does not fit the image, or a
            value outside its range.
    """
    camera = to_camera_model(message.camera_info, is_metric=bool(message.is_metric))
    return Evidence(
        stamp=from_time(message.header.stamp),
        camera=camera,
        hands=tuple(_from_hand(hand, camera.width, camera.height) for hand in message.hands),
        objects=tuple(_from_object(found, camera.width, camera.height) for found in message.objects),
    )


def _to_hand(hand: HandEvidence) -> HandEvidenceMessage:
    message = HandEvidenceMessage(
        side=SIDES[hand.side],
        side_score=float(hand.side_score),
        score=float(hand.score),
        track_id=int(hand.track_id),
        mask=to_instance_mask(hand.mask),
    )
    set_array(message, "box", hand.box)
    set_array(message, "keypoints", hand.keypoints)
    set_array(message, "keypoints_3d", np.full((21, 3), np.nan) if hand.keypoints_3d is None else hand.keypoints_3d)
    return message


def _from_hand(message: HandEvidenceMessage, width: int, height: int) -> HandEvidence:
    side = next((name for name, value in SIDES.items() if value == message.side), None)
    if side is None:
        raise InputError(f"HandEvidence.side: expected one of {sorted(SIDES.values())}, got {message.side}")
    keypoints_3d = read_array(message, "keypoints_3d", np.float32, (21, 3)).copy()
    return HandEvidence(
        side=side,
        score=checked_share("HandEvidence.score", message.score),
        side_score=checked_share("HandEvidence.side_score", message.side_score),
        box=finite("HandEvidence.box", read_array(message, "box", np.float32, (4,)).copy()),
        keypoints=finite("HandEvidence.keypoints", read_array(message, "keypoints", np.float32, (21, 2)).copy()),
        keypoints_3d=None if np.isnan(keypoints_3d).all() else keypoints_3d,
        mask=from_instance_mask(message.mask, width, height),
        track_id=int(message.track_id),
    )


def _to_object(found: ObjectEvidence) -> ObjectEvidenceMessage:
    message = ObjectEvidenceMessage(
        object_id=found.object_id,
        score=float(found.score),
        track_id=int(found.track_id),
        mask=to_instance_mask(found.mask),
    )
    set_array(message, "box", found.box)
    return message


def _from_object(message: ObjectEvidenceMessage, width: int, height: int) -> ObjectEvidence:
    return ObjectEvidence(
        object_id=message.object_id,
        score=checked_share("ObjectEvidence.score", message.score),
        box=finite("ObjectEvidence.box", read_array(message, "box", np.float32, (4,)).copy()),
        mask=from_instance_mask(message.mask, width, height),
        track_id=int(message.track_id),
    )
