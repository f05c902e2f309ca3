"""Features of grasps by a small network of our own, for a Fréchet distance that needs nobody's weights.

The network looks at three views of a grasp (`view_images`) and has learned, on synthetic grasps, to tell the kind of
the grasp, the object's family, and how much a hand was shifted, turned and bent away from a real grasp. So its features
move with naturalness and contact, which those of a network for photographs hardly do. The distance has its own name,
`frechet_view_features`: it is no FID. Features are scaled so that those of the training's real grasps have a mean
variance of 1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.view_images import CHANNELS, VIEWS, GraspViews
from grasp_nodes.npz import read_npz, write_npz
from grasp_nodes.objects.model import ObjectModel

NAME = "frechet_view_features"
VERSION = "view_features_v1"
"""Of the images, the network's shape and its weights: a change of any of them is another version."""
WEIGHTS_FILE = Path(__file__).resolve().parent / "data" / f"{VERSION}.npz"
WEIGHTS_VARIABLE = "GRASP_NODES_VIEW_FEATURES"
TRAINING_COMMAND = "grasp-nodes train view-features -o DIR"
FEATURES = 64
_WIDTHS = (16, 32, 64, 96, 96)
_BATCH = 64
_LARGEST = 10_000_000
"""bytes of a weight file, unpacked."""


class ViewFeatureNetwork(nn.Module):
    """Five strided convolutions per view, the views one beside the other, one linear layer: 180,000 numbers."""

    def __init__(self) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for before, after in zip((CHANNELS, *_WIDTHS), _WIDTHS, strict=False):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            steps += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*steps)
        self.join = nn.Linear(VIEWS * _WIDTHS[-1], FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Features.

        Args:
            images: (B, 3 views, 3 channels, 64, 64), uint8 as `GraspViews` makes them.

        Returns:
            (B, 64) float32, not scaled.
        """
        pixels = images.flatten(0, 1).to(torch.float32) / 255
        return self.join(self.body(pixels).mean(dim=(2, 3)).reshape(len(images), -1))


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """The features of the default Fréchet distance; a `FeatureNetwork` of the harness.

    network: in evaluation mode. scale: features are multiplied by it. name: version and hash of the weights.
    card: what is known of the training, as text.
    """

    network: ViewFeatureNetwork
    scale: float
    name: str
    card: str = ""

    def __call__(self, object_model: ObjectModel, hand_vertices: np.ndarray) -> np.ndarray:
        """Features of hands on an object.

        Args:
            object_model: the object. hand_vertices: (B, 778, 3), m, object frame, finite; left hands count as the
                right hands that mirror them.

        Returns:
            (B, 64) float64.
        """
        if not len(hand_vertices):
            return np.zeros((0, FEATURES))
        return self.of_images(GraspViews(object_model, threads=1)(hand_vertices))

    def of_images(self, images: np.ndarray) -> np.ndarray:
        """Features (B, 64) float64 of images (B, 3, 3, 64, 64) uint8."""
        with torch.no_grad():
            parts = [self.network(part) for part in torch.from_numpy(images).split(_BATCH)]
        return self.scale * torch.cat(parts).numpy().astype(np.float64)


def load_view_features(path: Path | None = None) -> ViewFeatures:
    """The network with its weights.

    Args:
        path: of a weight file; None = the one that the environment's GRASP_NODES_VIEW_FEATURES names, else the one
            that travels with the package.

    Raises:
        MissingFileError: it is not there; the message names the command that makes it.
        InputError: it is something else, or of another version.
    """
    path = path or _weights_path()
    if not path.is_file():
        raise MissingFileError(
            f"{path}: the weights of the network behind {NAME} are not there: train them with '{TRAINING_COMMAND}' and "
            f"name the file with {WEIGHTS_VARIABLE}"
        )
    arrays = read_npz(path, "weight file", _LARGEST)
    if str(arrays.get("version")) != VERSION:
        raise InputError(f"{path}: expected weights of version {VERSION}, got {arrays.get('version')}")
    network = ViewFeatureNetwork()
    expected = network.state_dict()
    state = {name: torch.from_numpy(np.asarray(arrays[name])) for name in expected if name in arrays}
    wrong = [
        name
        for name, value in expected.items()
        if name not in state or state[name].shape != value.shape or not torch.isfinite(state[name]).all()
    ]
    scale = arrays.get("scale")
    if wrong or scale is None or scale.shape != () or not float(scale) > 0:
        raise InputError(f"{path}: not a weight file of {VERSION}: missing or wrong: {', '.join(wrong[:3]) or 'scale'}")
    network.load_state_dict(state)
    network.eval()
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(expected)))
    return ViewFeatures(network, float(scale), f"{VERSION}-{digest.hexdigest()[:8]}", str(arrays.get("card", "")))


def find_view_features() -> ViewFeatures | None:
    """The network, or None where nobody names weights and none travel with the package.

    Raises:
        MissingFileError, InputError: the weights that are named are not there, or are something else.
    """
    return load_view_features() if os.environ.get(WEIGHTS_VARIABLE) or WEIGHTS_FILE.is_file() else None


def _weights_path() -> Path:
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser() if named else WEIGHTS_FILE


def save_view_features(path: Path, weights: Mapping[str, Tensor], scale: float, card: str) -> None:
    """Write a weight file: half precision, under 500 kB.

    Args:
        path: the file, in a folder that exists. weights: the state of a `ViewFeatureNetwork`.
        scale: see `ViewFeatures`. card: data, seed and accuracy of the training.
    """
    arrays = {
        name: value.numpy().astype(np.float16) if value.is_floating_point() else value.numpy()
        for name, value in weights.items()
    }
    texts = {"version": np.array(VERSION), "card": np.array(card), "scale": np.array(scale)}
    write_npz(path, {**arrays, **texts})
