"""Where hands touch what they grasp: pads, palmar sides of the other phalanges, the index finger's side and the palm.

Chosen on the flat hand from skinning weights, places along the bones and directions of the skin, so that the same rule
holds for every hand model of MANO's skeleton.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.mesh import vertex_normals
from grasp_nodes.hand.anatomy import HandAnatomy, keypoints_at_rest
from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.model import HandModel

PHALANGES = ("proximal", "middle", "pad")
"""Patches of a finger's palmar side, from the palm outwards; the thumb's first bone is its metacarpal: ``proximal``."""
PALM = "palm"
INDEX_SIDE = "index_side"
"""The side of the index finger that looks to the thumb, around its last joint: what a key is pressed against."""
ALONG_BONE = {"proximal": (0.25, 0.95), "middle": (0.15, 0.9), "pad": (0.25, 1.0)}
"""Range of a patch, in shares of the bone's length from its joint."""
ALONG_INDEX_SIDE = {1: (0.5, 1.1), 2: (-0.1, 0.5)}
"""The same of `INDEX_SIDE` on the middle and the last phalanx."""
FACING = 0.5
"""Least cosine between a vertex' normal and the direction its patch faces."""
PAD_TILT = 0.4
"""A pad looks so far to the tip: fingers that oppose each other meet with the far halves of their pads."""

_cached: WeakKeyDictionary[HandModel, dict[str, np.ndarray]] = WeakKeyDictionary()


def contact_patches(model: HandModel) -> dict[str, np.ndarray]:
    """Vertex ids of each patch: ``thumb_pad``, ``index_proximal``, ..., `INDEX_SIDE` and `PALM`.

    Args:
        model: a full hand of either side.

    Returns:
        name: (n,) int64, ascending. Computed once for each model; do not write into it.

    Raises:
        InputError: a patch is empty: not a hand in MANO's rest pose.
    """
    if model not in _cached:
        _cached[model] = _chosen(model)
    return _cached[model]


def patch_contact(vertices: Tensor, faces: Tensor, patch: np.ndarray) -> tuple[Tensor, Tensor]:
    """Where a flat surface would touch a patch that is pressed against it, and where the patch faces; differentiable.

    Args:
        vertices: (B, V, 3), m. faces: (F, 3) of the hand. patch: (n,) vertex ids.

    Returns:
        (B, 3), m: the patch's mean vertex, lifted to its highest one along the normal.
        (B, 3), unit: mean outward normal of the faces around the patch, weighted by area.
    """
    inside = np.zeros(vertices.shape[1], bool)
    inside[patch] = True
    chosen = faces[torch.from_numpy(inside[faces.cpu().numpy()].any(axis=1)).to(faces.device)]
    corners = vertices[:, chosen]
    area = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]).sum(dim=1)
    normal = torch.nn.functional.normalize(area, dim=-1)
    skin = vertices[:, torch.as_tensor(patch, device=vertices.device)]
    center = skin.mean(dim=1)
    height = ((skin - center[:, None]) * normal[:, None]).sum(dim=-1).amax(dim=1)
    return center + height[:, None] * normal, normal


def _chosen(model: HandModel) -> dict[str, np.ndarray]:
    arrays = model.arrays
    points = arrays.v_template
    # Frames of a left hand are those of the right one turned by the mirror: each axis looks the other way.
    outward = (1.0 if model.side == "right" else -1.0) * HandAnatomy.of_model(model).frames
    normals = vertex_normals(points, arrays.faces)
    rest = keypoints_at_rest(arrays.J_regressor @ points, points)
    part = arrays.weights.argmax(axis=1)
    patches: dict[str, np.ndarray] = {}

    def within(joint: int, origin: np.ndarray, tip: np.ndarray, share: tuple[float, float]) -> np.ndarray:
        along = (points - origin) @ (tip - origin) / ((tip - origin) @ (tip - origin))
        return (part == joint) & (along > share[0]) & (along < share[1])

    side = np.zeros(len(points), bool)
    for row, finger in enumerate(FINGERS):
        for k, name in enumerate(PHALANGES):
            joint = FINGER_JOINTS[finger][k]
            origin, tip = rest[1 + 4 * row + k], rest[2 + 4 * row + k]
            facing = -outward[joint - 1, :, 1] - (PAD_TILT if name == "pad" else 0.0) * outward[joint - 1, :, 0]
            facing /= np.linalg.norm(facing)
            patches[f"{finger}_{name}"] = within(joint, origin, tip, ALONG_BONE[name]) & (normals @ facing > FACING)
            if finger == "index" and k in ALONG_INDEX_SIDE:
                radial = outward[joint - 1, :, 2]
                side |= within(joint, origin, tip, ALONG_INDEX_SIDE[k]) & (normals @ radial > FACING)
    patches[INDEX_SIDE] = side
    # The palm: the hollow and the pads below the fingers, without the heel at the wrist.
    knuckles, wrist = rest[[5, 9, 13, 17]].mean(axis=0), rest[0]
    up = outward[[FINGER_JOINTS[finger][0] - 1 for finger in FINGERS[1:]], :, 1].mean(axis=0)
    patches[PALM] = within(0, wrist, knuckles, (0.4, 1.2)) & (normals @ -up / np.linalg.norm(up) > FACING)
    empty = sorted(name for name, chosen in patches.items() if not chosen.any())
    if empty:
        raise InputError(f"hand model {model.model_id}: no skin found for {', '.join(empty)}; expected a MANO hand")
    return {name: np.flatnonzero(chosen) for name, chosen in patches.items()}
