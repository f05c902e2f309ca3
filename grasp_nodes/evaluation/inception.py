"""FID over three rendered views: the Fréchet distance of Inception-v3's features, with the user's own weights.

Each grasp is drawn from three sides in plain colours; each view is one image, as in the papers that report FID of
grasps. The weights come as a TorchScript file that maps images (N, 3, 299, 299) to features (N, 2048); a state
dictionary is no network and is refused with the lines that make one of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.frechet import FrechetDistance, frechet_distance
from grasp_nodes.evaluation.grasp_views import draw_views, hand_axes
from grasp_nodes.geometry.rendering import RenderMesh
from grasp_nodes.objects.model import ObjectModel

SIZE = 299
FEATURES = 2048
SKIN_COLOR = (0.81, 0.56, 0.42)
OBJECT_COLOR = (0.66, 0.67, 0.68)
"""RGB; fixed, as the distance depends on them."""
Range = Literal["symmetric", "imagenet", "unit", "bytes"]
"""What the network's pixels are: -1..1 (the original weights), ImageNet's normalisation (torchvision), 0..1, 0..255."""
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_BATCH = 16
_CONVERSION = (
    "with torchvision: m = torchvision.models.inception_v3(init_weights=False, transform_input=False); "
    "m.load_state_dict(torch.load(FILE, weights_only=True)); m.fc = torch.nn.Identity(); "
    "torch.jit.trace(m.eval(), torch.zeros(1, 3, 299, 299)).save('inception.pt'), and pixel range imagenet"
)


class InceptionFeatures:
    """Inception-v3 out of a TorchScript file."""

    def __init__(self, path: Path, pixels: Range = "symmetric") -> None:
        """Load and try the network.

        Args:
            path: a TorchScript file. If its forward has an argument return_features, it is called with True.
            pixels: the range that it was trained for.

        Raises:
            MissingFileError: no such file. InputError: it is no TorchScript, or not of these shapes.
        """
        if pixels not in get_args(Range):
            raise InputError(f"pixels: expected one of {', '.join(get_args(Range))}, got {pixels!r}")
        if not path.is_file():
            raise MissingFileError(
                f"{path}: there is no such file; FID needs Inception-v3 weights of your own as TorchScript: "
                f"{_CONVERSION}"
            )
        try:
            self._module = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{path}: not a TorchScript file ({reason}); a state dictionary becomes one {_CONVERSION}"
            ) from error
        self._path, self._pixels = path, pixels
        names = {argument.name for argument in self._module.forward.schema.arguments}
        self._options = {"return_features": True} if "return_features" in names else {}
        self.of_pictures(np.zeros((1, SIZE, SIZE, 3), np.uint8))

    def __call__(self, object_model: ObjectModel, hand_vertices: np.ndarray, hand_faces: np.ndarray) -> np.ndarray:
        """Features of every view of B grasps.

        Args:
            object_model: the object. hand_vertices: (B, V, 3), m, object frame, finite. hand_faces: (F, 3), outward.

        Returns:
            (3 B, 2048) float64, the views of a grasp one after the other.
        """
        views = [plain_views(object_model, hand, hand_faces) for hand in hand_vertices]
        return self.of_pictures(np.concatenate(views)) if views else np.zeros((0, FEATURES))

    def of_pictures(self, pictures: np.ndarray) -> np.ndarray:
        """Features (N, 2048) float64 of pictures (N, H, W, 3) uint8, RGB, brought to 299 x 299.

        Raises:
            InputError: pictures of another shape, or a network that does not give such features.
        """
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise InputError(f"pictures: expected uint8 (N, H, W, 3), got {pictures.dtype} {pictures.shape}")
        parts = [
            self._batch(torch.from_numpy(part.copy()))
            for part in np.split(pictures, range(_BATCH, len(pictures), _BATCH))
        ]
        return np.concatenate(parts)

    def _batch(self, pictures: Tensor) -> np.ndarray:
        images = pictures.permute(0, 3, 1, 2).to(torch.float32)
        if images.shape[2:] != (SIZE, SIZE):
            images = torch.nn.functional.interpolate(
                images, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True
            )
        with torch.no_grad():
            try:
                found = self._module(in_range(images, self._pixels), **self._options)
            except RuntimeError as error:
                raise InputError(
                    f"{self._path}: cannot take images (N, 3, {SIZE}, {SIZE}): {str(error).strip().splitlines()[-1]}"
                ) from error
        if not isinstance(found, Tensor) or tuple(found.shape) != (len(images), FEATURES):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"{self._path}: expected features ({len(images)}, {FEATURES}), got {shape}: is it Inception?"
            )
        return found.numpy().astype(np.float64)


def in_range(images: Tensor, pixels: Range) -> Tensor:
    """Images (N, 3, H, W) of 0..255 in the range of a network."""
    if pixels == "bytes":
        return images.round().to(torch.uint8)
    unit = images / 255
    if pixels == "unit":
        return unit
    if pixels == "symmetric":
        return 2 * unit - 1
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_IMAGENET_MEAN, _IMAGENET_DEVIATION))
    return (unit - mean) / deviation


def plain_views(object_model: ObjectModel, hand_vertices: np.ndarray, hand_faces: np.ndarray) -> np.ndarray:
    """(3, 299, 299, 3) uint8: a grasp from three sides, without the colours of contact."""
    meshes = [
        RenderMesh(object_model.vertices, object_model.faces, np.array(OBJECT_COLOR), smooth=False),
        RenderMesh(hand_vertices, hand_faces, np.array(SKIN_COLOR)),
    ]
    return draw_views(meshes, hand_axes(np.asarray(hand_vertices, np.float64), hand_faces), SIZE)


def frechet_inception_distance(
    network: InceptionFeatures,
    grasps: Iterable[tuple[ObjectModel, np.ndarray]],
    reference: Iterable[tuple[ObjectModel, np.ndarray]],
    hand_faces: np.ndarray,
) -> FrechetDistance:
    """FID of two sets of grasps, each view one sample.

    Args:
        network: Inception. grasps, reference: objects, each with hands (B, V, 3), m, object frame; hands with NaN are
            left out. hand_faces: (F, 3), outward.

    Raises:
        InputError: fewer than two views in one of the sets.
    """
    sets = []
    for given in (grasps, reference):
        parts = [
            network(item, hands[np.isfinite(hands).all(axis=(1, 2))], hand_faces) for item, hands in given if len(hands)
        ]
        sets.append(np.concatenate([np.zeros((0, FEATURES)), *parts]))
    return frechet_distance(*sets)
