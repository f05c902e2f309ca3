"""The commands about clips: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grasp_nodes.cli.options import Json


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
