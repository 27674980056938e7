import dataclasses

import pytest
import torch

from hat_sr.inference import memory
from hat_sr.inference.memory import (
    forward_bytes,
    installed_memory,
    is_out_of_memory,
    largest_band,
    largest_square,
    memory_budget,
    picture_bytes,
    session_bytes,
)
from hat_sr.model.config import PRESETS, HATConfig

HAT_X4, HAT_S_X4 = PRESETS["HAT-x4"], PRESETS["HAT-S-x4"]
XS = HATConfig(upscale=4, embed_dim=64, depths=(2, 2), num_heads=(1, 1), window_size=8, compress_ratio=2, num_feat=32)


MIB = 2**20
MEASURED = [
    # network, height, width, rows of a band, dtype, MiB: peak resident size over the weights on an AMD EPYC
    # (2026-11-26); the first seven by `python benchmarks/memory.py`
    (HAT_X4, 480, 640, 96, torch.bfloat16, 1024),
    (HAT_X4, 480, 640, 96, torch.float32, 1455),
    (XS, 1500, 2000, 32, torch.float32, 2922),
    (HAT_S_X4, 128, 128, 512, torch.bfloat16, 139),
    (HAT_S_X4, 256, 256, 256, torch.bfloat16, 522),
    (HAT_S_X4, 512, 512, 128, torch.bfloat16, 763),
    (HAT_S_X4, 1024, 1024, 64, torch.bfloat16, 1408),
    # HAT and HAT-S with one group of two blocks
    (XS, 512, 512, 16, torch.float32, 321),
    (XS, 512, 512, 128, torch.float32, 675),
    (XS, 512, 512, 64, torch.bfloat16, 286),
    (XS, 256, 512, 64, torch.bfloat16, 257),
    (XS, 1024, 1024, 8, torch.bfloat16, 492),
    (XS, 1024, 1024, 64, torch.bfloat16, 831),
    (HAT_X4, 128, 256, 32, torch.float32, 291),
    (HAT_X4, 128, 256, 32, torch.bfloat16, 201),
    (HAT_S_X4, 256, 256, 256, torch.float32, 643),
    (HAT_X4, 128, 256, 128, torch.bfloat16, 295),
    (XS, 256, 512, 256, torch.bfloat16, 532),
    (XS, 256, 256, 256, torch.float32, 402),
]


@pytest.mark.parametrize(("config", "height", "width", "rows", "dtype", "mib"), MEASURED)
def test_estimate_is_within_a_fifth_of_what_was_measured(config, height, width, rows, dtype, mib):
    assert 0.8 * mib < forward_bytes(config, dtype, height, width, rows) / MIB < 1.2 * mib


# Channels, through a network of how many, kind of file, bytes for a pixel of the result: peak resident size while a
# picture is made and written, by `python benchmarks/picture_memory.py` on an AMD EPYC (2026-11-26).
PICTURES = [(3, 3, "png", 49.8), (1, 3, "png", 21.7), (1, 1, "png", 16.6), (4, 3, "png", 51.4), (4, 3, "exr", 78.6)]


@pytest.mark.parametrize(("channels", "in_chans", "kind", "measured"), PICTURES)
def test_a_picture_takes_about_what_was_measured(channels, in_chans, kind, measured):
    assert 0.9 * measured < picture_bytes(1, 1, channels) < 1.7 * measured


XXS = HATConfig(upscale=2, embed_dim=32, depths=(4,), num_heads=(1,), window_size=8, compress_ratio=2, num_feat=12)
SESSIONS = [
    # network, runtime, precision, height, width, MiB: peak resident size of a pass over the loaded network, one thread
    # of an AMD EPYC (2026-11-26)
    (XXS, "onnxruntime", "fp32", 256, 512, 589),
    (XS, "onnxruntime", "fp32", 256, 256, 1243),
    (XS, "onnxruntime", "fp32", 256, 512, 2425),
    (HAT_X4, "onnxruntime", "fp32", 128, 256, 1834),
    (XXS, "openvino", "fp32", 512, 256, 529),
    (XS, "openvino", "fp32", 512, 512, 2125),
    (HAT_X4, "openvino", "fp32", 128, 256, 810),
    (XS, "openvino", "bf16", 512, 512, 1151),
    (HAT_X4, "openvino", "bf16", 128, 256, 383),
]


@pytest.mark.parametrize(("config", "runtime", "precision", "height", "width", "mib"), SESSIONS)
def test_estimate_for_a_runtime_is_within_a_fifth_of_what_was_measured(config, runtime, precision, height, width, mib):
    assert 0.8 * mib < session_bytes(config, runtime, precision, height, width) / MIB < 1.2 * mib


def test_a_runtime_without_ocab_needs_less():
    plain = dataclasses.replace(HAT_X4, use_ocab=False)
    assert session_bytes(plain, "onnxruntime", "fp32", 64, 64) < session_bytes(HAT_X4, "onnxruntime", "fp32", 50, 64)


def test_no_term_grows_faster_than_the_image():
    small, large = (forward_bytes(HAT_X4, torch.float32, 16 * n, 16 * n, 16) for n in (40, 400))
    assert large < 100 * small


def test_sides_are_padded_first():
    assert forward_bytes(HAT_X4, torch.float32, 1, 2000, 16) == forward_bytes(HAT_X4, torch.float32, 16, 2000, 16)
    assert forward_bytes(HAT_X4, torch.float32, 2000, 17, 16) == forward_bytes(HAT_X4, torch.float32, 2000, 32, 16)


def test_a_band_is_as_large_as_is_of_use():
    assert largest_band(HAT_X4, torch.float32, 4000, 256, 10**13) == 256
    assert largest_band(HAT_X4, torch.float32, 4000, 30000, 10**13) == 4 * 16


def test_a_band_is_smaller_where_memory_is_short():
    size = (4000, 4000)
    for num_windows in (4, 2, 1):
        budget = forward_bytes(HAT_X4, torch.float32, *size, 16 * num_windows)
        assert largest_band(HAT_X4, torch.float32, *size, budget) == 16 * num_windows
    assert largest_band(HAT_X4, torch.float32, *size, budget - 1) is None


@pytest.mark.parametrize("budget", [10**8, 10**9, 12_345_678_901])
def test_largest_square_fits_and_the_next_does_not(budget):
    side = largest_square(16, budget, lambda side: forward_bytes(HAT_X4, torch.float32, side, side, 16))
    assert side % 16 == 0
    at, beyond = (forward_bytes(HAT_X4, torch.float32, x, x, 16) for x in (side, side + 16))
    assert at <= budget < beyond


def test_no_budget_is_no_square():
    assert largest_square(16, -5, lambda side: side) == 0


def test_budget_of_this_machine():
    assert 2**20 < memory_budget(torch.device("cpu")) < installed_memory() < 2**50


def test_budget_where_the_system_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "missing")
    monkeypatch.delattr(memory.os, "sysconf", raising=False)
    assert memory_budget(torch.device("cpu")) == int(0.7 * memory.FALLBACK_BYTES)
    assert installed_memory() is None


def test_torchs_own_error_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("Failed to allocate memory for requested buffer of size 67108864"))
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
