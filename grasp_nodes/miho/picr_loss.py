"""What PiCR is trained to tell, and to make small: equations 5 to 7 of MIHO.

The annotation follows from the true poses: an object point is in contact with the hand when some anchor is within
20 mm, and then with the region of the nearest one; the elasticities of the springs to that region's anchors are those
of equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from grasp_nodes.contact.springs import SPRING_REACH, anchor_elasticities
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.miho.picr import PiCROutput

FOCUS = 2.0
"""gamma of the focal losses."""
WEIGHTS = {"contact": 1.0, "region": 1.0, "elasticity": 1.0}
_LEAST = 1e-6


@dataclass(frozen=True)
class ContactLabels:
    """Of B objects, N points each.

    contact: (B, N) bool. region: (B, N) int64, of the nearest anchor, in contact or not.
    elasticity: (B, N, 4) in [0, 1]. has_anchor: (B, N, 4) bool, whether the region has such an anchor.
    """

    contact: Tensor
    region: Tensor
    elasticity: Tensor
    has_anchor: Tensor

    @staticmethod
    def of_pose(anchors: HandAnchors, positions: Tensor, points: Tensor, reach: float = SPRING_REACH) -> ContactLabels:
        """From true anchors (B, 32, 3) and points (B, N, 3), m, both in one frame."""
        distance, nearest = torch.cdist(points, positions).min(dim=2)
        region = torch.as_tensor(anchors.region, device=points.device)[nearest]
        table = torch.as_tensor(anchors.anchors_of_region, device=points.device)
        elasticity = anchor_elasticities(anchors, positions, points, region, reach)
        return ContactLabels(distance < reach, region, elasticity, table[region] >= 0)


def picr_loss(outputs: Sequence[PiCROutput], labels: ContactLabels) -> dict[str, Tensor]:
    """The terms, each summed over the stacks, and their sum ``loss``; scalars.

    Every sum of the paper is divided by the number of points that it runs over, so that the terms do not depend on how
    many points an object has.
    """
    totals: dict[str, Tensor] = {}
    for output in outputs:
        seen = output.in_image
        touched = seen & labels.contact
        terms = {
            "contact": contact_loss(output.contact, labels.contact, seen),
            "region": region_loss(output.region, labels.region, touched),
            "elasticity": elasticity_loss(output.elasticity, labels.elasticity, touched[..., None] & labels.has_anchor),
        }
        totals = {name: totals.get(name, 0.0) + value for name, value in terms.items()}
    return {"loss": torch.stack([WEIGHTS[name] * value for name, value in totals.items()]).sum(), **totals}


def contact_loss(logits: Tensor, contact: Tensor, counted: Tensor, focus: float = FOCUS) -> Tensor:
    """Binary focal loss (equation 5), both classes weighing the same: alpha is the inverse of a class's frequency.

    Args:
        logits: (B, N). contact, counted: (B, N) bool.
    """
    weight = torch.zeros_like(logits)
    for kind in (contact & counted, ~contact & counted):
        weight = weight + kind / kind.sum().clamp(min=1)
    log_right = functional.logsigmoid(torch.where(contact, logits, -logits))
    return -(0.5 * weight * (1 - log_right.exp()) ** focus * log_right).sum()


def region_loss(logits: Tensor, region: Tensor, counted: Tensor, focus: float = FOCUS) -> Tensor:
    """Focal loss over the 17 regions (equation 6), mean over the points that are counted.

    Args:
        logits: (B, N, 17). region: (B, N) int64. counted: (B, N) bool.
    """
    log_right = functional.log_softmax(logits, dim=2).gather(2, region[..., None])[..., 0]
    each = -((1 - log_right.exp()) ** focus) * log_right
    return (each * counted).sum() / counted.sum().clamp(min=1)


def elasticity_loss(logits: Tensor, elasticity: Tensor, counted: Tensor) -> Tensor:
    """Binary cross-entropy (equation 7), mean over the springs (B, N, 4) that are counted."""
    each = functional.binary_cross_entropy_with_logits(logits, elasticity, reduction="none")
    return (each * counted).sum() / counted.sum().clamp(min=1)


def average_precision(score: Tensor, positive: Tensor) -> float:
    """Area under the curve of precision over recall: the mean precision at each positive; NaN without any.

    Args:
        score: (N,). positive: (N,) bool. Points of equal score are taken together.
    """
    count = int(positive.sum())
    if not count:
        return float("nan")
    ranked = score.argsort(descending=True, stable=True)
    values, right = score[ranked], positive[ranked].double().cumsum(dim=0)
    last = torch.cat([values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)])
    rank = torch.arange(1, len(values) + 1, dtype=torch.float64, device=score.device)
    recall, precision = right[last] / count, (right / rank)[last]
    steps = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((steps * precision).sum().clamp(min=0.0, max=1.0 + _LEAST))


def best_threshold(probability: Tensor, positive: Tensor) -> tuple[float, float, float]:
    """From which probability on to believe in contact, by the largest F1 score.

    Args:
        probability: (N,) in [0, 1]. positive: (N,) bool.

    Returns:
        The threshold, midway to what is left out, and its precision and recall; 1, 0, 0 where nothing is positive.
    """
    total = int(positive.sum())
    if not total:
        return 1.0, 0.0, 0.0
    ordered, order = probability.double().sort(descending=True)
    hits = positive[order].double().cumsum(dim=0)
    counts = torch.arange(1, len(order) + 1, dtype=torch.float64, device=hits.device)
    following = torch.cat([ordered[1:], ordered.new_zeros(1)])
    # Equal probabilities are believed together.
    score = torch.where(following < ordered, 2 * hits / (counts + total), 0.0)
    best = int(score.argmax())
    threshold = float(0.5 * (ordered[best] + following[best]))
    return threshold, float(hits[best] / counts[best]), float(hits[best] / total)
