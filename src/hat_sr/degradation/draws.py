"""Numbers drawn in a way that no machine and no version of a library changes.

numpy promises that the bits of PCG64 stay, but not what its generators make of them: here numbers are made of the bits
themselves, by exact arithmetic, or by tables whose entries are rounded far more coarsely than they are computed.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

_LEVELS = 256
_PHOTONS = 256
_POISSON_BITS = 12


def uniform(random: np.random.Generator, low: float, high: float) -> float:
    """A number from [low, high), in steps of (high − low) · 2⁻⁵³."""
    return low + (high - low) * (_bits(random) * 2.0**-53)


def below(random: np.random.Generator, count: int) -> int:
    """A whole number from 0 to count − 1, each as likely as any other."""
    return (_bits(random) * count) >> 53


def chance(random: np.random.Generator, share: float) -> bool:
    """True in that share of cases."""
    return uniform(random, 0.0, 1.0) < share


def choice(random: np.random.Generator, shares: Sequence[float]) -> int:
    """An index, as likely as its share; shares add up to 1."""
    left = uniform(random, 0.0, 1.0)
    for index, share in enumerate(shares):
        left -= share
        if left < 0:
            return index
    return max(index for index, share in enumerate(shares) if share > 0)


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers of the normal distribution: one of its 65,536 quantiles each, the farthest at 4.3."""
    return _normal_quantiles()[_words(random, shape)]


def photons(random: np.random.Generator, level: NDArray[np.uint8]) -> NDArray[np.int16]:
    """How many photons reach each pixel, 256 on average where `level` is 255: one of 4,096 quantiles."""
    words = _words(random, level.shape) >> np.uint16(16 - _POISSON_BITS)
    found: NDArray[np.int16] = _photon_quantiles()[level, words]
    return found


def _bits(random: np.random.Generator) -> int:
    return int(random.bit_generator.random_raw()) >> 11


def _words(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    count = int(np.prod(shape))
    raw = np.asarray(random.bit_generator.random_raw(-(-count // 4)))
    words: NDArray[np.uint16] = raw.astype("<u8").view("<u2")[:count].reshape(shape)
    return words


@lru_cache(maxsize=1)
def _normal_quantiles() -> NDArray[np.float32]:
    places = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    quantiles: NDArray[np.float32] = (torch.special.ndtri(places) * 4096).round_().div_(4096).float().numpy()
    return quantiles


@lru_cache(maxsize=1)
def _photon_quantiles() -> NDArray[np.int16]:
    """For each level, the quantiles of the Poisson distribution: (256, 4096)."""
    counts = np.arange(2 * _PHOTONS)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    places = (np.arange(1 << _POISSON_BITS) + 0.5) / (1 << _POISSON_BITS)
    table = np.zeros((_LEVELS, len(places)), dtype=np.int16)
    for level in range(1, _LEVELS):
        mean = level * _PHOTONS / (_LEVELS - 1)
        probabilities = np.exp(counts * np.log(mean) - mean - log_factorials)
        table[level] = np.searchsorted(np.cumsum(probabilities), places)
    return table
