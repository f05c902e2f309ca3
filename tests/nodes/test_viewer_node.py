"""viewer_node with a stand-in for the page: what reaches it, and that bad messages do not stop it."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from grasp_msgs.msg import HandObjectState
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from grasp_nodes.contact.interaction import FitStatus
from grasp_nodes.contact.interaction import HandObjectState as State
from grasp_nodes.geometry.camera import CameraModel
from grasp_nodes.nodes import viewer_node
from grasp_nodes.nodes.conversions.clouds import to_cloud
from grasp_nodes.nodes.conversions.images import to_camera_info, to_image
from grasp_nodes.nodes.conversions.states import to_state
from grasp_nodes.nodes.source_status import SourceStatus, to_message
from grasp_nodes.nodes.viewer_node import ViewerNode
from grasp_nodes.viewer import browser, page

COLOR, INFO, STATE = "camera/color/image_raw", "camera/color/camera_info", "hand_object/state"
CAMERA = CameraModel(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48)


class Paper:
    """A page that keeps what it is told."""

    address = "http://127.0.0.1:8080"

    def __init__(self, *_):
        self.told = {"image": [], "state": [], "camera": [], "object": [], "status": [], "cloud": []}
        self.closed = False

    def update_image(self, color, stamp):
        self.told["image"].append((color, stamp))

    def update_state(self, state):
        self.told["state"].append(state)

    def set_camera(self, camera):
        self.told["camera"].append(camera)

    def set_object(self, model):
        self.told["object"].append(model)

    def set_cloud(self, points, colors):
        self.told["cloud"].append((points, colors))

    def set_status(self, text, rates=None):
        self.told["status"].append((text, rates))

    def close(self):
        self.closed = True


@pytest.fixture
def paper(bench, monkeypatch):
    paper, opened = Paper(), []
    monkeypatch.setattr(page, "ViewerPage", lambda *_: paper)
    monkeypatch.setattr(browser, "open_in_browser", opened.append)
    bench.start(ViewerNode, input_reliability="reliable", input_depth=10, show_cloud=True)
    for kind, topic in ((Image, COLOR), (CameraInfo, INFO), (HandObjectState, STATE), (PointCloud2, "object_cloud")):
        bench.publisher(kind, topic)
    bench.wait(lambda: opened == [Paper.address], "the page to be opened")
    return paper


def state(stamp):
    return to_state(State(stamp, "c", status=FitStatus.NOTHING, status_text="no hand found"))


def test_image_camera_state_and_object_reach_the_page(bench, paper):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    bench.publish(
        to_message(SourceStatus(source="x", object="sphere:0.05", object_id="ball")), "source/status", latched=True
    )
    bench.publish(to_camera_info(CAMERA, 10**9), INFO)
    bench.publish(to_image(picture, "rgb8", 10**9, "c"), COLOR)
    bench.publish(state(10**9), STATE)
    bench.wait(lambda: paper.told["state"] and paper.told["image"], "image and state")
    np.testing.assert_array_equal(paper.told["image"][0][0], picture)
    assert paper.told["image"][0][1] == 10**9
    assert paper.told["state"][0].status_text == "no hand found"
    np.testing.assert_array_equal(paper.told["camera"][0].camera_k, CAMERA.camera_k)
    bench.wait(lambda: paper.told["object"], "the object")
    assert paper.told["object"][0].object_id == "ball"


def test_page_says_why_nothing_is_seen(bench, paper):
    bench.wait(lambda: paper.told["status"], "a status")
    assert paper.told["status"][0][0] == "nothing on hand_object/state"
    level, text = DiagnosticStatus.WARN, "no message on camera/color/camera_info (0 publishers)"
    own = bench.nodes[0].get_fully_qualified_name().rsplit("/", 1)[0]
    other = DiagnosticStatus(level=level, name=f"{own}/perception_node", message=text, hardware_id="grasp_nodes")
    stranger = DiagnosticStatus(level=level, name="/motor", message="hot", hardware_id="motor 3")
    bench.publish(DiagnosticArray(status=[other, stranger]), "/diagnostics")
    bench.wait(lambda: paper.told["status"][-1][0] == f"perception_node: {text}", "the reason on the page")


def test_nodes_that_have_ended_or_are_of_another_graph_are_not_quoted(bench, paper, monkeypatch):
    monkeypatch.setattr(viewer_node, "FORGOTTEN_SECONDS", 1.5)
    own = bench.nodes[0].get_fully_qualified_name().rsplit("/", 1)[0]
    bench.wait(lambda: paper.told["status"], "a status")

    def said(name, message):
        return DiagnosticStatus(level=DiagnosticStatus.WARN, name=name, message=message, hardware_id="grasp_nodes")

    foreign = said(f"/somewhere{own}/fitting_node", "not ours")
    bench.publish(DiagnosticArray(status=[said(f"{own}/fitting_node", "ours"), foreign]), "/diagnostics")
    bench.wait(lambda: paper.told["status"][-1][0] == "fitting_node: ours", "the reason on the page")
    bench.wait(lambda: paper.told["status"][-1][0] == "nothing on hand_object/state", "the reason to be forgotten")
    assert not any("not ours" in text for text, _ in paper.told["status"])


def test_cloud_reaches_the_page_with_its_colours(bench, paper):
    rng = np.random.default_rng(1)
    points, colors = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 256, (50, 3), dtype=np.uint8)
    points[7] = np.nan
    bench.publish(to_cloud(points, 10**9, "c", colors), "object_cloud")
    bench.wait(lambda: paper.told["cloud"], "the cloud")
    shown, paint = paper.told["cloud"][0]
    np.testing.assert_array_equal(shown, np.delete(points, 7, axis=0))
    np.testing.assert_array_equal(paint, np.delete(colors, 7, axis=0))
    bench.publish(to_cloud(points, 2 * 10**9, "c"), "object_cloud")
    bench.wait(lambda: len(paper.told["cloud"]) == 2, "the cloud without colours")
    assert paper.told["cloud"][1][1] is None


def test_bad_image_and_bad_state_cost_only_themselves(bench, paper):
    bad = to_image(np.zeros((48, 64, 3), np.uint8), "rgb8", 10**9, "c")
    bad.step = 1
    bench.publish(bad, COLOR)
    wrong = state(10**9)
    wrong.status = 77
    bench.publish(wrong, STATE)
    bench.publish(state(2 * 10**9), STATE)
    bench.wait(lambda: paper.told["state"], "the good state")
    assert paper.told["state"][0].stamp == 2 * 10**9
    bench.wait(lambda: bench.dropped("viewer_node", f"bad {COLOR}") == 1, "the count of images")
    bench.wait(lambda: bench.dropped("viewer_node", f"bad {STATE}") == 1, "the count of states")


def test_page_is_closed_with_the_node(bench, paper):
    bench.nodes[0].close()
    assert paper.closed
