"""What can be done to an image, with everything but the noise itself decided: callables that say what they are."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hat_sr.degradation import draws
from hat_sr.degradation.config import Mode
from hat_sr.degradation.filters import filtered, resized
from hat_sr.image.jpeg import Subsampling, through_jpeg


class Step(Protocol):
    """(3, H, W) uint8 → (3, H', W') uint8. Its text is a few words for people."""

    def __call__(self, image_CHW: Tensor, random: np.random.Generator) -> Tensor:
        """What becomes of the image; `random` gives the noise."""


@dataclass(frozen=True)
class Filter:
    """A blur."""

    kernel: Tensor = field(repr=False)
    text: str

    def __call__(self, image_CHW: Tensor, random: np.random.Generator) -> Tensor:
        """As for every step."""
        return filtered(image_CHW, self.kernel)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Resize:
    """Another size."""

    size: tuple[int, int]
    mode: Mode

    def __call__(self, image_CHW: Tensor, random: np.random.Generator) -> Tensor:
        """As for every step."""
        return resized(image_CHW, self.size, self.mode)

    def __str__(self) -> str:
        return f"{self.size[1]}×{self.size[0]} {self.mode}"


@dataclass(frozen=True)
class Gaussian:
    """Noise of the normal distribution, `sigma` in levels of 255."""

    sigma: float
    gray: bool

    def __call__(self, image_CHW: Tensor, random: np.random.Generator) -> Tensor:
        """As for every step."""
        x = image_CHW.numpy()
        noise = draws.normal(random, (1 if self.gray else len(x), *x.shape[1:]))
        return _noisy(x, noise * np.float64(self.sigma))

    def __str__(self) -> str:
        return f"{'gray' if self.gray else 'colour'} noise {self.sigma:.0f}"


@dataclass(frozen=True)
class Poisson:
    """Noise of counting 256 photons for white, multiplied by `scale`."""

    scale: float
    gray: bool

    def __call__(self, image_CHW: Tensor, random: np.random.Generator) -> Tensor:
        """As for every step."""
        x = image_CHW.numpy()
        level = _luma(x) if self.gray else x
        error = draws.photons(random, level) * (255 / 256) - level
        return _noisy(x, error * self.scale)

    def __str__(self) -> str:
        return f"{'gray' if self.gray else 'colour'} Poisson {self.scale:.1f}"


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file."""

    quality: int
    subsampling: Subsampling

    def __call__(self, image_CHW: Tensor, random: np.random.Generator) -> Tensor:
        """As for every step."""
        return through_jpeg(image_CHW, quality=self.quality, subsampling=self.subsampling)

    def __str__(self) -> str:
        return f"JPEG {self.quality}{' 4:4:4' if self.subsampling == '4:4:4' else ''}"


def _noisy(x: NDArray[np.uint8], noise: NDArray[np.float64]) -> Tensor:
    """Float64, one operation after the other: the same levels everywhere."""
    return torch.from_numpy(np.clip(np.rint(x + noise), 0, 255).astype(np.uint8))


def _luma(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = x.astype(np.int32)
    luma: NDArray[np.uint8] = ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)
    return luma[None]
