"""Dividing the images of a clip among the object, the hands and what is behind them.

Each of the three has colours that are learned from the clip (`color_model`); the scene behind a camera at rest is known
pixel by pixel (`static_background`); the landmarks say where the hand is, depth what stands on the table, and earlier
images where the object is. A Markov random field (`pixel_labels`) weighs them. Where depth tells what moves, all that
moves is hand, arm or object, and their colours are learned from the images that show them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from grasp_nodes.perception.boxes import box_of_mask, clip_box
from grasp_nodes.perception.clip_sights import Sight, resized, spread
from grasp_nodes.perception.color_model import BINS, UNIFORM, ColorModel, color_cells
from grasp_nodes.perception.hand_mask import draw_bones, pixels_per_metre
from grasp_nodes.perception.pixel_labels import label_pixels
from grasp_nodes.perception.static_background import (
    MAX_COST,
    NOISE,
    StaticBackground,
    enclosed_shade,
    filled,
    scene_cost,
)

MIN_FREE, FREE_SHARE = 2, 0.7
"""Images that show the object apart from the hands, from which on no others teach colours; and what makes one."""
SKIN_VIEWS, COLOR_VIEWS, BACKGROUND_VIEWS = 5, 12, 12
"""Images of a window from which skin, colours and background are learned."""
MAX_EDGE = 256
"""px; longest edge of the part of an image that is divided."""
SMOOTHNESS = 3.0
BEHIND, HAND, OBJECT = range(3)
ALIKE_ODDS = 1.0
"""Log odds of the object's colours against those around it from which a pixel may be the object's."""
NEW_COLORS = 0.1
"""Share of an object's pixels whose colours were not seen before: it turns and shows other sides."""
RARE_COLORS = 0.02
"""The same for skin and surroundings."""
BACKGROUND_CHANGES = 0.03
"""Share of the scene's pixels that do not look as they did before."""
FILL_NOISE, FILL_TRUST = 15.0, 0.5
"""Noise of a scene that is guessed from its surroundings, and the weight of the guess against their colours alone."""
HAND_INSIDE, HAND_BORDER, HAND_AWAY = 0.6, 0.25, 0.02
"""Prior of the hand inside of its mask or drawing, next to it, and elsewhere."""
OTHER_PART = 0.06
"""Prior of the object where a part of it may look out behind the hand."""
MOVING_PART = 0.2
"""The same where something moves and is known to."""
RAISED_BEHIND, FLAT_OBJECT, FAR_OBJECT = 0.03, 0.3, 0.01
"""Factors by depth: scenery that is raised, object that is flat on the table (its foot), object out of reach."""
MOVING_BEHIND, STILL_OBJECT = 0.002, 0.1
"""Factors where depth tells what moves: scenery that does, object or hand that do not."""
HAND_MOVING, HAND_FREE = 0.15, 0.002
"""Prior of the hand where something moves outside of its mask: an arm, a sleeve; and where it is away from hands."""
MAX_RADIUS, DEPTH_MARGIN = 1.2, 0.02
"""Reach in depth: share of the object's visible size, and m besides."""
SMALL_PART = 0.006
MIN_PIXELS = 30


class ObjectDivider:
    """Learns from a clip what object, hands and scenery look like, and finds the object's pixels."""

    def __init__(self, bins: tuple[int, int, int] = BINS) -> None:
        """Start without knowledge; bins: of the colours' histograms."""
        self._bins = bins
        self.background = StaticBackground()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.skin = self._model()
        self.background.reset()
        self.forget_object()

    def forget_object(self) -> None:
        """Forget what object and surroundings look like."""
        self._object, self._around = self._model(), self._model()

    def _model(self) -> ColorModel:
        return ColorModel(bins=self._bins)

    def learn_skin(self, sights: Sequence[Sight]) -> None:
        """Take in the colours along the fingers, but not where the object was found or what looks like it."""
        _learn_skin(self.skin, sights, self._object, self._bins)

    def learn_background(self, sights: Sequence[Sight]) -> None:
        """Take in what the images show where neither hands nor object are; for a camera at rest."""
        some = spread([sight for sight in sights if sight.mask is not None], BACKGROUND_VIEWS)
        if some:
            brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
            hidden = [s.hand | s.drawing | s.found for s in some]
            if not _moves(some):
                hidden = [mask | self._more_of_object(s) for mask, s in zip(hidden, some, strict=True)]
            covered = [cv2.dilate(mask.astype(np.uint8), brush) > 0 for mask in hidden]
            self.background.learn([sight.color for sight in some], covered)

    def _more_of_object(self, sight: Sight) -> np.ndarray:
        """(H, W) bool: what has the object's colours beside it: perhaps a part that was not found."""
        more = np.zeros(sight.hand.shape, bool)
        box = box_of_mask(sight.found)
        if box is not None:
            window = _window(box, float((box[2:] - box[:2]).max()), more.shape)
            more[window] = self._is_alike(color_cells(sight.color[window], self._bins))
        return more

    def _is_alike(self, cells: np.ndarray) -> np.ndarray:
        """Which of (...) cells are rather the object's than its surroundings'."""
        alike: np.ndarray = self._object.log_likelihood(cells) > self._around.log_likelihood(cells) + ALIKE_ODDS
        return alike & self._object.is_known

    def learn_window(self, sights: Sequence[Sight]) -> None:
        """Learn the colours anew from all images in which the object is found, or found apart from the hands."""
        found = [sight for sight in sights if sight.mask is not None]
        if not found:
            return
        sure = [sight for sight in found if _is_free(sight)]
        self.forget_object()
        for sight in spread(sure if len(sure) >= MIN_FREE else found, COLOR_VIEWS):
            self.learn_colors(sight)
        self.skin = self._model()
        self.learn_skin(sure if len(sure) >= MIN_FREE else sights)

    def learn_colors(self, sight: Sight) -> None:
        """Take in the object's colours from inside of its mask and those of its surroundings from around it."""
        box = box_of_mask(sight.found)
        if box is None:
            return
        border = 0.4 * float((box[2:] - box[:2]).max()) + 6
        window = _window(box, border, sight.hand.shape)
        cells, own = color_cells(sight.color[window], self._bins), sight.found[window].astype(np.uint8)
        self._object.learn(cells[cv2.erode(own, np.ones((3, 3), np.uint8)) > 0])
        covered = own | sight.hand[window].astype(np.uint8)
        ring = cells[cv2.dilate(covered, np.ones((7, 7), np.uint8)) == 0]
        around = self._model()
        around.learn(ring)
        # What is commoner in the object than around it may be a part of the object that was not found.
        self._around.learn(ring[self._object.log_likelihood(ring) <= around.log_likelihood(ring)])

    def divide(self, sight: Sight, expected: np.ndarray, reach: float, extent: float) -> np.ndarray | None:
        """The object's pixels of one image, None where there are none.

        Args:
            expected: (H, W) bool, where it should be. reach: px that it may be beyond. extent: px, of all of the
                object: so far apart may its parts be that hands leave free.
        """
        box = box_of_mask(expected)
        if box is None:
            return None
        border = max(2.0 * reach, extent - float((box[2:] - box[:2]).min())) + 8.0
        window = _window(box, border, expected.shape)
        height, width = sight.hand[window].shape
        if min(height, width) < 4:
            return None
        scale = min(1.0, MAX_EDGE / max(height, width))
        size = (max(round(width * scale), 4), max(round(height * scale), 4))
        image = cv2.resize(sight.color[window], size, interpolation=cv2.INTER_AREA)
        covered = resized((expected | sight.hand | sight.drawing)[window], size)
        weights = self._likelihoods(image, window, covered)
        if sight.depth is not None:
            _weigh_depth(weights, sight, window, expected)
        costs = _costs(weights, sight, window, resized(expected[window], size), reach * scale, extent * scale)
        labels = label_pixels(costs, cv2.cvtColor(image, cv2.COLOR_RGB2LAB), SMOOTHNESS)
        # Parts of one object are where it was, or at the hand that hides what is between them.
        round_brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        at_hand = cv2.dilate((labels == HAND).astype(np.uint8), round_brush) > 0
        anchors = resized(at_hand, (width, height)) | expected[window]
        part = _without_crumbs(cv2.resize((labels == OBJECT).astype(np.float32), (width, height)) > 0.5, anchors)
        if part is None:
            return None
        mask = np.zeros(expected.shape, bool)
        mask[window] = part
        return mask

    def _likelihoods(self, image: np.ndarray, window: tuple[slice, slice], covered: np.ndarray) -> np.ndarray:
        """(h, w, 3) float32: of the colours of (h, w, 3) under each label; covered: (h, w) bool, by hand or object."""
        cells = color_cells(image, self._bins)
        likelihood = np.empty((*cells.shape, 3), np.float32)
        likelihood[..., BEHIND] = _mixed(self._around, cells, RARE_COLORS)
        likelihood[..., HAND] = _mixed(self.skin, cells, RARE_COLORS)
        likelihood[..., OBJECT] = _mixed(self._object, cells, NEW_COLORS)
        if self.background.image is not None:
            size = (image.shape[1], image.shape[0])
            scene, known = self.background.behind(window)
            scene, known = cv2.resize(scene, size, interpolation=cv2.INTER_AREA), resized(known, size)
            trust = np.where(known, 1.0 - BACKGROUND_CHANGES, FILL_TRUST).astype(np.float32)
        else:
            # The surroundings in the same image: they tell about what they surround, not about themselves.
            covered = covered | self._is_alike(cells)
            scene, known = image, cv2.dilate(covered.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
            trust = np.where(known, 0.0, FILL_TRUST).astype(np.float32)
        noise = np.where(known, NOISE, FILL_NOISE).astype(np.float32)
        behind = filled(scene, known)
        cost = scene_cost(image, behind, noise)
        if self.background.image is not None:
            # Surroundings that are only guessed have no edges that could be trusted.
            cost[enclosed_shade(image, behind, noise) & known] = MAX_COST
        seen = np.exp(-cost)
        likelihood[..., BEHIND] = trust * seen + (1.0 - trust) * likelihood[..., BEHIND]
        return likelihood


def _is_free(sight: Sight) -> bool:
    """Whether depth says that what was found hangs together with no hand."""
    if sight.depth is None or sight.depth.free is None:
        return False
    return bool(np.count_nonzero(sight.found & sight.depth.free) > FREE_SHARE * np.count_nonzero(sight.found))


def skin_of(sights: Sequence[Sight]) -> ColorModel:
    """The colours along the fingers."""
    skin = ColorModel()
    _learn_skin(skin, sights, ColorModel(), BINS)
    return skin


def _learn_skin(skin: ColorModel, sights: Sequence[Sight], other: ColorModel, bins: tuple[int, int, int]) -> None:
    """Take in skin, and where it is known what moves the whole arm; not what has the colours of something other."""
    for sight in spread(sights, SKIN_VIEWS):
        if sight.depth is not None and sight.depth.moving is not None and sight.mask is not None:
            # What else moves is the arm, whatever it wears.
            apart = cv2.dilate(sight.mask.astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
            others = cv2.erode((sight.depth.moving & apart).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            skin.learn(color_cells(sight.color[others][None], bins)[0])
        for hand in () if _is_free(sight) else sight.hands:
            bones = draw_bones(hand, pixels_per_metre(hand), *sight.hand.shape) & ~sight.found
            if bones.any():
                cells = color_cells(sight.color[bones][None], bins)[0]
                if skin.is_known and other.is_known:
                    cells = cells[skin.log_likelihood(cells) >= other.log_likelihood(cells)]
                skin.learn(cells)


def _costs(
    weights: np.ndarray,
    sight: Sight,
    window: tuple[slice, slice],
    expected: np.ndarray,
    reach: float,
    extent: float,
) -> np.ndarray:
    """(h, w, 3) float32: negative log of likelihoods (h, w, 3) times the priors; the rest at that size as well."""
    size = (weights.shape[1], weights.shape[0])
    inside = resized(sight.drawing[window] | sight.hand[window], size)
    beside = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    hand = np.where(inside, HAND_INSIDE, np.where(beside, HAND_BORDER, HAND_AWAY)).astype(np.float32)
    if not sight.hands:
        hand[:] = HAND_AWAY / 10
    if sight.depth is not None and sight.depth.moving is not None:
        # The hand's mask may hold the object as well; its drawing does not know the fingers' width.
        hand[inside & ~resized(sight.drawing[window], size)] = HAND_BORDER
        hand = np.where(resized(sight.depth.moving[window], size), np.maximum(hand, HAND_MOVING), hand)
        if sight.depth.free is not None:
            hand[resized(sight.depth.free[window], size)] = HAND_FREE
    here = _place_prior(expected, reach, extent)
    if sight.depth is not None and sight.depth.moving is not None:
        # The table does not move: whatever place it has, a thing that does is either of the two.
        here = np.where(resized(sight.depth.moving[window], size), np.maximum(here, MOVING_PART), here)
    weights[..., HAND] *= hand
    weights[..., OBJECT] *= (1.0 - hand) * here
    weights[..., BEHIND] *= (1.0 - hand) * (1.0 - here)
    costs: np.ndarray = -np.log(np.maximum(weights, 1e-12))
    return costs


def _moves(sights: Sequence[Sight]) -> bool:
    """Whether the object leaves its place in some image: what it was then shows what is behind."""
    first = sights[0].found
    return any(
        np.count_nonzero(first & sight.found) < 0.5 * min(np.count_nonzero(first), np.count_nonzero(sight.found))
        for sight in sights
    )


def _weigh_depth(weights: np.ndarray, sight: Sight, window: tuple[slice, slice], expected: np.ndarray) -> None:
    """Put what depth says on the weights (h, w, 3); expected: (H, W) bool, where the object should be."""
    assert sight.depth is not None
    size = (weights.shape[1], weights.shape[0])
    depth = cv2.resize(sight.depth.depth[window], size, interpolation=cv2.INTER_NEAREST)
    moves = sight.depth.moving is not None
    raised = resized((sight.depth.raised if sight.depth.moving is None else sight.depth.moving)[window], size)
    measured = depth > 0
    weights[raised, BEHIND] *= MOVING_BEHIND if moves else RAISED_BEHIND
    weights[measured & ~raised, OBJECT] *= STILL_OBJECT if moves else FLAT_OBJECT
    weights[measured & ~raised, HAND] *= STILL_OBJECT if moves else 1.0
    # Hand and object are at the same distance, and the hand's mask may hold the object.
    near = sight.depth.raised & ~sight.hand if sight.depth.moving is None else sight.depth.moving
    own = sight.depth.depth[expected & near]
    if len(own) >= MIN_PIXELS:
        middle = float(np.median(own))
        radius = MAX_RADIUS * float(np.sqrt(expected.sum())) * middle / sight.depth.focal + DEPTH_MARGIN
        weights[measured & (np.abs(depth - np.float32(middle)) > radius), OBJECT] *= FAR_OBJECT


def _place_prior(expected: np.ndarray, reach: float, extent: float) -> np.ndarray:
    """(h, w) float32: how likely the object is at each pixel, before the pixel is looked at."""
    soft = np.float32(max(reach, 2.0))
    away = cv2.distanceTransform((~expected).astype(np.uint8), cv2.DIST_L2, 3)
    within = cv2.distanceTransform(expected.astype(np.uint8), cv2.DIST_L2, 3)
    inner = np.clip(0.5 + 0.4 * within / soft, 0.5, 0.9)
    outer = np.maximum(0.45 * np.exp(-((away / soft) ** 2)), np.where(_spans(expected, extent), OTHER_PART, 1e-3))
    return np.where(expected, inner, outer).astype(np.float32)


def _spans(expected: np.ndarray, extent: float) -> np.ndarray:
    """(h, w) bool: pixels that are no farther than an extent (px) from any part of the expected ones."""
    grid: np.ndarray = np.indices(expected.shape, np.float32)
    rows, columns = grid[0], grid[1]
    farthest = np.zeros(expected.shape, np.float32)
    own_rows, own_columns = rows[expected], columns[expected]
    if len(own_rows):
        for x, y in ((1, 0), (0, 1), (1, 1), (1, -1)):
            along = x * own_columns + y * own_rows
            for end in (int(along.argmin()), int(along.argmax())):
                apart = (rows - own_rows[end]) ** 2 + (columns - own_columns[end]) ** 2
                np.maximum(farthest, apart, out=farthest)
    near: np.ndarray = farthest < np.float32(extent**2)
    return near


def _window(box: np.ndarray, border: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    grown = box + np.array([-border, -border, border, border])
    x_start, y_start, x_stop, y_stop = clip_box(grown, shape[1], shape[0])
    return slice(y_start, y_stop), slice(x_start, x_stop)


def _mixed(model: ColorModel, cells: np.ndarray, share: float) -> np.ndarray:
    """Likelihood of cells if a share of the pixels may have any colour."""
    uniform = float(np.exp(UNIFORM))
    if not model.is_known:
        return np.full(cells.shape, uniform, np.float32)
    return (1.0 - share) * np.exp(model.log_likelihood(cells)) + np.float32(share * uniform)


def _without_crumbs(mask: np.ndarray, anchors: np.ndarray) -> np.ndarray | None:
    """The mask without its smallest parts and those that touch no anchor (h, w); None where nothing is left."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas >= max(SMALL_PART * areas.max(), 6)
    kept &= np.isin(np.arange(count), np.unique(labels[anchors]))
    result: np.ndarray = kept[labels]
    return result if np.count_nonzero(result) >= MIN_PIXELS else None
