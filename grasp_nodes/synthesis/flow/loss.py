"""What the flow learns: the velocity, and that where it leads hands touch and do not enter more than the example's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandParts
from grasp_nodes.learning.batches import Batch
from grasp_nodes.synthesis.flow.batches import field_of, wishes_of
from grasp_nodes.synthesis.flow.fields import DistanceField
from grasp_nodes.synthesis.flow.hand_points import HandPoints
from grasp_nodes.synthesis.flow.network import ANY_KIND, FlowNetwork, Wishes
from grasp_nodes.synthesis.schedules import RectifiedFlow

_UNIT = 0.005
"""m, of too deep and too far, that costs 1."""
_TOLERATED = 0.0005
"""m, of depth."""
_MOST = 4.0
"""Units, from where on a fault has no slope: far from a grasp there are more urgent things to learn."""


@dataclass(frozen=True)
class FlowLossSettings:
    """Of the loss.

    physical: weight of depth and distance, 0 = without. physical_from: time from which the predicted hand is judged.
    known: share of the rows that are told a prediction. any_kind: share whose kind is kept back.
    """

    physical: float = 0.03
    physical_from: float = 0.5
    known: float = 0.5
    any_kind: float = 0.15

    def __post_init__(self) -> None:
        if self.physical < 0:
            raise InputError(f"physical: expected a weight of 0 or more, got {self.physical}")
        for name in ("physical_from", "known", "any_kind"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected a share of 0 to 1, got {getattr(self, name)}")


class FlowLoss:
    """The loss of batches of `FlowBatches`.

    Args:
        stack: distances to the set's objects. settings: weights and shares.
    """

    def __init__(self, stack: StackedDistances, settings: FlowLossSettings | None = None) -> None:
        self._stack, self._settings = stack, settings or FlowLossSettings()

    def __call__(self, network: FlowNetwork, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Terms by name: ``loss``; ``velocity``: mean square; ``too_deep`` and ``too_far``: of the predicted hands."""
        s, flow, clean = self._settings, RectifiedFlow(), batch["code"]
        if self._stack.values.device != clean.device:
            self._stack = self._stack.to(clean.device)
        field, wishes = field_of(batch, self._stack), self._kept_back(wishes_of(batch), generator)
        time = flow.draw_times(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        noisy = flow.noised(clean, noise, time)
        told = network.told(time, network.encode(field, len(clean)), wishes)
        thought = torch.full_like(clean, torch.nan)
        knowing = slice(round(s.known * len(clean)))
        if thought[knowing].numel():
            with torch.no_grad():
                first = network(noisy[knowing], told[knowing], wishes.betas[knowing], field.rows(knowing), None)
                thought[knowing] = flow.clean(first.float(), noisy[knowing], time[knowing])
        velocity = network(noisy, told, wishes.betas, field, thought).float()
        terms = {"velocity": (velocity - flow.target(clean, noise)).square().mean()}
        late = torch.nonzero(time >= s.physical_from)[:, 0]
        if s.physical and len(late):
            predicted = flow.clean(velocity, noisy, time)[late]
            with torch.autocast(clean.device.type, enabled=False):
                parts, own = (network.coder.parts_of(one, wishes.betas[late]) for one in (predicted, clean[late]))
                deep, far = excess_faults(network.hand_points, parts, own, field.rows(late))
            # Early predictions are means of many grasps: they cannot be right, and count less.
            weight = time[late].square() / len(clean)
            terms |= {"too_deep": (weight * deep).sum(), "too_far": (weight * far).sum()}
        return {"loss": torch.stack(_weighted(terms, s.physical)).sum(), **terms}

    def _kept_back(self, wishes: Wishes, generator: torch.Generator) -> Wishes:
        drawn = torch.rand(len(wishes.kind), generator=generator, device=wishes.kind.device)
        return Wishes(torch.where(drawn < self._settings.any_kind, ANY_KIND, wishes.kind), wishes.betas)


def _weighted(terms: dict[str, Tensor], physical: float) -> list[Tensor]:
    return [value if name == "velocity" else physical * value for name, value in terms.items()]


def excess_faults(
    points: HandPoints, predicted: HandParts, clean: HandParts, field: DistanceField
) -> tuple[Tensor, Tensor]:
    """(B,) each: by how much predicted hands are deeper, and their fingers farther, than those of the examples."""
    deep, far = _faults(points, predicted, field)
    with torch.no_grad():
        own_deep, own_far = _faults(points, clean, field)
    return (deep - own_deep).clamp(min=0).sum(dim=1), (far - own_far).clamp(0, _MOST).sum(dim=1)


def _faults(points: HandPoints, parts: HandParts, field: DistanceField) -> tuple[Tensor, Tensor]:
    distance = points.clearance(parts, field)
    deep = ((-distance - _TOLERATED) / _UNIT).clamp(0, _MOST).square()
    return deep, points.pads(distance).abs().amin(dim=2) / _UNIT
