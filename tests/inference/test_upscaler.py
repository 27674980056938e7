import logging

import pytest
import torch
from torch import nn

from hat_sr.errors import ConfigError, InputError
from hat_sr.inference import engine as module
from hat_sr.inference.device import PRECISION_NAMES, find_device, find_dtype
from hat_sr.inference.memory import forward_bytes
from hat_sr.inference.tiling import tiled
from hat_sr.inference.upscale import faithful, padded, self_ensemble
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.banded import forward_in_bands
from hat_sr.model.config import HATConfig
from inference.doubles import random_image, tiny_hat


class Double(nn.Module):
    """Nearest neighbour ×2 with a HAT's config; refuses bands above `limit` pixels, and overflows in half precision."""

    def __init__(self, *, limit: int = 10**9, gain: float = 1.0) -> None:
        super().__init__()
        self.config = HATConfig(upscale=2, in_chans=1, window_size=4, depths=(1,), num_heads=(6,))
        self.limit = limit
        self.gain = nn.Parameter(torch.tensor(gain))
        self.shapes: list[tuple[int, ...]] = []
        self.eval()

    def cast_body(self, dtype):
        return self.to(dtype)

    def in_bands(self, x, num_rows):
        self.shapes.append((*x.shape, num_rows))
        if x.shape[-1] * min(x.shape[-2], num_rows) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        x = x.to(self.gain.dtype)
        return (x * self.gain / self.gain).repeat_interleave(2, -2).repeat_interleave(2, -1)


@pytest.fixture(autouse=True)
def bands(monkeypatch):
    """The double has bands of its own."""

    def run(model, x, *, num_rows, report):
        if isinstance(model, Double):
            return model.in_bands(x, num_rows)
        return forward_in_bands(model, x, num_rows=num_rows, report=report)

    monkeypatch.setattr(module, "forward_in_bands", run)


@pytest.fixture(scope="module")
def model():
    return tiny_hat()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 3), (8, 12), (30, 41)])
def test_any_size_whole(model, size):
    x = random_image(2, 3, *size)
    out = Upscaler(model, device="cpu")(x)
    assert out.shape == (2, 3, 2 * size[0], 2 * size[1])
    assert out.dtype == torch.float32
    with torch.no_grad():
        wanted = padded(model, multiple=4, scale=2)(x)
    torch.testing.assert_close(Upscaler(model, faithful=False, device="cpu")(x), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(out, faithful(lambda _: wanted.clone(), scale=2)(x), rtol=0, atol=1e-5)


def test_bands_are_planned_and_change_nothing(model, monkeypatch):
    x = random_image(1, 3, 40, 30)
    upscaler, wanted = Upscaler(model, device="cpu"), Upscaler(model, device="cpu")(x)
    assert upscaler.plan(40, 30).band_rows > 40
    needed = forward_bytes(model.config, torch.float32, 40, 30, 4) + 4 * 3 * 40 * 30 * 4
    monkeypatch.setattr(module, "memory_budget", lambda _: needed)
    assert (upscaler.plan(40, 30).band_rows, upscaler.plan(40, 30).tile_size) == (4, None)
    torch.testing.assert_close(upscaler(x), wanted, rtol=0, atol=1e-5)


def test_a_budget_is_kept_to(model):
    needed = forward_bytes(model.config, torch.float32, 40, 30, 4) + 4 * 3 * 40 * 30 * 4
    assert Upscaler(model, memory=needed, device="cpu").plan(40, 30).band_rows == 4
    assert Upscaler(model, memory=needed, device="cpu").plan(40, 30).tile_size is None
    assert Upscaler(model, memory=needed - 1, device="cpu").plan(40, 30).tile_size is not None
    with pytest.raises(ConfigError, match="memory 0: a number of bytes"):
        Upscaler(model, memory=0)


def test_an_ensemble_of_a_tall_image_is_planned_for_its_turned_views(model):
    upscaler = Upscaler(model, self_ensemble=True, memory=10**9, device="cpu")
    assert upscaler.plan(400, 8) == upscaler.plan(8, 400)


def test_tiles_are_close_to_the_whole(model):
    x = random_image(1, 3, 50, 61)
    upscaler = Upscaler(model, tile=36, device="cpu")
    assert str(upscaler.plan(50, 61)) == "6 tiles of up to 36 pixels a side"
    torch.testing.assert_close(upscaler(x), Upscaler(model, device="cpu")(x), rtol=0, atol=2e-3)


def test_the_ensemble_is_of_each_tile(model):
    x = random_image(1, 3, 50, 61)
    upscaler, settings = Upscaler(model, tile=36, self_ensemble=True, device="cpu"), {"tile_pad": 8, "blend_size": 4}
    each = self_ensemble(padded(model, multiple=4, scale=2))
    with torch.no_grad():
        wanted = tiled(faithful(each, scale=2), scale=2, tile_size=36, align=4, **settings)(x)
    torch.testing.assert_close(upscaler(x), wanted, rtol=0, atol=1e-5)


def test_tiles_of_what_is_not_in_memory_are_not_too_large(model):
    assert Upscaler(model, memory=10**13, device="cpu").plan_stream(10**5, 10**5).tile_size == 512
    assert Upscaler(model, memory=10**6, device="cpu").plan_stream(10**5, 10**5).tile_size < 100
    assert Upscaler(model, memory=1, device="cpu").plan_stream(10**5, 10**5).tile_size == 24
    assert Upscaler(model, memory=1, tile=800, device="cpu").plan_stream(10**5, 10**5).tile_size == 800


def test_a_plan_as_tiles(model):
    upscaler = Upscaler(model, tile=36, device="cpu")
    tiling = upscaler.plan_tiling(50, 61, upscaler.plan(50, 61))
    assert (len(tiling.rows), len(tiling.columns)) == (2, 3)
    whole = Upscaler(model, tile="off", device="cpu")
    tiling = whole.plan_tiling(50, 61, whole.plan(50, 61))
    assert [(span.start, span.stop) for span in tiling.rows + tiling.columns] == [(0, 50), (0, 61)]


def test_self_ensemble(model):
    x = random_image(1, 3, 5, 9)
    upscaler = Upscaler(model, self_ensemble=True, device="cpu")
    with torch.no_grad():
        assert torch.equal(upscaler(x), faithful(self_ensemble(padded(model, multiple=4, scale=2)), scale=2)(x))
    assert str(upscaler.plan(5, 9)) == "whole image, 8 views"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_comes_back_as_float32(model, precision):
    x = random_image(1, 3, 9, 9)
    out = Upscaler(model, precision=precision, device="cpu")(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, Upscaler(model, device="cpu")(x), rtol=0, atol=0.02)
    assert next(model.parameters()).dtype == torch.float32


def test_overflow_in_half_precision_is_computed_again(caplog):
    upscaler = Upscaler(Double(gain=1e30), precision="fp16", device="cpu")
    x = random_image(1, 1, 4, 4)
    with caplog.at_level(logging.WARNING):
        out = upscaler(x)
    torch.testing.assert_close(out, x.repeat_interleave(2, -2).repeat_interleave(2, -1))
    assert upscaler.dtype == torch.float32
    assert "not finite" in caplog.text


def test_model_in_training_is_copied_and_left_alone():
    model = tiny_hat(drop_path_rate=0.9).train()
    x = random_image(1, 3, 8, 8)
    upscaler = Upscaler(model, device="cpu")
    assert torch.equal(upscaler(x), upscaler(x))
    assert model.training


def test_result_may_be_changed_in_place(model):
    out = Upscaler(model, device="cpu")(random_image(1, 3, 8, 8).requires_grad_())
    assert not out.requires_grad
    assert out.clamp_(0, 1).max() <= 1


def test_attributes(model):
    upscaler = Upscaler(model, device="cpu")
    assert (upscaler.scale, upscaler.in_chans) == (2, 3)
    assert (upscaler.device, upscaler.dtype) == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("tile", ["off", 28])
def test_progress_counts_forward_passes(tile, ensemble):
    upscaler = Upscaler(Double(), tile=tile, self_ensemble=ensemble, device="cpu")
    calls = []
    upscaler(random_image(1, 1, 40, 30), progress=lambda done, total: calls.append((done, total)))
    total = upscaler.plan(40, 30).num_forwards
    assert total == (8 if ensemble else 1) * (1 if tile == "off" else 6)
    assert calls == [(n, total) for n in range(1, total + 1)]


def test_auto_takes_the_whole_image_where_it_fits_and_tiles_where_not(monkeypatch):
    upscaler = Upscaler(Double(), device="cpu")
    needed = forward_bytes(upscaler.config, torch.float32, 100, 100, 4) + 4 * 4 * 100 * 100
    monkeypatch.setattr(module, "memory_budget", lambda _: needed)
    assert upscaler.plan(100, 100).tile_size is None
    assert upscaler.plan(100, 101).tile_size == 96
    assert upscaler.plan(100, 100, batch_size=4).tile_size < 60
    monkeypatch.setattr(module, "memory_budget", lambda _: 0)
    assert upscaler.plan(100, 100).tile_size == 24


def test_number_of_pixels_is_kept_to():
    double = Double()
    Upscaler(double, tile=47, device="cpu")(random_image(1, 1, 90, 90))
    assert max(max(shape[2:4]) for shape in double.shapes) <= 44


@pytest.mark.parametrize(("limit", "with_tiles"), [(1000, False), (200, True)])
def test_out_of_memory_takes_smaller_bands_and_then_tiles(caplog, limit, with_tiles):
    double = Double(limit=limit)
    x = random_image(1, 1, 100, 80)
    with caplog.at_level(logging.WARNING):
        out = Upscaler(double, device="cpu")(x)
    torch.testing.assert_close(out, x.repeat_interleave(2, -2).repeat_interleave(2, -1))
    assert "out of memory: trying again with" in caplog.text
    assert double.shapes[0][2:4] == (100, 80)
    assert (double.shapes[-1][2] < 100) == with_tiles
    assert double.shapes[-1][4] >= 4


@pytest.mark.parametrize(("tile", "limit"), [("auto", 10), ("off", 300), (48, 100)])
def test_out_of_memory_ends_in_a_sentence(tile, limit):
    with pytest.raises(InputError, match="memory ran out on 80×100 pixels"):
        Upscaler(Double(limit=limit), tile=tile, device="cpu")(random_image(1, 1, 100, 80))


def test_other_errors_pass_through():
    class Broken(Double):
        def in_bands(self, x, num_rows):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Upscaler(Broken(), device="cpu")(random_image(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 1, 4, 4), "shape"),
        (torch.zeros(3, 4, 4), "shape"),
        (torch.zeros(1, 3, 0, 4), "at least one pixel"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "uint8"),
    ],
)
def test_wrong_input_is_refused(model, x, message):
    with pytest.raises(InputError, match=message):
        Upscaler(model, device="cpu")(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 23}, "at least 24"),
        ({"tile": "whole"}, "'auto', 'off'"),
        ({"precision": "fp8"}, "fp32, bf16, fp16"),
        ({"device": "gpu"}, "not known"),
        ({"device": "meta"}, "not there"),
    ],
)
def test_impossible_settings_are_refused(model, settings, message):
    with pytest.raises(ConfigError, match=message):
        Upscaler(model, **({"device": "cpu"} | settings))


def test_auto_device_and_precision():
    assert find_device("auto").type in ("cpu", "cuda", "mps", "xpu")
    assert find_dtype("auto", torch.device("cuda")) == torch.float16


AVX512_BF16, AMX = {"avx512_bf16": True}, {"avx512_bf16": True, "amx_bf16": True}


@pytest.mark.parametrize(
    ("capabilities", "used", "onednn", "dtype"),
    [
        (AVX512_BF16, "AVX512", True, torch.bfloat16),
        (AMX, "AVX512", True, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, "AVX512", True, torch.float32),
        ({"avx2": True}, "AVX2", True, torch.float32),
        ({"neon": True, "bf16": True}, "DEFAULT", True, torch.float32),
        (AMX, "AVX2", True, torch.float32),  # as by ATEN_CPU_CAPABILITY
        (AMX, "AVX512", False, torch.float32),
        ({}, "AVX512", True, torch.float32),
    ],
)
def test_auto_precision_goes_by_what_the_cpu_multiplies(monkeypatch, capabilities, used, onednn, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert find_dtype("auto", torch.device("cpu")) == dtype
    assert Upscaler(tiny_hat(), precision="auto", device="cpu").settings["precision"] == PRECISION_NAMES[dtype]


def test_versions_of_torch_that_do_not_tell_what_a_cpu_has_take_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert find_dtype("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(("tile", "num_forwards"), [("off", 1), (36, 4)])
def test_the_part_that_is_done_grows_within_a_forward_pass(model, tile, num_forwards):
    parts = []
    Upscaler(model, tile=tile, device="cpu")(random_image(1, 3, 40, 40), report=parts.append)
    assert len(parts) == num_forwards * 5  # two HABs, an OCAB, a convolution behind it, and the end
    assert parts == sorted(set(parts))
    assert parts[-1] == 1


def test_what_a_report_raises_ends_the_work(model):
    parts = []

    def stop(part):
        parts.append(part)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Upscaler(model, device="cpu")(random_image(1, 3, 8, 8), report=stop)
    assert parts == [1 / 4]
