"""The command ``grasp-nodes``: its sub-commands, and how an error becomes one line and an exit code.

Exit codes: 0 done, 1 failed, 2 bad usage or input. Heavy packages are imported inside the commands, so that ``--help``
answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from grasp_nodes import __version__
from grasp_nodes.cli.export_commands import export_recordings
from grasp_nodes.cli.robot_commands import hands, retarget
from grasp_nodes.errors import GraspNodesError, InputError, MissingFileError

FAILED = 1
BAD_INPUT = 2

app = typer.Typer(
    name="grasp-nodes",
    help="Human hands grasping objects, from video or from a generator, as ROS 2 messages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LaunchArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME:=VALUE]...", help="Launch arguments, as for ros2 launch.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable last line.")]


def main() -> None:
    """Run the command line; an expected error is one line on stderr, never a traceback."""
    try:
        app()
    except (InputError, MissingFileError) as error:
        _end(error, BAD_INPUT)
    except GraspNodesError as error:
        _end(error, FAILED)
    except BrokenPipeError:
        # The reader of our output went away, as in "grasp-nodes doctor | head": nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def _end(error: GraspNodesError, code: int) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"grasp-nodes: {error}\n")
    sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Human hands grasping objects, from video or from a generator, as ROS 2 messages."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")


@app.command()
def demo(arguments: LaunchArguments = None) -> None:
    """Reconstruct a clip of a hand with an object, show it, and print its report as the last line (JSON).

    Without source:= the clip is rendered by the package itself at the first run, so that the report tells the accuracy.
    """
    from grasp_nodes.cli.demo import run_demo
    from grasp_nodes.cli.launching import parse_arguments

    raise typer.Exit(run_demo(parse_arguments(arguments or [])))


@app.command()
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


@app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": False})
def run(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="Name of a node, for example fitting_node")],
) -> None:
    """Run one node in this process. What follows its name goes to the node: --ros-args -p device:=cpu ..."""
    from grasp_nodes.cli.running import run_node

    raise typer.Exit(run_node(node, context.args))


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, found and missing, and the command that mends it."""
    from grasp_nodes.cli.doctor import report

    raise typer.Exit(report(as_json=json))


@app.command()
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


@app.command()
def reconstruct(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; made, or gone on in.")
    ],
    clip: Annotated[
        str,
        typer.Argument(
            metavar="[CLIP]",
            show_default=False,
            help="Clip, stereo or image folder, video file, or recording (mcap, db3, bag, rosbag2); without one the "
            "clip that the package renders.",
        ),
    ] = "",
    objects: Annotated[
        list[str] | None,
        typer.Option(
            "--object",
            metavar="MESH",
            help="Mesh of the object (obj, ply, stl, off, glb), or a shape such as sphere:0.117 (m); may be given "
            "several times. By default the clip's own; without any, hands only.",
        ),
    ] = None,
    object_scale: Annotated[float, typer.Option(help="Factor from the mesh's unit to metres, 0.001 for mm.")] = 1.0,
    scale_free: Annotated[bool, typer.Option("--scale-free", help="Fit the object's size as well.")] = False,
    rgb_only: Annotated[bool, typer.Option("--rgb-only", help="Ignore depth.")] = False,
    hand_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="MANO file or folder; by default the open hand.")
    ] = None,
    frames: Annotated[int, typer.Option(min=0, help="Only the first so many; 0 = all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    object_box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="The object's box in the first frame, px; once for each --object, in the same order.",
        ),
    ] = None,
    detector: Annotated[Path | None, typer.Option(metavar="ONNX", help="Network that finds boxes of objects.")] = None,
    segmenter: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="ENCODER DECODER", help="Network in the layout of SAM, two ONNX files, for the masks."),
    ] = None,
    fov: Annotated[
        float | None, typer.Option(help="Horizontal field of view, deg, where the camera is not known; usually 60.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Put the pictures into the bag, too.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what is in DIR and begin anew.")] = False,
    dataset: Annotated[
        str,
        typer.Option(metavar="NAME", help="CLIP is the folder of ho3d, dexycb, fhb, core50 or epic; see --sequence."),
    ] = "",
    sequence: Annotated[
        str, typer.Option(metavar="NAME", help="Sequence of the data set, one of 'grasp-nodes sequences'.")
    ] = "",
    refine: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="none; geo: hands by the springs of their contact; jointdiffusion: weak ones."
        ),
    ] = "none",
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="homan: fitted over time; honet, miho: a network in every frame, see docs."),
    ] = "homan",
    initialise: Annotated[
        str, typer.Option(metavar="NAME", help="Where the joint fit begins: fit, or honet: a network's word.")
    ] = "fit",
    many: Annotated[
        Path | None, typer.Option(metavar="LIST", help="Clips of a text file, one a line, or of a folder; see docs.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --many: clips at once; by default one per processor.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --many: a Ray cluster (auto, HOST:6379), or local.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="With --ray: GPUs of a clip, 0.5 for two on one.")] = 0.0,
    memory: Annotated[int, typer.Option(min=0, metavar="MB", help="With --ray: memory of a clip.")] = 1500,
    json: Json = False,
) -> None:
    """Turn a clip into a trajectory of hands, objects and contact; Ctrl-C stops it, the same command goes on."""
    from grasp_nodes.cli.reconstructing import reconstruct as work
    from grasp_nodes.cli.reconstruction.setup import Request

    request = Request(
        clip,
        output,
        tuple(objects or ()),
        object_scale,
        scale_free,
        rgb_only,
        hand_model,
        frames,
        seed,
        tuple(object_box or ()),
        detector,
        segmenter,
        fov,
        images,
        restart,
        json,
        dataset,
        sequence,
        refine,
        method,
        initialise,
    )
    if many is None:
        raise typer.Exit(work(request))
    from grasp_nodes.cli.reconstructing_many import Team, reconstruct_many

    raise typer.Exit(reconstruct_many(many, request, Team(workers, ray, gpus, memory * 1_000_000)))


@app.command(name="transfer-contact")
def transfer_contact(
    trajectory: Annotated[Path, typer.Argument(metavar="TRAJECTORY", help="trajectory.npz of a reconstruction.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Trajectory to write (.npz).")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="PATH", help="Hand model that it was made with; else that in use."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="PATH", help="The other hand model (MANO file or folder).")
    ] = None,
    mirror: Annotated[bool, typer.Option("--other-side", help="Of the other side: left for right.")] = False,
) -> None:
    """Say a reconstruction's contact of another hand model, or of the other hand, region by region."""
    from grasp_nodes.cli.transferring_contact import transfer_contact as work

    raise typer.Exit(work(trajectory, output, source, target, mirror))


@app.command()
def sequences(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="ho3d, dexycb, fhb, core50 or epic.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")],
    homan: Annotated[bool, typer.Option("--homan", help="Only those that HOMan was evaluated on.")] = False,
    cpf: Annotated[bool, typer.Option("--cpf", help="Only HO3Dv2-, the firm grasps that CPF judged on.")] = False,
    json: Json = False,
) -> None:
    """List the sequences of a data set of clips that are there, as reconstruct --dataset NAME --sequence takes them."""
    from grasp_nodes.cli.listing_sequences import list_sequences

    list_sequences(dataset, folder, homan, json, cpf)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command(name="render-clips")
def render_clips(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the clips are also put; without it only the cache."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Clips; 20 are the benchmark.")] = 20,
    frames: Annotated[int, typer.Option(min=1, max=30, help="The first so many of each clip's 30 frames.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels; 0 is the benchmark.")] = 0,
    meshes: Annotated[
        list[Path] | None,
        typer.Option("--mesh", metavar="FILE", help="A mesh in m that one of the last clips shows; several times."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="That render.")] = 2,
    json: Json = False,
) -> None:
    """Render the benchmark's clips with exact truth; Ctrl-C stops it, the same command goes on."""
    from grasp_nodes.cli.rendering_clips import render

    raise typer.Exit(render(output, count, frames, seed, meshes or [], processes, json))


@app.command()
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


@app.command(name="evaluate-clips")
def evaluate_clips(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; gone on in.")],
    variants: Annotated[
        str, typer.Option(metavar="A,B", help="rgbd, rgb, or an ablation (on colour alone); all = all of them.")
    ] = "rgbd,rgb",
    clips: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A clip's folder with truth; several times. Without it the benchmark."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Clips of the benchmark.")] = 20,
    frames: Annotated[int, typer.Option(min=1, help="Of each clip, at most; the benchmark's have 30.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of the benchmark and of everything that is random.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="That share the clips, one thread each.")] = 2,
    worst: Annotated[int, typer.Option(min=0, help="Frames on the sheet of the worst ones of each variant.")] = 8,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the tables as a page there.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the sheets of rgbd and rgb there, for that page.")
    ] = None,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="--clips is the folder of ho3d or dexycb; see --sequence.")
    ] = "",
    sequence: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Sequence of the data set; several times.")
    ] = None,
    json: Json = False,
) -> None:
    """Judge reconstructed clips beside their exact truth, by variants; Ctrl-C stops it, the same command goes on."""
    from grasp_nodes.cli.evaluating_clips import Request
    from grasp_nodes.cli.evaluating_clips import evaluate_clips as judge

    named = tuple(clips or ())
    if dataset or sequence:
        from grasp_nodes.cli.clip_evaluation.sequences import sequence_clips

        named = sequence_clips(dataset, named, tuple(sequence or ()), frames)
    raise typer.Exit(
        judge(Request(variants, named, output, count, frames, seed, processes, worst, markdown, json, pictures))
    )


@app.command(name="evaluate-geo")
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


@app.command(name="evaluate-refinement")
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


@app.command()
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


@app.command()
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

    from grasp_nodes.cli.training import TrainingRequest, parse_options, train_method

    command = " ".join(["grasp-nodes", *sys.argv[1:]])
    request = TrainingRequest(
        *(output, data, size, steps, minutes, batch, seed, device),  # type: ignore[arg-type]
        options=parse_options(settings or ()),
        command=command,
    )
    raise typer.Exit(train_method(method, request, as_json=json))


app.command(name="export")(export_recordings)
app.command()(retarget)
app.add_typer(hands, name="hands")
