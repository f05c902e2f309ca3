"""HandModelInfo message of a hand model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from grasp_msgs.msg import HandModelInfo

from grasp_nodes.hand.anchors import REGION_NAMES, anchors_of
from grasp_nodes.nodes.conversions.fields import set_array
from grasp_nodes.nodes.conversions.hands import SIDES

if TYPE_CHECKING:
    from grasp_nodes.hand.model import HandModel


def to_hand_model_info(model: HandModel) -> HandModelInfo:
    """What a receiver of HandPose and ContactMap messages needs to know of their hand model."""
    anchors = anchors_of(model)
    message = HandModelInfo(
        model_id=model.model_id,
        model_fingerprint=model.fingerprint,
        side=SIDES[model.side],
        joint_names=list(model.joint_names),
        keypoint_names=list(model.keypoint_names),
        region_names=list(REGION_NAMES),
    )
    set_array(message, "faces", model.faces.cpu().numpy().astype(np.uint32))
    set_array(message, "joint_parents", model.parents.cpu().numpy().astype(np.int32))
    set_array(message, "anchor_faces", anchors.faces.astype(np.uint32))
    set_array(message, "anchor_weights", anchors.weights.astype(np.float32))
    return message
