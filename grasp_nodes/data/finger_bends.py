"""How the searches of the rendered clips turn fingers: the degrees of freedom of the right hand from its keypoints."""

from __future__ import annotations

import numpy as np

from grasp_nodes.hand.anatomy import DegreesOfFreedom, HandAnatomy, mirror_pose

__all__ = ["FingerBends", "mirror_pose"]


class FingerBends(DegreesOfFreedom):
    """Degrees of freedom of one right hand; for the left hand, mirror the pose with `mirror_pose`."""

    @staticmethod
    def of_right_hand(rest_keypoints: np.ndarray) -> FingerBends:
        """From the 21 keypoints of the flat right hand, (21, 3), m."""
        found = DegreesOfFreedom.of_anatomy(HandAnatomy.of_keypoints(rest_keypoints))
        return FingerBends(found.names, found.axes, found.joint, found.low, found.high)
