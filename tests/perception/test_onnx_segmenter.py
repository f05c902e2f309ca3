from __future__ import annotations

import builtins

import numpy as np
import pytest

from grasp_nodes.errors import InputError, MissingDependencyError, MissingFileError
from grasp_nodes.perception.model_files import sha256_of
from grasp_nodes.perception.onnx_segmenter import OnnxNetwork, OnnxObjectSegmenter

SIZE = 64


class FakeDecoder:
    """Says that the object is the box that it was given, and keeps what it was asked."""

    def __init__(self):
        self.asked = []
        self.score = 0.9

    def __call__(self, inputs):
        self.asked.append(dict(inputs))
        height, width = inputs["orig_im_size"].astype(int)
        scale = SIZE / max(height, width)
        # Segment Anything's own decoder adds one half to the points before it encodes their places.
        (x0, y0), (x1, y1) = (inputs["point_coords"][0, :2] + 0.5) / scale - 0.5
        rows, columns = np.mgrid[:height, :width]
        inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
        mask = np.where(inside, 5.0, -5.0).astype(np.float32)[None, None]
        return [mask, np.array([[self.score]], np.float32), np.full((1, 1, 256, 256), 7.0, np.float32)]


def encoder(inputs):
    assert inputs["image"].shape == (1, 3, SIZE, SIZE)
    return [np.zeros((1, 256, 4, 4), np.float32)]


def test_prompts_and_memory_follow_the_layout(scene):
    shown = scene(hand_origin=(0.05, 0.09, 0.55))
    decoder = FakeDecoder()
    segmenter = OnnxObjectSegmenter(encoder, decoder, [100, 80, 160, 150], image_size=SIZE)
    (first,) = segmenter.segment(shown.frame, [])
    np.testing.assert_allclose(first.box, [100, 80, 160, 150], atol=1.0)
    assert decoder.asked[0]["has_mask_input"] == [0.0]
    (second,) = segmenter.segment(shown.frame, [shown.hand])
    assert second.track_id == first.track_id
    asked = decoder.asked[1]
    assert asked["has_mask_input"] == [1.0]
    assert (asked["mask_input"] == 7.0).all()
    assert asked["point_labels"].tolist() == [[2.0, 3.0, 0.0, 0.0, 0.0, 0.0]]
    knuckle = (shown.hand.keypoints[9] + 0.5) * SIZE / 320 - 0.5
    np.testing.assert_allclose(asked["point_coords"][0, 3], knuckle, rtol=1e-5)


def test_a_doubtful_mask_is_not_passed_on(scene):
    decoder = FakeDecoder()
    segmenter = OnnxObjectSegmenter(encoder, decoder, [100, 80, 160, 150], image_size=SIZE)
    segmenter.segment(scene().frame, [])
    decoder.score = 0.1
    (lost,) = segmenter.segment(scene().frame, [])
    assert lost.mask is None
    assert lost.score < 0.9


def test_files_are_loaded_checked_and_run(tmp_path, scene):
    onnx = pytest.importorskip("onnx", reason="makes the two networks")
    pytest.importorskip("onnxruntime", reason="runs them")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT

    def save(name, nodes, inputs, outputs, constants=()):
        def info(entries):
            return [helper.make_tensor_value_info(key, float32, shape) for key, shape in entries]

        graph = helper.make_graph(nodes, name, info(inputs), info(outputs), list(constants))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(tmp_path / name))
        return tmp_path / name

    # Encoder: the image itself. Decoder: blue less red of the image, at the image's size, is the object.
    pool = helper.make_node("Identity", ["image"], ["embeddings"])
    first = save("encoder.onnx", [pool], [("image", [1, 3, 320, 320])], [("embeddings", [1, 3, 320, 320])])
    weight = helper.make_tensor("w", float32, [1, 3, 1, 1], [-1.0, 0.0, 1.0])
    ends = [
        onnx.numpy_helper.from_array(np.array(values, np.int64), key)
        for key, values in (("starts", [0, 0]), ("ends", [240, 320]), ("axes", [2, 3]))
    ]
    scores = onnx.numpy_helper.from_array(np.array([[0.9]], np.float32), "iou_predictions_value")
    nodes = [
        helper.make_node("Conv", ["image_embeddings", "w"], ["full"]),
        helper.make_node("Slice", ["full", "starts", "ends", "axes"], ["masks"]),
        helper.make_node("Identity", ["iou_predictions_value"], ["iou_predictions"]),
        helper.make_node("Identity", ["mask_input"], ["low_res_masks"]),
    ]
    second = save(
        "decoder.onnx",
        nodes,
        [("image_embeddings", [1, 3, 320, 320]), ("mask_input", [1, 1, 256, 256])],
        [("masks", [1, 1, 240, 320]), ("iou_predictions", [1, 1]), ("low_res_masks", [1, 1, 256, 256])],
        [weight, *ends, scores],
    )
    sums = (sha256_of(first), sha256_of(second))
    segmenter = OnnxObjectSegmenter.from_files(first, second, [100, 80, 200, 180], sha256=sums)
    shown = scene()
    (found,) = segmenter.segment(shown.frame, [])
    truth = shown.labels == 2
    assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.95
    with pytest.raises(InputError, match="SHA-256"):
        OnnxObjectSegmenter.from_files(first, second, [100, 80, 200, 180], sha256=(sums[1], sums[1]))
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"bad\.onnx"):
        OnnxNetwork(tmp_path / "bad.onnx", "")


def test_missing_parts_are_named(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="reads the file's sum after it is there")
    with pytest.raises(MissingFileError, match="absent"):
        OnnxNetwork(tmp_path / "absent.onnx", "00")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"grasp_nodes\[onnx\]"):
        OnnxNetwork(tmp_path / "absent.onnx", "")


def test_the_box_is_checked():
    with pytest.raises(InputError, match="object box"):
        OnnxObjectSegmenter(encoder, FakeDecoder(), [1, 1, 1, 1])
