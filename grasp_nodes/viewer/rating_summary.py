"""What a blind study says of the methods: mean scores, shares of pairs won, and strengths, with intervals.

Raters and questions are both samples: the bootstrap draws both anew (the pigeonhole bootstrap, Owen 2007), one of them
alone would give intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grasp_nodes.errors import InputError
from grasp_nodes.viewer.picture_folder import PictureEntry
from grasp_nodes.viewer.rating import RatingAnswer

RESAMPLES = 2000
COVERAGE = 0.95
_WIN_VALUE = {"first": 1.0, "tie": 0.5, "second": 0.0}
_PRIOR_PAIRS = 1.0
"""Pairs that each method is taken to have half won against an average one: strengths stay finite."""


@dataclass(frozen=True)
class MethodRating:
    """One method.

    score: mean of 1..5, score_low, score_high: its interval; NaN without an answer. scores: answers.
    wins: share of its pairs that it won, a tie is half a win; wins_low, wins_high; NaN without. pairs: answers.
    strength: of Bradley and Terry, natural logarithm, the mean of all methods is 0; exp of a difference = the odds;
    NaN without pairs.
    """

    method: str
    score: float
    score_low: float
    score_high: float
    scores: int
    wins: float
    wins_low: float
    wins_high: float
    pairs: int
    strength: float


def summarise(pictures: Sequence[PictureEntry], answers: Sequence[RatingAnswer], seed: int = 0) -> list[MethodRating]:
    """The methods of a study, best score first.

    Args:
        pictures: of the evaluation. answers: one per rater and question. seed: of the bootstrap.

    Raises:
        InputError: an answer about a picture that is not among `pictures`.
    """
    method_of = {entry.id: entry.method for entry in pictures}
    for answer in answers:
        for name in (answer.task.first, answer.task.second):
            if name and name not in method_of:
                raise InputError(f"ratings: picture {name!r}, rated by {answer.rater}, is not in the index")
    methods = sorted(set(method_of.values()))
    row = {method: k for k, method in enumerate(methods)}
    scored = [answer for answer in answers if answer.task.kind == "score"]
    paired = [answer for answer in answers if answer.task.kind == "pair"]
    weights = [_resampling_weights(part, seed) for part in (scored, paired)]

    owner = np.array([row[method_of[answer.task.first]] for answer in scored], np.int64)
    values = np.array([float(answer.answer) for answer in scored])
    score = _shares(np.eye(len(methods))[owner].reshape(-1, len(methods)), values, weights[0])

    first = np.array([row[method_of[answer.task.first]] for answer in paired], np.int64)
    second = np.array([row[method_of[answer.task.second]] for answer in paired], np.int64)
    won = np.array([_WIN_VALUE[answer.answer] for answer in paired])
    both = np.concatenate([first, second])
    wins = _shares(
        np.eye(len(methods))[both].reshape(-1, len(methods)),
        np.concatenate([won, 1 - won]),
        np.concatenate([weights[1], weights[1]], axis=1),
    )
    strength = bradley_terry(first, second, won, len(methods))
    result = [
        MethodRating(
            method=method,
            **dict(zip(("score", "score_low", "score_high"), score[:, k].tolist(), strict=True)),
            scores=int((owner == k).sum()),
            **dict(zip(("wins", "wins_low", "wins_high"), wins[:, k].tolist(), strict=True)),
            pairs=int((both == k).sum()),
            strength=float(strength[k]) if (both == k).any() else float("nan"),
        )
        for k, method in enumerate(methods)
    ]
    return sorted(result, key=lambda one: (-np.nan_to_num(one.score), -np.nan_to_num(one.strength)))


def bradley_terry(first: np.ndarray, second: np.ndarray, won: np.ndarray, count: int) -> np.ndarray:
    """Strengths of Bradley and Terry (1952), by the iteration of Hunter (2004, eq. 3); a tie is half a win for each.

    Args:
        first, second: (N,) int, who was compared. won: (N,), 1 if the first won, 0 if the second, 0.5 for a tie.
        count: M.

    Returns:
        (M,) natural logarithms with mean 0; 0 for all without a pair.
    """
    compared, wins = np.zeros((count, count)), np.zeros(count)
    np.add.at(compared, (first, second), 1.0)
    compared += compared.T
    np.add.at(wins, first, won)
    np.add.at(wins, second, 1 - won)
    strength = np.ones(count)
    for _ in range(10_000):
        against = (compared / (strength[:, None] + strength)).sum(axis=1) + _PRIOR_PAIRS / (strength + 1)
        new = (wins + 0.5 * _PRIOR_PAIRS) / against
        change = np.abs(np.log(new / strength)).max(initial=0.0)
        strength = new
        if change < 1e-10:
            break
    logarithm = np.log(strength)
    return logarithm - logarithm.mean()


def _resampling_weights(answers: Sequence[RatingAnswer], seed: int) -> np.ndarray:
    """(1 + RESAMPLES, N): how often each answer is in a sample; the first row is the answers themselves."""
    if not answers:
        return np.ones((1 + RESAMPLES, 0))
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + RESAMPLES, len(answers)))
    for names in ([answer.rater.casefold() for answer in answers], ["\0".join(answer.task.key) for answer in answers]):
        _, index = np.unique(names, return_inverse=True)
        count = index.max() + 1
        weights[1:] *= rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, index]
    return weights


def _shares(member: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of groups with their intervals.

    Args:
        member: (N, M), 1 where a value belongs to a group. values: (N,). weights: (1 + R, N).

    Returns:
        (3, M): mean and both ends of the interval; NaN for a group without a value.
    """
    total = weights @ member
    mean = np.divide(weights @ (member * values[:, None]), total, out=np.full(total.shape, np.nan), where=total > 0)
    known = np.isfinite(mean[0])
    ends = np.full((2, member.shape[1]), np.nan)
    if known.any():
        # A sample in which a method does not occur says nothing of it.
        ends[:, known] = np.nanquantile(mean[1:, known], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    return np.concatenate([mean[:1], ends])
