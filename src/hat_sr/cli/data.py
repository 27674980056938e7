"""`hat-sr data`: check, prepare and label here, degrade in `degrade.py`."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import Progress, TaskID

from hat_sr.cli.degrade import degrade
from hat_sr.cli.parsing import parse_bytes
from hat_sr.cli.progress import progress_bars
from hat_sr.errors import ConfigError
from hat_sr.inference.device import Precision
from hat_sr.inference.open import open_network
from hat_sr.inference.upscaler import Upscaler
from hat_sr.train.config import SourceConfig
from hat_sr.train.data.batches import open_patches
from hat_sr.train.data.check import Alike, Check, check_source, find_alike, find_duplicates
from hat_sr.train.data.database import LmdbSource
from hat_sr.train.data.label import label as run_labelling
from hat_sr.train.data.prepare import PrepareConfig
from hat_sr.train.data.prepare import prepare as run_preparation
from hat_sr.train.data.sources import FolderSource, Source
from hat_sr.train.recipe import load_recipe

data_app = App(name="data", help="Check, prepare, label and degrade training images.")
data_app.command(degrade)


@data_app.command
def check(
    target: Path,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True)],
    scale: int | None = None,
    patch_size: int | None = None,
    against: Path | None = None,
    stage: str | None = None,
) -> int:
    """Read every training image: count them, measure them, name those that cannot be used and those there twice.

    The exit code is 1 if there is any that cannot be used, or compared, or that looks like one it is checked against.

    Parameters
    ----------
    target
        A folder of images, an LMDB database, tar shards (shards/{000..127}.tar), or a recipe, all of whose sources are
        read.
    overrides
        Settings that win over the recipe's, such as --data.root DATA.
    scale
        Factor between low- and high-resolution images, with --patch-size. Default: the recipe's.
    patch_size
        Side of a low-resolution patch in pixels: images with a side below scale times patch-size cannot be used.
    against
        A folder of images that must not be among them, such as a benchmark's: those that look alike are named.
    stage
        Which stage of the recipe, if it has several.
    """
    if target.suffix == ".toml":
        if scale is not None or patch_size is not None:
            raise ConfigError("--scale and --patch-size are in the recipe: leave them out, or override data.patch_size")
        recipe = load_recipe(target, overrides, stage=stage)
        sources, root = recipe.data.sources, Path(recipe.data.root)
        scale, patch_size = recipe.upscale, recipe.data.patch_size
    else:
        if overrides:
            raise ConfigError(f"{' '.join(overrides)}: settings are for a recipe, and {target} is none")
        if stage is not None:
            raise ConfigError(f"--stage {stage} is of a recipe, and {target} is none: leave it out")
        if (scale is None) != (patch_size is None):
            raise ConfigError("--scale and --patch-size go together: give both, or none")
        sources, root = (SourceConfig(path=str(target), kind=_kind(target)),), Path()
    others = []
    if against is not None:  # first: it is small, and may be misspelt
        benchmark = SourceConfig(path=str(against), kind=_kind(against))
        others = _read((benchmark,), Path(), scale=1, smallest=1, num_views=8)
    smallest, num_views = (scale or 1) * (patch_size or 1), 0 if against is None else 1
    checks = _read(sources, root, scale=scale or 1, smallest=smallest, num_views=num_views)
    for one in checks:
        _report(one)
    duplicates = find_duplicates(checks)
    if duplicates:
        _say("there more than once:")
        for names in duplicates:
            _say(f"  {' = '.join(names)}")
    alike: list[Alike] = []
    if against is not None:
        alike = find_alike(checks, others)
        num_others = sum(len(one.names) for one in others)
        _say(f"look like one of {num_others} images of {against}: {len(alike) or 'none'}")
        for pair in alike:
            _say(f"  {pair.name} = {pair.other} (their hashes differ in {pair.bits} of 64 bits)")
        for message in (message for one in others for message in one.unusable):
            _say(f"  not compared: {message}")
    return 1 if alike or any(one.unusable for one in (*checks, *others)) else 0


def _read(sources: Sequence[SourceConfig], root: Path, *, scale: int, smallest: int, num_views: int) -> list[Check]:
    checks = []
    with progress_bars(Console(stderr=True)) as progress:
        for source in sources:
            task = progress.add_task(source.path, total=None)
            update = _updating(progress, task)
            checks.append(
                check_source(source, root, scale=scale, smallest=smallest, num_views=num_views, on_progress=update)
            )
    return checks


@data_app.command
def prepare(
    source: Path,
    destination: Path,
    *,
    to: Literal["folder", "lmdb", "webdataset"] = "folder",
    crop: int | None = None,
    step: int | None = None,
    shrink: float = 1.0,
    max_width: int | None = None,
    shard_size: str = "500MB",
) -> int:
    """Make training images ready: cut them into parts, make them smaller, store them as lossless PNG.

    Stopped and started again, it does what is missing. The exit code is 1 if an image could not be used.

    Parameters
    ----------
    source
        A folder of images, searched recursively, or an LMDB database.
    destination
        A new folder, or one of an earlier run with the same settings. For lmdb, BasicSR wants a name ending in .lmdb.
    to
        folder (of images), lmdb (a database, with meta_info.txt) or webdataset (tar shards).
    crop
        Side of the square parts that images are cut into, in pixels, such as 480. Default: images stay whole.
    step
        From one part to the next, in pixels. Default: half of crop.
    shrink
        Make images smaller by this factor first (camera JPEGs: 2, their pixels are interpolated).
    max_width
        Make images still wider than this smaller by a further 4/3.
    shard_size
        A shard is closed when it is as large as this: bytes, or with KB, MB or GB.
    """
    config = PrepareConfig(to=to, crop=crop, step=step, shard_bytes=parse_bytes(shard_size))
    images = _open(source, shrink=shrink, max_width=max_width)
    with progress_bars(Console(stderr=True)) as progress:
        task = progress.add_task(source.name, total=len(images))
        done = run_preparation(
            images,
            destination,
            config,
            described_as={"source": str(source.resolve()), "shrink": shrink, "max_width": max_width},
            on_progress=_updating(progress, task),
        )
    before = f", {done.num_done_before} of them before" if done.num_done_before else ""
    _say(
        f"{done.num_images - len(done.unusable)} of {done.num_images} images done{before}: "
        f"{done.num_pieces} image files in {destination}"
    )
    if done.num_shards:
        _say(f'in a recipe: kind = "webdataset", path = "{_shard_pattern(destination, done.num_shards)}"')
    for message in done.unusable:
        _say(f"failed: {message}", error=True)
    return 1 if done.unusable else 0


@data_app.command
def label(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    recipe: Path,
    output: Annotated[Path, Parameter(alias="-o")],
    teacher: str,
    samples: int,
    stage: str | None = None,
    precision: Precision = "fp32",
) -> int:
    """Make a teacher's answers to degraded patches once, for a training that learns from them.

    Patches are cut and degraded as a training by the recipe would. DEST gets lr, teacher and hr, three folders of PNG,
    and labels.json, which says what they are. In the recipe of the student: kind = "pairs", path = "DEST/hr", lr_path =
    "DEST/lr", teacher_path = "DEST/teacher", and optim.teacher_weight. Stopped and started again, it does what is
    missing.

    Parameters
    ----------
    words
        Folders of images in place of the recipe's sources, and settings that win over the recipe's, such as
        --data.patch-size 48: cut larger than the student's patches, so that these can be cut anywhere from them.
    recipe
        How patches are cut and degraded, and from which sources.
    output
        A new folder, or one of an earlier call with the same settings.
    teacher
        A network of the recipe's scale: a bundled name, a file of weights, an hf:// name; other networks with spandrel.
    samples
        How many patches there are to be in all.
    stage
        Which stage of the recipe, if it has several.
    precision
        Of the teacher: bf16 is faster where the processor has it.
    """
    logging.getLogger("hat_sr").setLevel(logging.INFO)
    if samples < 1:
        raise ConfigError(f"--samples {samples} must be at least 1")
    at = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    settings = load_recipe(recipe, words[at:], stage=stage)
    data = settings.data
    if folders := words[:at]:
        sources = tuple(SourceConfig(path=str(Path(folder).resolve())) for folder in folders)
        data = replace(data, root=".", sources=sources)
    network = Upscaler(open_network(teacher, scale=settings.upscale), precision=precision, tile="off", faithful=False)
    if network.scale != settings.upscale:
        raise ConfigError(f"teacher {teacher} enlarges by {network.scale}, and the recipe is for {settings.upscale}")
    patches = open_patches(data, scale=settings.upscale, seed=settings.seed)
    drawn = {key: value for key, value in asdict(data).items() if key in _DRAWN}
    with progress_bars(Console(stderr=True)) as progress:
        task = progress.add_task("patches", total=samples)
        made = run_labelling(
            patches,
            output,
            network,
            num_samples=samples,
            description={
                "teacher": Path(teacher).name,
                "teacher_fingerprint": network.fingerprint(),
                "precision": precision,
                "scale": settings.upscale,
                "seed": settings.seed,
                **drawn,
            },
            on_progress=_updating(progress, task),
        )
    _say(f"{samples} patches in {output}, {made} of them made by this call")
    return 0


_DRAWN = ("root", "sources", "patch_size", "degradation", "flats")
"""Settings of [data] that patches depend on."""


def _updating(progress: Progress, task: TaskID) -> Callable[[int, int | None], None]:
    """Shows how many are done, of how many."""
    return lambda done, total: progress.update(task, completed=done, total=total)


def _kind(target: Path) -> Literal["folder", "lmdb", "webdataset"]:
    if target.suffix == ".tar":
        return "webdataset"
    names = sorted(path.name for path in target.glob("[!.]*"))
    if names and all(name.endswith(".tar") for name in names):
        raise ConfigError(
            f"{target} is a folder of tar shards: name the shards, from {target / names[0]} to {names[-1]}"
        )
    return "lmdb" if (target / "data.mdb").is_file() else "folder"


def _open(source: Path, *, shrink: float, max_width: int | None) -> Source:
    # Checks the settings, and words what is wrong with them.
    kind = _kind(source)
    if kind == "webdataset":
        raise ConfigError(f"{source}: shards are prepared already; name the folder or database they were made from")
    settings = SourceConfig(path=str(source), kind=kind, shrink=shrink, max_width=max_width)
    if kind == "lmdb":
        return LmdbSource(source)
    return FolderSource(source, shrink=settings.shrink, max_width=settings.max_width)


def _shard_pattern(destination: Path, num_shards: int) -> str:
    if num_shards == 1:
        return f"{destination}/000000.tar"
    return f"{destination}/{{000000..{num_shards - 1:06d}}}.tar"


def _report(check: Check) -> None:
    num_usable, num_unusable = len(check.names), len(check.unusable)
    _say(f"{check.where}: {num_usable} images can be used, {num_unusable} cannot; {check.megapixels:.1f} megapixels")
    if num_usable:
        for what, (smallest, middle, largest) in zip(("width", "height"), check.size_range, strict=True):
            _say(f"  {what:6}  {smallest} to {largest} pixels, median {middle}")
    for message in check.unusable:
        _say(f"  cannot be used: {message}")


def _say(text: str, *, error: bool = False) -> None:
    """Print; names of files may be no Unicode."""
    print(text.encode(errors="backslashreplace").decode(), file=sys.stderr if error else sys.stdout)
