"""Progress on stderr: bars in a terminal, a line a minute elsewhere."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from hat_sr.cli.messages import say

_FIRST_LINE, _NEXT_LINE = 10, 60
"""Seconds after which a line says how far the work is, where there are no bars."""


def progress_bars(console: Console) -> Progress:
    """Bars with rate and time left; if the console is no terminal, a line after ten seconds and then each minute.

    A task whose total is 1 shows the part of it that is done, any other counts.
    """
    kind = Progress if console.is_terminal else _Lines
    return kind(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _DoneColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        speed_estimate_period=600,  # a tile of a large network can take minutes
        console=console,
        disable=not console.is_terminal,
    )


class PictureBars:
    """What bars show of many pictures, and of the one that is being made: told as (name, part that is done).

    total: how many pictures there are.
    """

    def __init__(self, bars: Progress, *, total: int) -> None:
        self._bars, self._num_ended, self._name = bars, 0, ""
        self._all = bars.add_task("images", total=total, visible=total > 1)
        self._one = bars.add_task("", total=1, visible=False)

    def __call__(self, name: str, part: float) -> None:
        """So much is done of the picture of that name. What is done when it is first named does not count as speed."""
        if name != self._name:
            self._name = name
            self._bars.reset(self._one, description=name, completed=part, visible=True)  # type: ignore[arg-type]
        else:
            self._bars.update(self._one, completed=part)
        self._bars.update(self._all, completed=self._num_ended + part)

    def ended(self) -> None:
        """One more has come to its end."""
        self._num_ended, self._name = self._num_ended + 1, ""
        self._bars.update(self._all, completed=self._num_ended)


def status(console: Console, text: str) -> AbstractContextManager[object]:
    """A line that says what goes on while it does; nothing at all if the console is no terminal."""
    return console.status(escape(text)) if console.is_terminal else nullcontext()


class _DoneColumn(ProgressColumn):
    """How many are done of how many, or the part that is done of one."""

    def render(self, task: Task) -> Text:
        if task.total == 1:
            return Text(f"{task.percentage:3.0f} %")
        return Text(f"{int(task.completed)}/{'?' if task.total is None else int(task.total)}")


class _RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None or task.total == 1 else f"{task.speed:.2f}/s")


class _Lines(Progress):
    """Says in a line now and then how far the task is that was told of last, if it is visible."""

    def __init__(self, *columns: ProgressColumn, **settings: Any) -> None:
        super().__init__(*columns, **settings)
        self._next = self.get_time() + _FIRST_LINE

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """As for bars."""
        super().update(task_id, **fields)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As for bars."""
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        task, now = self._tasks[task_id], self.get_time()
        if task.visible and not task.finished and now >= self._next:
            self._next = now + _NEXT_LINE
            left = "" if task.time_remaining is None else f", {TimeRemainingColumn().render(task)} left"
            say(f"{task.description}: {_DoneColumn().render(task).plain.strip()} done{left}")
