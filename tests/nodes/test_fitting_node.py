"""fitting_node on a made-up hand: outputs agree with each other and with the truth; bad evidence costs only itself."""

import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from grasp_msgs.msg import Evidence, HandModelInfo, HandObjectState, HandPose, HandPoseArray, ObjectPose
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from grasp_nodes.contact.interaction import FitStatus, HandState, ObjectState
from grasp_nodes.contact.interaction import HandObjectState as State
from grasp_nodes.fitting import streaming
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.hand.anchors import HandAnchors
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.nodes.conversions.evidence import to_evidence
from grasp_nodes.nodes.conversions.fields import from_time, set_array, to_header
from grasp_nodes.nodes.conversions.hands import from_hand_pose
from grasp_nodes.nodes.conversions.images import to_image
from grasp_nodes.nodes.conversions.objects import to_object_pose
from grasp_nodes.nodes.fitting_node import FittingNode
from grasp_nodes.nodes.node_base import latched
from grasp_nodes.nodes.source_status import SourceStatus, to_message
from grasp_nodes.perception.evidence import Evidence as Seen
from grasp_nodes.perception.evidence import HandEvidence

CAMERA = CameraModel(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), 320, 240)
EVIDENCE, STATE, DEPTH, NODE = "evidence", "hand_object/state", "camera/depth/image_raw", "fitting_node"
START, STEP = 7_000_000_000, 33_000_000
PLACE = np.array([[0.0, -1, 0, 0.1], [1, 0, 0, -0.05], [0, 0, 1, 0.7], [0, 0, 0, 1]])


class Fitter:
    """A fitter that answers with one flat hand and one object, and keeps what it was asked."""

    made: ClassVar[list] = []

    def __init__(self, object_model, hand_models, options):
        type(self).made.append(self)
        self.object_model, self.model, self.options = object_model, hand_models["right"], options
        self.asked, self.resets = [], 0

    def warm_up(self):
        pass

    def reset(self):
        self.resets += 1

    def found(self):
        resource = self.object_model.mesh_resource
        return ObjectState(self.object_model.object_id, PLACE, score=0.8, mesh_resource=resource)

    def update(self, evidence, depth=None, given=None):
        self.asked.append((evidence, depth))
        self.given = given
        params = HandParams.zeros()
        params.transl[:] = torch.tensor([0.0, 0.0, 0.6])
        with torch.no_grad():
            output = self.model(params)
        poses = np.tile([0.0, 0, 0, 0, 0, 0, 1], (16, 1))
        poses[:, :3] = output.joints[0].numpy()
        hand = HandState(
            params,
            output.keypoints[0].double().numpy(),
            poses,
            self.model.model_id,
            self.model.fingerprint,
            1,
            0.9,
            True,
        )
        objects = () if self.object_model is None else (self.found(),)
        found = bool(evidence.hands)
        return State(
            evidence.stamp,
            evidence.camera.frame_id,
            (hand,) if found else (),
            objects,
            status=FitStatus.OK if found else FitStatus.NOTHING,
            status_text="" if found else "no hand found",
        )


@pytest.fixture
def start(bench, monkeypatch):
    Fitter.made = []
    monkeypatch.setattr(streaming, "StreamingFitter", Fitter)

    def make(**parameters):
        options = {"input_reliability": "reliable", "input_depth": 20, "queue_size": 20, "use_depth": "never"}
        node = bench.start(FittingNode, **{**options, **parameters})
        bench.publisher(Evidence, EVIDENCE)
        return node

    return make


def seen(stamp, hands=1):
    keypoints = np.linspace((100, 80), (180, 160), 21).astype(np.float32)
    hand = HandEvidence("right", 0.9, 0.9, np.array([100, 80, 180, 160], np.float32), keypoints, track_id=1)
    return to_evidence(Seen(stamp, CAMERA, (hand,) * hands))


def test_all_outputs_carry_the_stamp_and_agree(bench, start):
    start(object="sphere:0.05")
    kinds = {STATE: HandObjectState, "hands": HandPoseArray, "objects/pose": ObjectPose, "/tf": TFMessage}
    got = {topic: bench.collect(kind, topic) for topic, kind in kinds.items()}
    markers = bench.collect(MarkerArray, "markers")
    bench.publish(seen(START), EVIDENCE)
    bench.wait(lambda: all(got.values()) and markers, "all outputs")
    state, hands, found = got[STATE][0], got["hands"][0], got["objects/pose"][0]
    assert {from_time(message.header.stamp) for message in (state, hands, found)} == {START}
    assert {message.header.frame_id for message in (state, hands, found)} == {CAMERA.frame_id}
    assert state.hands[0] == hands.hands[0]
    assert state.objects[0] == found
    frames = {transform.child_frame_id: transform for transform in got["/tf"][0].transforms}
    assert frames.keys() == {"hand_right", "object_sphere"}
    wrist = from_hand_pose(state.hands[0]).joint_poses[0]
    moved = frames["hand_right"].transform.translation
    np.testing.assert_allclose([moved.x, moved.y, moved.z], wrist[:3])
    assert frames["object_sphere"].header.frame_id == CAMERA.frame_id
    by_namespace = {marker.ns: marker for marker in markers[0].markers if marker.action == Marker.ADD}
    hand, ball = by_namespace["hands"], by_namespace["objects"]
    assert hand.type == Marker.TRIANGLE_LIST
    assert len(hand.points) == len(hand.colors) == 3 * 1538
    assert all(color.a > 0 for color in hand.colors)
    assert (ball.type, ball.scale.x) == (Marker.SPHERE, 0.1)
    assert (ball.pose.position.x, ball.pose.position.z) == (0.1, 0.7)


def test_both_hand_models_are_told_to_late_comers(bench, start):
    start()
    bench.wait(lambda: bench.values(NODE).get("out hand_model_info total") == "2", "the models")
    infos = []
    bench.tester.create_subscription(HandModelInfo, "hand_model_info", infos.append, latched(5))
    bench.wait(lambda: len(infos) == 2, "both models")
    model = load_hand_model()
    assert {info.side for info in infos} == {1, 2}
    right = next(info for info in infos if info.side == 1)
    assert right.model_fingerprint == model.fingerprint
    np.testing.assert_array_equal(np.reshape(right.faces, (-1, 3)), model.faces.numpy())
    assert right.joint_parents[0] == -1
    assert len(right.keypoint_names) == 21
    assert len(right.region_names) == 17
    corners = model.arrays.v_template[np.reshape(right.anchor_faces, (32, 3))]
    x1, x2 = np.reshape(right.anchor_weights, (32, 2, 1)).transpose(1, 0, 2)
    anchors = (1 - x1 - x2) * corners[:, 0] + x1 * corners[:, 1] + x2 * corners[:, 2]
    expected = HandAnchors.of_model(model).positions(torch.from_numpy(model.arrays.v_template))
    np.testing.assert_allclose(anchors, expected, atol=1e-7)


def test_object_comes_from_the_source_where_none_is_given(bench, start):
    start()
    bench.publish(
        to_message(SourceStatus(source="x", object="sphere:0.03", object_id="ball")), "source/status", latched=True
    )
    bench.wait(lambda: Fitter.made and Fitter.made[-1].object_model is not None, "the object")
    model = Fitter.made[-1].object_model
    assert (model.object_id, model.mesh_resource) == ("ball", "sphere:0.03")
    np.testing.assert_allclose(np.linalg.norm(model.points, axis=1), 0.03, atol=1e-4)


def test_object_that_cannot_be_loaded_is_said_and_hands_go_on(bench, start, capfd, tmp_path):
    start(mesh_roots=[str(tmp_path)])
    path = str(tmp_path / "mug.obj")
    states = bench.collect(HandObjectState, STATE)
    bench.publish(to_message(SourceStatus(source="x", object=path)), "source/status", latched=True)
    bench.wait(lambda: bench.dropped(NODE, "bad object") == 1, "the count")
    assert path in "".join(capfd.readouterr())
    bench.wait(lambda: f"the object cannot be used: {path}" in bench.statuses[f"/{NODE}"].message, "the reason")
    bench.publish(seen(START), EVIDENCE)
    bench.wait(lambda: len(states) == 1, "the answer")


def test_object_given_as_parameter_that_cannot_be_loaded_ends_the_node(bench, start, capfd):
    node = start(object="/nowhere/mug.obj")
    bench.wait(node.finished.is_set, "the end")
    assert node.exit_code == 1
    assert "/nowhere/mug.obj" in "".join(capfd.readouterr())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_device_that_is_not_there_ends_the_node_with_what_is(bench, start, capfd):
    node = start(device="cuda")
    bench.wait(node.finished.is_set, "the end")
    assert "torch sees no CUDA device here; expected cpu" in "".join(capfd.readouterr())


def test_depth_of_the_same_stamp_reaches_the_fit(bench, start):
    start(use_depth="always")
    states = bench.collect(HandObjectState, STATE)
    depth = np.full((240, 320), 0.8, np.float32)
    bench.publish(to_image(depth, "32FC1", START + STEP, "c"), DEPTH)
    bench.publish(to_image(depth / 2, "32FC1", START, "c"), DEPTH)
    bench.publish(seen(START), EVIDENCE)
    bench.wait(lambda: len(states) == 1, "the answer")
    np.testing.assert_allclose(Fitter.made[-1].asked[-1][1], 0.4)


def given_hands(stamp, turn=0.5):
    """What another network says of one hand, as MANO's parameters alone."""
    hand = HandPose(side=HandPose.SIDE_LEFT, model_id="mano", scale=1.0, score=0.7)
    set_array(hand, "global_orient", np.array([turn, 0, 0]))
    set_array(hand, "translation", np.array([0.0, 0.1, 0.6]))
    return HandPoseArray(header=to_header(stamp, CAMERA.frame_id), hands=[hand])


def given_object(stamp, score=0.9):
    return to_object_pose(ObjectState("ball", PLACE, score=score), to_header(stamp, CAMERA.frame_id))


def test_poses_of_other_networks_are_where_the_fit_starts(bench, start):
    start(hand_poses_backend="topic", object_pose_backend="topic", sync_slop_s=0.01)
    states = bench.collect(HandObjectState, STATE)
    bench.publish(seen(START), EVIDENCE)
    bench.publish(given_hands(START + 5_000_000), "hand_poses_in")
    bench.publish(given_object(START + STEP), "object_pose_in")
    bench.wait(lambda: bench.values(NODE).get("in object_pose_in total") == "1", "the pose to arrive")
    assert not states  # the object's pose of that image is still to come
    bench.publish(given_object(START - 5_000_000), "object_pose_in")
    bench.wait(lambda: len(states) == 1, "the answer")
    given = Fitter.made[-1].given
    np.testing.assert_allclose(given.T_camera_object, PLACE, atol=1e-9)
    assert [hand.side for hand in given.hands] == ["left"]
    np.testing.assert_allclose(given.hands[0].global_orient, [[0.5, 0, 0]])
    np.testing.assert_allclose(given.hands[0].transl, [[0, 0.1, 0.6]], atol=1e-6)


def test_given_poses_that_are_none_leave_the_fit_to_itself(bench, start, capfd):
    start(hand_poses_backend="topic", object_pose_backend="topic")
    states = bench.collect(HandObjectState, STATE)
    bench.publish(seen(START), EVIDENCE)
    bench.publish(given_hands(START, turn=np.nan), "hand_poses_in")
    bench.publish(given_object(START, score=0.0), "object_pose_in")  # not seen in this image
    bench.wait(lambda: len(states) == 1, "the answer")
    given = Fitter.made[-1].given
    assert not given.hands
    assert given.T_camera_object is None
    bench.wait(lambda: bench.dropped(NODE, "bad hand_poses_in") == 1, "the count")
    assert "HandPose.global_orient" in "".join(capfd.readouterr())
    assert bench.dropped(NODE, "bad object_pose_in") == 0


def test_given_poses_that_do_not_come_are_the_reason_for_silence(bench, start):
    start(object_pose_backend="topic")
    bench.publish(seen(START), EVIDENCE)
    bench.wait(lambda: f"/{NODE}" in bench.statuses, "diagnostics")
    bench.wait(lambda: "no message on object_pose_in" in bench.statuses[f"/{NODE}"].message, "the reason")


def test_late_frames_are_dropped_and_counted_never_queued(bench, start, monkeypatch):
    answered, busy, go_on = [], threading.Event(), threading.Event()
    update = Fitter.update

    def slow(self, evidence, depth=None, given=None):
        busy.set()
        assert go_on.wait(30)
        answered.append(evidence.stamp)
        return update(self, evidence, depth, given)

    monkeypatch.setattr(Fitter, "update", slow)
    start(queue_size=1)
    states = bench.collect(HandObjectState, STATE)
    bench.publish(seen(START), EVIDENCE)
    assert busy.wait(30)
    for index in range(1, 6):
        bench.publish(seen(START + index * STEP), EVIDENCE)
    bench.wait(lambda: bench.dropped(NODE, "newer evidence came") == 4, "the count")
    go_on.set()
    bench.wait(lambda: len(states) == 2, "the answers")
    assert answered == [START, START + 5 * STEP]


def test_window_is_a_parameter(bench, start):
    start(window=1)
    bench.wait(lambda: Fitter.made, "the fitter")
    assert Fitter.made[-1].options.window == 1


def test_answers_are_offered_only_when_the_fit_is_warm(bench, start, monkeypatch):
    """A source waits for this topic before it plays, so that no frame waits for compilation."""
    warm = threading.Event()
    monkeypatch.setattr(Fitter, "warm_up", lambda _: warm.wait(10))
    start()
    bench.wait(lambda: Fitter.made, "the fitter")
    assert bench.tester.count_publishers(STATE) == 0
    warm.set()
    bench.wait(lambda: bench.tester.count_publishers(STATE) == 1, "the topic")


def set_mask_size(mask, width, height):
    mask.width, mask.height = width, height


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda message: set_array(message.camera_info, "k", np.zeros(9)), "not calibrated"),
        (lambda message: set_array(message.hands[0], "keypoints", np.full(42, np.nan)), "HandEvidence.keypoints"),
        (lambda message: setattr(message.hands[0], "score", 7.0), "HandEvidence.score"),
        (
            lambda message: (
                setattr(message.hands[0].mask, "width", 5000) or setattr(message.hands[0].mask, "height", 5)
            ),
            "mask",
        ),
        (lambda message: setattr(message.camera_info, "width", 2**31), "camera_info: size"),
    ],
    ids=["camera", "keypoints", "score", "mask", "size"],
)
def test_bad_evidence_is_named_counted_and_the_next_is_answered(bench, start, capfd, spoil, named):
    start()
    states = bench.collect(HandObjectState, STATE)
    bad = seen(START)
    spoil(bad)
    bench.publish(bad, EVIDENCE)
    bench.publish(seen(START + STEP), EVIDENCE)
    bench.wait(lambda: len(states) == 1, "the answer")
    assert from_time(states[0].header.stamp) == START + STEP
    bench.wait(lambda: bench.dropped(NODE, f"bad {EVIDENCE}") == 1, "the count")
    assert named in "".join(capfd.readouterr())


def test_no_hand_is_the_reason_for_silence(bench, start, capfd):
    start()
    states = bench.collect(HandObjectState, STATE)
    for index in range(4):
        bench.publish(seen(START + index * STEP, hands=0), EVIDENCE)
    bench.wait(lambda: len(states) == 4, "the answers")
    bench.wait(lambda: "nothing useful for" in "".join(capfd.readouterr()), "the warning")
    assert bench.statuses[f"/{NODE}"].message == "no hand found"


def test_reset_and_jump_back_forget_what_was_followed(bench, start):
    start()
    states = bench.collect(HandObjectState, STATE)
    bench.publish(seen(START), EVIDENCE)
    bench.wait(lambda: len(states) == 1, "the answer")
    assert bench.call(Trigger, f"/{NODE}/reset").success
    bench.wait(lambda: Fitter.made[-1].resets == 1, "the reset")
    bench.publish(seen(START + STEP), EVIDENCE)
    bench.publish(seen(START - STEP), EVIDENCE)
    bench.wait(lambda: len(states) == 3, "both answers")
    assert Fitter.made[-1].resets == 2
    bench.wait(lambda: bench.dropped(NODE, "stamp jumped back") == 1, "the count")


def test_tf_can_be_left_out(bench, start):
    start(publish_tf=False)
    states = bench.collect(HandObjectState, STATE)
    bench.publish(seen(START), EVIDENCE)
    bench.wait(lambda: len(states) == 1, "the answer")
    assert bench.tester.count_publishers("/tf") == 0
