"""What `grasp-nodes render` draws of a set of grasps."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from grasp_nodes.cli.pictures import draw
from grasp_nodes.data.grasp_files import write_grasps
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams

SIZE = 96


def grasps(count: int, mesh: str = "sphere:0.03") -> LabelledGrasps:
    hands = HandParams.zeros(count)
    # A palm that looks at a ball some way below it.
    hands = replace(hands, transl=torch.tensor([[0.08, 0.05, 0.0]]).repeat(count, 1))
    model = load_hand_model("right")
    words = np.full(count, "")
    return LabelledGrasps(
        *("test", hands, model.model_id, model.fingerprint, [GraspedObject("ball", mesh)]),
        *(np.zeros(count, np.int64), np.zeros(count, np.int64), words, words, np.arange(count)),
    )


def test_a_sheet_shows_as_many_grasps_as_asked_for(tmp_path):
    file, picture = tmp_path / "grasps.npz", tmp_path / "sheet.png"
    write_grasps(file, grasps(7))
    draw(str(file), picture, SIZE, "right", 1.0, count=6)
    image = cv2.imread(str(picture))[..., ::-1]
    rows, columns = 2, 5
    assert image.shape[0] >= rows * SIZE
    assert image.shape[1] >= columns * 3 * SIZE
    drawn = (image < 240).any(axis=2)
    high, wide = image.shape[0] // rows, image.shape[1] // columns
    shares = drawn[: rows * high, : columns * wide].reshape(rows, high, columns, wide).mean(axis=(1, 3))
    assert (shares[0] > 0.05).all()
    assert shares[1, 0] > 0.05
    assert (shares[1, 1:] < 0.02).all()
    # The ball is grey, skin and contact are not.
    spread = np.ptp(image[drawn].astype(int), axis=1)
    assert (spread < 25).mean() > 0.1
    assert (spread > 60).mean() > 0.1


def test_grasps_that_cannot_be_drawn_are_named(tmp_path):
    file, picture = tmp_path / "grasps.npz", tmp_path / "sheet.png"
    write_grasps(file, grasps(2, mesh=""))
    with pytest.raises(InputError, match="no mesh of ball"):
        draw(str(file), picture, SIZE, "right", 1.0)
    write_grasps(file, replace(grasps(2), hand_fingerprint="", hand_model_id="mano"))
    with pytest.raises(InputError, match="GRASP_NODES_HAND_MODEL"):
        draw(str(file), picture, SIZE, "right", 1.0)
    write_grasps(file, replace(grasps(2), objects=[GraspedObject("box:1", "family:box:1", mesh_sha256="0" * 64)]))
    with pytest.raises(InputError, match="not the mesh"):
        draw(str(file), picture, SIZE, "right", 1.0)
    write_grasps(file, replace(grasps(2), hand_fingerprint="f" * 64))
    with pytest.raises(InputError, match="GRASP_NODES_HAND_MODEL"):
        draw(str(file), picture, SIZE, "right", 1.0)
    assert not picture.exists()


def test_a_data_set_that_tells_its_hand_by_name_alone_is_drawn(tmp_path):
    file, picture = tmp_path / "grasps.npz", tmp_path / "sheet.png"
    write_grasps(file, replace(grasps(1), hand_fingerprint=""))
    draw(str(file), picture, SIZE, "right", 1.0)
    assert picture.is_file()
