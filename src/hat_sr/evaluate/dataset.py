"""Benchmark folders: which file is the ground truth, and which its low-resolution partner.

Layouts that are understood, for a scale of 4 (names without regard to case, images sorted by name)::

    Set5/*.png                                  ground truth only
    Set5/GT/*.png                               or HR/, GTmod4/, GTmod12/, original/: the first of these that is there
    Set5/LRbic_matlab_new/X4/*.png              any folder whose name starts with LR, and in it X4
    Set5/LR_x4/*.png                            or a folder LR… that ends in x4
    Set5/LR/*.png                               or LR alone, whatever the scale
    Set5/image_SRF_4/img_001_SRF_4_HR.png       pairs in one folder, …_HR and …_LR, as SelfExSR distributes them

A partner has the name of its ground truth, with or without `x4` or `_x4` behind it.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hat_sr.degradation.config import PRESETS
from hat_sr.errors import DataError, InputError
from hat_sr.image.formats import WRITABLE_SUFFIXES
from hat_sr.image.resize import Border

IMAGE_SUFFIXES = frozenset(WRITABLE_SUFFIXES) - {".exr"}

HR_FOLDERS = ("gt", "hr", "original")
"""Names, without regard to case, of the subfolder of a benchmark that holds the ground truth as it was published."""

_PAIRS = "image_srf"
"""How a folder begins that holds both images of each pair; behind it the scale."""

_MADE: dict[str, Border] = {"mirror": "mirror", "clamp": "clamp"}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One image of a benchmark."""

    name: str
    """The ground truth's file name without its suffix."""
    hr: Path
    """The ground truth."""
    lr: Path | None
    """The low-resolution file, or None where it is made from the ground truth."""


class Degraded(NamedTuple):
    """A degradation of `hat_sr.degradation.config.PRESETS`, each image's own drawn from the seed and its pixels."""

    preset: str
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A benchmark folder at one scale, as `find_datasets` found it."""

    name: str
    scale: int
    pairs: tuple[Pair, ...]
    border: Border | None
    """Border rule of the bicubic that makes the low-resolution images, or None where they are read."""
    lr_source: str
    """Where the low-resolution images come from, as a phrase for people."""
    jpeg: int | None = None
    """Quality of the JPEG files (4:2:0) that the low-resolution images go through before they are enlarged."""
    degraded: Degraded | None = None
    """What makes low-resolution images from the ground truth, whatever files there are of them."""


def find_datasets(
    folder: Path, scale: int, *, lr: str = "auto", jpeg: int | None = None, degraded: Degraded | None = None
) -> tuple[Dataset, ...]:
    """Find the benchmark that `folder` is, or all those that its subfolders are.

    scale: at least 1. lr says where the low-resolution images come from:

    - `auto`: read from the one LR folder of that scale. Folders named …_old and image_SRF_… are passed over: they hold
      images of older MATLAB releases, with clamped borders, which today's tables do not use. Without an LR folder, as
      `mirror`.
    - `mirror`, `clamp`: made from the ground truth by MATLAB's bicubic, with that border.
    - a folder's name, such as `LRbic_matlab_old`: read from there. The scale at its end may be left out: `image_SRF`.

    jpeg, degraded: see `Dataset`; the second goes with nothing but `auto` and no jpeg. Raises DataError, naming the
    files, if there is no image, a file has no partner, or the choice is not clear, and InputError for a quality that
    JPEG does not have, a degradation that is not known, a negative seed, and settings that do not go together.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give the folder of a benchmark, or one that holds several")
    sets = [sub for sub in _folders(folder) if _hr_images(sub, scale)]
    if _hr_images(folder, scale) or not sets:
        sets = [folder]
    return tuple(find_dataset(sub, scale, lr=lr, jpeg=jpeg, degraded=degraded) for sub in sets)


def find_dataset(
    folder: Path, scale: int, *, lr: str = "auto", jpeg: int | None = None, degraded: Degraded | None = None
) -> Dataset:
    """The benchmark that `folder` is. Arguments and errors as for `find_datasets`."""
    if degraded is not None:
        _check_degraded(degraded, lr, jpeg)
    if jpeg is not None and not 1 <= jpeg <= 100:
        raise InputError(f"jpeg {jpeg}: a quality from 1 to 100 is accepted")
    if scale < 1:
        raise DataError(f"the scale must be at least 1, got {scale}")
    if not _hr_images(folder, scale):
        raise DataError(
            f"no images in {folder} for ×{scale}: put ground-truth images there or in a subfolder GT, HR or original "
            f"(accepted: {' '.join(sorted(IMAGE_SUFFIXES))})"
        )
    if degraded is not None:
        phrase = f"degraded from the ground truth ({degraded.preset}, seed {degraded.seed})"
        return replace(_dataset(folder, scale, "mirror"), border=None, degraded=degraded, lr_source=phrase)
    dataset = _dataset(folder, scale, lr)
    if jpeg is None:
        return dataset
    return replace(dataset, jpeg=jpeg, lr_source=f"{dataset.lr_source}, then JPEG of quality {jpeg} (4:2:0)")


def _check_degraded(degraded: Degraded, lr: str, jpeg: int | None) -> None:
    if degraded.preset not in PRESETS:
        raise InputError(f"degradation {degraded.preset!r} is not one of {', '.join(PRESETS)}")
    if degraded.seed < 0:
        raise InputError(f"seed {degraded.seed} must not be negative")
    if lr != "auto" or jpeg is not None:
        raise InputError(
            "a degradation makes low-resolution images from the ground truth, JPEG and all: leave out the choice of lr "
            "and of jpeg"
        )


def _dataset(folder: Path, scale: int, lr: str) -> Dataset:
    hr_images = _hr_images(folder, scale)
    _by_stem(hr_images)
    lr_folder = None if lr in _MADE else _lr_folder(folder, scale, lr)
    if lr_folder is None:
        border = _MADE.get(lr, "mirror")
        return Dataset(
            name=folder.resolve().name,
            scale=scale,
            pairs=tuple(Pair(name=hr.stem, hr=hr, lr=None) for hr in hr_images),
            border=border,
            lr_source=f"made from the ground truth by MATLAB's bicubic, {border} border",
        )
    return Dataset(
        name=folder.resolve().name,
        scale=scale,
        pairs=_pairs(hr_images, lr_folder, scale),
        border=None,
        lr_source=f"read from {lr_folder.relative_to(folder).as_posix()}",
    )


def _hr_images(folder: Path, scale: int) -> list[Path]:
    subfolders = {sub.name.lower(): sub for sub in _folders(folder)}
    # Cropped ground truth before the original: the LR images beside both were made from the cropped one.
    for name in ("gt", "hr", f"gtmod{scale}", "gtmod12", "original"):
        if name in subfolders:
            return _images(subfolders[name])
    pairs = subfolders.get(f"{_PAIRS}_{scale}")
    return _images(folder) if pairs is None else _images(pairs, "_hr")


def _lr_folder(folder: Path, scale: int, lr: str) -> Path | None:
    """The LR folder to read, or None if there is none and none was named."""
    candidates = {}
    for sub in _folders(folder):
        name = sub.name.lower()
        scaled = [inner for inner in _folders(sub) if inner.name.lower() == f"x{scale}"]
        if name == f"{_PAIRS}_{scale}":
            candidates[sub.name] = sub
        elif not name.startswith("lr"):
            continue
        elif scaled:
            candidates[sub.name] = scaled[0]
        elif re.search(rf"x{scale}$", name) or (name == "lr" and _images(sub)):
            candidates[sub.name] = sub
    if lr != "auto":
        named = [path for name, path in candidates.items() if lr in (name, re.sub(rf"_?[xX]?{scale}$", "", name))]
        if not named:
            raise DataError(
                f"no low-resolution images {lr!r} for ×{scale} in {folder}: choose auto, mirror, clamp"
                + "".join(f", {name}" for name in candidates)
            )
        return named[0]
    usable = [path for name, path in candidates.items() if not name.lower().endswith("_old") and not _holds_pairs(path)]
    if len(usable) > 1:
        names = ", ".join(name for name, path in candidates.items() if path in usable)
        raise DataError(f"several folders hold low-resolution images for ×{scale} in {folder}: choose one of {names}")
    return usable[0] if usable else None


def _holds_pairs(folder: Path) -> bool:
    return folder.name.lower().startswith(_PAIRS)


def _pairs(hr_images: list[Path], lr_folder: Path, scale: int) -> tuple[Pair, ...]:
    left = _by_stem(_images(lr_folder, "_lr" if _holds_pairs(lr_folder) else ""))
    pairs, missing = [], []
    for hr in hr_images:
        stem = hr.stem.lower()
        names = (stem, f"{stem}x{scale}", f"{stem}_x{scale}", re.sub("_hr$", "_lr", stem))
        found = [name for name in names if name in left]
        if found:
            pairs.append(Pair(name=hr.stem, hr=hr, lr=left.pop(found[0])))
        else:
            missing.append(hr.name)
    if missing:
        raise DataError(f"no low-resolution partner in {lr_folder} for {listed(missing)}: add or remove the files")
    if left:
        extra = listed([path.name for path in left.values()])
        raise DataError(f"no ground truth for {extra} of {lr_folder}: add or remove the files")
    return tuple(pairs)


def _by_stem(images: list[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in images:
        other = stems.setdefault(path.stem.lower(), path)
        if other is not path:
            raise DataError(f"{other.name} and {path.name} in {path.parent} have one name: keep one of them")
    return stems


def listed(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path, ending: str = "") -> list[Path]:
    """The image files whose names end so before their suffix, without regard to case."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.stem.lower().endswith(ending)
        and not path.name.startswith(".")
        and path.is_file()
    )
