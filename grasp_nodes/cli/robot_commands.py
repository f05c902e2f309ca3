"""The commands ``grasp-nodes hands`` and ``grasp-nodes retarget``: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

hands = typer.Typer(
    help="Robot hands: list those that are known by name, or fetch a description.",
    invoke_without_command=True,
    no_args_is_help=False,
)


@hands.callback()
def list_hands(context: typer.Context) -> None:
    """Robot hands that are known by name; any other is named by the path of its URDF."""
    if context.invoked_subcommand is None:
        from grasp_nodes.cli.retargeting import tell_hands

        tell_hands()


@hands.command()
def fetch(name: Annotated[str, typer.Argument(help="Such as allegro.")]) -> None:
    """Take a hand's description out of a public package, which pip downloads and which is not installed."""
    from grasp_nodes.cli.retargeting import fetch_hand

    fetch_hand(name)


def retarget(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A trajectory of 'reconstruct' (npz, or its folder), grasps of 'grasp' (npz), or a clip's folder: "
            "its truth.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The npz to write.")],
    hand: Annotated[
        str, typer.Option("--hand", help="Robot hand: a name of 'grasp-nodes hands', or the path of a URDF.")
    ] = "generic",
    mode: Annotated[str, typer.Option(help="contact, position, vector or dexpilot.")] = "contact",
    wrist: Annotated[str, typer.Option(help="free, fixed, or auto: free for position and contact.")] = "auto",
    side: Annotated[str, typer.Option(help="right, left, or auto: of the grasps, or that seen most.")] = "auto",
    backend: Annotated[str, typer.Option(help="own, or dex_retargeting.")] = "own",
    smoothing: Annotated[float, typer.Option(min=0.0, max=100.0, help="Weight of the last frame; 0 = none.")] = 0.3,
    object_spec: Annotated[
        str, typer.Option("--object", help="Mesh of the object, where the file's own is not where it was.")
    ] = "",
    hold: Annotated[bool, typer.Option("--hold", help="Grasps: see in MuJoCo whether they hold the object.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one machine-readable last line.")] = False,
) -> None:
    """Joints of a robot hand that does what a human hand did; what of its contact was kept is measured and told."""
    from grasp_nodes.cli.retargeting import Request
    from grasp_nodes.cli.retargeting import retarget as work

    work(Request(what, output, hand, mode, wrist, side, backend, smoothing, object_spec, hold, json))
