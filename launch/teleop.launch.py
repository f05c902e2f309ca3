"""A camera's hand moves a robot hand: perception, fitting without an object, retargeting and the browser page.

It goes on until Ctrl-C, or until a recording that is given as source has ended.
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
ARGUMENTS = {
    "namespace": ("", "Namespace of all nodes and topics.", None),
    "params_file": ("", "YAML with parameters, which go before those of config/live.yaml.", None),
    "log_level": ("info", "Least severe message.", ["debug", "info", "warn", "error"]),
    "use_sim_time": ("false", "Take the time of day from /clock.", YES_NO),
    "source": ("0", "Number of a camera, a clip folder, a video file or a bag.", None),
    "frames": ("0", "Frames to play; 0 = all.", None),
    "robot": ("generic", "Robot hand: generic, one that 'grasp-nodes hands' lists, or the path of a URDF file.", None),
    "robot_side": ("right", "Side of the robot hand and of the hand that it follows.", ["right", "left"]),
    "mode": (
        "dexpilot",
        "vector: directions and scaled lengths; dexpilot: these, and pinches; position: fingertips on the human's.",
        ["vector", "dexpilot", "position"],
    ),
    "backend": ("own", "Solver: the package's own, or dex_retargeting.", ["own", "dex_retargeting"]),
    "device": ("cpu", "Device of the hand model.", ["cpu", "cuda"]),
    "viewer": ("true", "Serve the page for the browser.", YES_NO),
    "launch_rviz": ("false", "Start rviz2, which needs an installed ROS 2.", YES_NO),
    "record": ("", "Folder of an MCAP bag to record; empty = none.", None),
}


def start_nodes(context: Any) -> list[Any]:
    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    def text(name: str) -> ParameterValue:
        # Read as YAML, the camera 0 would be a number.
        return ParameterValue(value(name), value_type=str)

    config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config"])
    files = [PathJoinSubstitution([config, "live.yaml"]), *([value("params_file")] if value("params_file") else [])]
    clock = {"use_sim_time": True} if value("use_sim_time") == "true" else {}

    def node(executable: str, parameters: dict[str, Any], on_exit: Any = None) -> Node:
        return Node(
            package=PACKAGE,
            executable=executable,
            name=executable,
            namespace=value("namespace"),
            parameters=[*files, clock | parameters],
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
            on_exit=on_exit,
        )

    side, robot = value("robot_side"), text("robot")
    nodes = [
        node("perception_node", {"object_backend": "none"}, Shutdown(reason="perception_node has ended")),
        node("fitting_node", {"device": value("device")}, Shutdown(reason="fitting_node has ended")),
        node(
            "retargeting_node",
            {"robot": robot, "side": side, "mode": value("mode"), "backend": value("backend")},
            Shutdown(reason="retargeting_node has ended"),
        ),
        node(
            "source_node",
            {"source": text("source"), "frames": int(value("frames")), "pace": "realtime"},
            Shutdown(reason="the source has ended"),
        ),
    ]
    if value("viewer") == "true":
        nodes.append(node("viewer_node", {"robot": robot, "robot_side": side}))
    if value("record"):
        nodes.append(node("recorder_node", {"output": text("record")}))
    if value("launch_rviz") == "true":
        arguments = ["-d", PathJoinSubstitution([config, "rviz", "demo.rviz"])]
        nodes.append(
            Node(
                package="rviz2", executable="rviz2", namespace=value("namespace"), arguments=arguments, output="screen"
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)
        for name, (default, description, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_nodes)])
