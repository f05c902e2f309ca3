"""The commands that start nodes, and ``doctor``: their options."""

from __future__ import annotations

from typing import Annotated

import typer

from grasp_nodes.cli.options import Json, LaunchArguments


def demo(arguments: LaunchArguments = None) -> None:
    """Reconstruct a clip of a hand with an object, show it, and print its report as the last line (JSON).

    Without source:= the clip is rendered by the package itself at the first run, so that the report tells the accuracy.
    """
    from grasp_nodes.cli.demo import run_demo
    from grasp_nodes.cli.launching import parse_arguments

    raise typer.Exit(run_demo(parse_arguments(arguments or [])))


def launch(
    file: Annotated[str, typer.Argument(help="A launch file, or the name of one of the package's: demo")],
    arguments: LaunchArguments = None,
    show_args: Annotated[bool, typer.Option("--show-args", "-s", help="Only show the file's arguments.")] = False,
) -> None:
    """Start the nodes of a launch file; the same syntax as ros2 launch."""
    from grasp_nodes.cli.launching import find_launch_file, launch_file, parse_arguments, show_arguments

    path = find_launch_file(file)
    if show_args:
        show_arguments(path)
    else:
        raise typer.Exit(launch_file(path, parse_arguments(arguments or [])))


def run(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="Name of a node, for example fitting_node")],
) -> None:
    """Run one node in this process. What follows its name goes to the node: --ros-args -p device:=cpu ..."""
    from grasp_nodes.cli.running import run_node

    raise typer.Exit(run_node(node, context.args))


def doctor(json: Json = False) -> None:
    """Say what is installed, found and missing, and the command that mends it."""
    from grasp_nodes.cli.doctor import report

    raise typer.Exit(report(as_json=json))
