"""What HoNet alone, and MIHO, make of held-out crops: the paper's metrics, and baselines that have seen no image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from grasp_nodes.contact.hand_states import stack_params
from grasp_nodes.data.hand_object_images import HandObjectImages
from grasp_nodes.evaluation.intersection import solid_intersection_volume
from grasp_nodes.evaluation.penetration import (
    disjointedness_distance,
    fingertip_regions,
    hand_signed_distance,
    penetration_depth,
)
from grasp_nodes.evaluation.solid import Solid
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.model import HandModel
from grasp_nodes.hand.placement import move_hands
from grasp_nodes.miho.honet import (
    DEPTH_SCALE,
    NUM_PCA,
    ROOT_JOINT,
    HandObjectPoses,
    HoNetOutput,
    place_in_crop,
    width_value,
)
from grasp_nodes.miho.honet_training import CropData
from grasp_nodes.miho.picr_training import true_regions
from grasp_nodes.miho.pipeline import GraspInView, MihoPipeline
from grasp_nodes.miho.pose_errors import PoseErrors
from grasp_nodes.miho.samples import crop_rows
from grasp_nodes.miho.truth import TruePoses
from grasp_nodes.objects.loading import make_object
from grasp_nodes.objects.registry import family_mesh


@dataclass(frozen=True)
class ViewScores:
    """Of N crops, (N,) each, m and m^3: poses as `PoseErrors`, then PD, SIV and DD of the hand at its object.

    refined: (N,) bool, whether there were springs that pulled.
    """

    hand: np.ndarray
    hand_relative: np.ndarray
    object: np.ndarray
    object_relative: np.ndarray
    penetration: np.ndarray
    volume: np.ndarray
    disjointedness: np.ndarray
    refined: np.ndarray

    def means(self) -> dict[str, float]:
        """mm, cm^3 and shares by name."""
        units = {"volume": 1e6, "refined": 1.0}
        return {one.name: units.get(one.name, 1e3) * float(np.mean(getattr(self, one.name))) for one in fields(self)}


def judge_views(
    crops: HandObjectImages,
    data: CropData,
    pipelines: Mapping[str, MihoPipeline],
    model: HandModel,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, ViewScores]:
    """Scores of pipelines on crops of right hands, and of the true poses as ``truth``.

    Args:
        crops: to judge on, poses of the meshes' own frames; `data`: the same in the table's. pipelines: by name.
        model: of the right hand.
        progress: is told objects done and in all.
    """
    parts: dict[str, list[ViewScores]] = {name: [] for name in ("truth", *pipelines)}
    numbers = np.unique(crops.object_index)
    for done, number in enumerate(numbers):
        rows = np.flatnonzero(crops.object_index == number)
        vertices, faces = family_mesh(crops.objects[int(number)])
        scorer = _ObjectScorer(data, rows, Solid(vertices, faces), model)
        own = make_object(vertices, faces, crops.objects[int(number)])
        parts["truth"].append(scorer(_true_views(crops, rows, model)))
        for name, pipeline in pipelines.items():
            parts[name].append(scorer(pipeline.crops(crops.images[rows], crops.focal[rows], own)))
        if progress is not None:
            progress(done + 1, len(numbers))
    return {
        name: ViewScores(*(np.concatenate([getattr(one, part.name) for one in found]) for part in fields(ViewScores)))
        for name, found in parts.items()
    }


class _ObjectScorer:
    """Scores views of one object."""

    def __init__(self, data: CropData, rows: np.ndarray, solid: Solid, model: HandModel) -> None:
        self._data, self._solid, self._model = data, solid, model
        with torch.no_grad():
            self._truth = TruePoses.of_batch(crop_rows(data.crops, rows), model)
        self._faces = closed_faces(model.arrays.faces)
        self._tips = fingertip_regions(model.arrays.weights)

    @torch.no_grad()
    def __call__(self, views: list[GraspInView]) -> ViewScores:
        hands = stack_params([view.hands for view in views])
        vertices = self._model(hands).vertices.double().numpy()
        in_camera = stack_params([view.hands_in_camera(self._model) for view in views])
        back = np.linalg.inv(self._data.table.frames[self._truth.object_index].double().numpy())
        placed = torch.from_numpy(np.stack([view.T_camera_object for view in views]) @ back).float()
        joints = self._model(in_camera).joints
        poses = HandObjectPoses(
            in_camera, torch.zeros(len(views), NUM_PCA), joints[:, ROOT_JOINT], placed[:, :3, :3], placed[:, :3, 3]
        )
        errors = PoseErrors.of(poses, self._truth, self._data.table, self._model)
        distance = hand_signed_distance(vertices, self._solid)
        return ViewScores(
            *(errors.hand, errors.hand_relative, errors.object, errors.object_relative),
            penetration_depth(distance),
            solid_intersection_volume(vertices, self._faces, self._solid),
            disjointedness_distance(distance, self._tips),
            np.array([view.refined for view in views]),
        )


def _true_views(crops: HandObjectImages, rows: np.ndarray, model: HandModel) -> list[GraspInView]:
    poses = crops.T_camera_object[rows].astype(np.float64)
    hands = move_hands(crops.hands(rows), np.linalg.inv(poses), model)
    return [GraspInView(hands[row : row + 1], poses[row]) for row in range(len(rows))]


@torch.no_grad()
def mean_answer(training: CropData, model: HandModel) -> dict[str, list[Any]]:
    """One answer for all crops: the mean of what training crops hold, as plain numbers by name of `HoNetOutput`.

    Places, depths, posture and shape are means; rotations are the rotations nearest to the mean matrices.
    """
    size = training.crops.images.shape[1]
    outputs = []
    for start in range(0, len(training), 1024):
        truth = TruePoses.of_batch(crop_rows(training.crops, np.arange(start, min(start + 1024, len(training)))), model)
        outputs.append(_coefficients(truth, size))
    names = [part.name for part in fields(HoNetOutput) if getattr(outputs[0], part.name) is not None]
    means = {name: torch.cat([getattr(one, name) for one in outputs]).mean(dim=0) for name in names}
    return {name: _rotation(value).tolist() for name, value in means.items()}


@torch.no_grad()
def answer_errors(answer: Mapping[str, Any], data: CropData, model: HandModel) -> PoseErrors:
    """Errors of one answer, as `mean_answer` gives it, for every crop."""
    size = data.crops.images.shape[1]
    parts = []
    for start in range(0, len(data), 256):
        truth = TruePoses.of_batch(crop_rows(data.crops, np.arange(start, min(start + 256, len(data)))), model)
        values = {name: torch.tensor(value) for name, value in answer.items()}
        said = HoNetOutput(**{name: value.expand(len(truth.root), *value.shape) for name, value in values.items()})
        points = data.table.points[truth.object_index]
        parts.append(PoseErrors.of(said.poses(truth.focal, size, model, points), truth, data.table, model))
    return PoseErrors.join(parts)


def constant_contact(training: CropData, data: CropData, model: HandModel) -> tuple[float, float]:
    """What one answer for every point of every crop reaches: average precision of contact, and accuracy of regions.

    The answer: a probability, whose precision is the share of touched points at any recall, and the region that most
    touched points of the training crops have.
    """
    anchors = HandAnchors.of_model(model)
    touched, region = true_regions(training, model, anchors)
    commonest = region[touched].bincount().argmax()
    touched, region = true_regions(data, model, anchors)
    return float(touched.double().mean()), float((region[touched] == commonest).double().mean())


def _rotation(value: torch.Tensor) -> torch.Tensor:
    """A mean (3, 3) as the nearest rotation (Kabsch); anything else as it is."""
    if value.shape != (3, 3):
        return value
    left, _, right = torch.linalg.svd(value)
    turn = torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(left @ right))]))
    return left @ turn @ right


def _coefficients(truth: TruePoses, size: int) -> HoNetOutput:
    """What a perfect network would say."""
    return HoNetOutput(
        hand_place=place_in_crop(truth.root, truth.focal, size),
        width=width_value(truth.root[:, 2] * size / truth.focal),
        hand_rotation=truth.hand_rotation,
        pca=truth.pca,
        betas=truth.hands.betas,
        object_place=place_in_crop(truth.object_position, truth.focal, size),
        depth=(truth.object_position[:, 2] - truth.root[:, 2]) / DEPTH_SCALE,
        object_rotation=truth.object_rotation,
    )
