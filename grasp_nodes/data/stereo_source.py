"""A folder of rectified stereo pairs: depth of the left camera by semi-global matching (Hirschmueller 2008)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from grasp_nodes.data.clip_files import read_color
from grasp_nodes.data.frame_source import FrameSourceBase, limited
from grasp_nodes.data.video_sources import FOLDER_FPS, images_in
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel, Frame

CALIBRATION_FILE = "stereo.edex"
NEAREST = 0.20
"""m: nothing nearer is matched; sets the number of disparities."""
MATCHING_WIDTH = 640
"""px: wider images are halved until they fit; matching gets eight times faster and finds more."""
BLOCK = 7
SPECKLE_SIZE, SPECKLE_RANGE = 80, 2
ALIKE_PX, ALIKE_RAD = 0.1, 2e-3
"""What the two cameras of a rectified pair may differ by: more than this moves a row by a pixel."""
STAMP_DIGITS = 15
"""File names with so many digits or more are stamps in ns."""


class StereoSource(FrameSourceBase):
    """``left/``, ``right/`` and ``stereo.edex``; frames are the left images with depth."""

    has_depth = True

    def __init__(self, folder: str | Path, object_spec: str = "", frames: int = 0) -> None:
        """Read the calibration and list the pairs.

        Raises:
            InputError: the calibration cannot be used, or no pair of images has the same name.
        """
        self.folder = Path(folder)
        camera, self.baseline = read_edex(self.folder / CALIBRATION_FILE)
        left = {path.name: path for path in images_in(self.folder / "left")} if (self.folder / "left").is_dir() else {}
        names = sorted(name for name in left if (self.folder / "right" / name).is_file())
        if not names:
            raise InputError(f"{folder}: no image in left/ has a partner of the same name in right/")
        names = names[: limited(len(names), frames)]
        self._pairs = [(left[name], self.folder / "right" / name) for name in names]
        self._stamps = _stamps([path.stem for path, _ in self._pairs])
        if (np.diff(self._stamps) <= 0).any():
            raise InputError(f"{folder}: the file names in left/ are stamps, but do not increase in the order of names")
        fps = FOLDER_FPS
        if len(self._stamps) > 1:
            fps = 1e9 / float(np.median(np.diff(self._stamps)))
        super().__init__(fps, camera)
        self.first_stamp = self._stamps[0]
        self.object_spec = object_spec
        self._shrink = 2 ** max(0, int(np.ceil(np.log2(camera.width / MATCHING_WIDTH))))
        largest = camera.camera_k[0, 0] * self.baseline / NEAREST / self._shrink
        self._disparities = int(np.ceil(largest / 16)) * 16
        self._matcher = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=self._disparities,
            blockSize=BLOCK,
            P1=8 * BLOCK**2,
            P2=32 * BLOCK**2,
            disp12MaxDiff=1,
            uniquenessRatio=3,
            speckleWindowSize=SPECKLE_SIZE,
            speckleRange=SPECKLE_RANGE,
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Frame]:
        for stamp, (left, right) in zip(self._stamps, self._pairs, strict=True):
            first, second = read_color(left), read_color(right)
            if first.shape != second.shape:
                raise InputError(f"{right}: expected its partner's size {first.shape[:2]}, got {second.shape[:2]}")
            try:
                yield Frame(stamp, first, self.camera, self._depth(first, second))
            except InputError as error:
                raise InputError(f"{left}: {error}") from error

    def _depth(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(H, W) float32, m, 0 = no measurement."""
        size = (left.shape[1] // self._shrink, left.shape[0] // self._shrink)
        # The matcher leaves out as many columns at the left as there are disparities: it gets as many more.
        padded = [
            cv2.copyMakeBorder(
                cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA),
                *(0, 0, self._disparities, 0),
                borderType=cv2.BORDER_CONSTANT,
            )
            for image in (left, right)
        ]
        small = self._matcher.compute(padded[0], padded[1])[:, self._disparities :].astype(np.float32) / 16
        disparity = cv2.resize(small, (left.shape[1], left.shape[0]), interpolation=cv2.INTER_NEAREST) * self._shrink
        focal = np.float32(self.camera.camera_k[0, 0] * self.baseline)
        return np.where(disparity > 0.5, focal / np.maximum(disparity, np.float32(0.5)), np.float32(0))


def read_edex(path: Path) -> tuple[CameraModel, float]:
    """Left camera and baseline (m) of an Isaac ``.edex`` calibration of a rectified pair.

    Raises:
        InputError: not such a file, or the cameras are not alike; the message says what is missing.
    """
    try:
        content = json.loads(path.read_text())
        left, right = (content[0]["cameras"][k] for k in (0, 1))
        intrinsics = left["intrinsics"]
        focal, principal, size = intrinsics["focal"], intrinsics["principal"], intrinsics["size"]
        placed = [np.array(entry["transform"], np.float64)[:3].reshape(3, 4) for entry in (left, right)]
        camera_k = np.array([[focal[0], 0, principal[0]], [0, focal[1], principal[1]], [0, 0, 1]], np.float64)
        camera = CameraModel(camera_k, int(size[0]), int(size[1]), frame_id="left_camera_optical_frame")
        others = right["intrinsics"]
        alike = all(
            np.allclose(others[name], intrinsics[name], atol=ALIKE_PX) for name in ("focal", "principal", "size")
        )
        bent = any(intrinsics["distortion_params"]) or any(others["distortion_params"])
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found; a stereo folder holds left/, right/ and {CALIBRATION_FILE}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a stereo calibration ({type(error).__name__}: {error}); expected a JSON list whose first "
            "entry has two 'cameras' with 'intrinsics' (focal, principal, size, distortion_params) and 'transform'"
        ) from error
    # Rows agree only if the right camera looks the same way and stands to the right along the left one's x axis.
    right_to_left = placed[0][:, :3].T @ placed[1][:, :3]
    across = placed[0][:, :3].T @ (placed[1][:, 3] - placed[0][:, 3])
    parallel = np.allclose(right_to_left, np.eye(3), atol=ALIKE_RAD) and np.hypot(*across[1:]) <= ALIKE_RAD * across[0]
    if not alike or bent or not parallel or not across[0] > 0:
        raise InputError(
            f"{path}: not a rectified pair: both cameras must have the same intrinsics without distortion, look the "
            "same way, and the second must stand to the right of the first; it stands at "
            f"{np.round(across, 4).tolist()} m"
        )
    return camera, float(across[0])


def _stamps(names: list[str]) -> list[int]:
    """ns: the file names where they are stamps, else numbers at `FOLDER_FPS`."""
    if all(name.isdigit() and len(name) >= STAMP_DIGITS for name in names):
        return [int(name) for name in names]
    return [round(index * 1e9 / FOLDER_FPS) for index in range(len(names))]
