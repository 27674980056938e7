"""When the optional native package is used, with a stand-in for the package, and when it is not."""

import logging
import sys
from collections import Counter
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from hat_sr.model import native as native_module
from hat_sr.model import ops
from hat_sr.model.attention import attend
from hat_sr.model.blocks import Linear
from hat_sr.model.native import INTERFACE, package_for_linear, without_native
from hat_sr.model.window import Cut, cut, joined, shift_masks
from model.tiny import tiny_model

KEPT = 7.0
"""What the stand-in hands on from forward to backward."""


class StandIn:
    """In place of the module hat_sr_native: right, but for what is added to `out` and so on."""

    def __init__(self):
        self.wrong_by = {}
        self.calls = Counter()

    def check(self, interface):
        assert interface == INTERFACE

    def attend(self, q, k, v, bias, masks, *, out, sums):
        self.calls["attend"] += 1
        out.copy_(_attended(q, k, v, bias, masks) + self.wrong_by.get("out", 0))
        if sums is not None:
            sums.fill_(KEPT)

    def gradient(self, grad, q, k, v, bias, masks, sums, **places):
        self.calls["gradient"] += 1
        assert sums.eq(KEPT).all()
        *found, of_bias = _gradients(lambda *leaves: _attended(*leaves, masks), (q, k, v, bias), grad)
        for place, x in zip(places.values(), found, strict=True):
            place.copy_(x)
        return of_bias.float()

    def layer_norm(self, x, weight, bias, eps):
        self.calls["layer_norm"] += 1
        return _normed(x, weight, bias, eps), torch.tensor(eps)

    def layer_norm_gradient(self, grad, x, weight, statistics):
        self.calls["layer_norm_gradient"] += 1
        eps = statistics.item()
        leaves = x, weight, torch.zeros_like(weight)
        of_x, of_weight, of_bias = _gradients(lambda *leaves: _normed(*leaves, eps), leaves, grad)
        return of_x, of_weight.float(), of_bias.float()

    def gelu_gradient(self, grad, x):
        self.calls["gelu_gradient"] += 1
        return _gradients(F.gelu, [x], grad)[0] + self.wrong_by.get("of_gelu", 0)

    def add_windows(self, windows, out, *, step, top, left):
        self.calls["add_windows"] += 1
        _, h, w, size, _, _ = windows.shape
        room = 2 * size  # for windows on all sides
        map_BHWC = F.pad(torch.zeros_like(out), (0, 0, room, room, room, room))
        for row, column in product(range(h), range(w)):
            y, x = room + top + row * step, room + left + column * step
            map_BHWC[:, y : y + size, x : x + size] += windows[:, row, column]
        out.copy_(map_BHWC[:, room:-room, room:-room])

    def linear_gradient(self, grad, x):
        self.calls["linear_gradient"] += 1
        rows = grad.float().flatten(0, -2)
        of_weight, of_bias = rows.T @ x.float().flatten(0, -2), rows.sum(0)
        return of_weight + self.wrong_by.get("of_linear", 0), of_bias + self.wrong_by.get("of_linear_bias", 0)


def _attended(q, k, v, bias, masks):
    """By torch: of windows whose tokens have one axis or two, and heads side by side."""
    in_windows = [x if x.dim() == 5 else x.flatten(3, 4) for x in (q, k, v)]
    out = attend(*(x.unflatten(-1, (len(bias), -1)).transpose(3, 4) for x in in_windows), bias, masks)
    return out.transpose(3, 4).reshape(q.shape)


def _normed(x, weight, bias, eps):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _gradients(function, tensors, grad):
    leaves = [x.detach().requires_grad_() for x in tensors]
    with torch.enable_grad():
        return torch.autograd.grad(function(*leaves), leaves, grad)


@pytest.fixture(autouse=True)
def forget_package():
    native_module._installed.cache_clear()
    yield
    native_module._installed.cache_clear()


@pytest.fixture
def package(monkeypatch):
    """Put something in the place of the package, and forget what was there."""

    def put(module):
        monkeypatch.setitem(sys.modules, "hat_sr_native", module)
        return module

    return put


@pytest.fixture
def used(package):
    """A stand-in that counts its calls."""
    return package(StandIn())


def inputs(dtype=torch.float32, **settings):
    """Queries, keys and values of 2×2 windows of 4×4 pixels with two heads, bias and masks."""
    qkv, bias = torch.randn(1, 8, 8, 24, dtype=dtype, **settings), torch.randn(2, 16, 16, dtype=dtype, **settings)
    return [qkv, bias, shift_masks(4, 2).to(dtype)]


PLAIN = Cut(window_size=4, overlap_window_size=4)


def native(qkv, bias, masks, how=PLAIN):
    """The package's result, or None where torch has to do it."""
    package = native_module.package_for(qkv, bias)
    return None if package is None else native_module.attention(package, qkv, bias, masks, how)


def by_torch(qkv, bias, masks, how=PLAIN):
    return joined(attend(*cut(qkv, 2, how), bias, masks), 4)


OF_A_NETWORK = {"attend": 3, "layer_norm": 8}
"""How often the tiny network calls the package: two HABs and an OCAB, two norms in each, one before and one behind."""


def test_a_network_uses_it(used):
    model, x = tiny_model(), torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        found = model(x)
        assert used.calls == OF_A_NETWORK
        with without_native():
            torch.testing.assert_close(found, model(x))
    assert used.calls == OF_A_NETWORK


def test_so_does_its_training(used):
    torch.manual_seed(0)
    model, x = tiny_model(drop_path_rate=0.0).train(), torch.rand(2, 3, 8, 12)

    def gradients():
        return torch.autograd.grad(model(x).square().sum(), list(model.parameters()))

    found = gradients()
    # GELU is in three MLPs and two CABs.
    counts = OF_A_NETWORK | {"gradient": 3, "layer_norm_gradient": 8, "gelu_gradient": 5, "add_windows": 1}
    if ops._by_onednn(x[..., :1], torch.empty(1, 1)):  # else torch's linear layers are not replaced
        counts["linear_gradient"] = 4 * 3
    assert used.calls == counts
    with without_native():
        for one, other in zip(found, gradients(), strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_result_is_taken(used, dtype):
    tensors = inputs(dtype)
    used.wrong_by["out"] = 1.0
    torch.testing.assert_close(native(*tensors), by_torch(*tensors) + 1.0)
    tensors[-1] = None
    assert native(*tensors).dtype == dtype
    assert used.calls == {"attend": 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [{}, {"above": 4}, {"above": 4, "below": 8}], ids=str)
@pytest.mark.parametrize("key_size", [4, 6, 10])
def test_it_is_given_the_windows_of_the_map(used, dtype, rows, key_size):
    how = Cut(window_size=4, overlap_window_size=key_size, **rows)
    qkv, bias = torch.randn(2, 16, 12, 24, dtype=dtype), torch.randn(2, 16, key_size**2, dtype=dtype)
    masks = shift_masks(4, 2).to(dtype) if key_size == 4 else None
    found = ops.window_attention(qkv, bias, masks, how)
    assert used.calls == {"attend": 1}
    torch.testing.assert_close(found, by_torch(qkv, bias, masks, how))
    assert found.is_contiguous()

    leaves, grad = (qkv.requires_grad_(), bias.requires_grad_()), torch.randn_like(found)
    found = torch.autograd.grad(ops.window_attention(*leaves, masks, how), leaves, grad)
    assert used.calls == {"attend": 2, "gradient": 1} | ({"add_windows": 1} if how.overlap else {})
    rounding = 0.05 if dtype == torch.bfloat16 else 1e-5  # of what windows that overlap are added up from
    for one, other in zip(found, torch.autograd.grad(by_torch(*leaves, masks, how), leaves, grad), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=rounding, atol=rounding)


def test_gradients_that_are_wanted_of_one_alone(used):
    qkv, bias, masks = inputs()
    for leaf in (qkv, bias):
        leaf.requires_grad_()
        (found,) = torch.autograd.grad(native(qkv, bias, masks).sum(), leaf)
        torch.testing.assert_close(found, torch.autograd.grad(by_torch(qkv, bias, masks).sum(), leaf)[0])
        leaf.requires_grad_(False)
    assert used.calls == {"attend": 2, "gradient": 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_layer_norm_is_taken(used, dtype):
    tensors = [torch.randn(shape, dtype=dtype) for shape in ((2, 3, 4, 6), (6,), (6,))]
    torch.testing.assert_close(ops.layer_norm(*tensors, 1e-3), _normed(*tensors, 1e-3))
    leaves, grad = [x.requires_grad_() for x in tensors], torch.randn(2, 3, 4, 6, dtype=dtype)
    found = torch.autograd.grad(ops.layer_norm(*leaves, 1e-3), leaves, grad)
    assert used.calls == {"layer_norm": 2, "layer_norm_gradient": 1}
    for one, other in zip(found, torch.autograd.grad(_normed(*leaves, 1e-3), leaves, grad), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other)
    ops.layer_norm(*(x.double() for x in tensors), 1e-3)
    with without_native():
        ops.layer_norm(*tensors, 1e-3)
    assert used.calls["layer_norm"] == 2


def test_its_gradient_of_gelu_is_taken(used):
    x = torch.randn(2, 3, 4, 6)
    out = ops.gelu(x.requires_grad_())
    torch.testing.assert_close(out, F.gelu(x))
    used.wrong_by["of_gelu"] = 1.0
    (found,), (wanted,) = torch.autograd.grad(out.sum(), x), torch.autograd.grad(F.gelu(x).sum(), x)
    torch.testing.assert_close(found, wanted + 1.0)
    ops.gelu(x.double()).sum().backward()
    assert used.calls == {"gelu_gradient": 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_gradient_of_linear_layers_is_taken(used, monkeypatch, dtype):
    monkeypatch.setattr(native_module, "_has_amx", lambda: False)
    monkeypatch.setattr(ops, "_by_onednn", lambda *tensors: True)
    monkeypatch.setattr(ops, "_product", F.linear)
    layer, x = Linear(5, 7, dtype=dtype), torch.randn(2, 3, 4, 5, dtype=dtype)
    used.wrong_by |= {"of_linear": 1.0, "of_linear_bias": 2.0}
    leaves, grad = (layer.weight, layer.bias), torch.randn(2, 3, 4, 7, dtype=dtype)
    found = torch.autograd.grad(layer(x), leaves, grad)
    with without_native():
        of_weight, of_bias = torch.autograd.grad(layer(x), leaves, grad)
    assert used.calls == {"linear_gradient": 1}
    rounding = 0.05 if dtype == torch.bfloat16 else 1e-5
    assert found[0].dtype == found[1].dtype == dtype
    torch.testing.assert_close(found[0], of_weight + 1.0, rtol=rounding, atol=rounding)
    torch.testing.assert_close(found[1], of_bias + 2.0, rtol=rounding, atol=rounding)


def test_what_multiplies_bfloat16_itself_is_left_to_torch(used, monkeypatch):
    monkeypatch.setattr(native_module, "_has_amx", lambda: True)
    x = torch.randn(3, 4)
    assert package_for_linear(x.bfloat16()) is None
    assert package_for_linear(x) is used


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
    assert not used.calls


def test_not_while_a_network_is_traced(used):
    model, x = tiny_model(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.export.export(model, (x,), strict=False)
        torch.export.export(model, (x,), strict=True)
        assert not used.calls
        model(x)
    assert used.calls


@pytest.mark.filterwarnings("ignore")  # of what tracing may miss
def test_not_while_it_is_traced_the_old_way(used):
    model, x = tiny_model(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        traced = torch.jit.trace(model, x, check_trace=False)
        assert not used.calls
        torch.testing.assert_close(traced(x), model(x))
    assert used.calls == OF_A_NETWORK


def test_without_the_package_nothing_is_said(package, caplog):
    package(None)  # as if it could not be found
    assert native(*inputs()) is None
    assert caplog.records == []


class Other(StandIn):
    def check(self, interface):
        raise ImportError("its interface is 0, and 1 is needed")


class Broken(StandIn):
    def check(self, interface):
        raise OSError("no such library")


class Old:
    """From before there was a check."""


@pytest.mark.parametrize(
    ("module", "message"),
    [(Other(), "its interface is 0"), (Broken(), "no such library"), (Old(), "no attribute 'check'")],
)
def test_what_does_not_fit_is_not_used_and_said_once(package, caplog, module, message):
    package(module)
    with caplog.at_level(logging.WARNING, logger="hat_sr"):
        for _ in range(2):
            assert native(*inputs()) is None
    (record,) = caplog.records
    assert message in record.getMessage()
    assert "Install it again" in record.getMessage()


def test_a_package_that_cannot_be_loaded(monkeypatch, tmp_path, caplog):
    (tmp_path / "hat_sr_native.py").write_text("import ctypes\nctypes.CDLL('/nowhere/attention.so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hat_sr_native", raising=False)
    assert native(*inputs()) is None
    (record,) = caplog.records
    assert "/nowhere/attention.so" in record.getMessage()
