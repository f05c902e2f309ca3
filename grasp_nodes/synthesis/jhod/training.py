"""Training of JHOD on grasps of several sources and on objects alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.data.grasp_batches import split_by_object
from grasp_nodes.data.grasp_set import join
from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.data.object_distances import measure_objects
from grasp_nodes.data.object_surfaces import ObjectSurfaces, sample_surfaces
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.stacked_distance import StackedDistances
from grasp_nodes.hand.codes import HandCoder, HandLayout
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.batches import Batch, Batches, ShuffledRows
from grasp_nodes.learning.settings import TrainingSettings
from grasp_nodes.learning.steps import Step
from grasp_nodes.learning.training import Trained, train
from grasp_nodes.objects.registry import SPEC_PREFIX, check_not_held_out, parse_name
from grasp_nodes.synthesis.flow.batches import field_of, wishes_of
from grasp_nodes.synthesis.flow.drawn_hands import DrawnHandsJudge
from grasp_nodes.synthesis.grasp_training import RunOptions
from grasp_nodes.synthesis.jhod.batches import PLAIN, EncodedObjects, JhodBatches, mixed_rows
from grasp_nodes.synthesis.jhod.loss import JhodLoss, JhodLossSettings
from grasp_nodes.synthesis.jhod.network import JhodConfig, JhodNetwork
from grasp_nodes.synthesis.jhod.object_data import SURFACE_SHARE, VALIDATION_RANK
from grasp_nodes.synthesis.jhod.point_autoencoder import PointAutoEncoder
from grasp_nodes.synthesis.jhod.sampling import HandSampling, sample_hands
from grasp_nodes.synthesis.samplers import DiffusionSampler

_VALIDATED, _DRAWN, _DRAWN_STEPS = 256, 128, 10
_STATISTICS = 256
_LEAST_DEVIATION = 0.05


@dataclass(frozen=True)
class JhodData:
    """Grasps and objects made ready.

    batches: of the grasps of all sources. sources: rows that train, of each source. validation: rows of other objects.
    plain: objects without hands, None = none. stack: distances to the grasps' objects. what: it is, in words.
    """

    batches: JhodBatches
    sources: Sequence[np.ndarray]
    validation: np.ndarray
    plain: EncodedObjects | None
    stack: StackedDistances
    what: str

    @staticmethod
    def of_sources(
        sources: Sequence[LabelledGrasps],
        model: HandModel,
        encoder: PointAutoEncoder,
        layout: HandLayout,
        told: bool,
        variants: int = 8,
        plain: ObjectSurfaces | None = None,
        plain_variants: int = 2,
        validation: float = 0.04,
        leave_out: Sequence[str] = (),
        report: Callable[[str, int, int], None] | None = None,
    ) -> JhodData:
        """Encode and measure the objects, split by object, fit the vectors.

        Args:
            sources: sets of grasps of one hand and side. model: their hand. encoder: frozen. layout: of the vectors.
            told: whether the network is told the hands' shapes. variants, plain_variants: of an object with, without
            hands. plain: objects without hands. validation: share of the objects that validate. leave_out: families.
            report: is told what is done, how much of it, and of how much.

        Raises:
            InputError: grasps of another hand, of objects that are held out, or none. MissingFileError: a mesh that is
                not there.
        """
        tell = report or (lambda _what, _done, _total: None)
        rows, kept = _split(sources, validation, leave_out)
        grasps = join([replace(one, source="", metrics={}, attributes={}) for one in sources])
        check_not_held_out([parse_name(one.mesh) for one in grasps.objects if one.mesh.startswith(SPEC_PREFIX)])
        count = SURFACE_SHARE * encoder.config.points
        surfaces = sample_surfaces(grasps.objects, count, progress=lambda done, total: tell("surfaces", done, total))
        distances = measure_objects(grasps.objects, lambda done, total: tell("distances", done, total))
        encoded = EncodedObjects.of_surfaces(
            surfaces, encoder, variants, report=lambda done, total: tell("objects with hands", done, total)
        )
        bare = None
        if plain is not None:
            bare = EncodedObjects.of_surfaces(
                plain, encoder, plain_variants, 1, lambda done, total: tell("objects alone", done, total)
            )
        whole = JhodBatches.of_grasps(grasps, encoded, distances, HandCoder(model, layout), told)
        coder = whole.fitted(np.concatenate(rows))
        batches = JhodBatches.of_grasps(grasps, encoded, distances, coder, told)
        named = ", ".join(f"{one.source}: {len(own)} grasps" for one, own in zip(sources, rows, strict=True))
        out = f", without {', '.join(leave_out)}" if leave_out else ""
        alone = f"; {len(bare)} objects alone" if bare is not None else "; no objects alone"
        return JhodData(batches, rows, kept, bare, distances.stack, f"{named}{out}{alone}")

    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (4,) of the latents; places are about their middle and have one deviation."""
        encoded = self.batches.encoded.latents
        rows = torch.from_numpy(np.unique(np.linspace(0, len(encoded) - 1, _STATISTICS).astype(np.int64)))
        latents = encoded[rows, 0].float()
        place = float(latents[..., :3].square().mean().sqrt())
        last = latents[..., 3]
        deviation = torch.tensor([place] * 3 + [max(float(last.std()), _LEAST_DEVIATION)])
        return torch.tensor([0.0, 0.0, 0.0, float(last.mean())]), deviation

    def training(self, batch: int, plain: int, seed: int) -> Batches:
        """Batches of `batch` grasps and `plain` objects alone."""
        counts = mixed_rows([len(one) for one in self.sources], batch)
        shuffled = [
            ShuffledRows(len(rows), count, seed + k)
            for k, (rows, count) in enumerate(zip(self.sources, counts, strict=True))
        ]

        def made(step: Step) -> Batch:
            chosen = np.concatenate([rows[one(step)] for rows, one in zip(self.sources, shuffled, strict=True)])
            # Which rows of a batch get a clean object follows from their place: sources and places are mixed.
            chosen = step.rng(stream=4).permutation(chosen)
            found = self.batches.of_rows(chosen, step)
            if self.plain is not None and plain:
                found[PLAIN] = self._plain_latents(plain, step)
            return found

        return made

    def _plain_latents(self, count: int, step: Step) -> Tensor:
        """Objects of both kinds of data (Eq. 13), as likely as there are of them."""
        assert self.plain is not None
        with_hands, alone = self.batches.encoded, self.plain
        rng = step.rng(stream=5)
        number = rng.integers(len(with_hands) + len(alone), size=count)
        rows = []
        for encoded, own in (
            (with_hands, number[number < len(with_hands)]),
            (alone, number[number >= len(with_hands)]),
        ):
            own = own if encoded is with_hands else own - len(with_hands)
            variant = torch.from_numpy(rng.integers(encoded.variants, size=len(own)))
            rows.append(encoded.latents[torch.from_numpy(own), variant].float())
        return torch.cat(rows)


def train_jhod(
    config: JhodConfig,
    data: JhodData,
    settings: TrainingSettings,
    run: RunOptions,
    loss: JhodLossSettings | None = None,
    plain_batch: int = 0,
) -> Trained:
    """Train the diffusion, or go on training it; `Trained.network` is a `JhodNetwork`.

    Args:
        plain_batch: objects without hands in a batch, beside the run's grasps.
    """
    torch.manual_seed(settings.seed)
    network = JhodNetwork(data.batches.coder, config)
    network.latent_mean, network.latent_deviation = data.latent_statistics()
    loss = loss or JhodLossSettings()
    about = {"method": "jhod", "config": asdict(config), "loss": asdict(loss), "data": data.what, "plain": plain_batch}
    judge = JhodJudge(data) if len(data.validation) else None
    return train(
        *(network, JhodLoss(data.stack, loss), data.training(run.batch, plain_batch, settings.seed), settings),
        *(run.folder, judge, run.progress),
        belongs_to={**about, "batch": run.batch, **run.belongs_to},
        prefetch=True,
    )


class JhodJudge:
    """Measures a network on rows that validate: always the same, with the same noise.

    Values: ``loss``: conditional and joint, of tokens; each of the two; and of conditional hands drawn in ten steps
    what `DrawnHandsJudge` measures.

    Args:
        data: with rows that validate.
    """

    def __init__(self, data: JhodData) -> None:
        rows = data.validation[np.unique(np.linspace(0, len(data.validation) - 1, _VALIDATED).astype(np.int64))]
        self._batch = data.batches.of_rows(rows, Step(0, VALIDATION_RANK))
        self._stack = data.stack
        self._judge = DrawnHandsJudge(data.batches.coder.model)

    @torch.no_grad()
    def __call__(self, network: JhodNetwork) -> dict[str, float]:
        """The values."""
        coder, device = network.coder, network.coder.mean.device
        stack, batch = self._stack.to(device), {name: tensor.to(device) for name, tensor in self._batch.items()}
        generator = torch.Generator(device).manual_seed(7)
        terms = JhodLoss(stack, JhodLossSettings(any_kind=0.0))(network, batch, generator)
        values = {name: float(terms[name]) for name in ("conditional", "joint_hand", "joint_object", "rebuilt")}
        values["loss"] = values["conditional"] + values["joint_hand"] + values["joint_object"]
        drawn = {name: tensor[:: len(tensor) // _DRAWN or 1] for name, tensor in batch.items()}
        field, wishes = field_of(drawn, stack), wishes_of(drawn)
        noise = torch.randn(len(drawn["code"]), network.hand_tokens.size, generator=generator, device=device)
        how = HandSampling(DiffusionSampler(network.schedule, "ddim", min(_DRAWN_STEPS, network.steps)))
        vectors = sample_hands(network, network.encode_object(drawn["latents"]), wishes, field, noise, how)
        parts = coder.parts_of(vectors, wishes.betas)
        return values | self._judge(coder, network.hand_points, parts, field)


def _split(
    sources: Sequence[LabelledGrasps], validation: float, leave_out: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows of the joined sets: those of each source that train, and all that validate."""
    if not sources:
        raise InputError("grasps to train on: expected at least one set")
    rows, kept, start = [], [], 0
    for one in sources:
        families = {item.category or item.name.partition(":")[0] for item in one.objects}
        split = split_by_object(one, validation, leave_out=[name for name in leave_out if name in families])
        if not len(split.training):
            raise InputError(f"{one.source}: no grasps are left to train on")
        rows.append(start + split.training)
        kept.append(start + split.validation)
        start += len(one)
    unknown = set(leave_out) - {item.category or item.name.partition(":")[0] for one in sources for item in one.objects}
    if unknown:
        raise InputError(f"families to leave out: {', '.join(sorted(unknown))} do not occur")
    return rows, np.concatenate(kept)
