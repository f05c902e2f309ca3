"""Parameters of a node, as rclpy documents them."""

import pytest


@pytest.fixture
def make(ros):
    from rclpy.node import Node
    from rclpy.parameter import Parameter

    def build(overrides=None):
        given = [Parameter(name, value=value) for name, value in (overrides or {}).items()]
        return Node("node", parameter_overrides=given)

    return build


def ranged(low, high):
    from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor

    return ParameterDescriptor(
        description="a number", floating_point_range=[FloatingPointRange(from_value=low, to_value=high)]
    )


def accepted(node, **values):
    from rclpy.parameter import Parameter

    return [(r.successful, r.reason) for r in node.set_parameters([Parameter(n, value=v) for n, v in values.items()])]


@pytest.mark.parametrize("value", [True, 3, 2.5, "mug", [True, False], [1, 2], [0.5], ["a", "b"]])
def test_values_of_every_type_travel_through_messages(value):
    from rclpy.parameter import Parameter

    parameter = Parameter("p", value=value)
    back = Parameter.from_parameter_msg(parameter.to_parameter_msg())
    assert (back.name, back.type_, back.value) == ("p", parameter.type_, value)
    assert type(back.value) is type(value)


@pytest.mark.parametrize("value", [None, {"a": 1}, [1, "a"], b"x", 1j])
def test_values_that_no_parameter_can_hold_are_refused(value):
    from rclpy.parameter import Parameter

    with pytest.raises(TypeError, match="a parameter is a bool, int, float, str or a list"):
        Parameter("p", value=value)


def test_overrides_win_over_defaults(make):
    node = make({"rate": 5.0, "names": []})
    assert node.declare_parameter("rate", 1.0).value == 5.0
    assert node.declare_parameter("other", 1.0).value == 1.0
    assert node.get_parameter("rate").value == 5.0
    assert node.declare_parameter("names", ["a"]).value == []


def test_overrides_from_the_command_line():
    import rclpy
    from rclpy.node import Node

    rclpy.init(args=["--ros-args", "-p", "rate:=5.0", "-p", "names:=[a, b]", "-r", "__ns:=/left"])
    try:
        node = Node("node")
        assert node.declare_parameter("rate", 1.0).value == 5.0
        assert node.declare_parameter("names", ["x"]).value == ["a", "b"]
        assert (node.get_name(), node.get_namespace()) == ("node", "/left")
        assert node.get_fully_qualified_name() == "/left/node"
        assert node.get_logger().name == "left.node"
    finally:
        rclpy.shutdown()


def test_an_override_of_another_type_is_refused_with_the_remedy(make):
    from rclpy.exceptions import ParameterException

    node = make({"rate": 5})
    with pytest.raises(ParameterException, match=r"'rate' is a DOUBLE.*INTEGER.*write 5\.0"):
        node.declare_parameter("rate", 1.0)


def test_an_override_out_of_range_is_refused(make):
    from rclpy.exceptions import ParameterException

    node = make({"rate": 50.0})
    with pytest.raises(ParameterException, match=r"'rate': 50.0 is outside the range 0.0..10.0"):
        node.declare_parameter("rate", 1.0, ranged(0.0, 10.0))
    with pytest.raises(ParameterException, match="not declared"):
        node.get_parameter("rate")


def test_ranges_types_and_read_only_are_kept(make):
    from rcl_interfaces.msg import IntegerRange, ParameterDescriptor

    node = make()
    node.declare_parameter("rate", 1.0, ranged(0.0, 10.0))
    node.declare_parameter("n", 0, ParameterDescriptor(integer_range=[IntegerRange(from_value=0, to_value=9)]))
    node.declare_parameter("model", "a", ParameterDescriptor(read_only=True))
    node.declare_parameter("names", ["a"])
    assert accepted(node, rate=10.0) == [(True, "")]
    assert "outside the range 0.0..10.0" in accepted(node, rate=10.5)[0][1]
    assert "outside the range 0..9" in accepted(node, n=10)[0][1]
    assert accepted(node, n=9) == [(True, "")]
    assert "is a DOUBLE, not a INTEGER" in accepted(node, rate=3)[0][1]
    assert "read-only" in accepted(node, model="b")[0][1]
    assert accepted(node, names=[]) == [(True, "")]
    assert "is a STRING_ARRAY, not a INTEGER_ARRAY" in accepted(node, names=[1])[0][1]
    assert [node.get_parameter(name).value for name in ("rate", "n", "model", "names")] == [10.0, 9, "a", []]
    assert node.get_parameter("names").type_.name == "STRING_ARRAY"
    described = node.describe_parameter("rate")
    assert (described.name, described.type, described.description) == ("rate", 3, "a number")


def test_callbacks_may_refuse(make):
    from rcl_interfaces.msg import SetParametersResult

    node = make()
    node.declare_parameter("rate", 1.0)
    seen = []

    def judge(parameters):
        seen.append([(p.name, p.value) for p in parameters])
        return SetParametersResult(successful=parameters[0].value < 5, reason="too fast")

    node.add_on_set_parameters_callback(judge)
    assert accepted(node, rate=7.0) == [(False, "too fast")]
    assert accepted(node, rate=2.0) == [(True, "")]
    assert seen == [[("rate", 7.0)], [("rate", 2.0)]]
    assert node.get_parameter("rate").value == 2.0


def test_atomic_sets_change_all_or_nothing(make):
    from rclpy.parameter import Parameter

    node = make()
    node.declare_parameter("a", 1)
    node.declare_parameter("b", 1.0, ranged(0.0, 2.0))
    result = node.set_parameters_atomically([Parameter("a", value=5), Parameter("b", value=5.0)])
    assert not result.successful
    assert node.get_parameter("a").value == 1


def test_undeclared_parameters(make):
    from rclpy.exceptions import ParameterException
    from rclpy.parameter import Parameter

    node = make()
    node.declare_parameter("a", 1)
    with pytest.raises(ParameterException, match="'b' is not declared"):
        node.get_parameter("b")
    with pytest.raises(ParameterException, match="'b' is not declared"):
        node.set_parameters([Parameter("b", value=1)])
    with pytest.raises(ParameterException, match="'a' is already declared"):
        node.declare_parameter("a", 1)


def test_changes_are_announced(ros, make, spin_until):
    from rcl_interfaces.msg import ParameterEvent

    node, events = make(), []
    node.create_subscription(ParameterEvent, "/parameter_events", events.append, 100)
    node.declare_parameter("rate", 1.0)
    accepted(node, rate=2.0)
    assert spin_until(lambda: len(events) >= 2, node)
    assert [p.name for p in events[-2].new_parameters] == ["rate"]
    assert events[-1].changed_parameters[0].value.double_value == 2.0
    assert events[-1].node == "/node"
