"""HandModelInfo message of a hand model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from grasp_msgs.msg import HandModelInfo

from grasp_nodes.nodes.conversions.fields import set_array
from grasp_nodes.nodes.conversions.hands import SIDES

if TYPE_CHECKING:
    from grasp_nodes.hand.model import HandModel


def to_hand_model_info(model: HandModel) -> HandModelInfo:
    """What a receiver of HandPose messages needs to know of their model; regions and anchors are not computed."""
    message = HandModelInfo(
        model_id=model.model_id,
        model_fingerprint=model.fingerprint,
        side=SIDES[model.side],
        joint_names=list(model.joint_names),
        keypoint_names=list(model.keypoint_names),
    )
    set_array(message, "faces", model.faces.cpu().numpy().astype(np.uint32))
    set_array(message, "joint_parents", model.parents.cpu().numpy().astype(np.int32))
    return message
