"""Chamfer distance, F-score, coverage and minimum matching distance where they can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.shape_metrics import cloud_error, shape_diversity

LINE = np.stack([np.linspace(0, 1, 11), np.zeros(11), np.zeros(11)], axis=1)


def test_a_line_beside_itself():
    same = cloud_error(LINE, LINE)
    assert same == (0.0, 1.0)
    beside = cloud_error(LINE + [0, 0.02, 0], LINE)
    assert beside.chamfer == pytest.approx(0.04)
    assert beside.f_score == 0.0  # 1 % of the diagonal is 0.01
    assert cloud_error(LINE + [0, 0.009, 0], LINE).f_score == 1.0


def test_half_of_a_line():
    """Its points are all met, six of eleven of the line's."""
    found = cloud_error(LINE[:6], LINE)
    assert found.f_score == pytest.approx(2 * (6 / 11) / (1 + 6 / 11))
    assert found.chamfer == pytest.approx(np.arange(1, 6).sum() * 0.1 / 11)


def test_coverage_and_matching():
    references = [LINE, 2 * LINE, LINE + [0, 5, 0]]
    everything = shape_diversity(references, references)
    assert everything == (1.0, 0.0)
    found = shape_diversity([LINE, LINE + [0, 0.1, 0]], references)
    assert found.coverage == pytest.approx(1 / 3)
    assert found.minimum_matching > 1.0


def test_wrong_clouds():
    with pytest.raises(InputError, match="reference of a shape"):
        cloud_error(LINE, LINE[:0])
    with pytest.raises(InputError, match="points of a shape"):
        cloud_error(np.full((4, 3), np.nan), LINE)
    with pytest.raises(InputError, match="0 samples, 1 references"):
        shape_diversity([], [LINE])
