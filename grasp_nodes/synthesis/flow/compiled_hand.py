"""The hand that feels, laid out for the compiled loops of `compiled_slope`.

For a CPU, where torch would call hundreds of small operations for one hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.arrays import HandArrays
from grasp_nodes.hand.codes import HandCoder, HandParts
from grasp_nodes.hand.core import BONES, HandCore
from grasp_nodes.hand.keypoints import FINGERS, KEYPOINT_ORDER, PARENTS, TIP_VERTICES
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS, HandParams
from grasp_nodes.synthesis.flow.compiled_slope import Code, Cost, Objects, Shapes, Terms, descend, feel
from grasp_nodes.synthesis.flow.fields import float64_array

_MIDDLE_KNUCKLE = KEYPOINT_ORDER[9]
_LINEAR_POSES = ("freedom", "axis_angle", "pca")
_LEAST_SHARE = 8
"""Hands that are worth a thread."""
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class _Rest:
    """By betas, all float64: value = mean + betas @ by_beta.

    joints: (16, 3) and (10, 16, 3), m. local: (T, 3) and (10, T, 3), m, of the terms, from their joints.
    radii: (N,), per m of the hand's length, 0 = on the skin.
    """

    joints: np.ndarray
    joints_by_beta: np.ndarray
    local: np.ndarray
    local_by_beta: np.ndarray
    radii: np.ndarray


class CompiledHand:
    """What `HandPoints` and `Guidance` ask of hand vectors on a CPU, one call for all of it.

    Made by `of`, where the coder's vectors and its hand allow it.
    """

    def __init__(self, coder: HandCoder, terms: Terms, rest: _Rest) -> None:
        self._coder, self._terms, self._rest = coder, terms, rest
        self._code = _code(coder)
        self._last: tuple[bytes, Shapes] | None = None

    @staticmethod
    def of(coder: HandCoder, ids: Sequence[int], core: HandCore | None, pads: int) -> CompiledHand | None:
        """None for hands with pose correctives, and for vectors whose pose is not linear or that hold the shape.

        Args:
            coder: of the vectors. ids: of the vertices felt with, the pads of five fingers first, `pads` each.
            core: felt with, too, or None.
        """
        layout, arrays = coder.layout, coder.model.arrays
        if layout.shape or layout.orient != "rotation_6d" or layout.pose not in _LINEAR_POSES or arrays.posedirs.any():
            return None
        return CompiledHand(coder, *_laid_out(arrays, ids, core, pads))

    def feel(self, vectors: Tensor, betas: Tensor, objects: Objects) -> tuple[Tensor, Tensor]:
        """Clearances (B, N), m, and slopes (B, N, 3) in the hands' frames, in the vectors' dtype.

        Args:
            vectors: (B, D). betas: (B, 10). objects: `DistanceField.arrays` of the B hands.

        Raises:
            InputError: other shapes.
        """
        self._check(vectors, betas, objects)
        clearance, slope = self._in_shares(feel, vectors, betas, objects)
        return torch.from_numpy(clearance).to(vectors.dtype), torch.from_numpy(slope).to(vectors.dtype)

    def descend(
        self, vectors: Tensor, betas: Tensor, objects: Objects, cost: Cost, rounds: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Polyak's steps down the energy.

        Args:
            vectors, betas, objects: as for `feel`. cost: of the energy. rounds: 1 or more, so many steps.

        Returns:
            (B, D), moved, in the vectors' dtype; energy (B,) and slope (B, D), float64, where the last step began.

        Raises:
            InputError: as `feel`.
        """
        self._check(vectors, betas, objects)
        found = self._in_shares(descend, vectors, betas, objects, cost, rounds)
        moved, energy, slope = (torch.from_numpy(one) for one in found)
        return moved.to(vectors.dtype), energy, slope

    def _in_shares(
        self, loop: Callable[..., Arrays], vectors: Tensor, betas: Tensor, objects: Objects, *settings: object
    ) -> Arrays:
        """What a compiled loop over hands gives, some of them on each of torch's threads: every hand is by itself."""
        rows, shapes = float64_array(vectors), self._shapes(betas)
        shares = min(torch.get_num_threads(), len(rows) // _LEAST_SHARE)
        if shares < 2:
            return loop(rows, self._terms, self._code, shapes, objects, *settings)

        def one(share: np.ndarray) -> Arrays:
            part = slice(share[0], share[-1] + 1)
            own = shapes if len(shapes.joints) == 1 else Shapes(*(array[part] for array in shapes))
            there = objects._replace(which=objects.which[part], turn=objects.turn[part], shift=objects.shift[part])
            return loop(rows[part], self._terms, self._code, own, there, *settings)

        with ThreadPoolExecutor(shares) as pool:
            found = list(pool.map(one, np.array_split(np.arange(len(rows)), shares)))
        return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))

    def _check(self, vectors: Tensor, betas: Tensor, objects: Objects) -> None:
        """Compiled loops would read beyond the end."""
        count, shapes = len(objects.which), (tuple(vectors.shape), tuple(betas.shape))
        if shapes != ((count, self._coder.size), (count, NUM_BETAS)):
            raise InputError(
                f"hands at {count} objects: expected vectors ({count}, {self._coder.size}) and betas ({count}, "
                f"{NUM_BETAS}), got {shapes[0]} and {shapes[1]}"
            )

    def _shapes(self, betas: Tensor) -> Shapes:
        """One shape where all hands have the same; the last one is kept, as it is asked for at every step."""
        rows = float64_array(betas)
        if (rows == rows[:1]).all():
            rows = rows[:1]
        key, last = rows.tobytes(), self._last
        if last is None or last[0] != key:
            last = key, self._shaped(rows)
            self._last = last
        return last[1]

    def _shaped(self, betas: np.ndarray) -> Shapes:
        rest = self._rest
        joints = rest.joints + np.tensordot(betas, rest.joints_by_beta, 1)
        length = np.linalg.norm(joints[:, _MIDDLE_KNUCKLE] - joints[:, 0], axis=1)
        like = self._coder.mean
        hands = HandParams.zeros(len(betas), self._coder.model.side, like.dtype, like.device)
        pivot = self._coder.parts(replace(hands, betas=torch.from_numpy(betas).to(like))).position
        local = rest.local + np.tensordot(betas, rest.local_by_beta, 1)
        return Shapes(joints, local, length[:, None] * rest.radii, float64_array(pivot))


def _code(coder: HandCoder) -> Code:
    """Asks the coder for the poses of unit vectors: it is linear."""
    numbers = coder.size - 9
    like = coder.mean
    pose = torch.cat([like.new_zeros(1, numbers), torch.eye(numbers).to(like)])
    place, turn = like.new_zeros(len(pose), 3), torch.eye(3).to(like).expand(len(pose), 3, 3)
    poses = float64_array(coder.hands(HandParts(place, turn, pose, like.new_zeros(len(pose), NUM_BETAS))).hand_pose)
    return Code(float64_array(coder.mean), float64_array(coder.deviation), poses[1:] - poses[0], poses[0])


def _laid_out(arrays: HandArrays, ids: Sequence[int], core: HandCore | None, pads: int) -> tuple[Terms, _Rest]:
    weights = arrays.weights / arrays.weights.sum(axis=1, keepdims=True)
    by_beta = np.moveaxis(arrays.shapedirs, 2, 0)
    joints, joints_by_beta = arrays.J_regressor @ arrays.v_template, arrays.J_regressor @ by_beta

    def skin(vertex: int, share: float) -> list[tuple[int, float, int]]:
        """Terms of a vertex: joint, share, row among joints and vertices."""
        return [(int(j), share * weights[vertex, j], NUM_JOINTS + vertex) for j in np.flatnonzero(weights[vertex])]

    def keypoint(number: int, share: float) -> list[tuple[int, float, int]]:
        row = KEYPOINT_ORDER[number]
        if row >= NUM_JOINTS:
            return skin(TIP_VERTICES[FINGERS[row - NUM_JOINTS]], share)
        return [(row, share, row)]

    points = [skin(int(vertex), 1.0) for vertex in ids]
    radii = np.zeros(len(points))
    if core is not None:
        points += [keypoint(start, 1.0 - share) + keypoint(end, share) for start, end, share in BONES]
        radii = np.concatenate([radii, float64_array(core.radii.cpu()) / core.length])
    joint, share, row = (np.array(column) for column in zip(*(term for point in points for term in point), strict=True))
    first = np.cumsum([0, *(len(point) for point in points)])
    places = np.concatenate([joints, arrays.v_template])
    places_by_beta = np.concatenate([joints_by_beta, by_beta], axis=1)
    rest = _Rest(
        joints, joints_by_beta, places[row] - joints[joint], places_by_beta[:, row] - joints_by_beta[:, joint], radii
    )
    return Terms(first, joint, share, np.array(PARENTS), pads), rest
