"""Files that appear whole or not at all, and temporary ones."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

PART_PREFIX = ".hat-sr-"
"""How the names of unfinished files begin."""
LEFTOVER_SECONDS = 600
"""An unfinished file that nothing has written to for so long is taken for one of a process that was killed."""
_PART_SUFFIX = ".part"


def part_name() -> str:
    """A new name for an unfinished file."""
    return f"{PART_PREFIX}{secrets.token_hex(8)}{_PART_SUFFIX}"


def is_part(name: str) -> bool:
    """Whether that is the name of an unfinished file."""
    return name.startswith(PART_PREFIX) and name.endswith(_PART_SUFFIX)


def is_abandoned(changed: float) -> bool:
    """Whether an unfinished file that was last written to then, in seconds since 1970, is one of a killed process."""
    return changed < time.time() - LEFTOVER_SECONDS


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name in the folder of `path` to write to: when the block ends well, that file takes the place of `path`.

    When the block is left by an exception the file is deleted, and what was at `path` stays. Raises OSError as writing
    and renaming do.
    """
    # In the same folder: renaming within one file system is atomic. Not mkstemp, whose files only their owner may read.
    part = path.with_name(part_name())
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def arriving(folder: Path) -> Iterator[Path]:
    """A new folder to write files to: when the block ends well they move to `folder`, each in place of what is there.

    They move in the order of their names. When the block is left by an exception they are deleted. Raises OSError as
    writing and renaming do.
    """
    part = folder / part_name()  # on the same file system, for the reason above
    part.mkdir()
    try:
        yield part
        for file in sorted(part.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def temporary(suffix: str = "", *, folder: Path | None = None) -> Iterator[Path]:
    """An empty file in `folder`, if not in that for temporary ones, gone after the block.

    Raises OSError if there cannot be one.
    """
    handle, name = tempfile.mkstemp(prefix="hat-sr-", suffix=suffix, dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def locked(path: Path) -> IO[bytes] | None:
    """An open file that no other process can lock as long as it is open; None if another process has it.

    It is made if need be. A process that deletes it does so while it has it. On Windows nothing is locked. Raises
    OSError as opening does.
    """
    file = path.open("wb")
    if fcntl is None:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # not deleted since it was opened
            return file
    except OSError:
        pass
    file.close()
    return None


def remove_leftovers(folder: Path, *, only_abandoned: bool = True) -> None:
    """Delete unfinished files, and folders of them, in `folder`: what killed processes left there.

    only_abandoned: those that something has written to in the last ten minutes stay, and what cannot be deleted, too.
    Otherwise all go, for who has the folder to itself. Raises OSError if one cannot be deleted.
    """
    for path in folder.glob(f"{PART_PREFIX}*{_PART_SUFFIX}"):
        if not only_abandoned:
            remove(path)
            continue
        with suppress(OSError):
            if is_abandoned(max(one.stat().st_mtime for one in (path, *path.glob("*")))):
                remove(path)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it. Raises OSError if that cannot be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def list_files(folder: Path, *, onerror: Callable[[OSError], None], leave_out: Iterable[Path] = ()) -> list[str]:
    """Paths of the files below `folder`, with / between folders, sorted; hidden files and folders are left out.

    Symbolic links to folders are followed, except those to a folder they lie in. A folder that several paths lead to is
    listed once, by a path without links if there is one. A link that leads nowhere counts as a file; pipes, sockets and
    devices do not. The list is empty if `folder` is missing or a file. A million files take some seconds.
    leave_out: folders in it that are not listed, such as that of the results. onerror is called for each folder,
    `folder` included, and each link that cannot be read.
    """
    root = folder.resolve()
    listed, names = {str(path.resolve()) for path in leave_out} - {str(root)}, list[str]()
    pending, links = [("", str(root))], list[tuple[str, str]]()
    while pending or links:
        prefix, path = pending.pop() if pending else links.pop()
        if path in listed:
            continue
        listed.add(path)
        for entry, is_folder in _entries(path, folder / prefix, onerror):
            name = prefix + entry.name
            if not is_folder:
                names.append(name)
            elif not entry.is_symlink():
                pending.append((f"{name}/", entry.path))
            elif not any(inner.is_relative_to(target := Path(entry.path).resolve()) for inner in (Path(path), root)):
                links.append((f"{name}/", str(target)))
        links.sort(key=lambda link: link[0].split("/"), reverse=True)
    return sorted(names)


def cannot_read(error: OSError) -> str:
    """What `list_files` says to `onerror`, as a sentence."""
    return f"{error.filename} cannot be read: {error.strerror}"


def _entries(path: str, shown: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple["os.DirEntry[str]", bool]]:
    """What is in a folder, and whether each is a folder itself. `shown` is the folder's name in errors."""
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        error.filename = str(shown)
        onerror(error)
        return
    for entry in found:
        try:
            is_folder = entry.is_dir()
            if is_folder or entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()):
                yield entry, is_folder
        except OSError as error:  # a link that leads to itself, or into a folder that may not be entered
            error.filename = str(shown / entry.name)
            onerror(error)


def what_blocks_writing(folder: Path) -> Path | None:
    """The file or folder that keeps files from being written to `folder`, which may be missing; or None."""
    for path in (folder, *folder.absolute().parents):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # a name too long, a folder that may not be entered
            return path
        return None if path.is_dir() and os.access(path, os.W_OK | os.X_OK) else path
    return folder
