"""Cutting into windows and putting back, relative positions, masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.model.window import (
    overlap_relative_position_index,
    partition,
    partition_overlapping,
    relative_position_index,
    reverse,
    shift_masks,
)

few = settings(max_examples=30, deadline=None)
num_windows = st.integers(1, 4)
window_sizes = st.integers(1, 6)


def _numbered(B, H, W, C):
    return torch.arange(B * H * W * C).view(B, H, W, C)


def _relative(window_size, key_size):
    """Row and column distance of each pair, key − query, both counted from their window's first token."""
    query = torch.cartesian_prod(torch.arange(window_size), torch.arange(window_size))
    key = torch.cartesian_prod(torch.arange(key_size), torch.arange(key_size))
    return (key[None] - query[:, None]).flatten(0, 1)


@given(st.integers(1, 3), num_windows, num_windows, window_sizes, st.integers(1, 4))
@few
def test_reverse_undoes_partition(B, rows, columns, size, C):
    x = _numbered(B, rows * size, columns * size, C)
    windows = partition(x, size)
    assert windows.shape == (B, rows, columns, size * size, C)
    assert torch.equal(reverse(windows, size), x)


def test_windows_and_tokens_are_in_reading_order():
    windows = partition(_numbered(1, 4, 6, 1), 2)[0, :, :, :, 0]
    assert windows.flatten(0, 1).tolist()[:4] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19]]


def test_maps_that_are_not_contiguous():
    x = _numbered(2, 4, 8, 3).transpose(1, 2)
    assert torch.equal(reverse(partition(x, 4), 4), x)


@given(num_windows, num_windows, window_sizes)
@few
def test_without_overlap_windows_are_plain(rows, columns, size):
    x = _numbered(2, rows * size, columns * size, 3)
    assert torch.equal(partition_overlapping(x, size, size), partition(x, size))


@given(num_windows, num_windows, window_sizes, st.integers(0, 4))
@few
def test_overlapping_windows_are_centred_and_zero_outside(rows, columns, size, pad):
    x = _numbered(2, rows * size, columns * size, 3) + 1
    key_size = size + 2 * pad
    windows = partition_overlapping(x, size, key_size)
    assert windows.shape == (2, rows, columns, key_size**2, 3)
    middle = windows.unflatten(3, (key_size, key_size))[:, :, :, pad : pad + size, pad : pad + size].flatten(3, 4)
    assert torch.equal(middle, partition(x, size))
    padded = torch.nn.functional.pad(x, (0, 0, pad, pad, pad, pad))
    top, left = (rows - 1) * size, (columns - 1) * size
    assert torch.equal(windows[-1, -1, -1].view(key_size, key_size, 3), padded[-1, top : top + key_size, left:])


@given(st.integers(2, 8))
@few
def test_position_index_is_one_to_one(size):
    index = relative_position_index(size)
    assert index.shape == (size**2, size**2)
    assert index.min() == 0
    assert index.max() == (2 * size - 1) ** 2 - 1
    _assert_one_to_one(index, _relative(size, size), (2 * size - 1) ** 2)


@given(st.integers(2, 8), st.integers(0, 4))
@few
def test_overlap_position_index_is_one_to_one_modulo_the_table(size, half_overlap):
    key_size = size + 2 * half_overlap
    table_size = (size + key_size - 1) ** 2
    index = overlap_relative_position_index(size, key_size)
    assert index.shape == (size**2, key_size**2)
    assert 0 <= index.min() <= index.max() < table_size
    _assert_one_to_one(index, _relative(size, key_size), table_size)


def _assert_one_to_one(index, relative, table_size):
    """Every relative position has one row of the table, and every row one relative position."""
    pairs = torch.cat([relative, index.flatten()[:, None]], dim=1).unique(dim=0)
    assert len(pairs) == table_size
    assert len(pairs[:, :2].unique(dim=0)) == len(pairs[:, 2].unique()) == table_size


@pytest.mark.parametrize(("size", "shift"), [(4, 2), (5, 2), (8, 4), (2, 1)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (3, 1), (2, 3)])
def test_masks_keep_apart_what_the_roll_brought_together(size, shift, rows, columns):
    """Of all windows of a rolled map: those of the last row, the last column and the corner, and no other."""
    row, column = torch.meshgrid(torch.arange(rows * size), torch.arange(columns * size), indexing="ij")
    rolled = torch.stack([row, column], dim=-1).roll((-shift, -shift), (0, 1))
    came_round = torch.stack([rolled[..., 0] < shift, rolled[..., 1] < shift], dim=-1)
    windows = partition(came_round[None].int(), size)[0]
    apart = (windows[:, :, :, None] != windows[:, :, None, :]).any(dim=-1)
    masks = shift_masks(size, shift)
    assert masks.shape == (3, size**2, size**2)
    assert masks.unique().tolist() == [-100.0, 0.0]
    down, right, corner = masks < 0
    assert not apart[:-1, :-1].any()
    assert (apart[-1, :-1] == down).all()
    assert (apart[:-1, -1] == right).all()
    assert (apart[-1, -1] == corner).all()
