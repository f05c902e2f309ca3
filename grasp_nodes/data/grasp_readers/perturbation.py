"""Noisy copies of grasps, as in Perturbed ContactPose: what a refiner of grasps is trained and judged on.

Grady et al., "ContactOpt: Optimizing Contact to Improve Grasps", CVPR 2021, section 4; levels and numbers of copies as
CHOIR's experiments use them. The noise is normal and independent: on the translation, on the wrist's rotation and on
15 PCA coefficients of the pose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from grasp_nodes.data.grasp_readers.splits import Split, split_of
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from grasp_nodes.hand.parameters import NUM_POSE

NUM_COMPONENTS = 15


@dataclass(frozen=True)
class NoiseLevel:
    """Standard deviations. translation: m, each coordinate. rotation: rad, about each axis. pca: each coefficient."""

    translation: float
    rotation: float
    pca: float


NOISE_LEVELS = (NoiseLevel(0.0, 0.0, 0.0), NoiseLevel(0.02, 0.05, 0.3), NoiseLevel(0.05, 0.15, 0.5))
"""By number, as CHOIR counts them."""
CONTACTOPT_NOISE = NoiseLevel(0.05, 0.1, 0.5)
"""What ContactOpt's own script applies; CHOIR's experiments have level 2."""
COPIES: dict[Split, int] = {"train": 16, "val": 4, "test": 4}
"""Noisy versions of each grasp."""


def perturb(
    grasps: LabelledGrasps, level: int | NoiseLevel, seed: int, components: np.ndarray, copies: int = 1
) -> LabelledGrasps:
    """Noisy versions of grasps; row ``i * copies + k`` is the k-th version of grasp i.

    The rotation noise turns the hand about its wrist by an axis-angle vector drawn from a normal distribution.
    ContactOpt adds that vector to the fit's own global orientation, which is the same to first order but depends on
    the frame in which the fit was made.

    Args:
        grasps: N clean grasps. Their metrics are not those of the noisy ones and are left out.
        level: index into `NOISE_LEVELS`, or deviations of your own.
        seed: of the noise; the same grasps and seed give the same noise.
        components: (C, 45), rad per coefficient, the PCA components of the grasps' hand model; the first 15 are used.
        copies: noisy versions of each grasp.

    Raises:
        InputError: no such level, another shape of components, or no copies.
    """
    noise = _level(level)
    if components.ndim != 2 or components.shape[0] < NUM_COMPONENTS or components.shape[1] != NUM_POSE:
        raise InputError(
            f"components: expected shape (C >= {NUM_COMPONENTS}, {NUM_POSE}), got {components.shape}; they are a hand "
            "model's hands_components"
        )
    if copies < 1:
        raise InputError(f"copies: expected at least 1, got {copies}")
    noisy = replace(grasps, metrics={})[np.repeat(np.arange(len(grasps)), copies)]
    hands, count = noisy.hands, len(noisy)
    random = np.random.default_rng(seed)

    def draw(size: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal((count, size))).to(hands.transl)

    shift, turn, bend = draw(3), draw(3), draw(NUM_COMPONENTS)
    basis = torch.from_numpy(np.asarray(components[:NUM_COMPONENTS], np.float64)).to(hands.transl)
    turned = axis_angle_to_matrix(noise.rotation * turn) @ axis_angle_to_matrix(hands.global_orient)
    return replace(
        noisy,
        hands=replace(
            hands,
            global_orient=matrix_to_axis_angle(turned),
            hand_pose=hands.hand_pose + noise.pca * bend @ basis,
            transl=hands.transl + noise.translation * shift,
        ),
        attributes={
            **grasps.attributes,
            "noise_translation_m": f"{noise.translation:g}",
            "noise_rotation_rad": f"{noise.rotation:g}",
            "noise_pca": f"{noise.pca:g}",
            "noise_seed": str(seed),
            "noise_copies": str(copies),
        },
    )


@dataclass(frozen=True, eq=False)
class PerturbedSplit:
    """One split of a perturbed data set: `noisy` row i is a version of `clean` row i."""

    noisy: LabelledGrasps
    clean: LabelledGrasps


def perturbed_contactpose(
    grasps: LabelledGrasps,
    seed: int,
    components: np.ndarray,
    level: int | NoiseLevel = 2,
    protocol: str = "contactpose-subjects",
) -> dict[Split, PerturbedSplit]:
    """Perturbed ContactPose: 16 noisy versions of each training grasp, 4 of each other one.

    Args:
        grasps: ContactPose, right hands without a left one (`contactpose.read_contactpose`).
        seed, components, level: see `perturb`; each split has noise of its own.
        protocol: who is trained on, see `splits.PROTOCOLS`.
    """
    of_row = split_of(grasps, protocol)
    result: dict[Split, PerturbedSplit] = {}
    for number, (split, copies) in enumerate(COPIES.items()):
        clean = grasps[of_row == split]
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        noisy = perturb(clean, level, own_seed, components, copies)
        result[split] = PerturbedSplit(noisy, clean[np.repeat(np.arange(len(clean)), copies)])
    return result


def _level(level: int | NoiseLevel) -> NoiseLevel:
    if isinstance(level, NoiseLevel):
        return level
    if not 0 <= level < len(NOISE_LEVELS):
        raise InputError(f"noise level: expected 0..{len(NOISE_LEVELS) - 1}, got {level}")
    return NOISE_LEVELS[level]
