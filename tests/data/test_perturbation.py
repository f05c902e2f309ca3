from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from grasp_nodes.data.grasp_readers.perturbation import (
    CONTACTOPT_NOISE,
    NOISE_LEVELS,
    NoiseLevel,
    perturb,
    perturbed_contactpose,
)
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_arrays
from grasp_nodes.hand.parameters import HandParams

COMPONENTS = load_hand_arrays("right", OPEN_HAND_FILE).hands_components


def random_grasps(count: int, seed: int = 0) -> LabelledGrasps:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.tensor(rng.normal(size=shape))

    return LabelledGrasps(
        source="contactpose",
        hands=HandParams(
            draw(count, 3), draw(count, 45), draw(count, 10), draw(count, 3), torch.ones(count, dtype=torch.float64)
        ),
        hand_model_id="mano",
        hand_fingerprint="",
        objects=[GraspedObject("mug"), GraspedObject("bowl")],
        object_index=np.arange(count) % 2,
        kind=np.full(count, -1),
        subject=np.array([str(1 + k % 50) for k in range(count)]),
        sequence=np.array([f"full{1 + k % 50}_use" for k in range(count)]),
        frame=np.arange(count),
        metrics={"depth": np.zeros(count)},
    )


@pytest.mark.parametrize("level", [1, 2, CONTACTOPT_NOISE])
def test_noise_has_the_published_deviations(level: int | NoiseLevel) -> None:
    expected = level if isinstance(level, NoiseLevel) else NOISE_LEVELS[level]
    grasps = random_grasps(100)
    noisy = perturb(grasps, level, 3, COMPONENTS, copies=80)
    clean = np.repeat(np.arange(100), 80)
    before, after = grasps.hands, noisy.hands

    shift = after.transl.numpy() - before.transl.numpy()[clean]
    turn = (
        Rotation.from_rotvec(after.global_orient.numpy())
        * Rotation.from_rotvec(before.global_orient.numpy()[clean]).inv()
    )
    bend = after.hand_pose.numpy() - before.hand_pose.numpy()[clean]
    # Coefficients by least squares in all 45 components: the first 15 carry the noise, the others none.
    coefficients = np.linalg.lstsq(COMPONENTS.T, bend.T, rcond=None)[0].T
    for values, sigma in (
        (shift, expected.translation),
        (turn.as_rotvec(), expected.rotation),
        (coefficients[:, :15], expected.pca),
    ):
        # 8000 samples: the deviation of a standard deviation is sigma / sqrt(16000), 0.8 %
        np.testing.assert_allclose(values.std(0), sigma, rtol=0.035)
        np.testing.assert_allclose(values.mean(0), 0, atol=5 * sigma / np.sqrt(8000))
    np.testing.assert_allclose(coefficients[:, 15:], 0, atol=1e-9)
    assert abs(np.corrcoef(np.c_[shift, turn.as_rotvec(), coefficients[:, :15]].T) - np.eye(21)).max() < 0.06
    np.testing.assert_array_equal(after.betas.numpy(), before.betas.numpy()[clean])


def test_level_0_changes_nothing_and_rows_keep_their_labels() -> None:
    grasps = random_grasps(6)
    noisy = perturb(grasps, 0, 1, COMPONENTS, copies=3)
    np.testing.assert_allclose(noisy.hands.hand_pose.numpy(), np.repeat(grasps.hands.hand_pose.numpy(), 3, 0))
    np.testing.assert_allclose(
        Rotation.from_rotvec(noisy.hands.global_orient.numpy()).as_matrix(),
        Rotation.from_rotvec(np.repeat(grasps.hands.global_orient.numpy(), 3, 0)).as_matrix(),
        atol=1e-12,
    )
    assert list(noisy.frame) == list(np.repeat(np.arange(6), 3))
    assert list(noisy.subject[:4]) == ["1", "1", "1", "2"]
    assert not noisy.metrics  # they were measured on the clean hands


def test_seed_decides() -> None:
    grasps = random_grasps(4)
    first, same, other = (perturb(grasps, 2, seed, COMPONENTS, 2).hands.transl for seed in (7, 7, 8))
    assert torch.equal(first, same)
    assert not torch.isclose(first, other).any()


def test_perturbed_contactpose_has_16_and_4_versions_and_splits_people() -> None:
    grasps = random_grasps(100)
    parts = perturbed_contactpose(grasps, 0, COMPONENTS)
    assert {name: len(part.noisy) for name, part in parts.items()} == {"train": 70 * 16, "val": 10 * 4, "test": 20 * 4}
    people = {name: set(part.noisy.subject) for name, part in parts.items()}
    assert not people["train"] & people["val"]
    assert not people["train"] & people["test"]
    assert not people["val"] & people["test"]
    assert len(perturbed_contactpose(grasps[np.arange(35)], 0, COMPONENTS)["test"].noisy) == 0
    for part in parts.values():
        np.testing.assert_array_equal(part.noisy.frame, part.clean.frame)
        np.testing.assert_array_equal(part.noisy.hands.betas.numpy(), part.clean.hands.betas.numpy())
    # the splits do not share one stream of noise
    moved = [(part.noisy.hands.transl - part.clean.hands.transl)[:4] for part in parts.values()]
    assert not torch.isclose(moved[0], moved[1]).any()
    assert not torch.isclose(moved[1], moved[2]).any()


def test_wrong_arguments_are_named() -> None:
    grasps = random_grasps(2)
    with pytest.raises(InputError, match=r"noise level: expected 0..2, got 3"):
        perturb(grasps, 3, 0, COMPONENTS)
    with pytest.raises(InputError, match="components: expected shape"):
        perturb(grasps, 2, 0, COMPONENTS[:6])
    with pytest.raises(InputError, match="copies"):
        perturb(grasps, 2, 0, COMPONENTS, copies=0)
    with pytest.raises(InputError, match="participant"):
        perturbed_contactpose(replace(grasps, subject=np.array(["", ""])), 0, COMPONENTS)
