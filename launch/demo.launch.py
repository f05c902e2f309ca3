"""Plays a clip, a recording or a camera through perception, fitting and the browser page, and reports how well it went.

It ends by itself when the source has ended, unless ``loop:=true``.
"""

from __future__ import annotations

from pathlib import Path
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
    argument(
        "params_file",
        "",
        "YAML with parameters, which go before those of config/demo.yaml (config/live.yaml at pace realtime and for "
        "cameras); arguments given here go before both.",
    ),
    argument("log_level", "info", "Least severe message.", ["debug", "info", "warn", "error"]),
    argument(
        "use_sim_time", "false", "Take the time of day from /clock; without one, nothing that is timed happens.", YES_NO
    ),
    argument(
        "source", "", "Clip or stereo folder, video file, MCAP or db3 bag, number of a camera; empty = a rendered clip."
    ),
    argument(
        "object", "", "Mesh file of the object, or a shape such as sphere:0.117 (radius in m); empty = the clip's own."
    ),
    argument("object_scale", "1.0", "Factor that turns the mesh's units into m, 0.001 for mm."),
    argument("frames", "0", "Frames to play; 0 = all."),
    argument("seed", "0", "Seed of the rendered clip and of the search for the object's pose."),
    argument("device", "cpu", "Device of the hand model; the solver itself works on the CPU.", ["cpu", "cuda"]),
    argument("launch_rviz", "false", "Start rviz2, which needs an installed ROS 2.", YES_NO),
    argument("viewer", "true", "Serve the page for the browser.", YES_NO),
    argument(
        "robot",
        "",
        "Robot hand that follows: generic, one that 'grasp-nodes hands' lists, or a URDF file; empty = none.",
    ),
    argument("robot_side", "right", "Side of the robot hand and of the hand that it follows.", ["right", "left"]),
    argument("record", "", "Folder of an MCAP bag to record; empty = none."),
    argument("loop", "false", "Play again and again.", YES_NO),
    argument("report_file", "", "JSON file of the report; empty = only logged."),
    argument(
        "pace",
        "auto",
        "realtime: as recorded, frames may be skipped; answered: every frame is worked on; auto: answered for "
        "recordings, realtime for cameras.",
        ["auto", "realtime", "answered"],
    ),
]
NUMBERS = {"frames": int, "seed": int, "object_scale": float}


def to_parameter(name: str, text: str) -> Any:
    if DEFAULTS[name] in YES_NO:
        return text == "true"
    if name not in NUMBERS:
        # A text has to be named as one: it is read as YAML, and source:=0 would be a number.
        return ParameterValue(text, value_type=str)
    try:
        return NUMBERS[name](text)
    except ValueError as error:
        wanted = "a whole number" if NUMBERS[name] is int else "a number"
        raise ValueError(f"{name}:={text}: expected {wanted}") from error


def start_nodes(context: Any) -> list[Any]:
    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    def given(*names: str) -> dict[str, Any]:
        # What was not given is left to the parameter files.
        return {name: to_parameter(name, value(name)) for name in names if value(name) != DEFAULTS[name]}

    config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config"])
    is_live = value("pace") == "realtime" or value("source").isdigit()
    files = [PathJoinSubstitution([config, "live.yaml" if is_live else "demo.yaml"])]
    if value("params_file"):
        files.append(value("params_file"))

    def node(executable: str, parameters: dict[str, Any], on_exit: Any = None) -> Node:
        return Node(
            package=PACKAGE,
            executable=executable,
            name=executable,
            namespace=value("namespace"),
            parameters=[*files, {**given("use_sim_time"), **parameters}],
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
            on_exit=on_exit,
        )

    the_object = given("object", "object_scale")
    if Path(value("source")).is_dir():
        # The source tells the others of its clip's mesh, which lies in the clip.
        the_object["mesh_roots"] = ["", str(Path(value("source")).resolve())]
    nodes = [
        node("perception_node", the_object, on_exit=Shutdown(reason="perception_node has ended")),
        node("fitting_node", the_object | given("device", "seed"), on_exit=Shutdown(reason="fitting_node has ended")),
        node(
            "report_node", the_object | given("device", "report_file"), on_exit=Shutdown(reason="the report is written")
        ),
        node("source_node", the_object | given("source", "frames", "seed", "loop", "pace")),
    ]
    robot = given("robot", "robot_side")
    if value("robot"):
        side = {"side": robot["robot_side"]} if "robot_side" in robot else {}
        nodes.append(node("retargeting_node", the_object | {"robot": robot["robot"]} | side))
    if value("viewer") == "true":
        nodes.append(node("viewer_node", the_object | (robot if value("robot") else {})))
    if value("record"):
        nodes.append(node("recorder_node", {"output": to_parameter("record", value("record"))}))
    if value("launch_rviz") == "true":
        rviz_config = PathJoinSubstitution([config, "rviz", "demo.rviz"])
        # The topics in its configuration are relative names.
        arguments = ["-d", rviz_config]
        nodes.append(
            Node(
                package="rviz2", executable="rviz2", namespace=value("namespace"), arguments=arguments, output="screen"
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_nodes)])
