"""The queue on disk: jobs in SQLite, and a folder for each one's files beside it.

A job is there once `add` has returned, and no kill of the process or the machine takes it away. It is `queued`, then
`running`, then `done`, `failed` or `cancelled`; what was running when the process ended is queued again at the next
start, unless that has happened before: a picture that ends the process must not do so for ever. Files have names of
ours; nothing of what a client says becomes one.
"""

import os
import secrets
import shutil
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from hat_sr.errors import ConfigError
from hat_sr.files import locked
from hat_sr.serve.database import open_database

State = Literal["queued", "running", "done", "failed", "cancelled"]

_CANCELLED = "the job was cancelled"
_MOST_ATTEMPTS = 2
_GIVEN_UP = (
    f"the server ended {_MOST_ATTEMPTS} times while it worked on this picture: it may need more memory than there is;"
    " make it smaller"
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture to enlarge, and how far that is. Times are seconds since 1970."""

    id: str
    state: State = "queued"
    direct: bool
    """Whether a request waits for it: such a job is of no use to a later process."""
    model: str
    """The source of the network, as `Networks` knows it."""
    scale: float
    height: int
    width: int
    """Of the picture that came."""
    source_suffix: str
    suffix: str
    """The kinds of the files that came and that is made."""
    quality: int | None = None
    created: float
    started: float | None = None
    finished: float | None = None
    status: int | None = None
    error: str | None = None
    """Why it failed, and the status that says so in HTTP."""
    warnings: str = ""
    """Lines of what was lost or converted."""
    attempts: int = 0
    """How often work on it began, and was not left in order."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in ("queued", "running")


_COLUMNS = tuple(Job.__dataclass_fields__)


class Store:
    """The jobs in `folder`, which is made if need be, for this process alone. For several threads.

    If the database is damaged or missing, it and the files of its jobs are put aside, not deleted.
    Raises ConfigError if another process has it or it is no folder, OSError if it cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        try:
            self._files.mkdir(parents=True, exist_ok=True)
            lock = locked(folder / "lock")
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ConfigError(f"{folder}: not a folder for a queue: give another one with --folder") from error
        if lock is None:
            raise ConfigError(f"{folder}: another server works there: stop it, or give this one another folder")
        self._file_lock: IO[bytes] = lock
        self._lock = threading.Lock()
        self._database = open_database(folder)
        self._files.mkdir(exist_ok=True)  # it may have been put aside
        self._restart()

    def _restart(self) -> None:
        self._run("DELETE FROM jobs WHERE direct AND state IN ('queued', 'running')")
        for row in self._run("SELECT id FROM jobs WHERE state = 'running' AND attempts >= ?", _MOST_ATTEMPTS):
            self._end(row["id"], "failed", of="running", status=500, error=_GIVEN_UP)
            self.clear(row["id"])
        self._run("UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running'")
        known = {row["id"] for row in self._run("SELECT id FROM jobs")}
        for folder in self._files.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder."""
        with self._lock:
            self._database.close()
            self._file_lock.close()

    def new_folder(self) -> tuple[str, Path]:
        """An id that nobody can guess, and the folder for that job's files; without `add` the next start deletes it."""
        identity = secrets.token_hex(16)
        folder = self._files / identity
        folder.mkdir()
        return identity, folder

    def folder(self, identity: str) -> Path:
        """Where the files of a job lie."""
        return self._files / identity

    def source(self, job: Job) -> Path:
        """The file that came."""
        return self.folder(job.id) / f"source{job.source_suffix}"

    def result(self, job: Job) -> Path:
        """The file that is made."""
        return self.folder(job.id) / f"result{job.suffix}"

    def add(self, job: Job, *, max_queue: int) -> bool:
        """Take the job, whose source is there, unless so many are unfinished; whether it was taken.

        It is on the disk, source and all, when this returns.
        """
        _sync(self.source(job))
        _sync(self.folder(job.id))
        _sync(self._files)
        places = ", ".join("?" * len(_COLUMNS))
        return bool(
            self._run(
                f"INSERT INTO jobs ({', '.join(_COLUMNS)}) SELECT {places} WHERE (SELECT COUNT(*) FROM jobs"
                " WHERE state IN ('queued', 'running')) < ? RETURNING id",
                *(getattr(job, name) for name in _COLUMNS),
                max_queue,
            )
        )

    def get(self, identity: str) -> Job | None:
        """The job of that id, if there is one."""
        rows = self._run("SELECT * FROM jobs WHERE id = ?", identity)
        return _job(rows[0]) if rows else None

    def unfinished(self) -> list[str]:
        """The ids of those that are worked on or wait, in the order of their turns."""
        rows = self._run(
            "SELECT id FROM jobs WHERE state IN ('queued', 'running') ORDER BY state DESC, direct DESC, number"
        )
        return [row["id"] for row in rows]

    def claim(self) -> Job | None:
        """The job whose turn it is, now running; those that a request waits for come first. None if there is none."""
        rows = self._run(
            "UPDATE jobs SET state = 'running', started = ?, attempts = attempts + 1 WHERE number ="
            " (SELECT number FROM jobs WHERE state = 'queued' ORDER BY direct DESC, number LIMIT 1) RETURNING *",
            time.time(),
        )
        return _job(rows[0]) if rows else None

    def requeue(self) -> None:
        """What was being worked on waits again: for a worker that left it in order, and is at it no more."""
        self._run("UPDATE jobs SET state = 'queued', started = NULL, attempts = attempts - 1 WHERE state = 'running'")

    def finish(self, job: Job, *, warnings: list[str]) -> bool:
        """The result is there: the job is done. False if it was cancelled meanwhile."""
        _sync(self.result(job))
        _sync(self.folder(job.id))
        return self._end(job.id, "done", of="running", warnings="\n".join(warnings))

    def fail(self, job: Job, status: int, error: str) -> bool:
        """It cannot be made, for this reason. False if it was cancelled meanwhile."""
        return self._end(job.id, "failed", of="running", status=status, error=error)

    def cancel(self, identity: str) -> bool:
        """Nobody wants it any more; whether it was unfinished. The worker deletes the files of one that runs."""
        waited = self._end(identity, "cancelled", of="queued", status=410, error=_CANCELLED)
        if waited:
            self.clear(identity)
        return waited or self._end(identity, "cancelled", of="running", status=410, error=_CANCELLED)

    def clear_work(self, job: Job) -> None:
        """Delete all files of a job but the one that came."""
        for path in self.folder(job.id).glob("*"):  # none if it was forgotten meanwhile
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != self.source(job):
                path.unlink(missing_ok=True)

    def clear(self, identity: str) -> None:
        """Delete the files of a job that did not become done."""
        shutil.rmtree(self.folder(identity), ignore_errors=True)

    def remove(self, identity: str) -> None:
        """Forget it, and delete its files."""
        self._run("DELETE FROM jobs WHERE id = ?", identity)
        self.clear(identity)

    def remove_finished(self, *, before: float, max_bytes: int) -> None:
        """Forget what was finished before that time, and what is older than files of so many bytes of later ones."""
        num_bytes = 0
        for row in self._run("SELECT id, finished FROM jobs WHERE finished IS NOT NULL ORDER BY finished DESC"):
            if row["finished"] < before or num_bytes > max_bytes:
                self.remove(row["id"])
            else:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    num_bytes += sum(path.stat().st_size for path in self.folder(row["id"]).glob("*"))

    def _end(
        self,
        identity: str,
        state: State,
        *,
        of: State,
        status: int | None = None,
        error: str | None = None,
        warnings: str = "",
    ) -> bool:
        return bool(
            self._run(
                "UPDATE jobs SET state = ?, finished = ?, status = ?, error = ?, warnings = ?"
                " WHERE id = ? AND state = ? RETURNING id",
                *(state, time.time(), status, error, warnings, identity, of),
            )
        )

    def _run(self, statement: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    return Job(**{**values, "direct": bool(values["direct"])})


def _sync(path: Path) -> None:
    """Return when the file, or the folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
