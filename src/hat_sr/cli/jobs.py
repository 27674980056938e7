"""Which files are upscaled, and what each result is called: decided, and refused, before any work starts.

What was found in folders has a manifest: in the folder of the results, or in the one that was searched if results go
beside their inputs. What earlier calls put beside their inputs is no input.
"""

import errno
import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hat_sr.cli.enlarging import by_verdict
from hat_sr.errors import ConfigError, InputError
from hat_sr.files import cannot_read, list_files, what_blocks_writing
from hat_sr.image.formats import (
    IMAGE_SUFFIXES,
    READ_ONLY_SUFFIXES,
    WRITABLE_SUFFIXES,
    format_for,
    result_suffix,
    suffix_of,
)
from hat_sr.inference.manifest import FileLines, Manifest, Verdict

_SLASHES = tuple(filter(None, (os.sep, os.altsep)))


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


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """What a call is to make."""

    jobs: list[Job]
    left_out: list[Path]
    """Results of other calls beside their inputs: they are no inputs."""
    unread: list[str]
    """A sentence for each folder that cannot be read."""


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
    inputs: Sequence[str],
    *,
    output: str | None,
    suffix: str,
    image_format: str | None,
    quality: int | None = None,
    manifest: Callable[[Path], Manifest] = lambda folder: Manifest(FileLines(folder), {}),
) -> FilePlan:
    """Pair every input file with its output file, sorted by input.

    inputs: files, folders (searched recursively for image files) and glob patterns. Results go beside their inputs as
    `NAME<suffix>.EXT`, or below `output` under the input's own relative path and name; `output` may name the file
    itself (by an image's suffix) if there is one input file, and names a folder if it ends with a slash. EXT is the
    input's if such files are written, else png, or `image_format`. manifest: opens that of a folder.

    Raises InputError for an input that does not exist or holds no image; ConfigError if two results would have one
    name, a result would replace an input, `output` is a file where a folder is needed, lies in a folder that does not
    exist or ends like a file of an unknown kind, or there is a quality but no result that has one.
    """
    target = None if output is None else Path(output)
    extension = None if image_format is None else suffix_of(image_format)
    unread: list[str] = []
    found, results = _apart(_find(inputs, target, unread), inputs, suffix, extension, manifest)
    file = None if output is None else _named_file(output, found)
    if file is None:
        jobs = [_job(one, target, suffix, extension) for one in found]
    else:
        jobs = [Job(source=found[0].path, output=file)]
        if extension is not None and format_for(file) != format_for(Path(f"x{extension}")):
            raise ConfigError(f"output {output} and format {image_format} disagree: give one of them")
    _check_names(jobs)
    if quality is not None and jobs and not any(format_for(job.output).name in ("jpeg", "webp") for job in jobs):
        raise ConfigError(
            f"quality {quality} is for JPEG and WebP, and no result is one: leave it out, or give --format"
        )
    own = {job.output for job in jobs}
    return FilePlan(jobs=jobs, left_out=[path for path in results if path not in own], unread=unread)


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


def _find(inputs: Sequence[str], output: Path | None, unread: list[str]) -> list[_Found]:
    if not inputs:
        raise InputError("no input: name image files, folders or patterns")
    found: dict[Path, _Found] = {}
    for text in inputs:
        for path in [Path(text)] if _is_there(text) else _expand(text, unread):
            files = (
                _search(path, output, unread)
                if _is_folder(path)
                else [_Found(path=path, relative=Path(path.name), folder=None)]
            )
            found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found)]


def _is_there(text: str) -> bool:
    """Whether there is something of that name, even if it may not be looked at: then that fails when it is read."""
    try:
        Path(text).lstat()
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return True


def _is_folder(path: Path) -> bool:
    """Whether it is one that may be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _search(folder: Path, output: Path | None, unread: list[str]) -> list[_Found]:
    before = len(unread)
    files = list_files(
        folder,
        onerror=lambda error: unread.append(cannot_read(error)),
        leave_out=() if output is None else (output,),
    )
    images = [path for path in map(Path, files) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images and len(unread) == before:
        raise InputError(
            f"{folder} holds no image among {len(files)} files: looked for {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return [_Found(path=folder / path, relative=path, folder=folder) for path in images]


def _expand(pattern: str, unread: list[str]) -> list[Path]:
    """The files and folders that fit, each once: of several paths to one, the shortest."""
    if not glob.has_magic(pattern):
        raise InputError(f"{pattern}: no such file or folder")
    matches = _glob(pattern)
    folders = _glob(f"{os.path.split(pattern)[0]}{os.sep}") if os.sep in pattern else []
    closed = [f"{folder} cannot be read" for folder in folders if not os.access(folder, os.R_OK | os.X_OK)]
    if not matches:
        raise InputError("; ".join([f"{pattern}: no file or folder fits this pattern", *closed]))
    unread += closed
    return matches


def _glob(pattern: str) -> list[Path]:
    # Not Path.glob, which refuses absolute patterns.
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    once: dict[Path, Path] = {}
    for path in sorted(matches, key=lambda path: (len(path.parts), path)):
        once.setdefault(path.parent.resolve() / path.name, path)
    return list(once.values())


def _apart(
    found: list[_Found],
    inputs: Sequence[str],
    suffix: str,
    extension: str | None,
    manifest: Callable[[Path], Manifest],
) -> tuple[list[_Found], list[Path]]:
    """Inputs, and results of earlier calls that lie beside theirs: they are called as this call would call them there,
    or the manifest of their folder says so. What was named itself is an input always.
    """
    results = {_beside(file.path, suffix, extension) for file in found}
    for folder in {file.folder for file in found if file.folder is not None}:
        results |= {folder / name for name in manifest(folder).results_beside_inputs()}
    named = {os.path.realpath(text) for text in inputs}
    taken, left_out = list[_Found](), list[Path]()
    for file in found:
        if file.path in results and os.path.realpath(file.path) not in named:
            left_out.append(file.path)
        else:
            taken.append(file)
    return taken, left_out


def _beside(path: Path, suffix: str, extension: str | None) -> Path:
    """The result of that file, beside it."""
    return path.with_name(f"{path.stem}{suffix}{result_suffix(path.suffix, extension)}")


def _named_file(output: str, found: list[_Found]) -> Path | None:
    """The file that the output names, which ends like an image; None if it is a folder. Raises ConfigError for neither.

    For one file that was named itself, it is neither if it ends in another suffix; a folder's results go into a folder
    of whatever name.
    """
    path = Path(output)
    try:
        if output.endswith(_SLASHES) or path.is_dir():
            return None
    except OSError as error:
        raise ConfigError(f"output {output} cannot be written: {error.strerror}; name another place") from error
    suffix = path.suffix.lower()
    if suffix in WRITABLE_SUFFIXES:
        if len(found) != 1:
            raise ConfigError(f"output {output} names one file, but there are {len(found)} inputs: give a folder")
        if not path.parent.exists():
            raise ConfigError(
                f"output {output}: there is no folder {path.parent}: make it first, or name another output"
            )
        return path
    if path.exists():
        raise ConfigError(f"output {output} is a file, and no image: give a folder, or the name of an image")
    of_one_file = len(found) == 1 and found[0].folder is None
    if suffix in READ_ONLY_SUFFIXES or (suffix and of_one_file):
        raise ConfigError(
            f"output {output}: {suffix} files cannot be written: use one of {' '.join(WRITABLE_SUFFIXES)}, or "
            f"{output}/ for a folder"
        )
    return None


def _job(file: _Found, output: Path | None, suffix: str, extension: str | None) -> Job:
    if output is None:
        path, folder = _beside(file.path, suffix, extension), file.folder
    else:
        path, folder = _beside(output / file.relative, "", extension), None if file.folder is None else output
    return Job(source=file.path, output=path, folder=folder, relative=file.relative)


def _check_names(jobs: list[Job]) -> None:
    by_output: dict[str, Path] = {}
    sources = {os.path.realpath(job.source) for job in jobs}  # not Path.resolve, which raises at a link to itself
    for job in jobs:
        output = os.path.realpath(job.output)
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
