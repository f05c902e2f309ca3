"""HoNet, PiCR and MIHO as a whole on rendered crops of held-out objects, beside what they must beat.

Crops are drawn at the first run, of objects that neither training nor the choice of the best weights sees: 18 others
of the same families, and one each of four families that are new altogether (rows ``new_...``: 24 crops, so that
differences of a tenth mean nothing). Baselines: the mean of the training crops for every image, for contact one
probability for every point and the region that most touched points of training crops have (rows ``constant_...``, of
every 25th object, drawn where the cache does not hold them), and the networks before training. MIHO is HoNet, PiCR's
springs, and GeO; ratios of its contact are after / before, HoNet alone: below 1 is better. The paper's own numbers
(HO-3D v1+: hand 24.0, object 19.2 mm, PD 11.4 mm, SIV 3.5 cm3, DD 11.8 mm) are of real photographs and other objects.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.report import Row
from grasp_nodes.data.hand_object_images import (
    HandObjectImages,
    ImageSettings,
    images_folder,
    make_images,
    split_objects,
)
from grasp_nodes.fitting.geo.refiner import GeoRefiner
from grasp_nodes.fitting.geo.settings import GeoSettings
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.model import HandModel
from grasp_nodes.learning.weights import find_weights
from grasp_nodes.miho.honet import HoNet
from grasp_nodes.miho.honet_training import CropData, honet_errors
from grasp_nodes.miho.judgement import ViewScores, answer_errors, constant_contact, judge_views
from grasp_nodes.miho.picr import PiCR
from grasp_nodes.miho.picr_training import ContactScores, picr_scores
from grasp_nodes.miho.pipeline import MihoPipeline
from grasp_nodes.miho.samples import ObjectTable
from grasp_nodes.miho.trained import HONET, MEAN_ANSWER, load_honet, load_picr

THREADS = 2
SETTINGS = ImageSettings(per_object=6, seed=1000)
"""Crops that no training can draw, whose rounds have smaller seeds."""
NEW_OBJECTS = 12
"""The first of the set ``heldout``: three of each new family; every third is taken."""
TRAINED_EVERY = 25
"""Of the objects to train on, so many to one tell which region is the commonest."""
MEAN_POSE, UNTRAINED = "mean of the training crops", "before training"


def rows() -> list[Row]:
    """Errors and scores."""
    model = load_hand_model("right")
    honet, picr = load_honet(None, model.fingerprint), load_picr(None, model.fingerprint)
    torch.manual_seed(0)
    raw_honet, raw_picr = HoNet(honet.config).eval(), PiCR(picr.config).eval()
    names = split_objects("train")[::TRAINED_EVERY]
    known = make_images(images_folder(ImageSettings()), names, ImageSettings())
    training = CropData.of(known, ObjectTable.of_names(known.objects))
    result = []
    for prefix, names in (("", split_objects("judged")), ("new_", split_objects("new")[:NEW_OBJECTS:3])):
        crops = make_images(images_folder(SETTINGS), names, SETTINGS)
        data = CropData.of(crops, ObjectTable.of_names(crops.objects))
        result += _pose_rows(prefix, honet, raw_honet, data, model)
        result += _contact_rows(prefix, (honet, picr), (raw_honet, raw_picr), data, training, model)
        result += _view_rows(prefix, honet, picr, crops, data, model)
    return result


def _pose_rows(prefix: str, honet: HoNet, raw: HoNet, data: CropData, model: HandModel) -> list[Row]:
    mean = answer_errors(find_weights(HONET, model.fingerprint).card.normalization[MEAN_ANSWER], data, model).means()
    ours, before = (honet_errors(network, data, model).means() for network in (honet, raw))
    result = []
    for name, value in ours.items():
        result.append(Row.time(f"{prefix}honet_{name}", value, "mm", UNTRAINED, before[name]))
        result.append(Row.time(f"{prefix}meanpose_{name}", mean[name], "mm", UNTRAINED, before[name]))
    return result


def _contact_rows(
    prefix: str,
    trained: tuple[HoNet, PiCR],
    raw: tuple[HoNet, PiCR],
    data: CropData,
    training: CropData,
    model: HandModel,
) -> list[Row]:
    """PiCR on HoNet's poses, as it is used, and on true ones."""
    anchors = HandAnchors.of_model(model)

    def scores(picr: PiCR, honet: HoNet | None) -> ContactScores:
        return picr_scores(picr, data, model, anchors, honet)

    ours, before, true = scores(trained[1], trained[0]), scores(raw[1], trained[0]), scores(trained[1], None)
    share, accuracy = constant_contact(training, data, model)
    return [
        Row.rate(f"{prefix}picr_vc_ap", ours.contact_ap, "", UNTRAINED, before.contact_ap),
        Row.rate(f"{prefix}constant_vc_ap", share, "", UNTRAINED, before.contact_ap),
        Row.rate(f"{prefix}picr_cr_accuracy", ours.region_accuracy, "", UNTRAINED, before.region_accuracy),
        Row.rate(f"{prefix}constant_cr_accuracy", accuracy, "", UNTRAINED, before.region_accuracy),
        Row.time(f"{prefix}picr_ae_error", ours.elasticity_error, "", UNTRAINED, before.elasticity_error),
        Row(f"{prefix}picr_true_pose_vc_ap", true.contact_ap, ""),
        Row(f"{prefix}picr_true_pose_cr_accuracy", true.region_accuracy, ""),
    ]


def _view_rows(
    prefix: str, honet: HoNet, picr: PiCR, crops: HandObjectImages, data: CropData, model: HandModel
) -> list[Row]:
    geo = GeoRefiner(model, GeoSettings(move_object=True))
    pipelines = {
        "honet": MihoPipeline({"right": model}, honet),
        "miho": MihoPipeline({"right": model}, honet, picr, {"right": geo}),
    }
    scores = judge_views(crops, data, pipelines, model)
    before, after = scores["honet"], scores["miho"]
    result = [Row(f"{prefix}miho_refined_share", float(np.mean(after.refined)), "")]
    for short, name, unit, factor in (
        ("pd", "penetration", "mm", 1e3),
        ("siv", "volume", "cm3", 1e6),
        ("dd", "disjointedness", "mm", 1e3),
        ("hand", "hand", "mm", 1e3),
        ("object", "object", "mm", 1e3),
    ):
        first, second, true = (factor * _mean(one, name) for one in (before, after, scores["truth"]))
        result.append(Row(f"{prefix}miho_{short}_ratio", second / first, ""))
        result.append(Row(f"{prefix}miho_{short}_{unit}", second, unit, "HoNet alone", first, first / second))
        result.append(Row(f"{prefix}truth_{short}_{unit}", true, unit))
    return result


def _mean(scores: ViewScores, name: str) -> float:
    return float(np.mean(getattr(scores, name)))
