"""The database of a queue: opened if it is whole, else put aside and begun anew."""

import logging
import sqlite3
from pathlib import Path

logger = logging.getLogger(__name__)

_NAME = "jobs.sqlite"
_COLUMNS = {
    "number": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "id": "TEXT NOT NULL UNIQUE",
    "state": "TEXT NOT NULL DEFAULT 'queued'",
    "direct": "INTEGER NOT NULL",
    "model": "TEXT NOT NULL",
    "scale": "REAL NOT NULL",
    "height": "INTEGER NOT NULL",
    "width": "INTEGER NOT NULL",
    "source_suffix": "TEXT NOT NULL",
    "suffix": "TEXT NOT NULL",
    "quality": "INTEGER",
    "created": "REAL NOT NULL",
    "started": "REAL",
    "finished": "REAL",
    "status": "INTEGER",
    "error": "TEXT",
    "warnings": "TEXT NOT NULL DEFAULT ''",
    "attempts": "INTEGER NOT NULL DEFAULT 0",
}
_SCHEMA = f"CREATE TABLE IF NOT EXISTS jobs ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})"


def open_database(folder: Path) -> sqlite3.Connection:
    """The database in the folder of a queue, made if need be.

    If it is damaged, missing or not ours, it and the files of its jobs are moved into a new folder there, and a warning
    says so. Raises sqlite3.OperationalError if it cannot be read or written to.
    """
    if not _is_whole(folder / _NAME):
        _put_aside(folder)
    database = _connected(folder / _NAME)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")  # committed is on the disk, even if the machine goes
    database.execute(_SCHEMA)
    return database


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.row_factory = sqlite3.Row
    return database


def _is_whole(path: Path) -> bool:
    """Whether the database is there, undamaged, and one of ours."""
    if not path.is_file():
        return False
    database = _connected(path)
    try:
        damage = database.execute("PRAGMA quick_check").fetchone()[0]
        found = {row["name"] for row in database.execute("PRAGMA table_info(jobs)")}
        return damage == "ok" and found >= _COLUMNS.keys()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # no room, no right: nothing is wrong with the file
            raise
        return False
    finally:
        database.close()


def _put_aside(folder: Path) -> None:
    """Move what is in the folder of a queue into a new one in it, so that a new queue can begin."""
    found = list(folder.glob("jobs.sqlite*"))
    if any((folder / "files").iterdir()):
        found.append(folder / "files")
    if not found:
        return
    number = 1
    while (aside := folder / f"aside-{number}").exists():
        number += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    logger.warning("%s: the queue's database is damaged or missing: what was there is kept in %s", folder, aside)
