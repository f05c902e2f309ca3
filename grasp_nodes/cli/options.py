"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

LaunchArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME:=VALUE]...", help="Launch arguments, as for ros2 launch.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable last line.")]
