"""Folders on this machine, and wherever fsspec finds them: in S3 or Google Cloud Storage, in memory."""

import errno
import glob
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from hat_sr.batch.ledger import NAME, FileLines, Lines, stamp
from hat_sr.errors import InputError, require
from hat_sr.files import is_abandoned, is_part, list_files, part_name, remove_leftovers
from hat_sr.inference.lines import format_lines, parse_lines

_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci"}
"""Stores where an object is there when all of it has arrived, and not before."""

_VERSIONS = ("ETag", "etag", "generation", "LastModified", "last_modified", "updated", "mtime", "created")
"""What stores call that which changes with a file; the first that there is counts."""

_LINES_AT_ONCE, _SECONDS_AT_ONCE = 1000, 30


def is_url(text: str) -> bool:
    """True for a URL, False for a path on this machine."""
    return "://" in text


def whole(url: str) -> str:
    """A path on this machine from its root on; a URL as it is."""
    return url if is_url(url) else str(Path(url).absolute())


def shown(folder: str, name: str) -> str:
    """The path or URL of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def kind_of(place: str) -> Literal["file", "folder"] | None:
    """What is at a path or URL; None if there is nothing. Raises as `Place`.

    What may not be looked at counts as a file: then that fails when it is read.
    """
    if is_url(place):
        store, path = _opened(place)
        try:
            return "folder" if store.info(path)["type"] == "directory" else "file"
        except FileNotFoundError:
            return None
    try:
        Path(place).lstat()
        return "folder" if Path(place).is_dir() else "file"
    except OSError as error:
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG) else "file"


def matching(pattern: str) -> list[str]:
    """Paths or URLs of the files and folders that fit a pattern, each once: of several paths to one, the shortest.

    Raises as `Place`.
    """
    if is_url(pattern):
        store, path = _opened(pattern)
        end = re.search(r"[*?\[]", pattern)
        base = pattern[: end.start() if end else None].rpartition("/")[0]
        root = store._strip_protocol(base).rstrip("/")
        return [base + match.removeprefix(root) for match in sorted(store.glob(path))]
    # Not Path.glob, which refuses absolute patterns.
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    once: dict[Path, str] = {}
    for found in sorted(matches, key=lambda path: (len(path.parts), path)):
        once.setdefault(found.parent.resolve() / found.name, str(found))
    return list(once.values())


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    fsspec = require("fsspec", extra="cluster")
    try:
        store, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url} cannot be opened: {error}") from error
    return store, str(path)


class Place:
    """A folder by its URL, or its path. Names in it are relative, with / between folders.

    Raises InputError for a URL that fsspec does not open, MissingExtraError without fsspec.
    """

    def __init__(self, url: str) -> None:
        self.url = url if url == "/" else url.rstrip("/")
        self.local: Path | None = Path(url)
        """Where it is on this machine's disks; None if it is elsewhere."""
        self._fs: Any = None
        self._root, self._puts_whole = url, False
        if is_url(url):
            self._fs, self._root = _opened(url)
            protocols = [self._fs.protocol] if isinstance(self._fs.protocol, str) else list(self._fs.protocol)
            self._puts_whole = not _PUT_WHOLE.isdisjoint(protocols)
            self.local = Path(self._root) if "file" in protocols else None

    def shown(self, name: str) -> str:
        """The file's name for people."""
        return shown(self.url, name)

    def files(self, *, onerror: Callable[[OSError], None], leave_out: "Place | None" = None) -> dict[str, str | None]:
        """Names and stamps of all files, but hidden ones and those in `leave_out`, if that is a folder in this one.

        On a disk links are followed as `hat_sr.files.list_files` does. onerror is called for each folder that cannot be
        read.
        """

        def told(error: OSError) -> None:  # by the name that people gave
            if is_url(self.url):
                inner = PurePosixPath(error.filename).relative_to(self._root)
                error = OSError(error.errno, error.strerror, f"{self.url}/{inner}".removesuffix("/."))
            onerror(error)

        if self.local is not None:
            left_out = [] if leave_out is None or leave_out.local is None else [leave_out.local]
            names = list_files(self.local, onerror=told, leave_out=left_out)
            return {name: stamp(self.local / name) for name in names}
        inside = None if leave_out is None else leave_out.within(self)
        found = {PurePosixPath(path).relative_to(self._root): info for path, info in self._find(told)}
        return {
            name.as_posix(): self._stamp(info)
            for name, info in sorted(found.items())
            if not any(part.startswith(".") for part in name.parts) and not (inside and name.is_relative_to(inside))
        }

    def stamps(self, names: Iterable[str]) -> dict[str, str | None]:
        """What `stamp` says of each of many files; a store is listed once."""
        if self.local is not None:
            return {name: self.stamp(name) for name in names}
        there = self.files(onerror=lambda error: None)
        return {name: there.get(name) for name in names}

    def stamp(self, name: str) -> str | None:
        """What shows that a file is the same as before; None if there is none."""
        if self.local is not None:
            return stamp(self.local / name)
        try:
            return self._stamp(self._fs.info(self._path(name)))
        except FileNotFoundError:
            return None

    def within(self, other: "Place") -> str | None:
        """This folder's name in the other, "" if it is the same; None if it is not in it."""
        own, others = (
            PurePosixPath(place._root if place.local is None else place.local.resolve()) for place in (self, other)
        )
        is_same = type(self._fs) is type(other._fs) if self.local is None else other.local is not None
        if not is_same or not own.is_relative_to(others):
            return None
        name = own.relative_to(others).as_posix()
        return "" if name == "." else name

    @contextmanager
    def read(self, name: str) -> Iterator[Path]:
        """The file on this machine, while the block lasts. Raises OSError, or what the store raises."""
        if self.local is not None:
            yield self.local / name
            return
        with tempfile.TemporaryDirectory(prefix="hat-sr-") as folder:
            path = Path(folder) / PurePosixPath(name).name
            self._fs.get_file(self._path(name), str(path))
            yield path

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A path on this machine for a file, which is there under its name, whole, when the block has ended well."""
        if self.local is not None:
            yield self.local / name
            return
        with tempfile.TemporaryDirectory(prefix="hat-sr-") as folder:
            path, target = Path(folder) / PurePosixPath(name).name, self._path(name)
            yield path
            if self._puts_whole:
                self._fs.put_file(str(path), target)
                return
            self._fs.makedirs(self._fs._parent(target), exist_ok=True)
            part = f"{self._fs._parent(target)}/{part_name()}"
            self._fs.put_file(str(path), part)
            self._fs.mv(part, target)

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Delete what killed processes left in the folders of these files: see `files.remove_leftovers`."""
        for folder in {str(PurePosixPath(name).parent) for name in names}:
            if self.local is not None:
                remove_leftovers(self.local / folder)
            elif not self._puts_whole:
                self._remove_leftovers(self._path(folder).removesuffix("/."))

    def lines(self) -> Lines:
        """Where its ledger is kept."""
        return StoreLines(self._fs, self._path(Path(NAME).stem)) if self.local is None else FileLines(self.local)

    def _remove_leftovers(self, folder: str) -> None:
        with suppress(OSError, NotImplementedError):  # a store that does not say when files were changed
            for path in self._fs.ls(folder, detail=False):
                if not is_part(PurePosixPath(path).name):
                    continue
                changed = self._fs.modified(path)
                if is_abandoned((changed if changed.tzinfo else changed.replace(tzinfo=UTC)).timestamp()):
                    self._fs.rm_file(path)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _find(self, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Paths of all files in a store, and what it says of them."""
        if self._puts_whole:  # a bucket is one list, without folders
            yield from self._fs.find(self._root, detail=True).items()
            return
        pending = [self._root]
        while pending:
            folder = pending.pop()
            try:
                listing = self._fs.ls(folder, detail=True)
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    onerror(OSError(error.errno, error.strerror or str(error), folder))
                continue
            for info in listing:
                if info["type"] != "directory":
                    yield info["name"], info
                elif info["name"].rstrip("/") != folder.rstrip("/"):
                    pending.append(info["name"])

    def _stamp(self, info: Mapping[str, Any]) -> str:
        key = next((key for key in _VERSIONS if info.get(key) is not None), None)
        if key is None:
            return f"{info['size']} bytes"
        version = info[key]  # a time, in listings of fsspec's memory in seconds
        return f"{info['size']} bytes, {key} {version.timestamp() if isinstance(version, datetime) else version}"


class StoreLines:
    """In a folder of files, one for some lines, for stores whose files cannot grow. See Lines.

    There is no lock: runs that overlap do the same work twice, and each adds its own files. Lines that were not written
    when a process was killed are of results that a plan, which is written at once, shows to be there.
    """

    def __init__(self, fs: Any, folder: str) -> None:
        self._fs, self._folder, self.name = fs, folder, folder
        self._waiting: list[Mapping[str, object]] = []
        self._written_at = 0.0

    def read(self) -> list[dict[str, Any] | None]:
        """See Lines."""
        if not self._fs.exists(self._folder):
            return []
        return [
            line
            for path in sorted(self._fs.find(self._folder))
            for line in parse_lines(self._fs.cat_file(path), name=path)
        ]

    def add(self, lines: Iterable[Mapping[str, object]]) -> None:
        """See Lines."""
        self._waiting += lines
        if len(self._waiting) >= _LINES_AT_ONCE or time.monotonic() - self._written_at > _SECONDS_AT_ONCE:
            self.close()

    def close(self) -> None:
        """See Lines."""
        if self._waiting:
            self._fs.makedirs(self._folder, exist_ok=True)
            now = datetime.now(UTC)  # so that names are in the order of time
            self._fs.pipe_file(
                f"{self._folder}/{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.jsonl", format_lines(self._waiting)
            )
            self._waiting, self._written_at = [], time.monotonic()
