"""Which files are upscaled, and what each result is called: decided, and refused, before any work starts.

Folders are on this machine, or URLs that fsspec opens. What was found in a folder is in a ledger: of the folder of the
results, or of the one that was searched if results go beside their inputs. What earlier calls put beside their inputs
is no input.
"""

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath

from hat_sr.batch.ledger import Ledger, Planned, Verdict
from hat_sr.batch.places import Place, is_url, kind_of, matching, shown
from hat_sr.errors import ConfigError, InputError
from hat_sr.files import cannot_read, what_blocks_writing
from hat_sr.image.formats import (
    IMAGE_SUFFIXES,
    READ_ONLY_SUFFIXES,
    WRITABLE_SUFFIXES,
    format_for,
    result_suffix,
    suffix_of,
)

_SLASHES = tuple({"/", os.sep})


@dataclass(frozen=True, kw_only=True)
class FileJob(Planned):
    """One file in, one file out."""

    source: str
    """The folder that the input was found in, a path or a URL."""
    destination: str
    """The folder of the result, likewise."""
    in_ledger: bool
    """False if the input was named itself: then nothing is written down of it."""

    @property
    def shown_input(self) -> str:
        """The input's path or URL."""
        return shown(self.source, self.input)

    @property
    def shown_result(self) -> str:
        """The result's path or URL."""
        return shown(self.destination, self.result)


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """What a call is to make."""

    jobs: list[FileJob]
    left_out: list[str]
    """Results of other calls beside their inputs: they are no inputs."""
    unread: list[str]
    """A sentence for each folder that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A file in a folder, by its name with / between folders; stamp None if it is not known yet."""

    folder: str
    name: str
    is_searched: bool
    """True if the folder was searched, False if the file was named itself."""
    stamp: str | None = None

    @property
    def path(self) -> str:
        return shown(self.folder, self.name)


def plan_jobs(
    inputs: Sequence[str],
    *,
    output: str | None,
    suffix: str,
    image_format: str | None,
    quality: int | None = None,
    ledger: Callable[[str], Ledger] = lambda folder: Ledger(Place(folder).lines(), {}),
) -> FilePlan:
    """Pair every input file with its result, sorted by input.

    inputs: files, folders (searched recursively for image files) and glob patterns. Results go beside their inputs as
    `NAME<suffix>.EXT`, or below `output` under the input's own relative path and name; `output` may name the file
    itself (by an image's suffix) if there is one input file, and names a folder if it ends with a slash. EXT is the
    input's if such files are written, else png, or `image_format`. ledger: opens that of a folder.

    Raises InputError for an input that does not exist or holds no image; ConfigError if two results would have one
    name, a result would replace an input, `output` is a file where a folder is needed, lies in a folder that does not
    exist or ends like a file of an unknown kind, or there is a quality but no result that has one.
    """
    extension = None if image_format is None else suffix_of(image_format)
    unread: list[str] = []
    found, results = _apart(_find(inputs, output, unread), inputs, suffix, extension, ledger)
    if output is not None and _names_file(output, found):
        folder, name = _split(output)
        jobs = [_job(found[0], folder, name, in_ledger=False)]
        if extension is not None and format_for(Path(name)) != format_for(Path(f"x{extension}")):
            raise ConfigError(f"output {output} and format {image_format} disagree: give one of them")
    else:
        jobs = [_job(one, *_place_of(one, output, suffix, extension), in_ledger=one.is_searched) for one in found]
    _check_names(jobs)
    if quality is not None and jobs and not any(format_for(Path(job.result)).name in ("jpeg", "webp") for job in jobs):
        raise ConfigError(
            f"quality {quality} is for JPEG and WebP, and no result is one: leave it out, or give --format"
        )
    own = {job.shown_result for job in jobs}
    return FilePlan(jobs=_stamped(jobs), left_out=[path for path in results if path not in own], unread=unread)


def sort_jobs(jobs: Iterable[FileJob], verdict: Callable[[FileJob], Verdict]) -> dict[Verdict, list[FileJob]]:
    """Jobs by what becomes of them; none of them is to be refused.

    Raises ConfigError if results exist and it is not said what to do with them, or a folder cannot be written to.
    """
    found: dict[Verdict, list[FileJob]] = {"do": [], "done": [], "failed": [], "skip": [], "refuse": []}
    for job in jobs:
        found[verdict(job)].append(job)
    if existing := found["refuse"]:
        raise ConfigError(
            f"{_listed([job.shown_result for job in existing])} already there, and nothing was made: use --overwrite, "
            "--skip-existing or another --output"
        )
    for folder in {Path(job.shown_result).parent for job in found["do"] if not is_url(job.destination)}:
        if (path := what_blocks_writing(folder)) is not None:
            reason = "cannot be written to" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"no result can be written to {folder}: {path} {reason}; name another place with --output"
            )
    return found


def _find(inputs: Sequence[str], output: str | None, unread: list[str]) -> list[_Found]:
    if not inputs:
        raise InputError("no input: name image files, folders, patterns or URLs")
    found: dict[str, _Found] = {}
    for text in inputs:
        for path in [text] if kind_of(text) is not None else _expand(text, unread):
            if kind_of(path) == "folder":
                files = _search(path, output, unread)
            else:
                folder, name = _split(path)
                files = [_Found(folder=folder, name=name, is_searched=False)]
            found |= {file.path: file for file in files}
    return [found[path] for path in sorted(found, key=PurePath)]


def _folder(text: str) -> str:
    """One name for a folder, however it was written."""
    return text.rstrip("/") if is_url(text) else str(Path(text))


def _split(path: str) -> tuple[str, str]:
    """The folder of a file, and its name in there."""
    if is_url(path):
        folder, _, name = path.rpartition("/")
        return folder, name
    return str(Path(path).parent), Path(path).name


def _search(folder: str, output: str | None, unread: list[str]) -> list[_Found]:
    before = len(unread)
    files = Place(folder).files(
        onerror=lambda error: unread.append(cannot_read(error)),
        leave_out=None if output is None else Place(output),
    )
    images = {name: stamp for name, stamp in files.items() if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES}
    if not images and len(unread) == before:
        raise InputError(
            f"{folder} holds no image among {len(files)} files: looked for {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return [_Found(folder=_folder(folder), name=name, is_searched=True, stamp=stamp) for name, stamp in images.items()]


def _expand(pattern: str, unread: list[str]) -> list[str]:
    """The files and folders that fit, each once: of several paths to one, the shortest."""
    if not glob.has_magic(pattern):
        raise InputError(f"{pattern}: no such file or folder")
    matches, closed = matching(pattern), list[str]()
    if not is_url(pattern) and os.sep in pattern:
        folders = matching(f"{os.path.split(pattern)[0]}{os.sep}")
        closed = [f"{folder} cannot be read" for folder in folders if not os.access(folder, os.R_OK | os.X_OK)]
    if not matches:
        raise InputError("; ".join([f"{pattern}: no file or folder fits this pattern", *closed]))
    unread += closed
    return matches


def _apart(
    found: list[_Found],
    inputs: Sequence[str],
    suffix: str,
    extension: str | None,
    ledger: Callable[[str], Ledger],
) -> tuple[list[_Found], list[str]]:
    """Inputs, and results of earlier calls that lie beside theirs: they have the names that this call would give them
    there, or the ledger of their folder says so. What was named itself is an input always.
    """
    results = {shown(file.folder, _beside(file.name, suffix, extension)) for file in found}
    for folder in {file.folder for file in found if file.is_searched}:
        results |= {shown(folder, name) for name in ledger(folder).results_beside_inputs()}
    named = {_identity(text) for text in inputs}
    taken, left_out = list[_Found](), list[str]()
    for file in found:
        if file.path in results and _identity(file.path) not in named:
            left_out.append(file.path)
        else:
            taken.append(file)
    return taken, left_out


def _beside(name: str, suffix: str, extension: str | None) -> str:
    """The name of the result of that file, beside it."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}{suffix}{result_suffix(path.suffix, extension)}"))


def _place_of(file: _Found, output: str | None, suffix: str, extension: str | None) -> tuple[str, str]:
    """The folder of its result, and the result's name in there."""
    if output is None:
        return file.folder, _beside(file.name, suffix, extension)
    return _folder(output), _beside(file.name, "", extension)


def _names_file(output: str, found: list[_Found]) -> bool:
    """True if the output names a file, which ends like an image, False for a folder. Raises ConfigError for neither.

    For one file that was named itself, it is neither if it ends in another suffix; a folder's results go into a folder
    of whatever name.
    """
    try:
        if output.endswith(_SLASHES) or _is_folder_to_write(output):
            return False
    except OSError as error:
        raise ConfigError(f"output {output} cannot be written: {error.strerror}; name another place") from error
    suffix = PurePosixPath(output).suffix.lower()
    if suffix in WRITABLE_SUFFIXES:
        if len(found) != 1:
            raise ConfigError(f"output {output} names one file, but there are {len(found)} inputs: give a folder")
        parent = Path(output).parent
        if not is_url(output) and not parent.exists():
            raise ConfigError(f"output {output}: there is no folder {parent}: make it first, or name another output")
        return True
    if not is_url(output) and Path(output).exists():
        raise ConfigError(f"output {output} is a file, and no image: give a folder, or the name of an image")
    of_one_file = len(found) == 1 and not found[0].is_searched
    if suffix in READ_ONLY_SUFFIXES or (suffix and of_one_file):
        raise ConfigError(
            f"output {output}: {suffix} files cannot be written: use one of {' '.join(WRITABLE_SUFFIXES)}, or "
            f"{output}/ for a folder"
        )
    return False


def _is_folder_to_write(output: str) -> bool:
    return kind_of(output) == "folder" if is_url(output) else Path(output).is_dir()


def _job(file: _Found, destination: str, result: str, *, in_ledger: bool) -> FileJob:
    return FileJob(
        source=file.folder,
        input=file.name,
        stamp=file.stamp,
        destination=destination,
        result=result,
        before=None,
        in_ledger=in_ledger,
    )


def _stamped(jobs: list[FileJob]) -> list[FileJob]:
    """The jobs with the stamps of their inputs and of what lies in the place of their results."""
    before: dict[str, dict[str, str | None]] = {}
    for folder in {job.destination for job in jobs}:
        before[folder] = Place(folder).stamps([job.result for job in jobs if job.destination == folder])
    sources = {job.source: Place(job.source) for job in jobs}
    return [
        replace(
            job,
            stamp=sources[job.source].stamp(job.input) if job.stamp is None else job.stamp,
            before=before[job.destination][job.result],
        )
        for job in jobs
    ]


def _check_names(jobs: list[FileJob]) -> None:
    by_result: dict[str, str] = {}
    sources = {_identity(job.shown_input) for job in jobs}
    for job in jobs:
        result = _identity(job.shown_result)
        if result in sources:
            raise ConfigError(f"the result {job.shown_result} would replace an input: use another --output")
        if result in by_result:
            raise ConfigError(
                f"{by_result[result]} and {job.shown_input} would both become {job.shown_result}: upscale them into "
                "two folders"
            )
        by_result[result] = job.shown_input


def _identity(path: str) -> str:
    """The same for two paths to one file."""
    return path if is_url(path) else os.path.realpath(path)  # not Path.resolve, which raises at a link to itself


def _listed(paths: list[str]) -> str:
    text = ", ".join(paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{text}{more} {'is' if len(paths) == 1 else 'are'}"
