"""Which postures hands that grasp have: a normal distribution of the joint angles, measured on the open grasps.

Grasps of all kinds, closed and on the way from their kind's pre-shape, give mean and covariance of the 21 angles. It is
the synergy of the fingers (Santello, Flanders and Soechting, 1998): few directions hold most of the variance.

    python -m grasp_nodes.data.posture_prior -o grasp_nodes/fitting/posture_prior.json
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.data.grasp_set import open_grasps
from grasp_nodes.data.labelled_grasps import KINDS, LabelledGrasps
from grasp_nodes.fitting.hand_skeleton import dof_values, make_hand_skeleton
from grasp_nodes.fitting.posture_prior import FORMAT, VERSION
from grasp_nodes.hand.files import OPEN_HAND_FILE, load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.preshapes import HandPreshapes, angles

WIDE = 0.2
"""Largest closing of a pre-shape that a hand on its way comes from."""

_log = logging.getLogger(__name__)


def sample_postures(model: HandModel, grasps: LabelledGrasps, count: int, seed: int) -> np.ndarray:
    """(count, D) rad: half of them closed around an object, half on the way there.

    Args:
        model: the right hand that the grasps are of. grasps: of the five kinds. count: postures. seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    skeleton = make_hand_skeleton(model)
    shapes = HandPreshapes.of_model(model)
    rows = rng.choice(len(grasps), count, replace=False)
    closings = rng.uniform(0.0, WIDE, count)
    opened = np.where(rng.random(count) < 0.5, rng.uniform(0.0, 1.0, count), 0.0)
    found = np.empty((count, skeleton.num_dofs))
    for index, row in enumerate(rows):
        kind = KINDS[int(grasps.kind[row])]
        pose = grasps.hands.hand_pose[int(row)]
        wide = shapes.hand_pose(angles(kind, torch.tensor([closings[index]], dtype=torch.float32)))[0]
        found[index] = dof_values(skeleton, pose + opened[index] * (wide.to(pose) - pose))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="Measure the distribution of joint angles of the open grasps.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--postures", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = load_hand_model("right", OPEN_HAND_FILE)
    postures = sample_postures(model, open_grasps(model.fingerprint), options.postures, options.seed)
    covariance = np.cov(postures.T)
    spreads = np.sqrt(np.linalg.eigvalsh(covariance)[::-1])
    _log.info("standard deviations along the principal directions, rad: %s", np.round(spreads, 2).tolist())
    table = {
        "format": FORMAT,
        "version": VERSION,
        "names": list(make_hand_skeleton(model).dofs.names),
        "mean": np.round(postures.mean(axis=0), 4).tolist(),
        "covariance": np.round(covariance, 6).tolist(),
        "hand_model_id": model.model_id,
        "hand_fingerprint": model.fingerprint,
        "postures": options.postures,
        "seed": options.seed,
        "provenance": (
            f"python -m grasp_nodes.data.posture_prior --postures {options.postures} --seed {options.seed}; "
            "of the open grasps, CC0-1.0"
        ),
    }
    options.output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
