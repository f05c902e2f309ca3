"""perception_node with a stand-in for the hand networks: what it answers, and what bad input costs."""

import numpy as np
import pytest
from grasp_msgs.msg import Evidence
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.nodes.conversions.evidence import from_evidence, to_evidence
from grasp_nodes.nodes.conversions.fields import from_time, set_array, to_header
from grasp_nodes.nodes.conversions.images import to_camera_info, to_image
from grasp_nodes.nodes.perception_node import PerceptionNode
from grasp_nodes.perception import hand_landmarks, model_files
from grasp_nodes.perception.evidence import Evidence as SeenEvidence
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence

COLOR, INFO, DEPTH = "camera/color/image_raw", "camera/color/camera_info", "camera/depth/image_raw"
CAMERA = CameraModel(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48)
NODE = "perception_node"
START = 5_000_000_000
STEP = 33_000_000


class OneHand:
    """A landmarker that always sees the same hand, and counts how often it was reset."""

    made = None

    def __init__(self, *_):
        type(self).made = self
        self.resets = 0
        self.stamps = []

    def detect(self, frame):
        self.stamps.append(frame.stamp)
        keypoints = np.linspace((20, 15), (40, 35), 21).astype(np.float32)
        return [HandEvidence("right", 0.9, 0.8, np.array([20, 15, 40, 35], np.float32), keypoints, track_id=1)]

    def reset(self):
        self.resets += 1


@pytest.fixture
def node(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(hand_landmarks, "LitertHandLandmarker", OneHand)
    files = model_files.HandModelFiles(tmp_path / "palm", tmp_path / "landmark")
    monkeypatch.setattr(model_files, "fetch_hand_models", lambda: files)

    def start(**parameters):
        options = {"input_reliability": "reliable", "input_depth": 20, "queue_size": 20, "object_backend": "none"}
        node = bench.start(PerceptionNode, **{**options, **parameters})
        for kind, topic in ((Image, COLOR), (CameraInfo, INFO)):
            bench.publisher(kind, topic)
        return node

    return start


def picture():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def send(bench, stamp, image=None, info=None, depth=None):
    bench.publish(info or to_camera_info(CAMERA, stamp), INFO)
    if depth is not None:
        bench.publish(depth, DEPTH)
    bench.publish(image or to_image(picture(), "rgb8", stamp, CAMERA.frame_id), COLOR)


def test_answer_carries_the_stamp_and_frame_of_the_image(bench, node):
    node()
    answers = bench.collect(Evidence, "evidence")
    for index in range(3):
        send(bench, START + index * STEP)
    bench.wait(lambda: len(answers) == 3, "three answers")
    assert [from_time(answer.header.stamp) for answer in answers] == [START + index * STEP for index in range(3)]
    assert {answer.header.frame_id for answer in answers} == {CAMERA.frame_id}
    assert answers[0].hands[0].score == pytest.approx(0.9)
    bench.wait(lambda: bench.values(NODE).get("out evidence total") == "3", "diagnostics")
    values = bench.values(NODE)
    assert values[f"in {COLOR} total"] == "3"
    assert float(values["latency p50 ms"]) > 0
    assert len(values["hand model sha256"]) == 64


def bad_image(**fields):
    def make(stamp):
        message = to_image(picture(), "rgb8", stamp, CAMERA.frame_id)
        for name, value in fields.items():
            if name == "data":
                set_array(message, name, value)
            else:
                setattr(message, name, value)
        return message

    return make


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (bad_image(encoding="bayer_rggb8"), "encoding 'bayer_rggb8' is not understood"),
        (bad_image(step=10), "step 10 is wrong"),
        (bad_image(height=47), "47 rgb8 with step 192 takes"),
        (bad_image(data=np.zeros(7, np.uint8)), "image data has 7 bytes"),
        (lambda stamp: to_image(picture()[:24], "rgb8", stamp, "c"), "image is 64x24 but camera_info says 64x48"),
    ],
    ids=["encoding", "step", "height", "data", "size"],
)
def test_bad_image_is_named_counted_and_dropped_and_the_next_is_served(bench, node, capfd, make, named):
    node()
    answers = bench.collect(Evidence, "evidence")
    send(bench, START, image=make(START))
    send(bench, START + STEP)
    bench.wait(lambda: len(answers) == 1, "the answer to the good image")
    assert from_time(answers[0].header.stamp) == START + STEP
    bench.wait(lambda: bench.dropped(NODE, f"bad {COLOR}") == 1, "the count of bad images")
    output = "".join(capfd.readouterr())
    assert named in output
    assert COLOR in output


def test_camera_without_calibration_is_said(bench, node, capfd):
    node()
    answers = bench.collect(Evidence, "evidence")
    info = to_camera_info(CAMERA, START)
    set_array(info, "k", np.zeros(9))
    send(bench, START, info=info)
    send(bench, START + STEP)
    bench.wait(lambda: len(answers) == 1, "the answer to the good image")
    assert "the camera is not calibrated" in "".join(capfd.readouterr())
    bench.wait(lambda: bench.dropped(NODE, f"bad {COLOR}") == 1, "the count")


@pytest.mark.parametrize(
    ("depth", "named"),
    [
        (np.full((48, 64), np.nan, np.float32), "no measurement"),
        (np.zeros((48, 64), np.float32), "no measurement"),
        (np.ones((24, 32), np.float32), "depth is 32x24 but the image 64x48"),
    ],
    ids=["nan", "empty", "size"],
)
def test_unusable_depth_is_named_and_the_image_answered_without_it(bench, node, capfd, depth, named):
    node(use_depth="always")
    bench.publisher(Image, DEPTH)
    answers = bench.collect(Evidence, "evidence")
    send(bench, START, depth=to_image(depth, "32FC1", START, CAMERA.frame_id))
    bench.wait(lambda: len(answers) == 1, "the answer")
    bench.wait(lambda: bench.dropped(NODE, f"bad {DEPTH}") == 1, "the count of bad depth")
    assert named in "".join(capfd.readouterr())


def test_image_waits_for_its_depth(bench, node):
    node(use_depth="always")
    bench.publisher(Image, DEPTH)
    answers = bench.collect(Evidence, "evidence")
    send(bench, START)
    bench.wait(lambda: bench.values(NODE).get(f"in {COLOR} total") == "1", "the image to arrive")
    assert not answers
    bench.publish(to_image(np.ones((48, 64), np.float32), "32FC1", START + 1, CAMERA.frame_id), DEPTH)
    bench.wait(lambda: len(answers) == 1, "the answer")


def test_stamps_that_jump_back_reset_and_are_counted(bench, node, capfd):
    node()
    answers = bench.collect(Evidence, "evidence")
    for stamp in (START, START + STEP, START - 10 * STEP, START - 9 * STEP):
        send(bench, stamp)
    bench.wait(lambda: len(answers) == 4, "all answers")
    bench.wait(lambda: bench.dropped(NODE, "stamp jumped back") == 1, "the count")
    assert OneHand.made.resets == 1
    assert "stamps jumped back by 0.363 s" in "".join(capfd.readouterr())


def test_stamp_zero_is_refused(bench, node, capfd):
    node()
    image = to_image(picture(), "rgb8", 0, CAMERA.frame_id)
    bench.publish(image, COLOR)
    bench.wait(lambda: bench.dropped(NODE, f"bad {COLOR}") == 1, "the count")
    assert "header.stamp is 0" in "".join(capfd.readouterr())


def test_silence_names_the_missing_input(bench, node, capfd):
    node()
    bench.publish(to_image(picture(), "rgb8", START, CAMERA.frame_id), COLOR)
    bench.wait(lambda: "no message on camera/color/camera_info" in "".join(capfd.readouterr()), "the warning")
    bench.wait(lambda: "no message on" in bench.statuses[f"/{NODE}"].message, "the reason on /diagnostics")


def test_disabled_node_works_again_after_enable(bench, node):
    node(autostart=False)
    answers = bench.collect(Evidence, "evidence")
    send(bench, START)
    bench.wait(lambda: bench.values(NODE).get(f"in {COLOR} total") == "1", "the image to arrive")
    assert not answers
    assert bench.call(SetBool, f"/{NODE}/enable", data=True).success
    send(bench, START + STEP)
    bench.wait(lambda: len(answers) == 1, "the answer")
    resets = OneHand.made.resets
    assert bench.call(Trigger, f"/{NODE}/reset").success
    bench.wait(lambda: OneHand.made.resets == resets + 1, "the reset")


def test_parameters_are_described_and_a_refusal_says_why(bench, node):
    perception = node()
    descriptor = perception.describe_parameter("sync_slop_s")
    assert "stamps of colour" in descriptor.description
    assert descriptor.read_only
    assert descriptor.floating_point_range[0].to_value == 1.0
    [result] = perception.set_parameters([Parameter("silence_warn_s", value=1e9)])
    assert not result.successful
    [result] = perception.set_parameters([Parameter("silence_warn_s", value=7.0)])
    assert result.successful
    assert perception.settings.silence_warn_s == 7.0


def test_mask_from_a_topic_is_the_object(bench, node):
    node(object_backend="topic")
    answers = bench.collect(Evidence, "evidence")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:44] = 255
    bench.publish(to_image(mask, "mono8", START, CAMERA.frame_id), "object_mask")
    send(bench, START)
    bench.wait(lambda: len(answers) == 1, "the answer")
    found = answers[0].objects[0].mask
    assert (found.x_offset, found.y_offset, found.width, found.height) == (30, 10, 14, 10)


def given(stamp, size=(64, 48)):
    """What another network says of an image."""
    camera = CameraModel(CAMERA.camera_k, *size)
    mask = np.zeros((size[1], size[0]), bool)
    mask[10:20, 30:44] = True
    keypoints = np.linspace((5, 6), (25, 30), 21).astype(np.float32)
    hand = HandEvidence("left", 0.8, 0.7, np.array([5, 6, 25, 30], np.float32), keypoints, mask=~mask, track_id=4)
    found = ObjectEvidence("mug", 0.6, np.array([30, 10, 43, 19], np.float32), mask, 2)
    return to_evidence(SeenEvidence(stamp, camera, (hand,), (found,)))


def test_evidence_of_another_network_replaces_ours(bench, node, monkeypatch):
    monkeypatch.setattr(model_files, "fetch_hand_models", lambda: pytest.fail("the package's networks are not needed"))
    node(hand_backend="evidence", object_backend="evidence", sync_slop_s=0.01)
    answers = bench.collect(Evidence, "evidence")
    bench.publish(given(START + STEP), "hand_evidence")
    send(bench, START)
    bench.wait(lambda: bench.values(NODE).get(f"in {COLOR} total") == "1", "the image to arrive")
    assert not answers  # its evidence is still to come
    bench.publish(given(START + 3_000_000), "hand_evidence")
    bench.wait(lambda: len(answers) == 1, "the answer")
    seen, want = from_evidence(answers[0]), from_evidence(given(START))
    assert from_time(answers[0].header.stamp) == START
    (hand,), (found,) = seen.hands, seen.objects
    assert (hand.side, hand.track_id) == ("left", 4)
    np.testing.assert_array_equal(hand.keypoints, want.hands[0].keypoints)
    np.testing.assert_array_equal(hand.mask, want.hands[0].mask)
    assert found.object_id == "mug"
    np.testing.assert_array_equal(found.mask, want.objects[0].mask)


def test_stamps_of_another_network_may_differ_as_much_as_was_asked_for(bench, node):
    node(hand_backend="evidence", sync_slop_s=0.5)
    answers = bench.collect(Evidence, "evidence")
    bench.publish(given(START + 300_000_000), "hand_evidence")
    send(bench, START)
    bench.wait(lambda: len(answers) == 1, "the answer")
    assert [hand.track_id for hand in answers[0].hands] == [4]


def test_own_hands_go_with_objects_of_another_network(bench, node):
    node(object_backend="evidence")
    answers = bench.collect(Evidence, "evidence")
    bench.publish(given(START), "hand_evidence")
    send(bench, START)
    bench.wait(lambda: len(answers) == 1, "the answer")
    assert [hand.track_id for hand in answers[0].hands] == [1]
    assert [found.object_id for found in answers[0].objects] == ["mug"]


def test_evidence_of_another_size_is_named_and_counted(bench, node, capfd):
    node(hand_backend="evidence")
    answers = bench.collect(Evidence, "evidence")
    bench.publish(given(START, (128, 96)), "hand_evidence")
    send(bench, START)
    bench.publish(given(START + STEP), "hand_evidence")
    send(bench, START + STEP)
    bench.wait(lambda: len(answers) == 1, "the answer to the good one")
    assert from_time(answers[0].header.stamp) == START + STEP
    bench.wait(lambda: bench.dropped(NODE, f"bad {COLOR}") == 1, "the count")
    assert "expected that of an image of 64x48, got 128x96" in "".join(capfd.readouterr())


def test_evidence_that_does_not_come_is_the_reason_for_silence(bench, node):
    node(hand_backend="evidence")
    send(bench, START)
    bench.wait(lambda: f"/{NODE}" in bench.statuses, "diagnostics")
    bench.wait(lambda: "no message on hand_evidence" in bench.statuses[f"/{NODE}"].message, "the reason")


def test_missing_models_end_the_node_with_one_message(bench, monkeypatch, capfd):
    from grasp_nodes.errors import MissingFileError

    def fetch():
        raise MissingFileError("the hand models are not there: run make models")

    monkeypatch.setattr(model_files, "fetch_hand_models", fetch)
    perception = bench.start(PerceptionNode)
    bench.wait(perception.finished.is_set, "the end of the node")
    assert perception.exit_code == 1
    assert "run make models" in "".join(capfd.readouterr())


def test_header_helper_matches_the_wire(bench):
    assert from_time(to_header(START, "x").stamp) == START
