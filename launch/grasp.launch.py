"""A rendered depth camera looks at an object on a table; its clouds become grasps, shown in rviz and on the page.

Clouds of a camera of yours: ``source:=none cloud:=/my_camera/points``.
"""

from __future__ import annotations

from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = "grasp_nodes"
YES_NO = ["true", "false"]
DEFAULTS: dict[str, str] = {}


def argument(name: str, default: str, description: str, choices: list[str] | None = None) -> DeclareLaunchArgument:
    DEFAULTS[name] = default
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


ARGUMENTS = [
    argument("namespace", "", "Namespace of all nodes and topics."),
    argument("params_file", "", "YAML with parameters; arguments given here go before it."),
    argument("log_level", "info", "Least severe message.", ["debug", "info", "warn", "error"]),
    argument(
        "use_sim_time", "false", "Take the time of day from /clock; without one, nothing that is timed happens.", YES_NO
    ),
    argument("source", "table", "table: the rendered camera; none: a camera of yours."),
    argument("cloud", "camera/depth/points", "Topic of the clouds."),
    argument("object", "", "Mesh or shape on the table, such as family:mug:12; empty = one by the seed."),
    argument("frames", "1", "Pictures of the rendered camera; the object turns between them."),
    argument("method", "auto", "Method of grasps."),
    argument("count", "16", "Grasps of each cloud."),
    argument("seed", "0", "Of the object on the table and of the grasps."),
    argument("device", "auto", "Where networks run.", ["auto", "cpu", "cuda"]),
    argument("launch_rviz", "false", "Start rviz2, which needs an installed ROS 2.", YES_NO),
    argument("viewer", "true", "Serve the page for the browser.", YES_NO),
    argument("record", "", "Folder of an MCAP bag to record; empty = none."),
    argument("stay", "true", "Go on showing when the rendered camera has ended.", YES_NO),
]
NUMBERS = ("frames", "count", "seed")


def to_parameter(name: str, text: str) -> Any:
    if DEFAULTS[name] in YES_NO:
        return text == "true"
    if name not in NUMBERS:
        # A text has to be named as one: it is read as YAML.
        return ParameterValue(text, value_type=str)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name}:={text}: expected a whole number") from error


def start_nodes(context: Any) -> list[Any]:
    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    def all_of(*names: str) -> dict[str, Any]:
        return {name: to_parameter(name, value(name)) for name in names}

    files = [value("params_file")] if value("params_file") else []
    # Nothing of a recording is lost, however long the first answer takes.
    patient = {"input_reliability": "reliable", "input_depth": 10}

    def node(executable: str, parameters: dict[str, Any], on_exit: Any = None, remappings: Any = ()) -> Node:
        return Node(
            package=PACKAGE,
            executable=executable,
            name=executable,
            namespace=value("namespace"),
            parameters=[*files, {**all_of("use_sim_time"), **parameters}],
            remappings=list(remappings),
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
            on_exit=on_exit,
        )

    grasping = all_of("method", "count", "seed", "device") | {"publish_state": True}
    is_rendered = value("source") != "none"
    if is_rendered:
        grasping |= {**patient, "queue_size": 10}
    nodes = [
        node(
            "grasp_node",
            grasping,
            on_exit=Shutdown(reason="grasp_node has ended"),
            remappings=[("object_cloud", value("cloud"))],
        )
    ]
    if is_rendered:
        ended = None if value("stay") == "true" else Shutdown(reason="the rendered camera has ended")
        playing = all_of("source", "object", "frames", "seed") | {"pace": "answered"}
        nodes.append(node("source_node", playing, on_exit=ended))
    if value("viewer") == "true":
        cloud = [("object_cloud", value("cloud"))]
        nodes.append(node("viewer_node", {**patient, "show_cloud": True, "show_trails": False}, remappings=cloud))
    if value("record"):
        topics = [
            "camera/color/image_raw",
            "camera/color/camera_info",
            f"{value('cloud')}:sensor_msgs/msg/PointCloud2",
            "grasps:grasp_msgs/msg/GraspArray",
            "hand_model_info",
        ]
        nodes.append(node("recorder_node", {"output": to_parameter("record", value("record")), "topics": topics}))
    if value("launch_rviz") == "true":
        rviz_config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "rviz", "grasp.rviz"])
        nodes.append(
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=value("namespace"),
                arguments=["-d", rviz_config],
                output="screen",
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_nodes)])
