"""Small images for benchmarks, and an upscaler whose result is known."""

from pathlib import Path

import numpy as np
import torch

from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image

SCALE = 2


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Something with edges and slopes."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, channels))
    slope = np.add.outer(np.arange(height), np.arange(width))[..., None] * 3
    return np.clip(noise + slope, 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels))


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def nearest(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
