"""Between the solver's terms of a hand (wrist, anatomical angles) and MANO's parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.fitting.hand_kinematics import HandConfiguration
from grasp_nodes.fitting.hand_skeleton import HandSkeleton, dof_values
from grasp_nodes.hand.parameters import NUM_BETAS, HandParams


def params_of(
    skeleton: HandSkeleton, configurations: Sequence[HandConfiguration], betas: np.ndarray | None = None
) -> HandParams:
    """MANO parameters of T configurations, float32.

    Args:
        skeleton: made of the hand model with these betas.
        configurations: T of them.
        betas: (10,), None = zeros.
    """
    shape = np.zeros(NUM_BETAS) if betas is None else np.asarray(betas, np.float64)
    scales = np.array([found.scale for found in configurations])
    wrists = np.stack([found.wrist for found in configurations])
    turns = Rotation.from_matrix(np.stack([found.rotation for found in configurations])).as_rotvec()
    poses = np.stack([skeleton.hand_pose(found.angles) for found in configurations])
    return HandParams(
        global_orient=torch.tensor(turns, dtype=torch.float32),
        hand_pose=torch.tensor(poses, dtype=torch.float32),
        betas=torch.tensor(np.tile(shape, (len(wrists), 1)), dtype=torch.float32),
        transl=torch.tensor(wrists - scales[:, None] * skeleton.joints[0], dtype=torch.float32),
        scale=torch.tensor(scales, dtype=torch.float32),
        side=skeleton.side,
    )


def configurations_of(skeleton: HandSkeleton, params: HandParams) -> list[HandConfiguration]:
    """The solver's terms of B hands; finger rotations that the solver's axes cannot express are approximated."""
    turns = Rotation.from_rotvec(params.global_orient.detach().cpu().double().numpy()).as_matrix()
    scales = params.scale.detach().cpu().double().numpy()
    wrists = params.transl.detach().cpu().double().numpy() + scales[:, None] * skeleton.joints[0]
    return [
        HandConfiguration(turns[row], wrists[row], dof_values(skeleton, params.hand_pose[row]), float(scales[row]))
        for row in range(len(params))
    ]


def between(first: HandConfiguration, last: HandConfiguration, share: float) -> HandConfiguration:
    """The configuration at `share` of the way from the first to the last; shares outside of [0, 1] extrapolate."""
    turn = Rotation.from_matrix(last.rotation @ first.rotation.T).as_rotvec()
    return HandConfiguration(
        Rotation.from_rotvec(share * turn).as_matrix() @ first.rotation,
        (1.0 - share) * first.wrist + share * last.wrist,
        (1.0 - share) * first.angles + share * last.angles,
        float(first.scale ** (1.0 - share) * last.scale**share),
    )
