"""Training samples: random crops of high-resolution images and the exact bicubic low-resolution crops of them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hat_sr.errors import DataError, ImageError
from hat_sr.image.io import read_image
from hat_sr.image.resize import imresize
from hat_sr.train.config import DataConfig, FolderConfig

logger = logging.getLogger(__name__)

MARGIN = 3
"""Low-resolution pixels around a crop, so that its bicubic equals the crop of the whole image's: the kernel reaches
2 low-resolution pixels from a pixel's centre."""


def read_folder(config: FolderConfig, root: Path, *, smallest: int) -> list[Tensor]:
    """Read the images of one folder: list of (3, H, W) uint8 RGB, in the order of their names.

    Files that are no images, cut short, or have a side below `smallest` after shrinking, are reported and left out.
    Raises DataError if the folder or an excluded file does not exist, or nothing is left.
    """
    folder = root / config.path
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    missing = set(config.exclude) - {path.name for path in paths}
    if paths and missing:
        raise DataError(
            f"{folder} does not hold {', '.join(sorted(missing))}, which the recipe excludes: take them out of exclude"
        )
    if not paths:
        raise DataError(f"{folder} does not exist or is empty: set data.root to the folder that {config.path} is in")
    images = []
    for path in paths:
        if path.name in config.exclude:
            continue
        try:
            image = _read_rgb(path, config)
        except ImageError as error:
            logger.warning("left out: %s", error)
            continue
        if min(image.shape[1:]) < smallest:
            logger.warning("left out: %s has a side below %d pixels", path, smallest)
            continue
        images.append(image)
    if not images:
        raise DataError(f"{folder} has no image that could be used among {len(paths)} files")
    return images


def _read_rgb(path: Path, config: FolderConfig) -> Tensor:
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        raise ImageError(f"{path} has {pixels.shape[2]} channels of {pixels.dtype}: training takes 8-bit gray and RGB")
    image = torch.from_numpy(pixels).permute(2, 0, 1).expand(3, -1, -1)
    image = _shrunk(image, config.shrink)
    if config.max_width is not None and image.shape[2] > config.max_width:
        image = _shrunk(image, 4 / 3)
    return image.contiguous()


def _shrunk(image_CHW: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return image_CHW
    size = [round(side / factor) for side in image_CHW.shape[1:]]
    return F.interpolate(image_CHW[None], size=size, mode="bicubic", antialias=True)[0]


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (lr, hr) of float32 RGB crops in [0, 1]: (3, P, P) and (3, s·P, s·P), P the patch size, s the scale.

    Sample number `index` is a pure function of the seed and the index: image (each as likely
    as any other), place, flips and rotation.
    """

    def __init__(self, images: list[Tensor], *, scale: int, patch_size: int, seed: int) -> None:
        self.images = images
        self.scale = scale
        self.patch_size = patch_size
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng((self.seed, index))
        image = self.images[int(random.integers(len(self.images)))]
        top, left = (int(random.integers(side // self.scale - self.patch_size + 1)) for side in image.shape[1:])
        lr, hr = crop_pair(image, top, left, patch_size=self.patch_size, scale=self.scale)
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        lr, hr = (torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1)) for x in (lr, hr))
        return lr.float() / 255, hr.float() / 255


def crop_pair(image_CHW: Tensor, top: int, left: int, *, patch_size: int, scale: int) -> tuple[Tensor, Tensor]:
    """Cut the patch whose low-resolution corner is (top, left): (lr, hr), uint8 like the image.

    `lr` equals, bit for bit, that part of the whole image's MATLAB bicubic, the image being cut at the right and
    bottom to a multiple of `scale` first.
    """
    spans, inner, outer = [], [], []
    for start, side in zip((top, left), image_CHW.shape[1:], strict=True):
        low, high = max(start - MARGIN, 0), min(start + patch_size + MARGIN, side // scale)
        spans.append(slice(low * scale, high * scale))
        inner.append(slice(start - low, start - low + patch_size))
        outer.append(slice((start - low) * scale, (start - low + patch_size) * scale))
    wide = image_CHW[:, spans[0], spans[1]]
    lr = imresize(wide, 1 / scale) if scale > 1 else wide
    return lr[:, inner[0], inner[1]], wide[:, outer[0], outer[1]]


class _StepBatches(Sampler[list[int]]):
    """The sample numbers of each step from `first_step` on: step n has n·B … n·B + B − 1."""

    def __init__(self, *, first_step: int, total_steps: int, batch_size: int) -> None:
        self.steps = range(first_step, total_steps)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield list(range(step * self.batch_size, (step + 1) * self.batch_size))


def open_data(
    config: DataConfig, *, scale: int, seed: int, first_step: int, total_steps: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Read all images into memory and return the batches of the steps from `first_step` on.

    Yields (lr, hr), float32 in [0, 1]: (B, 3, P, P) and (B, 3, s·P, s·P). Raises DataError as `read_folder` does.
    """
    images = [
        image
        for folder in config.folders
        for image in read_folder(folder, Path(config.root), smallest=config.patch_size * scale)
    ]
    logger.info("%d images, %.0f megapixels", len(images), sum(image[0].numel() for image in images) / 1e6)
    return DataLoader(
        PatchDataset(images, scale=scale, patch_size=config.patch_size, seed=seed),
        batch_sampler=_StepBatches(first_step=first_step, total_steps=total_steps, batch_size=config.batch_size),
        num_workers=config.num_workers,
        # Without one of its own, the loader would draw from the generator of drop path each time a training goes on.
        generator=torch.Generator().manual_seed(seed),
    )
