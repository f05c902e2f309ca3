"""The manipulated object in a clip, window after window, by depth and colour or by colour alone.

Things that stand out at the hands and move are followed, up to three of them, each from the image where it is seen best
to both ends of the window (`thing_tracker`); at the end, what changed its place near a hand is taken for the object,
and the others are handed on for whoever knows the object's mesh. For a camera at rest, depth tells what moves at all
(`depth_background`): that is the object or an arm, and what hangs together with no hand is the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import Frame
from grasp_nodes.perception.boxes import box_of_mask
from grasp_nodes.perception.camera_motion import CameraWatch
from grasp_nodes.perception.clip_sights import Sight, resized, sight_of, spread, spread_indices, view_of
from grasp_nodes.perception.depth_background import VIEWS, DepthBackground, continued, free_parts
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence, ObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.object_boxes import ObjectBoxSource
from grasp_nodes.perception.object_candidates import View, find_candidates, find_moving, merged, object_in_box
from grasp_nodes.perception.object_division import MIN_PIXELS, skin_of
from grasp_nodes.perception.static_background import camera_is_still
from grasp_nodes.perception.thing_tracker import ThingTracker

SEARCH_WIDTH = 256
"""px; width of the images in which the object is looked for."""
SEARCH_VIEWS, MOTION_VIEWS = 5, 12
"""Images of a window in which the object is looked for, without and with depth that tells what moves."""
MAX_THINGS = 3
"""Things that are followed at the same time."""
MAX_CANDIDATES = 12
MOVING_SHARE = 0.3
"""Share of a thing's pixels that depth sees move from which it does."""
WORTH = 0.03
"""Share of the best thing's score below which nothing is followed."""
MOSTLY = 0.5
"""Share of a window in which the camera moves, above which places in its images tell nothing of motion."""
IDLE = 0.3
"""Merit of the best thing in a window below which others are looked for."""
FREE_GAIN = 4.0
"""Weight of a thing that depth sees apart from hands and border."""
OTHER_SCORE = 0.6
"""Score of each further thing over that of the one before it."""
SAME_THING = 0.4
"""Share of the smaller mask that two masks have in common if they show one thing."""


class StreamedClipSegmenter:
    """`ClipSegmenter` that shows a window to an `ObjectSegmenter`, frame by frame."""

    def __init__(self, segmenter: ObjectSegmenter) -> None:
        self._segmenter = segmenter

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """Objects of each frame.

        Raises:
            InputError: `frames` and `hands` differ in length, or frames differ in size.
        """
        check_window(frames, hands)
        return [self._segmenter.segment(frame, seen) for frame, seen in zip(frames, hands, strict=True)]

    def reset(self) -> None:
        """Forget the clip."""
        self._segmenter.reset()


class ClipObjectSegmenter:
    """`ClipSegmenter` of our own: by depth where the frames have it, else by colour, motion and the hands."""

    def __init__(
        self,
        object_id: str = "object",
        source: ObjectBoxSource | None = None,
        diameter: float | None = None,
        foreground: ForegroundFinder | None = None,
        use_depth: bool = True,
    ) -> None:
        """Set up the search.

        Args:
            object_id: name of the object in the evidence.
            source: says where the object is; None = what the hand is at.
            diameter: m, extent of the object where it is known; with depth, things of that size are preferred.
            foreground: to share the table's plane with others.
            use_depth: False ignores the frames' depth.

        Raises:
            InputError: a diameter that is not positive.
        """
        if diameter is not None and not diameter > 0:
            raise InputError(f"object diameter: expected a positive number of metres, got {diameter}")
        self._object_id, self._source, self._diameter, self._use_depth = object_id, source, diameter, use_depth
        self._foreground = foreground or ForegroundFinder()
        self.reset()

    def reset(self) -> None:
        """Forget the clip."""
        self._foreground.reset()
        self._behind, self._watch = DepthBackground(), CameraWatch()
        self._camera_moves = False
        self._things: list[ThingTracker] = []
        self._started = 0
        self._size: tuple[int, ...] | None = None
        if self._source is not None:
            self._source.reset()

    def segment_clip(
        self, frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]
    ) -> list[Sequence[ObjectEvidence]]:
        """The things that may be the object in each frame, best first; the best has the object's name in all of them.

        A thing keeps its track id from window to window. Of what has none of its pixels in a frame, nothing is said.

        Args:
            frames: of one camera, in time order, following those of the last call. hands: of each frame, with masks.

        Raises:
            InputError: `frames` and `hands` differ in length, or frames or masks differ in size from each other or
                from the last window's.
        """
        check_window(frames, hands)
        if not frames:
            return []
        size = frames[0].color.shape[:2]
        if self._things and self._size != size:
            raise InputError(
                f"window of a clip: frames are {size}, those before {self._size}; call reset between clips"
            )
        self._size = size
        sights = [self._sight(frame, seen) for frame, seen in zip(frames, hands, strict=True)]
        still = _is_still(sights)
        # A window in which it moves now and then is one of a camera at rest.
        self._camera_moves = bool(self._watch.moves([frame.color for frame in frames]).mean() > MOSTLY)
        sights = self._see_motion(sights, still)
        self._things = [thing for thing in self._things if not thing.is_lost]
        found: list[tuple[ThingTracker, list[Sight]]] = []
        for thing in self._things:
            found.append((thing, _suited(sights, thing.mask, 0)))
            thing.follow(found[-1][1], still, camera_moves=self._camera_moves)
        # Things that rest all the time may not be what is manipulated now.
        idle = max((thing.window_merit for thing, _ in found), default=0.0) < IDLE
        if not found or (idle and self._source is None):
            kept = max((thing.merit for thing, _ in found), default=0.0)
            fresh = self._follow_new(self._find(frames, sights, still), sights, still, found)
            found = fresh if not found else _ranked(found + [each for each in fresh if each[0].merit > kept])
        if not _knows_motion(found[0][1] if found else sights):
            # Where depth tells what moves, the first choice stands.
            found = _ranked(found)
        found = found[:MAX_THINGS]
        self._things = [thing for thing, _ in found]
        return [self._evidence([(thing, followed[index]) for thing, followed in found]) for index in range(len(sights))]

    def _follow_new(
        self,
        candidates: Sequence[tuple[int, np.ndarray]],
        sights: Sequence[Sight],
        still: bool,
        known: Sequence[tuple[ThingTracker, list[Sight]]],
    ) -> list[tuple[ThingTracker, list[Sight]]]:
        """Follow candidates that show nothing of what is known, and each thing only once."""
        fresh: list[tuple[ThingTracker, list[Sight]]] = []
        for start, mask in candidates:
            if len(fresh) == MAX_THINGS:
                break
            if any(_is_same(mask, followed[start].found) for _, followed in [*known, *fresh]):
                continue
            self._started += 1
            suited = _suited(sights, mask, start)
            thing = ThingTracker(self._started, mask, _knows_motion(suited))
            thing.follow(suited, still, start, self._camera_moves)
            fresh.append((thing, suited))
        return fresh

    # ------------------------------------------------------------------ what the window shows

    def _sight(self, frame: Frame, hands: Sequence[HandEvidence]) -> Sight:
        if frame.depth is None or not self._use_depth:
            return sight_of(frame, hands)
        return sight_of(frame, hands, self._foreground(frame).mask)

    def _see_motion(self, sights: list[Sight], still: bool) -> list[Sight]:
        """The sights with what depth tells about motion, where a camera at rest has depth."""
        depths = [sight.depth.depth for sight in sights if sight.depth is not None]
        if not still or len(depths) < len(sights):
            self._behind.reset()
            return sights
        self._behind.learn(spread(depths, VIEWS))
        sights = [self._with_motion(sight) for sight in sights]
        more = np.zeros(sights[0].hand.shape, bool)
        for sight in spread(sights, VIEWS):
            assert sight.depth is not None
            assert sight.depth.free is not None
            more |= continued(sight.depth.free, sight.depth.raised, sight.depth.depth)
        if more.any():
            self._behind.forget(more)
            sights = [self._with_motion(sight) for sight in sights]
        return sights

    def _with_motion(self, sight: Sight) -> Sight:
        assert sight.depth is not None
        moving = sight.depth.raised & self._behind.before(sight.depth.depth)
        free = free_parts(moving, sight.depth.depth, sight.drawing)
        return replace(sight, depth=replace(sight.depth, moving=moving, free=free))

    # ------------------------------------------------------------------ which thing it is

    def _find(self, frames: Sequence[Frame], sights: Sequence[Sight], still: bool) -> list[tuple[int, np.ndarray]]:
        """Images and pixels from which things can be followed, best first."""
        if self._source is not None:
            for index, (frame, sight) in enumerate(zip(frames, sights, strict=True)):
                boxes = self._source.boxes(frame, sight.hands)
                if boxes:
                    mask = object_in_box(view_of(sight, 1.0), boxes[0].box)
                    if mask is not None:
                        return [(index, mask)]
            return []
        scale = min(1.0, SEARCH_WIDTH / sights[0].hand.shape[1])
        skin = skin_of(sights)
        if _knows_motion(sights):
            picks = spread_indices(len(sights), MOTION_VIEWS)
            views = [view_of(sights[pick], scale) for pick in picks]
            free = [_free_view(view, sights[pick]) for view, pick in zip(views, picks, strict=True)]
            apart = find_moving(free, skin, self._diameter)
            # What hangs together with the hand in all images is looked for as well.
            candidates = [replace(each, score=FREE_GAIN * each.score) for each in apart]
            candidates += find_moving(views, skin, self._diameter)
            candidates.sort(key=lambda each: -each.score)
            if not apart:
                # Nothing may have been moved yet.
                views = [view_of(_unmoved(sights[pick]), scale) for pick in picks]
                resting = find_candidates(views, skin, still, self._diameter)
                candidates = resting[:1] + candidates + resting[1:]
        else:
            picks = spread_indices(len(sights), SEARCH_VIEWS)
            candidates = find_candidates([view_of(sights[pick], scale) for pick in picks], skin, still, self._diameter)
        height, width = sights[0].hand.shape
        found: list[tuple[int, np.ndarray]] = []
        least = WORTH * candidates[0].score if candidates else 0.0
        while candidates and len(found) < MAX_CANDIDATES:
            best = merged(candidates)
            if best.score <= least:
                break
            found.append((picks[best.index], cv2.resize(best.mask.astype(np.float32), (width, height)) > 0.5))
            candidates = [
                other for other in candidates[1:] if other.index != best.index or not _is_same(other.mask, best.mask)
            ]
        return found

    def _evidence(self, found: Sequence[tuple[ThingTracker, Sight]]) -> Sequence[ObjectEvidence]:
        """Objects of one image; a pixel belongs to the best thing that claims it."""
        objects: list[ObjectEvidence] = []
        for place, (thing, sight) in enumerate(found):
            if sight.mask is None:
                continue
            mask = sight.mask
            for better in objects:
                assert better.mask is not None
                mask = mask & ~better.mask
            box = box_of_mask(mask)
            if box is None or np.count_nonzero(mask) < MIN_PIXELS:
                continue
            score = float(np.clip(0.3 + 0.7 * np.count_nonzero(mask) / thing.area, 0.0, 1.0)) * OTHER_SCORE**place
            name = self._object_id if place == 0 else f"thing-{thing.track_id}"
            objects.append(ObjectEvidence(name, score, box, mask, thing.track_id))
        return tuple(objects)


def check_window(frames: Sequence[Frame], hands: Sequence[Sequence[HandEvidence]]) -> None:
    """Check what every `ClipSegmenter` takes for granted.

    Raises:
        InputError: `frames` and `hands` differ in length, or frames or masks of hands differ in size.
    """
    if len(frames) != len(hands):
        raise InputError(f"window of a clip: {len(frames)} frames but hands of {len(hands)}")
    for index, (frame, seen) in enumerate(zip(frames, hands, strict=True)):
        size = frame.color.shape[:2]
        if size != frames[0].color.shape[:2]:
            raise InputError(f"window of a clip: frame {index} is {size}, frame 0 {frames[0].color.shape[:2]}")
        for hand in seen:
            if hand.mask is not None and hand.mask.shape != size:
                raise InputError(f"hand mask of frame {index}: expected the image's size {size}, got {hand.mask.shape}")


def _free_view(view: View, sight: Sight) -> View:
    """The image with nothing hidden and nothing raised but what moves apart from the hands."""
    assert sight.depth is not None
    assert sight.depth.free is not None
    height, width = view.hidden.shape
    return replace(view, raised=resized(sight.depth.free, (width, height)), hidden=np.zeros_like(view.hidden))


def _suited(sights: Sequence[Sight], mask: np.ndarray, index: int) -> list[Sight]:
    """Sights of its own for a thing of that mask in image `index`: without motion where it is at rest."""
    depth = sights[index].depth
    if depth is None or depth.moving is None:
        return [replace(sight, mask=None) for sight in sights]
    if np.count_nonzero(depth.moving & mask) > MOVING_SHARE * np.count_nonzero(mask):
        return [replace(sight, mask=None) for sight in sights]
    return [_unmoved(sight) for sight in sights]


def _unmoved(sight: Sight) -> Sight:
    depth = None if sight.depth is None else replace(sight.depth, moving=None, free=None)
    return replace(sight, mask=None, depth=depth)


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    least = min(np.count_nonzero(one), np.count_nonzero(other))
    return bool(least and np.count_nonzero(one & other) > SAME_THING * least)


def _ranked(found: Sequence[tuple[ThingTracker, list[Sight]]]) -> list[tuple[ThingTracker, list[Sight]]]:
    return sorted(found, key=lambda each: -each[0].merit)


def _knows_motion(sights: Sequence[Sight]) -> bool:
    return all(sight.depth is not None and sight.depth.moving is not None for sight in sights)


def _is_still(sights: Sequence[Sight]) -> bool:
    some = spread(sights, SEARCH_VIEWS)
    return camera_is_still([_small(s.color) for s in some], [_small_mask(s.hand) for s in some])


def _small(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, SEARCH_WIDTH / image.shape[1])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _small_mask(mask: np.ndarray) -> np.ndarray:
    scale = min(1.0, SEARCH_WIDTH / mask.shape[1])
    return cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) > 0
