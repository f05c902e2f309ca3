"""Plays a clip, a recording or a camera through perception, fitting and the browser page, and reports how well it went.

It ends by itself when the source has ended, unless ``loop:=true``.
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
ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes and topics."),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="YAML with parameters; empty = config/demo.yaml, or live.yaml at pace realtime and for cameras.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error"],
        description="Least severe message.",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=YES_NO, description="Take the time of day from /clock."
    ),
    DeclareLaunchArgument(
        "source",
        default_value="",
        description="Clip or stereo folder, video file, MCAP or db3 bag, number of a camera; empty = a rendered clip.",
    ),
    DeclareLaunchArgument(
        "object",
        default_value="",
        description="Mesh file of the object, or a shape such as sphere:0.117 (radius in m); empty = the clip's own.",
    ),
    DeclareLaunchArgument("frames", default_value="0", description="Frames to play; 0 = all."),
    DeclareLaunchArgument("seed", default_value="0", description="Seed of the rendered clip."),
    DeclareLaunchArgument("device", default_value="cpu", choices=["cpu", "cuda"], description="Device of the fit."),
    DeclareLaunchArgument("launch_rviz", default_value="false", choices=YES_NO, description="Start rviz2."),
    DeclareLaunchArgument(
        "viewer", default_value="true", choices=YES_NO, description="Serve the page for the browser."
    ),
    DeclareLaunchArgument("record", default_value="", description="Folder of an MCAP bag to record; empty = none."),
    DeclareLaunchArgument("loop", default_value="false", choices=YES_NO, description="Play again and again."),
    DeclareLaunchArgument("report_file", default_value="", description="JSON file of the report; empty = only logged."),
    DeclareLaunchArgument(
        "pace",
        default_value="auto",
        choices=["auto", "realtime", "answered"],
        description="realtime: as recorded, frames may be skipped; answered: every frame is worked on; auto: answered "
        "for recordings, realtime for cameras.",
    ),
]


def start_nodes(context: Any) -> list[Any]:
    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    config = PathJoinSubstitution([FindPackageShare(PACKAGE), "config"])
    is_live = value("pace") == "realtime" or value("source").isdigit()
    params_file = value("params_file") or PathJoinSubstitution([config, "live.yaml" if is_live else "demo.yaml"])

    def node(executable: str, on_exit: Any = None, **parameters: Any) -> Node:
        # A plain text is read as YAML, and source:=0 would become a number.
        typed = {
            key: ParameterValue(item, value_type=str) if isinstance(item, str) else item
            for key, item in parameters.items()
        }
        return Node(
            package=PACKAGE,
            executable=executable,
            name=executable,
            namespace=value("namespace"),
            parameters=[params_file, {"use_sim_time": value("use_sim_time") == "true", **typed}],
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
            on_exit=on_exit,
        )

    given = {"object": value("object")}
    nodes = [
        node("perception_node", on_exit=Shutdown(reason="perception_node has ended"), **given),
        node(
            "fitting_node",
            on_exit=Shutdown(reason="fitting_node has ended"),
            device=value("device"),
            seed=int(value("seed")),
            **given,
        ),
        node(
            "report_node",
            on_exit=Shutdown(reason="the report is written"),
            report_file=value("report_file"),
            device=value("device"),
            **given,
        ),
        node(
            "source_node",
            source=value("source"),
            frames=int(value("frames")),
            seed=int(value("seed")),
            loop=value("loop") == "true",
            pace=value("pace"),
            **given,
        ),
    ]
    if value("viewer") == "true":
        nodes.append(node("viewer_node", **given))
    if value("record"):
        nodes.append(node("recorder_node", output=value("record")))
    if value("launch_rviz") == "true":
        rviz_config = PathJoinSubstitution([config, "rviz", "demo.rviz"])
        nodes.append(Node(package="rviz2", executable="rviz2", arguments=["-d", rviz_config], output="screen"))
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_nodes)])
