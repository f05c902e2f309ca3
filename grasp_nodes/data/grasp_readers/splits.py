"""The published divisions of the data sets into training, validation and test.

========================  ========================================  ===============================================
protocol                  divided by                                source
========================  ========================================  ===============================================
``objects``               the object's own `split`, from the files  the data set
``grab-objects``          object                                    GRAB and GrabNet, ECCV 2020 (GRAB's own script)
``contactpose-subjects``  participants, 70/10/20 %                  Perturbed ContactPose as CHOIR divides it
``contactpose-objects``   object                                    CHOIR, supplement C.3
``oakink-shape``          hash of the object's id                   OakInk, CVPR 2022 (its toolkit)
========================  ========================================  ===============================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from grasp_nodes.data.labelled_grasps import LabelledGrasps
from grasp_nodes.errors import InputError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

GRAB_VAL = frozenset({"apple", "toothbrush", "elephant", "hand"})
GRAB_TEST = frozenset({"mug", "wineglass", "camera", "binoculars", "fryingpan", "toothpaste"})

CONTACTPOSE_OBJECT_TEST = frozenset({"door_knob", "eyeglasses", "apple", "bowl", "toothbrush"})
CONTACTPOSE_OBJECT_VAL = frozenset({"camera", "wine_glass"})
"""The paper names its five test objects and says only that two more are held out. These are the two before them when
ContactPose's 25 sorted object names are shuffled by Python's generator with seed 42, which puts the five last, in the
paper's order."""

CONTACTPOSE_PARTICIPANTS = 50
CONTACTPOSE_LAST_TRAIN, CONTACTPOSE_LAST_VAL = 35, 40
"""Participants 1-35 train, 36-40 validate, 41-50 test. CHOIR's code cuts the list of grasps, sorted by participant,
at 70 and 80 %; whole participants keep a person out of two splits."""


def grab_split(object_name: str) -> Split:
    """Of GRAB's 51 objects 41 train, 4 validate, 6 test."""
    return _held_out(object_name, GRAB_VAL, GRAB_TEST)


def contactpose_object_split(object_name: str) -> Split:
    """Of ContactPose's 25 objects 18 train, 2 validate, 5 test."""
    return _held_out(object_name, CONTACTPOSE_OBJECT_VAL, CONTACTPOSE_OBJECT_TEST)


def contactpose_subject_split(subject: str) -> Split:
    """Of ContactPose's 50 participants, by number."""
    if not (subject.isdigit() and 1 <= int(subject) <= CONTACTPOSE_PARTICIPANTS):
        raise InputError(f"subject: expected a participant's number 1..{CONTACTPOSE_PARTICIPANTS}, got {subject!r}")
    if int(subject) <= CONTACTPOSE_LAST_TRAIN:
        return "train"
    return "val" if int(subject) <= CONTACTPOSE_LAST_VAL else "test"


def oakink_shape_split(object_id: str) -> Split:
    """By the MD5 of the object's id, modulo 10: 0-7 train, 8 val, 9 test."""
    remainder = int(hashlib.md5(object_id.encode("utf-8"), usedforsecurity=False).hexdigest(), 16) % 10
    return "train" if remainder < 8 else "val" if remainder == 8 else "test"


def _held_out(object_name: str, val: frozenset[str], test: frozenset[str]) -> Split:
    """Names are compared without case, spaces and underscores: papers and files write them differently."""

    def plain(name: str) -> str:
        return name.lower().replace("_", "").replace(" ", "")

    if plain(object_name) in map(plain, test):
        return "test"
    return "val" if plain(object_name) in map(plain, val) else "train"


def _by_object(rule: Callable[[str], str]) -> Callable[[LabelledGrasps], np.ndarray]:
    def rows(grasps: LabelledGrasps) -> np.ndarray:
        return np.array([rule(one.name) for one in grasps.objects], "U5")[grasps.object_index]

    return rows


def _by_subject(rule: Callable[[str], str]) -> Callable[[LabelledGrasps], np.ndarray]:
    def rows(grasps: LabelledGrasps) -> np.ndarray:
        subjects, of_row = np.unique(grasps.subject, return_inverse=True)
        return np.array([rule(str(subject)) for subject in subjects], "U5")[of_row]

    return rows


def _own(grasps: LabelledGrasps) -> np.ndarray:
    odd = sorted({one.split for one in grasps.objects} - set(SPLITS))
    if odd:
        raise InputError(
            f"{grasps.source}: its objects are not divided (split {odd[0]!r}); take another protocol: "
            f"{', '.join(PROTOCOLS)}"
        )
    return np.array([one.split for one in grasps.objects], "U5")[grasps.object_index]


PROTOCOLS: dict[str, Callable[[LabelledGrasps], np.ndarray]] = {
    "objects": _own,
    "grab-objects": _by_object(grab_split),
    "contactpose-subjects": _by_subject(contactpose_subject_split),
    "contactpose-objects": _by_object(contactpose_object_split),
    "oakink-shape": _by_object(oakink_shape_split),
}


def split_of(grasps: LabelledGrasps, protocol: str) -> np.ndarray:
    """(N,) str, the split of each grasp.

    Raises:
        InputError: no such protocol, or the data set lacks what it divides by.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"split protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    return PROTOCOLS[protocol](grasps)
