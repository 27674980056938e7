"""Training images made ready: cut into overlapping parts, made smaller, and stored as a folder, a database or shards.

What is done is written down in a journal in the destination, so that a run that was stopped goes on where it was.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hat_sr.errors import ConfigError, ImageError
from hat_sr.files import PART_PREFIX
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.train.data.sources import Source
from hat_sr.train.data.store import JOURNAL, Made, Piece, PreparedLog, claimed, open_store
from hat_sr.train.data.workers import in_threads

LONGEST_KEY = 500
"""Bytes of a name in a database; LMDB takes 511, and _s001 may be added."""

Progress = Callable[[int, int], None]
"""Called with the number of images done, and of all."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What is made of each image, and how it is stored."""

    to: Literal["folder", "lmdb", "webdataset"] = "folder"
    crop: int | None = None
    """Side of the windows that images are cut into, in pixels; None keeps them whole."""
    step: int | None = None
    """Distance of windows; the last one ends at the border. None: half of `crop`."""
    shard_bytes: int = 500_000_000
    """A shard of a webdataset is closed when it is as large as this."""

    def __post_init__(self) -> None:
        for name in ("crop", "step", "shard_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value} must be at least 1")
        if self.step is not None and self.crop is None:
            raise ConfigError(f"step {self.step} without crop: give crop, the side of the windows, too")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What came of it."""

    num_images: int
    num_done_before: int
    """Images that an earlier run had done."""
    num_pieces: int
    """Image files in the destination, of all runs."""
    num_shards: int
    """0 if there are none."""
    unusable: tuple[str, ...]
    """A sentence for each image that could not be used."""


def prepare(
    source: Source,
    destination: Path,
    config: PrepareConfig,
    *,
    described_as: dict[str, object],
    on_progress: Progress | None = None,
) -> Prepared:
    """Store the images of `source` in the folder `destination` as lossless RGB PNG, leaving out what is there already.

    `described_as` says what the images are (where from, how made smaller), in what JSON has: with other words, or
    another config, an existing destination is refused. An image that cannot be used is left out, named in the result,
    and tried again by the next run. Images are read and written in as many threads as torch has.

    Raises ConfigError for a destination that holds something else or that another process prepares into, and
    ImageError, DataError or OSError if it cannot be written; what is done by then is kept.
    """
    settings = described_as | {key: value for key, value in asdict(config).items() if key != "shard_bytes"}
    if destination.resolve().is_relative_to(Path(source.where).resolve()):
        raise ConfigError(f"the destination {destination} is in {source.where}: take another folder, outside of it")
    with claimed(destination, record=JOURNAL, command="hat-sr data prepare"):
        return _prepare(source, destination, config, settings, on_progress)


def _prepare(
    source: Source,
    destination: Path,
    config: PrepareConfig,
    settings: dict[str, object],
    on_progress: Progress | None,
) -> Prepared:
    journal = PreparedLog(destination, settings)
    names = unique_names([source.name(index) for index in range(len(source))])
    todo = [index for index in _order(len(source), config) if source.name(index) not in journal.done]
    num_before = len(source) - len(todo)
    unusable: list[str] = []
    with (
        tempfile.TemporaryDirectory(dir=destination, prefix=PART_PREFIX) as scratch,
        open_store(config.to, destination, journal, shard_bytes=config.shard_bytes) as store,
    ):

        def make(index: int) -> Made | str:
            try:
                hr = source.read(index).hr
            except ImageError as error:
                return str(error)
            if config.to == "lmdb" and len(os.fsencode(names[index])) > LONGEST_KEY:
                return f"{source.where}/{source.name(index)}: the name is too long for the key of a database"
            pieces = []
            parts = windows(hr.shape[1], hr.shape[2], config)
            for number, (top, left, height, width) in enumerate(parts, start=1):
                name = names[index] if config.crop is None else f"{names[index]}_s{number:03d}"
                file = Path(scratch, f"{index}_{number}.png")
                pixels = hr[:, top : top + height, left : left + width].permute(1, 2, 0).contiguous().numpy()
                write_image(file, Image(pixels))
                pieces.append(Piece(name=f"{name}.png", height=height, width=width, file=file))
            return Made(image=source.name(index), pieces=tuple(pieces))

        with in_threads(make, todo, num_threads=torch.get_num_threads()) as results:
            for number, made in enumerate(results, start=num_before + 1):
                if isinstance(made, str):
                    unusable.append(made)
                else:
                    store.add(made)
                if on_progress is not None:
                    on_progress(number, len(source))
        store.finish()
    return Prepared(
        num_images=len(source),
        num_done_before=num_before,
        num_pieces=sum(len(pieces) for pieces in journal.done.values()),
        num_shards=journal.num_shards,
        unusable=tuple(unusable),
    )


def windows(height: int, width: int, config: PrepareConfig) -> Iterator[tuple[int, int, int, int]]:
    """Top, left, height and width of the parts of an image, row by row.

    A side shorter than `crop` is not cut.
    """
    crop = config.crop or max(height, width)
    step = config.step or max(crop // 2, 1)
    for top in _starts(height, crop, step):
        for left in _starts(width, crop, step):
            yield top, left, min(crop, height), min(crop, width)


def _starts(side: int, crop: int, step: int) -> list[int]:
    last = max(side - crop, 0)
    return [*range(0, last, step), last]


def unique_names(names: list[str]) -> list[str]:
    """Names without suffix for the results, all different, in the same folders.

    A dot becomes _, as tar shards and BasicSR end a key at the first one. Where files differ in the suffix alone, it
    stays: a.jpg and a.png become a_jpg and a_png.
    """
    wanted = []
    for name in names:
        folder, _, file = name.rpartition("/")
        stem = os.path.splitext(file)[0]  # noqa: PTH122 (over a million times)
        wanted.append((f"{folder}/" if folder else "") + stem.replace(".", "_"))
    counts = Counter(wanted)
    taken = {name for name, count in counts.items() if count == 1}
    result = []
    for name, plain in zip(names, wanted, strict=True):
        if counts[plain] == 1:
            result.append(plain)
            continue
        folder, _, file = name.rpartition("/")
        longer = (f"{folder}/" if folder else "") + file.replace(".", "_")
        while longer in taken:
            longer += "_"
        taken.add(longer)
        result.append(longer)
    return result


def _order(num_images: int, config: PrepareConfig) -> list[int]:
    """Shards are read one after the other, so that neighbours (of one class, say) must not come from one folder."""
    if config.to != "webdataset":
        return list(range(num_images))
    return [int(index) for index in np.random.default_rng(0).permutation(num_images)]
