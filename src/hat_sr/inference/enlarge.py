"""A picture from file to file, as `hat-sr upscale` makes it.

Which network it goes through, how large it becomes, and whether it is made in memory or on disk, strip by strip.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hat_sr.checkpoints.named import AUTO, DEFAULT_SCALE
from hat_sr.errors import ConfigError, InputError
from hat_sr.image.decode import Header, read_header
from hat_sr.image.formats import check_size, format_for
from hat_sr.image.io import Image, check_output, read_image, write_image, write_pages
from hat_sr.inference.choice import Choice
from hat_sr.inference.device import PRECISION_NAMES, Precision, RuntimeName
from hat_sr.inference.journal import discard
from hat_sr.inference.memory import memory_budget, picture_bytes
from hat_sr.inference.open import open_network
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.sizing import fitted_size, format_size, reached_by, scaled_size, upscale_to
from hat_sr.inference.streaming import Say, is_unfinished, upscale_file
from hat_sr.inference.upscale import Upscale
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.banded import Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made of every picture. Raises ConfigError for what cannot be."""

    model: str = AUTO
    """What `open_network` takes, or AUTO: the one in the package that suits the picture."""
    scale: float | None = None
    """At least 1; None is the network's own."""
    size: tuple[int | None, int | None] | None = None
    """(height, width) instead of a scale; None for a side that follows the other."""
    tile: int | Literal["auto", "off"] = "auto"
    memory: int | None = None
    precision: Precision = "auto"
    self_ensemble: bool = False
    faithful: bool = True
    """As for `Upscaler`; other networks than HAT are left as they are."""
    device: str = "auto"
    runtime: RuntimeName = "auto"
    """As for `open_network`."""
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


def open_upscaler(name: str, settings: Settings, *, say: Say = lambda sentence: None) -> Upscaler:
    """What runs the network of that name with these settings. Raises as `open_network` and `Upscaler`."""
    network = open_network(
        name,
        scale=math.ceil(settings.wanted_scale),
        precision=settings.precision,
        runtime=settings.runtime,
        say=say,
    )
    return Upscaler(
        network,
        tile=settings.tile,
        memory=settings.memory,
        precision=settings.precision,
        self_ensemble=settings.self_ensemble,
        faithful=settings.faithful,
        device=settings.device,
    )


def enlarge_file(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    model: str = AUTO,
    scale: float | None = None,
    size: tuple[int | None, int | None] | None = None,
    quality: int | None = None,
    precision: Precision = "auto",
    device: str = "auto",
) -> None:
    """Make an image file larger, as `hat-sr upscale` does; what is there at `output` is replaced.

    The arguments are those of `Settings`: size is (height, width). What the command says on stderr goes to the log
    "hat_sr" as information. For many files make one `Enlarger`, which keeps its networks open. Raises as that and its
    `enlarge`.
    """
    settings = Settings(model=model, scale=scale, size=size, quality=quality, precision=precision, device=device)
    Enlarger(settings, say=logger.info).enlarge(Path(source), Path(output))


class Enlarger:
    """Makes files larger, all by the same settings. It opens the network that it takes first, at once.

    settings: `precision` "auto" becomes what it is for the network that is opened first, in the attribute, too.
    say: told what people should know. Raises as `open_upscaler`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        say: Say = lambda sentence: None,
    ) -> None:
        self._say = say
        self._choice = Choice(
            settings.model,
            settings.wanted_scale,
            open_named=lambda name: open_upscaler(name, settings, say=say),
            say=say,
        )
        own = DEFAULT_SCALE if settings.model == AUTO else self._choice.usual.scale
        self.factor = own if settings.scale is None else settings.scale
        # In the words of the settings, for what is written down of results, and for workers on other processors.
        self.settings = replace(settings, precision=PRECISION_NAMES[self._choice.usual.dtype])

    def __str__(self) -> str:
        """The networks that were used, and the precision they run in."""
        return str(self._choice)

    def identity(self) -> dict[str, str]:
        """What results depend on; of "auto" what it is, but for the size of tiles, which is found anew each time."""
        settings = self.settings
        return {
            "network": self._choice.fingerprint(self.factor if settings.size is None else None),
            "scale": f"{self.factor:g}" if settings.size is None else format_size(settings.size),
            "tile": str(settings.tile),
            "precision": settings.precision,
            "self_ensemble": str(settings.self_ensemble),
            "faithful": str(settings.faithful),
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
        new_size = self._new_size(header)
        networks = self._choice.networks(source, header, self._factor(header))
        output.parent.mkdir(parents=True, exist_ok=True)
        check_output(output, *new_size, quality=settings.quality)
        first = networks[0]
        if self._is_to_stream(source, output, header, new_size, networks):
            upscale_file(
                source,
                output,
                first,
                size=new_size,
                quality=settings.quality,
                keep_dpi=settings.keep_dpi,
                progress=lambda done, total: report(done / total),
                say=self._say,
            )
            return
        if discard(output):
            self._say(f"{output}: what was begun of it, with another input or other settings, is deleted")
        result = enlarge_image(read_image(source), networks, new_size, name=source, report=report)
        write_image(output, result, quality=settings.quality, keep_dpi=settings.keep_dpi)

    def _enlarge_pages(self, source: Path, output: Path, num_pages: int, report: Report) -> None:
        """Make a TIFF of as many pages, each as if it were alone, in the memory of one."""
        headers = [read_header(source, page=page) for page in range(num_pages)]
        sizes = [self._new_size(header) for header in headers]
        networks = list[Sequence[Upscaler]]()
        for number, (header, size) in enumerate(zip(headers, sizes, strict=True), 1):
            check_size(output, *size)
            networks.append(self._choice.networks(source, header, self._factor(header), page=number - 1))
            if (needed := _bytes_as_a_whole(header, size, networks[-1])) > self._room():
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
            for page, (through, size, part) in enumerate(zip(networks, sizes, reports, strict=True)):
                name = f"{source}, page {page + 1}"
                yield enlarge_image(read_image(source, page=page), through, size, name=name, report=part)

        num_bytes = sum(
            math.prod(size) * header.channels * np.dtype(header.dtype).itemsize
            for header, size in zip(headers, sizes, strict=True)
        )
        write_pages(output, made(), num_pages=num_pages, num_bytes=num_bytes, keep_dpi=self.settings.keep_dpi)

    def _new_size(self, header: Header) -> tuple[int, int]:
        """(height, width) of the result."""
        if self.settings.size is None:
            return scaled_size(header.height, header.width, self.factor)
        return fitted_size(header.height, header.width, self.settings.size)

    def _factor(self, header: Header) -> float:
        """By how much the picture becomes larger."""
        if self.settings.size is None:
            return self.factor
        return reached_by(header.height, header.width, self._new_size(header))

    def _room(self) -> float:
        """Bytes that a picture may take as a whole."""
        if self.settings.tile == "off":
            return math.inf
        return memory_budget(torch.device("cpu")) if self.settings.memory is None else self.settings.memory

    def _is_to_stream(
        self, source: Path, output: Path, header: Header, new_size: tuple[int, int], networks: Sequence[Upscaler]
    ) -> bool:
        """Whether it goes from file to file: if it does not fit into memory as a whole, or was begun so."""
        first, *others = networks
        if not others and is_unfinished(source, output, first):
            return True
        needed, room = _bytes_as_a_whole(header, new_size, networks), self._room()
        if needed > room and others:
            raise InputError(
                f"{new_size[1]}×{new_size[0]} pixels through {len(networks)} networks take about "
                f"{needed / 2**30:.1f} GB of memory, and {room / 2**30:.1f} GB are planned with (--memory): strip by "
                f"strip, on disk, one network is run: use --scale {first.scale}, and enlarge it again"
            )
        return needed > room


def _bytes_as_a_whole(header: Header, new_size: tuple[int, int], networks: Sequence[Upscaler]) -> int:
    """Memory for a picture: of its result, or of what the networks make, from which that is made smaller."""
    product = math.prod(network.scale for network in networks)
    sizes = [new_size, (header.height * product, header.width * product)]
    return max(picture_bytes(*size, header.channels) for size in sizes)


def _reports(report: Report, works: Sequence[float]) -> Iterator[Report]:
    """A report for each of several passes in turn, of so much work each, that tells `report` the part of the whole."""
    done = 0.0

    def told(before: float, work: float, part: float) -> None:
        report((before + part * work) / sum(works))

    for work in works:
        yield partial(told, done, work)
        done += work


def enlarge_image(
    image: Image,
    networks: Sequence[Upscaler],
    new_size: tuple[int, int],
    *,
    name: object = "the picture",
    report: Report = lambda part: None,
) -> Image:
    """The picture at `new_size` (height, width), through the networks one after the other; see `upscale_image`.

    name: for warnings. report: called with the part of the work that is done, 0 to 1.
    """
    works = [math.prod(one.scale for one in networks[:number]) ** 2 for number in range(len(networks))]
    reports = _reports(report, works * (1 if image.alpha is None else 2))  # alpha is a picture of its own

    def step(network: Upscaler) -> Upscale:
        return lambda x: network(x, report=next(reports))

    steps = [(step(network), network.scale) for network in networks]
    return upscale_image(image, lambda x: upscale_to(steps, x, new_size), in_chans=networks[0].in_chans, name=name)
