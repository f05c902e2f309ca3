"""Hands in colour images: palm detection, 21 landmarks, and tracks that follow each hand from image to image.

The two networks are MediaPipe Hands' (Zhang et al. 2020), run without MediaPipe. A followed hand costs one run of the
landmark network; the palm network runs only while a hand is missing; a wider search (turned images, enlarged parts)
starts only when nothing is left to follow, a few tries per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Literal

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_iou, box_of_points
from grasp_nodes.perception.evidence import HandEvidence
from grasp_nodes.perception.model_files import HandModelFiles, fetch_hand_models
from grasp_nodes.perception.palm_detection import Network, PalmDetector
from grasp_nodes.perception.region import Region, region_of_landmarks
from grasp_nodes.perception.tflite import TfliteNetwork

LANDMARK_INPUT_SIZE = 224
NUM_LANDMARKS = 21
BOX_MARGIN = 0.1
SAME_PLACE_IOU = 0.5
PIXEL_CENTER = 0.5
"""Corner coordinates minus this are pixel coordinates of the camera matrix."""


@dataclass(frozen=True)
class LandmarkerOptions:
    """How hands are looked for."""

    max_hands: int = 2
    """Hands that are followed at once."""
    palm_threshold: float = 0.5
    """Lowest palm score."""
    hand_threshold: float = 0.5
    """Lowest presence score of the landmark network."""
    threads: int = 1
    """CPU threads of each network."""
    mirrored: bool = False
    """True for images that are mirrored, as selfie cameras show them."""
    palm_interval: int = 5
    """Images between two palm detections while at least one hand is followed and fewer than `max_hands`."""
    search_tries: int = 1
    """Extra places looked at per image while no hand is followed; 0 = none."""
    remember_images: int = 30
    """Images for which a lost hand keeps its track id and side."""
    side_votes: int = 30
    """Images over which the side is averaged."""

    def __post_init__(self) -> None:
        for name in ("palm_threshold", "hand_threshold"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise InputError(f"{name}: expected a number between 0 and 1, got {getattr(self, name)}")
        for name, low in (("max_hands", 1), ("threads", 1), ("palm_interval", 1), ("search_tries", 0)):
            if getattr(self, name) < low:
                raise InputError(f"{name}: expected at least {low}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Landmarks:
    """One run of the landmark network.

    points: (21, 2), px, corner coordinates. points_3d: (21, 3), m, camera axes, origin near the hand's centre.
    presence, right: probabilities in [0, 1]; right as if the image were not mirrored.
    """

    points: np.ndarray
    points_3d: np.ndarray
    presence: float
    right: float


@dataclass
class _Track:
    track_id: int
    region: Region
    votes: list[float] = field(default_factory=list)
    missed: int = 0

    def side(self, limit: int) -> tuple[Literal["right", "left"], float]:
        """Side and its probability, averaged over the last `limit` images."""
        del self.votes[:-limit]
        right = float(np.mean(self.votes))
        return ("right", right) if right >= 0.5 else ("left", 1.0 - right)


def search_places(width: int, height: int) -> list[Region]:
    """Places of the wider search, most promising first: the whole image turned, then parts of it enlarged."""
    whole = Region((width / 2, height / 2), float(max(width, height)), 0.0)
    places = [whole.turned(angle) for angle in (np.pi / 2, -np.pi / 2, np.pi)]
    size = 0.7 * height
    columns = np.linspace(size / 2, width - size / 2, 4)
    parts = [Region((float(x), float(y)), size, 0.0) for y in (size / 2, height - size / 2) for x in columns]
    return places + parts + [part.turned(angle) for angle in (np.pi / 2, -np.pi / 2, np.pi) for part in parts]


class LitertHandLandmarker:
    """`HandLandmarker` of two TFLite networks."""

    def __init__(
        self,
        options: LandmarkerOptions | None = None,
        files: HandModelFiles | None = None,
        palm_network: Network | None = None,
        landmark_network: Network | None = None,
    ) -> None:
        """Load the networks.

        Args:
            options: how hands are looked for.
            files: the two models; None takes them from the user's cache, or fetches them.
            palm_network: used instead of the file's.
            landmark_network: used instead of the file's.

        Raises:
            MissingDependencyError: LiteRT is not installed.
            MissingFileError: the models are absent and cannot be fetched.
            InputError: a model file is damaged.
        """
        self.options = options or LandmarkerOptions()
        if palm_network is None or landmark_network is None:
            files = files or fetch_hand_models()
            palm_network = palm_network or TfliteNetwork(files.palm, self.options.threads)
            landmark_network = landmark_network or TfliteNetwork(files.landmark, self.options.threads)
        self._landmark_network = landmark_network
        self._palms = PalmDetector(palm_network, self.options.palm_threshold)
        self._next_track_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget the hands that were followed; track ids go on counting."""
        self._tracks: list[_Track] = []
        self._lost: list[_Track] = []
        self._images_since_palms = self.options.palm_interval
        self._search: Iterator[Region] | None = None
        self._search_size = (0, 0)

    def detect(self, frame: Frame) -> Sequence[HandEvidence]:
        """Hands of the frame, best first."""
        image = frame.color
        found = self._follow(image)
        if len(found) < self.options.max_hands:
            self._find_more(image, found)
        self._tracks = [track for track, _ in found]
        for track, landmarks in found:
            track.region = region_of_landmarks(landmarks.points)
            track.missed = 0
            track.votes.append(1.0 - landmarks.right if self.options.mirrored else landmarks.right)
        self._forget()
        hands = [self._evidence(track, landmarks) for track, landmarks in found]
        return sorted(hands, key=lambda hand: -hand.score)

    def palms(self, image: np.ndarray, threshold: float | None = None) -> list[Region]:
        """Where palms are seen in an image (H, W, 3) uint8, RGB, best first; threshold: lowest score, None = usual."""
        return [palm.region for palm in self._palms.detect(image, threshold=threshold)]

    def landmarks(self, image: np.ndarray, region: Region) -> Landmarks:
        """Run the landmark network on one region of an image (H, W, 3) uint8, RGB."""
        points, presence, right, points_3d = self._landmark_network(region.crop(image, LANDMARK_INPUT_SIZE))
        affine = region.crop_to_image(LANDMARK_INPUT_SIZE)
        upright_3d = points_3d.reshape(NUM_LANDMARKS, 3).astype(np.float64)
        upright_3d[:, :2] = upright_3d[:, :2] @ region.rotation.T
        flat = points.reshape(NUM_LANDMARKS, 3)[:, :2].astype(np.float64)
        return Landmarks(flat @ affine[:, :2].T + affine[:, 2], upright_3d, float(presence[0]), float(right[0]))

    def _follow(self, image: np.ndarray) -> list[tuple[_Track, Landmarks]]:
        found: list[tuple[_Track, Landmarks]] = []
        for track in self._tracks:
            landmarks = self.landmarks(image, track.region)
            if landmarks.presence >= self.options.hand_threshold and not self._taken(landmarks, found):
                found.append((track, landmarks))
            else:
                self._lost.append(track)
        return found

    def _find_more(self, image: np.ndarray, found: list[tuple[_Track, Landmarks]]) -> None:
        self._images_since_palms += 1
        if not found or self._images_since_palms >= self.options.palm_interval:
            self._images_since_palms = 0
            self._accept(image, [palm.region for palm in self._palms.detect(image)], found)
        if found:
            self._search = None
            return
        for track in self._lost:
            self._accept(image, [track.region], found)
        for place in self._next_places(image):
            if found:
                return
            self._accept(image, [palm.region for palm in self._palms.detect(image, place)], found)

    def _next_places(self, image: np.ndarray) -> list[Region]:
        """The search goes on from image to image where it stopped, so that each image pays for a few tries only."""
        size = (image.shape[1], image.shape[0])
        if self._search is None or self._search_size != size:
            self._search, self._search_size = cycle(search_places(*size)), size
        return list(islice(self._search, self.options.search_tries))

    def _accept(self, image: np.ndarray, regions: list[Region], found: list[tuple[_Track, Landmarks]]) -> None:
        for region in regions:
            if len(found) >= self.options.max_hands:
                return
            landmarks = self.landmarks(image, region)
            if landmarks.presence < self.options.hand_threshold or self._taken(landmarks, found):
                continue
            # A second look from the landmarks' own region halves their error and drops most false hits.
            landmarks = self.landmarks(image, region_of_landmarks(landmarks.points))
            if landmarks.presence >= self.options.hand_threshold and not self._taken(landmarks, found):
                found.append((self._track_for(region_of_landmarks(landmarks.points)), landmarks))

    @staticmethod
    def _taken(landmarks: Landmarks, found: list[tuple[_Track, Landmarks]]) -> bool:
        """Whether another hand of this image is at the same place."""
        if not found:
            return False
        others = np.array([region_of_landmarks(other.points).box for _, other in found])
        return bool(box_iou(region_of_landmarks(landmarks.points).box, others).max() > SAME_PLACE_IOU)

    def _track_for(self, region: Region) -> _Track:
        """The lost track that this hand continues, else a new one."""
        reach = [np.hypot(*np.subtract(track.region.center, region.center)) / region.size for track in self._lost]
        if reach and min(reach) < 1.0:
            return self._lost.pop(int(np.argmin(reach)))
        self._next_track_id += 1
        return _Track(self._next_track_id - 1, region)

    def _forget(self) -> None:
        for track in self._lost:
            track.missed += 1
        self._lost = [track for track in self._lost if track.missed <= self.options.remember_images]

    def _evidence(self, track: _Track, landmarks: Landmarks) -> HandEvidence:
        side, side_score = track.side(self.options.side_votes)
        keypoints = (landmarks.points - PIXEL_CENTER).astype(np.float32)
        return HandEvidence(
            side=side,
            score=landmarks.presence,
            side_score=side_score,
            box=box_of_points(keypoints, BOX_MARGIN),
            keypoints=keypoints,
            keypoints_3d=landmarks.points_3d.astype(np.float32),
            track_id=track.track_id,
        )
