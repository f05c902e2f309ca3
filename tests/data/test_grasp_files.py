"""Files of grasps: what is written is read again, and whatever else comes is one clear error."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.data.grasp_files import (
    FORMAT_VERSION,
    REGISTRY_VERSION,
    content_sha256,
    grasp_arrays,
    mesh_sha256,
    read_grasps,
    write_grasps,
)
from grasp_nodes.data.labelled_grasps import KINDS, GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.objects import registry

HAND = ("global_orient", "hand_pose", "betas", "transl", "scale")
MEGABYTES_ALLOWED = 12


def made_up(count: int, objects: int = 3, seed: int = 0, half: bool = True) -> LabelledGrasps:
    """Random grasps, of float16's values or not."""
    rng = np.random.default_rng(seed)

    def values(*shape: int) -> torch.Tensor:
        drawn = rng.normal(size=(count, *shape)).astype(np.float32)
        return torch.from_numpy(drawn.astype(np.float16).astype(np.float32) if half else drawn)

    names = [f"mug:{k}" for k in range(objects)]
    return LabelledGrasps(
        source="made up",
        hands=HandParams(values(3), values(45), values(10), values(3), torch.full((count,), 1.25), "left"),
        hand_model_id="some_hand",
        hand_fingerprint="f" * 64,
        objects=[
            GraspedObject(name, f"family:{name}", 0.5, rng.normal(size=(4, 4)), "mug", "train", "abc") for name in names
        ],
        object_index=rng.integers(0, objects, count),
        kind=rng.integers(-1, len(KINDS), count),
        subject=np.array([f"s{k % 7}" for k in range(count)], np.str_),
        sequence=np.full(count, ""),
        frame=rng.integers(0, 10**10, count),
        metrics={"depth": rng.random(count, np.float32), "hold": rng.random(count).astype(np.float16)},
        attributes={"seed": "7", "licence": "CC0-1.0", REGISTRY_VERSION: str(registry.VERSION)},
    )


def assert_equal(found: LabelledGrasps, expected: LabelledGrasps) -> None:
    for name in HAND:
        assert torch.equal(getattr(found.hands, name), getattr(expected.hands, name)), name
    for name in ("object_index", "kind", "subject", "sequence", "frame"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    for name in ("source", "hand_model_id", "hand_fingerprint", "attributes"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.hands.side == expected.hands.side
    assert found.metrics.keys() == expected.metrics.keys()
    for name, values in expected.metrics.items():
        assert found.metrics[name].dtype == values.dtype
        assert np.array_equal(found.metrics[name], values)
    assert len(found.objects) == len(expected.objects)
    for one, other in zip(found.objects, expected.objects, strict=True):
        for name in ("name", "mesh", "scale", "category", "split", "mesh_sha256"):
            assert getattr(one, name) == getattr(other, name), name
        assert np.array_equal(one.transform, other.transform)


def changed(path: Path, grasps: LabelledGrasps, **arrays: np.ndarray | None) -> Path:
    """A file with some of its arrays replaced, or left out where None."""
    content = {**grasp_arrays(grasps), **arrays}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 1000), precision=st.sampled_from(["float16", "float32"]))
def test_what_is_written_is_read_again(tmp_path_factory, count, seed, precision):
    grasps = made_up(count, seed=seed, half=precision == "float16")
    path = tmp_path_factory.mktemp("set") / "grasps.npz"
    write_grasps(path, grasps, precision)
    assert_equal(read_grasps(path, "f" * 64), grasps)


def test_float16_rounds_and_float32_does_not(tmp_path):
    grasps = made_up(50, half=False)
    write_grasps(tmp_path / "half.npz", grasps)
    found = read_grasps(tmp_path / "half.npz")
    assert torch.equal(found.hands.hand_pose, grasps.hands.hand_pose.half().float())
    assert not torch.equal(found.hands.hand_pose, grasps.hands.hand_pose)
    # Its arrays can be had with numpy alone, and have the documented type.
    with np.load(tmp_path / "half.npz") as plain:
        assert plain["hand_pose"].dtype == np.float16
        assert plain["hand_pose"].shape == (50, 45)
        assert json.loads(str(plain["attributes"]))["seed"] == "7"


def test_equal_sets_give_equal_bytes_and_other_sets_other_hashes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_grasps(tmp_path / name, made_up(20, seed=seed))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    first, again, other = made_up(20), made_up(20), made_up(20, seed=1)
    assert content_sha256(first) == content_sha256(again) != content_sha256(other)
    assert content_sha256(first) == content_sha256(replace(first, attributes={"versions": "others"}))
    moved = replace(first, object_index=(first.object_index + 1) % 3)
    assert content_sha256(first) != content_sha256(moved)


def test_the_published_size_fits(tmp_path):
    grasps = made_up(50_000, objects=420)
    more = {name: np.random.default_rng(1).random(50_000, np.float32) for name in ("a", "b", "c", "d")}
    write_grasps(tmp_path / "big.npz", replace(grasps, metrics={**grasps.metrics, **more}))
    assert (tmp_path / "big.npz").stat().st_size < MEGABYTES_ALLOWED * 1e6


def test_files_that_are_none_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(MissingFileError, match=r"x\.npz: there is no such file of grasps"):
        read_grasps(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="0 bytes"):
        read_grasps(path)
    path.write_bytes(b"no archive at all")
    with pytest.raises(InputError, match="not a readable file of grasps"):
        read_grasps(path)
    np.savez(path, global_orient=np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"not a file of grasps .*'format'.*it has global_orient"):
        read_grasps(path)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "x.npz"
    write_grasps(path, made_up(30))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"x\.npz: not a readable file of grasps"):
        read_grasps(path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"format_version": np.array(FORMAT_VERSION + 1)}, f"version {FORMAT_VERSION + 1} .*pip install --upgrade"),
        ({"hand_pose": None}, "there is no array 'hand_pose'"),
        ({"hand_pose": np.zeros((5, 44), np.float16)}, r"hand_pose: expected floating point of shape \(5, 45\)"),
        ({"betas": np.zeros((5, 10), np.int32)}, "betas: expected floating point .* got int32"),
        ({"kind": np.full(5, 9, np.int8)}, "kind"),
        ({"object_index": np.full(5, 3, np.int32)}, "object_index"),
        ({"object_index": np.array(3)}, "object_index: expected signed integer"),
        ({"side": np.array("both")}, "side"),
        ({"attributes": np.array("{")}, "attributes"),
        ({"attributes": np.array('{"seed": 1}')}, "JSON object of strings"),
        ({"object_scale": np.array([1.0, np.nan, 1.0])}, "object_scale"),
        ({"object_mesh": np.array(["family:mug:1"])}, r"object_mesh: expected text of shape \(3,\)"),
        ({"attributes": np.array(json.dumps({REGISTRY_VERSION: "0"}))}, "other meshes.*grasp-nodes synthesize"),
    ],
)
def test_damaged_content_is_refused_by_name(tmp_path, arrays, said):
    path = changed(tmp_path / "x.npz", made_up(5), **arrays)
    with pytest.raises(InputError, match=rf"x\.npz: (?s:.*){said}"):
        read_grasps(path)


def test_a_file_of_another_hand_is_refused_with_the_remedy(tmp_path):
    write_grasps(tmp_path / "x.npz", made_up(5))
    with pytest.raises(
        InputError, match=r"some_hand with fingerprint ffffffffffff, expected fingerprint 0123.*Load the"
    ):
        read_grasps(tmp_path / "x.npz", "0123456789abcdef")
    assert len(read_grasps(tmp_path / "x.npz")) == 5


def test_no_grasps_are_refused_unless_allowed(tmp_path):
    write_grasps(tmp_path / "x.npz", made_up(0))
    with pytest.raises(InputError, match="holds no grasps"):
        read_grasps(tmp_path / "x.npz")
    found = read_grasps(tmp_path / "x.npz", allow_empty=True)
    assert len(found) == 0
    assert len(found.objects) == 3


def test_poses_that_are_not_finite_are_counted_and_dropped(tmp_path, caplog):
    grasps = made_up(6)
    pose, transl = grasp_arrays(grasps)["hand_pose"], grasp_arrays(grasps)["transl"]
    pose[2, 40], transl[4, 0] = np.nan, np.inf
    path = changed(tmp_path / "x.npz", grasps, hand_pose=pose, transl=transl)
    with caplog.at_level(logging.WARNING):
        found = read_grasps(path)
    assert "dropped 2 of 6 grasps" in caplog.text
    assert_equal(found, grasps[np.array([0, 1, 3, 5])])


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_what_float16_cannot_hold_is_not_written(tmp_path, value):
    grasps = made_up(3)
    grasps.hands.transl[1, 1] = value
    with pytest.raises(InputError, match="made up: transl: 1 values"):
        write_grasps(tmp_path / "x.npz", grasps)
    assert not list(tmp_path.iterdir())


def test_the_hash_of_a_mesh_tells_meshes_apart():
    assert mesh_sha256("mug:0") == mesh_sha256("family:mug:0") != mesh_sha256("mug:1")
