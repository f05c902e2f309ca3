"""What the frames of a clip say about one object: its mask among others, what hides it, and which frames say most."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_nearby import DistanceBelief, HandPath, believed_distance
from grasp_nodes.fitting.object_observation import ObjectObservation, observe_object
from grasp_nodes.objects.model import ObjectModel
from grasp_nodes.perception.evidence import HIDING, Evidence, ObjectEvidence, ObservedFrame

_LARGEST_DIAMETER = 3.0
"""m; nothing larger is moved by hand."""
_LARGEST_RATIO = 20.0
"""Between the mesh's size and the size that depth and mask show: a unit is wrong, not a view unlucky."""
_DEFAULT_STEP = 1 / 30
_SHORTEST_STEP, _LONGEST_STEP = 1 / 240, 0.5
_COARSE = {"window": 72, "contour_points": 80, "depth_points": 150}
_HAND_WEIGHT = 0.3
_TRACK_SWITCH = 1.0


@dataclass(frozen=True)
class ObjectClip:
    """The frames of a clip as the search for one object's motion reads them.

    fine, coarse: per frame, None where its mask says nothing. information: (T,) in [0, 1], how much a frame says about
    the pose, relative to the clip's best. times: (T,), s, increasing. stamps: (T,) int64, ns.
    belief: what the hands say of the object's distance.
    """

    fine: Sequence[ObjectObservation | None]
    coarse: Sequence[ObjectObservation | None]
    information: np.ndarray
    times: np.ndarray
    stamps: np.ndarray
    belief: DistanceBelief

    def __len__(self) -> int:
        return len(self.fine)

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool, frames that say anything."""
        return np.array([observation is not None for observation in self.fine], bool)

    def without(self, rows: np.ndarray) -> ObjectClip:
        """As if nothing had been seen in some frames, (T,) bool."""
        fine = [None if out else one for out, one in zip(rows, self.fine, strict=True)]
        coarse = [None if out else one for out, one in zip(rows, self.coarse, strict=True)]
        return replace(self, fine=fine, coarse=coarse, information=np.where(rows, 0.0, self.information))


def observe_clip(
    object_model: ObjectModel,
    frames: Sequence[ObservedFrame],
    *,
    seed: int,
    use_depth: bool,
    start: np.ndarray | None,
    hands: Sequence[HandPath] = (),
) -> ObjectClip:
    """Read the evidence of all frames.

    Args:
        object_model: whose masks are looked for, by its id, else by any.
        frames: of one camera, in time order.
        seed: of the choice of depth points.
        use_depth: whether depth is read where there is some.
        start: (3,), m, camera frame, where the object was just before the first frame, or None.
        hands: paths of those that may hold it, through these frames.

    Raises:
        InputError: no frames, an image without its camera's size, or a mesh whose unit cannot be metres.
    """
    if not frames:
        raise InputError("frames: expected at least one frame of the clip, got none")
    reach = float(np.linalg.norm(np.ptp(object_model.vertices, axis=0)))
    _check_diameter(object_model, reach)
    for index, frame in enumerate(frames):
        _check_sizes(frame, index)
    chosen = choose_masks(object_model.object_id, [frame.evidence for frame in frames], start)
    fine: list[ObjectObservation | None] = []
    coarse: list[ObjectObservation | None] = []
    for index, (frame, found) in enumerate(zip(frames, chosen, strict=True)):
        if found is None or found.mask is None:
            fine.append(None)
            coarse.append(None)
            continue
        depth = frame.depth if use_depth else None
        occluder = _occluder(frame.evidence, found)
        camera = frame.evidence.camera
        fine.append(observe_object(camera, found.mask, depth, occluder, reach=reach, seed=seed + index))
        coarse.append(observe_object(camera, found.mask, depth, occluder, reach=reach, seed=seed + index, **_COARSE))
    both = [pair if None not in pair else (None, None) for pair in zip(fine, coarse, strict=True)]
    fine, coarse = [pair[0] for pair in both], [pair[1] for pair in both]
    _check_apparent_size(object_model, reach, fine)
    stamps = np.array([frame.evidence.stamp for frame in frames], np.int64)
    masks = [None if found is None else found.mask for found in chosen]
    camera_moves = np.array([frame.camera_moves for frame in frames], bool)
    belief = believed_distance(hands, frames[0].evidence.camera, masks, _times(stamps), camera_moves)
    # Measured depth knows better.
    measured = np.array([one is not None and len(one.image.points) > 0 for one in fine], bool)
    belief = replace(belief, spread=np.where(measured, np.inf, belief.spread))
    return ObjectClip(fine, coarse, _information(fine), _times(stamps), stamps, belief)


# -- which mask


def choose_masks(
    object_id: str, evidence: Sequence[Evidence], start: np.ndarray | None = None
) -> list[ObjectEvidence | None]:
    """One object of each frame, the same one through the clip.

    Objects of that id count, else all: a segmenter need not know names. Where there are several, such as two identical
    objects, the sequence with the least jumps wins, which begins near `start` and stays near the hands: of two, the
    manipulated one.

    Args:
        object_id: of the object that is followed. evidence: of each frame.
        start: (3,), m, camera frame, where the object was just before, or None.
    """
    options = [_options(one, object_id) for one in evidence]
    if all(len(found) < 2 for found in options):
        return [found[0] if found else None for found in options]
    answer: list[ObjectEvidence | None] = [None] * len(options)
    filled = [t for t, found in enumerate(options) if found]
    costs, origins = _own_costs(evidence[filled[0]], options[filled[0]], start), []
    for before, now in itertools.pairwise(filled):
        jumps = np.array([[_jump(a, b) for b in options[now]] for a in options[before]])
        total = costs[:, None] + jumps
        origins.append(total.argmin(axis=0))
        costs = total.min(axis=0) + _own_costs(evidence[now], options[now], None)
    index = int(costs.argmin())
    for place in range(len(filled) - 1, -1, -1):
        answer[filled[place]] = options[filled[place]][index]
        if place:
            index = int(origins[place - 1][index])
    return answer


def _options(evidence: Evidence, object_id: str) -> list[ObjectEvidence]:
    objects = [found for found in evidence.objects if found.object_id != HIDING]
    with_mask = [found for found in objects if found.mask is not None and found.mask.any()]
    return (
        [found for found in with_mask if found.object_id == object_id]
        or [found for found in with_mask if found.object_id == ""]
        or with_mask
    )


def _own_costs(evidence: Evidence, options: Sequence[ObjectEvidence], start: np.ndarray | None) -> np.ndarray:
    """How unlikely each object of a frame is by itself: far from every hand, or from where it was before."""
    costs = np.array([0.1 * (1 - found.score) for found in options])
    size = np.array([max(_diagonal(found.box), 1.0) for found in options])
    if evidence.hands:
        gaps = np.array([min(_gap(found.box, hand.box) for hand in evidence.hands) for found in options])
        costs += _HAND_WEIGHT * np.minimum(gaps / size, 3.0)
    if start is not None and start[2] > 0:
        pixel = evidence.camera.project(start)
        costs += 10 * np.array([np.linalg.norm(_middle(found.box) - pixel) for found in options]) / size
    return costs


def _jump(before: ObjectEvidence, now: ObjectEvidence) -> float:
    size = max(_diagonal(before.box), _diagonal(now.box), 1.0)
    moved = float(np.linalg.norm(_middle(before.box) - _middle(now.box))) / size
    return moved + (_TRACK_SWITCH if before.track_id != now.track_id else 0.0)


def _middle(box: np.ndarray) -> np.ndarray:
    return 0.5 * (np.asarray(box[:2], np.float64) + box[2:])


def _diagonal(box: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(box[2:], np.float64) - box[:2]))


def _gap(first: np.ndarray, second: np.ndarray) -> float:
    apart = np.maximum(np.maximum(first[:2] - second[2:], second[:2] - first[2:]), 0.0)
    return float(np.linalg.norm(apart))


def _occluder(evidence: Evidence, found: ObjectEvidence) -> np.ndarray | None:
    """Pixels of hands and of other objects: what is behind them is not known."""
    masks = [hand.mask for hand in evidence.hands if hand.mask is not None]
    masks += [other.mask for other in evidence.objects if other is not found and other.mask is not None]
    return np.logical_or.reduce(masks) if masks else None


# -- checks


def _check_sizes(frame: ObservedFrame, index: int) -> None:
    evidence = frame.evidence
    size = (evidence.camera.height, evidence.camera.width)
    images = [("depth", frame.depth)]
    images += [(f"mask of object {found.object_id!r}", found.mask) for found in evidence.objects]
    images += [(f"mask of the {hand.side} hand", hand.mask) for hand in evidence.hands]
    for name, image in images:
        if image is not None and image.shape != size:
            raise InputError(
                f"frame {index} (stamp {evidence.stamp} ns): {name}: expected the camera's size {size} (rows, columns),"
                f" got {image.shape}; resize it to the image that it belongs to"
            )


def _check_diameter(object_model: ObjectModel, diameter: float) -> None:
    if not np.isfinite(diameter) or diameter > _LARGEST_DIAMETER or diameter <= 0:
        raise InputError(
            f"object {object_model.object_id!r}: it is {diameter:.4g} m across, expected at most "
            f"{_LARGEST_DIAMETER:g} m; {_remedy(object_model, 0.001)}"
        )


def _check_apparent_size(
    object_model: ObjectModel, diameter: float, observations: Sequence[ObjectObservation | None]
) -> None:
    """Depth and mask show how large the object is; a mesh in another unit is off by a factor that no view explains."""
    shown = [
        _diagonal(one.box) * float(np.median(one.image.points[:, 2])) / one.camera_k[0, 0]
        for one in observations
        if one is not None and len(one.image.points)
    ]
    if not shown:
        return
    apparent = max(shown)
    ratio = diameter / max(apparent, 1e-9)
    if 1 / _LARGEST_RATIO < ratio < _LARGEST_RATIO:
        return
    factor = 10.0 ** round(np.log10(1 / ratio))
    raise InputError(
        f"object {object_model.object_id!r}: its mesh is {diameter:.4g} m across, but mask and depth show a thing of "
        f"about {apparent:.2g} m; {_remedy(object_model, factor)}"
    )


def _remedy(object_model: ObjectModel, factor: float) -> str:
    return (
        "give the factor from the mesh file's unit to metres with --object-scale, or to nodes as object_scale "
        f"(for example {object_model.scale * factor:g}; a mesh in millimetres needs 0.001)"
    )


# -- how much a frame says


def _times(stamps: np.ndarray) -> np.ndarray:
    """Seconds that increase: stamps may be missing (all zero) or have a hole of minutes."""
    steps = np.diff(stamps).astype(np.float64) * 1e-9
    steps = np.where(steps > 0, np.clip(steps, _SHORTEST_STEP, _LONGEST_STEP), _DEFAULT_STEP)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _information(observations: Sequence[ObjectObservation | None]) -> np.ndarray:
    """Large masks, little hidden, away from the border, and of the size that the neighbours have."""
    area = np.array([0.0 if one is None else _area(one) for one in observations])
    if not area.any():
        return area
    usual = float(np.median(area[area > 0]))
    answer = np.zeros(len(area))
    for t, one in enumerate(observations):
        if one is None:
            continue
        near = area[max(0, t - 2) : t + 3]
        local = float(np.median(near[near > 0]))
        sudden = np.exp(-((np.log(area[t] / local) / 0.3) ** 2))
        answer[t] = np.sqrt(min(area[t], 2 * usual)) * sudden * _free_outline(one)
    return answer / max(float(answer.max()), 1e-12)


def _area(observation: ObjectObservation) -> float:
    """Of the mask, square pixels of the camera."""
    return float(np.count_nonzero(observation.image.mask)) / observation.window_scale**2


def _free_outline(observation: ObjectObservation) -> float:
    """Share of the mask's rim beyond which the background is seen, not a hand and not the image's border."""
    image = observation.image
    rim = cv2.dilate(image.mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    rim = rim & (1 - image.mask)
    free = np.count_nonzero(rim & (1 - image.ignored))
    height, width = image.mask.shape
    low, high = image.bounds[:2], image.bounds[2:]
    # Sides of the window that are sides of the camera's image.
    cut = np.count_nonzero(image.mask[0]) * (low[1] > -1) + np.count_nonzero(image.mask[-1]) * (high[1] < height)
    cut += np.count_nonzero(image.mask[:, 0]) * (low[0] > -1) + np.count_nonzero(image.mask[:, -1]) * (high[0] < width)
    return free / max(np.count_nonzero(rim) + cut, 1)
