"""Training images in an LMDB database."""

import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hat_sr.errors import DataError, ImageError, require
from hat_sr.train.data.names import Names, without
from hat_sr.train.data.reading import Picture, read_rgb_bytes

_opening = threading.Lock()
_databases: dict[str, tuple[int, Any]] = {}
"""By folder: the process that opened it, and the database."""


class LmdbSource:
    """An LMDB database of image files: a key, without suffix, for each line of its meta_info.txt.

    The lines are `NAME.png (HEIGHT,WIDTH,CHANNELS) COMPRESSION`, as BasicSR writes them too. Raises DataError for
    another kind of file, and MissingExtraError without the package lmdb.
    """

    def __init__(self, folder: Path, *, exclude: Iterable[str] = ()) -> None:
        require("lmdb", extra="train")
        self.where = str(folder)
        if not (folder / "data.mdb").is_file():
            raise DataError(f"{folder} is no LMDB database (it has no data.mdb): hat-sr data prepare makes one")
        try:
            lines = (folder / "meta_info.txt").read_text(errors="surrogateescape").splitlines()
        except OSError as error:
            raise DataError(
                f"{folder}/meta_info.txt cannot be read ({error.strerror}): if hat-sr data prepare was stopped, "
                "start it again"
            ) from error
        names = []
        for line in filter(str.strip, lines):
            found = re.fullmatch(r"(\S.*?) +\(\d+, *\d+, *\d+\)( +\d+)?\s*", line)
            if found is None:
                raise DataError(f"{folder}/meta_info.txt: {line!r} is not of the form NAME.png (480,480,3) 1")
            names.append(found[1])
        self._names = Names(without(exclude, names, folder))
        if not self._names:
            raise DataError(f"{folder}/meta_info.txt names no image that is not excluded")

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Name in meta_info.txt, with its suffix."""
        return self._names[index]

    def read(self, index: int) -> Picture:
        """Read one image. Raises ImageError if it cannot be used, or is not there."""
        name = self.name(index)
        key = os.fsencode(os.path.splitext(name)[0])  # noqa: PTH122 (a key, no path)
        lmdb = require("lmdb", extra="train")
        database = _database(self.where)
        try:
            with database.begin() as transaction:
                data = transaction.get(key)
        except lmdb.Error as error:
            raise ImageError(f"{self.where}/{name} cannot be read: {error}") from error
        if data is None:
            raise ImageError(f"{self.where}/{name} is in meta_info.txt, but not in the database")
        return Picture(read_rgb_bytes(data, f"{self.where}/{name}"))


def _database(folder: str) -> Any:
    """Open a database, once in each process: one that was opened before a fork must not be used after it."""
    lmdb = require("lmdb", extra="train")
    with _opening:
        process, database = _databases.get(folder, (0, None))
        if process != os.getpid():
            if database is not None:
                database.close()
            try:
                database = lmdb.open(folder, readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise DataError(f"{folder} cannot be opened as an LMDB database: {error}") from error
            _databases[folder] = os.getpid(), database
        return database


def close_database(folder: Path) -> None:
    """Close what this process reads from, so that it can be written to: LMDB opens a database once in a process."""
    with _opening:
        _, database = _databases.pop(str(folder), (0, None))
        if database is not None:
            database.close()
