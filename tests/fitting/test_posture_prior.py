from __future__ import annotations

import json

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.fitting.hand_skeleton import make_hand_skeleton
from grasp_nodes.fitting.posture_prior import GRASPS_FILE, grasping_postures, unforced_postures
from grasp_nodes.hand.files import load_hand_model

SKELETONS = {side: make_hand_skeleton(load_hand_model(side)) for side in ("right", "left")}


def energy(prior, angles):
    apart = angles - prior.mean
    return 0.5 * apart @ prior.precision @ apart


def test_unforced_postures_say_relaxed_and_coupled():
    skeleton = SKELETONS["right"]
    prior = unforced_postures(skeleton)
    names = list(skeleton.dofs.names)
    relaxed = skeleton.angles((20, 22, 14), (5, 10, 12, -15, 0))

    def said(angles):
        total = 0.5 * np.sum(((angles - relaxed) / 0.45) ** 2)
        for finger in ("index", "middle", "ring", "little"):
            outer, middle = angles[names.index(f"{finger}_bend_2")], angles[names.index(f"{finger}_bend_1")]
            total += 0.5 * ((outer - 0.66 * middle) / 0.25) ** 2
        return total

    some = np.random.default_rng(0).normal(0, 0.6, (20, len(names)))
    differences = [energy(prior, angles) - said(angles) for angles in some]
    np.testing.assert_allclose(differences, differences[0], atol=1e-9)


@pytest.mark.parametrize("side", ["right", "left"])
def test_grasps_are_likelier_than_what_no_grasp_does(side):
    skeleton = SKELETONS[side]
    prior = grasping_postures(skeleton)
    assert (np.linalg.eigvalsh(prior.precision) > 0).all()
    assert ((prior.mean > skeleton.low - 1e-6) & (prior.mean < skeleton.high + 1e-6)).all()
    names = list(skeleton.dofs.names)
    together, apart = prior.mean.copy(), prior.mean.copy()
    for finger, way in (("middle", 1), ("ring", 1), ("little", 1)):
        together[names.index(f"{finger}_bend_1")] += 0.3 * way
    for finger, way in (("middle", 1), ("ring", -1), ("little", 1)):
        apart[names.index(f"{finger}_bend_1")] += 0.3 * way
    assert energy(prior, together) < energy(prior, apart)


def test_other_tables_are_refused(tmp_path):
    table = json.loads(GRASPS_FILE.read_text())
    for wrong, message in (({**table, "version": 99}, "version"), ({**table, "names": ["one"]}, "names")):
        path = tmp_path / "prior.json"
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=message):
            grasping_postures(SKELETONS["right"], path)
