"""`hat-sr upscale`."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress, TaskID

from hat_sr.cli.jobs import Job, plan_jobs
from hat_sr.cli.networks import RuntimeName, open_upscaler, session_for
from hat_sr.cli.progress import progress_bars
from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError, HatError, InputError
from hat_sr.image.decode import Header, read_header
from hat_sr.image.formats import check_size
from hat_sr.image.io import read_image, write_image
from hat_sr.inference.baselines import PlainUpscaler
from hat_sr.inference.device import PRECISION_NAMES, Precision
from hat_sr.inference.journal import discard
from hat_sr.inference.memory import memory_budget, picture_bytes
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.sizing import fitted_size, parse_size, scaled_size, upscale_to
from hat_sr.inference.streaming import is_unfinished, upscale_file
from hat_sr.inference.upscaler import Progress as Report
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
    runtime: RuntimeName = "auto",
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
        Hugging Face Hub, of HAT or with the extra baselines of another network, an exported HAT, .onnx or .xml, or
        bicubic. auto is the bundled one for the scale (×4 with --size), and for JPEG and other files compressed with
        loss the one for photos, which there is at ×4 alone.
    tile
        Run the image whole if it fits into memory (auto), always (off), or in tiles of at most so many pixels a side,
        which changes the result a little.
    memory
        How much to plan with, such as 4GiB: the image runs whole in bands of rows that fit, else in tiles. If picture
        and result are too large even for that, they stay on disk: strip by strip, and the same call goes on where it
        was stopped. Default: a share of what is free.
    precision
        auto is what is fastest: fp16 on CUDA, bf16 on a CPU that multiplies it faster than fp32, else fp32. The picture
        itself is kept in fp32 always. In another runtime auto is fp32; openvino has bf16, too, for all of the network.
    device
        auto, cpu, cuda, cuda:1, mps, xpu.
    runtime
        What runs the network: torch, or another on the CPU, for which weights are exported first (hat-sr export does so
        once and for all). auto is torch, and for an exported file its own.
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

    def room() -> float:
        """Bytes that a picture may take as a whole."""
        if tile == "off":
            return math.inf
        return memory_budget(torch.device("cpu")) if budget is None else budget

    def make(name: str) -> Upscaler | PlainUpscaler:
        if (session := session_for(name, runtime=runtime, precision=precision)) is not None:
            return Upscaler(
                session, tile=tile, memory=budget, precision=precision, self_ensemble=self_ensemble, device=device
            )
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
                    _run(
                        job,
                        upscalers,
                        factor=factor,
                        target=target,
                        room=room,
                        quality=quality,
                        report=_reporter(progress, tiles),
                    )
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

    def suiting(self, source: Path, *, lossy: bool) -> Upscaler | PlainUpscaler:
        """The one for the picture in `source`; says which it is where that is not the usual one, once."""
        name = self._name(lossy=lossy)
        if name not in self.made:
            _say(f"{source} is compressed with loss: {name} is used for such files; --model names another")
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
    room: Callable[[], float],
    quality: int | None,
    report: Report,
) -> None:
    header = read_header(job.source)
    upscaler = upscalers.suiting(job.source, lossy=header.lossy)
    height, width = header.height, header.width
    new_size = scaled_size(height, width, factor) if target is None else fitted_size(height, width, target)
    check_size(job.output, *new_size)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(upscaler, Upscaler) and _is_to_stream(job, header, new_size, upscaler, room()):
        upscale_file(job.source, job.output, upscaler, quality=quality, progress=report, say=_say)
        return
    if discard(job.output):
        _say(f"{job.output}: what was begun of it, with another input or other settings, is deleted")
    image = read_image(job.source)
    result = upscale_image(
        image,
        lambda x: upscale_to(lambda y: upscaler(y, progress=report), x, new_size, scale=upscaler.scale),
        in_chans=upscaler.in_chans,
        name=job.source,
    )
    write_image(job.output, result, quality=quality)


def _is_to_stream(job: Job, header: Header, new_size: tuple[int, int], upscaler: Upscaler, room: float) -> bool:
    """Whether it goes from file to file: if it does not fit into memory as a whole, or was begun so."""
    by_own_factor = new_size == (header.height * upscaler.scale, header.width * upscaler.scale)
    if by_own_factor and is_unfinished(job.source, job.output, upscaler):
        return True
    needed = picture_bytes(*new_size, header.channels)
    if needed > room and not by_own_factor:
        raise InputError(
            f"{new_size[1]}×{new_size[0]} pixels take about {needed / 2**30:.1f} GB of memory, and "
            f"{room / 2**30:.1f} GB are planned with (--memory): strip by strip, on disk, only the model's own factor "
            f"is made: use --scale {upscaler.scale}, and resize the result"
        )
    return needed > room


def _reporter(progress: Progress, task: TaskID) -> Report:
    """Shows forward passes or tiles on a bar, whose rate does not count those that were done before."""
    begun = False

    def report(done: int, total: int) -> None:
        nonlocal begun
        show = progress.update if begun else progress.reset
        show(task, completed=done, total=total, visible=total > 1)
        begun = True

    return report


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, HatError) else f"{type(error).__name__}: {error}".removesuffix(": ")


def _where(jobs: list[Job]) -> str:
    if not jobs:
        return "nothing to do"
    return str(jobs[0].output) if len(jobs) == 1 else f"in {jobs[0].output.parent}"
