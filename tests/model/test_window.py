"""Cutting into windows and putting back, relative positions, masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.model.window import (
    Cut,
    cut,
    joined,
    overlap_relative_position_index,
    relative_position_index,
    shift_masks,
    windows,
)

few = settings(max_examples=30, deadline=None)
num_windows = st.integers(1, 4)
window_sizes = st.integers(1, 6)


@st.composite
def cuts(draw, max_rows=4):
    """How to cut, and how many rows and columns of windows the map has; from no overlap to four times the window."""
    size, rows = draw(st.integers(1, 4)), draw(st.integers(1, max_rows))
    overlap = draw(st.one_of(st.just(0), st.integers(1, size + size // 2)))
    above = draw(st.integers(0, rows - 1))
    below = draw(st.integers(0, rows - 1 - above))
    how = Cut(window_size=size, overlap_window_size=size + 2 * overlap, above=above * size, below=below * size)
    return how, rows, draw(num_windows)


def _numbered(B, H, W, C):
    return torch.arange(B * H * W * C).view(B, H, W, C)


def _relative(window_size, key_size):
    """Row and column distance of each pair, key − query, both counted from their window's first token."""
    query = torch.cartesian_prod(torch.arange(window_size), torch.arange(window_size))
    key = torch.cartesian_prod(torch.arange(key_size), torch.arange(key_size))
    return (key[None] - query[:, None]).flatten(0, 1)


def _sliced(qkv_BHWC, num_heads, how):
    """What `cut` should give, by a slice for each window and head, in operations that torch differentiates."""
    H, W = qkv_BHWC.shape[1:3]
    overlap = (how.overlap_window_size - how.window_size) // 2
    tops, lefts = range(how.above, H - how.below, how.window_size), range(0, W, how.window_size)

    def slices(x_BHWC, size):
        heads = x_BHWC.chunk(num_heads, dim=-1)
        rows = [
            [[x[:, top : top + size, left : left + size].flatten(1, 2) for x in heads] for left in lefts]
            for top in tops
        ]
        return torch.stack([torch.stack([torch.stack(x, 1) for x in row], 1) for row in rows], 1)

    q, k, v = qkv_BHWC.chunk(3, dim=-1)
    k, v = (torch.nn.functional.pad(x, (0, 0, *[overlap] * 4)) for x in (k, v))
    return slices(q, how.window_size), slices(k, how.overlap_window_size), slices(v, how.overlap_window_size)


def _plain(size):
    return Cut(window_size=size, overlap_window_size=size)


@given(st.integers(1, 3), num_windows, num_windows, window_sizes, st.integers(1, 3), st.integers(1, 4))
@few
def test_joined_undoes_cut(B, rows, columns, size, num_heads, D):
    C = num_heads * D
    qkv = _numbered(B, rows * size, columns * size, 3 * C)
    parts = cut(qkv, num_heads, _plain(size))
    for part, x in zip(parts, qkv.chunk(3, dim=-1), strict=True):
        assert part.shape == (B, rows, columns, num_heads, size * size, D)
        assert torch.equal(joined(part, size), x)


def test_windows_and_tokens_are_in_reading_order():
    q, k, v = (x[0, :, :, 0, :, 0].flatten(0, 1) for x in cut(_numbered(1, 4, 6, 3), 1, _plain(2)))
    assert q.tolist()[:4] == [[0, 3, 18, 21], [6, 9, 24, 27], [12, 15, 30, 33], [36, 39, 54, 57]]
    assert torch.equal(k, q + 1)
    assert torch.equal(v, q + 2)


@given(cuts(), st.integers(1, 3), st.integers(1, 3))
@few
def test_windows_are_the_slices_of_a_padded_map(case, num_heads, D):
    how, rows, columns = case
    qkv = _numbered(2, rows * how.window_size, columns * how.window_size, 3 * num_heads * D) + 1
    for found, wanted in zip(cut(qkv, num_heads, how), _sliced(qkv, num_heads, how), strict=True):
        assert torch.equal(found, wanted)
        assert found.is_contiguous()


@given(num_windows, num_windows, window_sizes, st.integers(0, 4))
@few
def test_overlapping_windows_are_centred(rows, columns, size, pad):
    qkv = _numbered(2, rows * size, columns * size, 9)
    key_size = size + 2 * pad
    _, *large = cut(qkv, 1, Cut(window_size=size, overlap_window_size=key_size))
    _, *plain = cut(qkv, 1, _plain(size))
    for keys, wanted in zip(large, plain, strict=True):
        assert keys.shape == (2, rows, columns, 1, key_size**2, 3)
        middle = keys.unflatten(4, (key_size, key_size))[..., pad : pad + size, pad : pad + size, :]
        assert torch.equal(middle.flatten(4, 5), wanted)


def _assert_gradients(how, rows, columns, num_heads, D, *, turned=False):
    """Against autograd through the slices, exactly: of whole numbers, whose sums are exact in any order."""
    B, H, W, C = 2, rows * how.window_size, columns * how.window_size, 3 * num_heads * D
    qkv = torch.randn(B, W, H, C).transpose(1, 2) if turned else torch.randn(B, H, W, C)
    qkv = qkv.double().requires_grad_()
    assert qkv.is_contiguous() != (turned and H > 1 and W > 1)
    found, wanted = cut(qkv, num_heads, how), _sliced(qkv, num_heads, how)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
        assert one.is_contiguous()
    weights = [torch.randint(-9, 10, x.shape).double() for x in wanted]
    expected = torch.autograd.grad(wanted, qkv, weights)[0]
    assert torch.equal(torch.autograd.grad(found, qkv, weights)[0], expected)
    # As they come from attention that works on a map: not contiguous.
    found = cut(qkv, num_heads, how)
    weights = [x.transpose(3, 4).contiguous().transpose(3, 4) for x in weights]
    assert torch.equal(torch.autograd.grad(found, qkv, weights)[0], expected)


@given(cuts(), st.integers(1, 2), st.integers(1, 2), st.booleans())
@few
def test_gradients_are_those_of_the_slices(case, num_heads, D, turned):
    _assert_gradients(*case, num_heads, D, turned=turned)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (5, 1), (3, 2), (4, 4)])
@pytest.mark.parametrize("key_size", [4, 6, 8, 10, 16])  # 10 and more: a pixel in up to 3 and 4 windows of a row
def test_gradients_of_odd_maps(rows, columns, key_size):
    _assert_gradients(Cut(window_size=4, overlap_window_size=key_size), rows, columns, 2, 3)


@pytest.mark.parametrize(("above", "below"), [(4, 0), (0, 4), (8, 4)])
@pytest.mark.parametrize("key_size", [4, 6, 16])
def test_gradients_of_rows_without_queries(above, below, key_size):
    """As queries they get none, as keys and values where windows reach into them."""
    how = Cut(window_size=4, overlap_window_size=key_size, above=above, below=below)
    _assert_gradients(how, 4, 3, 2, 3)
    qkv = torch.randn(1, 16, 12, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad([x.sum() for x in cut(qkv, 1, how)], qkv)
    without = torch.cat([gradient[:, :above], gradient[:, 16 - below :]], dim=1)
    assert without[..., :2].eq(0).all()
    assert without[..., 2:].any() == (key_size > 4)


def test_gradients_keep_their_dtype():
    qkv = torch.randn(1, 8, 8, 12).bfloat16().requires_grad_()
    (gradient,) = torch.autograd.grad(cut(qkv, 2, Cut(window_size=4, overlap_window_size=6))[1].sum(), qkv)
    assert gradient.dtype == torch.bfloat16
    assert gradient[..., 4:8].unique().tolist() == [1, 2, 4]  # windows that a pixel is in
    assert gradient[..., :4].eq(0).all()
    assert gradient[..., 8:].eq(0).all()


@pytest.mark.parametrize("key_size", [4, 6])
def test_a_compiled_cut_has_the_same_gradient(key_size):
    """Traced it is torch's own operations, which torch differentiates."""
    qkv = torch.randn(2, 8, 12, 12, dtype=torch.float64, requires_grad=True)
    how = Cut(window_size=4, overlap_window_size=key_size)
    compiled = torch.compile(lambda x: cut(x, 2, how), backend="aot_eager", fullgraph=True)
    weights = [torch.randint(-9, 10, x.shape).double() for x in cut(qkv, 2, how)]
    found, wanted = (
        torch.autograd.grad(function(qkv), qkv, weights) for function in (compiled, lambda x: cut(x, 2, how))
    )
    assert torch.equal(*found, *wanted)


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
    tokens = windows(came_round[None].int(), size, size)[0].flatten(2, 3)
    apart = (tokens[:, :, :, None] != tokens[:, :, None, :]).any(dim=-1)
    masks = shift_masks(size, shift)
    assert masks.shape == (3, size**2, size**2)
    assert masks.unique().tolist() == [-100.0, 0.0]
    down, right, corner = masks < 0
    assert not apart[:-1, :-1].any()
    assert (apart[-1, :-1] == down).all()
    assert (apart[:-1, -1] == right).all()
    assert (apart[-1, -1] == corner).all()
