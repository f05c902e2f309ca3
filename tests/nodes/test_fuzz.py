"""Damaged bytes into every subscription of every node: counted, no node ends, the next good message is served."""

import numpy as np
import pytest
from grasp_msgs.msg import Evidence, HandObjectState
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image

from grasp_nodes import embedded
from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.contact.interaction import HandObjectState as State
from grasp_nodes.fitting import frame_fitter
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.nodes import source_node
from grasp_nodes.nodes.conversions.evidence import to_evidence
from grasp_nodes.nodes.conversions.images import to_camera_info, to_image
from grasp_nodes.nodes.conversions.states import to_state
from grasp_nodes.nodes.fitting_node import FittingNode
from grasp_nodes.nodes.perception_node import PerceptionNode
from grasp_nodes.nodes.recorder_node import RecorderNode
from grasp_nodes.nodes.report_node import ReportNode
from grasp_nodes.nodes.source_node import SourceNode
from grasp_nodes.nodes.viewer_node import ViewerNode
from grasp_nodes.perception import hand_landmarks, model_files
from grasp_nodes.perception.evidence import Evidence as Seen
from grasp_nodes.perception.evidence import HandEvidence, ObjectEvidence
from grasp_nodes.viewer import page

CAMERA = CameraModel(np.array([[60.0, 0, 15.5], [0, 60, 11.5], [0, 0, 1]]), 32, 24)
START = 5_000_000_000
DAMAGED_PER_TOPIC = 40
LATCHED = ("/source/status", "/hand_model_info")
COLOR, INFO, DEPTH = "camera/color/image_raw", "camera/color/camera_info", "camera/depth/image_raw"


class Stub:
    """Stands in for the heavy part of any node."""

    address = ""

    def __init__(self, *_):
        pass

    def __getattr__(self, _name):
        return lambda *_args, **_options: None

    def detect(self, _frame):
        return [HandEvidence("right", 0.9, 0.9, np.zeros(4, np.float32), np.zeros((21, 2), np.float32))]

    def update(self, evidence, _depth=None):
        return State(evidence.stamp, evidence.camera.frame_id, status=FitStatus.OK)


class Endless:
    """A source that never sends."""

    camera, fps, is_live, has_depth, has_truth = CAMERA, 30.0, False, True, True
    object_spec, object_id, object_scale, first_stamp = "", "", 1.0, START

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(())

    def close(self):
        pass


def evidence(stamp):
    mask = np.zeros((24, 32), bool)
    mask[5:9, 7:12] = True
    hand = HandEvidence("right", 0.9, 0.9, np.zeros(4, np.float32), np.zeros((21, 2), np.float32), mask=mask)
    return to_evidence(Seen(stamp, CAMERA, (hand,), (ObjectEvidence("mug", 0.5, np.zeros(4, np.float32), mask),)))


def sample(message_type, topic, stamp):
    """A good message of a topic, with something in it that can be damaged."""
    if message_type is Image:
        if "depth" in topic:
            return to_image(np.ones((24, 32), np.float32), "32FC1", stamp, "c")
        return to_image(np.full((24, 32, 3), 7, np.uint8), "rgb8", stamp, "c")
    if message_type is CameraInfo:
        return to_camera_info(CAMERA, stamp)
    if message_type is Evidence:
        return evidence(stamp)
    if message_type is HandObjectState:
        return to_state(State(stamp, "c", residuals={"x": 1.0}, status=FitStatus.OK, status_text="text"))
    return message_type()


def damaged(data, rng):
    """The bytes cut short, with noise in them, or noise alone; the four bytes that name the encoding may go too."""
    data = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(data[: rng.integers(5, len(data))])
    if kind == 1:
        for place in rng.integers(0, min(len(data), 400), rng.integers(1, 9)):
            data[place] = rng.integers(256)
        return bytes(data)
    if kind == 2:
        return bytes(data[:4]) + rng.bytes(int(rng.integers(1, 200)))
    return bytes(data[:4]) + b"\xff" * int(rng.integers(1, 64)) + bytes(data[4:])


NODES = {
    PerceptionNode: {"object_backend": "topic", "use_depth": "auto"},
    FittingNode: {"use_depth": "auto"},
    ReportNode: {"exit_when_finished": False},
    ViewerNode: {"open_browser": False},
    RecorderNode: {"topics": [COLOR, "evidence", "hand_object/state"], "autostart": True},
    SourceNode: {"start_timeout_s": 0.0, "pace": "realtime", "loop": True},
}


pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(
        not embedded.is_installed(),
        reason="an installed rmw decodes before a node sees anything; a damaged length costs it gigabytes and minutes",
    ),
]


@pytest.fixture
def stubs(monkeypatch, tmp_path):
    monkeypatch.setattr(hand_landmarks, "LitertHandLandmarker", Stub)
    monkeypatch.setattr(model_files, "fetch_hand_models", lambda: model_files.HandModelFiles(tmp_path, tmp_path))
    monkeypatch.setattr(frame_fitter, "FrameFitter", Stub)
    monkeypatch.setattr(page, "ViewerPage", Stub)
    monkeypatch.setattr(SourceNode, "_open", lambda _: Endless())
    monkeypatch.setattr(SourceNode, "_play", lambda self, *_: self._sleep(0.05) or 0)
    monkeypatch.setattr(source_node, "SETTLE_S", 0.0)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", NODES, ids=lambda kind: kind.__name__)
def test_damaged_bytes_cost_only_themselves(bench, stubs, kind):
    node = bench.start(
        kind,
        input_reliability="reliable",
        input_depth=200,
        **({"queue_size": 100} if "Fit" in kind.__name__ else {}),
        **NODES[kind],
    )
    rng = np.random.default_rng(7)
    subscriptions = [entry for entry in node.subscriptions if "parameter" not in entry.topic_name]
    assert subscriptions
    for subscription in subscriptions:
        topic = subscription.topic_name
        publisher = bench.publisher(subscription.msg_type, topic, latched=topic in LATCHED)
        good = bytes(serialize_message(sample(subscription.msg_type, topic, START)))
        for _ in range(DAMAGED_PER_TOPIC):
            publisher.publish(damaged(good, rng))
    name = node.get_name()

    def served(entry):
        """Good messages get through afterwards."""
        short = next(topic for topic, owned in node._inputs if owned is entry)
        rate = node.statistics.inputs.get(short)
        before = rate.total if rate else 0
        topic = entry.topic_name
        bench.publish(sample(entry.msg_type, topic, START + 10**9), topic, latched=topic in LATCHED)
        bench.wait(lambda: node.statistics.inputs.get(short) and node.statistics.inputs[short].total > before, short)

    for subscription in subscriptions:
        served(subscription)
    assert not node.finished.is_set()
    counted = sum(
        count for cause, count in node.statistics.drops.items() if cause.split()[0] in ("bad", "failed", "malformed")
    )
    counted += sum(entry.dropped for entry in subscriptions)
    if kind is not RecorderNode:
        assert counted >= DAMAGED_PER_TOPIC / 4 * len(subscriptions)
    bench.wait(
        lambda: any(key.startswith("dropped") for key in bench.values(name)) or kind is RecorderNode, "the counts"
    )


def test_perception_and_fitting_answer_after_damage(bench, stubs):
    """The whole way: damaged bytes on every input, then one good frame is answered as if nothing had been."""
    options = {"input_reliability": "reliable", "input_depth": 200, "queue_size": 100}
    bench.start(PerceptionNode, object_backend="none", **options)
    bench.start(FittingNode, **options)
    rng = np.random.default_rng(8)
    for message_type, topic in ((Image, COLOR), (CameraInfo, INFO), (Image, DEPTH), (Evidence, "evidence")):
        publisher = bench.publisher(message_type, topic)
        good = bytes(serialize_message(sample(message_type, topic, START)))
        for _ in range(DAMAGED_PER_TOPIC):
            publisher.publish(damaged(good, rng))
    states = bench.collect(HandObjectState, "hand_object/state")
    stamp = START + 10**9

    def answered():
        return any(state.header.stamp.sec == 6 for state in states)

    for topic, message_type in ((INFO, CameraInfo), (DEPTH, Image), (COLOR, Image)):
        bench.publish(sample(message_type, topic, stamp), topic)
    bench.wait(answered, "the answer to the good frame")
