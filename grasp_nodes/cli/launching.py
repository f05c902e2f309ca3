"""``grasp-nodes launch``: launch files under the installed ROS 2 or under the embedded launcher."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from grasp_nodes import embedded
from grasp_nodes.cli.runtime import NODE_RUNNER, prepare_runtime
from grasp_nodes.errors import InputError, MissingFileError
from grasp_nodes.paths import share_dir

ENDING = ".launch.py"


def parse_arguments(words: Sequence[str]) -> dict[str, str]:
    """Launch arguments ``name:=value``.

    Raises:
        InputError: a word is not of that form.
    """
    arguments = {}
    for word in words:
        match = re.fullmatch(r"([A-Za-z_]\w*):=(.*)", word, re.DOTALL)
        if match is None:
            raise InputError(f"launch argument {word!r}: expected NAME:=VALUE, for example frames:=90")
        arguments[match[1]] = match[2]
    return arguments


def find_launch_file(name: str) -> Path:
    """A launch file by path, or one of the package's by name (``demo`` or ``demo.launch.py``).

    Raises:
        MissingFileError: neither; the message lists the package's own.
    """
    folder = share_dir() / "launch"
    for candidate in (Path(name), folder / name, folder / f"{name}{ENDING}"):
        if candidate.is_file():
            return candidate.resolve()
    own = ", ".join(sorted(path.name.removesuffix(ENDING) for path in folder.glob(f"*{ENDING}")))
    raise MissingFileError(f"launch file {name!r}: not found; the package's own are: {own}")


def launch_file(path: Path, arguments: Mapping[str, str]) -> int:
    """Run a launch file until everything it started has ended.

    Returns:
        0, or 1 where something failed.

    Raises:
        InputError: an argument is unknown or not a valid choice, or the file needs a real ROS 2.
    """
    if prepare_runtime() == "embedded":
        try:
            return embedded.launch_file(path, arguments, runner=NODE_RUNNER)
        except (ValueError, embedded.NotSupportedByEmbeddedRuntime) as error:
            # Launch files say of an argument that they cannot use what int(...) would say; so does LaunchError.
            raise InputError(f"{path.name}: {error}") from error
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    service = LaunchService(argv=[f"{name}:={value}" for name, value in arguments.items()])
    included = IncludeLaunchDescription(AnyLaunchDescriptionSource(str(path)), launch_arguments=list(arguments.items()))
    service.include_launch_description(LaunchDescription([included]))
    return int(service.run())


def show_arguments(path: Path) -> None:
    """Print the arguments that a launch file declares, with their descriptions, choices and defaults."""
    if prepare_runtime() == "embedded":
        typer.echo(embedded.show_arguments(path))
        return
    from ros2launch.api import print_arguments_of_launch_file

    print_arguments_of_launch_file(launch_file_path=str(path))
