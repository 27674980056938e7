"""What is in training data: every image read once, counted, measured and compared."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median_low

import numpy as np
import torch

from hat_sr.errors import ImageError
from hat_sr.train.config import SourceConfig
from hat_sr.train.data.likeness import ALIKE_BITS, distances, perceptual_hashes
from hat_sr.train.data.reading import Picture, check_sides, read_rgb_bytes
from hat_sr.train.data.sources import open_source
from hat_sr.train.data.stream import list_shards, read_shards
from hat_sr.train.data.workers import in_threads

Progress = Callable[[int, int | None], None]
"""Called with the number of images read, and of all: None if that is not known."""


@dataclass(kw_only=True)
class Check:
    """What was found in one source."""

    where: str
    unusable: list[str] = field(default_factory=list)
    """A sentence for each image that cannot be used."""
    names: list[str] = field(default_factory=list)
    """Of the usable images."""
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    """Of their pixels and sizes: equal for equal pictures, whatever the file format."""
    hashes: list[tuple[int, ...]] = field(default_factory=list)
    """Perceptual hashes of as many flips and turns as were asked for, the first of the picture as it is."""

    @property
    def megapixels(self) -> float:
        """Of all usable images together."""
        return sum(width * height for width, height in zip(self.widths, self.heights, strict=True)) / 1e6

    @property
    def size_range(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Smallest, median and largest width, and height, in pixels. There must be a usable image."""
        widths, heights = sorted(self.widths), sorted(self.heights)
        return (widths[0], median_low(widths), widths[-1]), (heights[0], median_low(heights), heights[-1])


def check_source(
    config: SourceConfig,
    root: Path,
    *,
    scale: int,
    smallest: int = 1,
    num_views: int = 0,
    on_progress: Progress | None = None,
) -> Check:
    """Read every image of a source, in as many threads as torch has. Sides below `smallest` pixels are unusable.

    `num_views`: how many of the eight flips and turns are hashed for `find_alike`, which takes one of an image and all
    of what it is compared with. Raises DataError and MissingExtraError as opening the source does.
    """
    images: Iterable[tuple[str, Callable[[], Picture]]]
    total = None
    if config.kind == "webdataset":
        check = Check(where=config.path)
        images = _in_shards(list_shards(config, root), check.unusable)
    else:
        source = open_source(config, root, scale=scale)
        check, total = Check(where=source.where), len(source)
        images = ((source.name(index), partial(source.read, index)) for index in range(len(source)))

    def measure(image: tuple[str, Callable[[], Picture]]) -> tuple[str, int, int, bytes, tuple[int, ...]] | str:
        name, read = image
        try:
            picture = read()
            check_sides(picture, f"{check.where}/{name}", smallest=smallest)
        except ImageError as error:
            return str(error)
        height, width = picture.hr.shape[1:]
        # A picture and its mirror image or transpose may have the same bytes in another order, so the size counts too.
        digest = hashlib.blake2b(f"{width}x{height}".encode(), digest_size=16)
        digest.update(picture.hr.contiguous().numpy().data)
        return name, width, height, digest.digest(), perceptual_hashes(picture.hr, num_views)

    with in_threads(measure, images, num_threads=torch.get_num_threads()) as results:
        for number, found in enumerate(results, start=1):
            if isinstance(found, str):
                check.unusable.append(found)
            else:
                name, width, height, digest, hashes = found
                check.names.append(name)
                check.widths.append(width)
                check.heights.append(height)
                check.digests.append(digest)
                check.hashes.append(hashes)
            if on_progress is not None:
                on_progress(number, total)
    return check


def find_duplicates(checks: Iterable[Check]) -> list[list[str]]:
    """Groups of images with the same pixels: whole names, groups and names in the order they were found in."""
    groups: dict[bytes, list[str]] = {}
    for check in checks:
        for name, digest in zip(check.names, check.digests, strict=True):
            groups.setdefault(digest, []).append(f"{check.where}/{name}")
    return [names for names in groups.values() if len(names) > 1]


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Two images that look the same."""

    name: str
    other: str
    bits: int
    """Of 64, in which their perceptual hashes differ."""


def find_alike(checks: Iterable[Check], others: Sequence[Check]) -> list[Alike]:
    """Images of `checks` (one view hashed) that look like one of `others` (all eight views): whole names.

    Not found are parts: an image cut out of another.
    """
    found = []
    for check in checks:
        hashes = np.array([one for one, *_ in check.hashes], np.uint64)
        for other in others:
            for name, views in zip(other.names, other.hashes, strict=True):
                bits = distances(hashes, views)
                found += [
                    Alike(
                        name=f"{check.where}/{check.names[number]}",
                        other=f"{other.where}/{name}",
                        bits=int(bits[number]),
                    )
                    for number in np.flatnonzero(bits <= ALIKE_BITS)
                ]
    return found


def _in_shards(shards: list[str], unusable: list[str]) -> Iterator[tuple[str, Callable[[], Picture]]]:
    for name, data in read_shards(shards, unusable=unusable):
        yield name, partial(_decode, data, name)


def _decode(data: bytes, name: str) -> Picture:
    return Picture(read_rgb_bytes(data, name))
