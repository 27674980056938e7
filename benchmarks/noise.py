"""What `hat_sr.image.noise` calls noisy, and what the network for photos gains on such pictures.

    python benchmarks/noise.py find --data ROOT              # sets of clean images, and noise added to them
    python benchmarks/noise.py gain --data ROOT/Set14        # PSNR of noisy images, by either network

White noise is added to each channel, of a seed that is the image's number. docs/noise.md has the results.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hat_sr.checkpoints.named import FOR_PHOTOS, bundled_by_factor, load_model
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.evaluate.metrics import psnr
from hat_sr.image.io import read_image
from hat_sr.image.noise import NOISY, noise_level
from hat_sr.image.resize import imresize, resize
from hat_sr.inference.sizing import upscale_to
from hat_sr.inference.upscaler import Upscaler

SIGMAS_FOUND = (0, 1, 2, 3, 4, 5, 6, 10)
SIGMAS_GAINED = (0, 2, 3, 4, 6)


def images(folder: Path) -> Iterator[Tensor]:
    """(1, C, H, W) uint8 of all ground truth below the folder."""
    for dataset in find_datasets(folder, 1):
        for pair in dataset.pairs:
            yield torch.from_numpy(read_image(pair.hr).color.copy()).permute(2, 0, 1)[None]


def smaller(image: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """The image, cut to a multiple of the scale, and MATLAB's bicubic of it."""
    height, width = (side // scale * scale for side in image.shape[-2:])
    hr = image[..., :height, :width]
    return hr, hr if scale == 1 else imresize(hr, 1 / scale)


def noisy(image: Tensor, sigma: float, seed: int) -> Tensor:
    """The image with white noise, in 8 bits."""
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return torch.from_numpy((image.numpy() + noise).clip(0, 255).round().astype(np.uint8)) if sigma else image


def find(folder: Path) -> None:
    """Print how many images of each size are called noisy."""
    levels = defaultdict(list)
    for number, image in enumerate(images(folder)):
        for scale in (1, 2, 3, 4):
            lr = smaller(image, scale)[1]
            for sigma in SIGMAS_FOUND:
                pixels = noisy(lr, sigma, number)[0].permute(1, 2, 0).numpy()
                levels[scale, sigma].append(noise_level([pixels]))
    print(f"| made smaller by | {' | '.join(f'σ {sigma}' for sigma in SIGMAS_FOUND)} |")
    for scale in (1, 2, 3, 4):
        counts = (sum(level >= NOISY for level in levels[scale, sigma]) for sigma in SIGMAS_FOUND)
        print(f"| {scale} | {' | '.join(map(str, counts))} | of {len(levels[scale, 0])}")
    for sigma in SIGMAS_FOUND:
        found = [level for scale in (1, 2, 3, 4) for level in levels[scale, sigma]]
        print(f"σ {sigma}: median {np.median(found):.2f}, 5 % {np.quantile(found, 0.05):.2f}")


def gain(folder: Path) -> None:
    """Print mean PSNR of the network for clean pictures, of that for photos, and of bicubic."""
    by_factor, photo = bundled_by_factor(), Upscaler(load_model(FOR_PHOTOS))
    for scale in sorted(by_factor):
        clean, scores = Upscaler(load_model(by_factor[scale])), defaultdict(list)
        for number, image in enumerate(images(folder)):
            hr, lr = smaller(image.expand(-1, 3, -1, -1), scale)
            size = (hr.shape[-2], hr.shape[-1])
            for sigma in SIGMAS_GAINED:
                x = noisy(lr, sigma, number).float() / 255
                made = {
                    "clean": clean(x),
                    "photo": upscale_to([(photo, photo.scale)], x, size),
                    "bicubic": resize(x, size),
                }
                for name, y in made.items():
                    scores[name, sigma].append(psnr(y.clamp(0, 1), hr, crop_border=scale))
        for sigma in SIGMAS_GAINED:
            cells = " | ".join(f"{np.mean(scores[name, sigma]):.2f}" for name in ("bicubic", "clean", "photo"))
            print(f"| ×{scale} | {sigma} | {cells} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("find", "gain"))
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    (find if arguments.what == "find" else gain)(arguments.data)
