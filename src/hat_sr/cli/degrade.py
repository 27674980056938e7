"""`hat-sr data degrade`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.errors import ConfigError
from hat_sr.train.data.sheet import check_sheet_path, draw_sheet
from hat_sr.train.recipe import load_recipe


def degrade(
    *images: Path,
    recipe: Path,
    output: Annotated[Path, Parameter(alias="-o")],
    stage: str | None = None,
    samples: int = 10,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
) -> None:
    """Draw degraded input as a training sees it: of each image the middle, the target, and low-resolution samples.

    It needs the extra lam.

    Parameters
    ----------
    images
        Image files.
    recipe
        A recipe with data.degradation.
    stage
        Which of its stages, if it has several.
    output
        The sheet, a .png, in which low-resolution pixels are drawn as squares. An existing file is replaced.
    samples
        How many samples of each image.
    seed
        Seed of the random draws: the same seed gives the same samples.
    """
    check_sheet_path(output)
    settings = load_recipe(recipe, stage=stage)
    degradation = settings.data.degradation
    if degradation is None:
        raise ConfigError(f'{recipe} has no data.degradation: write degradation = "real" below [data], or give another')
    if not images or samples < 1:
        raise ConfigError(f"{len(images)} images and --samples {samples}: give at least one of each")
    draw_sheet(output, images, degradation, scale=settings.upscale, num_samples=samples, seed=seed)
