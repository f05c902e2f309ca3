"""The asymmetric auto-encoder of FastGrasp (section 3.2): hand vertices in, hand parameters out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import Tensor, nn

from grasp_nodes.errors import InputError
from grasp_nodes.hand.codes import HandLayout
from grasp_nodes.hand.parameters import NUM_VERTICES
from grasp_nodes.learning.object_encoders import Norm
from grasp_nodes.synthesis.fastgrasp.hand_reader import HandInput, HandReader
from grasp_nodes.synthesis.fastgrasp.layers import perceptron

PAPER_LAYOUT = HandLayout(point="wrist", orient="axis_angle", pose="axis_angle", shape=True)
"""The paper's 61 parameters: 48 of the pose, 10 of the shape, 3 of the place."""
SMALL_LAYOUT = HandLayout(point="palm", orient="rotation_6d", pose="axis_angle", shape=True)
"""64: the whole hand's turn has six numbers, since objects of any turn are grasped here and axis-angle jumps at pi."""


@dataclass(frozen=True)
class AutoEncoderConfig:
    """Sizes.

    latent: N_z. widths: of the hand's PointNet. transform: whether it has a T-Net. norm: of its layers.
    encoder, decoder: layers between.
    input: see `HandReader`; ``parameters`` is the ablation "hand param" of Table 4.
    vertices: of the hand that are read, spread over it.
    principal: whether objects are turned to their principal axes (`principal_frames`), here and wherever this is used.
    """

    latent: int = 768
    widths: tuple[int, ...] = (64, 128, 1024)
    transform: bool = True
    norm: Norm = "batch"
    encoder: tuple[int, ...] = (2048, 1024)
    decoder: tuple[int, ...] = (2048, 1024, 256)
    input: HandInput = "vertices"
    vertices: int = NUM_VERTICES
    principal: bool = False

    def __post_init__(self) -> None:
        if self.input not in get_args(HandInput):
            raise InputError(f"input: expected one of {', '.join(get_args(HandInput))}, got {self.input!r}")
        if not 0 < self.vertices <= NUM_VERTICES:
            raise InputError(f"vertices: expected 1 to {NUM_VERTICES}, got {self.vertices}")


PAPER_AUTOENCODER = AutoEncoderConfig()
SMALL_AUTOENCODER = AutoEncoderConfig(
    96, (32, 64, 256), False, "layer", (512, 256), (512, 256), "ordered", 160, principal=True
)


class HandAutoEncoder(nn.Module):
    """Latents of hands, and hands of latents.

    Args:
        config: sizes. size: of a hand's vector, which is what is decoded.
    """

    def __init__(self, config: AutoEncoderConfig, size: int) -> None:
        super().__init__()
        self.config, self.size = config, size
        self.reader = HandReader(
            *(config.input, size, config.vertices, config.widths, config.transform, config.norm, config.encoder[0])
        )
        self.encoder = perceptron((config.widths[-1], *config.encoder, config.latent))
        self.decoder = perceptron((config.latent, *config.decoder, size))

    def encode(self, vertices: Tensor, vectors: Tensor) -> Tensor:
        """Latents (B, N_z) of hands: vertices (B, V, 3), m, and vectors (B, D); the config says which is read."""
        return self.encoder(self.reader(vertices, vectors))

    def decode(self, latents: Tensor) -> Tensor:
        """Vectors (B, D) of latents (B, N_z)."""
        return self.decoder(latents)

    def forward(self, vertices: Tensor, vectors: Tensor) -> Tensor:
        """Vectors (B, D), encoded and decoded."""
        return self.decode(self.encode(vertices, vectors))
