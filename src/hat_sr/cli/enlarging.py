"""What `hat-sr upscale` and `hat-sr batch` have in common: their options, and what they say at the end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.progress import Progress as Bars
from rich.progress import TaskID

from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError
from hat_sr.inference.device import Precision
from hat_sr.inference.enlarge import Settings
from hat_sr.inference.sizing import parse_size
from hat_sr.inference.upscaler import Progress
from hat_sr.model.zoo import AUTO


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What becomes of each picture, and of what an earlier run has done.

    Parameters
    ----------
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
    self_ensemble
        Mean over the eight flips and turns: a little better, eight times slower.
    format
        jpg, png, tif, webp, bmp or exr. Default: the input's, png where such files are not written.
    quality
        1 to 100, of JPEG (default 95) and WebP (default lossless).
    overwrite
        Replace results that are already there.
    skip_existing
        Leave out inputs whose results are already there, whatever made them.
    retry_failed
        Try again, too, what failed before though the file is the same.
    """

    scale: float | None = None
    size: str | None = None
    model: Annotated[str, Parameter(alias="-m")] = AUTO
    tile: Literal["auto", "off"] | int = "auto"
    memory: str | None = None
    precision: Precision = "auto"
    device: str = "auto"
    self_ensemble: Annotated[bool, Parameter(negative="")] = False
    format: str | None = None
    quality: Annotated[int | None, Parameter(validator=Number(gte=1, lte=100))] = None
    overwrite: Annotated[bool, Parameter(negative="")] = False
    skip_existing: Annotated[bool, Parameter(negative="")] = False
    retry_failed: Annotated[bool, Parameter(negative="")] = False

    def settings(self) -> Settings:
        """Those for each picture. Raises ConfigError or InputError for what cannot be."""
        if self.overwrite and self.skip_existing:
            raise ConfigError("--overwrite and --skip-existing contradict each other: give one")
        return Settings(
            model=self.model,
            scale=self.scale,
            size=None if self.size is None else parse_size(self.size),
            tile=self.tile,
            memory=None if self.memory is None else parse_bytes(self.memory),
            precision=self.precision,
            self_ensemble=self.self_ensemble,
            device=self.device,
            quality=self.quality,
        )


def say(sentence: str) -> None:
    """Tell people, on stderr."""
    print(sentence, file=sys.stderr)


def before(num_done: int, failed: Sequence[str]) -> str:
    """A phrase about what earlier runs did; empty if that is nothing. failed: the reasons of what failed then."""
    phrases = []
    if num_done:
        phrases.append(f"{num_done} done before")
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        phrases.append(f"{len(failed)} failed before ({failed[0]}{more}), which --retry-failed tries again")
    return "".join(f"; {phrase}" for phrase in phrases)


def reporter(bars: Bars, task: TaskID) -> Progress:
    """Shows forward passes or tiles on a bar, whose rate does not count those that were done before."""
    begun = False

    def report(done: int, total: int) -> None:
        nonlocal begun
        show = bars.update if begun else bars.reset
        show(task, completed=done, total=total, visible=total > 1)
        begun = True

    return report
