"""Attention with gradients against plain autograd, and against the fused form that runs without them."""

import math

import pytest
import torch

from hat_sr.model import attention
from hat_sr.model.attention import attend
from hat_sr.model.ops import window_attention
from hat_sr.model.window import Cut, shift_masks

SIZE = 4


def _inputs(*, rows=2, columns=3, num_heads=2, num_keys=16, batch=2):
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, rows, columns, num_heads, tokens, 4 // num_heads) for tokens in (SIZE**2, num_keys, num_keys)]
    shapes.append((num_heads, SIZE**2, num_keys))
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def _written_out(q, k, v, bias, masks):
    """The equation, with one mask for each window, in operations that torch differentiates."""
    rows, columns = q.shape[1:3]
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
    if masks is not None:
        down, right, corner = masks
        none = torch.zeros_like(down)
        last = [
            [(none, right), (down, corner)][r == rows - 1][c == columns - 1]
            for r in range(rows)
            for c in range(columns)
        ]
        scores = scores + torch.stack(last).view(1, rows, columns, 1, *down.shape)
    return scores.softmax(-1) @ v


def _over_map(qkv, bias, masks, how):
    """The same on a map, window by window, in operations that torch differentiates."""
    H, W = qkv.shape[1:3]
    overlap = (how.overlap_window_size - SIZE) // 2
    q, k, v = qkv.chunk(3, dim=-1)
    k, v = (torch.nn.functional.pad(x, (0, 0, *[overlap] * 4)) for x in (k, v))
    tops, lefts = range(how.above, H - how.below, SIZE), range(0, W, SIZE)

    def windows(x, size):
        each = [[x[:, top : top + size, left : left + size].flatten(1, 2) for left in lefts] for top in tops]
        x_BhwNC = torch.stack([torch.stack(row, 1) for row in each], 1)
        return x_BhwNC.unflatten(-1, (len(bias), -1)).transpose(3, 4)

    parts = windows(q, SIZE), windows(k, how.overlap_window_size), windows(v, how.overlap_window_size)
    out_BhwrcC = _written_out(*parts, bias, masks).transpose(3, 4).flatten(4).unflatten(3, (SIZE, SIZE))
    return torch.cat([torch.cat(row.unbind(1), dim=2) for row in out_BhwrcC.unbind(1)], dim=1)


def _assert_same(function, equation, leaves):
    """In values, with and without gradients, and in gradients."""
    out, expected = function(*leaves), equation(*leaves)
    weight = torch.rand_like(out)
    found, wanted = (torch.autograd.grad((x * weight).sum(), leaves) for x in (out, expected))
    with torch.no_grad():
        pairs = [(out, expected), (function(*leaves), expected), *zip(found, wanted, strict=True)]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shifted", "num_keys"), [(False, 16), (False, 36), (True, 16)])  # OCAB shifts no windows
@pytest.mark.parametrize("windows", [1, 2, 4, 100])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (3, 1), (2, 5)])
def test_values_and_gradients_are_those_of_the_equation(monkeypatch, shifted, num_keys, windows, grid):
    monkeypatch.setattr(attention, "MATRIX_ELEMENTS", windows * 2 * SIZE**2 * num_keys)
    inputs = _inputs(rows=grid[0], columns=grid[1], num_keys=num_keys)
    masks = shift_masks(SIZE, SIZE // 2).double() if shifted else None
    _assert_same(lambda *inputs: attend(*inputs, masks), lambda *inputs: _written_out(*inputs, masks), inputs)


@pytest.mark.parametrize(
    ("shifted", "num_keys", "rows"),
    [(False, 16, {}), (True, 16, {}), (False, 36, {}), (False, 100, {"above": 4, "below": 4})],
    ids=["plain", "shifted", "overlapping", "some rows"],
)
@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (3, 2)])
def test_on_a_map_values_and_gradients_are_those_of_the_equation(shifted, num_keys, rows, grid):
    how = Cut(window_size=SIZE, overlap_window_size=math.isqrt(num_keys), **rows)
    generator = torch.Generator().manual_seed(0)
    shapes = (2, grid[0] * SIZE + how.above + how.below, grid[1] * SIZE, 12), (2, SIZE**2, num_keys)
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    masks = shift_masks(SIZE, SIZE // 2).double() if shifted else None
    _assert_same(lambda *x: window_attention(*x, masks, how), lambda *x: _over_map(*x, masks, how), leaves)


def test_of_the_matrices_only_the_weights_are_kept_for_the_backward_pass():
    """Once, not the scores beside them: memory is what window attention runs out of."""
    q, k, v, bias = _inputs(batch=8, num_keys=36)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        attend(q, k, v, bias, None)
    num_windows = q[..., 0, 0].numel()
    assert sum(kept) <= q.numel() + k.numel() + v.numel() + (1 + num_windows) * bias.numel()


def test_gradients_in_bfloat16_are_near():
    exact, low = _inputs(), [x.detach().bfloat16().requires_grad_() for x in _inputs()]
    masks = shift_masks(SIZE, SIZE // 2)
    wanted = torch.autograd.grad(attend(*exact, masks.double()).square().sum(), exact)
    found = torch.autograd.grad(attend(*low, masks.bfloat16()).square().sum(), low)
    for low_x, x in zip(found, wanted, strict=True):
        assert low_x.dtype == torch.bfloat16
        torch.testing.assert_close(low_x.double(), x, rtol=0.05, atol=0.03 * x.abs().max().item())


def test_masked_weights_are_nothing_but_no_subnormal_numbers():
    """They are below float64's resolution beside 1; processors calculate with subnormal numbers many times slower."""
    q, k, _, bias = (x.detach().float() for x in _inputs(num_heads=1))
    portion = (slice(0, 4), slice(0, 3))
    weights = attention._weights(q, k, bias, shift_masks(SIZE, SIZE // 2), portion)
    down, right, corner = shift_masks(SIZE, SIZE // 2) < 0
    masked = torch.zeros(2, 2, 3, *down.shape, dtype=torch.bool)  # images, rows and columns of windows
    masked[:, -1, :-1], masked[:, :-1, -1], masked[:, -1, -1] = down, right, corner
    masked = masked.flatten(0, 2)
    assert weights[~masked].min() > 1e-12
    assert weights[masked].max() < 1e-16
    assert weights.min() >= torch.finfo(torch.float32).tiny


@pytest.mark.parametrize(("shifted", "num_keys"), [(False, 16), (False, 36), (True, 16)])
@pytest.mark.parametrize("windows", [1, 4, 100])
def test_bf16_without_gradients_is_the_equation_rounded(monkeypatch, shifted, num_keys, windows):
    monkeypatch.setattr(attention, "MATRIX_ELEMENTS", windows * 2 * SIZE**2 * num_keys)
    inputs = [x.detach().bfloat16() for x in _inputs(num_keys=num_keys)]
    masks = shift_masks(SIZE, SIZE // 2) if shifted else None
    expected = _written_out(*(x.double() for x in inputs), None if masks is None else masks.double())
    out = attend(*inputs, None if masks is None else masks.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=0.03)


def test_bf16_takes_scores_of_any_size():
    q, k, v, bias = (x.detach().bfloat16() for x in _inputs())
    out = attend(1000 * q, 1000 * k, v, bias, None)
    assert out.isfinite().all()
    assert out.abs().max() <= v.abs().max()
