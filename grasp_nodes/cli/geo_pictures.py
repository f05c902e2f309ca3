"""Pictures of what GeO's anatomical cost and repulsion are for: CPF's figures 7 and 15 on grasps of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from grasp_nodes.cli.geo_evaluation import GeoEvaluation, Job, twisted
from grasp_nodes.evaluation.penetration import hand_signed_distance
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.hand.keypoints import closed_faces
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.viewer.pictures import grasp_picture, grasp_sheet


def write_pictures(evaluation: GeoEvaluation, number: int, path: Path) -> None:
    """A sheet of one object's first grasp: perturbed, flat (figure 7) and with a twisted thumb (figure 15).

    Args:
        evaluation: whose objects and hands. number: of the object. path: of the PNG.
    """
    job = evaluation.job(number)
    job = replace(job, truth=job.truth[:1], start=job.start[:1])
    free = GeoSettings(anatomy=0.0)
    without = GeoSettings(repulsion=0.0)
    cells = []
    for what, start in (
        ("perturbed", job.start),
        ("flat hand, Fig. 7", replace(job.truth, hand_pose=torch.zeros_like(job.truth.hand_pose))),
        ("twisted thumb, Fig. 15", twisted(GeoRefiner(evaluation.model).anatomy, job.truth)),
    ):
        cells.append(_cell(evaluation, job, start, f"start: {what}"))
        for name, settings in (("no anatomy", free), ("no repulsion", without), ("GeO", GeoSettings())):
            refiner = GeoRefiner(evaluation.model, settings)
            springs = refiner.springs_of(job.truth, job.object_model)
            found = refiner.refine(start, job.object_model, springs)
            cells.append(_cell(evaluation, job, found.hands, name))
    grasp_sheet(cells, 4, path)


def _cell(evaluation: GeoEvaluation, job: Job, hands: HandParams, caption: str) -> tuple[np.ndarray, str]:
    model = evaluation.model
    with torch.no_grad():
        vertices = model(hands).vertices.double().numpy()
        anatomy = float(GeoRefiner(model).anatomy.costs(hands.hand_pose).paper[0])
    distance = hand_signed_distance(vertices, job.solid)[0]
    depth = 1e3 * max(0.0, -float(distance.min()))
    picture = grasp_picture(
        vertices[0], closed_faces(model.faces.numpy()), job.solid.vertices, job.solid.faces, distance, size=240
    )
    return picture, f"{caption}: L_anat {anatomy:.1f}, PD {depth:.1f} mm"
