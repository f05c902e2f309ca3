"""Ten betas and the joint regressor, learnt from hands of varied proportions on one mesh."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from grasp_nodes.hand.keypoints import FINGER_JOINTS, FINGERS
from grasp_nodes.hand.open_hand.field import HandField, bone_axes
from grasp_nodes.hand.open_hand.proportions import HAND_BREADTH, HAND_LENGTH, WRIST, Array, Proportions
from grasp_nodes.hand.parameters import NUM_BETAS, NUM_JOINTS

_SAMPLES = 160


def shape_space(vertices: Array, weights: Array, field: HandField, rim: Array, seed: int) -> tuple[Array, Array]:
    """Principal shapes and the joint regressor.

    Args:
        vertices: (V, 3) mm, the mean hand. weights: (V, 16). rim: ids of vertices that must stay on the cut.
        seed: of the sampled population.

    Returns:
        shapedirs (V, 3, 10), mm per unit beta (betas have unit variance over the population; the first grows the hand),
        and J_regressor (16, V), not negative, rows sum to 1.
    """
    generator = np.random.default_rng(seed)
    samples = [_resized(vertices, weights, field, HandField(_sample(generator)), rim) for _ in range(_SAMPLES)]
    shapes = np.array([shape for shape, _ in samples])
    joints = np.array([joint for _, joint in samples])
    offsets = (shapes - shapes.mean(0)).reshape(_SAMPLES, -1)
    _, strength, directions = np.linalg.svd(offsets, full_matrices=False)
    scaled = directions[:NUM_BETAS] * strength[:NUM_BETAS, None] / np.sqrt(_SAMPLES - 1)
    shapedirs = scaled.reshape(NUM_BETAS, -1, 3).transpose(1, 2, 0)
    growth = np.einsum("vc,vck->k", vertices - vertices.mean(0), shapedirs)
    shapedirs = shapedirs * np.where(growth < 0, -1.0, 1.0)
    few = 15
    regressor = _joint_regressor(
        np.concatenate([vertices[None], shapes[:few]]), np.concatenate([field.skeleton.joints[None], joints[:few]])
    )
    return shapedirs, regressor


def _sample(generator: np.random.Generator) -> Proportions:
    """Proportions of one person: length, breadth and their correlation as in ANSUR II, the rest by judgement."""
    size, wide, thick, long, fingers, wrist, *each = generator.standard_normal(6 + len(FINGERS))
    return Proportions(
        hand_length=HAND_LENGTH * (1 + 0.052 * size),
        hand_breadth=HAND_BREADTH * (1 + 0.040 * size + 0.038 * wide),
        thickness=1 + 0.045 * thick + 0.02 * wide,
        finger_thickness=1 + 0.03 * fingers,
        wrist_thickness=1 + 0.04 * wrist,
        finger_length={f: 1 + 0.03 * long + 0.028 * own for f, own in zip(FINGERS, each, strict=True)},
    )


def _resized(vertices: Array, weights: Array, mean: HandField, target: HandField, rim: Array) -> tuple[Array, Array]:
    """The mesh carried bone by bone to another hand and put onto its surface; (V, 3) and its joints (16, 3)."""
    old, new = mean.proportions, target.proportions
    girth = new.girth / old.girth
    palm = np.array([new.hand_length / old.hand_length, girth, new.hand_breadth / old.hand_breadth])
    carried = weights[:, :1] * (WRIST + (vertices - WRIST) * palm)
    for finger in FINGERS:
        before, after = mean.skeleton.chain(finger), target.skeleton.chain(finger)
        dorsal = mean.skeleton.dorsal[finger]
        for i, j in enumerate(FINGER_JOINTS[finger]):
            bone, resized = before[i + 1] - before[i], after[i + 1] - after[i]
            around = girth * new.finger_thickness / old.finger_thickness
            stretch = np.array([np.linalg.norm(resized) / np.linalg.norm(bone), around, around])
            local = (vertices - before[i]) @ bone_axes(bone, dorsal) * stretch
            carried += weights[:, j : j + 1] * (after[i] + local @ bone_axes(resized, dorsal).T)
    on_rim = np.zeros(len(vertices), bool)
    on_rim[rim] = True
    return target.project(carried, rounds=4, rim=on_rim), target.skeleton.joints


def _joint_regressor(shapes: Array, joints: Array, near: int = 40) -> Array:
    """(16, V): non-negative least squares of each joint over its nearest vertices, with the sum held at 1."""
    regressor = np.zeros((NUM_JOINTS, shapes.shape[1]))
    for j in range(NUM_JOINTS):
        chosen = np.argsort(np.linalg.norm(shapes[0] - joints[0, j], axis=1), kind="stable")[:near]
        equations = shapes[:, chosen].transpose(0, 2, 1).reshape(-1, near)
        matrix, goal = np.vstack([equations, 1e3 * np.ones((1, near))]), np.append(joints[:, j].ravel(), 1e3)
        solution, _ = nnls(matrix, goal)
        regressor[j, chosen] = solution / solution.sum()
    return regressor
