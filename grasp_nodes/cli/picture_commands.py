"""The commands ``render`` and ``rate``: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_nodes.cli.options import Json


def render(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A mesh (obj, ply, stl, off, glb), hand parameters (npz, json), a set of grasps or a trajectory "
            "(npz), a clip's folder, a primitive such as sphere:0.04, or hand:flat, hand:fist, hand:grasp.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG to write.")],
    size: Annotated[int, typer.Option(min=64, max=4096, help="Edge of one view, px.")] = 480,
    side: Annotated[str, typer.Option(help="Side of hand:...: right or left.")] = "right",
    scale: Annotated[float, typer.Option(help="Factor from a mesh file's unit to metres.")] = 1.0,
    count: Annotated[int, typer.Option(min=1, help="Of a set of grasps: how many, chosen at random.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of that choice.")] = 0,
    maps: Annotated[
        str,
        typer.Option(
            metavar="A,B",
            help="Instead of a picture, what image generators are conditioned on, each as OUTPUT-MAP.png: depth, "
            "normals, edges, mask; of grasps, a mesh or hands.",
        ),
    ] = "",
) -> None:
    """Draw a mesh or a posed hand from two sides, frames of a clip or a trajectory, or a sheet of grasps."""
    if maps:
        from grasp_nodes.cli.conditioning_maps import draw_maps, parse_maps

        for path in draw_maps(what, output, parse_maps(maps), size, side, scale, count, seed):
            typer.echo(str(path))
        return
    from grasp_nodes.cli.pictures import draw

    draw(what, output, size, side, scale, count, seed)
    typer.echo(str(output))


def rate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an evaluation with pictures of its grasps.")],
    summary: Annotated[bool, typer.Option("--summary", help="Sum up the answers instead of asking.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8090,
    seed: Annotated[int, typer.Option(min=0, help="Of pictures, order and sides; of the summary's intervals.")] = 0,
    scores: Annotated[int, typer.Option(min=0, help="Grasps that each rater scores, at most.")] = 60,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs that each rater compares, at most.")] = 40,
    json: Json = False,
) -> None:
    """Serve a blind rating page (1-5 and pairs) for people who judge grasps, or sum up their answers."""
    from grasp_nodes.cli.rating import serve, show_summary

    if summary:
        show_summary(folder, seed, as_json=json)
    else:
        serve(folder, host, port, seed, scores, pairs)
