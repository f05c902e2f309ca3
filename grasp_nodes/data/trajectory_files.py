"""Files of trajectories (.npz): the tables of a clip's states with what is known of its making.

The keys are described in docs/reconstruct.md.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from grasp_nodes.contact.interaction import HandObjectTrajectory
from grasp_nodes.data.trajectory_tables import Tables, state_tables, table_states
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.npz import read_archive, read_npz, write_npz

FORMAT = "grasp_nodes/trajectory"
FORMAT_VERSION = 1
LARGEST_FILE = 8_000_000_000
"""bytes, unpacked: hours of video with several contact maps a frame."""


@dataclass(frozen=True)
class RecordedTrajectory:
    """A trajectory with what is known of its making.

    camera: that took the clip. fps: 1/s. attributes: seed, versions, settings and the like, as text.
    """

    trajectory: HandObjectTrajectory
    camera: CameraModel
    fps: float
    attributes: Mapping[str, str] = field(default_factory=dict)


def write_trajectory(path: Path, recorded: RecordedTrajectory) -> None:
    """Write a file, whole or not at all. Distances and contact travel as float16, everything else as it is.

    Raises:
        OSError: it cannot be written.
    """
    write_tables(
        path,
        state_tables(recorded.trajectory.states),
        recorded.trajectory.source,
        recorded.camera,
        recorded.fps,
        recorded.attributes,
    )


def write_tables(
    path: Path, tables: Tables, source: str, camera: CameraModel, fps: float, attributes: Mapping[str, str]
) -> None:
    """Write tables of `state_tables` or `join_tables`; the other arguments as of `RecordedTrajectory`.

    Raises:
        OSError: it cannot be written.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": source,
        "fps": fps,
        "camera_k": camera.camera_k,
        "camera_width": camera.width,
        "camera_height": camera.height,
        "camera_distortion": camera.distortion,
        "camera_distortion_model": camera.distortion_model,
        "camera_frame_id": camera.frame_id,
        "is_metric": camera.is_metric,
        "attributes": json.dumps(dict(attributes), sort_keys=True),
    }
    write_npz(path, {**{name: np.asarray(value) for name, value in header.items()}, **tables}, compressed=True)


def read_trajectory(path: Path) -> RecordedTrajectory:
    """Read and check a file.

    Raises:
        MissingFileError: there is none. InputError: it is no trajectory of this version, or damaged; the message names
        the key.
    """
    if not path.is_file():
        raise MissingFileError(f"trajectory {path}: there is no such file")
    arrays = read_npz(path, "trajectory", LARGEST_FILE)
    found, version = str(arrays.get("format", "")), arrays.get("format_version")
    if found != FORMAT:
        raise InputError(f"{path}: expected a trajectory (format {FORMAT!r}), got format {found!r}")
    if version is None or version.shape or version.item() != FORMAT_VERSION:
        raise InputError(
            f"{path}: format_version {version} cannot be read, this is version {FORMAT_VERSION}: reconstruct the clip "
            "again"
        )
    try:
        camera = CameraModel(
            arrays["camera_k"],
            int(arrays["camera_width"]),
            int(arrays["camera_height"]),
            arrays["camera_distortion"],
            str(arrays["camera_distortion_model"]),
            str(arrays["camera_frame_id"]),
            bool(arrays["is_metric"]),
        )
        attributes = json.loads(str(arrays["attributes"]))
        fps, source = float(arrays["fps"]), str(arrays["source"])
    except KeyError as error:
        raise InputError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its description is damaged ({error})") from error
    if not isinstance(attributes, dict):
        raise InputError(f"{path}: attributes: expected a JSON object, got {type(attributes).__name__}")
    states = table_states(arrays, str(path))
    return RecordedTrajectory(
        HandObjectTrajectory(source, states), camera, fps, {str(name): str(value) for name, value in attributes.items()}
    )


def holds_trajectory(path: Path) -> bool:
    """Whether a file says that it is a trajectory."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        found = read_archive(path, _text, only=("format",))
    except InputError:
        return False
    return found.get("format") == FORMAT


def _text(content: bytes) -> str:
    return str(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))
