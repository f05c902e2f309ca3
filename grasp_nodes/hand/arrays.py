"""The arrays that define one MANO-format hand: checked, mirrored, fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_nodes.errors import InputError
from grasp_nodes.hand.keypoints import PARENTS
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, NUM_POSE, NUM_VERTICES, Side

NUM_FACES = 1538

Array = NDArray[np.float64]

_SHAPES: dict[str, tuple[int, ...]] = {
    "v_template": (NUM_VERTICES, 3),
    "shapedirs": (NUM_VERTICES, 3, NUM_BETAS),
    "posedirs": (NUM_VERTICES, 3, 9 * (NUM_JOINTS - 1)),
    "J_regressor": (NUM_JOINTS, NUM_VERTICES),
    "weights": (NUM_VERTICES, NUM_JOINTS),
    "hands_mean": (NUM_POSE,),
    "hands_components": (NUM_POSE, NUM_POSE),
}


@dataclass(frozen=True)
class HandArrays:
    """A hand in the MANO file's terms (Romero et al. 2017), m and rad, right hand: fingers -x, palm -y, thumb +z.

    v_template (778, 3); shapedirs (778, 3, 10) per unit beta; posedirs (778, 3, 135) per entry of R - I of 15 joints;
    J_regressor (16, 778); weights (778, 16), rows sum to 1; faces (1538, 3); hands_mean (45,);
    hands_components (45, 45), one component per row.
    """

    v_template: Array
    shapedirs: Array
    posedirs: Array
    J_regressor: Array
    weights: Array
    faces: NDArray[np.int64]
    hands_mean: Array
    hands_components: Array
    side: Side
    model_id: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the arrays at float32, so that a copy in another file format keeps it."""
        digest = hashlib.sha256()
        for name in (*_SHAPES, "faces"):
            kind = "<i8" if name == "faces" else "<f4"
            value = np.ascontiguousarray(getattr(self, name), dtype=kind)
            if kind == "<f4":
                value = value + np.float32(0)  # -0.0 and 0.0 are the same hand
            digest.update(name.encode() + value.tobytes())
        return digest.hexdigest()


def check_arrays(data: Mapping[str, Any], source: str, side: Side, model_id: str) -> HandArrays:
    """Arrays of a MANO file, checked.

    Args:
        data: the file's entries by MANO's names; `shapedirs` may hold more than 10 shapes, the first 10 are kept.
        source: the file's name for messages.
        side: which hand it is.
        model_id: name of the model.

    Raises:
        InputError: an entry is missing, has another shape or type, is not finite, or is not a MANO hand.
    """
    missing = [name for name in (*_SHAPES, "f", "kintree_table") if name not in data]
    if missing:
        raise InputError(f"{source}: the hand model lacks {', '.join(missing)}; expected a MANO file's entries")
    checked: dict[str, Array] = {}
    for name, shape in _SHAPES.items():
        value = _number_array(data[name], name, source)
        if name == "shapedirs" and value.ndim == 3:
            value = value[:, :, :NUM_BETAS]
        if value.shape != shape:
            raise InputError(f"{source}: {name} has shape {value.shape}, expected {shape}")
        if not np.isfinite(value).all():
            raise InputError(f"{source}: {name} has values that are not finite")
        checked[name] = value
    faces = _number_array(data["f"], "f", source).astype(np.int64)
    if faces.shape != (NUM_FACES, 3) or faces.min() < 0 or faces.max() >= NUM_VERTICES:
        raise InputError(
            f"{source}: f has shape {faces.shape}, expected {(NUM_FACES, 3)} ids of {NUM_VERTICES} vertices"
        )
    tree = _number_array(data["kintree_table"], "kintree_table", source)
    if tree.shape != (2, NUM_JOINTS) or tuple(tree[0, 1:].astype(np.int64)) != PARENTS[1:]:
        raise InputError(f"{source}: kintree_table is not MANO's tree of {NUM_JOINTS} joints (parents {PARENTS})")
    for name, rows in (("weights", checked["weights"]), ("J_regressor", checked["J_regressor"])):
        worst = float(np.abs(rows.sum(1) - 1).max())
        if worst > 1e-3:
            raise InputError(f"{source}: the rows of {name} must sum to 1, one is off by {worst:.3g}")
    return HandArrays(**checked, faces=faces, side=side, model_id=model_id)


def _number_array(value: Any, name: str, source: str) -> Array:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: {name} is not an array of numbers ({error})") from error


def mirror(arrays: HandArrays) -> HandArrays:
    """The other hand: x mirrored, so that equal betas and PCA coefficients give the exact mirror image.

    A rotation vector (a, b, c) of one hand is (a, -b, -c) on the other.
    """
    axis = np.array([-1.0, 1.0, 1.0])
    vector = np.tile([1.0, -1.0, -1.0], NUM_JOINTS - 1)
    matrix = np.tile(np.outer(axis, axis).ravel(), NUM_JOINTS - 1)  # M R M of each joint, row-major
    return replace(
        arrays,
        v_template=arrays.v_template * axis + 0.0,
        shapedirs=arrays.shapedirs * axis[:, None] + 0.0,
        posedirs=arrays.posedirs * axis[:, None] * matrix + 0.0,
        faces=np.ascontiguousarray(arrays.faces[:, ::-1]),
        hands_mean=arrays.hands_mean * vector + 0.0,
        hands_components=arrays.hands_components * vector + 0.0,
        side="left" if arrays.side == "right" else "right",
    )


def shapedirs_disagree_with_template(arrays: HandArrays) -> bool:
    """Whether the shapes move x against y and z: the sign error of the published MANO_LEFT (smplx issue 48).

    Hand length (x) and breadth (z) grow together over any population of hands. So, with a_x and a_z the stretch that
    each shape gives along x and z (least squares against the template), sum over shapes of a_x a_z is positive; with
    the sign of x flipped it is negative.
    """
    centred = arrays.v_template - arrays.v_template.mean(0)
    stretch = np.einsum("vc,vck->ck", centred, arrays.shapedirs) / (centred**2).sum(0)[:, None]
    return bool((stretch[0] * stretch[2]).sum() < 0)
