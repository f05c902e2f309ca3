"""Which finder of the object the parameters ask for."""

import hashlib

import pytest

from grasp_nodes.errors import InputError, MissingDependencyError, MissingFileError
from grasp_nodes.nodes.object_segmenters import ObjectHint, choose_backend, make_segmenter, parse_box
from grasp_nodes.nodes.parameters import PerceptionParameters
from grasp_nodes.perception.depth_segmenter import DepthObjectSegmenter
from grasp_nodes.perception.foreground import ForegroundFinder
from grasp_nodes.perception.grabcut_segmenter import GrabCutObjectSegmenter
from grasp_nodes.perception.object_mask import MaskObjectSegmenter

BOX = [10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize(
    ("choice", "has_depth", "has_box", "expected"),
    [
        ("auto", True, False, "depth"),
        ("auto", False, True, "grabcut"),
        ("auto", False, False, "none"),
        ("grabcut", True, True, "grabcut"),
        ("topic", True, False, "topic"),
    ],
)
def test_auto_means_what_the_camera_allows(choice, has_depth, has_box, expected):
    assert choose_backend(choice, has_depth, has_box) == expected


@pytest.mark.parametrize(
    ("backend", "box", "kind"),
    [
        ("depth", None, DepthObjectSegmenter),
        ("depth", BOX, DepthObjectSegmenter),
        ("grabcut", BOX, GrabCutObjectSegmenter),
        ("topic", None, MaskObjectSegmenter),
        ("none", None, type(None)),
    ],
)
def test_backend_is_the_one_that_was_named(backend, box, kind):
    made = make_segmenter(backend, PerceptionParameters(), ObjectHint("mug", 0.1, box), ForegroundFinder())
    assert isinstance(made, kind)


@pytest.mark.parametrize("backend", ["grabcut", "onnx"])
def test_backend_that_needs_a_box_says_so(backend):
    with pytest.raises(InputError, match="needs the object's box"):
        make_segmenter(backend, PerceptionParameters(), ObjectHint(), ForegroundFinder())


def test_network_of_another_hash_is_refused(tmp_path):
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"not this one")
    wrong = hashlib.sha256(b"another").hexdigest()
    settings = PerceptionParameters(onnx_encoder=str(path), onnx_decoder=str(path), onnx_encoder_sha256=wrong)
    with pytest.raises((InputError, MissingDependencyError), match=r"SHA-256|onnxruntime"):
        make_segmenter("onnx", settings, ObjectHint(box=BOX), ForegroundFinder())


def test_network_that_is_not_there_is_named(tmp_path):
    settings = PerceptionParameters(onnx_encoder=str(tmp_path / "x.onnx"), onnx_encoder_sha256="0" * 64)
    with pytest.raises((MissingFileError, MissingDependencyError), match=r"x\.onnx|onnxruntime"):
        make_segmenter("onnx", settings, ObjectHint(box=BOX), ForegroundFinder())


def test_box_is_four_numbers():
    assert parse_box("10, 20,30,40") == BOX
    assert parse_box("") is None
    for text in ("1,2,3", "a,b,c,d", "5,0,1,9", "nan,0,1,1"):
        with pytest.raises(InputError, match="object_box"):
            parse_box(text)
