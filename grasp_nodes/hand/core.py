"""Spheres inside the hand, along its bones: whatever is nearer to a centre than the radius is that deep in the hand.

No vertex of a finger that goes through a thin wall is deep in it. Asked at a few points within the finger, the same
signed distance tells: the wall is there, and the skin is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.geometry.mesh_distance import MeshDistance
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.parameters import HandParams

_FIRST = (0.2, 0.5, 0.8)
_MIDDLE = (0.3, 0.7)
_LAST = (0.2, 0.55)
_PALM = (0.45, 0.7, 0.9)
"""Shares of the way along a bone; keypoints at the tips are on the skin."""
_WRIST, _MIDDLE_KNUCKLE = 0, 9

BONES = (
    *(
        (first + k, first + k + 1, share)
        for first in (1, 5, 9, 13, 17)
        for k, shares in enumerate((_FIRST, _MIDDLE, _LAST))
        for share in shares
    ),
    *((_WRIST, knuckle, share) for knuckle in (5, 9, 13, 17) for share in _PALM),
)
"""From which keypoint to which each centre lies, and how far along."""
CORE_SIZE = len(BONES)


@dataclass(frozen=True, eq=False)
class HandCore:
    """The spheres of one hand model.

    radii: (`CORE_SIZE`,) m, from each centre to the nearest skin of the flat hand of mean shape.
    length: m, of that hand from the wrist to the middle knuckle: the radii of other shapes are in proportion.
    """

    radii: Tensor
    length: float

    @staticmethod
    def of_model(model: HandModel) -> HandCore:
        """Of a full hand of either side."""
        flat = model(HandParams.zeros(1, model.side, model.dtype, model.device))
        keypoints = flat.keypoints.detach()
        surface = MeshDistance(
            flat.vertices[0].detach().double().cpu().numpy(), closed_faces(model.faces.cpu().numpy())
        )
        centers = _centers(keypoints)[0].double().cpu().numpy()
        distance, _, _ = surface.unsigned(np.ascontiguousarray(centers))
        radii = torch.from_numpy(distance).to(dtype=model.dtype, device=model.device)
        return HandCore(radii, float((keypoints[0, _MIDDLE_KNUCKLE] - keypoints[0, _WRIST]).norm()))

    def spheres(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (B, `CORE_SIZE`, 3) and radii (B, `CORE_SIZE`), m, of hands' keypoints (B, 21, 3); differentiable."""
        length = (keypoints[:, _MIDDLE_KNUCKLE] - keypoints[:, _WRIST]).norm(dim=-1, keepdim=True)
        return _centers(keypoints), self.radii.to(keypoints) * (length / self.length)


def _centers(keypoints: Tensor) -> Tensor:
    start, end, share = zip(*BONES, strict=True)
    along = keypoints.new_tensor(share)[:, None]
    return keypoints[:, list(start)] * (1.0 - along) + keypoints[:, list(end)] * along
