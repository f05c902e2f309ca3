from __future__ import annotations

import hashlib
import subprocess
import zipfile

import pytest

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.perception import model_files
from grasp_nodes.perception.model_files import LANDMARK_MODEL, PALM_MODEL


@pytest.fixture
def small_models(monkeypatch):
    """Two tiny stand-ins with their right sums."""
    contents = {PALM_MODEL: b"palm", LANDMARK_MODEL: b"landmark"}
    monkeypatch.setattr(
        model_files, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    )
    return contents


def write_wheel(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"mediapipe/modules/any/{name}", content)
    return path


def test_models_are_taken_out_of_the_wheel(tmp_path, small_models):
    wheel = write_wheel(tmp_path / "a.whl", small_models)
    folder = tmp_path / "models"
    model_files.unpack_hand_models(wheel, folder)
    found = model_files.find_hand_models(folder)
    assert found is not None
    assert found.palm.read_bytes() == b"palm"
    assert found.landmark.read_bytes() == b"landmark"
    assert sorted(path.name for path in folder.iterdir()) == sorted(small_models)


def test_a_changed_model_is_refused_and_not_left_behind(tmp_path, small_models):
    wheel = write_wheel(tmp_path / "a.whl", {**small_models, LANDMARK_MODEL: b"something else"})
    with pytest.raises(InputError, match="SHA-256"):
        model_files.unpack_hand_models(wheel, tmp_path / "models")
    assert not (tmp_path / "models" / LANDMARK_MODEL).exists()
    assert not list((tmp_path / "models").glob("*.part"))


def test_a_damaged_file_in_the_cache_is_named(tmp_path, small_models):
    model_files.unpack_hand_models(write_wheel(tmp_path / "a.whl", small_models), tmp_path)
    (tmp_path / PALM_MODEL).write_bytes(b"pal")
    with pytest.raises(InputError, match=PALM_MODEL):
        model_files.find_hand_models(tmp_path)


def test_other_archives_are_refused(tmp_path, small_models):
    with pytest.raises(InputError, match=LANDMARK_MODEL):
        model_files.unpack_hand_models(write_wheel(tmp_path / "a.whl", {PALM_MODEL: b"palm"}), tmp_path / "m")
    (tmp_path / "b.whl").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a wheel"):
        model_files.unpack_hand_models(tmp_path / "b.whl", tmp_path / "m")


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        return subprocess.CompletedProcess([], 1, "", "ERROR: Could not find a version\n")

    monkeypatch.setattr(model_files.subprocess, "run", no_network)
    with pytest.raises(MissingFileError, match=r"Could not find a version.*pip download") as caught:
        model_files.fetch_hand_models(tmp_path)
    assert PALM_MODEL in str(caught.value)


def test_fetching_uses_what_is_there(tmp_path, small_models, monkeypatch):
    model_files.unpack_hand_models(write_wheel(tmp_path / "a.whl", small_models), tmp_path)
    monkeypatch.setattr(model_files.subprocess, "run", lambda *_a, **_k: pytest.fail("pip was called"))
    assert model_files.fetch_hand_models(tmp_path).palm == tmp_path / PALM_MODEL


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="absent"):
        model_files.check_sha256(tmp_path / "absent", "0")
