"""Progress bars, on stderr."""

from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def progress_bars(console: Console) -> Progress:
    """Bars with rate and time left; nothing at all if the console is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        speed_estimate_period=600,  # a tile of a large network can take minutes
        console=console,
        disable=not console.is_terminal,
    )


class _RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.2f}/s")


def status(console: Console, text: str) -> AbstractContextManager[object]:
    """A line that says what goes on while it does; nothing at all if the console is no terminal."""
    return console.status(escape(text)) if console.is_terminal else nullcontext()
