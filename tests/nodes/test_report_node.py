"""report_node: what it counts, what it scores, when it writes, and that the file is whole."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from grasp_msgs.msg import HandObjectState
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from grasp_nodes.contact.interaction import FitStatus, HandState, ObjectState
from grasp_nodes.contact.interaction import HandObjectState as State
from grasp_nodes.errors import InputError
from grasp_nodes.evaluation.true_contact import TrueContact
from grasp_nodes.hand.files import load_hand_model
from grasp_nodes.hand.parameters import HandParams
from grasp_nodes.nodes.conversions.fields import to_header
from grasp_nodes.nodes.conversions.states import to_state
from grasp_nodes.nodes.report_node import ReportNode, write_whole
from grasp_nodes.nodes.source_status import SourceStatus, to_message
from grasp_nodes.objects.loading import load_object

INFO, STATE, TRUTH, STATUS = "camera/color/camera_info", "hand_object/state", "truth/state", "source/status"
SPHERE = "sphere:0.04"
STEP = 33_000_000
START = 9_000_000_000


@pytest.fixture(scope="module")
def scene():
    """A true state: a flat hand whose palm touches a sphere, and the sphere's model."""
    model, ball = load_hand_model(), load_object(SPHERE)
    params = replace(HandParams.zeros(), transl=torch.tensor([[0.0, 0.0, 0.6]]))
    with torch.no_grad():
        output = model(params)
    place = np.eye(4)
    place[:3, 3] = output.vertices[0].mean(0).numpy() + (0.0, 0.045, 0.0)
    hand = HandState(
        params,
        output.keypoints[0].double().numpy(),
        np.tile([0, 0, 0, 0, 0, 0, 1.0], (16, 1)),
        model.model_id,
        model.fingerprint,
        score=1.0,
    )
    truth = State(START, "c", (hand,), (ObjectState("sphere", place, score=1.0),), status=FitStatus.OK)
    contact = TrueContact(ball)(truth, ball.points)
    assert (contact.signed_distance < 0.01).sum() > 20, "the scene has contact to find"
    return replace(truth, contact_maps=(contact,))


def at(state, index):
    return to_state(replace(state, stamp=START + index * STEP))


def shifted(state, metres):
    hand, found = state.hands[0], state.objects[0]
    place = found.T_camera_object.copy()
    place[0, 3] += metres
    moved = replace(hand, keypoints=hand.keypoints + (metres, 0, 0))
    return replace(state, hands=(moved,), objects=(replace(found, T_camera_object=place),))


@pytest.fixture
def report(bench, tmp_path):
    path = tmp_path / "out" / "report.json"
    bench.start(ReportNode, report_file=str(path), grace_s=0.5)
    for kind, topic in ((CameraInfo, INFO), (HandObjectState, STATE), (HandObjectState, TRUTH)):
        bench.publisher(kind, topic)
    return path


def send(bench, index, answer=None, truth=None):
    bench.publish(CameraInfo(header=to_header(START + index * STEP, "c")), INFO)
    if truth is not None:
        bench.publish(at(truth, index), TRUTH)
    if answer is not None:
        bench.publish(at(answer, index), STATE)


def finish(bench, frames, **fields):
    status = SourceStatus(source="made up", seed=3, frames_total=frames, frames_sent=frames, finished=True, **fields)
    bench.publish(to_message(status), STATUS, latched=True)
    assert bench.nodes[0].finished.wait(20)


def test_perfect_answers_score_perfectly(bench, report, scene):
    for index in range(4):
        send(bench, index, scene, scene)
    finish(bench, 4, object=SPHERE)
    content = json.loads(report.read_text())
    assert (content["frames_in"], content["frames_out"], content["found_share"]) == (4, 4, 1.0)
    assert content["hand_mpjpe_mm"] == 0
    assert content["object_add_s_mm"] < 0.01
    assert content["contact_f1"] == 1
    assert content["latency_p50_ms"] > 0
    assert content["seed"] == 3
    assert {"python", "torch", "numpy"} <= content["versions"].keys()
    assert content["complete"]


def test_errors_are_in_millimetres_and_lost_frames_cost_the_last_answer(bench, report, scene):
    """Frame 0 is lost before any answer: 100 mm; 1 is 20 mm off; 2 is lost: scores the answer before; 3 is right."""
    send(bench, 0, None, scene)
    send(bench, 1, shifted(scene, 0.02), scene)
    send(bench, 2, None, scene)
    send(bench, 3, scene, scene)
    finish(bench, 4, object=SPHERE)
    content = json.loads(report.read_text())
    assert content["hand_mpjpe_mm"] == pytest.approx((100 + 20 + 20 + 0) / 4, abs=0.01)
    assert (content["frames_in"], content["frames_out"], content["found_share"]) == (4, 2, 0.5)


def test_without_truth_there_are_no_accuracies(bench, report, scene):
    for index in range(2):
        send(bench, index, scene)
    finish(bench, 2)
    content = json.loads(report.read_text())
    assert content["frames_out"] == 2
    assert not {"hand_mpjpe_mm", "object_add_s_mm", "contact_f1"} & content.keys()


def test_each_pass_of_a_loop_is_reported(bench, report, scene):
    send(bench, 0, scene, scene)
    status = SourceStatus(source="made up", object=SPHERE)
    bench.publish(to_message(status), STATUS, latched=True)
    inputs = bench.nodes[0].statistics.inputs
    # Two listeners of the node hear the status; a latched topic keeps only the last for the one that is late.
    bench.wait(lambda: STATE in inputs and bench.nodes[0]._status is not None, "state and status")
    bench.publish(to_message(replace(status, loops=1)), STATUS, latched=True)
    bench.wait(report.exists, "the report of the first pass")
    content = json.loads(report.read_text())
    assert (content["loops"], content["frames_in"], content["complete"]) == (1, 1, False)
    assert not bench.nodes[0].finished.is_set()


def test_stopped_early_reports_without_the_accuracy_that_would_take_long(bench, report, scene, monkeypatch):
    monkeypatch.setattr(ReportNode, "_score", lambda self: pytest.fail("scored at the end"))
    for index in range(3):
        send(bench, index, scene, scene)
    inputs = bench.nodes[0].statistics.inputs
    bench.wait(lambda: STATE in inputs and inputs[STATE].total == 3 and inputs[TRUTH].total == 3, "the states")
    bench.nodes[0].close()
    content = json.loads(report.read_text())
    assert (content["frames_in"], content["frames_out"], content["complete"]) == (3, 3, False)
    assert "hand_mpjpe_mm" not in content


def test_stop_while_answers_are_compared_gives_the_report_without_accuracy(bench, report, scene, capfd):
    for index in range(3):
        send(bench, index, scene, scene)
    bench.nodes[0].asked_to_stop = lambda: True
    finish(bench, 3, object=SPHERE)
    content = json.loads(report.read_text())
    assert (content["frames_in"], content["complete"]) == (3, False)
    assert "hand_mpjpe_mm" not in content
    assert "stopped while comparing" in "".join(capfd.readouterr())


def test_a_comparison_that_is_broken_off_costs_no_report(bench, report, scene, monkeypatch):
    node = bench.nodes[0]
    inputs = node.statistics.inputs
    for index in range(3):
        send(bench, index, scene, scene)
    bench.wait(lambda: STATE in inputs and inputs[STATE].total == 3 and inputs[TRUTH].total == 3, "the states")

    def broken_off(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReportNode, "_make_score", broken_off)
    with pytest.raises(KeyboardInterrupt):
        node._report(final=True)
    node.close()
    content = json.loads(report.read_text())
    assert (content["frames_in"], content["complete"]) == (3, False)
    assert "hand_mpjpe_mm" not in content


def test_states_of_a_source_without_truth_are_not_kept(bench, report, scene):
    """A camera may run for days."""
    node = bench.nodes[0]
    bench.publish(to_message(SourceStatus(source="0")), STATUS, latched=True)
    bench.wait(lambda: STATUS in node.statistics.inputs, "the status")
    for index in range(3):
        send(bench, index, scene)
    bench.wait(lambda: STATE in node.statistics.inputs and node.statistics.inputs[STATE].total == 3, "the states")
    assert not node._states
    finish(bench, 3)
    assert json.loads(report.read_text())["found_share"] == 1


def test_node_that_stays_reports_each_source_once(bench, scene, capfd):
    node = bench.start(ReportNode, grace_s=0.1, exit_when_finished=False)
    for kind, topic in ((CameraInfo, INFO), (HandObjectState, STATE)):
        bench.publisher(kind, topic)
    text = []

    def reports():
        text.append("".join(capfd.readouterr()))
        return "".join(text).count("report: {")

    for number in (1, 2):
        bench.publish(to_message(SourceStatus(source=f"source {number}")), STATUS, latched=True)
        bench.wait(lambda: node._status is not None and not node._status.finished, "the status")
        send(bench, 10 * number, scene)
        bench.wait(lambda: len(node._frames) == 1 and node._found, "the frame")
        bench.publish(to_message(SourceStatus(source=f"source {number}", finished=True)), STATUS, latched=True)
        bench.wait(lambda number=number: reports() >= number, f"report {number}")
    time.sleep(0.5)
    assert reports() == 2
    assert not node.finished.is_set()


@pytest.mark.parametrize("name", ["a_folder", "a_file/report.json"])
def test_file_that_cannot_be_written_is_said_before_the_work(bench, tmp_path, name):
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_file").write_text("x")
    with pytest.raises(InputError, match="'report_file'"):
        bench.start(ReportNode, report_file=str(tmp_path / name))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a_file", "a_folder"]


def test_error_of_the_source_is_in_the_report(bench, report):
    finish(bench, 0, error="clip: no such folder")
    content = json.loads(report.read_text())
    assert content["error"] == "clip: no such folder"
    assert content["frames_in"] == 0


def test_what_cannot_be_compared_is_said(bench, report, scene, capfd):
    send(bench, 0, scene, scene)
    finish(bench, 1)
    assert "cannot be compared with the truth: the object is not known" in "".join(capfd.readouterr())
    assert json.loads(report.read_text())["frames_out"] == 1


def test_bad_messages_are_counted_and_the_next_is_served(bench, report, scene, capfd):
    bench.publish(String(data="{"), STATUS, latched=True)
    bench.publish(HandObjectState(), STATE)
    bench.wait(lambda: bench.dropped("report_node", f"bad {STATE}") == 1, "the count of states")
    bench.wait(lambda: bench.dropped("report_node", f"bad {STATUS}") >= 1, "the count of statuses")
    send(bench, 0, scene)
    finish(bench, 1)
    assert json.loads(report.read_text())["frames_out"] == 1
    assert "expected JSON" in "".join(capfd.readouterr())


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a" / "report.json"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]
