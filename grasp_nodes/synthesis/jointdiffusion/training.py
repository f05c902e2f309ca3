"""Training of JointDiffusion and of its keypoint baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from grasp_nodes.contact.choir.gaussians import NUMBERS
from grasp_nodes.contact.choir.space import ChoirSpace
from grasp_nodes.learning.batches import Batch, ShuffledRows
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Trained, train
from grasp_nodes.synthesis.grasp_data import VALIDATION_RANK
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jointdiffusion.batches import FieldBatches, FieldOptions, GraspFields
from grasp_nodes.synthesis.jointdiffusion.config import JointConfig
from grasp_nodes.synthesis.jointdiffusion.keypoints import (
    KeypointConfig,
    KeypointNetwork,
    PointScene,
    keypoint_numbers,
    keypoints_of_numbers,
)
from grasp_nodes.synthesis.jointdiffusion.network import JointNetwork, Scene
from grasp_nodes.synthesis.samplers import Denoiser, DiffusionSampler
from grasp_nodes.synthesis.schedules import NoiseSchedule

PAPER_BATCH = 64
VALIDATION_ROWS = 64
STATISTICS_ROWS = 128
_EVALUATION_STEPS = 10


def paper_settings(steps: int = 200_000) -> TrainingSettings:
    """The authors' optimiser: Adam at 3e-4, times 0.7 at even shares, gradients cut, average 0.9999."""
    return TrainingSettings(
        steps=steps,
        optimizer="adam",
        rate=3e-4,
        schedule="step",
        milestones=tuple(k / 10 for k in range(1, 10)),
        decay=0.7,
        clip_norm=1.0,
        average=0.9999,
    )


def train_joint(
    config: JointConfig,
    space: ChoirSpace,
    fields: GraspFields,
    options: FieldOptions,
    settings: TrainingSettings,
    run: RunOptions,
) -> Trained:
    """Train JointDiffusion, or go on training it; `Trained.network` is a `JointNetwork`.

    Raises:
        InputError: see `train`.
    """
    options = replace(options, facing=config.facing, grid_distance=config.grid_distance)
    batches = FieldBatches(fields, space, options)
    diffusion = _Diffusion.of(config)

    def clean_of(network: JointNetwork, batch: Batch) -> tuple[Tensor, Scene]:
        numbers = torch.cat([network.hand_numbers(batch["field"]), batch["contacts"].flatten(1)], dim=1)
        return numbers, joint_scene(network, batch)

    def loss(network: JointNetwork, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        clean, scene = clean_of(network, batch)
        squared = diffusion.squared_errors(joint_denoiser(network, scene), clean, generator)
        field, contacts = squared[:, : len(space)].mean(), squared[:, len(space) :].mean()
        return {"loss": field + config.contact_weight * contacts, "field": field, "contacts": contacts}

    def errors(network: JointNetwork, batch: Batch) -> dict[str, float]:
        clean, scene = clean_of(network, batch)
        found = diffusion.drawn(joint_denoiser(network, scene), clean)
        # In units of the space; those of metres where lengths are not scaled.
        away = (space.distances(network.hand_remapped(found[:, : len(space)])) - space.distances(batch["field"])).abs()
        before = (space.distances(batch["noisy"]) - space.distances(batch["field"])).abs()
        rows = scene.has_hand
        if not bool(rows.any()):
            return {"distance_mm": 1e3 * float(away.mean())}
        return {
            "distance_mm": 1e3 * float(away[rows].mean()),
            "noisy_distance_mm": 1e3 * float(before[rows].mean()),
            "contact_sign": float(
                (found[:, len(space) :: NUMBERS] * clean[:, len(space) :: NUMBERS] > 0)[rows].float().mean()
            ),
        }

    torch.manual_seed(settings.seed)
    mean, deviation = (0.5, 0.5) if config.facing == "random" else (0.0, 1.0)
    network = JointNetwork(config, space, mean, deviation)
    if config.facing == "aligned":
        _standardise(network, batches, fields)
    about = {"method": "jointdiffusion", "config": asdict(config), "space": space.description()}
    return _train(network, loss, errors, batches, fields, options, settings, run, about)


def train_keypoints(
    config: KeypointConfig,
    space: ChoirSpace,
    fields: GraspFields,
    options: FieldOptions,
    settings: TrainingSettings,
    run: RunOptions,
) -> Trained:
    """Train the keypoint baseline; `Trained.network` is a `KeypointNetwork`.

    Args:
        space: whatever: the batches have no fields.
    """
    options = replace(options, facing=config.facing, grid_distance=config.grid_distance)
    batches = FieldBatches(fields, space, options, points_only=True)
    diffusion = _Diffusion.of(config)

    def loss(network: KeypointNetwork, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        clean, scene = keypoint_numbers(batch["keypoints"]), point_scene(batch)
        return {"loss": diffusion.squared_errors(keypoint_denoiser(network, scene), clean, generator).mean()}

    def errors(network: KeypointNetwork, batch: Batch) -> dict[str, float]:
        clean, scene = keypoint_numbers(batch["keypoints"]), point_scene(batch)
        found = keypoints_of_numbers(diffusion.drawn(keypoint_denoiser(network, scene), clean))
        away = (found - batch["keypoints"]).norm(dim=-1).mean(dim=1)
        before = (batch["noisy_keypoints"] - batch["keypoints"]).norm(dim=-1).mean(dim=1)
        rows = scene.has_hand if bool(scene.has_hand.any()) else torch.ones_like(scene.has_hand)
        return {"point_mm": 1e3 * float(away[rows].mean()), "noisy_point_mm": 1e3 * float(before[rows].mean())}

    torch.manual_seed(settings.seed)
    about = {"method": "keypoint", "config": asdict(config)}
    return _train(KeypointNetwork(config), loss, errors, batches, fields, options, settings, run, about)


@dataclass(frozen=True)
class _Diffusion:
    """What both networks learn: to tell noise from numbers."""

    schedule: NoiseSchedule
    sampler: DiffusionSampler

    @classmethod
    def of(cls, config: JointConfig | KeypointConfig) -> _Diffusion:
        schedule = NoiseSchedule.make(config.noise_schedule, config.noise_steps, config.prediction)
        return cls(schedule, DiffusionSampler(schedule, "ddim", min(_EVALUATION_STEPS, len(schedule))))

    def squared_errors(self, denoiser: Denoiser, clean: Tensor, generator: torch.Generator) -> Tensor:
        """(B, D): of what the network says at some time each."""
        time = self.schedule.draw_times(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        told = denoiser(self.schedule.noised(clean, noise, time), time)
        return (told.float() - self.schedule.target(clean, noise, time)).square()

    def drawn(self, denoiser: Denoiser, like: Tensor) -> Tensor:
        """(B, D), always from the same noise."""
        generator = torch.Generator(like.device).manual_seed(5)
        return self.sampler(denoiser, torch.randn(like.shape, generator=generator, device=like.device))


def joint_scene(network: JointNetwork, batch: Batch) -> Scene:
    """The scene of a batch."""
    return Scene(network.object_numbers(batch["object"]), network.hand_numbers(batch["noisy"]), batch["has_hand"])


def point_scene(batch: Batch) -> PointScene:
    """The keypoint baseline's scene of a batch."""
    return PointScene(batch["points"], batch["noisy_keypoints"], batch["has_hand"])


def joint_denoiser(network: JointNetwork, scene: Scene) -> Denoiser:
    """The network as a sampler calls it; the context is worked out once."""
    context = network.context(scene)
    return lambda noisy, time: network(noisy, time, scene, context)


def keypoint_denoiser(network: KeypointNetwork, scene: PointScene) -> Denoiser:
    """As `joint_denoiser`."""
    context = network.context(scene)
    return lambda noisy, time: network(noisy, time, context)


def _standardise(network: JointNetwork, batches: FieldBatches, fields: GraspFields) -> None:
    """Mean 0 and deviation 1 for what the network reads."""
    rows = fields.split.training
    chosen = rows[torch.linspace(0, len(rows) - 1, min(STATISTICS_ROWS, len(rows))).long().numpy()]
    batch = batches.of_rows(chosen, Step(0, VALIDATION_RANK))
    for channel, name in enumerate(("field", "object")):
        network.field_mean[channel] = batch[name].mean()
        network.field_deviation[channel] = batch[name].std()


def _train(
    network: Any,
    loss: Callable[[Any, Batch, torch.Generator], dict[str, Tensor]],
    errors: Callable[[Any, Batch], Mapping[str, float]],
    batches: FieldBatches,
    fields: GraspFields,
    options: FieldOptions,
    settings: TrainingSettings,
    run: RunOptions,
    about: Mapping[str, Any],
) -> Trained:
    """The common loop, evaluated on held-out grasps, each time with the same noise."""
    rows, shuffled = fields.split.training, ShuffledRows(len(fields.split.training), run.batch, settings.seed)
    held_out = fields.split.validation
    spread = torch.linspace(0, len(held_out) - 1, min(VALIDATION_ROWS, len(held_out))).long().numpy()
    validation = batches.of_rows(held_out[spread], Step(0, VALIDATION_RANK)) if len(held_out) else None

    def evaluated(asked: Any) -> dict[str, float]:
        device = next(asked.parameters()).device
        there = {name: value.to(device) for name, value in (validation or {}).items()}
        terms = loss(asked, there, torch.Generator(device).manual_seed(0))
        return {**{name: float(value) for name, value in terms.items()}, **errors(asked, there)}

    return train(
        *(network, loss, lambda step: batches.of_rows(rows[shuffled(step)], step), settings, run.folder),
        *(evaluated if validation is not None else None, run.progress),
        belongs_to={**about, "options": asdict(options), "batch": run.batch, **run.belongs_to},
        prefetch=True,
    )
