from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.perception.grabcut_segmenter import GrabCutObjectSegmenter
from grasp_nodes.perception.model_files import sha256_of
from grasp_nodes.perception.object_boxes import FirstFrameBox, GivenBoxes, PromptedSegmenter, hand_gaps
from grasp_nodes.perception.onnx_detector import OnnxBoxDetector

OBJECT = 2
NEAR, FAR = [150, 100, 190, 140], [10, 10, 60, 60]


def iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def test_the_users_box_counts_once_and_again_after_a_reset(scene):
    source = FirstFrameBox([10, 20, 40, 60], "mug")
    (first,) = source.boxes(scene().frame, [])
    np.testing.assert_array_equal(first.box, [10, 20, 40, 60])
    assert first.object_id == "mug"
    assert first.mask is None
    assert not source.boxes(scene().frame, [])
    source.reset()
    assert source.boxes(scene().frame, [])


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, 1], [0, 0, np.nan, 1]])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(InputError, match="object box"):
        FirstFrameBox(box)


def test_a_box_beside_the_image_is_named(scene):
    with pytest.raises(InputError, match="320 x 240"):
        FirstFrameBox([400, 20, 440, 60]).boxes(scene().frame, [])


def test_given_boxes_wait_for_their_image_and_prefer_the_hand(scene):
    shown = scene(hand_origin=(0.05, 0.09, 0.55), stamp=1_000_000_000)
    source = GivenBoxes("mug", max_age=50)
    assert not source.boxes(shown.frame, [])
    source.set_boxes(1_000_000_000, np.array([FAR, NEAR]), np.array([0.9, 0.6]))
    source.set_boxes(2_000_000_000, np.zeros((0, 4)), np.zeros(0))
    np.testing.assert_array_equal(source.boxes(shown.frame, [shown.hand])[0].box, NEAR)
    np.testing.assert_array_equal(source.boxes(shown.frame, [])[0].box, FAR)
    assert not source.boxes(replace(shown.frame, stamp=2_000_000_000), [])
    assert not source.boxes(replace(shown.frame, stamp=1_000_000_100), [])
    source.set_boxes(1_000_000_000, np.array([FAR, NEAR, NEAR]), np.array([0.1, 0.9, 0.9]), ["mug", "cup", ""])
    source.reset()
    assert not source.boxes(shown.frame, [])


def test_a_detection_of_the_objects_name_is_chosen_whatever_the_score(scene):
    source = GivenBoxes("mug")
    source.set_boxes(0, np.array([FAR, NEAR]), np.array([0.5, 0.9]), ["mug", "cat"])
    (only,) = source.boxes(scene().frame, [])
    np.testing.assert_array_equal(only.box, FAR)


def test_bad_detections_are_refused():
    source = GivenBoxes()
    with pytest.raises(InputError, match=r"\(N, 4\)"):
        source.set_boxes(0, np.zeros((2, 4)), np.zeros(3))
    with pytest.raises(InputError, match="x_min < x_max"):
        source.set_boxes(0, np.array([[5.0, 5, 5, 9]]), np.ones(1))


def test_gaps_are_measured_from_the_nearest_landmark_in_sizes_of_the_hand(scene):
    hand = scene(hand_origin=(0.0, 0.0, 0.5)).hand
    points = np.zeros((21, 2), np.float32)
    points[1] = [100, 0]
    gaps = hand_gaps(np.array([[130.0, 40.0, 150, 60], [-10, -10, 10, 10]]), replace(hand, keypoints=points))
    np.testing.assert_allclose(gaps, [0.5, 0.0])


def test_a_segmenter_starts_from_the_first_box(scene):
    still = scene()
    rows, columns = np.nonzero(still.labels == OBJECT)
    source = GivenBoxes(max_age=10)
    segmenter = PromptedSegmenter(source, GrabCutObjectSegmenter)
    assert not segmenter.segment(still.frame, [])
    box = [columns.min() - 4, rows.min() - 4, columns.max() + 4, rows.max() + 4]
    source.set_boxes(0, np.array([box]), np.ones(1))
    (found,) = segmenter.segment(still.frame, [])
    assert iou(found.mask, still.labels == OBJECT) > 0.8
    # Without a new box it goes on by itself, and after a reset it waits again.
    (later,) = segmenter.segment(replace(still.frame, stamp=1000), [])
    assert later.mask is not None
    segmenter.reset()
    assert not segmenter.segment(still.frame, [])


LAYOUTS = {
    # Canvas of 160 x 160 for an image of 320 x 240: half the size. All four say: NEAR with 0.8, FAR with 0.9.
    "boxes_scores": [
        np.array([NEAR, FAR], np.float32) / 2 + 0.25,
        np.array([3, 7], np.int64),
        np.array([0.8, 0.9], np.float32),
    ],
    "detections": [
        np.array([[*(np.array(NEAR) / 2 + 0.25), 0.8, 3], [*(np.array(FAR) / 2 + 0.25), 0.9, 7]], np.float32)[None]
    ],
    "grid": [
        np.array(
            [
                [85.25, 17.75, 85.25] + [0] * 9,
                [60.25, 17.75, 60.75] + [0] * 9,
                [20, 25, 20] + [0] * 9,
                [20, 25, 20] + [0] * 9,
                [0.8, 0.1, 0.7] + [0] * 9,
                [0.2, 0.9, 0.1] + [0] * 9,
            ],
            np.float32,
        )[None]
    ],
    "grid_objectness": [
        np.array(
            [[85.25, 60.25, 20, 20, 1.0, 0.8, 0.1], [17.75, 17.75, 25, 25, 0.9, 0.1, 1.0]]
            + [[1, 1, 1, 1, 0.1, 0.1, 0.1]] * 10,
            np.float32,
        )[None]
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("told", [True, False])
def test_detections_of_every_layout_become_boxes_of_the_image(scene, layout, told):
    asked = []

    def network(inputs):
        asked.append(inputs["images"])
        return LAYOUTS[layout]

    shown = scene(hand_origin=(0.05, 0.09, 0.55))
    detector = OnnxBoxDetector(network, layout=layout if told else None, size=(160, 160))
    found = detector.boxes(shown.frame, [])
    assert len(found) == 2
    np.testing.assert_allclose(found[0].box, FAR, atol=1e-3)
    np.testing.assert_allclose(found[1].box, NEAR, atol=1e-3)
    np.testing.assert_allclose([each.score for each in found], [0.9, 0.8], atol=1e-6)
    np.testing.assert_allclose(detector.boxes(shown.frame, [shown.hand])[0].box, NEAR, atol=1e-3)
    image = asked[0]
    assert image.shape == (1, 3, 160, 160)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0, :, 120:], 114 / 255, atol=1e-6)
    np.testing.assert_allclose(
        image[0, :, :120].mean(axis=(1, 2)), shown.frame.color.mean(axis=(0, 1)) / 255, atol=0.005
    )


def test_shares_of_the_canvas_are_pixels_too(scene):
    outputs = [LAYOUTS["boxes_scores"][0] / 160, LAYOUTS["boxes_scores"][2]]
    found = OnnxBoxDetector(lambda _: outputs, size=(160, 160)).boxes(scene().frame, [])
    np.testing.assert_allclose(found[0].box, FAR, atol=1e-3)


def test_outputs_of_another_layout_are_named(scene):
    with pytest.raises(InputError, match="layout"):
        OnnxBoxDetector(lambda _: [np.zeros((1, 3, 7, 9))]).boxes(scene().frame, [])
    with pytest.raises(InputError, match="detector layout"):
        OnnxBoxDetector(lambda _: [], layout="rows")


def test_a_network_file_is_loaded_and_its_sum_is_told(tmp_path, scene, caplog):
    onnx = pytest.importorskip("onnx", reason="makes the network")
    pytest.importorskip("onnxruntime", reason="runs it")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    # Brightness moves the box: its corner is the mean of the image, in shares of the canvas.
    rows = onnx.numpy_helper.from_array(np.array([[[0.2, 0.2, 0.6, 0.6, 0.9, 1.0]]], np.float32), "rows")
    zero = onnx.numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "zero")
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["found"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", float32, [1, 3, 96, 128])],
        [helper.make_tensor_value_info("found", float32, [1, 1, 6])],
        [rows, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.checker.check_model(model)
    path = tmp_path / "detector.onnx"
    onnx.save(model, str(path))
    with caplog.at_level("INFO"):
        detector = OnnxBoxDetector.from_file(path)
    assert sha256_of(path) in caplog.text
    (found,) = detector.boxes(scene().frame, [])
    np.testing.assert_allclose(found.box, np.array([0.2 * 128, 0.2 * 96, 0.6 * 128, 0.6 * 96]) * 2.5 - 0.5, atol=1e-3)
    with pytest.raises(InputError, match="SHA-256"):
        OnnxBoxDetector.from_file(path, sha256="0" * 64)
