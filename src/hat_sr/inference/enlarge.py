"""A picture from file to file, as `hat-sr upscale` and `hat-sr batch` make it.

Which network it goes through, how large it becomes, and whether it is made in memory or on disk, strip by strip.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from hat_sr.errors import ConfigError, InputError
from hat_sr.image.decode import Header, read_header
from hat_sr.image.formats import check_size, format_for
from hat_sr.image.io import Image, check_output, read_image, write_image, write_pages
from hat_sr.inference.baselines import load_upscale
from hat_sr.inference.device import PRECISION_NAMES, Precision
from hat_sr.inference.journal import discard
from hat_sr.inference.memory import memory_budget, picture_bytes
from hat_sr.inference.network import PlainUpscaler
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.sizing import fitted_size, format_size, num_passes, scaled_size, upscale_to
from hat_sr.inference.streaming import Say, is_unfinished, upscale_file
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.banded import Report
from hat_sr.model.hat import HAT
from hat_sr.model.zoo import AUTO, DEFAULT_SCALE, bundled_for
from hat_sr.runtime.session import Session, open_session, runtime_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made of every picture. Raises ConfigError for what cannot be."""

    model: str = AUTO
    """A name that `open_upscaler` takes, an exported file, or AUTO: the one in the package that suits the picture."""
    scale: float | None = None
    """At least 1; None is the network's own."""
    size: tuple[int | None, int | None] | None = None
    """(height, width) instead of a scale; None for a side that follows the other."""
    tile: int | Literal["auto", "off"] = "auto"
    memory: int | None = None
    precision: Precision = "auto"
    self_ensemble: bool = False
    device: str = "auto"
    quality: int | None = None
    """Of JPEG and WebP, 1 to 100."""
    keep_dpi: bool = False
    """The resolution in print stays, instead of growing with the picture."""

    def __post_init__(self) -> None:
        if self.scale is not None and self.size is not None:
            raise ConfigError(f"scale {self.scale:g} and size {format_size(self.size)} are both given: give one")
        scaled_size(1, 1, self.wanted_scale)

    @property
    def wanted_scale(self) -> float:
        """The factor that a network is looked for."""
        return DEFAULT_SCALE if self.scale is None else self.scale


def upscaler_of(model: HAT | Session, settings: Settings) -> Upscaler:
    """What runs a HAT, in torch or exported, with these settings. Raises as `Upscaler`."""
    return Upscaler(
        model,
        tile=settings.tile,
        memory=settings.memory,
        precision=settings.precision,
        self_ensemble=settings.self_ensemble,
        device=settings.device,
    )


def open_upscaler(name: str, settings: Settings) -> tuple[Upscaler | PlainUpscaler, nn.Module]:
    """What runs the network of that name with these settings, and the module that holds its weights.

    Raises as `load_upscale`, and ConfigError for settings that cannot be.
    """
    network = load_upscale(name, scale=math.ceil(settings.wanted_scale))  # the scale is bicubic's
    if isinstance(network.module, HAT):
        return upscaler_of(network.module, settings), network.module
    if settings.memory is not None:
        raise ConfigError(f"--memory plans for HAT, and {name} is none: leave it out, or give --tile")
    plain = PlainUpscaler(
        network,
        tile=settings.tile,
        precision=settings.precision,
        self_ensemble=settings.self_ensemble,
        device=settings.device,
    )
    return plain, network.module


def open_network(name: str, settings: Settings) -> Upscaler | PlainUpscaler:
    """What runs the network of that name, or that exported file, with these settings.

    Raises as `open_upscaler` and `open_session`.
    """
    if runtime_of(Path(name)) is not None:
        return upscaler_of(open_session(name, precision=settings.precision), settings)
    return open_upscaler(name, settings)[0]


class Enlarger:
    """Makes files larger, all by the same settings. It opens the network that it takes first, at once.

    open_named: what opens a network by its name. say: told what people should know. Raises as `open_network`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_named: Callable[[str, Settings], Upscaler | PlainUpscaler] = open_network,
        say: Say = lambda sentence: None,
    ) -> None:
        self.settings, self._open_named, self._say = settings, open_named, say
        self._opened: dict[str, Upscaler | PlainUpscaler] = {}
        self._usual = self._name(lossy=False)
        self._used: set[str] = set()
        self.factor = self._network(self._usual).scale if settings.scale is None else settings.scale

    def __str__(self) -> str:
        """The networks that were used, and the precision they run in."""
        names = self._used or {self._usual}
        used = {name: one for name, one in self._opened.items() if name in names}
        return " and ".join(f"{name} in {PRECISION_NAMES[one.dtype]}" for name, one in used.items())

    def identity(self) -> dict[str, str]:
        """What results depend on; what was asked for, where "auto" is found anew each time."""
        names = dict.fromkeys([self._usual, self._name(lossy=True)])
        settings = self.settings
        return {
            "network": ", ".join(self._network(name).fingerprint() for name in names),
            "scale": f"{self.factor:g}" if settings.size is None else format_size(settings.size),
            "tile": str(settings.tile),
            "precision": settings.precision,
            "self_ensemble": str(settings.self_ensemble),
            "quality": str(settings.quality),
            "keep_dpi": str(settings.keep_dpi),
        }

    def enlarge(self, source: Path, output: Path, *, report: Report = lambda part: None) -> None:
        """Make `output`, whose suffix says the kind of file, and its folder if need be.

        It appears whole or not at all. report: called with the part of the work that is done, 0 to 1. Raises ImageError
        if the input cannot be read or the result not be written, InputError if the picture is of no kind or size for
        the network and the settings.
        """
        settings, header = self.settings, read_header(source)
        if header.num_pages > 1 and format_for(output).pages:
            self._enlarge_pages(source, output, header.num_pages, report)
            return
        upscaler = self._suiting(source, header)
        new_size = self._new_size(header)
        output.parent.mkdir(parents=True, exist_ok=True)
        check_output(output, *new_size, quality=settings.quality)
        if isinstance(upscaler, Upscaler) and _is_to_stream(source, output, header, new_size, upscaler, self._room()):
            upscale_file(
                source,
                output,
                upscaler,
                quality=settings.quality,
                keep_dpi=settings.keep_dpi,
                progress=lambda done, total: report(done / total),
                say=self._say,
            )
            return
        if discard(output):
            self._say(f"{output}: what was begun of it, with another input or other settings, is deleted")
        result = self._enlarged(read_image(source), upscaler, new_size, name=source, report=report)
        write_image(output, result, quality=settings.quality, keep_dpi=settings.keep_dpi)

    def _enlarge_pages(self, source: Path, output: Path, num_pages: int, report: Report) -> None:
        """Make a TIFF of as many pages, each as if it were alone, in the memory of one."""
        headers = [read_header(source, page=page) for page in range(num_pages)]
        sizes = [self._new_size(header) for header in headers]
        for number, (header, size) in enumerate(zip(headers, sizes, strict=True), 1):
            check_size(output, *size)
            if (needed := picture_bytes(*size, header.channels)) > self._room():
                raise InputError(
                    f"page {number} of {num_pages} takes about {needed / 2**30:.1f} GB of memory, more than there is "
                    "or may be planned with (--memory): save the pages in files of their own"
                )
        output.parent.mkdir(parents=True, exist_ok=True)
        check_output(output, *sizes[0], quality=None)
        discard(output)
        self._say(f"{source}: {num_pages} pages, one after the other")

        def made() -> Iterator[Image]:
            reports = _reports(report, [math.prod(size) for size in sizes])
            for page, (header, size, part) in enumerate(zip(headers, sizes, reports, strict=True)):
                upscaler = self._suiting(source, header)
                yield self._enlarged(
                    read_image(source, page=page), upscaler, size, name=f"{source}, page {page + 1}", report=part
                )

        num_bytes = sum(
            math.prod(size) * header.channels * np.dtype(header.dtype).itemsize
            for header, size in zip(headers, sizes, strict=True)
        )
        write_pages(output, made(), num_pages=num_pages, num_bytes=num_bytes, keep_dpi=self.settings.keep_dpi)

    def _enlarged(
        self,
        image: Image,
        upscaler: Upscaler | PlainUpscaler,
        new_size: tuple[int, int],
        *,
        name: object,
        report: Report,
    ) -> Image:
        passes = num_passes(image.height, image.width, new_size, scale=upscaler.scale)
        works = [upscaler.scale ** (2 * number) for number in range(passes)]
        reports = _reports(report, works * (1 if image.alpha is None else 2))  # alpha is a picture of its own
        return upscale_image(
            image,
            lambda x: upscale_to(lambda y: upscaler(y, report=next(reports)), x, new_size, scale=upscaler.scale),
            in_chans=upscaler.in_chans,
            name=name,
        )

    def _new_size(self, header: Header) -> tuple[int, int]:
        """(height, width) of the result."""
        if self.settings.size is None:
            return scaled_size(header.height, header.width, self.factor)
        return fitted_size(header.height, header.width, self.settings.size)

    def _name(self, *, lossy: bool) -> str:
        automatic = self.settings.model == AUTO
        return bundled_for(self.settings.wanted_scale, lossy=lossy) if automatic else self.settings.model

    def _network(self, name: str) -> Upscaler | PlainUpscaler:
        if name not in self._opened:
            self._opened[name] = self._open_named(name, self.settings)
        return self._opened[name]

    def _suiting(self, source: Path, header: Header) -> Upscaler | PlainUpscaler:
        """The network for a picture; says which it is where that is not the usual one, once."""
        name = self._name(lossy=header.lossy)
        if name not in self._used | {self._usual}:
            self._say(f"{source} is compressed with loss: {name} is used for such files; --model names another")
        self._used.add(name)
        return self._network(name)

    def _room(self) -> float:
        """Bytes that a picture may take as a whole."""
        if self.settings.tile == "off":
            return math.inf
        return memory_budget(torch.device("cpu")) if self.settings.memory is None else self.settings.memory


def _reports(report: Report, works: Sequence[float]) -> Iterator[Report]:
    """A report for each of several passes in turn, of so much work each, that tells `report` the part of the whole."""
    done = 0.0

    def told(before: float, work: float, part: float) -> None:
        report((before + part * work) / sum(works))

    for work in works:
        yield partial(told, done, work)
        done += work


def _is_to_stream(
    source: Path, output: Path, header: Header, new_size: tuple[int, int], upscaler: Upscaler, room: float
) -> bool:
    """Whether it goes from file to file: if it does not fit into memory as a whole, or was begun so."""
    by_own_factor = new_size == (header.height * upscaler.scale, header.width * upscaler.scale)
    if by_own_factor and is_unfinished(source, output, upscaler):
        return True
    needed = picture_bytes(*new_size, header.channels)
    if needed > room and not by_own_factor:
        raise InputError(
            f"{new_size[1]}×{new_size[0]} pixels take about {needed / 2**30:.1f} GB of memory, and "
            f"{room / 2**30:.1f} GB are planned with (--memory): strip by strip, on disk, only the model's own factor "
            f"is made: use --scale {upscaler.scale}, and resize the result"
        )
    return needed > room
