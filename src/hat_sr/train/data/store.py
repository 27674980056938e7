"""How prepared images are stored: a folder, an LMDB database or tar shards, each with a journal of what is done.

Images are added one source image at a time. They are written down in the journal only once they are safe, and adding
them again replaces them: a run that was killed between the two does no harm.
"""

import logging
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hat_sr.errors import ConfigError, DataError, require
from hat_sr.files import PART_PREFIX, locked, remove, replacing
from hat_sr.inference.lines import drop_half_line, format_lines, read_lines
from hat_sr.train.data.database import close_database

logger = logging.getLogger(__name__)

JOURNAL = ".prepared.jsonl"

_LOCK = f"{PART_PREFIX}lock"

_BATCH_BYTES = 16_000_000
"""What is committed to a database at once."""


@contextmanager
def claimed(destination: Path, *, record: str, command: str) -> Iterator[None]:
    """Make the folder, have it alone for the block, and clear what a killed run left.

    record: the file in it that shows that it is of `command`. Raises ConfigError if it is a file, or holds something
    else, or if another process runs `command` into it.
    """
    if destination.exists() and not destination.is_dir():
        raise ConfigError(f"the destination {destination} is a file: name a folder")
    destination.mkdir(parents=True, exist_ok=True)
    path = destination / _LOCK
    lock = locked(path)
    if lock is None:
        raise ConfigError(f"another {command} is at work in {destination}: wait for it, or name a new folder")
    try:
        present = [one for one in destination.iterdir() if one.name != _LOCK]
        left = [one for one in present if one.name.startswith(PART_PREFIX)]
        if len(left) < len(present) and not (destination / record).is_file():
            raise ConfigError(f"{destination} is not empty, and not of {command}: name a new or empty folder")
        for one in left:
            remove(one)
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.close()


class Piece(NamedTuple):
    """One image to be stored."""

    name: str
    """Path in the destination, with / and its suffix."""
    height: int
    width: int
    file: Path
    """Where it is now, in the destination's file system; storing it takes it away."""


class Made(NamedTuple):
    """All that is made of one source image."""

    image: str
    pieces: tuple[Piece, ...]


class PieceStore(Protocol):
    """Where pieces are stored."""

    def add(self, made: Made) -> None:
        """Store what was made of one source image, now or with those that follow."""

    def finish(self) -> None:
        """Store what is waiting, and what belongs to a complete set."""


class PreparedLog:
    """Which source images are done, and what was made of each: a line of JSON each, after one of settings.

    A damaged line, and one that says nothing of the kind, is named in the log and left out: its image is made again.
    Shards then hold that image twice. Raises ConfigError if the destination was made with other settings, or if the
    line of settings is damaged.
    """

    def __init__(self, destination: Path, settings: dict[str, object]) -> None:
        self.path = destination / JOURNAL
        self.done: dict[str, list[tuple[str, int, int]]] = {}
        """Name, height and width of the pieces of each source image."""
        self.num_shards = 0
        if not self.path.exists():
            with replacing(self.path) as part:
                part.write_bytes(format_lines([settings]))
        drop_half_line(self.path)
        before, *lines = read_lines(self.path) or [None]
        if before is None:
            raise ConfigError(f"{self.path} is damaged, its first line says no settings: prepare into a new folder")
        if before != settings:
            differences = ", ".join(
                f"{key} {before.get(key)} then, {settings.get(key)} now"
                for key in sorted(before.keys() | settings.keys())
                if before.get(key) != settings.get(key)
            )
            raise ConfigError(f"{destination} was prepared otherwise ({differences}): name a new folder")
        odd = sum(line is not None and not self._take(line) for line in lines)
        if odd:
            logger.warning("%s: %d lines left out, which do not say what was made of an image", self.path, odd)

    def _take(self, line: dict[str, Any]) -> bool:
        """Take a line for what it says. False if that is nothing of an image."""
        match line:
            case {"image": str(image), "made": list(made)} if all(map(_is_piece, made)):
                self.done[image] = [(name, height, width) for name, height, width in made]
            case _:
                return False
        shards = line.get("shards")
        self.num_shards = max(self.num_shards, shards if isinstance(shards, int) else 0)
        return True

    def add(self, images: list[Made], *, num_shards: int = 0) -> None:
        """Write down that these are safe, in `num_shards` shards with all before them."""
        lines: list[dict[str, object]] = []
        for image, pieces in images:
            self.done[image] = [(piece.name, piece.height, piece.width) for piece in pieces]
            entry: dict[str, object] = {"image": image, "made": self.done[image]}
            lines.append(entry | ({"shards": num_shards} if num_shards else {}))
        self.num_shards = max(self.num_shards, num_shards)
        with self.path.open("ab") as file:
            file.write(format_lines(lines))


def _is_piece(value: object) -> bool:
    match value:
        case [str(), int(), int()]:
            return True
    return False


@contextmanager
def open_store(kind: str, destination: Path, journal: PreparedLog, *, shard_bytes: int) -> Iterator[PieceStore]:
    """A store of `kind` "folder", "lmdb" or "webdataset". Raises MissingExtraError without the package lmdb."""
    if kind == "folder":
        yield _Folder(destination, journal)
        return
    store = _Lmdb(destination, journal) if kind == "lmdb" else _Shards(destination, journal, shard_bytes)
    try:
        yield store
    finally:
        store.close()


class _Folder:
    def __init__(self, destination: Path, journal: PreparedLog) -> None:
        self.destination = destination
        self.journal = journal

    def add(self, made: Made) -> None:
        for piece in made.pieces:
            path = self.destination / piece.name
            path.parent.mkdir(parents=True, exist_ok=True)
            piece.file.replace(path)
        self.journal.add([made])

    def finish(self) -> None:
        """Nothing is waiting."""


class _Lmdb:
    """Keys are names without suffix; meta_info.txt lists the images, in BasicSR's form."""

    def __init__(self, destination: Path, journal: PreparedLog) -> None:
        self._lmdb = require("lmdb", extra="train")
        self.destination = destination
        self.journal = journal
        close_database(destination)
        try:
            self.database = self._lmdb.open(str(destination), map_size=1 << 30)
        except self._lmdb.Error as error:
            raise DataError(f"{destination} cannot be opened as an LMDB database: {error}") from error
        self.waiting: list[Made] = []
        self.num_bytes = 0

    def add(self, made: Made) -> None:
        self.waiting.append(made)
        self.num_bytes += sum(piece.file.stat().st_size for piece in made.pieces)
        if self.num_bytes >= _BATCH_BYTES:
            self._commit()

    def _commit(self) -> None:
        pieces = [piece for made in self.waiting for piece in made.pieces]
        while not self._put(pieces):
            self.database.set_mapsize(2 * self.database.info()["map_size"])
        self.journal.add(self.waiting)
        for piece in pieces:
            piece.file.unlink()
        self.waiting, self.num_bytes = [], 0

    def _put(self, pieces: list[Piece]) -> bool:
        """Put all or none: False if the database must be made larger first."""
        try:
            with self.database.begin(write=True) as transaction:
                for piece in pieces:
                    transaction.put(_key(piece.name), piece.file.read_bytes())
        except self._lmdb.MapFullError:
            return False
        except self._lmdb.Error as error:
            raise DataError(f"{self.destination} cannot be written: {error}") from error
        return True

    def finish(self) -> None:
        self._commit()
        lines = sorted(
            f"{name} ({height},{width},3) 1\n" for made in self.journal.done.values() for name, height, width in made
        )
        with replacing(self.destination / "meta_info.txt") as part:
            part.write_text("".join(lines), errors="surrogateescape")

    def close(self) -> None:
        """What is waiting is not lost: it is made again by the next run."""
        self.database.close()


def _key(name: str) -> bytes:
    return os.fsencode(os.path.splitext(name)[0])  # noqa: PTH122 (a key, no path)


class _Shards:
    """000000.tar, 000001.tar …: all that is made of a source image is in one, and a shard is renamed when complete."""

    def __init__(self, destination: Path, journal: PreparedLog, shard_bytes: int) -> None:
        self.destination = destination
        self.journal = journal
        self.shard_bytes = shard_bytes
        self.part = destination / f"{PART_PREFIX}shard.tar"
        self.tar: tarfile.TarFile | None = None
        self.waiting: list[Made] = []

    def add(self, made: Made) -> None:
        if self.tar is None:
            self.tar = tarfile.open(self.part, "w")  # noqa: SIM115 (closed when the shard is full)
        for piece in made.pieces:
            entry = tarfile.TarInfo(piece.name)
            entry.size = piece.file.stat().st_size
            with piece.file.open("rb") as file:
                self.tar.addfile(entry, file)
            piece.file.unlink()
        self.waiting.append(made)
        if self.tar.offset >= self.shard_bytes:
            self._close_shard()

    def _close_shard(self) -> None:
        if self.tar is None:
            return
        self.tar.close()
        self.tar = None
        # The number follows from the journal: a shard that was completed but not written down is replaced.
        number = self.journal.num_shards
        self.part.replace(self.destination / f"{number:06d}.tar")
        self.journal.add(self.waiting, num_shards=number + 1)
        self.waiting = []

    def finish(self) -> None:
        self._close_shard()

    def close(self) -> None:
        if self.tar is not None:
            self.tar.close()
            self.part.unlink()
