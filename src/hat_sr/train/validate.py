"""Score the averaged weights during training."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hat_sr.evaluate.benchmark import Score, benchmark, mean_score
from hat_sr.evaluate.dataset import Degraded, find_datasets
from hat_sr.inference.upscale import padded
from hat_sr.train.config import Recipe
from hat_sr.train.network import filled_network


def validate(
    recipe: Recipe, weights: Mapping[str, Tensor], folder: Path, device: torch.device
) -> tuple[Score, dict[str, Tensor]]:
    """PSNR (dB) and SSIM on Y on the images of `folder`, and the first few results, (1, 3, H, W) in [0, 1], by name.

    Raises DataError if `folder` is no benchmark folder.
    """
    network = padded(filled_network(recipe, weights).to(device), multiple=recipe.size_multiple, scale=recipe.upscale)
    results = []
    pictures: dict[str, Tensor] = {}
    last: list[Tensor] = []  # not in the results: a benchmark of large images would fill the memory

    def upscale(lr: Tensor) -> Tensor:
        last[:] = [network(lr.to(device)).cpu()]
        return last[0]

    preset = recipe.log.validation_degradation
    degraded = None if preset is None else Degraded(preset)
    for dataset in find_datasets(folder, recipe.upscale, jpeg=recipe.log.validation_jpeg, degraded=degraded):
        for result in benchmark(upscale, dataset):
            results.append(result.score)
            if len(pictures) < recipe.log.num_pictures:
                pictures[result.name] = last[0]
    return mean_score(results), pictures
