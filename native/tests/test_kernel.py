"""The kernel against the equation in float64, on every kind of processor that this one can stand for."""

import os

import hat_sr_native
import pytest
import torch
from hat_sr_native import attend, levels

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Relative: of the norm of the result."""


def inputs(*, B=1, h=2, w=2, N=16, M=16, K=2, D=8, masks=False, dtype=torch.float32, seed=0):
    """Queries, keys and values as views of one map, as HAT has them where N is M."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(shape, generator=generator)

    C = K * D
    if N == M:
        q, k, v = numbers(B, h, w, N, 3 * C).to(dtype).chunk(3, dim=-1)
    else:
        q = numbers(B, h, w, N, C).to(dtype)
        k, v = numbers(B, h, w, M, 2 * C).to(dtype).chunk(2, dim=-1)
    apart = numbers(3, N, M) > 0.5
    return q, k, v, numbers(K, N, M).to(dtype), apart * torch.tensor(-100.0, dtype=dtype) if masks else None


def equation(q, k, v, bias, masks):
    """In float64, with one mask for each window."""
    q, k, v, bias = (x.double() for x in (q, k, v, bias))
    (h, w), K = q.shape[1:3], len(bias)
    q, k, v = (x.unflatten(-1, (K, -1)).transpose(3, 4) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
    if masks is not None:
        down, right, corner = masks.double()
        none = torch.zeros_like(down)
        for_window = [[(none, right), (down, corner)][r == h - 1][c == w - 1] for r in range(h) for c in range(w)]
        scores = scores + torch.stack(for_window).unflatten(0, (h, w))[:, :, None]
    return (scores.softmax(-1) @ v).transpose(3, 4).flatten(4)


def error(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


def windows(x_BHWC, size, step):
    """Views, with rows and columns of tokens: (B, h, w, size, size, C)."""
    return x_BHWC.unfold(1, size, step).unfold(2, size, step).permute(0, 1, 2, 4, 5, 3)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_windows_may_be_views_of_maps_and_overlap(level, dtype):
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, side, side + 4, 24, generator=generator).to(dtype) for side in (8, 10, 10))
    bias, out = torch.randn(3, 16, 36, generator=generator).to(dtype), torch.full((2, 8, 12, 24), 7.0, dtype=dtype)
    q, place = windows(queries, 4, 4), windows(out, 4, 4)
    k, v = windows(keys, 6, 4), windows(values, 6, 4)
    assert attend(q, k, v, bias, out=place, level=level) is place
    wanted = equation(*(x.flatten(3, 4) for x in (q, k, v)), bias, None)
    assert error(place.flatten(3, 4), wanted) < TOLERANCES[dtype]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"N": 64, "M": 144, "D": 24, "K": 6},
        {"N": 256, "M": 256, "D": 30, "K": 6, "masks": True},
        {"N": 256, "M": 576, "D": 30, "K": 1},
        {"N": 7, "M": 7, "D": 5, "K": 3, "masks": True},
        {"N": 33, "M": 97, "D": 17, "K": 1, "B": 3, "masks": True},
        {"N": 100, "M": 1, "D": 1, "K": 4},
        {"N": 1, "M": 195, "D": 2, "K": 1, "h": 1, "w": 1, "masks": True},
        {"N": 16, "M": 36, "D": 64, "K": 2, "h": 3, "w": 1, "masks": True},
        {"N": 16, "M": 35, "D": 131, "K": 1, "h": 1, "w": 5, "B": 2, "masks": True},
    ],
    ids=str,
)
def test_it_is_the_equation(level, dtype, shape):
    tensors = inputs(**shape, dtype=dtype)
    out = attend(*tensors, level=level)
    assert out.dtype == dtype
    assert out.is_contiguous()
    assert error(out, equation(*tensors)) < TOLERANCES[dtype]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("D", range(1, 34))
def test_any_number_of_channels(level, D):
    tensors = inputs(D=D, N=20, M=30, masks=True)
    assert error(attend(*tensors, level=level), equation(*tensors)) < 1e-5


@pytest.mark.parametrize("level", levels())
def test_only_the_result_is_written_and_only_the_inputs_are_read(level):
    """All around them is what would spoil the result, or would be spoilt."""
    q, k, v, bias, masks = inputs(N=19, M=21, K=3, D=7, masks=True, dtype=torch.bfloat16)
    wanted = attend(q, k, v, bias, masks, level=level)

    def surrounded(x):
        large = torch.full([size + 2 for size in x.shape], float("nan"), dtype=x.dtype)
        part = large[tuple(slice(1, -1) for _ in x.shape)]
        part.copy_(x)
        return part

    around = [surrounded(x) for x in (q, k, v, bias, masks)]
    assert torch.equal(attend(*around, level=level), wanted)


@pytest.mark.parametrize("level", levels())
def test_masked_pairs_do_not_count(level):
    q, k, v, bias, masks = inputs(N=64, M=64, masks=True, h=1, w=1)
    masks[:, :, :-1] = -100.0
    masks[:, :, -1] = 0.0
    out = attend(q, k, v, bias, masks, level=level)
    torch.testing.assert_close(out, v[..., -1:, :].expand_as(out), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_large_scores_do_not_overflow(level, dtype):
    q, k, v, bias, _ = inputs(N=40, M=200, dtype=dtype)
    bias = torch.where(bias > 1, 1e4, -1e4).to(dtype)
    out = attend(q, k, v, bias, None, level=level)
    # float32 has steps of 0.001 there.
    assert error(out, equation(q, k, v, bias, None)) < TOLERANCES[dtype] + 1e-3


@pytest.mark.parametrize("level", levels())
def test_what_is_not_a_number_spreads_to_its_queries_alone(level):
    q, k, v, bias, _ = inputs(K=1, h=1, w=1)
    q = q.clone()
    q[..., 3, 0] = float("nan")
    out = attend(q, k, v, bias, None, level=level)
    assert out[..., 3, :].isnan().all()
    assert not out[..., :3, :].isnan().any()
    assert not out[..., 4:, :].isnan().any()


@pytest.mark.parametrize("level", levels())
def test_other_strides(level):
    """Channels far apart, windows in another order, a bias that is turned, masks of another dtype."""
    tensors = inputs(masks=True, h=3)
    wanted = equation(*tensors)
    q, k, v, bias, masks = tensors
    turned = [x.permute(4, 2, 1, 3, 0).contiguous().permute(4, 2, 1, 3, 0) for x in (q, k)]
    others = v.transpose(1, 2).contiguous().transpose(1, 2), bias.mT.contiguous().mT, masks.bfloat16()
    assert error(attend(*turned, *others, level=level), wanted) < 1e-5


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_nothing(threads):
    tensors = inputs(N=64, M=64, K=3, B=2, masks=True)
    threads(1)
    wanted = attend(*tensors)
    for num_threads in (2, 5, 100):
        threads(num_threads)
        assert torch.equal(attend(*tensors), wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking a process with threads
def test_a_forked_process_can_go_on_with_one_thread(threads):
    """As with torch itself: OpenMP's threads are not there any more."""
    threads(2)
    tensors = inputs()
    wanted = attend(*tensors)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os._exit(0 if torch.equal(attend(*tensors), wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_to_do():
    assert attend(*inputs(h=0)).shape == (1, 0, 2, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: torch.zeros(1, 2, 2, 16, 15)}, "keys have the shape"),
        ({2: torch.zeros(1, 2, 2, 15, 16)}, "values have the shape"),
        ({3: torch.zeros(2, 15, 16)}, "bias have the shape"),
        ({4: torch.zeros(2, 16, 16)}, "masks have the shape"),
        ({0: torch.zeros(4, 16, 16)}, "queries have 3 dimensions"),
        ({3: torch.zeros(3, 16, 16)}, "16 channels cannot be shared among 3 heads"),
        ({2: torch.zeros(1, 2, 2, 16, 16, dtype=torch.bfloat16)}, "must be the same"),
        ({3: torch.zeros(2, 16, 16, dtype=torch.float64)}, "float32 or bfloat16 on the CPU"),
        ({3: torch.zeros(2, 16, 16, device="meta")}, "float32 or bfloat16 on the CPU"),
    ],
)
def test_refusals(change, message):
    tensors = list(inputs(masks=True))
    for place, x in change.items():
        tensors[place] = x
    with pytest.raises(ValueError, match=message):
        attend(*tensors)


def test_unknown_level():
    with pytest.raises(ValueError, match="level 'amx'"):
        attend(*inputs(), level="amx")


def test_the_levels_are_in_order():
    assert levels()[0] == "portable"
    assert [level for level in hat_sr_native.LEVELS if level in levels()] == list(levels())
