"""The pose of a known mesh in one image, from nothing but its mask and, where there is one, its depth.

HOMan's recipe (rotations uniform in SO(3), distance from the diagonals of the boxes, then refinement against the
mask), with outline Gauss-Newton instead of a renderer's gradient, coarse to fine, and fewer candidates at each level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from grasp_nodes.fitting.object_observation import ObjectObservation
from grasp_nodes.fitting.pose_residuals import SolverMesh, SolverWeights
from grasp_nodes.fitting.pose_solver import PosePrior, PoseProblem, refine_poses
from grasp_nodes.geometry.rotations import random_rotations
from grasp_nodes.geometry.silhouette_torch import coverage, overlaps

DEPTH_AGREEMENT_SCALE = 0.005
"""m; a depth point this far from the surface counts half."""
VISIBLE_FACE_SCALE = 0.015
"""m; below this robust scale depth points are compared with the face that their pixel shows."""
SCREENED_PER_CANDIDATE = 20
"""On a GPU, silhouettes that are looked at for each rotation that is refined."""
_STAGES = ((12.0, 0.06, 6, 12), (5.0, 0.03, 8, 8), (2.5, 0.012, 15, 8))
"""Per level: outline scale in window pixels, depth scale in m, evaluations, candidates that go on."""


@dataclass(frozen=True)
class InitialPose:
    """The best candidate.

    rotation: (3, 3), object to camera. centre: (3,), m, the mesh's centre in the camera's frame. score in [0, 1].
    rotation_ambiguity: rad, largest rotation to another candidate that explains the image as well; silhouettes of
    symmetric objects leave rotations open. other_rotations (N, 3, 3), other_centres (N, 3): candidates that came next.
    """

    rotation: np.ndarray
    centre: np.ndarray
    score: float
    rotation_ambiguity: float
    other_rotations: np.ndarray
    other_centres: np.ndarray


def solver_weights(
    observation: ObjectObservation,
    contour_scale: float,
    depth_scale: float,
) -> SolverWeights:
    """Weights for an image.

    Masks are off by about a pixel, and lean to one side: with depth, which is unbiased, they count less. Stereo and
    time-of-flight noise grows with the square of the distance.

    Args:
        observation: its window's scale and its depth points set the standard deviations.
        contour_scale: px of the window. depth_scale: m.
    """
    points = observation.image.points
    distance = float(np.median(points[:, 2])) if len(points) else 1.0
    sigma = (3.0 if len(points) else 1.0) * observation.window_scale
    return SolverWeights(
        contour_sigma=max(sigma, 0.5),
        contour_scale=contour_scale,
        depth_sigma=0.002 + 0.003 * distance**2,
        depth_scale=depth_scale,
        contour_count=60.0,
        depth_count=100.0,
        # Far from the solution the face that a pixel shows is a random one.
        use_visible=depth_scale <= VISIBLE_FACE_SCALE,
    )


def pose_scores(
    rotations: np.ndarray, centres: np.ndarray, mesh: SolverMesh, observation: ObjectObservation
) -> np.ndarray:
    """Overlap of silhouette and mask times agreement with the depth: (B,) in [0, 1]."""
    problem = PoseProblem(mesh, observation.image)
    explained = [problem.explain(r, c, DEPTH_AGREEMENT_SCALE)[:2] for r, c in zip(rotations, centres, strict=True)]
    return np.prod(explained, axis=1)


def initialise_object_pose(
    mesh: SolverMesh,
    coarse: ObjectObservation,
    fine: ObjectObservation,
    seed: int = 0,
    candidates: int = 50,
    extra: tuple[np.ndarray, np.ndarray] | None = None,
    prior: PosePrior | None = None,
    device: str = "cpu",
) -> InitialPose:
    """Search the whole rotation group.

    Args:
        mesh: the object.
        coarse: the image in a small window (about 64 px), for the first level. fine: in the window of the others.
        seed: of the rotations. candidates: how many rotations are tried.
        extra: rotations (N, 3, 3) and centres (N, 3) that compete too, such as the last known pose.
        prior: a pose that it is believed to be near.
        device: on "cuda" many more rotations are drawn, and those whose silhouettes overlap the mask best are tried.
    """
    generator = torch.Generator().manual_seed(seed)
    on_gpu = torch.device(device).type == "cuda"
    count = candidates * (SCREENED_PER_CANDIDATE if on_gpu else 1)
    rotations = random_rotations(count, generator, dtype=torch.float64).numpy().copy()
    centres = _centres_from_box(rotations, mesh, fine)
    if on_gpu:
        order = np.argsort(-silhouette_overlaps(rotations, centres, mesh, coarse, device), kind="stable")[:candidates]
        rotations, centres = rotations[order], centres[order]
    if extra is not None:
        rotations, centres = np.concatenate([rotations, extra[0]]), np.concatenate([centres, extra[1]])
    for level, (contour_scale, depth_scale, iterations, keep) in enumerate(_STAGES):
        observation = coarse if level == 0 else fine
        weights = solver_weights(observation, contour_scale, depth_scale)
        costs = refine_poses(rotations, centres, mesh, observation.image, weights, iterations, 1e-4, prior)
        order = np.argsort(costs, kind="stable")[:keep]
        rotations, centres = rotations[order], centres[order]
    scores = pose_scores(rotations, centres, mesh, fine)
    best = int(scores.argmax())
    good = rotations[scores > scores[best] - 0.02]
    cosines = 0.5 * (np.einsum("nij,ij->n", good, rotations[best]) - 1)
    ambiguity = float(np.arccos(np.clip(cosines, -1, 1)).max())
    order = np.argsort(-scores, kind="stable")
    rotations, centres = rotations[order], centres[order]
    return InitialPose(rotations[0], centres[0], float(scores[best]), ambiguity, rotations[1:], centres[1:])


def silhouette_overlaps(
    rotations: np.ndarray, centres: np.ndarray, mesh: SolverMesh, observation: ObjectObservation, device: str
) -> np.ndarray:
    """Overlap (B,) of silhouette and mask, all poses at once on a torch device; for a GPU.

    Args:
        rotations: (B, 3, 3), object to camera. centres: (B, 3), m: the mesh's centre.
    """

    def tensor(array: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    image = observation.image
    camera = torch.einsum("bij,vj->bvi", tensor(rotations), tensor(mesh.vertices - mesh.centre))
    camera = camera + tensor(centres)[:, None]
    focal, principal = tensor(image.intrinsics[:2]), tensor(image.intrinsics[2:])
    depths = camera[..., 2]
    pixels = camera[..., :2] / depths.clamp(min=1e-6).unsqueeze(-1) * focal + principal
    covered = coverage(pixels, depths, tensor(mesh.faces, torch.int64), *image.mask.shape)
    return overlaps(covered, tensor(image.mask, torch.bool), tensor(image.ignored, torch.bool)).cpu().numpy()


def _centres_from_box(rotations: np.ndarray, mesh: SolverMesh, observation: ObjectObservation) -> np.ndarray:
    """Distance from the ratio of the boxes' diagonals and direction from their centres, in turn (HOMan, sec. 3.2).

    Where there is depth, it says the distance: half of the object's thickness behind the surface that is seen.
    """
    k, box = observation.camera_k, observation.box
    low, high = box[:2] - 0.5, box[2:] + 0.5
    diagonal, middle = np.linalg.norm(high - low), 0.5 * (low + high)
    vertices = mesh.vertices[:: max(1, len(mesh.vertices) // 500)] - mesh.centre
    turned = np.einsum("bij,vj->bvi", rotations, vertices)
    size = np.linalg.norm(np.ptp(turned[..., :2], axis=1), axis=1)
    centres = np.zeros((len(rotations), 3))
    centres[:, 2] = size * 0.5 * (k[0, 0] + k[1, 1]) / diagonal
    points = observation.image.points
    if len(points):
        centres[:, 2] = np.median(points[:, 2]) + 0.3 * np.ptp(turned[..., 2], axis=1)
    nearest = -turned[..., 2].min(axis=1) + 0.03
    focal, principal = k[[0, 1], [0, 1]], k[:2, 2]
    for _ in range(5):
        centres[:, 2] = np.maximum(centres[:, 2], nearest)
        camera = turned + centres[:, None]
        pixels = camera[..., :2] / camera[..., 2:] * focal + principal
        lowest, highest = pixels.min(axis=1), pixels.max(axis=1)
        if not len(points):
            centres[:, 2] *= np.linalg.norm(highest - lowest, axis=1) / diagonal
        centres[:, :2] += (middle - 0.5 * (lowest + highest)) * centres[:, 2:] / focal
    centres[:, 2] = np.maximum(centres[:, 2], nearest)
    return centres
