"""When the optional native attention is used, with a stand-in for the package, and when it is not."""

import logging
import sys

import pytest
import torch

from hat_sr.model import native as native_module
from hat_sr.model.attention import attend
from hat_sr.model.native import native_attention, without_native
from hat_sr.model.window import partition, reverse, shift_masks
from model.tiny import tiny_model


class StandIn:
    """In place of the module hat_sr_native: right, but for what is added to its result."""

    def __init__(self, wrong_by=0.0):
        self.wrong_by = wrong_by
        self.calls = 0

    def attend(self, q, k, v, bias, masks, *, out):
        self.calls += 1
        in_windows = [x if x.dim() == 5 else x.flatten(3, 4) for x in (q, k, v)]
        out.copy_((attend(*in_windows, bias, masks) + self.wrong_by).view(out.shape))


@pytest.fixture(autouse=True)
def forget_package():
    native_module._checked.cache_clear()
    yield
    native_module._checked.cache_clear()


@pytest.fixture
def package(monkeypatch):
    """Put something in the place of the package, and forget what was there."""

    def put(module):
        monkeypatch.setitem(sys.modules, "hat_sr_native", module)
        return module

    return put


@pytest.fixture
def used(package):
    """A stand-in that has been found right, and whose calls are counted from then on."""
    module = package(StandIn())
    assert native(*inputs()) is not None
    module.calls = 0
    return module


def inputs(dtype=torch.float32, **settings):
    """Queries, keys and values of 2×2 windows of 4×4 pixels with two heads, bias and masks."""
    qkv, bias = torch.randn(1, 8, 8, 24, dtype=dtype, **settings), torch.randn(2, 16, 16, dtype=dtype, **settings)
    return [qkv, bias, shift_masks(4, 2).to(dtype)]


def native(qkv, bias, masks):
    """The package's result, or None where torch has to do it."""
    function = native_attention(qkv, bias)
    return None if function is None else function(qkv, bias, masks, window_size=4, overlap_window_size=4)


def by_torch(qkv, bias, masks):
    return reverse(attend(*partition(qkv, 4).chunk(3, dim=-1), bias, masks), 4)


def test_a_network_uses_it(used):
    model, x = tiny_model(), torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        found = model(x)
        assert used.calls == 3  # two HABs, one OCAB
        with without_native():
            torch.testing.assert_close(found, model(x))
    assert used.calls == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_result_is_taken(used, dtype):
    tensors = inputs(dtype)
    used.wrong_by = 1.0
    torch.testing.assert_close(native(*tensors), by_torch(*tensors) + 1.0)
    tensors[-1] = None
    assert native(*tensors).dtype == dtype
    assert used.calls == 2


def test_without_gradients_alone(used):
    tensors = inputs(requires_grad=True)
    assert native(*tensors) is None
    with torch.no_grad():
        assert native(*tensors) is not None
    qkv, bias, masks = (x.detach() for x in tensors)
    assert native(qkv, bias.requires_grad_(), masks) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: [x.double() for x in tensors],
        lambda tensors: [x.half() for x in tensors],
        lambda tensors: [x.to("meta") for x in tensors],
        lambda tensors: [tensors[0].bfloat16(), *tensors[1:]],
        lambda tensors: [tensors[0][:, :0], *tensors[1:]],
        lambda tensors: [torch.nn.Parameter(tensors[0], requires_grad=False), *tensors[1:]],
    ],
    ids=["float64", "float16", "meta", "two dtypes", "no windows", "no plain tensor"],
)
def test_what_it_does_not_do(used, change):
    assert native(*change(inputs())) is None
    assert used.calls == 0


def test_not_while_a_network_is_traced(used):
    model, x = tiny_model(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.export.export(model, (x,), strict=False)
        torch.export.export(model, (x,), strict=True)
        assert used.calls == 0
        model(x)
    assert used.calls


@pytest.mark.filterwarnings("ignore")  # of what tracing may miss
def test_not_while_it_is_traced_the_old_way(used):
    model, x = tiny_model(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        traced = torch.jit.trace(model, x, check_trace=False)
        assert used.calls == 0
        torch.testing.assert_close(traced(x), model(x))
    assert used.calls == 3


def test_without_the_package_nothing_is_said(package, caplog):
    package(None)  # as if it could not be found
    assert native(*inputs()) is None
    assert caplog.records == []


class Broken(StandIn):
    def attend(self, *tensors, out):
        raise OSError("no such library")


class Old:
    """Of another version."""

    def attend(self, q, k, v, bias, masks):
        return q


class Cut:
    """Without its function."""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (StandIn(wrong_by=0.05), "is wrong by 0.05 in torch.float32"),
        (StandIn(wrong_by=float("nan")), "is wrong by nan"),
        (Broken(), "no such library"),
        (Cut(), "no attribute 'attend'"),
        (Old(), "unexpected keyword argument 'out'"),
    ],
)
def test_what_does_not_work_is_not_used_and_said_once(package, caplog, module, message):
    package(module)
    with caplog.at_level(logging.WARNING, logger="hat_sr"):
        for _ in range(2):
            assert native(*inputs()) is None
    (record,) = caplog.records
    assert message in record.getMessage()


def test_a_package_that_cannot_be_loaded(monkeypatch, tmp_path, caplog):
    (tmp_path / "hat_sr_native.py").write_text("import ctypes\nctypes.CDLL('/nowhere/attention.so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hat_sr_native", raising=False)
    assert native(*inputs()) is None
    (record,) = caplog.records
    assert "/nowhere/attention.so" in record.getMessage()
