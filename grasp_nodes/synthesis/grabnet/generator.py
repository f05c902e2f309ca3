"""GrabNet as a generator of grasps: CoarseNet's hands, and RefineNet's of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from grasp_nodes.errors import InputError
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.object_encoders import BasisPoints
from grasp_nodes.synthesis.grabnet.coarse import CoarseConfig, CoarseNet
from grasp_nodes.synthesis.grabnet.refine import RefineConfig, RefineNet
from grasp_nodes.synthesis.grasp_data import SURFACE_SHARE
from grasp_nodes.synthesis.posed_vectors import PosedVectors
from grasp_nodes.synthesis.trained_parts import TrainedPart, load_part, version_of
from grasp_nodes.synthesis.vector_generator import VectorGenerator

GRABNET, GRABNET_REFINE = "grabnet", "grabnet-refine"


class GrabNetNetwork:
    """Noise and object to hand in one pass, then RefineNet's few.

    Args:
        coarse: of the hands. refine: None = without. posed: of their vectors' coder.
    """

    def __init__(self, coarse: CoarseNet, refine: RefineNet | None, posed: PosedVectors) -> None:
        self._coarse, self._refine, self._posed = coarse, refine, posed
        self._basis = BasisPoints(coarse.config.basis, coarse.config.radius)
        self.noise_size = coarse.config.latent
        self.principal = coarse.config.principal
        self.num_points = SURFACE_SHARE * coarse.config.points

    def encode(self, points: Tensor) -> Tensor:
        """As `VectorNetwork`: distances of the basis points."""
        return self._basis(points)

    def sample(self, points: Tensor, told: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """As `VectorNetwork`."""
        vectors = self._coarse.decode(told, noise)
        if self._refine is None:
            return vectors
        return self._refine(vectors, points[:, : self._refine.config.points], self._posed)


def load_coarse(model: HandModel, folder: Path | None = None) -> TrainedPart:
    """CoarseNet; arguments and errors as for `load_part`."""
    return load_part(GRABNET, CoarseConfig, CoarseNet, model, folder)


def load_refine(model: HandModel, folder: Path | None = None) -> TrainedPart:
    """RefineNet; as `load_coarse`."""
    return load_part(GRABNET_REFINE, RefineConfig, RefineNet, model, folder)


def load_grabnet(model: HandModel, refined: bool = False, folder: Path | None = None) -> VectorGenerator:
    """GrabNet from its weight files.

    Args:
        model: the hand that it was trained with; its device is where it runs. refined: with RefineNet.
        folder: of the files; None, or for files that are not in it: the installed ones.

    Raises:
        MissingFileError: there are no weights; the message names the command that trains them.
        InputError: they are damaged, of another hand, or tell of different vectors.
    """
    coarse = load_coarse(model, folder)
    if not refined:
        network = GrabNetNetwork(coarse.network, None, PosedVectors(coarse.coder))
        return VectorGenerator(GRABNET, network, coarse.coder, version_of(coarse))
    refine = load_refine(model, folder)
    if refine.coder.description() != coarse.coder.description():
        raise InputError(
            f"{refine.weights.path}: its hands' vectors are not those of {coarse.weights.path}: train it anew with "
            f"'{refine.weights.card.command or f'grasp-nodes train {GRABNET_REFINE} -o DIR'}'"
        )
    network = GrabNetNetwork(coarse.network, refine.network, PosedVectors(coarse.coder))
    return VectorGenerator(GRABNET_REFINE, network, coarse.coder, version_of(coarse, refine))
