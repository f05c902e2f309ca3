"""How different grasps are from each other: FastGrasp's entropy and cluster size, with a seed and with units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from grasp_nodes.errors import InputError

CLUSTERS = 20
_RESTARTS = 5
_ITERATIONS = 100


class Diversity(NamedTuple):
    """entropy: nats, at most log(clusters) = 3.00 for 20. cluster_size: m. grasps: how many were clustered."""

    entropy: float
    cluster_size: float
    grasps: int


def diversity(keypoints: np.ndarray, clusters: int = CLUSTERS, seed: int = 0) -> Diversity:
    """Diversity of FastGrasp, section 4.2: K-means of 3D hand keypoints, entropy of the assignment, mean cluster size.

    Each grasp is one vector of all its keypoints; the cluster size is the mean Euclidean distance of these vectors to
    the centre of their cluster, in metres (reports: cm). Higher is more diverse. The papers leave open the unit, the
    frame and the seed; their numbers are not comparable across papers.

    Args:
        keypoints: (N, K, 3), m, object frame, N >= clusters; grasps with NaN are left out and not counted.
        clusters: of K-means. seed: of its start (k-means++, the best of 5 starts).

    Raises:
        InputError: fewer grasps than clusters.
    """
    points = np.asarray(keypoints, np.float64).reshape(len(keypoints), -1)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < clusters:
        raise InputError(f"diversity: {clusters} clusters need as many grasps, got {len(points)}: generate more")
    rng = np.random.default_rng(seed)
    runs = [_k_means(points, clusters, rng) for _ in range(_RESTARTS)]
    label, distance = min(runs, key=lambda run: float((run[1] ** 2).sum()))
    return Diversity(assignment_entropy(label, clusters), float(distance.mean()), len(points))


def assignment_entropy(label: np.ndarray, clusters: int) -> float:
    """Entropy of the shares of the clusters, nats."""
    share = np.bincount(label, minlength=clusters) / len(label)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def _k_means(points: np.ndarray, clusters: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cluster and distance to its centre of each point (Lloyd; k-means++ of Arthur and Vassilvitskii, 2007)."""
    centres = points[rng.integers(len(points))][None]
    nearest = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < clusters:
        total = nearest.sum()
        chosen = rng.choice(len(points), p=nearest / total) if total > 0 else rng.integers(len(points))
        centres = np.concatenate([centres, points[chosen][None]])
        nearest = np.minimum(nearest, ((points - centres[-1]) ** 2).sum(axis=1))
    label = np.full(len(points), -1)
    for _ in range(_ITERATIONS):
        squared = ((points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)) - 2 * points @ centres.T
        previous, label = label, squared.argmin(axis=1)
        if np.array_equal(previous, label):
            break
        count = np.bincount(label, minlength=clusters)
        total = np.zeros_like(centres)
        np.add.at(total, label, points)
        # A cluster that lost all its points keeps its centre.
        centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres)
    return label, np.linalg.norm(points - centres[label], axis=1)
