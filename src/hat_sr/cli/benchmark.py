"""`hat-sr benchmark`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from hat_sr.cli.progress import progress_bars
from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError
from hat_sr.evaluate.benchmark import benchmark as run_benchmark
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.evaluate.report import Report, to_json, to_markdown
from hat_sr.inference.device import Precision
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.zoo import AUTO, bundled_for, label, load_model


def benchmark(
    *,
    data: Path,
    scale: int,
    model: Annotated[str, Parameter(alias="-m")] = AUTO,
    lr: str = "auto",
    jpeg: int | None = None,
    tile: Literal["auto", "off"] | int = "auto",
    memory: str | None = None,
    precision: Precision = "fp32",
    device: str = "auto",
    self_ensemble: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Score a model on benchmark images, with bicubic beside it: PSNR and SSIM on Y, as papers report them.

    Parameters
    ----------
    data
        Folder of one set (images, or a subfolder GT, HR or original, perhaps an LR folder beside it), or of several.
    scale
        Factor between low- and high-resolution images: the model's.
    model
        As in hat-sr upscale. auto is the bundled one for the scale, with --jpeg the one for photos if there is one.
    lr
        Where low-resolution images come from: auto (read if there are any, else mirror), mirror or clamp (made by
        MATLAB's bicubic with these borders), or the name of a folder of the set.
    jpeg
        Enlarge the low-resolution images as JPEG files of this quality (1 to 100) give them back.
    tile
        As in hat-sr upscale.
    memory
        As in hat-sr upscale.
    precision
        As in hat-sr upscale.
    device
        As in hat-sr upscale.
    self_ensemble
        As in hat-sr upscale.
    json
        Print JSON instead of Markdown tables.
    """
    named = model != AUTO
    model = model if named else bundled_for(scale, lossy=jpeg is not None)
    network = load_model(model)
    if network.config.upscale != scale and not named:
        raise ConfigError(f"no network in the package enlarges by {scale}: name a file of weights with --model")
    if network.config.upscale != scale:
        raise ConfigError(f"{model} enlarges by {network.config.upscale}, but scale {scale} was asked for")
    if network.config.in_chans != 3:
        raise ConfigError(
            f"{model} takes {network.config.in_chans} channels: the benchmark is defined for RGB networks"
        )
    budget = None if memory is None else parse_bytes(memory)
    upscaler = Upscaler(
        network, tile=tile, memory=budget, precision=precision, self_ensemble=self_ensemble, device=device
    )
    reports = []
    datasets = find_datasets(data, scale, lr=lr, jpeg=jpeg)
    with progress_bars(Console(stderr=True)) as progress:
        for dataset in datasets:
            scores = run_benchmark(upscaler, dataset)
            results = tuple(progress.track(scores, total=len(dataset.pairs), description=dataset.name))
            reports.append(Report(model=label(model), dataset=dataset, results=results))
    sys.stdout.write(to_json(reports) if json else "\n".join(to_markdown(report) for report in reports))
