"""Names, remapping, command lines and parameter files, against the rules of ROS 2's design documents."""

import pytest

from grasp_nodes.embedded import NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.parameters import parse_value, read_parameter_file
from grasp_nodes.embedded.process import expand_name, parse_arguments
from grasp_nodes.embedded.vocabulary import NameValidationException


@pytest.mark.parametrize(
    ("name", "namespace", "expected"),
    [
        ("image", "/", "/image"),
        ("image", "/left", "/left/image"),
        ("/image", "/left", "/image"),
        ("~/image", "/", "/node/image"),
        ("~/image", "/left/arm", "/left/arm/node/image"),
        ("camera/image", "/left", "/left/camera/image"),
    ],
)
def test_names_are_expanded(name, namespace, expected):
    assert expand_name(name, "node", namespace) == expected


@pytest.mark.parametrize("name", ["", "/", "1image", "a b", "image/", "a//b", "~", "a~", "{node}/x", "/ümlaut"])
def test_names_that_the_graph_forbids_are_refused(name):
    with pytest.raises(NameValidationException, match="letters, digits"):
        expand_name(name, "node", "/")


@pytest.mark.parametrize(
    ("name", "namespace"), [("a/b", "/"), ("1a", "/"), ("", "/"), ("node", "/left arm"), ("node", "//a//b")]
)
def test_node_names_and_namespaces_are_checked(ros, name, namespace):
    from rclpy.node import Node

    with pytest.raises(NameValidationException, match=r"name .*: (use letters|a '/' belongs)"):
        Node(name, namespace=namespace)


def test_remaps_apply_once_and_in_order():
    arguments = parse_arguments(["--ros-args", "-r", "a:=b", "-r", "b:=c", "--remap", "/x/y:=~/z"])
    assert arguments.remap("/a", "node", "/") == "/b"
    assert arguments.remap("/b", "node", "/") == "/c"
    assert arguments.remap("/x/y", "node", "/n") == "/n/node/z"
    assert arguments.remap("/other", "node", "/") == "/other"


def test_remaps_are_relative_to_the_namespace():
    arguments = parse_arguments(["--ros-args", "-r", "image:=/camera/image"])
    assert arguments.remap("/left/image", "node", "/left") == "/camera/image"
    assert arguments.remap("/image", "node", "/left") == "/image"


def test_only_what_follows_the_marker_is_read():
    arguments = parse_arguments(
        ["prog", "-v", "--ros-args", "-p", "a:=1", "--", "-p", "b:=2", "--ros-args", "-p", "c:=3"]
    )
    assert arguments.overrides("node", "/") == {"a": 1, "c": 3}


def test_the_log_level_is_that_of_every_logger(ros, capfd):
    import rclpy
    from rclpy.logging import get_logger

    rclpy.shutdown()
    rclpy.init(args=["--ros-args", "--log-level", "warn"])
    get_logger("a").info("hidden")
    get_logger("a").warning("shown")
    assert [line.rpartition(": ")[2] for line in capfd.readouterr().err.splitlines()] == ["shown"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-r", "a"], "expected name:=value"),
        (["-r", "a:="], "expected name:=value"),
        (["-p"], "needs a value"),
        (["--what"], "unknown argument '--what'"),
        (["--log-level", "a.b:=debug"], "unknown log level"),
        (["--log-level", "loud"], "unknown log level 'loud'.*debug"),
        (["-p", "a:=[1, two]"], "list of one of them"),
        (["-p", "a:={b: 1}"], "list of one of them"),
        (["-p", "a:=[1,"], "not YAML"),
    ],
)
def test_bad_arguments_are_named(words, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_arguments(["--ros-args", *words])


@pytest.mark.parametrize("words", [["-r", "node:a:=b"], ["-p", "node:rate:=2.0"], ["-r", "rostopic://a:=b"]])
def test_rules_for_one_node_of_several_are_refused(words):
    with pytest.raises(NotSupportedByEmbeddedRuntime, match="not supported by the embedded ROS runtime"):
        parse_arguments(["--ros-args", *words])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1.0", 1.0),
        ("1e-3", 0.001),
        ("-2E5", -200000.0),
        (".5e1", 5.0),
        ("true", True),
        ("mug", "mug"),
        ("'1'", "1"),
        ("", ""),
        ("/a/b", "/a/b"),
        ("sphere:0.117", "sphere:0.117"),
        ("[1, 2]", [1, 2]),
        ("[1, 2.5]", [1.0, 2.5]),
        ("[a, b]", ["a", "b"]),
        ("1e3x", "1e3x"),
    ],
)
def test_values_have_the_types_that_rcl_gives_them(text, expected):
    value = parse_value(text)
    assert value == expected
    assert type(value) is type(expected)


FILE = """
/**:
  ros__parameters:
    rate: 1.0
    nested: {a: 1, b: {c: two}}
    use: all
node:
  ros__parameters: {rate: 2.0}
/left/node:
  ros__parameters: {rate: 3.0}
/**/right/node:
  ros__parameters: {rate: 4.0}
/*/other:
  ros__parameters: {use: one level}
"""


@pytest.mark.parametrize(
    ("node", "namespace", "rate", "use"),
    [
        ("node", "/", 2.0, "all"),
        ("node", "/left", 3.0, "all"),
        ("node", "/right", 4.0, "all"),
        ("node", "/far/right", 4.0, "all"),
        ("node", "/far/away", 1.0, "all"),
        ("other", "/left", 1.0, "one level"),
        ("other", "/", 1.0, "all"),
        ("other", "/a/b", 1.0, "all"),
    ],
)
def test_parameter_files_address_nodes_by_name_and_wildcard(parameter_file, node, namespace, rate, use):
    values = read_parameter_file(parameter_file(FILE), node, namespace)
    assert values == {"rate": rate, "use": use, "nested.a": 1, "nested.b.c": "two"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- 1", "ros__parameters"),
        ("node: 3", "node: expected 'NODE: {ros__parameters:"),
        ("node: {ros__parameters: {a: [1, b]}}", "a: expected a bool"),
        ("a: [", "not YAML"),
    ],
)
def test_bad_parameter_files_are_named(parameter_file, text, complaint):
    path = parameter_file(text)
    with pytest.raises(ValueError, match=complaint) as error:
        read_parameter_file(path, "node", "/")
    assert str(path) in str(error.value)


def test_a_missing_parameter_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.yaml not found"):
        read_parameter_file(tmp_path / "no.yaml", "node", "/")


def test_the_command_line_overrides_files(parameter_file):
    path = str(parameter_file(FILE))
    arguments = parse_arguments(["--ros-args", "-p", "rate:=9.0", "--params-file", path])
    assert arguments.overrides("node", "/")["rate"] == 9.0


def test_a_bad_namespace_is_named_not_the_node_in_it():
    with pytest.raises(NameValidationException, match="'/bad-name/node'"):
        expand_name("node", "", "/bad-name")
