"""Several networks on one benchmark, image by image, going on from what was computed before."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from hat_sr.evaluate.benchmark import Extra, Score, bicubic, enlarge, score
from hat_sr.evaluate.cache import Cache, Entry, code_digest, file_digest, key_of
from hat_sr.evaluate.dataset import Dataset, Pair
from hat_sr.evaluate.metrics import to_uint8
from hat_sr.evaluate.pairs import load_pair
from hat_sr.files import temporary
from hat_sr.image.color import rgb_to_y
from hat_sr.image.convert import to_pixels
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.image.resize import imresize
from hat_sr.inference.upscale import Upscale

SIDE = 96
"""Pixels of a detail's side; less where the image is smaller."""

RULE = f"the square of {SIDE} pixels in which bicubic interpolation is furthest from the original (mean square on Y)"
"""Where a detail lies, in a phrase. It does not depend on the networks that are compared."""

_STEP = 4


def place_detail(bicubic: Tensor, hr: Tensor, *, crop_border: int) -> tuple[int, int]:
    """Top and left of the detail of an image, on a grid of four pixels inside the border that is not scored.

    bicubic, hr: uint8 (1, 3, H, W).
    """
    border = crop_border if min(hr.shape[-2:]) >= SIDE + 2 * crop_border else 0
    height, width = hr.shape[-2:]
    error = (rgb_to_y(bicubic.double() / 255) - rgb_to_y(hr.double() / 255)).square()
    error = error[..., border : height - border, border : width - border]
    sides = min(SIDE, error.shape[-2]), min(SIDE, error.shape[-1])
    means = F.avg_pool2d(error, sides, stride=_STEP)
    row, column = divmod(int(means.argmax()), means.shape[-1])
    return border + row * _STEP, border + column * _STEP


def cut_detail(image: Tensor, place: tuple[int, int]) -> bytes:
    """The detail at `place` of an image, (1, 3, H, W) uint8 or float in [0, 1], as a lossless WebP file.

    Raises ImageError or OSError if a temporary file cannot be written.
    """
    top, left = place
    piece = to_uint8(image[..., top : top + SIDE, left : left + SIDE])
    with temporary(".webp") as path:
        write_image(path, Image(to_pixels(piece.float() / 255, "uint8")))
        return path.read_bytes()


BICUBIC = "bicubic"
"""The name of the interpolation that is always compared with."""

ORIGINAL = "original"
"""The name of the ground truth among the details."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A network that is compared."""

    name: str
    upscale: Upscale
    """As for `hat_sr.evaluate.benchmark.benchmark`."""
    num_parameters: int | None
    fingerprint: str
    """Hash of weights and settings: with the same value the results are the same."""
    repeatable: Callable[[int, int], bool] = lambda height, width: True
    """True if the result for an LR image of this size depends on the fingerprint alone, so that it may be kept."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One image, by all entrants and by bicubic."""

    name: str
    scores: dict[str, Score]
    """By entrant, bicubic first."""
    details: dict[str, bytes]
    """The same square of each result and of the original, which is last, as WebP files."""


def bicubic_entrant(scale: int) -> Entrant:
    """MATLAB's bicubic with mirrored borders."""
    return Entrant(name=BICUBIC, upscale=bicubic(scale), num_parameters=None, fingerprint=BICUBIC)


def compare(
    entrants: Sequence[Entrant], dataset: Dataset, cache: Cache | None = None, *, extras: Collection[Extra] = ()
) -> Iterator[Compared]:
    """Score each image of `dataset` by each entrant and by bicubic, yielding it as soon as all are done.

    extras: metrics beside PSNR and SSIM.
    What is in `cache` is taken from there, and what is not is put there at once, so that a run that was stopped goes
    on; the results are the same. Raises as `benchmark`, and OSError if the cache cannot be written to.
    """
    entrants = [bicubic_entrant(dataset.scale), *entrants]
    for pair in dataset.pairs:
        # The original is one of them: it has a detail, too, and its score is perfect by definition.
        prints = {ORIGINAL: ORIGINAL} | {entrant.name: entrant.fingerprint for entrant in entrants}
        keys = {} if cache is None else _keys(pair, dataset, prints, extras)
        entries = {} if cache is None else {name: entry for name, key in keys.items() if (entry := cache.get(key))}
        if len(entries) < len(prints):
            missing = [one for one in entrants if one.name not in entries]
            for name, entry, keep in _computed(missing, pair, dataset, extras):
                entries[name] = entry
                if cache is not None and keep:
                    cache.put(keys[name], entry)
        yield Compared(
            name=pair.name,
            scores={entrant.name: entries[entrant.name].score for entrant in entrants},
            details={name: entries[name].detail for name in (*(entrant.name for entrant in entrants), ORIGINAL)},
        )


def _computed(
    entrants: list[Entrant], pair: Pair, dataset: Dataset, extras: Collection[Extra]
) -> Iterator[tuple[str, Entry, bool]]:
    """The entries of these entrants and of the original, and whether they may be kept."""
    scale = dataset.scale
    lr, hr = load_pair(pair, dataset)
    place = place_detail(imresize(lr, scale), hr, crop_border=scale)

    def entry(sr: Tensor) -> Entry:
        return Entry(score=score(sr, hr, scale, extras), detail=cut_detail(sr, place))

    yield ORIGINAL, entry(hr), True
    for entrant in entrants:
        sr = enlarge(entrant.upscale, lr, hr, name=pair.name).cpu()
        yield entrant.name, entry(sr), entrant.repeatable(*lr.shape[-2:])


def _keys(pair: Pair, dataset: Dataset, fingerprints: Mapping[str, str], extras: Collection[Extra]) -> dict[str, str]:
    """The cache's keys of one image, by the names that the fingerprints have."""
    lr = dataset.border if pair.lr is None else file_digest(pair.lr)
    common = (code_digest(), file_digest(pair.hr), lr, dataset.scale, dataset.jpeg, dataset.degraded, *sorted(extras))
    return {name: key_of(*common, fingerprint) for name, fingerprint in fingerprints.items()}
