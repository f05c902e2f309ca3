"""Rendered crops: what they show is where the poses say, and what must stay apart stays apart."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.hand_object_images import (
    JUDGED_OBJECTS,
    HandObjectImages,
    ImageSettings,
    draw_shard,
    images_folder,
    join_images,
    make_images,
    read_images,
    split_objects,
)
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.silhouette import rasterise_mask
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.objects.registry import family_mesh, parse_name
from grasp_nodes.paths import cache_dir

SETTINGS = ImageSettings(size=96, per_object=4, disturbed=0.0)


def read(content: bytes, name: str) -> HandObjectImages:
    with np.load(io.BytesIO(content)) as arrays:
        columns = {key: arrays[key] for key in arrays.files if key != "key"}
    return HandObjectImages(**columns, object_index=np.zeros(len(columns["focal"]), np.int64), objects=(name,))


@pytest.fixture(scope="module")
def crops() -> HandObjectImages:
    return read(draw_shard(SETTINGS, "bottle:3"), "bottle:3")


def masks(crops: HandObjectImages) -> tuple[np.ndarray, np.ndarray]:
    """(N, S, S) bool of hand and object, projected with the labels alone."""
    size, middle = crops.images.shape[1], 0.5 * (crops.images.shape[1] - 1)
    model = load_hand_model("right")
    with torch.no_grad():
        hands = model(crops.hands()).vertices.numpy().astype(np.float64)
    vertices, faces = family_mesh("bottle:3")
    things = (
        np.einsum("nij,vj->nvi", crops.T_camera_object[:, :3, :3], vertices) + crops.T_camera_object[:, None, :3, 3]
    )

    def mask(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        pixels = points[..., :2] / points[..., 2:] * crops.focal[:, None, None] + middle
        return rasterise_mask(pixels, points[..., 2], triangles, size, size)

    return mask(hands, np.asarray(model.arrays.faces)), mask(things, faces)


def test_hand_and_object_are_where_their_poses_put_them(crops: HandObjectImages) -> None:
    """The picture changes at the outline of what the poses project to, more than anywhere a little off it."""
    hand, thing = masks(crops)
    both = (hand | thing).astype(np.float64)
    gray = crops.images.astype(np.float64).mean(axis=3)
    for picture, covered in zip(gray, both, strict=True):
        edge = np.hypot(*np.gradient(covered)) > 0

        def across(shift: int, picture: np.ndarray = picture, edge: np.ndarray = edge) -> float:
            moved = np.roll(edge, (shift, shift), axis=(0, 1))
            return float(np.hypot(*np.gradient(picture))[moved].mean())

        assert across(0) > 1.15 * max(across(7), across(-7))
    assert (hand.mean(axis=(1, 2)) > 0.04).all()
    assert (thing.mean(axis=(1, 2)) > 0.025).all()


def test_the_crop_holds_hand_and_object(crops: HandObjectImages) -> None:
    model = load_hand_model("right")
    with torch.no_grad():
        vertices = model(crops.hands()).vertices.numpy()
    pixels = vertices[..., :2] / vertices[..., 2:] * crops.focal[:, None, None] + 47.5
    assert np.abs(pixels - 47.5).max() < 47.5 * 1.2


def test_hands_touch_what_they_hold(crops: HandObjectImages) -> None:
    from scipy.spatial import cKDTree

    vertices, faces = family_mesh("bottle:3")
    model = load_hand_model("right")
    with torch.no_grad():
        hands = model(crops.hands()).vertices.numpy()
    for hand, pose in zip(hands, crops.T_camera_object, strict=True):
        tips = (hand - pose[:3, 3]) @ pose[:3, :3]
        middle = vertices[faces].mean(axis=1)
        assert cKDTree(np.concatenate([vertices, middle])).query(tips)[0].min() < 0.006


def test_the_same_settings_give_the_same_bytes_and_other_seeds_others(crops: HandObjectImages) -> None:
    again = read(draw_shard(SETTINGS, "bottle:3"), "bottle:3")
    assert np.array_equal(again.images, crops.images)
    other = read(draw_shard(ImageSettings(size=96, per_object=1, disturbed=0.0, seed=1), "bottle:3"), "bottle:3")
    assert not np.array_equal(other.images[0], crops.images[0])


def test_splits_share_nothing_and_the_benchmark_is_in_none() -> None:
    train, validation, judged, new = (split_objects(split) for split in ("train", "validation", "judged", "new"))
    assert len({*train, *validation, *judged}) == len(train) + len(validation) + len(judged)
    assert not {*train, *validation, *judged} & JUDGED_OBJECTS
    assert not any(parse_name(name).held_out for name in (*train, *validation, *judged))
    assert all(parse_name(name).held_out for name in new)
    assert all(len({parse_name(name).family for name in part}) >= 9 for part in (validation, judged))


def test_the_judged_objects_are_those_of_the_benchmark_s_clips() -> None:
    """As the clips say, where they were rendered: to search their motions anew takes an hour."""
    folders = sorted(cache_dir("clips").glob("bench-v2-*-seed0-[01][0-9]-30/clip.json"))
    if len(folders) != 20:
        pytest.skip("the benchmark's 20 clips of seed 0 are not in the cache")
    shown = {json.loads(path.read_text())["object"] for path in folders}
    assert shown & {one.name for one in open_grasps().objects} == JUDGED_OBJECTS


def test_the_benchmark_s_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="benchmark"):
        make_images(tmp_path, ["box:24"], SETTINGS)


def test_archives_are_kept_and_those_of_other_settings_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ImageSettings(size=32, per_object=1)
    made = make_images(tmp_path, ["sphere:0"], small, processes=1)
    stamp = next(tmp_path.glob("*.npz")).stat().st_mtime_ns
    again = make_images(tmp_path, ["sphere:0"], small, processes=1)
    assert next(tmp_path.glob("*.npz")).stat().st_mtime_ns == stamp
    assert np.array_equal(made.images, again.images)
    with pytest.raises(InputError, match="other settings"):
        read_images(tmp_path, ["sphere:0"], ImageSettings(size=32, per_object=2))
    monkeypatch.setenv("GRASP_NODES_CACHE", str(tmp_path / "cache"))
    assert images_folder(small) != images_folder(ImageSettings(size=32, per_object=2))


def test_joined_sets_count_the_same_objects_once(crops: HandObjectImages) -> None:
    both = join_images([crops, crops.rows(slice(0, 2))])
    assert both.objects == ("bottle:3",)
    assert len(both) == 6
    assert np.array_equal(both.images[4:], crops.images[:2])
