"""`hat-sr upscale`."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress, TaskID

from hat_sr.cli.jobs import Job, plan_jobs
from hat_sr.cli.networks import open_upscaler
from hat_sr.cli.progress import progress_bars
from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError, HatError
from hat_sr.image.formats import check_size
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.baselines import PlainUpscaler
from hat_sr.inference.device import PRECISION_NAMES, Precision
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.sizing import fitted_size, parse_size, scaled_size, upscale_to
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.zoo import AUTO, bundled_for

DEFAULT_SCALE = 4
"""What images are enlarged by if neither a scale nor a size nor a model is named."""


def upscale(
    *inputs: Annotated[str, Parameter(help="Image files, folders (searched recursively) and glob patterns.")],
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    scale: float | None = None,
    size: str | None = None,
    model: Annotated[str, Parameter(alias="-m")] = AUTO,
    tile: Literal["auto", "off"] | int = "auto",
    memory: str | None = None,
    precision: Precision = "auto",
    device: str = "auto",
    self_ensemble: Annotated[bool, Parameter(negative="")] = False,
    format: str | None = None,  # noqa: A002 (the option's name)
    quality: Annotated[int | None, Parameter(validator=Number(gte=1, lte=100))] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    skip_existing: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make images larger and sharper.

    A result is written beside its input as NAME_x4.EXT, or under --output. One bad file never stops the rest.

    Parameters
    ----------
    output
        A folder, in which results keep their inputs' relative paths and names, or a file if there is one input.
    scale
        Factor, at least 1, whole or not. Default: the model's, 4 if none is named.
    size
        Size of the result in pixels instead: WxH (exactly, stretched if need be), Wx or xH.
    model
        A bundled name (see hat-sr models), a file of weights, .safetensors or .pth, hf://OWNER/REPO for one on the
        Hugging Face Hub, of HAT or with the extra baselines of another network, or bicubic. auto is the bundled one for
        the scale (×4 with --size), and for JPEG and other files compressed with loss the one for photos, which there is
        at ×4 alone.
    tile
        Run the image whole if it fits into memory (auto), always (off), or in tiles of at most so many pixels a side,
        which changes the result a little.
    memory
        How much to plan with, such as 4GiB: the image runs whole in bands of rows that fit, else in tiles. Default: a
        share of what is free.
    precision
        auto is what is fastest: fp16 on CUDA, bf16 on a CPU that multiplies it faster than fp32, else fp32. The picture
        itself is kept in fp32 always.
    device
        auto, cpu, cuda, cuda:1, mps, xpu.
    self_ensemble
        Mean over the eight flips and turns: a little better, eight times slower.
    format
        jpg, png, tif, webp, bmp or exr. Default: the input's, png where such files are not written.
    quality
        1 to 100, of JPEG (default 95) and WebP (default lossless).
    overwrite
        Replace results that are already there.
    skip_existing
        Leave out inputs whose results are already there.
    """
    if scale is not None and size is not None:
        raise ConfigError(f"scale {scale} and size {size} are both given: give one")
    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing contradict each other: give one")
    target = None if size is None else parse_size(size)

    budget = None if memory is None else parse_bytes(memory)

    wanted = DEFAULT_SCALE if scale is None else scale
    scaled_size(1, 1, wanted)  # refuses an impossible factor before any file is looked at

    def make(name: str) -> Upscaler | PlainUpscaler:
        return open_upscaler(
            name,
            scale=math.ceil(wanted),
            tile=tile,
            memory=budget,
            precision=precision,
            self_ensemble=self_ensemble,
            device=device,
        )[0]

    upscalers = _Upscalers(model, wanted, make)
    factor = upscalers.usual.scale if scale is None else scale
    suffix = f"_x{factor:g}" if target is None else f"_{target[1] or ''}x{target[0] or ''}"
    jobs = plan_jobs(
        inputs,
        output=output,
        suffix=suffix,
        image_format=format,
        overwrite=overwrite,
        skip_existing=skip_existing,
        quality=quality,
    )

    console = Console(stderr=True)
    num_done = 0
    failures: list[tuple[Path, str]] = []
    since = time.monotonic()
    try:
        with progress_bars(console) as progress:
            images = progress.add_task("images", total=len(jobs))
            tiles = progress.add_task("tiles", total=1, visible=False)
            for job in jobs:
                progress.update(images, description=job.source.name)
                progress.reset(tiles, visible=False)
                try:
                    _run(job, upscalers, factor=factor, target=target, quality=quality, progress=progress, task=tiles)
                except Exception as error:  # whatever is wrong with one file, the others go on
                    failures.append((job.source, _reason(error)))
                else:
                    num_done += 1
                progress.advance(images)
    finally:  # after Ctrl-C, too
        for source, message in failures:
            print(f"failed: {message if str(source) in message else f'{source}: {message}'}", file=sys.stderr)
        if console.is_terminal or num_done < len(jobs):
            seconds = time.monotonic() - since
            how = f"{num_done} of {len(jobs)} done in {seconds:.1f} s by {upscalers}"
            print(f"{how}, {_where(jobs)}", file=sys.stderr)
    return 1 if failures else 0


class _Upscalers:
    """The network for each picture: the one that is named, or the one in the package that suits it."""

    def __init__(self, model: str, scale: float, make: Callable[[str], Upscaler | PlainUpscaler]) -> None:
        self.model, self.scale, self.make = model, scale, make
        self.made = {self._name(lossy=False): make(self._name(lossy=False))}
        (self.usual,) = self.made.values()

    def __str__(self) -> str:
        """The networks there are, and the precision they run in."""
        return " and ".join(f"{name} in {PRECISION_NAMES[one.dtype]}" for name, one in self.made.items())

    def suiting(self, image: Image, source: Path) -> Upscaler | PlainUpscaler:
        """The one for `image`, read from `source`; says which it is where that is not the usual one, once."""
        name = self._name(lossy=image.metadata.lossy)
        if name not in self.made:
            message = f"{source} is compressed with loss: {name} is used for such files; --model names another"
            print(message, file=sys.stderr)
            self.made[name] = self.make(name)
        return self.made[name]

    def _name(self, *, lossy: bool) -> str:
        return bundled_for(self.scale, lossy=lossy) if self.model == AUTO else self.model


def _run(
    job: Job,
    upscalers: _Upscalers,
    *,
    factor: float,
    target: tuple[int | None, int | None] | None,
    quality: int | None,
    progress: Progress,
    task: TaskID,
) -> None:
    image = read_image(job.source)
    upscaler = upscalers.suiting(image, job.source)
    height, width = image.height, image.width
    new_size = scaled_size(height, width, factor) if target is None else fitted_size(height, width, target)
    check_size(job.output, *new_size)
    job.output.parent.mkdir(parents=True, exist_ok=True)

    def report(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=total > 1)

    result = upscale_image(
        image,
        lambda x: upscale_to(lambda y: upscaler(y, progress=report), x, new_size, scale=upscaler.scale),
        in_chans=upscaler.in_chans,
        name=job.source,
    )
    write_image(job.output, result, quality=quality)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, HatError) else f"{type(error).__name__}: {error}".removesuffix(": ")


def _where(jobs: list[Job]) -> str:
    if not jobs:
        return "nothing to do"
    return str(jobs[0].output) if len(jobs) == 1 else f"in {jobs[0].output.parent}"
