"""Networks by name: those in the package, files, folders and the Hugging Face Hub, and where the published ones are."""

import difflib
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path

import torch

from hat_sr.checkpoints import hub
from hat_sr.checkpoints.checkpoint import SUFFIXES, Checkpoint, build_model, read_checkpoint
from hat_sr.checkpoints.pretrained import check_config, save_pretrained
from hat_sr.errors import InputError, WeightsError
from hat_sr.model.config import PRESETS, HATConfig
from hat_sr.model.hat import HAT

WHERE_PUBLISHED = (
    "https://github.com/XPixelGroup/HAT (README: links to Google Drive and Baidu Netdisk)",
    "https://openmodeldb.info (architecture HAT)",
)
"""Where the published files are found; they are not downloaded for you."""


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A file of weights by HAT's authors, in the official format."""

    name: str
    """The file is this name with `.pth`."""
    config: HATConfig
    training: str
    """What it was trained on, in a phrase."""


def _published() -> tuple[PublishedModel, ...]:
    classical = [
        PublishedModel(name=f"{size}_SRx{upscale}{ending}", config=PRESETS[f"{size}-x{upscale}"], training=training)
        for size, ending, training in (
            ("HAT-S", "", "DF2K, bicubic"),
            ("HAT", "", "DF2K, bicubic"),
            ("HAT", "_ImageNet-pretrain", "ImageNet, then DF2K, bicubic"),
            ("HAT-L", "_ImageNet-pretrain", "ImageNet, then DF2K, bicubic"),
        )
        for upscale in (2, 3, 4)
    ]
    real = [
        PublishedModel(name=name, config=PRESETS["HAT-x4"], training=f"real-world degradations, GAN{note}")
        for name, note in (("Real_HAT_GAN_SRx4", ""), ("Real_HAT_GAN_sharper", ", sharper"))
    ]
    return (*classical, *real)


AUTO = "auto"
"""The name that leaves the choice to `bundled_for`."""

DEFAULT_SCALE = 4
"""What pictures are enlarged by where neither a scale nor a size nor a network is named."""

_FAMILY = re.compile(r"hat-xs-x(\d+)")
"""Names of the networks that are taken where none is named, with their factor."""

FOR_PHOTOS = "hat-xs-x4-real"
"""The network for pictures that were compressed with loss or are noisy, whatever they are enlarged by."""

PUBLISHED = _published()
"""The published files, whose weights `load_model` reads once downloaded."""


def bundled_names() -> list[str]:
    """The names of the networks in the package, sorted."""
    suffix = SUFFIXES["safetensors"]
    return sorted(file.name.removesuffix(suffix) for file in _folder().iterdir() if file.name.endswith(suffix))


def bundled_by_factor() -> dict[int, str]:
    """The networks in the package that are taken for clean pictures where none is named, by their factors."""
    return {int(found[1]): name for name in bundled_names() if (found := _FAMILY.fullmatch(name))}


def bundled_for(scale: float, *, degraded: bool = False) -> str:
    """The network in the package for `scale`: that of the smallest factor which reaches it, else of the largest.

    `degraded`: the one for pictures that were compressed with loss or are noisy, if it is there.
    """
    if degraded and FOR_PHOTOS in bundled_names():
        return FOR_PHOTOS
    by_factor = bundled_by_factor()
    return by_factor[min((factor for factor in by_factor if factor >= scale), default=max(by_factor))]


def read_source(
    source: str | PathLike[str],
    *,
    conv_scale: float | None = None,
    img_range: float | None = None,
    mean: Sequence[float] | None = None,
) -> Checkpoint:
    """Read weights by a bundled name, or else from what `local_file` finds. Arguments and errors as for
    `read_checkpoint`, and errors as for `local_file`.

    An unknown name raises WeightsError with the nearest name and the list, a config.json that contradicts its
    `model.safetensors` too.
    """
    if isinstance(source, str) and source in bundled_names():
        with importlib.resources.as_file(_folder() / f"{source}{SUFFIXES['safetensors']}") as path:
            return read_checkpoint(path, conv_scale=conv_scale, img_range=img_range, mean=mean)
    path = local_file(source)
    if isinstance(source, str) and not path.exists():
        if path.name == source:
            raise WeightsError(_unknown_name(source))
        if _may_be_repo(source):
            raise WeightsError(
                f"{source}: there is no such file. If a model on the Hugging Face Hub is meant: {hub.PREFIX}{source}"
            )
        raise WeightsError(f"{source}: there is no such file{_near_path(path)}")
    checkpoint = read_checkpoint(path, conv_scale=conv_scale, img_range=img_range, mean=mean)
    check_config(checkpoint)
    return checkpoint


def names_a_path(source: str) -> bool:
    """Whether `read_source` takes it for a path on this machine, be there anything or not."""
    return source not in bundled_names() and not hub.is_hub_name(source)


def local_file(source: str | PathLike[str]) -> Path:
    """The file of weights that is meant: that of an `hf://` name, fetched if need be; of a folder; or the path itself.

    Errors as for `hub.fetch` and `hub.choose_weights`. The path of a file is returned unseen.
    """
    if isinstance(source, str) and hub.is_hub_name(source):
        return hub.fetch(source)
    path = Path(source)
    if path.is_dir():
        return path / hub.choose_weights((file.name for file in path.iterdir() if file.is_file()), str(path))
    return path


def label(source: str) -> str:
    """What tables call the network of `source`: a name as it is, a file without its folder and suffix."""
    return source if hub.is_hub_name(source) else Path(source).stem


def load_model(
    source: str | PathLike[str],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    conv_scale: float | None = None,
    img_range: float | None = None,
    mean: Sequence[float] | None = None,
) -> HAT:
    """The network of `source`, in eval mode: a bundled name, a file of weights, a folder with one, or an `hf://` name.

    It takes (B, in_chans, H, W) in [0, 1] whose sides are multiples of its window_size; `Upscaler` takes any size.
    The official format tells neither conv_scale nor img_range nor the mean (range [0, 1], one value a channel): None
    takes the published value.

    Raises WeightsError if there is no such name or file, or if it does not hold exactly a HAT; ConfigError if an
    argument contradicts what the file states; MissingExtraError for an `hf://` name without huggingface_hub.
    """
    checkpoint = read_source(source, conv_scale=conv_scale, img_range=img_range, mean=mean)
    return build_model(checkpoint, device=device, dtype=dtype)


def load_pretrained(
    source: str | PathLike[str],
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> HAT:
    """As `load_model`, which OWNER/REPO, too, is a name for: of a model on the Hub, unless there is such a path.

    `revision` is a branch, a tag or a commit there. Raises InputError if it is given for anything else, or besides
    the one in an `hf://` name.
    """
    if isinstance(source, str) and _may_be_repo(source):
        source = f"{hub.PREFIX}{source}"
    if revision is not None:
        if not isinstance(source, str) or not hub.is_hub_name(source):
            raise InputError(f"revision {revision!r} is of a model on the Hub, which {source} is not: leave it out")
        name = hub.parse_name(source)
        if name.revision is not None:
            raise InputError(f"{source} has a revision, and {revision!r} is given too: give one")
        source = str(replace(name, revision=revision))
    return load_model(source, device=device, dtype=dtype)


_FILE_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def _may_be_repo(source: str) -> bool:
    """Whether it has the form OWNER/REPO and is neither a path that is there nor one to a file of weights."""
    path = Path(source)
    return hub.is_repo(source) and not path.exists() and path.suffix not in _FILE_SUFFIXES


def _folder() -> Traversable:
    return importlib.resources.files("hat_sr") / "weights"


def _near_path(path: Path) -> str:
    """What may be meant by the path of a file that is not there: one beside it, or a name in the package."""
    if not path.parent.is_dir():
        return f": the folder {path.parent} does not exist"
    files = [file.name for file in path.parent.iterdir() if file.suffix.lower() in _FILE_SUFFIXES]
    if near := difflib.get_close_matches(path.name, files, n=1):
        return f"; did you mean {path.with_name(near[0])}?"
    if (name := _without_suffix(path.name)) in bundled_names():
        return f"; the network {name!r} is in the package: give that name, without a folder and an ending"
    return ""


def _without_suffix(name: str) -> str:
    """A name as it may be known: without the ending of a file of weights."""
    return next((name.removesuffix(end) for end in _FILE_SUFFIXES if name.lower().endswith(end)), name)


def _unknown_name(name: str) -> str:
    bundled = bundled_names()
    published = [model.name for model in PUBLISHED]
    by_lower_case = {known.lower(): known for known in (*bundled, *published)}
    nearest = difflib.get_close_matches(_without_suffix(name).lower(), by_lower_case, n=1)
    known = by_lower_case[nearest[0]] if nearest else None
    files = [file.name for file in Path().iterdir() if file.suffix.lower() in _FILE_SUFFIXES]
    if near := difflib.get_close_matches(name, files, n=1, cutoff=0.8):
        return f"{name}: there is no such file; did you mean {near[0]}?"
    if known in published:
        return (
            f"{name!r} is not in the package: {known}.pth is published at {' and '.join(WHERE_PUBLISHED)}; "
            "download it and give its path"
        )
    end = f"; did you mean {known!r}?" if known else "."
    return (
        f"no network is named {name!r}, and there is no such file{end} In the package: "
        f"{', '.join(bundled) or 'none'}. Or give the path of a .safetensors or .pth file"
    )


# For everyone who takes HAT from the package; `hat_sr.model.hat` knows of no files.
HAT.from_pretrained = staticmethod(load_pretrained)  # type: ignore[method-assign]
HAT.save_pretrained = save_pretrained  # type: ignore[method-assign, assignment]
