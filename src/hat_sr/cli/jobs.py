"""Which files are upscaled, and what each result is called: decided, and refused, before any work starts.

What was found in folders has a manifest: in the folder of the results, or in the one that was searched if results go
beside their inputs.
"""

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hat_sr.cli.enlarging import by_verdict
from hat_sr.errors import ConfigError, InputError
from hat_sr.files import what_blocks_writing
from hat_sr.image.formats import (
    IMAGE_SUFFIXES,
    READ_ONLY_SUFFIXES,
    WRITABLE_SUFFIXES,
    format_for,
    result_suffix,
    suffix_of,
)
from hat_sr.inference.manifest import Verdict


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file in, one file out."""

    source: Path
    output: Path
    folder: Path | None = None
    """Where its manifest is; None if it has none."""
    relative: Path = Path()
    """The source's place below the folder it was found in (its name alone if it was named itself)."""

    @property
    def result(self) -> str:
        """The output's name in its manifest."""
        return self.output.as_posix() if self.folder is None else self.output.relative_to(self.folder).as_posix()


@dataclass(kw_only=True)
class Sorted:
    """Jobs by what becomes of them."""

    to_do: list[Job] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    """Made by an earlier run, of the same input by the same settings."""
    failed: list[Job] = field(default_factory=list)
    """Failed in an earlier run, and the input is the same."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A file, where it lies below the folder it was found in, and that folder, if it was not named itself."""

    path: Path
    relative: Path
    folder: Path | None


def plan_jobs(
    inputs: Sequence[str], *, output: Path | None, suffix: str, image_format: str | None, quality: int | None = None
) -> list[Job]:
    """Pair every input file with its output file, sorted by input.

    inputs: files, folders (searched recursively for image files) and glob patterns. Results go beside their inputs as
    `NAME<suffix>.EXT`, or below `output` under the input's own relative path and name; `output` may name the file
    itself (by an image's suffix) if there is one input file. EXT is the input's if such files are written, else png, or
    `image_format`.

    Raises InputError for an input that does not exist or holds no image; ConfigError if two results would have one
    name, a result would replace an input, `output` is a file where a folder is needed, or there is a quality but no
    result that has one.
    """
    found = _find(inputs, output)
    extension = None if image_format is None else suffix_of(image_format)
    if output is not None and _names_a_file(output):
        if len(found) > 1:
            raise ConfigError(f"output {output} names one file, but there are {len(found)} inputs: give a folder")
        if extension is not None and format_for(output) != format_for(Path(f"x{extension}")):
            raise ConfigError(f"output {output} and format {image_format} disagree: give one of them")
        jobs = [Job(source=found[0].path, output=output)]
    else:
        jobs = [_job(file, output, suffix, extension) for file in found]
    if output is None:
        # A folder that was upscaled before holds results beside the inputs: they are not inputs.
        results, named = {job.output for job in jobs}, {Path(text) for text in inputs}
        jobs = [job for job in jobs if job.source not in results or job.source in named]
    _check_names(jobs)
    if quality is not None and not any(format_for(job.output).name in ("jpeg", "webp") for job in jobs):
        raise ConfigError(
            f"quality {quality} is for JPEG and WebP, and no result is one: leave it out, or give --format"
        )
    return jobs


def sort_jobs(jobs: list[Job], verdict: Callable[[Job], Verdict]) -> Sorted:
    """Tell what is left to do, and see to it that it can be done.

    Raises ConfigError if results exist and it is not said what to do with them, or a folder cannot be written to.
    """
    found = by_verdict(jobs, verdict)
    if existing := found["refuse"]:
        raise ConfigError(
            f"{_listed([job.output for job in existing])} already there, and nothing was made: use --overwrite, "
            "--skip-existing or another --output"
        )
    for folder in {job.output.parent for job in found["do"]}:
        if (path := what_blocks_writing(folder)) is not None:
            reason = "cannot be written to" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"no result can be written to {folder}: {path} {reason}; name another place with --output"
            )
    return Sorted(to_do=found["do"], done=found["done"], failed=found["failed"])


def _find(inputs: Sequence[str], output: Path | None) -> list[_Found]:
    if not inputs:
        raise InputError("no input: name image files, folders or patterns")
    found: dict[Path, _Found] = {}
    for text in inputs:
        for path in [Path(text)] if Path(text).exists() else _expand(text):
            files = (
                _search(path, output) if path.is_dir() else [_Found(path=path, relative=Path(path.name), folder=None)]
            )
            found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def _search(folder: Path, output: Path | None) -> list[_Found]:
    files = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder))]
    if output is not None and folder.resolve() in output.resolve().parents:
        files = [path for path in files if not path.resolve().is_relative_to(output.resolve())]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(
            f"{folder} holds no image among {len(files)} files: looked for {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return [_Found(path=path, relative=path.relative_to(folder), folder=folder) for path in images]


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


def _job(file: _Found, output: Path | None, suffix: str, extension: str | None) -> Job:
    if output is None:
        path, folder = file.path.with_name(f"{file.path.stem}{suffix}{file.path.suffix}"), file.folder
    else:
        path, folder = output / file.relative, None if file.folder is None else output
    path = path.with_name(path.stem + result_suffix(path.suffix, extension))
    return Job(source=file.path, output=path, folder=folder, relative=file.relative)


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
