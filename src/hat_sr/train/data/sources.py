"""Where training images come from: folders, pairs of folders and LMDB databases, all read by number.

A `Source` knows its images' names and reads one of them; it holds none. Tar shards have no numbers: see
`hat_sr.train.data.stream`.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from hat_sr.errors import DataError, ImageError
from hat_sr.train.config import SourceConfig
from hat_sr.train.data.database import LmdbSource
from hat_sr.train.data.names import Names, list_training_files, without
from hat_sr.train.data.reading import Picture, check_sides, read_rgb, shrunk


class Source(Protocol):
    """Images by number."""

    where: str
    """The folder or database."""

    def __len__(self) -> int:
        """How many images."""

    def name(self, index: int) -> str:
        """What image `index` is called in `where`, with / between folders."""

    def read(self, index: int) -> Picture:
        """Read image `index`. Raises ImageError if it cannot be used."""


def open_source(config: SourceConfig, root: Path, *, scale: int) -> Source:
    """Open what `config` describes below `root`, without reading an image.

    Raises DataError for what is missing, empty or not as the recipe says, MissingExtraError without the package lmdb,
    and ValueError for a webdataset, which has no numbers.
    """
    place = root / config.path
    if config.kind == "lmdb":
        return LmdbSource(place, exclude=config.exclude)
    if config.kind == "pairs" and config.lr_path is not None:
        answers = None if config.teacher_path is None else root / config.teacher_path
        return PairSource(place, root / config.lr_path, scale=scale, teacher_folder=answers, exclude=config.exclude)
    if (place / "data.mdb").is_file():
        raise DataError(f'{place} is an LMDB database: its source needs kind = "lmdb"')
    if config.kind == "folder":
        return FolderSource(place, shrink=config.shrink, max_width=config.max_width, exclude=config.exclude)
    raise ValueError(f"a source of kind {config.kind!r} is not read by number")


class FolderSource:
    """Image files of a folder and all below it, sorted by their paths, each perhaps made smaller."""

    def __init__(
        self, folder: Path, *, shrink: float = 1.0, max_width: int | None = None, exclude: Iterable[str] = ()
    ) -> None:
        self.where = str(folder)
        self.shrink = shrink
        self.max_width = max_width
        self._names = Names(_list_images(folder, exclude))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Path below the folder."""
        return self._names[index]

    def read(self, index: int) -> Picture:
        """Read one file. Raises ImageError if it cannot be used."""
        image = read_rgb(Path(self.where, self.name(index)))
        image = shrunk(image, self.shrink)
        if self.max_width is not None and image.shape[2] > self.max_width:
            image = shrunk(image, 4 / 3)
        return Picture(image)


class PairSource:
    """A folder of high-resolution images and one of their low-resolution images, matched by name.

    The partner of a/0801.png is a/0801 or a/0801x4 (the scale) with any suffix. teacher_folder: a teacher's answers to
    the low-resolution images, under the names of the high-resolution ones; images without an answer are left out.
    Raises DataError if a partner is missing, or two fit, or there is no answer at all.
    """

    def __init__(
        self,
        folder: Path,
        lr_folder: Path,
        *,
        scale: int,
        teacher_folder: Path | None = None,
        exclude: Iterable[str] = (),
    ) -> None:
        self.where = str(folder)
        self.lr_folder = lr_folder
        self.teacher_folder = teacher_folder
        self.scale = scale
        names = _list_images(folder, exclude)
        if teacher_folder is not None:
            answered = set(list_training_files(teacher_folder))
            names = [name for name in names if name in answered]
            if not names:
                raise DataError(f"{teacher_folder} has no answer to an image of {folder}: hat-sr data label makes them")
        partners: dict[str, list[str]] = {}
        for name in list_training_files(lr_folder):
            partners.setdefault(os.path.splitext(name)[0], []).append(name)  # noqa: PTH122 (over a million times)
        found = [_fitting(partners, name, scale) for name in names]
        for wrong, what in ((0, "no low-resolution image"), (2, "more than one low-resolution image")):
            bad = [name for name, fitting in zip(names, found, strict=True) if min(len(fitting), 2) == wrong]
            if bad:
                raise DataError(
                    f"{len(bad)} of {len(names)} images of {folder} have {what} in {lr_folder}, such as "
                    f"{', '.join(bad[:3])}: it must be called as they are, with or without x{scale} before the suffix"
                )
        self._names = Names(names)
        self._lr_names = Names([fitting[0] for fitting in found])

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Path of the high-resolution image below its folder."""
        return self._names[index]

    def read(self, index: int) -> Picture:
        """Read one pair, the high-resolution image cut to scale times the other. Raises ImageError as sizes demand."""
        hr = read_rgb(Path(self.where, self.name(index)))
        lr_path = self.lr_folder / self._lr_names[index]
        lr = read_rgb(lr_path)
        (height, width), (lr_height, lr_width) = hr.shape[1:], lr.shape[1:]
        if (height // self.scale, width // self.scale) != (lr_height, lr_width):
            raise ImageError(
                f"{self.where}/{self.name(index)} is {width}×{height}, which is not {self.scale} times "
                f"the {lr_width}×{lr_height} of {lr_path}"
            )
        hr = hr[:, : lr_height * self.scale, : lr_width * self.scale]
        if self.teacher_folder is None:
            return Picture(hr, lr)
        teacher = read_rgb(self.teacher_folder / self.name(index))
        if teacher.shape != hr.shape:
            raise ImageError(
                f"{self.teacher_folder}/{self.name(index)} is {teacher.shape[2]}×{teacher.shape[1]} instead of "
                f"{hr.shape[2]}×{hr.shape[1]}: label again into a new folder"
            )
        return Picture(hr, lr, teacher)


class JoinedSource:
    """Several sources as one, an image of each as likely as any other's. Names are whole paths."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.where = ", ".join(source.where for source in sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def find(self, index: int) -> tuple[Source, int]:
        """The source that has image `index`, and the image's number there."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[number], index - (int(self._ends[number - 1]) if number else 0)

    def name(self, index: int) -> str:
        """The source's place and the name there."""
        source, inside = self.find(index)
        return f"{source.where}/{source.name(inside)}"

    def read(self, index: int) -> Picture:
        """As the source reads it."""
        source, inside = self.find(index)
        return source.read(inside)


class KeptSource:
    """The usable images of a source, decoded and kept in memory. What is not is in `unusable`: names and reasons.

    Raises DataError if none is usable: readable, and with sides of at least `smallest` pixels.
    """

    def __init__(self, source: Source, *, smallest: int) -> None:
        self.where = source.where
        self.pictures: list[Picture] = []
        self.names: list[str] = []
        self.unusable: list[str] = []
        for index in range(len(source)):
            try:
                picture = read_usable(source, index, smallest=smallest)
            except ImageError as error:
                self.unusable.append(str(error))
                continue
            self.names.append(source.name(index))
            hr, *others = picture
            lr, teacher = (None if other is None else other.contiguous() for other in others)
            self.pictures.append(Picture(hr.contiguous(), lr, teacher))
        if not self.pictures:
            raise DataError(
                f"{self.where} has no image that could be used among {len(source)} files; the first: {self.unusable[0]}"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """As the source calls it."""
        return self.names[index]

    def read(self, index: int) -> Picture:
        """No reading any more."""
        return self.pictures[index]


def read_usable(source: Source, index: int, *, smallest: int) -> Picture:
    """Read an image whose sides are to be at least `smallest` pixels. Raises ImageError if it cannot be used."""
    if isinstance(source, JoinedSource):
        source, index = source.find(index)
    picture = source.read(index)
    check_sides(picture, f"{source.where}/{source.name(index)}", smallest=smallest)
    return picture


def _list_images(folder: Path, exclude: Iterable[str]) -> list[str]:
    names = without(exclude, list_training_files(folder), folder)
    if not names:
        raise DataError(f"{folder} has no image that could be used: the recipe excludes all of them")
    return names


def _fitting(partners: dict[str, list[str]], name: str, scale: int) -> list[str]:
    stem = os.path.splitext(name)[0]  # noqa: PTH122 (over a million times)
    return partners.get(stem, []) + partners.get(f"{stem}x{scale}", [])
