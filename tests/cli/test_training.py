"""What `grasp-nodes train` refuses before it computes anything."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_nodes.cli.training import train_method
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.data.view_feature_training import TrainingSettings
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.hand.parameters import HandParams


def test_what_cannot_be_trained_on_is_refused_with_the_remedy(tmp_path):
    file, folder = tmp_path / "g.npz", tmp_path / "weights"
    number, words = np.zeros(3, np.int64), np.full(3, "")
    objects = [GraspedObject("ball", "sphere:0.03")]
    for fingerprint in ("", "a" * 64):
        hands = HandParams.zeros(3)
        columns = (number, number, words, words, number)
        write_grasps(file, LabelledGrasps("test", hands, "mano", fingerprint, objects, *columns))
        with pytest.raises(InputError, match=r"g\.npz: its grasps are of the hand model mano.*GRASP_NODES_HAND_MODEL"):
            train_method("view-features", file, folder, TrainingSettings(), as_json=False)
    with pytest.raises(MissingFileError):
        train_method("view-features", tmp_path / "none.npz", folder, TrainingSettings(), as_json=False)
    with pytest.raises(InputError, match="view-features"):
        train_method("nosuch", file, folder, TrainingSettings(), as_json=False)
    assert not folder.exists()
