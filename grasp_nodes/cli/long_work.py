"""What commands that work for long have in common: the output folder, the bar, and the exit code of Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from grasp_nodes.errors import InputError
from grasp_nodes.paths import working_alone

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@contextmanager
def alone_in(output: Path) -> Iterator[None]:
    """Make the output folder and let no second run write there.

    Raises:
        InputError: another run is at work there, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(working_alone(output))
        except OSError as error:
            raise InputError(f"output {output}: cannot be written ({error}); name another folder with -o") from error
        yield


@contextmanager
def progress_bar(what: str, *further: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal's error stream that is gone at the end; called with what is done and the total.

    Args:
        what: is being done. further: columns before the time that is left.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *further, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
