"""The message definitions: read by rosbags, resolvable, commented, without defaults, and built by CMake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parents[2]
GRASP_MSGS = ROOT / "ros2_ws" / "src" / "grasp_msgs"
DEFINITIONS = [*sorted(ROOT.glob("msg/*.msg")), *sorted(ROOT.glob("srv/*.srv"))]
# Published in ROS 2 Jazzy for sensor_msgs/msg/Image: the store computes the same hashes as ROS 2.
IMAGE_HASH = "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"

EXPLAINED_BY_NAME = {"count", "seed", "success"}


def halves(path: Path) -> dict[str, str]:
    """Message name to text; a service is a request and a response."""
    text = path.read_text()
    if path.suffix == ".msg":
        return {f"grasp_msgs/msg/{path.stem}": text}
    request, response = re.split(r"^---$", text, flags=re.MULTILINE)
    return {f"grasp_msgs/msg/{path.stem}_Request": request, f"grasp_msgs/msg/{path.stem}_Response": response}


def field_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def named_types(field: Any) -> set[str]:
    kind, content = field
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return named_types(content[0])
    return {content} if kind == Nodetype.NAME else set()


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    types: dict[str, Any] = {}
    for path in DEFINITIONS:
        for name, text in halves(path).items():
            types.update(get_types_from_msg(text, name))
    return types


def test_there_are_all_that_the_graph_needs(ours: dict[str, Any]) -> None:
    names = {name.rsplit("/", 1)[-1] for name in ours}
    assert names >= {
        "HandPose", "HandPoseArray", "ObjectPose", "ContactMap", "Evidence", "HandObjectState", "HandObjectTrajectory",
        "Grasp", "GraspArray", "HandModelInfo", "GenerateGrasps_Request", "ReconstructClip_Response",
    }  # fmt: skip


def test_every_type_resolves_and_has_a_hash(ours: dict[str, Any]) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    assert f"RIHS01_{store.hash_rihs01('sensor_msgs/msg/Image').removeprefix('RIHS01_')}" == IMAGE_HASH
    store.register(ours)
    hashes = set()
    for name, (_, fields) in ours.items():
        for field_name, field in fields:
            for inner in named_types(field):
                assert inner in store.fielddefs, f"{name}.{field_name}: there is no type {inner}"
        hashes.add(store.hash_rihs01(name))
    assert len(hashes) == len(ours)


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_no_field_has_a_default_value(path: Path) -> None:
    # rosbags drops defaults: a message would start differently with and without ROS 2.
    for text in halves(path).values():
        for line in field_lines(text):
            code = line.split("#")[0].split()
            is_constant = len(code) >= 2 and "=" in "".join(code[1:])
            assert is_constant or len(code) == 2, f"{path.name}: {line!r}: a default value, or two fields on a line"


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_number_has_a_comment(path: Path) -> None:
    assert path.read_text().startswith("# "), f"{path.name} does not begin with what it is"
    for text in halves(path).values():
        for line in field_lines(text):
            code, _, comment = line.partition("#")
            kind, name = code.split("=")[0].split()[:2]
            is_number = re.match(r"(float|u?int)\d+|bool|geometry_msgs", kind) is not None
            if is_number and "=" not in code and name not in EXPLAINED_BY_NAME:
                assert comment.strip(), f"{path.name}: {name} has no comment: unit, frame, shape or meaning"


def test_array_fields_give_their_shape() -> None:
    for path in sorted(ROOT.glob("msg/*.msg")):
        for line in field_lines(path.read_text()):
            kind, _, rest = line.partition(" ")
            if re.fullmatch(r"(float|u?int)\d+\[\d*\]", kind):
                shape = r"\([\w, ]+\)|: x_min|axis-angle|coefficients|added after|same length|\b16\b"
                assert re.search(shape, rest), f"{path.name}: {line!r}: the comment gives no shape"


def test_the_build_depends_on_every_package_that_is_referred_to(ours: dict[str, Any]) -> None:
    wanted = {inner.split("/")[0] for _, fields in ours.values() for _, field in fields for inner in named_types(field)}
    wanted -= {"grasp_msgs", "builtin_interfaces"}
    cmake = (GRASP_MSGS / "CMakeLists.txt").read_text()
    generate = re.search(r"rosidl_generate_interfaces\(.*DEPENDENCIES (.*)\)", cmake)
    assert generate is not None
    assert set(generate[1].split()) == wanted
    assert {match[1] for match in re.finditer(r"find_package\((\w+_msgs) REQUIRED\)", cmake)} == wanted
    package = ET.parse(GRASP_MSGS / "package.xml").getroot()
    assert {element.text for element in package.iter("depend")} == wanted
    assert package.findtext("member_of_group") == "rosidl_interface_packages"
