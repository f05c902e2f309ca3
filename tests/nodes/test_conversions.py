"""Messages and nouns: every conversion is undone by its inverse, through the bytes on the wire."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from grasp_nodes.contact.contact_map import ContactMap
from grasp_nodes.contact.interaction import (
    FitStatus,
    Grasp,
    GraspSet,
    HandObjectState,
    HandObjectTrajectory,
    HandState,
    ObjectState,
)
from grasp_nodes.errors import InputError
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.nodes.conversions import contact, evidence, fields, grasps, hands, objects, states
from grasp_nodes.nodes.conversions.images import to_camera_info, to_camera_model
from grasp_nodes.perception.evidence import Evidence, HandEvidence, ObjectEvidence

STAMPS = st.integers(1, 2**31 * 10**9 - 1)
SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
QUICK = settings(max_examples=25, deadline=None)


def over_the_wire(message):
    """The message that a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def random_hand(rng, side="right"):
    def tensor(*shape):
        return torch.from_numpy(rng.normal(size=(1, *shape)).astype(np.float32))

    return HandState(
        params=HandParams(
            tensor(3), tensor(45), tensor(10), tensor(3), torch.tensor([float(np.float32(rng.uniform(0.5, 2)))]), side
        ),
        keypoints=rng.normal(size=(21, 3)),
        joint_poses=np.hstack([rng.normal(size=(16, 3)), Rotation.random(16, random_state=rng).as_quat()]),
        model_id="open_hand_v1",
        model_fingerprint="ab" * 32,
        track_id=int(rng.integers(0, 2**32)),
        score=float(np.float32(rng.uniform())),
        is_metric=bool(rng.integers(2)),
    )


def random_object(rng, object_id="mug"):
    transform = np.eye(4)
    transform[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    transform[:3, 3] = rng.normal(size=3)
    root = rng.normal(size=(6, 6))
    return ObjectState(
        object_id=object_id,
        T_camera_object=transform,
        covariance=root @ root.T if rng.integers(2) else None,
        scale=float(np.float32(rng.uniform(0.1, 3))),
        score=float(np.float32(rng.uniform())),
        mesh_resource="/meshes/mug.obj",
        is_metric=bool(rng.integers(2)),
    )


def random_contact(rng, count=17, object_id="mug"):
    def values(size, low=0.0):
        return rng.uniform(low, 1, size).astype(np.float32)

    return ContactMap(
        object_id=object_id,
        points=rng.normal(size=(count, 3)).astype(np.float32),
        signed_distance=values(count, -1),
        contact=values(count),
        hand_signed_distance=values(778, -1),
        hand_contact=values(778),
        contact_threshold=float(np.float32(0.005)),
        hand_side="left" if rng.integers(2) else "right",
        hand_track_id=int(rng.integers(0, 2**32)),
    )


def random_state(rng, stamp, name=""):
    return HandObjectState(
        stamp=stamp,
        frame_id="camera_color_optical_frame",
        hands=tuple(random_hand(rng, side) for side in ("right", "left")[: rng.integers(3)]),
        objects=(random_object(rng),),
        contact_maps=(random_contact(rng),),
        residuals={"keypoints_px": float(np.float32(rng.normal())), "other": float(np.float32(rng.normal()))},
        status=FitStatus(int(rng.integers(3))),
        status_text=name,
    )


def assert_same_hand(left, right):
    for name in ("global_orient", "hand_pose", "betas", "transl", "scale"):
        assert torch.equal(getattr(left.params, name), getattr(right.params, name)), name
    assert left.params.side == right.params.side
    np.testing.assert_array_equal(left.keypoints, right.keypoints)
    np.testing.assert_array_equal(left.joint_poses, right.joint_poses)
    for name in ("model_id", "model_fingerprint", "track_id", "score", "is_metric"):
        assert getattr(left, name) == getattr(right, name), name


def assert_same_object(left, right):
    np.testing.assert_allclose(left.T_camera_object, right.T_camera_object, atol=1e-12)
    if left.covariance is None or right.covariance is None:
        assert left.covariance is right.covariance
    else:
        np.testing.assert_array_equal(left.covariance, right.covariance)
    for name in ("object_id", "scale", "score", "mesh_resource", "is_metric"):
        assert getattr(left, name) == getattr(right, name), name


def assert_same_contact(left, right):
    for name in (
        "points",
        "signed_distance",
        "contact",
        "region",
        "elasticity",
        "hand_signed_distance",
        "hand_contact",
    ):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
        assert getattr(left, name).dtype == getattr(right, name).dtype
    for name in ("object_id", "contact_threshold", "hand_side", "hand_track_id"):
        assert getattr(left, name) == getattr(right, name), name


def assert_same_state(left, right):
    assert (left.stamp, left.frame_id, left.status, left.status_text) == (
        right.stamp,
        right.frame_id,
        right.status,
        right.status_text,
    )
    assert left.residuals == right.residuals
    for one, other, check in (
        (left.hands, right.hands, assert_same_hand),
        (left.objects, right.objects, assert_same_object),
        (left.contact_maps, right.contact_maps, assert_same_contact),
    ):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            check(first, second)


@QUICK
@given(STAMPS)
def test_stamp_survives(stamp):
    assert fields.from_time(over_the_wire(fields.to_time(stamp))) == stamp


@pytest.mark.parametrize("stamp", [-1, 2**31 * 10**9])
def test_stamp_that_a_message_cannot_carry_is_refused(stamp):
    with pytest.raises(InputError, match="stamp"):
        fields.to_time(stamp)


@QUICK
@given(SEEDS, STAMPS, st.sampled_from(["right", "left"]))
def test_hand_survives(seed, stamp, side):
    hand = random_hand(np.random.default_rng(seed), side)
    message = hands.to_hand_pose(hand, fields.to_header(stamp, "camera"))
    assert_same_hand(hands.from_hand_pose(over_the_wire(message)), hand)


@QUICK
@given(SEEDS)
def test_object_survives(seed):
    found = random_object(np.random.default_rng(seed))
    message = over_the_wire(objects.to_object_pose(found, Header()))
    assert_same_object(objects.from_object_pose(message), found)


def test_unknown_covariance_is_marked():
    found = random_object(np.random.default_rng(0))
    message = objects.to_object_pose(
        ObjectState(object_id="x", T_camera_object=found.T_camera_object, covariance=None), Header()
    )
    assert message.pose.covariance[0] == -1


def test_mirrored_transform_is_refused():
    with pytest.raises(InputError, match="rotation"):
        objects.matrix_to_pose(np.diag([1.0, 1.0, -1.0, 1.0]))


@QUICK
@given(SEEDS, st.integers(0, 40))
def test_contact_map_survives(seed, count):
    contact_map = random_contact(np.random.default_rng(seed), count)
    assert_same_contact(
        contact.from_contact_map(over_the_wire(contact.to_contact_map(contact_map, Header()))), contact_map
    )


@QUICK
@given(SEEDS, STAMPS, NAMES)
def test_state_survives(seed, stamp, name):
    state = random_state(np.random.default_rng(seed), stamp, name)
    message = over_the_wire(states.to_state(state))
    assert_same_state(states.from_state(message), state)
    assert all(fields.from_time(hand.header.stamp) == stamp for hand in message.hands)
    assert all(found.header.frame_id == "object_mug" for found in message.contact_maps)


@QUICK
@given(SEEDS, st.lists(STAMPS, max_size=3))
def test_trajectory_survives(seed, stamps):
    rng = np.random.default_rng(seed)
    trajectory = HandObjectTrajectory("clip", [random_state(rng, stamp) for stamp in stamps])
    back = states.from_trajectory(over_the_wire(states.to_trajectory(trajectory)))
    assert back.source == "clip"
    for first, second in zip(back.states, trajectory.states, strict=True):
        assert_same_state(first, second)


@QUICK
@given(SEEDS, st.integers(0, 3), st.booleans())
def test_grasps_survive(seed, count, with_contact):
    rng = np.random.default_rng(seed)
    grasp_set = GraspSet(
        object_id="mug",
        method="fastgrasp",
        seed=seed,
        duration=1.25,
        grasps=[
            Grasp(
                random_hand(rng),
                float(np.float32(rng.normal())),
                {"penetration_volume_m3": float(np.float32(1e-6))},
                random_contact(rng) if with_contact else None,
            )
            for _ in range(count)
        ],
        mesh_resource="mug.obj",
    )
    back = grasps.from_grasp_array(over_the_wire(grasps.to_grasp_array(grasp_set, fields.to_header(1, "mug"))))
    for name in ("object_id", "method", "seed", "duration", "mesh_resource"):
        assert getattr(back, name) == getattr(grasp_set, name)
    for first, second in zip(back.grasps, grasp_set.grasps, strict=True):
        assert_same_hand(first.hand, second.hand)
        assert (first.score, first.metrics) == (second.score, second.metrics)
        assert (first.contact_map is None) == (second.contact_map is None)
        if first.contact_map is not None:
            assert_same_contact(first.contact_map, second.contact_map)


MASKS = st.none() | hnp.arrays(bool, (24, 32))


@QUICK
@given(SEEDS, STAMPS, MASKS, MASKS, st.booleans(), st.sampled_from(["right", "left", "unknown"]))
def test_evidence_survives(seed, stamp, hand_mask, object_mask, with_3d, side):
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return rng.normal(size=shape).astype(np.float32)

    camera = CameraModel(np.array([[50.0, 0, 15], [0, 51, 12], [0, 0, 1]]), 32, 24, rng.normal(size=5) * 0.01)
    seen = Evidence(
        stamp,
        camera,
        (HandEvidence(side, 0.5, 0.25, numbers(4), numbers(21, 2), numbers(21, 3) if with_3d else None, hand_mask, 7),),
        (ObjectEvidence("mug", 0.75, numbers(4), object_mask, 3),),
    )
    back = evidence.from_evidence(over_the_wire(evidence.to_evidence(seen)))
    assert back.stamp == stamp
    np.testing.assert_array_equal(back.camera.camera_k, camera.camera_k)
    np.testing.assert_array_equal(back.camera.distortion, camera.distortion)
    hand, found = back.hands[0], back.objects[0]
    assert (hand.side, hand.score, hand.side_score, hand.track_id) == (side, 0.5, 0.25, 7)
    np.testing.assert_array_equal(hand.box, seen.hands[0].box)
    np.testing.assert_array_equal(hand.keypoints, seen.hands[0].keypoints)
    assert (hand.keypoints_3d is None) == (not with_3d)
    if with_3d:
        np.testing.assert_array_equal(hand.keypoints_3d, seen.hands[0].keypoints_3d)
    assert (found.object_id, found.score, found.track_id) == ("mug", 0.75, 3)
    for mask, given_mask in ((hand.mask, hand_mask), (found.mask, object_mask)):
        if given_mask is None or not given_mask.any():
            assert mask is None
        else:
            np.testing.assert_array_equal(mask, given_mask)


def test_mask_travels_as_its_tight_box():
    mask = np.zeros((24, 32), bool)
    mask[3:7, 10:12] = True
    message = evidence.to_instance_mask(mask)
    assert (message.x_offset, message.y_offset, message.width, message.height) == (10, 3, 2, 4)
    assert len(message.pixels) == 8


def test_mask_that_does_not_fit_is_refused():
    mask = np.zeros((24, 32), bool)
    mask[3:7, 10:12] = True
    message = evidence.to_instance_mask(mask)
    with pytest.raises(InputError, match="does not fit"):
        evidence.from_instance_mask(message, 11, 24)


@QUICK
@given(SEEDS, st.sampled_from([("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4), ("plumb_bob", 0)]))
def test_camera_survives(seed, model):
    rng = np.random.default_rng(seed)
    name, size = model
    camera = CameraModel(
        np.array([[rng.uniform(1, 1e3), 0, rng.normal()], [0, rng.uniform(1, 1e3), rng.normal()], [0, 0, 1]]),
        640,
        480,
        rng.normal(size=size),
        name,
        "left_optical_frame",
    )
    back = to_camera_model(over_the_wire(to_camera_info(camera, 5)))
    np.testing.assert_array_equal(back.camera_k, camera.camera_k)
    np.testing.assert_array_equal(back.distortion, camera.distortion)
    assert (back.width, back.height, back.frame_id, back.distortion_model) == (640, 480, "left_optical_frame", name)


def test_camera_without_calibration_is_named_as_such():
    message = to_camera_info(CameraModel(np.diag([500.0, 500, 1]), 640, 480), 1)
    fields.set_array(message, "k", np.zeros(9))
    with pytest.raises(InputError, match="not calibrated"):
        to_camera_model(message)


def test_binning_and_region_move_the_pixel_grid():
    camera = CameraModel(np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), 640, 480)
    message = to_camera_info(camera, 1)
    message.binning_x = message.binning_y = 2
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 100, 40, 200, 100
    model = to_camera_model(message)
    assert (model.width, model.height) == (100, 50)
    point = np.array([0.02, -0.15, 1.0])
    # The mean of the two full pixels that a binned pixel covers is its centre.
    expected = (camera.project(point) - (100, 40) - 0.5) / 2
    np.testing.assert_allclose(model.project(point), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("side", 9, "side"),
        ("score", 1.5, "score"),
        ("score", float("nan"), "score"),
        ("scale", float("inf"), "scale"),
    ],
)
def test_bad_hand_field_is_named(field, value, expected):
    message = hands.to_hand_pose(random_hand(np.random.default_rng(0)), Header())
    setattr(message, field, value)
    with pytest.raises(InputError, match=expected):
        hands.from_hand_pose(message)


def test_array_of_another_length_is_refused():
    message = hands.to_hand_pose(random_hand(np.random.default_rng(0)), Header())
    with pytest.raises(InputError, match=r"HandPose.betas: expected 10 values, got 11"):
        fields.set_array(message, "betas", np.zeros(11))


def test_residual_names_and_values_must_agree():
    message = states.to_state(random_state(np.random.default_rng(0), 5))
    message.residual_names = ["one"]
    with pytest.raises(InputError, match="1 residual_names but 2 residual_values"):
        states.from_state(message)
