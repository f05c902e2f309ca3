"""The command ``grasp-nodes``: its sub-commands, and how an error becomes one line and an exit code.

Exit codes: 0 done, 1 failed, 2 bad usage or input. Heavy packages are imported inside the commands, so that ``--help``
answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from grasp_nodes import __version__
from grasp_nodes.cli.clip_commands import evaluate_clips, reconstruct, render_clips, sequences, transfer_contact
from grasp_nodes.cli.export_commands import export_recordings
from grasp_nodes.cli.grasp_commands import (
    evaluate,
    evaluate_geo,
    evaluate_refinement,
    grasp,
    imagine,
    refine,
    synthesize,
    train,
)
from grasp_nodes.cli.picture_commands import rate, render
from grasp_nodes.cli.robot_commands import hands, retarget
from grasp_nodes.cli.running_commands import demo, doctor, launch, run
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


app.command()(demo)
app.command()(launch)
app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": False})(run)
app.command()(doctor)
app.command()(render)
app.command()(reconstruct)
app.command(name="transfer-contact")(transfer_contact)
app.command()(sequences)
app.command()(rate)
app.command()(synthesize)
app.command()(grasp)
app.command()(imagine)
app.command(name="render-clips")(render_clips)
app.command()(evaluate)
app.command(name="evaluate-clips")(evaluate_clips)
app.command(name="evaluate-geo")(evaluate_geo)
app.command(name="evaluate-refinement")(evaluate_refinement)
app.command()(refine)
app.command()(train)
app.command(name="export")(export_recordings)
app.command()(retarget)
app.add_typer(hands, name="hands")
