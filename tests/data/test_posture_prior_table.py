from __future__ import annotations

import json

import numpy as np

from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.posture_prior import sample_postures
from grasp_nodes.fitting.posture_prior import GRASPS_FILE
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model


def test_the_table_describes_other_grasps_of_the_set():
    model = load_hand_model("right", OPEN_HAND_FILE)
    count = 400
    postures = sample_postures(model, open_grasps(), count, seed=7)
    table = json.loads(GRASPS_FILE.read_text())
    covariance = np.array(table["covariance"])
    away = (postures.mean(axis=0) - table["mean"]) / np.sqrt(np.diag(covariance) / count)
    assert np.abs(away).max() < 4.5
    inverse = np.linalg.inv(covariance)
    apart = postures - table["mean"]
    # Of a normal distribution of 21 dimensions: 21 on average.
    assert abs(np.einsum("ni,ij,nj->n", apart, inverse, apart).mean() - len(away)) < 4
