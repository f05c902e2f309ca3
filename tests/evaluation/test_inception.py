"""FID: the user's TorchScript file, with a tiny network in Inception's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.evaluation.inception import InceptionFeatures, frechet_inception_distance, in_range, plain_views
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects.loading import load_object


class Means(nn.Module):
    """Features: the mean colour of each image, repeated to 2048."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(torch.float32).mean(dim=(2, 3)).repeat(1, 683)[:, :2048]


class OnRequest(nn.Module):
    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        size = 2048 if return_features else 1008
        return torch.ones(images.shape[0], size)


class Narrow(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


class Picky(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(-1, 7)


def script(module: nn.Module, path: Path) -> Path:
    torch.jit.script(module).save(str(path))
    return path


@pytest.fixture
def means(tmp_path: Path) -> Path:
    return script(Means(), tmp_path / "means.pt")


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ("symmetric", [1.0, -1.0, 2 * 51 / 255 - 1]),
        ("unit", [1.0, 0.0, 0.2]),
        ("bytes", [255.0, 0.0, 51.0]),
        ("imagenet", [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]),
    ],
)
@pytest.mark.parametrize("size", [299, 64])
def test_the_network_sees_rgb_in_its_own_range(means: Path, pixels: str, expected: list[float], size: int) -> None:
    pictures = np.tile(np.array([255, 0, 51], np.uint8), (17, size, size, 1))
    features = InceptionFeatures(means, pixels).of_pictures(pictures)
    assert features.shape == (17, 2048)
    assert features[:, :3] == pytest.approx(np.tile(expected, (17, 1)), abs=1e-4)


def test_bytes_are_bytes() -> None:
    assert in_range(torch.full((1, 3, 2, 2), 254.6), "bytes").dtype == torch.uint8


def test_a_network_that_has_features_on_request_is_asked_for_them(tmp_path: Path) -> None:
    network = InceptionFeatures(script(OnRequest(), tmp_path / "net.pt"))
    assert (network.of_pictures(np.zeros((2, 299, 299, 3), np.uint8)) == 1).all()


def test_files_that_are_no_network_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="Inception-v3 weights of your own"):
        InceptionFeatures(tmp_path / "absent.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    torch.save(Means().state_dict(), tmp_path / "state.pth")
    for name in ("noise.pt", "state.pth"):
        with pytest.raises(InputError, match=r"not a TorchScript file .* becomes one with torchvision"):
            InceptionFeatures(tmp_path / name)
    with pytest.raises(InputError, match=r"expected features \(1, 2048\), got \(1, 3\)"):
        InceptionFeatures(script(Narrow(), tmp_path / "narrow.pt"))
    with pytest.raises(InputError, match=r"cannot take images \(N, 3, 299, 299\)"):
        InceptionFeatures(script(Picky(), tmp_path / "picky.pt"))


def test_arguments_are_checked(means: Path) -> None:
    with pytest.raises(InputError, match="expected one of symmetric"):
        InceptionFeatures(means, "float")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="uint8"):
        InceptionFeatures(means).of_pictures(np.zeros((1, 299, 299, 3)))


def test_fid_of_rendered_grasps(means: Path) -> None:
    network = InceptionFeatures(means)
    model = load_hand_model("right", OPEN_HAND_FILE)
    with torch.no_grad():
        rest = model(HandParams.zeros(1)).vertices.numpy()
    faces = closed_faces(model.faces.numpy())
    item = load_object("sphere:0.03")
    near = np.concatenate([rest + [0, 0.05, 0], rest + [0.01, 0.05, 0], np.full_like(rest, np.nan)])
    far = np.concatenate([rest + [0, 0.2, 0], rest + [0.01, 0.2, 0]])
    same = frechet_inception_distance(network, [(item, near)], [(item, near[::-1])], faces)
    assert same.distance < 1e-9
    assert (same.samples, same.reference_samples) == (6, 6), "three views of each hand without NaN"
    apart = frechet_inception_distance(network, [(item, far)], [(item, near)], faces)
    assert apart.distance > 1e-3
    with pytest.raises(InputError, match="at least two"):
        frechet_inception_distance(network, [(item, near[2:])], [(item, near)], faces)


def test_plain_views_show_no_contact() -> None:
    model = load_hand_model("right", OPEN_HAND_FILE)
    with torch.no_grad():
        rest = model(HandParams.zeros(1)).vertices[0].numpy()
    views = plain_views(load_object("sphere:0.03"), rest, closed_faces(model.faces.numpy())).astype(int)
    assert views.shape == (3, 299, 299, 3)
    drawn = views[(views < 250).any(axis=3)]
    # Skin and grey only: green lies between red and blue everywhere.
    assert ((drawn[:, 1] <= drawn[:, 0] + 6) & (drawn[:, 1] >= drawn[:, 2] - 6)).all()
