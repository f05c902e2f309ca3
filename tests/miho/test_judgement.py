"""Scores of answers whose errors are known."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from grasp_nodes.data.hand_object_images import HandObjectImages, ImageSettings, draw_shard
from grasp_nodes.geometry.mesh import sample_surface
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.miho.honet_training import CropData
from grasp_nodes.miho.judgement import answer_errors, constant_contact, judge_views, mean_answer
from grasp_nodes.miho.picr import SMALL_PICR, PiCR, PiCROutput
from grasp_nodes.miho.picr_training import picr_scores
from grasp_nodes.miho.pipeline import GraspInView, MihoPipeline
from grasp_nodes.miho.samples import ObjectTable
from grasp_nodes.objects.registry import family_mesh

OBJECT = "mug:4"
MODEL = load_hand_model("right")


@pytest.fixture(scope="module")
def crops() -> HandObjectImages:
    with np.load(io.BytesIO(draw_shard(ImageSettings(size=32, per_object=3, disturbed=0.0), OBJECT))) as arrays:
        columns = {name: arrays[name] for name in arrays.files if name != "key"}
    return HandObjectImages(**columns, object_index=np.zeros(3, np.int64), objects=(OBJECT,))


@pytest.fixture(scope="module")
def data(crops: HandObjectImages) -> CropData:
    return CropData.of(crops, ObjectTable.of_meshes([family_mesh(OBJECT)]))


class Answer:
    """The truth, the object moved by some metres in the camera, the hand left where it is there."""

    def __init__(self, crops: HandObjectImages, shift: np.ndarray) -> None:
        self._crops, self._shift = crops, shift

    def crops(self, *_: Any) -> list[GraspInView]:
        poses = self._crops.T_camera_object.astype(np.float64).copy()
        poses[:, :3, 3] += self._shift
        hands = move_hands(self._crops.hands(), np.linalg.inv(poses), MODEL)
        return [GraspInView(hands[row : row + 1], poses[row]) for row in range(len(poses))]


def test_errors_are_as_large_as_the_object_was_moved(crops: HandObjectImages, data: CropData) -> None:
    shift = np.array([0.0, 0.03, -0.04])
    pipelines = {"moved": cast(MihoPipeline, Answer(crops, shift))}
    scores = judge_views(crops, data, pipelines, MODEL)
    truth, moved = scores["truth"], scores["moved"]
    for name in ("hand", "hand_relative", "object", "object_relative"):
        assert np.abs(getattr(truth, name)).max() < 1e-4, name
    np.testing.assert_allclose(moved.object, 0.05, atol=1e-4)
    np.testing.assert_allclose(moved.object_relative, 0.05, atol=1e-4)
    np.testing.assert_allclose(moved.hand, 0.0, atol=1e-4)
    means = moved.means()
    assert means["object"] == pytest.approx(50.0, abs=0.1)
    assert means["volume"] == pytest.approx(1e6 * moved.volume.mean())


def test_the_true_grasps_touch_and_do_not_enter(crops: HandObjectImages, data: CropData) -> None:
    """DD against the distances of fingertips to many points of the surface."""
    truth = judge_views(crops, data, {}, MODEL)["truth"]
    assert truth.penetration.max() < 0.004
    vertices, faces = family_mesh(OBJECT)
    tree = cKDTree(sample_surface(vertices, faces, 200_000, 0)[0])
    with torch.no_grad():
        hands = MODEL(move_hands(crops.hands(), np.linalg.inv(crops.T_camera_object.astype(np.float64)), MODEL))
    owner = MODEL.arrays.weights.argmax(axis=1)
    tips = np.flatnonzero(np.isin(owner, [3, 6, 9, 12, 15]))  # the last joint of every finger
    for row, posed in enumerate(hands.vertices.numpy()):
        assert truth.disjointedness[row] == pytest.approx(tree.query(posed[tips])[0].mean(), abs=4e-4)


class Always(PiCR):
    """Says the same of every point: 0.5, and one region."""

    def __init__(self, region: int) -> None:
        super().__init__(SMALL_PICR)
        self.said = region

    def forward(self, images: Tensor, points: Tensor, normals: Tensor, root: Tensor, focal: Tensor) -> list[PiCROutput]:
        shape = points.shape[:2]
        region = torch.zeros(*shape, 17)
        region[..., self.said] = 9.0
        return [PiCROutput(torch.zeros(shape), region, torch.zeros(*shape, 4), torch.ones(shape) > 0)]


def test_a_constant_answer_scores_as_a_network_that_always_gives_it(data: CropData) -> None:
    """Of all regions, the one that is best on the crops themselves."""
    anchors = HandAnchors.of_model(MODEL)
    scores = [picr_scores(Always(region).eval(), data, MODEL, anchors) for region in range(17)]
    precision, accuracy = constant_contact(data, data, MODEL)
    assert precision == pytest.approx(scores[0].contact_ap, abs=1e-6)
    assert 0.02 < precision < 0.9
    assert accuracy == pytest.approx(max(one.region_accuracy for one in scores), abs=1e-6)
    assert accuracy < 1
    # Commonest on crops of something else: that region's accuracy here.
    one = CropData(data.crops.rows(slice(0, 1)), data.table)
    first = [picr_scores(Always(region).eval(), one, MODEL, anchors).region_accuracy for region in range(17)]
    expected = scores[int(np.argmax(first))].region_accuracy
    assert constant_contact(one, data, MODEL)[1] == pytest.approx(expected, abs=1e-6)


def test_the_mean_answer_of_one_crop_is_that_crop(crops: HandObjectImages, data: CropData) -> None:
    """Up to the posture that fifteen components leave out."""
    pca = (torch.from_numpy(crops.hand_pose[:1]) - MODEL.hands_mean) @ MODEL.hands_components[:15].T
    with torch.no_grad():
        flat = HandParams(*(getattr(crops.hands()[:1], name) for name in ("global_orient",)), MODEL.pose_from_pca(pca),
                          *(getattr(crops.hands()[:1], name) for name in ("betas", "transl", "scale")))  # fmt: skip
        left_out = (MODEL(flat).vertices - MODEL(crops.hands()[:1]).vertices).norm(dim=2).mean()
    one = CropData(data.crops.rows(slice(0, 1)), data.table)
    errors = answer_errors(mean_answer(one, MODEL), one, MODEL)
    assert errors.object[0] < 1e-4
    assert errors.hand_relative[0] < float(left_out) + 2e-3
    three = answer_errors(mean_answer(data, MODEL), data, MODEL)
    assert three.hand.mean() > errors.hand[0]
