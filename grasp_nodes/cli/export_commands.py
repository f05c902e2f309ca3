"""The command ``grasp-nodes export``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export_recordings(
    format: Annotated[  # noqa: A002 - it is what help and errors call it
        str,
        typer.Argument(
            metavar="FORMAT",
            help="lerobot: a folder in the layout of LeRobotDataset v3.0; hdf5: a file as robomimic reads it; npz: a "
            "folder of arrays.",
        ),
    ],
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING...",
            help="Bags (mcap, db3, rosbag2 folders), folders of reconstruct, trajectory.npz, or folders of such.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Data set; made, or appended to.")],
    task: Annotated[str, typer.Option(help="What is done, in words; else what the recorder was told.")] = "",
    fps: Annotated[int, typer.Option(min=0, max=1000, help="Hz of the data set; 0 = as recorded.")] = 0,
    side: Annotated[str, typer.Option(help="Hand: right, left, or auto: that seen in most frames.")] = "auto",
    object_id: Annotated[str, typer.Option(help="Object, where there are several; else that seen most.")] = "",
    state: Annotated[
        str, typer.Option(help="What the state is: robot, hand (MANO), or auto: a robot's joints where there are any.")
    ] = "auto",
    clip: Annotated[str, typer.Option(help="Pictures of a reconstruction whose clip is not where it was.")] = "",
    images: Annotated[
        bool | None, typer.Option("--images/--no-images", help="Whether pictures are exported; by default not to npz.")
    ] = None,
    state_topic: Annotated[str, typer.Option(help="Topic of hands and objects in bags; '' = the only one.")] = "",
    joint_topic: Annotated[str, typer.Option(help="Topic of the robot's joints in bags; '' = the only one.")] = "",
    command_topic: Annotated[
        str, typer.Option(help="Topic of what the joints were told, the action; '' = the only one.")
    ] = "",
    urdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The robot's description: its joint limits are checked.")
    ] = None,
    hand_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="MANO file or folder; by default the open hand.")
    ] = None,
    robot_type: Annotated[str, typer.Option(help="lerobot: name of the robot in a new data set.")] = "human_hand",
    codec: Annotated[str, typer.Option(help="lerobot: of the videos, h264, or av1: smaller and slower.")] = "h264",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse recordings with warnings, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one machine-readable last line.")] = False,
) -> None:
    """Append recordings to a data set for learning from demonstration; what is wrong with them is said and refused."""
    from grasp_nodes.cli.exporting import Request, export, read_joint_limits
    from grasp_nodes.export.sampling import SamplingOptions
    from grasp_nodes.export.sources import SourceOptions

    with_pictures = format != "npz" if images is None else images
    request = Request(
        format,
        output,
        tuple(recordings),
        task,
        SamplingOptions(fps, side, object_id, state),
        SourceOptions(clip, with_pictures, state_topic, joint_topic, command_topic),
        read_joint_limits(urdf),
        robot_type,
        codec,
        strict,
        hand_model,
        json,
    )
    raise typer.Exit(export(request))
