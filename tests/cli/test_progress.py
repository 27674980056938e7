"""What people see of long work, by a clock of our own."""

import io

import pytest
from rich.console import Console

from hat_sr.cli.progress import PictureBars, progress_bars


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def bars_on(clock, *, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, get_time=clock)
    bars = progress_bars(console)
    bars.live.auto_refresh = False
    return bars


def shown(bars, task):
    """A bar's words."""
    cells = [column(task) for column in bars.columns if type(column).__name__ != "BarColumn"]
    return " ".join(cell.plain.strip() for cell in cells if cell.plain.strip())


def test_one_picture_has_a_part_and_a_time_left(clock):
    bars = bars_on(clock, terminal=True)
    pictures = PictureBars(bars, total=1)
    images, picture = bars.tasks
    assert not images.visible
    for part in (0, 0.25, 0.5, 0.75):
        pictures("a.png", part)
        clock.now += 20
    assert picture.visible
    assert shown(bars, picture) == "a.png 75 % 0:00:20"


def test_what_was_done_before_a_stop_does_not_count_as_speed(clock):
    bars = bars_on(clock, terminal=True)
    pictures = PictureBars(bars, total=1)
    for part in (0.5, 0.625, 0.75):
        pictures("a.png", part)
        clock.now += 10
    assert shown(bars, bars.tasks[1]) == "a.png 75 % 0:00:20"


def test_of_many_pictures_the_time_left_counts_the_part_of_the_one_that_is_made(clock):
    bars = bars_on(clock, terminal=True)
    pictures = PictureBars(bars, total=4)
    images, picture = bars.tasks
    for part in (0, 0.5, 1):
        pictures("a.png", part)
        clock.now += 10
    pictures.ended()
    pictures("b.png", 0)
    assert shown(bars, images).startswith("images 1/4")
    assert shown(bars, picture) == "b.png 0 % -:--:--"
    pictures("b.png", 0.5)
    assert (images.completed, picture.completed) == (1.5, 0.5)
    assert images.time_remaining == pytest.approx(50)


def test_two_pictures_of_one_name_in_a_row(clock):
    bars = bars_on(clock, terminal=True)
    pictures = PictureBars(bars, total=2)
    pictures("a.png", 0.9)
    pictures.ended()
    pictures("a.png", 0.1)
    assert shown(bars, bars.tasks[1]) == "a.png 10 % -:--:--"


def test_outside_a_terminal_a_line_a_minute(clock, capsys):
    bars = bars_on(clock, terminal=False)
    with bars:
        task = bars.add_task("lam", total=51)
        for _ in range(51):
            clock.now += 4
            bars.advance(task)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "lam: 3/51 done, 0:03:12 left"
    assert rest == [
        f"lam: {done}/51 done, {left} left" for done, left in ((18, "0:02:12"), (33, "0:01:12"), (48, "0:00:12"))
    ]


def test_outside_a_terminal_short_work_says_nothing(clock, capsys):
    bars = bars_on(clock, terminal=False)
    with bars:
        pictures = PictureBars(bars, total=3)
        for name in ("a.png", "b.png", "c.png"):
            for part in (0, 0.5, 1):
                clock.now += 1
                pictures(name, part)
            pictures.ended()
    assert capsys.readouterr().err == ""


def test_outside_a_terminal_a_long_picture_has_lines_too(clock, capsys):
    bars = bars_on(clock, terminal=False)
    with bars:
        pictures = PictureBars(bars, total=1)
        for part in (0, 0.2, 0.4, 0.6):
            pictures("a.png", part)
            clock.now += 20
    assert capsys.readouterr().err == "a.png: 20 % done\n"
