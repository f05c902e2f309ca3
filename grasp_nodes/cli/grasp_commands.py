"""The commands about grasps, and their training: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_nodes.cli.options import Json


def synthesize(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the set; made, or gone on in.")
    ],
    objects: Annotated[int, typer.Option(min=1, help="Procedural objects to begin with.")] = 400,
    grasps: Annotated[int, typer.Option(min=1, help="Grasps in the set.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same set.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Objects worked on at once; by default one per processor.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Work on a Ray cluster: its address (auto, HOST:6379), or local."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a set of grasps on procedural objects; Ctrl-C stops it, the same command goes on."""
    from grasp_nodes.cli.synthesizing import synthesize as make

    raise typer.Exit(make(output, objects, grasps, seed, workers, ray, json))


def grasp(
    item: Annotated[
        str,
        typer.Argument(
            metavar="OBJECT",
            help="A mesh (obj, ply, stl, off, glb), a shape such as sphere:0.04 or family:mug:12, or a cloud of points "
            "(npy, xyz, ply without faces).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results.")],
    count: Annotated[int, typer.Option("-n", min=1, max=10_000, help="Grasps.")] = 16,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Such as fastgrasp-flow+rank8; an unknown one lists them all. auto: fastgrasp-flow+polish, or where "
            "its weights are missing the search of synthetic.",
        ),
    ] = "auto",
    refine: Annotated[str, typer.Option(metavar="NAME", help="none, polish, or geo: by springs of contact.")] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    scale: Annotated[float, typer.Option(help="Factor from the unit of the mesh or cloud to metres.")] = 1.0,
    device: Annotated[str, typer.Option(help="Of networks: auto, cpu or cuda.")] = "auto",
    approach: Annotated[
        str, typer.Option(metavar="X,Y,Z", help="Direction in which the hand reaches, within 45 deg; '' = any.")
    ] = "",
    judge: Annotated[bool, typer.Option(help="Measure all that evaluate measures, but for PyBullet's.")] = True,
    json: Json = False,
) -> None:
    """Propose grasps of an object: a file of grasps, a report with all metrics, a picture of each."""
    from grasp_nodes.cli.grasping import Request
    from grasp_nodes.cli.grasping import grasp as work

    request = Request(item, output, count, method, refine, seed, scale, device, approach, judge, json)
    raise typer.Exit(work(request))


def imagine(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results.")],
    count: Annotated[int, typer.Option("-n", min=1, max=4096, help="Hands with their objects.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    hand: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Parameters of one right hand (npz, json): objects for it. Its frame is theirs: the middle at the "
            "origin, the longest axis along x.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Calls of the network; 50 unless given.")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="All steps of the schedule, and nothing after them.")] = False,
    surface: Annotated[str, typer.Option(help="alpha: alpha shape, else what is enclosed; enclosed: only that.")] = (
        "alpha"
    ),
    device: Annotated[str, typer.Option(help="Of networks: auto, cpu or cuda.")] = "auto",
    judge: Annotated[bool, typer.Option(help="Measure validity, penetration, good and diversity.")] = True,
    json: Json = False,
) -> None:
    """Dream up objects with the hands that hold them: meshes, grasps, a report and a picture of each."""
    from grasp_nodes.cli.imagining import Request
    from grasp_nodes.cli.imagining import imagine as work

    raise typer.Exit(work(Request(output, count, seed, hand, steps, paper, surface, device, judge, json)))


def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; gone on in.")],
    methods: Annotated[
        str, typer.Option(metavar="A,B", help="Generators, or file:GRASPS.npz; none = the bounds alone.")
    ] = "",
    objects: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SET",
            help="heldout (24 objects, the default), heldout-canonical (the same, not turned), a folder of meshes, a "
            "mesh, family:mug:12, sphere:0.04, or a file of grasps for the objects that it names; may be given several "
            "times.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="Grasps of each method on each object.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many objects.")] = None,
    scale: Annotated[float, typer.Option(help="Factor from mesh files' unit to metres.")] = 1.0,
    size: Annotated[float | None, typer.Option(help="Longest side that mesh files get, m (normalised meshes).")] = None,
    displacement: Annotated[
        bool, typer.Option(help="Displacement by Hasson's protocol in PyBullet, the slowest of the metrics.")
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the objects.")] = 1,
    pictures: Annotated[int, typer.Option(min=0, help="Samples of each method that are drawn.")] = 6,
    json: Json = False,
) -> None:
    """Judge generators or files of grasps on a set of objects, beside bounds that show what the numbers mean."""
    from grasp_nodes.cli.evaluating import Request
    from grasp_nodes.cli.evaluating import evaluate as judge

    named = tuple(objects or ["heldout"])
    raise typer.Exit(
        judge(Request(methods, named, count, seed, output, scale, size, limit, displacement, workers, pictures, json))
    )


def evaluate_geo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; gone on in.")],
    variants: Annotated[
        str, typer.Option(metavar="A,B", help="all: with the sweeps of CPF's tables; main: without; or names.")
    ] = "all",
    grasps: Annotated[int, typer.Option(min=1, help="Of the open set, that are perturbed.")] = 500,
    per_object: Annotated[int, typer.Option(min=1, help="Of these on one object.")] = 5,
    simulated: Annotated[int, typer.Option(min=0, help="Of these that are dropped, too.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice and of the noise.")] = 0,
    swept: Annotated[int, typer.Option(min=1, help="About so many of the grasps are those of the sweeps.")] = 60,
    threads: Annotated[int, typer.Option(min=1, help="Of numerical libraries.")] = 2,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as a page there.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also draw one grasp with and without GeO's terms.")
    ] = None,
    json: Json = False,
) -> None:
    """Refine perturbed grasps with GeO and its baselines, beside CPF's tables; Ctrl-C stops it, it can go on."""
    from grasp_nodes.cli.evaluating_geo import Request
    from grasp_nodes.cli.evaluating_geo import evaluate_geo as judge
    from grasp_nodes.cli.geo_evaluation import Asked

    asked = Asked(grasps, per_object, simulated, seed, swept)
    raise typer.Exit(judge(Request(output, asked, variants, threads, markdown, json, pictures)))


def evaluate_refinement(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; gone on in.")],
    methods: Annotated[
        str,
        typer.Option(
            metavar="A,B", help="Some of input, contact-driven, geo, keypoint, jointdiffusion; '' = all here."
        ),
    ] = "",
    grasps: Annotated[int, typer.Option(min=1, help="Noisy grasps in all.")] = 200,
    per_object: Annotated[int, typer.Option(min=1, help="True grasps on one object.")] = 2,
    copies: Annotated[int, typer.Option(min=1, help="Noisy ones of each.")] = 4,
    level: Annotated[int, typer.Option(min=0, max=2, help="Of the noise; 2 as in Perturbed ContactPose.")] = 2,
    division: Annotated[
        str, typer.Option(metavar="NAME", help="Held out by objects, hands, contactpose-subjects or -objects.")
    ] = "objects",
    validation: Annotated[float, typer.Option(help="Share that was held out of the training.")] = 0.05,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Grasps, or ContactPose's folder; by default the published set.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of the networks; else the installed ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice and of the noise.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of numerical libraries.")] = 2,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as a page there.")] = None,
    json: Json = False,
) -> None:
    """Refine noisy grasps by several methods, beside CHOIR's tables; Ctrl-C stops it, the same command goes on."""
    from grasp_nodes.cli.evaluating_refinement import Request
    from grasp_nodes.cli.evaluating_refinement import evaluate_refinement as judge
    from grasp_nodes.cli.refinement_evaluation import Asked

    asked = Asked(grasps, per_object, copies, level, division, validation, seed)
    raise typer.Exit(judge(Request(output, asked, methods, data, weights, threads, markdown, json)))


def refine(
    grasps: Annotated[Path, typer.Argument(metavar="GRASPS", help="File of grasps of one object (npz).")],
    item: Annotated[str, typer.Option("--object", metavar="MESH", help="Their object: a mesh, or family:mug:12.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File of grasps to write (.npz).")],
    method: Annotated[str, typer.Option(metavar="NAME", help="jointdiffusion, keypoint or geo.")] = "jointdiffusion",
    scale: Annotated[float, typer.Option(help="Factor from the unit of the mesh to metres.")] = 1.0,
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of the networks; else the installed ones.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    json: Json = False,
) -> None:
    """Refine noisy grasps of one object."""
    from grasp_nodes.cli.refining import Request
    from grasp_nodes.cli.refining import refine as work

    raise typer.Exit(work(Request(grasps, item, output, method, scale, weights, seed, json)))


def train(
    method: Annotated[str, typer.Argument(help="What to train; an unknown name lists what there is.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the weights; gone on in.")],
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or folder to learn from; by default the published set.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the network: small, or paper.")] = "small",
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimiser, in all.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Of training, in all; the rate falls in time.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples of a step, in each process.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a network; Ctrl-C stops it, the same command goes on. torchrun -m grasp_nodes train ... uses several."""
    import sys

    from grasp_nodes.cli.training import train_method
    from grasp_nodes.cli.training_request import TrainingRequest, parse_options

    command = " ".join(["grasp-nodes", *sys.argv[1:]])
    request = TrainingRequest(
        *(output, data, size, steps, minutes, batch, seed, device),  # type: ignore[arg-type]
        options=parse_options(settings or ()),
        command=command,
    )
    raise typer.Exit(train_method(method, request, as_json=json))
