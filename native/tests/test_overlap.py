"""Windows that overlap, added up in a map, against float64, on every kind of processor that this one can stand for."""

import pytest
import torch
from hat_sr_native import add_windows, levels
from test_kernel import TOLERANCES, error

SHAPES = [
    # B, windows, size, C, map, step, top, left
    (8, (6, 6), 12, 128, (48, 48), 8, -2, -2),
    (1, (2, 3), 24, 360, (32, 48), 16, -4, -4),
    (2, (3, 2), 4, 5, (20, 9), 4, 4, 0),
    (1, (4, 5), 7, 33, (11, 13), 2, -3, -1),
    (3, (1, 1), 1, 1, (2, 3), 1, 1, 2),
    (1, (2, 2), 3, 17, (9, 9), 5, 1, -2),
]
"""The last with pixels between the windows that are in none."""


def numbers(*shape, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def wanted_of(windows, height, width, step, top, left):
    """In a map with room for windows on all sides."""
    B, h, w, size, _, C = windows.shape
    room = 60
    out = torch.zeros(B, height + 2 * room, width + 2 * room, C, dtype=torch.float64)
    for row in range(h):
        for column in range(w):
            y, x = room + top + row * step, room + left + column * step
            out[:, y : y + size, x : x + size] += windows[:, row, column].double()
    return out[:, room:-room, room:-room]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("B", "grid", "size", "C", "sides", "step", "top", "left"), SHAPES)
def test_they_are_added(level, dtype, B, grid, size, C, sides, step, top, left):
    windows, out = numbers(B, *grid, size, size, C, dtype=dtype), torch.full((B, *sides, C), float("nan"), dtype=dtype)
    add_windows(windows, out, step=step, top=top, left=left, level=level)
    assert error(out, wanted_of(windows, *sides, step, top, left)) < TOLERANCES[dtype]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_nothing_else_is_written(level, dtype):
    large = torch.full((2, 10, 11, 30), 7.0, dtype=dtype)
    windows, before = numbers(2, 2, 2, 4, 4, 19, dtype=dtype), large.clone()
    out, place = large[:, 1:-1, 1:-1, 5:24], (slice(None), slice(1, -1), slice(1, -1), slice(5, 24))
    add_windows(windows, out, step=3, top=0, left=1, level=level)
    assert error(out, wanted_of(windows, 8, 9, 3, 0, 1)) < TOLERANCES[dtype]
    before[place] = large[place] = 0
    assert torch.equal(large, before)


def test_windows_of_any_layout():
    windows = numbers(1, 2, 2, 3, 3, 8, dtype=torch.float32)
    out, other = torch.empty(1, 5, 5, 4), torch.empty(1, 5, 5, 4)
    add_windows(windows[..., ::2], out, step=2, top=0, left=0)
    add_windows(windows[..., ::2].contiguous(), other, step=2, top=0, left=0)
    assert torch.equal(out, other)


def test_no_windows():
    out = torch.ones(1, 4, 4, 3)
    add_windows(torch.empty(1, 0, 2, 3, 3, 3), out, step=2, top=0, left=0)
    assert torch.equal(out, torch.zeros(1, 4, 4, 3))
    add_windows(torch.ones(1, 1, 1, 2, 2, 3), torch.empty(1, 0, 4, 3), step=2, top=0, left=0)


WINDOWS, MAP = torch.ones(1, 2, 2, 3, 3, 5), torch.ones(1, 8, 8, 5)


@pytest.mark.parametrize(
    ("windows", "out", "step", "message"),
    [
        (WINDOWS[0], MAP, 2, "shapes .2, 2, 3, 3, 5. and"),
        (WINDOWS[:, :, :, :2], MAP, 2, "are needed"),
        (WINDOWS, MAP[..., :4], 2, "are needed"),
        (WINDOWS, MAP[0], 2, "are needed"),
        (WINDOWS, MAP.bfloat16(), 2, "windows are torch.float32 and the map torch.bfloat16"),
        (WINDOWS.double(), MAP.double(), 2, "the tensor of windows is torch.float64 on cpu"),
        (WINDOWS, MAP.to("meta"), 2, "the map is torch.float32 on meta"),
        (WINDOWS, MAP, 0, "step is 0"),
        (WINDOWS, MAP.repeat(1, 1, 1, 2)[..., ::2], 2, "last stride 2"),
    ],
)
def test_refusals(windows, out, step, message):
    with pytest.raises(ValueError, match=message):
        add_windows(windows, out, step=step, top=0, left=0)
