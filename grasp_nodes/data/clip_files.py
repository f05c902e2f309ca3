"""The clip folder: one recording with, where it is known, its exact truth. Described in docs/default_clip.md.

``clip.json`` · ``color/000000.jpg`` (or .png) · ``depth/000000.png`` (uint16) · ``labels/000000.png`` ·
``objects/NAME.obj`` · ``truth.npz``. Only clip.json and color are required.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.npz import read_npz

FORMAT_VERSION = 1
MAX_FRAMES, MAX_FPS = 1_000_000, 10_000.0
"""More than these is a mistake, not a recording."""
FRAME_NAME = "{:06d}"
COLOR_SUFFIXES = (".jpg", ".jpeg", ".png")
TRUTH_FILE = "truth.npz"


@dataclass(frozen=True)
class ClipInfo:
    """What clip.json says.

    fps: 1/s. depth_unit: m per count of the depth images, None = colour only. objects: id to mesh file, relative to the
    folder. extra: everything else, kept as it is (seed, versions, provenance).
    """

    frames: int
    fps: float
    camera: CameraModel
    depth_unit: float | None = None
    objects: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipTruth:
    """What truth.npz says about T frames of one hand and one object; camera frame, m, rad.

    stamps: (T,) int64, ns. global_orient (T, 3), hand_pose (T, 45), betas (T, 10), transl (T, 3), scale (T,), side.
    keypoints: (T, 21, 3). T_camera_object: (T, 4, 4) of the object named object_id.
    hand_visible: (T,) in [0, 1], share of the hand's outline that neither the object nor the image's border hides.
    joint_poses: (T, 16, 7), position and quaternion xyzw, or None.
    """

    stamps: np.ndarray
    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    scale: np.ndarray
    side: str
    keypoints: np.ndarray
    T_camera_object: np.ndarray
    object_id: str
    hand_visible: np.ndarray
    model_id: str
    model_fingerprint: str
    joint_poses: np.ndarray | None = None


_TRUTH_SHAPES: dict[str, tuple[int, ...]] = {
    "stamps": (),
    "global_orient": (3,),
    "hand_pose": (45,),
    "betas": (10,),
    "transl": (3,),
    "scale": (),
    "keypoints": (21, 3),
    "T_camera_object": (4, 4),
    "hand_visible": (),
}


def write_clip_info(folder: Path, info: ClipInfo) -> None:
    """Write clip.json, whole or not at all."""
    camera = info.camera
    content = {
        "format": "grasp_nodes/clip",
        "format_version": FORMAT_VERSION,
        "frames": info.frames,
        "fps": info.fps,
        "camera": {
            "camera_k": camera.camera_k.tolist(),
            "width": camera.width,
            "height": camera.height,
            "distortion_model": camera.distortion_model,
            "distortion": camera.distortion.tolist(),
            "frame_id": camera.frame_id,
            "is_metric": camera.is_metric,
        },
        "depth_unit": info.depth_unit,
        "objects": dict(info.objects),
        **info.extra,
    }
    temporary = folder / f"clip.json.{os.getpid()}.part"
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(folder / "clip.json")


def read_clip_info(folder: Path) -> ClipInfo:
    """Read and check clip.json.

    Raises:
        MissingFileError: there is none. InputError: it is not a clip of this format version; the message names the key.
    """
    path = folder / "clip.json"
    if not path.is_file():
        raise MissingFileError(f"{path}: not found; a clip folder holds clip.json and color/, see docs/default_clip.md")
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != "grasp_nodes/clip":
        raise InputError(f"{path}: expected a JSON object with 'format': 'grasp_nodes/clip'")
    if content.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: format_version {content.get('format_version')!r} cannot be read, this is version "
            f"{FORMAT_VERSION}: render or convert the clip again"
        )
    try:
        camera = content.pop("camera")
        unit = content.pop("depth_unit", None)
        info = ClipInfo(
            int(content.pop("frames")),
            float(content.pop("fps")),
            CameraModel(
                np.array(camera["camera_k"], np.float64),
                int(camera["width"]),
                int(camera["height"]),
                np.array(camera.get("distortion", []), np.float64),
                camera.get("distortion_model", "plumb_bob"),
                str(camera.get("frame_id", "camera_color_optical_frame")),
                bool(camera.get("is_metric", True)),
            ),
            None if unit is None else float(unit),
            {str(key): str(value) for key, value in content.pop("objects", {}).items()},
            content,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    unit_fits = info.depth_unit is None or 0 < info.depth_unit <= 1
    if not (1 <= info.frames <= MAX_FRAMES and 0 < info.fps <= MAX_FPS and unit_fits):
        raise InputError(
            f"{path}: frames must be 1 to {MAX_FRAMES}, fps positive and at most {MAX_FPS:g}, depth_unit positive and "
            f"at most 1 m, got {info.frames}, {info.fps:g}, {info.depth_unit}"
        )
    for name, mesh in info.objects.items():
        if Path(mesh).is_absolute() or ".." in Path(mesh).parts:
            raise InputError(f"{path}: the mesh of {name!r} must lie inside the clip's folder, got {mesh!r}")
    return info


def write_truth(folder: Path, truth: ClipTruth) -> None:
    """Write truth.npz, whole or not at all; it loads with ``allow_pickle=False``."""
    arrays = {name: getattr(truth, name) for name in _TRUTH_SHAPES}
    for name in ("side", "object_id", "model_id", "model_fingerprint"):
        arrays[name] = np.array(getattr(truth, name))
    if truth.joint_poses is not None:
        arrays["joint_poses"] = truth.joint_poses
    temporary = folder / f"truth.{os.getpid()}.part.npz"
    np.savez_compressed(temporary, **arrays)
    temporary.replace(folder / TRUTH_FILE)


def read_truth(folder: Path, frames: int) -> ClipTruth | None:
    """Read and check truth.npz, None where there is none.

    Raises:
        InputError: an array is missing or has another shape; the message names it.
    """
    path = folder / TRUTH_FILE
    if not path.is_file():
        return None
    arrays = read_npz(path, "truth.npz")
    values: dict[str, Any] = {}
    for name, shape in _TRUTH_SHAPES.items():
        array = arrays.get(name)
        if array is None:
            raise InputError(f"{path}: {name} is missing; expected shape {(frames, *shape)}")
        if array.shape != (frames, *shape) or array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name}: expected numbers {(frames, *shape)}, got {array.dtype} {array.shape}")
        values[name] = array.astype(np.int64 if name == "stamps" else np.float64)
        if not np.isfinite(values[name]).all():
            raise InputError(f"{path}: {name} holds values that are not finite")
    for name in ("side", "object_id", "model_id", "model_fingerprint"):
        values[name] = str(arrays.get(name, ""))
    if values["side"] not in ("right", "left"):
        raise InputError(f"{path}: side: expected 'right' or 'left', got {values['side']!r}")
    poses = arrays.get("joint_poses")
    if poses is not None and (
        poses.shape != (frames, 16, 7) or poses.dtype.kind not in "fiu" or not np.isfinite(poses).all()
    ):
        raise InputError(
            f"{path}: joint_poses: expected finite numbers {(frames, 16, 7)}, got {poses.dtype} {poses.shape}"
        )
    return ClipTruth(**values, joint_poses=None if poses is None else poses.astype(np.float64))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, whole or not at all; RGB or one channel, the suffix says the format."""
    if image.ndim == 3:
        image = image[..., ::-1]
    options = {
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3],
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    }[path.suffix]
    good, content = cv2.imencode(path.suffix, image, options)
    if not good:
        raise InputError(f"{path}: {image.dtype} {image.shape} cannot be written as {path.suffix}")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_bytes(content.tobytes())
    temporary.replace(path)


def read_color(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        MissingFileError: no such file. InputError: not an image.
    """
    image = _decode(path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])


def read_depth(path: Path, unit: float) -> np.ndarray:
    """(H, W) float32, m, 0 = no measurement; `unit` is m per count.

    Raises:
        MissingFileError: no such file. InputError: not an image of one channel of uint16.
    """
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 2 or image.dtype != np.uint16:
        raise InputError(f"{path}: depth must be one channel of 16 bits, got {image.dtype} {image.shape}")
    return (image * np.float64(unit)).astype(np.float32)


def read_labels(path: Path) -> np.ndarray:
    """(H, W) uint8: 0 background, 1 hand, 2 object, 3 forearm, 4 table."""
    return _decode(path, cv2.IMREAD_GRAYSCALE)


def _decode(path: Path, mode: int) -> np.ndarray:
    if not path.is_file():
        raise MissingFileError(f"{path}: not found")
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        image = cv2.imdecode(content, mode) if len(content) else None
    except cv2.error as error:  # a picture that claims more pixels than OpenCV allows
        raise InputError(f"{path}: cannot be read as an image ({len(content)} bytes; {error.err})") from error
    if image is None:
        raise InputError(f"{path}: cannot be read as an image ({len(content)} bytes)")
    return image
