import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hat_sr.degradation import kernels
from hat_sr.degradation.filters import filtered, resized, sharpened
from train.small import photo

PHOTO = torch.from_numpy(photo(57, 64)).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 31), (80, 90), (57, 10), (9, 64), (1, 1)])
def test_resizing_is_torchs_but_for_rounding(mode, size):
    wanted = F.interpolate(PHOTO[None].double(), size=size, mode=mode)[0].clamp(0, 255)
    assert (resized(PHOTO, size, mode).double() - wanted).abs().max() < 1.3  # rounded after each pass


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", [0, 1, 2])
def test_bells_have_their_axes(shape, beta):
    kernel = kernels.bell(shape, 21, (3.0, 0.5), math.pi / 2, beta) / kernels.UNIT
    across = torch.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == 1
    assert (kernel.sum(1) * across**2).sum() > 1.5 * (kernel.sum(0) * across**2).sum()  # the first axis stands upright


def test_gaussians_have_their_sigma():
    kernel = kernels.bell(0, 21, (1.5, 1.5), 0.3, 1.0) / kernels.UNIT
    across = torch.arange(len(kernel)) - len(kernel) // 2
    assert (kernel.sum(0) * across**2).sum().item() == pytest.approx(1.5**2, rel=0.01)
    assert torch.equal(kernels.bell(0, 21, (0.0, 0.0), 0.0, 1.0), torch.full((1, 1), float(kernels.UNIT)))


@pytest.mark.parametrize("size", range(7, 22, 2))
def test_sums_of_every_sinc_are_exact_in_float32(size):
    for cutoff in np.linspace(math.pi / 5, math.pi, 60):
        kernel = kernels.sinc(size, cutoff)
        assert kernel.sum() == kernels.UNIT
        assert max(kernel.clamp(min=0).sum(), -kernel.clamp(max=0).sum()) < 4 * kernels.UNIT


def test_a_sinc_takes_away_what_is_above_its_cutoff():
    kernel = kernels.sinc(21, math.pi / 2) / kernels.UNIT
    across = torch.arange(21) - 10
    gain = [(kernel.sum(0) * torch.cos(part * math.pi * across)).sum().item() for part in (0.25, 0.75)]
    assert gain[0] == pytest.approx(1, abs=0.1)
    assert gain[1] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    "kernel",
    [kernels.bell(0, 9, (2.0, 1.0), 0.4, 1.0), kernels.sinc(11, 3.0), kernels.sinc(21, 3.0)],
    ids=lambda kernel: f"{len(kernel)}",
)
def test_filtering_is_exact_and_mirrors_the_edge(kernel):
    """Kernels above and below the size that takes Fourier transforms."""
    side = len(kernel)
    wide = np.pad(PHOTO.numpy(), ((0, 0), *2 * [2 * [side // 2]]), mode="symmetric").astype(np.int64)
    weights = kernel.long()
    units = sum(weights[y, x].item() * wide[:, y : y + 57, x : x + 64] for y in range(side) for x in range(side))
    wanted = ((units + kernels.UNIT // 2) // kernels.UNIT).clip(0, 255)
    assert np.array_equal(filtered(PHOTO, kernel).numpy(), wanted)


def test_sharpening_leaves_small_differences_and_steepens_edges():
    step = torch.full((3, 64, 96), 100, dtype=torch.uint8)
    step[:, :, 48:] = 104
    assert torch.equal(sharpened(step), step)
    step[:, :, 48:] = 180
    made = sharpened(step)
    assert made[0, 32, 47] < 90
    assert made[0, 32, 48] > 190
    assert made[0, 32, 0] == 100
