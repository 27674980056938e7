"""What is kept of an unfinished job, so that the same job can go on after it was stopped in whatever way.

A hidden folder beside the result holds the data and `journal.jsonl`, whose first line says what job it is. One line is
added for each part that is finished, once its data is safely on the disk.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from hat_sr.errors import OutputError
from hat_sr.files import PART_PREFIX, locked
from hat_sr.image.spool import Facts
from hat_sr.inference.device import PRECISION_NAMES, Precision
from hat_sr.inference.lines import add_lines, drop_half_line, read_lines
from hat_sr.inference.upscaler import ImagePlan

_JOURNAL, _LOCK = "journal.jsonl", "lock"


def unfinished_folder(output: Path) -> Path:
    """Where what is unfinished of a result lies."""
    name = os.fsencode(output.name)  # of which file systems take 255 bytes
    short = output.name if len(name) <= 200 else hashlib.sha256(name).hexdigest()
    return output.with_name(f"{PART_PREFIX}{short}.unfinished")


def read_journal(folder: Path) -> list[dict[str, Any] | None]:
    """The lines of the journal in `folder`, as `read_lines` gives them; none if there is none."""
    return read_lines(folder / _JOURNAL)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a journal says of an unfinished job."""

    job: Mapping[str, str]
    """What must be the same for it to go on, under names for people."""
    facts: Facts
    plan: ImagePlan
    num_finished: int = 0
    """Strips that are safe."""
    precision: Precision = "fp32"
    """In which the last of them was computed."""

    def line(self) -> dict[str, object]:
        """The first line of the journal."""
        parts = {"job": self.job, "facts": asdict(self.facts), "plan": asdict(self.plan)}
        return {**parts, "digest": _digest(*parts.values())}


def read_begun(lines: list[dict[str, Any] | None]) -> Begun | None:
    """What the lines of a journal say; None if there are none, or the first one is not as it was written.

    A strip is written down when all before it are safe, so that the last line that is whole counts.
    """
    match lines[:1]:
        case [{"job": job, "facts": facts, "plan": plan, "digest": digest}] if digest == _digest(job, facts, plan):
            try:
                begun = Begun(job=job, facts=Facts(**facts), plan=ImagePlan(**plan))
            except TypeError:  # of another version, which wrote down other things
                return None
        case _:
            return None
    for line in lines[1:]:
        match line:
            case {"strip": int(number), "precision": str(precision)} if precision in PRECISION_NAMES.values():
                begun = replace(begun, num_finished=number, precision=cast(Precision, precision))
    return begun


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
