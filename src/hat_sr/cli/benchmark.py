"""`hat-sr benchmark`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from hat_sr.checkpoints.named import AUTO
from hat_sr.cli.parsing import parse_bytes, parse_names, parse_scales
from hat_sr.cli.progress import progress_bars
from hat_sr.errors import ConfigError
from hat_sr.evaluate.benchmark import Extra
from hat_sr.evaluate.cache import Cache, default_folder
from hat_sr.evaluate.compare import Entrant, compare
from hat_sr.evaluate.dataset import Dataset, Degraded, find_datasets
from hat_sr.evaluate.entrants import open_entrants
from hat_sr.evaluate.page import to_html
from hat_sr.evaluate.report import Report, notes, summaries, to_json, to_markdown
from hat_sr.evaluate.sets import describe_lr, find_sets
from hat_sr.files import replacing, what_blocks_writing
from hat_sr.inference.device import Precision
from hat_sr.inference.enlarge import Settings


def benchmark(
    *,
    data: Path,
    scale: str,
    models: Annotated[Sequence[str], Parameter(alias=("--model", "-m"), negative="")] = (AUTO,),
    sets: str | None = None,
    lr: str = "auto",
    jpeg: int | None = None,
    degrade: Literal["real", "mild"] | None = None,
    seed: int = 0,
    metrics: str = "psnr,ssim",
    tile: Literal["auto", "off"] | int = "auto",
    memory: str | None = None,
    precision: Precision = "fp32",
    device: str = "auto",
    self_ensemble: Annotated[bool, Parameter(negative="")] = False,
    published: Annotated[bool, Parameter(negative="")] = False,
    cache: Literal["off"] | Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    markdown: Annotated[bool, Parameter(negative="")] = False,
    html: Path | None = None,
) -> None:
    """Score networks on benchmark images, with bicubic beside them: PSNR and SSIM on Y, as papers report them.

    Parameters
    ----------
    data
        Folder of one set (images, or a subfolder GT, HR or original and maybe an LR folder), or of several sets.
    scale
        Factor between low- and high-resolution images, or several: 2,3,4. A network is scored at its own.
    models
        As in hat-sr upscale, with commas between several, or the option several times. auto is the bundled network for
        the scale; with --jpeg or --degrade that for photos, with results resized if need be.
    sets
        Which of Set5, Set14, BSD100, Urban100, Manga109 to look for below --data, with commas between them, and to
        check image by image. Default: whatever is there, unchecked.
    lr
        Where low-resolution images come from: auto (read if there are any, else mirror), mirror or clamp (made by
        MATLAB's bicubic with these borders), or the name of a folder of the set.
    jpeg
        Send the low-resolution images through JPEG of this quality (1 to 100) first.
    degrade
        Degrade the low-resolution images as in training: real (blur, resizing, noise and JPEG, twice) or mild (bicubic,
        slight blur and noise, JPEG). They are made from the ground truth, the same on every machine.
    seed
        Seed of --degrade: the same seed gives the same images.
    metrics
        psnr and ssim, which are always computed, and the perceptual metrics st-lpips (needs .[metrics]) and niqe, which
        are lower for better images.
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
    published
        Add the figures of other networks' papers to the tables, marked as quoted.
    cache
        Folder of computed scores, from which a stopped run goes on; off keeps none. Default: hat-sr/benchmark in the
        user's cache folder.
    json
        Print JSON instead of tables.
    markdown
        Print Markdown instead, with a row for each image.
    html
        Also write a page with the tables and details of the images side by side.
    """
    if json and markdown:
        raise ConfigError("--json and --markdown are both given: give one")
    if html is not None and (path := what_blocks_writing(html.parent)) is not None:
        raise ConfigError(f"{html} cannot be written because of {path}: name another --html")
    if published and (jpeg is not None or degrade is not None):
        raise ConfigError("--published: figures of papers are for bicubic's images: leave out --jpeg and --degrade")
    extras = _extras(parse_names([metrics]))
    degraded = None if degrade is None else Degraded(degrade, seed)
    keep = None if cache == "off" else Cache(cache or default_folder())
    scales = parse_scales(scale)
    settings = Settings(
        tile=tile,
        memory=None if memory is None else parse_bytes(memory),
        precision=precision,
        self_ensemble=self_ensemble,
        faithful=False,  # papers score what the network makes
        device=device,
    )
    entrants = open_entrants(parse_names(models), scales, settings, lossy=jpeg is not None or degraded is not None)
    if sets is None:
        folders = [one for factor in scales for one in find_datasets(data, factor, lr=lr, jpeg=jpeg, degraded=degraded)]
        found = [(dataset, f"{len(dataset.pairs)} images, not checked") for dataset in folders]
    else:
        found = find_sets(data, parse_names([sets]), scales, lr=lr, jpeg=jpeg, degraded=degraded)
    reports = [_report(dataset, check, entrants[dataset.scale], keep, extras) for dataset, check in found]

    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        with replacing(html) as part:
            part.write_text(to_html(reports, published=published), encoding="utf-8")
    if json:
        sys.stdout.write(to_json(reports, published=published))
    elif markdown:
        sys.stdout.write(to_markdown(reports, published=published))
    else:
        _print_tables(reports, published)


def _extras(names: Sequence[str]) -> tuple[Extra, ...]:
    """The metrics beside PSNR and SSIM. Raises ConfigError for an unknown one."""
    known: dict[str, Extra] = {"st-lpips": "st_lpips", "niqe": "niqe"}
    if unknown := [name for name in names if name not in ("psnr", "ssim", *known)]:
        raise ConfigError(f"--metrics {', '.join(unknown)}: psnr, ssim, {', '.join(known)} are known")
    return tuple(known[name] for name in names if name in known)


def _report(
    dataset: Dataset, check: str, entrants: list[Entrant], cache: Cache | None, extras: tuple[Extra, ...]
) -> Report:
    """Score one set, with a progress bar."""
    with progress_bars(Console(stderr=True)) as progress:
        images = progress.track(
            compare(entrants, dataset, cache, extras=extras),
            total=len(dataset.pairs),
            description=f"{dataset.name} ×{dataset.scale}",
        )
        return Report(
            dataset=dataset,
            check=check,
            lr=describe_lr(dataset),
            num_parameters={entrant.name: entrant.num_parameters for entrant in entrants},
            images=tuple(images),
        )


def _print_tables(reports: list[Report], published: bool) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 1000  # a file has no margin to break lines at
    for summary in summaries(reports, published=published):
        table = Table(f"×{summary.scale}")
        for name in ("parameters", *summary.sets):
            table.add_column(name, justify="right", no_wrap=True)
        for row in summary.rows:
            table.add_row(row.label, row.size, *row.cells, style="bold" if row.reference is None else "")
        console.print(table)
    for note in notes(reports, published=published):
        console.print(note)
