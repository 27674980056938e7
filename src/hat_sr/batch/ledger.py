"""Ledger of finished files, so that a second run skips them.

It is lines of JSON in the folder of the results: the file `.hat-sr-manifest.jsonl`, or in a store several files
(`hat_sr.batch.places`). A run begins with a line that says its settings and one for each result that is
planned, goes on with one for each that was made or failed, and ends with one that says so:

    {"run": {"settings": {...}, "version": "0.1.0", "time": "2026-11-26T05:00:00+00:00"}}
    {"plan": "trip/a.png", "input": "trip/a.png", "stamp": "1234 bytes, 17641 ns", "before": null}
    {"done": "trip/a.png", "stamp": "1234 bytes, 17641 ns"}
    {"failed": "b.jpg", "stamp": "99 bytes, 17642 ns", "reason": "b.jpg: damaged or cut short: ...", "again": false}
    {"end": {"done": 1, "failed": 1}}

A damaged line, and one that fits no other, is named and left out. What was planned right behind it counts as planned by
unknown settings, until the next run: the line may have been the beginning of one.

Results appear whole. So if a run was killed between a result and its line, the next one sees it: where a result was
planned and something else is in its place than before, it was made.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Protocol

from hat_sr import __version__
from hat_sr.errors import HatError, OutputError
from hat_sr.files import PART_PREFIX, locked
from hat_sr.inference.lines import add_lines, drop_half_line, read_lines

logger = logging.getLogger(__name__)

NAME = f"{PART_PREFIX}manifest.jsonl"

Verdict = Literal["do", "done", "failed", "skip", "refuse"]
"""What becomes of a planned result: it is to be made; it was made; its input failed before and is the same; what is
there is left alone as wished; what is there is of unknown origin."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A result to be made."""

    result: str
    """Its name, relative to the ledger's folder, with / between folders."""
    input: str
    """Name of its input, relative to where that was found."""
    stamp: str | None
    """What shows that the input is the same as before; None if it is gone."""
    before: str | None
    """The stamp of what lies in the result's place; None if nothing does."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a planned result."""

    result: str
    stamp: str | None
    """The input's when it was read."""
    reason: str | None = None
    """Why there is no result; None if there is."""
    again: bool = False
    """Whether it may well be made another time, with the same input: it failed for want of room, or the like."""


class Lines(Protocol):
    """Where the lines are kept."""

    name: str
    """For messages."""

    def read(self) -> list[dict[str, Any] | None]:
        """All there are; None in the place of one that is damaged, which is named in the log."""

    def add(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Add to them, for this process alone from then on; they are safe when it returns, or at `close`.

        Raises OutputError if another process adds to them, or has done so since they were read.
        """

    def close(self) -> None:
        """Let others add to them."""


class FileLines:
    """In a file in `folder`, with a lock beside it while it is written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.name = str(self.path)
        self._lock_path = self.path.with_suffix(".lock")
        self._lock: IO[bytes] | None = None
        self._num_bytes = 0

    def read(self) -> list[dict[str, Any] | None]:
        """See Lines."""
        self._num_bytes = self._size()
        return read_lines(self.path)

    def add(self, lines: Iterable[Mapping[str, object]]) -> None:
        """See Lines."""
        if self._lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self._lock_path)
            if self._lock is None or self._size() != self._num_bytes:
                self.close()
                raise OutputError(f"{self.path.parent}: another process is at work there: start again when it is done")
            drop_half_line(self.path)
        add_lines(self.path, lines)

    def close(self) -> None:
        """See Lines."""
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


@dataclass(kw_only=True, slots=True)
class _Entry:
    """The last that is known of a result."""

    num_ended: int
    """How many runs had come to their end before it was planned."""
    settings: dict[str, str] | None
    """Of the run that planned it; None if they are not known."""
    input: str
    stamp: str | None
    before: str | None
    state: Literal["planned", "done", "failed", "again"] = "planned"
    reason: str = ""


class Ledger:
    """What `lines` say of results, for a run by these settings: all that results depend on besides their inputs."""

    def __init__(self, lines: Lines, settings: Mapping[str, str]) -> None:
        self._lines, self._settings = lines, dict(settings)
        self._entries: dict[str, _Entry] = {}
        self._num_ended, self._num_done, self._num_failed = 0, 0, 0
        self._begun = False
        self._of_run: dict[str, str] | None = None
        odd = []
        for line in lines.read():
            if line is None or not self._take(line):
                self._of_run, self._num_ended = None, self._num_ended + 1
                odd += [line] if line is not None else []
        if odd:
            more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            logger.warning("%s: left out, as it fits no other line: %.80r%s", lines.name, odd[0], more)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lines.close()

    def verdict(
        self, planned: Planned, *, overwrite: bool = False, skip_existing: bool = False, retry_failed: bool = False
    ) -> Verdict:
        """What becomes of a planned result.

        overwrite: it is made anew, unless that was done since a run last came to its end: by one that was interrupted.
        skip_existing: what is there stays. retry_failed: what failed for its input's sake is tried again though that is
        the same.
        """
        entry, there = self._entries.get(planned.result), planned.before
        if there is not None and skip_existing:
            return "skip"
        ours = entry is not None and entry.settings == self._settings
        if entry is not None and ours and (entry.input, entry.stamp) == (planned.input, planned.stamp):
            made = entry.state == "done" or (entry.state == "planned" and there != entry.before)
            if made and there is not None and (not overwrite or entry.num_ended == self._num_ended):
                return "done"
            if entry.state == "failed" and not retry_failed and not overwrite:
                return "failed"
        return "do" if there is None or overwrite or ours else "refuse"

    def results_beside_inputs(self) -> set[str]:
        """Results of whatever settings that were put beside their inputs, and so have other names than those."""
        return {
            name
            for name, entry in self._entries.items()
            if entry.state == "done" and PurePosixPath(name).stem != PurePosixPath(entry.input).stem
        }

    def reason(self, result: str) -> str:
        """Why a result was not made; empty if nothing is known."""
        entry = self._entries.get(result)
        return "" if entry is None else entry.reason

    def begin(self, planned: Iterable[Planned], *, done: Iterable[Planned] = ()) -> None:
        """Write down what this run is to make, and of what is done that no line says so. Raises as `Lines.add`."""
        planned, missed = list(planned), [one for one in done if self._entries[one.result].state != "done"]
        self._begun = bool(planned or missed)
        if not self._begun:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"run": {"settings": self._settings, "version": __version__, "time": now}}
        plans = [
            {"plan": one.result, "input": one.input, "stamp": one.stamp, "before": one.before}
            for one in (*missed, *planned)
        ]
        self._lines.add([head, *plans, *({"done": one.result, "stamp": one.stamp} for one in missed)])

    def add(self, outcome: Outcome) -> None:
        """Write down what became of a planned result."""
        name, stamp = outcome.result, outcome.stamp
        if outcome.reason is None:
            self._num_done += 1
            self._lines.add([{"done": name, "stamp": stamp}])
        else:
            self._num_failed += 1
            self._lines.add([{"failed": name, "stamp": stamp, "reason": outcome.reason, "again": outcome.again}])

    def end(self) -> None:
        """Write down that nothing is left of what was planned."""
        if self._begun:
            self._lines.add([{"end": {"done": self._num_done, "failed": self._num_failed}}])

    def _take(self, line: dict[str, Any]) -> bool:
        """Take a line for what it says; whether it says anything."""
        match line:
            case {"run": {"settings": dict(settings)}}:
                self._of_run = settings
            case {
                "plan": str(name),
                "input": str(source),
                "stamp": str() | None as mark,
                "before": str() | None as old,
            }:
                self._entries[name] = _Entry(
                    num_ended=self._num_ended, settings=self._of_run, input=source, stamp=mark, before=old
                )
            case {"done": str(name), "stamp": str() | None as mark} if name in self._entries:
                self._note(Outcome(result=name, stamp=mark))
            case {"failed": str(name), "stamp": str() | None as mark, "reason": str(why), "again": bool(again)} if (
                name in self._entries
            ):
                self._note(Outcome(result=name, stamp=mark, reason=why, again=again))
            case {"end": _}:
                self._num_ended += 1
            case _:
                return False
        return True

    def _note(self, outcome: Outcome) -> None:
        entry = self._entries[outcome.result]
        entry.stamp, entry.reason = outcome.stamp, outcome.reason or ""
        entry.state = "done" if outcome.reason is None else "again" if outcome.again else "failed"


def stamp(path: Path) -> str | None:
    """What shows that a file is the same as before: its size and time of change. None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def attempt(result: str, source: str, stamp: Callable[[], str | None], work: Callable[[], None]) -> Outcome:
    """What becomes of a result that `work` makes of the file `source`: whatever goes wrong is only noted.

    stamp: tells that of the file before.
    """
    before = None
    try:
        before = stamp()
        work()
    except Exception as error:  # the others go on
        text = str(error) if isinstance(error, HatError) else f"{type(error).__name__}: {error}".removesuffix(": ")
        reason = text if source in text else f"{source}: {text}"
        return Outcome(result=result, stamp=before, reason=reason, again=isinstance(error, OutputError | OSError))
    return Outcome(result=result, stamp=before)
