"""When the optional native attention is used, with a stand-in for the package, and when it is not."""

import logging
import sys

import pytest
import torch

from hat_sr.model import native
from hat_sr.model.attention import attend
from hat_sr.model.native import native_attend, without_native
from hat_sr.model.window import shift_masks
from model.tiny import tiny_model


class StandIn:
    """In place of the module hat_sr_native: right, but for what is added to its result."""

    def __init__(self, wrong_by=0.0):
        self.wrong_by = wrong_by
        self.calls = 0

    def attend(self, *tensors):
        self.calls += 1
        with without_native():
            return attend(*tensors) + self.wrong_by


@pytest.fixture(autouse=True)
def forget_package():
    native._checked.cache_clear()
    yield
    native._checked.cache_clear()


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
    assert native_attend(*inputs()) is not None
    module.calls = 0
    return module


def inputs(dtype=torch.float32, **settings):
    q, k, v = (torch.randn(1, 2, 2, 16, 8, dtype=dtype, **settings) for _ in range(3))
    return [q, k, v, torch.randn(2, 16, 16, dtype=dtype, **settings), shift_masks(4, 2).to(dtype)]


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
    with without_native():
        expected = attend(*tensors)
    used.wrong_by = 1.0
    torch.testing.assert_close(attend(*tensors), expected + 1.0)
    tensors[-1] = None
    assert attend(*tensors).dtype == dtype
    assert used.calls == 2


def test_without_gradients_alone(used):
    tensors = inputs(requires_grad=True)
    assert native_attend(*tensors) is None
    with torch.no_grad():
        assert native_attend(*tensors) is not None
    *others, bias, masks = (x.detach() for x in tensors)
    assert native_attend(*others, bias.requires_grad_(), masks) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: [x.double() for x in tensors],
        lambda tensors: [x.half() for x in tensors],
        lambda tensors: [x.to("meta") for x in tensors],
        lambda tensors: [tensors[0].bfloat16(), *tensors[1:]],
        lambda tensors: [tensors[0][:, :0], *(x[:, :0] for x in tensors[1:3]), *tensors[3:]],
        lambda tensors: [torch.nn.Parameter(tensors[0], requires_grad=False), *tensors[1:]],
    ],
    ids=["float64", "float16", "meta", "two dtypes", "no windows", "no plain tensor"],
)
def test_what_it_does_not_do(used, change):
    assert native_attend(*change(inputs())) is None
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
    tensors = inputs()
    traced = torch.jit.trace(attend, tensors, check_trace=False)
    assert used.calls == 0
    torch.testing.assert_close(traced(*tensors), attend(*tensors))
    assert used.calls == 1


def test_without_the_package_nothing_is_said(package, caplog):
    package(None)  # as if it could not be found
    assert native_attend(*inputs()) is None
    assert caplog.records == []


class Broken(StandIn):
    def attend(self, *tensors):
        raise OSError("no such library")


class Cut:
    """Without its function."""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (StandIn(wrong_by=0.05), "is wrong by 0.05 in torch.float32"),
        (StandIn(wrong_by=float("nan")), "is wrong by nan"),
        (Broken(), "no such library"),
        (Cut(), "no attribute 'attend'"),
    ],
)
def test_what_does_not_work_is_not_used_and_said_once(package, caplog, module, message):
    package(module)
    tensors = inputs()
    with without_native():
        expected = attend(*tensors)
    with caplog.at_level(logging.WARNING, logger="hat_sr"):
        for _ in range(2):
            assert torch.equal(attend(*tensors), expected)
    (record,) = caplog.records
    assert message in record.getMessage()


def test_a_package_that_cannot_be_loaded(monkeypatch, tmp_path, caplog):
    (tmp_path / "hat_sr_native.py").write_text("import ctypes\nctypes.CDLL('/nowhere/attention.so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hat_sr_native", raising=False)
    assert native_attend(*inputs()) is None
    (record,) = caplog.records
    assert "/nowhere/attention.so" in record.getMessage()
