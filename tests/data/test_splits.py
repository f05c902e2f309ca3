from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grasp_nodes.data.grasp_readers.splits import (
    CONTACTPOSE_OBJECT_TEST,
    CONTACTPOSE_OBJECT_VAL,
    contactpose_object_split,
    contactpose_subject_split,
    grab_split,
    oakink_shape_split,
    split_of,
)
from grasp_nodes.data.labelled_grasps import GraspedObject, LabelledGrasps
from grasp_nodes.errors import InputError
from grasp_nodes.hand.parameters import HandParams

CONTACTPOSE_OBJECTS = [
    "apple",
    "banana",
    "binoculars",
    "bowl",
    "camera",
    "cell_phone",
    "cup",
    "door_knob",
    "eyeglasses",
    "flashlight",
    "hammer",
    "headphones",
    "knife",
    "light_bulb",
    "mouse",
    "mug",
    "pan",
    "ps_controller",
    "scissors",
    "stapler",
    "toothbrush",
    "toothpaste",
    "utah_teapot",
    "water_bottle",
    "wine_glass",
]


def grasps_of(objects: list[GraspedObject], index: list[int], subjects: list[str]) -> LabelledGrasps:
    count = len(index)
    return LabelledGrasps(
        source="test",
        hands=HandParams.zeros(count),
        hand_model_id="mano",
        hand_fingerprint="",
        objects=objects,
        object_index=np.array(index, np.int64),
        kind=np.full(count, -1),
        subject=np.array(subjects, "U3"),
        sequence=np.full(count, ""),
        frame=np.zeros(count, np.int64),
    )


def test_contactpose_subjects_are_70_10_20_and_no_person_is_in_two() -> None:
    splits = [contactpose_subject_split(str(number)) for number in range(1, 51)]
    assert [splits.count(name) for name in ("train", "val", "test")] == [35, 5, 10]
    people = [str(1 + k % 50) for k in range(400)]
    rows = split_of(grasps_of([GraspedObject("mug")], [0] * 400, people), "contactpose-subjects")
    for person in set(people):
        assert len({split for split, who in zip(rows, people, strict=True) if who == person}) == 1
    for wrong in ("0", "51", "", "s1"):
        with pytest.raises(InputError, match="participant"):
            contactpose_subject_split(wrong)


def test_contactpose_objects_are_those_of_the_paper_and_its_released_shuffle() -> None:
    named_by_the_paper = ["doorknob", "eyeglasses", "apple", "bowl", "toothbrush"]
    assert all(contactpose_object_split(name) == "test" for name in named_by_the_paper)
    splits = [contactpose_object_split(name) for name in CONTACTPOSE_OBJECTS]
    assert [splits.count(name) for name in ("train", "val", "test")] == [18, 2, 5]
    shuffled = sorted(CONTACTPOSE_OBJECTS)
    random.Random(42).shuffle(shuffled)
    assert [name.replace("_", "") for name in shuffled[-5:]] == named_by_the_paper
    assert set(shuffled[-5:]) == CONTACTPOSE_OBJECT_TEST
    assert set(shuffled[-7:-5]) == CONTACTPOSE_OBJECT_VAL


def test_grab_objects() -> None:
    assert {name: grab_split(name) for name in ("mug", "Wineglass", "elephant", "cubelarge")} == {
        "mug": "test",
        "Wineglass": "test",
        "elephant": "val",
        "cubelarge": "train",
    }


@settings(deadline=None)
@given(st.text(min_size=1, max_size=12))
def test_oakink_shape_split_is_the_last_decimal_digit_of_the_md5(object_id: str) -> None:
    digit = str(int.from_bytes(hashlib.md5(object_id.encode()).digest(), "big"))[-1]
    assert oakink_shape_split(object_id) == {"8": "val", "9": "test"}.get(digit, "train")


def test_rows_follow_their_objects_own_split_and_undivided_sets_say_so() -> None:
    objects = [GraspedObject("a", split="train"), GraspedObject("b", split="test")]
    assert list(split_of(grasps_of(objects, [1, 0, 1], ["", "", ""]), "objects")) == ["test", "train", "test"]
    with pytest.raises(InputError, match="not divided"):
        split_of(grasps_of([GraspedObject("a")], [0], [""]), "objects")
    with pytest.raises(InputError, match="expected one of objects, grab-objects"):
        split_of(grasps_of(objects, [0], [""]), "random")
