"""Made-up photographs and a training of them that takes a second."""

import functools
from pathlib import Path

import numpy as np

from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.model.config import HATConfig
from hat_sr.train.config import DataConfig, LogConfig, OptimConfig, Recipe, SourceConfig
from hat_sr.train.recipe import load_stages
from model.tiny import TINY


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: a slope, stripes and some noise."""
    row, column = np.mgrid[:height, :width]
    stripes = 60 * (((row + 2 * column + 5 * seed) // 6) % 2)
    noise = np.random.default_rng(seed).integers(0, 30, (height, width, 3))
    return (stripes[..., None] + noise + (row + column)[..., None] % 160).astype(np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels))
    return path


def make_photos(root: Path) -> Path:
    """Three images in `root`/photos; returns `root`."""
    for number, (height, width) in enumerate([(40, 56), (33, 64), (48, 31)]):
        save_png(root / "photos" / f"{number}.png", photo(height, width, number))
    return root


def small_recipe(root: Path, *, model=None, data=None, optim=None, log=None, **changes) -> Recipe:
    """×2, 8 steps of 2 patches of 8×8; the arguments are settings other than these."""
    settings = {"drop_path_rate": 0.1, **TINY, **(model or {})}
    return Recipe(
        model=HATConfig(**settings),
        data=DataConfig(
            **{"root": str(root), "sources": (SourceConfig(path="photos"),), "patch_size": 8, "batch_size": 2}
            | (data or {})
        ),
        optim=OptimConfig(**{"total_steps": 8, "learning_rate": 1e-3} | (optim or {})),
        log=LogConfig(**{"report_every": 1, "save_every": 2} | (log or {})),
        **changes,
    )


@functools.cache
def stages_of(path: Path) -> dict[str, Recipe]:
    """The trainings of a recipe's file, read once for all tests."""
    return load_stages(path)
