"""Weight files: what comes back, and everything that can be wrong with one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save
from torch import nn

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.learning import weights as weight_files
from grasp_nodes.learning.compact_tensors import from_bytes, to_bytes
from grasp_nodes.learning.tensor_files import unpack_tensors, write_tensors
from grasp_nodes.learning.weights import (
    SHIPPED_FOLDER,
    WEIGHTS_VARIABLE,
    WeightCard,
    find_weights,
    read_weights,
    save_weights,
    ship_weights,
    shipped_hashes,
)

CARD = WeightCard(
    "toy",
    config={"width": 80, "layers": [1, 2]},
    normalization={"mean": [0.5, 1.0]},
    hand_fingerprint="ab" * 32,
    data="open_grasps_v1",
    seed=4,
    command="grasp-nodes train toy -o DIR",
    hours=0.25,
    metrics={"loss": 0.5},
)


def make_network(width: int = 80) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.Linear(width, 3))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.safetensors"
    save_weights(path, make_network().state_dict(), CARD)
    return path


def test_weights_come_back(file):
    network = make_network()
    weights = read_weights(file, "toy", "ab" * 32)
    assert weights.card == CARD
    assert weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    loaded = make_network()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    weights.load_into(loaded)
    for name, expected in network.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == expected.dtype
        if expected.numel() > 4096:
            assert not torch.equal(found, expected)
            # Half precision: 11 significant bits.
            torch.testing.assert_close(found, expected, rtol=2.0**-11, atol=2.0**-24)
        else:
            assert torch.equal(found, expected)


def test_other_readers_see_half_precision(file):
    arrays = load_file(file)
    assert arrays["0.weight"].dtype == np.float16
    assert arrays["0.bias"].dtype == np.float32
    assert arrays["1.num_batches_tracked"].dtype == np.int64


def test_equal_content_gives_equal_bytes(tmp_path, file):
    for k in range(5):
        other = tmp_path / f"{k}.safetensors"
        digest = save_weights(other, dict(reversed(make_network().state_dict().items())), CARD)
        assert other.read_bytes() == file.read_bytes()
        assert digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_full_precision_is_exact(tmp_path):
    save_weights(tmp_path / "f.safetensors", make_network().state_dict(), CARD, precision="float32")
    found = read_weights(tmp_path / "f.safetensors").tensors
    assert all(torch.equal(found[name], value) for name, value in make_network().state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "other"}, "is of method 'toy', expected 'other'"),
        ({"hand_fingerprint": "cd" * 32}, "fingerprint abababababab.*has cdcdcdcdcdcd.*GRASP_NODES_HAND_MODEL"),
        ({"sha256": "0" * 64}, "SHA-256.*expected 000000000000.*reinstall"),
    ],
)
def test_wrong_file(file, arguments, message):
    with pytest.raises(InputError, match=message):
        read_weights(file, **arguments)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (make_network(40), r"0\.weight: expected shape \(40, 64\), got \(80, 64\).*and .* more.*train toy"),
        (nn.Sequential(nn.Linear(64, 80)), "1.bias is not of this network"),
        (nn.Sequential(*make_network(), nn.Linear(3, 1)), "3.weight is missing"),
    ],
)
def test_wrong_network(file, network, message):
    with pytest.raises(InputError, match=message):
        read_weights(file).load_into(network)


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.safetensors"):
        read_weights(tmp_path / "none.safetensors")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def torch_file(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        pickle.dumps(Evil()),
        torch_file({"a": torch.zeros(3)}),
        save({"a": np.zeros(3, np.float32)}),
        save({"a": np.zeros(3, np.float32)}, {"description": "[1]"}),
        save({"a": np.zeros(3, np.float32)}, {"description": "{"}),
        save({"a": np.zeros(3, np.float32)}, {"description": json.dumps({"format": "other"})}),
        save({}, {"description": json.dumps({"format": "grasp_nodes.weights", "format_version": 1})}),
        save({}, {"description": json.dumps({"format": "grasp_nodes.weights", "format_version": 99})}),
        (2**62).to_bytes(8, "little") + b"{}",
    ],
)
def test_files_of_something_else(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.safetensors"):
        read_weights(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_one_clear_error(file, tmp_path, data):
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, 2000))
    content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with pytest.raises(InputError, match=r"damaged\.safetensors"):
        read_weights(path, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    # Without a hash some damage cannot be seen; what can be is told as such.
    with contextlib.suppress(InputError):
        read_weights(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_values_that_cannot_be_stored(tmp_path, value):
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match=r"big: 1 values are NaN, infinite or too large"):
        save_weights(path, {"big": torch.cat([torch.zeros(5000), torch.tensor([value])])}, CARD)
    assert not path.exists()


def test_card_must_be_json(tmp_path):
    with pytest.raises(InputError, match="card of method 'toy'"):
        save_weights(tmp_path / "w.safetensors", {}, WeightCard("toy", metrics={"loss": float("nan")}))
    with pytest.raises(InputError, match="card of method 'toy'"):
        save_weights(tmp_path / "w.safetensors", {}, WeightCard("toy", config={"path": object()}))


@pytest.mark.parametrize("change", [{"hours": "long"}, {"hand_fingerprint": 7}, {"config": [1]}])
def test_card_of_wrong_types(tmp_path, change):
    path = tmp_path / "w.safetensors"
    save_weights(path, {}, replace(CARD, **change))
    with pytest.raises(InputError, match=rf"w\.safetensors.*its card has {next(iter(change))}"):
        read_weights(path)


def test_own_weights_come_before_shipped_ones(tmp_path, monkeypatch, file):
    shipped = tmp_path / "shipped"
    other = tmp_path / "other.safetensors"
    save_weights(other, make_network().state_dict(), WeightCard("toy", seed=99))
    ship_weights(other, shipped)
    monkeypatch.setattr(weight_files, "SHIPPED_FOLDER", shipped)
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    assert find_weights("toy").card.seed == 99
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(file.parent))
    assert find_weights("toy").card.seed == 4
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(shipped.parent / "nowhere"))
    with pytest.raises(MissingFileError, match="nowhere: there is no such folder"):
        find_weights("toy")
    place = shipped.parent / "nothing"
    place.mkdir()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(place))
    with pytest.raises(MissingFileError, match=r"nothing: the folder holds no weight file"):
        find_weights("toy")
    save_weights(place / "another.safetensors", make_network().state_dict(), WeightCard("another"))
    assert find_weights("toy").card.seed == 99
    with pytest.raises(MissingFileError, match=r"'unknown'.*toy\.safetensors.*grasp-nodes train unknown"):
        find_weights("unknown")
    (shipped / "toy.safetensors").write_bytes(file.read_bytes())
    monkeypatch.delenv(WEIGHTS_VARIABLE)
    with pytest.raises(InputError, match="SHA-256"):
        find_weights("toy")


def test_shipped_files_are_those_of_the_list():
    listed = shipped_hashes()
    present = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SHIPPED_FOLDER.glob("*.safetensors")
    }
    assert present == listed
    for name in listed:
        weights = read_weights(SHIPPED_FOLDER / name)
        assert weights.card.method == name.removesuffix(".safetensors")
        assert weights.card.command
        assert weights.card.data
    assert sum(path.stat().st_size for path in SHIPPED_FOLDER.iterdir()) < 50_000_000


def test_weights_in_bytes_take_a_quarter_and_are_wrong_by_half_a_step(tmp_path, file):
    small = ship_weights(file, tmp_path / "shipped", "int8")
    assert shipped_hashes_of(tmp_path / "shipped") == {small.name: hashlib.sha256(small.read_bytes()).hexdigest()}
    exact, found = read_weights(file).tensors, read_weights(small)
    assert found.card == CARD
    for name, expected in exact.items():
        if expected.numel() > 4096:
            steps = np.array([block.max() for block in np.split(expected.abs().numpy().ravel(), 80)]) / 127
            apart = (found.tensors[name] - expected).abs().numpy().reshape(80, 64)
            assert apart.max() > 0
            assert np.all(apart <= 0.501 * steps[:, None])
        else:
            assert torch.equal(found.tensors[name], expected)
    stored = load_file(small)["0.weight"]
    assert stored.dtype == np.int8
    assert stored.shape == (80, 64)
    # Rounding what is rounded changes nothing but the last bit.
    again = ship_weights(small, tmp_path / "again", "int8")
    torch.testing.assert_close(read_weights(again).tensors, found.tensors, rtol=1e-6, atol=0.0)


def shipped_hashes_of(folder):
    return json.loads((folder / weight_files.REGISTRY_FILE).read_text())


@pytest.mark.parametrize("shape", [(5000,), (4097, 1), (3, 37, 61)])
def test_any_shape_comes_back_from_bytes(shape):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    numbers.flatten()[:64] = 0.0
    steps, scales = to_bytes(numbers)
    found = from_bytes(steps, scales, shape)
    assert found.shape == numbers.shape
    assert not found.flatten()[:64].any()
    assert float((found - numbers).abs().max()) <= float(numbers.abs().max()) / 254 * 1.001
    with pytest.raises(ValueError, match="blocks of bytes expected"):
        from_bytes(steps, scales, (7, *shape))


@pytest.mark.parametrize("damage", ["scales", "shape", "negative", "words", "list"])
def test_damaged_weights_in_bytes(tmp_path, file, damage):
    small = ship_weights(file, tmp_path / "shipped", "int8")
    tensors, description = unpack_tensors(small.read_bytes(), "")
    if damage == "scales":
        del tensors["0.weight.scales"]
    elif damage == "list":
        description["shapes"] = ["0.weight"]
    else:
        description["shapes"]["0.weight"] = {"shape": [80, 640], "negative": [-80, -64], "words": ["80", "64"]}[damage]
    write_tensors(small, tensors, description)
    what = "its shapes" if damage == "list" else r"tensor 0\.weight in bytes"
    with pytest.raises(InputError, match=rf"toy\.safetensors: not a readable weight file \({what}"):
        read_weights(small)


def test_a_tensor_with_the_name_of_anothers_scales_is_refused(tmp_path):
    tensors = {"big": torch.ones(5000), "big.scales": torch.ones(3)}
    with pytest.raises(InputError, match=r"big\.scales: expected no tensor of this name"):
        save_weights(tmp_path / "w.safetensors", tensors, CARD, "int8")
    save_weights(tmp_path / "w.safetensors", tensors, CARD)
    assert set(read_weights(tmp_path / "w.safetensors").tensors) == set(tensors)
