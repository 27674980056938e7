"""Which files are upscaled, and what each result is called: decided, and refused, before any work starts."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hat_sr.errors import ConfigError, InputError
from hat_sr.files import what_blocks_writing
from hat_sr.image.formats import WRITABLE_SUFFIXES, format_for

READ_ONLY_SUFFIXES = (".gif", ".avif", ".heic", ".heif", ".jp2", ".tga", ".ppm", ".pgm", ".pnm")
"""Image files that folders are searched for besides those that can be written; their results are PNG. Some are not read
(HEIC, AVIF): these fail with a message, where leaving them out would go unnoticed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file in, one file out."""

    source: Path
    output: Path


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A file, and its place below the folder it was found in (its name alone if it was named itself)."""

    path: Path
    relative: Path


def plan_jobs(
    inputs: Sequence[str],
    *,
    output: Path | None,
    suffix: str,
    image_format: str | None,
    overwrite: bool,
    skip_existing: bool,
    quality: int | None = None,
) -> list[Job]:
    """Pair every input file with its output file, sorted by input.

    inputs: files, folders (searched recursively for image files) and glob patterns. Results go beside their inputs as
    `NAME<suffix>.EXT`, or below `output` under the input's own relative path and name; `output` may name the file
    itself (by an image's suffix) if there is one input file. EXT is the input's if such files are written, else png, or
    `image_format`.

    Raises InputError for an input that does not exist or holds no image; ConfigError if two results would have one
    name, a result would replace an input, results exist and it is not said what to do with them, `output` is a file
    where a folder is needed, a folder cannot be written to, or there is a quality but no result that has one.
    """
    found = _find(inputs, output)
    extension = None if image_format is None else _extension(image_format)
    if output is not None and _names_a_file(output):
        if len(found) > 1:
            raise ConfigError(f"output {output} names one file, but there are {len(found)} inputs: give a folder")
        if extension is not None and format_for(output) != format_for(Path(f"x{extension}")):
            raise ConfigError(f"output {output} and format {image_format} disagree: give one of them")
        jobs = [Job(source=found[0].path, output=output)]
    else:
        jobs = [Job(source=file.path, output=_name(file, output, suffix, extension)) for file in found]
    if output is None:
        # A folder that was upscaled before holds results beside the inputs: they are not inputs.
        results, named = {job.output for job in jobs}, {Path(text) for text in inputs}
        jobs = [job for job in jobs if job.source not in results or job.source in named]
    _check_names(jobs)
    if quality is not None and not any(format_for(job.output).name in ("jpeg", "webp") for job in jobs):
        raise ConfigError(
            f"quality {quality} is for JPEG and WebP, and no result is one: leave it out, or give --format"
        )
    existing = [job for job in jobs if job.output.exists()]
    if existing and not overwrite and not skip_existing:
        raise ConfigError(
            f"{_listed([job.output for job in existing])} already there: use --overwrite, --skip-existing or "
            "another --output"
        )
    left = [job for job in jobs if not (skip_existing and job.output.exists())]
    for folder in {job.output.parent for job in left}:
        if (path := what_blocks_writing(folder)) is not None:
            reason = "cannot be written to" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"no result can be written to {folder}: {path} {reason}; name another place with --output"
            )
    return left


def _find(inputs: Sequence[str], output: Path | None) -> list[_Found]:
    if not inputs:
        raise InputError("no input: name image files, folders or patterns")
    found: dict[Path, _Found] = {}
    for text in inputs:
        for path in [Path(text)] if Path(text).exists() else _expand(text):
            files = _search(path, output) if path.is_dir() else [_Found(path=path, relative=Path(path.name))]
            found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def _search(folder: Path, output: Path | None) -> list[_Found]:
    suffixes = {*WRITABLE_SUFFIXES, *READ_ONLY_SUFFIXES}
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder))]
    if output is not None and folder.resolve() in output.resolve().parents:
        files = [path for path in files if not path.resolve().is_relative_to(output.resolve())]
    images = [path for path in files if path.suffix.lower() in suffixes]
    if not images:
        raise InputError(f"{folder} holds no image among {len(files)} files: looked for {' '.join(sorted(suffixes))}")
    return [_Found(path=path, relative=path.relative_to(folder)) for path in images]


def _expand(pattern: str) -> list[Path]:
    # Not Path.glob, which refuses absolute patterns.
    if not glob.has_magic(pattern):
        raise InputError(f"{pattern}: no such file or folder")
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    if not matches:
        raise InputError(f"{pattern}: no file or folder fits this pattern")
    return matches


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _names_a_file(output: Path) -> bool:
    """Whether the output is no folder but ends like an image. Raises ConfigError if it is neither."""
    if output.is_dir():
        return False
    suffix = output.suffix.lower()
    if suffix in READ_ONLY_SUFFIXES:
        raise ConfigError(
            f"output {output}: {suffix} files cannot be written: use one of {' '.join(WRITABLE_SUFFIXES)}"
        )
    if output.exists() and suffix not in WRITABLE_SUFFIXES:
        raise ConfigError(f"output {output} is a file, and no image: give a folder, or the name of an image")
    return suffix in WRITABLE_SUFFIXES


def _name(file: _Found, output: Path | None, suffix: str, extension: str | None) -> Path:
    path = (
        file.path.with_name(f"{file.path.stem}{suffix}{file.path.suffix}") if output is None else output / file.relative
    )
    if extension is None and path.suffix.lower() in WRITABLE_SUFFIXES:
        return path
    return path.with_name(path.stem + (extension or ".png"))


def _extension(image_format: str) -> str:
    extension = "." + image_format.lower().removeprefix(".")
    if extension not in WRITABLE_SUFFIXES:
        known = " ".join(known.removeprefix(".") for known in WRITABLE_SUFFIXES)
        raise ConfigError(f"format {image_format!r} cannot be written: use one of {known}")
    return extension


def _check_names(jobs: list[Job]) -> None:
    by_output: dict[Path, Path] = {}
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        output = job.output.resolve()
        if output in sources:
            raise ConfigError(f"the result {job.output} would replace an input: use another --output")
        if output in by_output:
            raise ConfigError(
                f"{by_output[output]} and {job.source} would both become {job.output}: upscale them into two folders"
            )
        by_output[output] = job.source


def _listed(paths: list[Path]) -> str:
    text = ", ".join(str(path) for path in paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{text}{more} {'is' if len(paths) == 1 else 'are'}"
