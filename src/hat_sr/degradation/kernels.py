"""Kernels of blur: Gaussian, generalized Gaussian, plateau-shaped, and sinc."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNIT = 1 << 14
"""Weights are whole numbers, in units of 2⁻¹⁴, of which neither the positive nor the negative ones add up to 4. So sums
of their products with levels stay below 2²⁴: float32 holds them exactly, the order of summing is of no consequence, and
a blur has the same result on every machine."""

_LEAST_SIGMA = 0.01
"""A Gaussian of this is one pixel."""


def bell(shape: int, size: int, sigma: tuple[float, float], angle: float, beta: float) -> Tensor:
    """A bell-shaped kernel: (size, size) float32 of whole numbers that add up to `UNIT`, smaller if its rim is 0.

    shape: 0 is a Gaussian, 1 a generalized Gaussian and 2 plateau-shaped, both with the exponent `beta` (arXiv
    2107.10833). sigma: along both axes, in pixels; angle: of the first to the rows, in radians.
    """
    across = np.arange(size) - size // 2
    x, y = across[None, :], across[:, None]
    first, second = (max(one, _LEAST_SIGMA) for one in sigma)
    u = (math.cos(angle) * x + math.sin(angle) * y) / first
    v = (math.cos(angle) * y - math.sin(angle) * x) / second
    square = u**2 + v**2
    if shape == 0:
        return _kernel(np.exp(-0.5 * square))
    return _kernel(np.exp(-0.5 * square**beta) if shape == 1 else 1 / (1 + square**beta))


def sinc(size: int, cutoff: float) -> Tensor:
    """The circular low-pass of `cutoff` (radians a pixel, at most π), cut off to a square: as `bell`."""
    across = torch.arange(size, dtype=torch.float64) - size // 2
    radius = torch.hypot(across[None, :], across[:, None])
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return _kernel(kernel.numpy())


def in_units(rows: NDArray[np.float64]) -> Tensor:
    """Rows of weights, each scaled to add up to 1, in units of 1 / `UNIT`: whole numbers whose sum is `UNIT`.

    What rounding leaves goes to a row's largest. (N, K) → (N, K) float32.
    """
    units = np.rint(rows / rows.sum(axis=1, keepdims=True) * UNIT)
    units[np.arange(len(rows)), units.argmax(axis=1)] += UNIT - units.sum(axis=1)
    return torch.from_numpy(units.astype(np.float32))


def _kernel(weights: NDArray[np.float64]) -> Tensor:
    units = in_units(weights.reshape(1, -1)).reshape(weights.shape)
    rim = int(units.any(0).to(torch.uint8).argmax().minimum(units.any(1).to(torch.uint8).argmax()))
    return units[rim : len(units) - rim, rim : len(units) - rim].contiguous()
