import pytest
import torch

from hat_sr.inference import memory
from hat_sr.inference.memory import bytes_per_pixel, installed_memory, is_out_of_memory, largest_square, memory_budget
from hat_sr.model.config import PRESETS

HAT_X4 = PRESETS["HAT-x4"]


def test_estimate_is_above_what_was_measured_and_not_far():
    # Peak resident size of the published HAT ×4 in float32 at 256×256: 875 MB over the weights.
    estimate = bytes_per_pixel(HAT_X4, torch.float32) * 256 * 256
    assert 875e6 < estimate < 1.5 * 875e6
    assert bytes_per_pixel(HAT_X4, torch.float16) == bytes_per_pixel(HAT_X4, torch.float32) // 2


@pytest.mark.parametrize("budget", [10**7, 10**9, 12_345_678_901])
def test_largest_square_fits_and_the_next_does_not(budget):
    side = largest_square(HAT_X4, torch.float32, budget)
    each = bytes_per_pixel(HAT_X4, torch.float32)
    assert side % 16 == 0
    assert side**2 * each <= budget < (side + 16) ** 2 * each


def test_no_budget_is_no_square():
    assert largest_square(HAT_X4, torch.float32, -5) == 0


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
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
