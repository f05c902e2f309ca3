"""How far the reader of landmarks is believed: hands that do what it never saw are better told by the landmarks.

It learned from rendered hands, most of which grasp. Where sure landmarks lie off the hand that it reads, in frame after
frame, its bends count less, and what counts instead are the landmarks, what is known of any hand (from flat to relaxed)
and how the landmarks lie before and behind each other as their network guesses it. What the reader says of the hand's
turn stays: it errs half as much there as that guess.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grasp_nodes.fitting.hand_skeleton import HandSkeleton
from grasp_nodes.fitting.hand_solver import PriorTerms
from grasp_nodes.fitting.landmark_reading import LandmarkReading, disagreement, nearest_rotation
from grasp_nodes.fitting.posture_prior import PosturePrior

LANDMARK_REACH = 0.1
"""m; half a hand: landmarks that turn it wrongly by so many rad are themselves wrong by so much at its ends."""
SURE_SCORE = 0.985
"""Of landmarks that are as good as those of a hand in plain view; in half of the frames, where readers are doubted."""
FAMILIAR, FOREIGN = 0.62, 0.7
"""Root mean square distance between sure landmarks and the hand that is read from them, over the landmarks' expected
error, in a clip's median frame. Below the first the hand is like those of the training (0.4 to 0.6 in rendered clips).
Above the second it does what the reader does not know, frame after frame: then the landmarks win, with what is known of
any hand, and the relief that their network guesses."""
FAMILIAR_AGAIN = 0.4
"""The same in a window of a clip that was doubted before: hand and camera are still the same, so only what is
as familiar as the best of the training takes the doubt back."""
FOREIGN_ERRORS = 3.0
"""Factor on the errors that a reader states of angles it does not know."""
FOREIGN_LANDMARK_ERROR = 0.005
"""m, across the rays; of landmarks where the reader is doubted. The best hands stay off them by as much (5 to 7 mm in a
recorded clip of gestures, whatever error is assumed), because a hand has other proportions than the model, and what is
less believed turns a flat hand with its fingers bent: that shortens fingers as well."""
USUAL_LOG_VOLUME = -40.0
"""Of the readings of well-seen hands: surer readings are preferred, less sure ones cost."""


def unfamiliarity(skeleton: HandSkeleton, reading: LandmarkReading, rays: np.ndarray, score: float) -> float:
    """How far landmarks lie off the hand that was read from them, over their expected error; 0 where they are not sure.

    Args:
        skeleton: the hand. reading: of the landmarks. rays: (21, 2), x / z and y / z. score: of the landmarks.
    """
    if score < SURE_SCORE:
        return 0.0
    return disagreement(skeleton, reading, rays) / (LANDMARK_REACH * reading.rotation_error)


def doubt_of_window(apart: Sequence[float], before: float = 0.0) -> float:
    """0 (the reader knows such hands) to 1 (it does not).

    Args:
        apart: of the window's frames, as `unfamiliarity` tells it. before: the doubt of the window before; frames that
            are sure take it back, where most are.
    """
    usual = float(np.median(apart)) if len(apart) else 0.0
    doubt = float(np.clip((usual - FAMILIAR) / (FOREIGN - FAMILIAR), 0.0, 1.0))
    sure = [one for one in apart if one > 0.0]
    is_familiar_again = usual > 0.0 and float(np.median(sure)) < FAMILIAR_AGAIN
    return doubt if is_familiar_again else max(doubt, before)


def read_landmark_error(reading: LandmarkReading, doubt: float) -> float:
    """m, across the rays: what landmarks may err. doubt: 0 to 1."""
    expected = LANDMARK_REACH * reading.rotation_error
    return float(expected ** (1.0 - doubt) * min(FOREIGN_LANDMARK_ERROR, expected) ** doubt)


def prior_with_reading(
    prior: PriorTerms, reading: LandmarkReading, doubt: float, unforced: PosturePrior
) -> tuple[PriorTerms, float]:
    """The prior with what landmarks say of turn and bends, and the cost of what they say apart from each other.

    Args:
        prior: without it. reading: of the landmarks. doubt: 0 to 1. unforced: what is known of any hand.
    """
    known = FOREIGN_ERRORS ** (-2.0 * doubt) * reading.postures.precision
    precision = known + doubt * unforced.precision
    posture = np.linalg.solve(precision, known @ reading.postures.mean + doubt * unforced.precision @ unforced.mean)
    read = reading.rotation_error**-2
    moved = prior.rotation**2
    rotation = nearest_rotation(moved * prior.expected.rotation + read * reading.rotation)
    firm = np.trace(rotation.T @ (moved * prior.expected.rotation + read * reading.rotation)) / 3.0
    # Both squares are 3 - trace: what is left when they are joined does not depend on the pose.
    apart = 1.5 * (moved + read - firm)
    wrist, firmness = prior.expected.wrist.copy(), prior.wrist.copy()
    far = max(prior.expected.scale * float(reading.wrist[2]), 0.05)
    near, seen = firmness[2] ** 2, (reading.distance_error * far) ** -2
    apart += 0.5 * near * seen / (near + seen) * (wrist[2] - far) ** 2 + np.log(reading.distance_error)
    wrist[2], firmness[2] = (near * wrist[2] + seen * far) / (near + seen), np.sqrt(near + seen)
    joined = prior._replace(
        expected=prior.expected._replace(rotation=rotation, wrist=wrist),
        rotation=float(np.sqrt(max(firm, 1e-9))),
        wrist=firmness,
        posture=posture,
        posture_precision=precision,
    )
    return joined, float(apart) + reading.log_volume - USUAL_LOG_VOLUME
