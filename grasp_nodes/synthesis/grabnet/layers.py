"""The residual blocks that both of GrabNet's networks are made of."""

from __future__ import annotations

from torch import Tensor, nn

SLOPE = 0.2


class ResidualBlock(nn.Module):
    """Two linear layers with batch norm and a way around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, outputs),
            nn.BatchNorm1d(outputs),
            nn.LeakyReLU(SLOPE),
            nn.Linear(outputs, outputs),
            nn.BatchNorm1d(outputs),
        )
        self.around = nn.Linear(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(B, outputs) of (B, inputs)."""
        return nn.functional.leaky_relu(self.layers(features) + self.around(features), SLOPE)
