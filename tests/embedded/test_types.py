"""Message classes and their bytes, against properties and against the IDL serialiser of cyclonedds."""

import copy
import dataclasses
import functools
import math
import random

import numpy as np
import pytest
from cyclonedds.idl import IdlStruct
from cyclonedds.idl import types as idl
from cyclonedds.idl._main import IdlMeta
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.interfaces import Nodetype

from grasp_nodes.embedded import types
from grasp_nodes.embedded.types import MalformedPayload
from grasp_nodes.paths import share_dir

NAMES = sorted(name for name in types.store().fielddefs if name.startswith("grasp_msgs/")) + [
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/PointCloud2",
    "sensor_msgs/msg/JointState",
    "tf2_msgs/msg/TFMessage",
    "visualization_msgs/msg/MarkerArray",
    "diagnostic_msgs/msg/DiagnosticArray",
    "rcl_interfaces/msg/ParameterEvent",
    "rcl_interfaces/msg/ParameterDescriptor",
    "rcl_interfaces/srv/SetParameters_Request",
    "std_srvs/srv/Trigger_Request",
]


def random_value(desc, rng):
    """A value for one field of a definition; integers and floats cover their whole range."""
    kind, detail = desc
    if kind == Nodetype.NAME:
        return random_message(detail, rng)
    if kind == Nodetype.BASE:
        base, bound = detail
        if base == "string":
            return "".join(rng.choice("aé漢 /_0") for _ in range(rng.randrange(1 + (bound or 9))))[: bound or None]
        if base == "bool":
            return rng.random() < 0.5
        if base in ("byte", "octet"):
            return rng.randbytes(1)
        if base.startswith("float"):
            return float(np.dtype(base).type(rng.choice([0.0, -0.0, np.inf, 1e-30, rng.gauss(0, 1e3)])))
        info = np.iinfo(np.uint8 if base == "char" else base)
        return rng.choice([int(info.min), int(info.max), rng.randint(int(info.min), int(info.max))])
    inner, size = detail
    count = size if kind == Nodetype.ARRAY else rng.randrange(1 + min(size or 3, 3))
    if inner[0] == Nodetype.BASE and inner[1][0] != "string":
        dtype = np.dtype({"byte": "i1", "char": "u1", "octet": "u1"}.get(inner[1][0], inner[1][0]))
        values = np.array([rng.gauss(0, 50) for _ in range(count)])
        return np.abs(values).astype(np.uint8).astype(dtype) if dtype.kind in "iu" else values.astype(dtype)
    return [random_value(inner, rng) for _ in range(count)]


def random_message(name, rng):
    fields = types.store().fielddefs[name][1]
    return types.message_class(name)(**{field: random_value(desc, rng) for field, desc in fields})


seeds = st.integers(0, 2**32 - 1).map(random.Random)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(rng=seeds)
def test_bytes_come_back_as_an_equal_message(name, rng):
    message = random_message(name, rng)
    wire = types.serialize(message)
    assert len(wire) % 4 == 0
    assert wire[:4] == b"\0\1\0\0"
    assert types.deserialize(memoryview(wire).toreadonly(), name) == message


BASES = {"bool": bool, "byte": idl.uint8, "octet": idl.uint8, "char": idl.uint8, "string": str}


def idl_type(desc):
    kind, detail = desc
    if kind == Nodetype.BASE:
        return idl.bounded_str[detail[1]] if detail[1] else BASES.get(detail[0]) or getattr(idl, detail[0])
    if kind == Nodetype.NAME:
        return idl_class(detail)
    inner, size = detail
    if kind == Nodetype.ARRAY:
        return idl.array[idl_type(inner), size]
    return idl.sequence[idl_type(inner), size] if size else idl.sequence[idl_type(inner)]


@functools.cache
def idl_class(name):
    """The same type for the serialiser of cyclonedds, which shares no code with ours."""
    body = IdlMeta.__prepare__("T", (IdlStruct,), typename=name.replace("/", "::"))
    body["__annotations__"] = {field: idl_type(desc) for field, desc in types.store().fielddefs[name][1]}
    body["__module__"] = __name__
    return dataclasses.dataclass(IdlMeta("T_" + name.replace("/", "_"), (IdlStruct,), body))


def idl_value(value, desc):
    kind, detail = desc
    if kind == Nodetype.BASE:
        return value.__index__() & 0xFF if isinstance(value, types.Byte) else value
    if kind == Nodetype.NAME:
        fields = types.store().fielddefs[detail][1]
        return idl_class(detail)(*(idl_value(getattr(value, field), inner) for field, inner in fields))
    if isinstance(value, np.ndarray):
        return value.view(np.uint8).tolist() if value.dtype == np.int8 else value.tolist()
    return [idl_value(item, detail[0]) for item in value]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(rng=seeds)
def test_bytes_equal_those_of_an_independent_serialiser(name, rng):
    message = random_message(name, rng)
    wire = bytes(types.serialize(message))
    theirs = idl_value(message, (Nodetype.NAME, name)).serialize(use_version_2=False)
    assert wire[4 : len(theirs)] == theirs[4:]
    assert len(wire) - len(theirs) < 4


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(rng=seeds, data=st.data())
def test_damaged_bytes_are_refused_or_read_but_never_break_anything_else(name, rng, data):
    wire = bytearray(types.serialize(random_message(name, rng)))
    end = data.draw(st.integers(0, len(wire)))
    wire = wire[:end] + data.draw(st.binary(max_size=8))
    for _ in range(data.draw(st.integers(0, 4))):
        if wire:
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = types.deserialize(bytes(wire), name)
    except MalformedPayload:
        return  # the one error that the runtime counts
    assert isinstance(message, types.message_class(name))


@pytest.mark.parametrize("length", [0, 3, 4, 5, 40])
def test_truncated_payload_is_named(length):
    wire = types.serialize(types.message_class("sensor_msgs/msg/Image")(data=b"12345678", encoding="mono8"))
    with pytest.raises(MalformedPayload, match=f"{length} bytes.*sensor_msgs/msg/Image"):
        types.deserialize(bytes(wire[:length]), "sensor_msgs/msg/Image")


def test_big_endian_payload_is_read():
    point = types.deserialize(b"\0\0\0\0" + np.array([1.5, -2.0, 3.0], ">f8").tobytes(), "geometry_msgs/msg/Point")
    assert (point.x, point.y, point.z) == (1.5, -2.0, 3.0)


def test_type_hashes_are_those_of_ros():
    assert types.type_hash("std_msgs/msg/String") == (
        "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    )
    assert types.type_hash("sensor_msgs/msg/Image").startswith("RIHS01_d31d41a9")


def test_defaults_constants_and_nested_fields():
    from grasp_msgs.msg import HandPose
    from sensor_msgs.msg import Image, PointField

    pose = HandPose()
    assert pose.header.stamp.sec == 0
    assert pose.model_id == ""
    assert pose.is_metric is False
    assert pose.hand_pose.shape == (45,)
    assert pose.hand_pose.dtype == np.float32
    assert len(pose.keypoints) == 21
    assert pose.keypoints[0] is not pose.keypoints[1]
    assert (HandPose.SIDE_LEFT, PointField.FLOAT32) == (2, 7)
    assert pose.SIDE_RIGHT == 1
    first, second = Image(), Image()
    first.header.frame_id = "a"
    assert second.header.frame_id == ""


def test_field_types_are_those_of_rosidl():
    from grasp_msgs.msg import HandPose
    from rcl_interfaces.msg import ParameterDescriptor
    from sensor_msgs.msg import CameraInfo

    assert CameraInfo.get_fields_and_field_types()["k"] == "double[9]"
    types_of_pose = HandPose.get_fields_and_field_types()
    assert types_of_pose["header"] == "std_msgs/Header"
    assert types_of_pose["is_metric"] == "boolean"
    assert types_of_pose["keypoints"] == "geometry_msgs/Point[21]"
    expected = "sequence<rcl_interfaces/FloatingPointRange, 1>"
    assert ParameterDescriptor.get_fields_and_field_types()["floating_point_range"] == expected


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (b"\1\2", [1, 2]),
        (bytearray(b"\1\2"), [1, 2]),
        (memoryview(b"\1\2"), [1, 2]),
        ([1, 2], [1, 2]),
        (np.array([1, 2], np.int64), [1, 2]),
        (np.arange(8, dtype=np.uint8).reshape(2, 4)[:, ::2], [0, 2, 4, 6]),
        ([], []),
    ],
)
def test_byte_arrays_take_bytes_lists_and_any_integer_array(given_value, expected):
    from sensor_msgs.msg import Image

    data = Image(data=given_value).data
    assert data.dtype == np.uint8
    assert data.flags.c_contiguous
    assert data.tolist() == expected


def test_arrays_get_the_exact_dtype():
    from grasp_msgs.msg import ContactMap

    contact = ContactMap(contact=np.array([0.5, 1.0])).contact
    assert contact.dtype == np.float32
    assert ContactMap(contact=[1, 0]).contact.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("contact", ["a"], TypeError),
        ("contact", b"\0\0\0\0", TypeError),
        ("region", [1.5], TypeError),
        ("region", [256], ValueError),
        ("region", [-1], ValueError),
        ("side", 256, ValueError),
        ("side", True, TypeError),
        ("side", 1.0, TypeError),
        ("contact_threshold", 1, TypeError),
        ("contact_threshold", np.float32(1), TypeError),
        ("object_id", 3, TypeError),
        ("header", None, TypeError),
    ],
)
def test_wrong_values_are_refused_with_the_fields_name(field, value, error):
    from grasp_msgs.msg import ContactMap

    message = ContactMap()
    with pytest.raises(error, match=f"ContactMap.{field}"):
        setattr(message, field, value)
    with pytest.raises(error, match=f"ContactMap.{field}"):
        ContactMap(**{field: value})


def test_fixed_and_bounded_sizes_are_kept():
    from grasp_msgs.msg import HandPose
    from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor

    with pytest.raises(ValueError, match="exactly 45 elements, got 44"):
        HandPose(hand_pose=[0.0] * 44)
    with pytest.raises(ValueError, match="at most 1 elements, got 2"):
        ParameterDescriptor(floating_point_range=[FloatingPointRange()] * 2)


def test_unknown_fields_are_refused():
    from grasp_msgs.msg import ContactMap

    with pytest.raises(TypeError, match=r"no field contacts.*signed_distance"):
        ContactMap(contacts=[1.0])
    with pytest.raises(AttributeError, match="no field 'contacts'"):
        ContactMap().contacts = [1.0]
    with pytest.raises(TypeError):
        ContactMap("positional")


def test_byte_fields_are_bytes_as_in_rclpy():
    from diagnostic_msgs.msg import DiagnosticStatus

    status = DiagnosticStatus(level=DiagnosticStatus.WARN)
    assert status.level == b"\1"
    status.level = b"\3"
    assert types.deserialize(types.serialize(status), status.__msgtype__).level == DiagnosticStatus.STALE
    with pytest.raises(TypeError, match="level"):
        status.level = 1


def test_messages_can_be_copied_and_compared():
    from grasp_msgs.msg import ContactMap

    one = ContactMap(contact=[0.5], object_id="mug")
    two = copy.deepcopy(one)
    assert one == two
    two.contact[0] = 1.0
    assert one != two
    assert one != "mug"
    assert "object_id='mug'" in repr(one)
    assert math.isclose(copy.copy(one).contact[0], 0.5)


def test_received_arrays_are_views_that_cannot_be_written():
    from grasp_msgs.msg import ContactMap

    received = types.deserialize(types.serialize(ContactMap(contact=[0.5])), "grasp_msgs/msg/ContactMap")
    with pytest.raises(ValueError, match="read-only"):
        received.contact[0] = 1.0


@pytest.mark.parametrize("path", [*share_dir().glob("msg/*.msg"), *share_dir().glob("srv/*.srv")], ids=lambda p: p.name)
def test_our_definitions_have_no_default_values(path):
    """Only the real ROS 2 would honour them."""
    for line in path.read_text().splitlines():
        definition = line.partition("#")[0]
        assert "=" in definition or len(definition.split()) <= 2, line


def test_services_refer_to_the_packages_messages():
    from grasp_msgs.srv import GenerateGrasps

    assert GenerateGrasps.Request.get_fields_and_field_types()["cloud"] == "sensor_msgs/PointCloud2"
    assert GenerateGrasps.Response.get_fields_and_field_types()["grasps"] == "grasp_msgs/GraspArray"
    assert types.dds_type_name("std_srvs/srv/SetBool_Request") == "std_srvs::srv::dds_::SetBool_Request_"
