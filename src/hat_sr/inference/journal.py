"""What is kept of an unfinished job, so that the same job can go on after it was stopped in whatever way.

A hidden folder beside the result holds the data and `journal.jsonl`, whose first line says what job it is. One line is
added for each part that is finished, once its data is safely on the disk.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hat_sr.errors import OutputError
from hat_sr.files import PART_PREFIX, locked
from hat_sr.inference.lines import add_lines, drop_half_line, read_lines

_JOURNAL, _LOCK = "journal.jsonl", "lock"


def unfinished_folder(output: Path) -> Path:
    """Where what is unfinished of a result lies."""
    name = os.fsencode(output.name)  # of which file systems take 255 bytes
    short = output.name if len(name) <= 200 else hashlib.sha256(name).hexdigest()
    return output.with_name(f"{PART_PREFIX}{short}.unfinished")


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of the journal in `folder`; none if there is none. A line that was cut short is left out."""
    return read_lines(folder / _JOURNAL)


def discard(output: Path) -> bool:
    """Delete what is unfinished of a result; whether there was anything. Raises as `Journal`."""
    if not unfinished_folder(output).exists():
        return False
    with Journal(output) as journal:
        journal.remove()
    return True


class Journal:
    """The folder of an unfinished result, made if need be, for this process alone while it is open.

    Raises OutputError if another process works on that result, OSError if the folder cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self.folder = unfinished_folder(output)
        self.folder.mkdir(exist_ok=True)
        lock = locked(self.folder / _LOCK)
        if lock is None:
            raise OutputError(f"{output}: another process is making it: wait for that, or name another output")
        self._lock = lock
        drop_half_line(self.folder / _JOURNAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def add(self, line: Mapping[str, object]) -> None:
        """Add a line, and return when it is on the disk: the first says what job it is."""
        add_lines(self.folder / _JOURNAL, [line])

    def clear(self) -> None:
        """Delete all that the folder holds, the journal first: without it the rest is nothing."""
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def remove(self) -> None:
        """Delete the folder."""
        self.clear()
        if os.name == "nt":  # where open files cannot be deleted
            self._lock.close()
        (self.folder / _LOCK).unlink()
        self._lock.close()
        with suppress(OSError):  # another process is already at the same job
            self.folder.rmdir()
