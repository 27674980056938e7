"""The benchmark sets of the papers' tables: found below a folder by name, and checked image by image.

What a set's ground truth must be is in `sets.tsv`: name, height, width and a hash of the pixels, cut at the right and
bottom to a multiple of 12. Copies that were cut to a multiple of 2, 3, 4 or 12, as sets are often distributed, have the
same hash; file names and formats do not matter. Urban100 and Manga109 are not in the table: they are checked by count.
"""

import hashlib
import importlib.resources
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from hat_sr.errors import ConfigError, DataError
from hat_sr.evaluate.dataset import Dataset, Degraded, find_dataset, listed
from hat_sr.evaluate.pairs import load_pair, read_rgb
from hat_sr.image.resize import Border, imresize

_MULTIPLE = 12
_ENDINGS = re.compile(r"(_srf_\d+)?(_hr|_gt)?$")
"""What file names of ground truth have behind the image's name."""


@dataclass(frozen=True, kw_only=True)
class KnownImage:
    """What is known of one image."""

    name: str
    height: int
    width: int
    digest: str
    """Of the pixels, see `pixel_digest`."""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """What is known of one set."""

    name: str
    num_images: int
    published: str
    """Where, for people."""
    aliases: tuple[str, ...] = ()
    images: tuple[KnownImage, ...] = ()
    """Empty if only their number is known."""


def known_sets() -> dict[str, KnownSet]:
    """The sets, by name, in the order of the papers' tables."""
    images: dict[str, list[KnownImage]] = {}
    table = (importlib.resources.files("hat_sr.evaluate") / "sets.tsv").read_text(encoding="utf-8")
    for line in table.splitlines():
        set_name, name, height, width, digest = line.split("\t")
        image = KnownImage(name=name, height=int(height), width=int(width), digest=digest)
        images.setdefault(set_name, []).append(image)
    pairs = "https://github.com/jbhuang0604/SelfExSR"
    sets = (
        ("Set5", 5, f"{pairs} (first by Bevilacqua et al., BMVC 2012)", ()),
        ("Set14", 14, f"{pairs} (first by Zeyde et al., Curves and Surfaces 2010)", ()),
        ("BSD100", 100, f"{pairs} (100 images of BSDS300, Martin et al., ICCV 2001)", ("B100", "BSDS100")),
        ("Urban100", 100, f"{pairs} (Huang et al., CVPR 2015)", ()),
        ("Manga109", 109, "http://www.manga109.org (Matsui et al., Multimedia Tools and Applications 2017)", ()),
    )
    return {
        name: KnownSet(
            name=name, num_images=count, published=where, aliases=aliases, images=tuple(images.get(name, ()))
        )
        for name, count, where, aliases in sets
    }


def find_sets(
    root: Path,
    names: Sequence[str],
    scales: Sequence[int],
    *,
    lr: str = "auto",
    jpeg: int | None = None,
    degraded: Degraded | None = None,
) -> list[tuple[Dataset, str]]:
    """The known sets of these names below `root` at these scales, each with what its check found, as a phrase.

    A set's folder is one whose name is the set's, without regard to case and punctuation; `root` itself may be it. lr,
    jpeg and degraded as for `find_datasets`. Raises ConfigError for a name that is not known, and DataError that says
    of every set what is missing, too many or changed, and where it is published.
    """
    known = known_sets()
    by_name = {_plain(name): known_set for name, known_set in known.items()}
    for name in names:
        if _plain(name) not in by_name:
            raise ConfigError(f"no set is named {name!r}: {', '.join(known)} are known; leave --sets out for others")
    found: list[tuple[Dataset, str]] = []
    problems: dict[str, None] = {}
    checked: dict[tuple[Path, ...], str] = {}
    for scale, name in itertools.product(scales, names):
        known_set = by_name[_plain(name)]
        try:
            dataset = find_dataset(_folder(root, known_set), scale, lr=lr, jpeg=jpeg, degraded=degraded)
            images = tuple(pair.hr for pair in dataset.pairs)
            if images not in checked:
                checked[images] = check_set(images, known_set)
            found.append((replace(dataset, name=known_set.name), checked[images]))
        except DataError as error:
            problems[f"{known_set.name}: {error}. It is published at {known_set.published}"] = None
    if problems:
        raise DataError("\n".join(problems))
    return found


def check_set(images: Sequence[Path], known_set: KnownSet) -> str:
    """Compare files of ground truth with what is known of the set; a phrase that says what was checked.

    Raises DataError that names images which are missing, too many or changed, and as `read_rgb`.
    """
    folder, count = images[0].parent, len(images)
    if not known_set.images:
        if count != known_set.num_images:
            raise DataError(f"{count} images in {folder}, but it has {known_set.num_images}")
        return f"{count} images (their number alone was checked)"
    missing = {image.digest: image for image in known_set.images}
    unknown, whole = [], True
    for path in images:
        pixels = read_rgb(path)
        height, width = pixels.shape[-2:]
        image = missing.get(digest := pixel_digest(pixels))
        if image is None or height > image.height or width > image.width:
            unknown.append(path)
        else:
            whole = whole and (height, width) == (image.height, image.width)
            del missing[digest]
    if not unknown and not missing:
        return f"{count} images, each as published" + ("" if whole else ", cut at the right and bottom")
    names = {image.name.lower(): image.name for image in missing.values()}
    changed = [path.name for path in unknown if names.pop(_ENDINGS.sub("", path.stem.lower()), None)]
    extra = [path.name for path in unknown if path.name not in changed]
    found = (("missing", list(names.values())), ("changed", changed), ("not of the set", extra))
    text = "; ".join(f"{what}: {listed(those)}" for what, those in found if those)
    raise DataError(f"not as published, in {folder}: {text}")


def describe_lr(dataset: Dataset) -> str:
    """Where low-resolution images come from; of files that were read, each is compared with MATLAB's bicubic.

    The border is the one that more of them have; those that differ are named. Raises as `load_pair`.
    """
    if dataset.border is not None or dataset.degraded is not None:
        return dataset.lr_source
    differing: dict[Border, list[str]] = {"mirror": [], "clamp": []}
    for pair in dataset.pairs:
        lr, hr = load_pair(pair, replace(dataset, jpeg=None))
        for border, names in differing.items():
            if pair.lr is not None and not imresize(hr, 1 / dataset.scale, border=border).equal(lr):
                names.append(pair.lr.name)
    border, those = min(differing.items(), key=lambda item: len(item[1]))
    count = len(dataset.pairs)
    if len(those) == count:
        return f"{dataset.lr_source} (not MATLAB's bicubic of the ground truth: none of {count} files is equal to it)"
    found = f"MATLAB's bicubic, {border} border"
    if those:
        return f"{dataset.lr_source} ({found}, but {len(those)} of {count} files differ from it: {listed(those)})"
    return f"{dataset.lr_source} ({found}: equal to it in {count} of {count} files)"


def pixel_digest(pixels: Tensor) -> str:
    """16 hexadecimal digits of SHA-256 over size and values of uint8 (1, 3, H, W), cut to a multiple of 12."""
    height, width = (side - side % _MULTIPLE for side in pixels.shape[-2:])
    content = pixels[0, :, :height, :width].permute(1, 2, 0).contiguous().numpy().tobytes()
    return hashlib.sha256(f"{height}x{width}:".encode() + content).hexdigest()[:16]


def _folder(root: Path, known_set: KnownSet) -> Path:
    wanted = {_plain(name) for name in (known_set.name, *known_set.aliases)}
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    for folder in folders:
        if _plain(folder.resolve().name) in wanted:
            return folder
    raise DataError(f"no folder of this name in {root}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
