"""Folders wherever fsspec finds them: on a disk, in S3 or Google Cloud Storage, in memory."""

import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from hat_sr.errors import InputError, require
from hat_sr.files import is_abandoned, is_part, part_name, remove_leftovers
from hat_sr.inference.lines import format_lines, parse_lines
from hat_sr.inference.manifest import NAME, FileLines, Lines, stamp

_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci"}
"""Stores where an object is there when all of it has arrived, and not before."""

_VERSIONS = ("ETag", "etag", "generation", "LastModified", "last_modified", "updated", "mtime", "created")
"""What stores call that which changes with a file; the first that there is counts."""

_LINES_AT_ONCE, _SECONDS_AT_ONCE = 1000, 30


def whole(url: str) -> str:
    """A path on this machine from its root on; a URL as it is."""
    return url if "://" in url else str(Path(url).absolute())


class Place:
    """A folder by its URL, or its path. Names in it are relative, with / between folders.

    Raises InputError for a URL that fsspec does not open, MissingExtraError without fsspec.
    """

    def __init__(self, url: str) -> None:
        fsspec = require("fsspec", extra="cluster")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"{url} cannot be opened: {error}") from error
        self.url = url.rstrip("/")
        protocols = [self._fs.protocol] if isinstance(self._fs.protocol, str) else list(self._fs.protocol)
        self._puts_whole = not _PUT_WHOLE.isdisjoint(protocols)
        self.local = Path(self._root) if "file" in protocols else None
        """Where it is on this machine's disks; None if it is elsewhere."""

    def shown(self, name: str) -> str:
        """The file's name for people."""
        return f"{self.url}/{name}"

    def files(self) -> dict[str, str]:
        """Names and stamps of all files, but hidden ones."""
        found = self._fs.find(self._root, detail=True)
        names = {PurePosixPath(path).relative_to(self._root).as_posix(): info for path, info in found.items()}
        return {
            name: self._stamp(name, info)
            for name, info in sorted(names.items())
            if not any(part.startswith(".") for part in name.split("/"))
        }

    def stamp(self, name: str) -> str | None:
        """What shows that a file is the same as before; None if there is none."""
        try:
            return self._stamp(name, self._fs.info(self._path(name)))
        except FileNotFoundError:
            return None

    def within(self, other: "Place") -> str | None:
        """This folder's name in the other, "" if it is the same; None if it is not in it."""
        if type(self._fs) is not type(other._fs) or not PurePosixPath(self._root).is_relative_to(other._root):
            return None
        name = PurePosixPath(self._root).relative_to(other._root).as_posix()
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
        """Where its manifest is kept."""
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

    def _stamp(self, name: str, info: Mapping[str, Any]) -> str:
        if self.local is not None and (known := stamp(self.local / name)) is not None:
            return known
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
        self._fs, self._folder = fs, folder
        self._waiting: list[Mapping[str, object]] = []
        self._written_at = 0.0

    def read(self) -> list[dict[str, Any]]:
        """See Lines."""
        if not self._fs.exists(self._folder):
            return []
        return [line for path in sorted(self._fs.find(self._folder)) for line in parse_lines(self._fs.cat_file(path))]

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
