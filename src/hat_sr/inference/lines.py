"""Files of JSON lines that only grow: after a kill at any moment all lines but the last are whole.

A line that is damaged, by a disk, an editor or another program, is named in the log and left out; those after it count.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def parse_lines(data: bytes, *, name: object) -> list[dict[str, Any] | None]:
    """The lines of such a file, which are JSON objects; None in the place of one that is damaged.

    Damaged ones are named in a warning, as those of the file `name`. Empty lines, and what follows the last end of a
    line, are nothing.
    """
    lines: list[dict[str, Any] | None] = []
    damaged = []
    for number, text in enumerate(data.split(b"\n")[:-1], start=1):
        if text.strip():
            lines.append(_parsed(text))
            if lines[-1] is None:
                damaged.append(number)
    if damaged:
        logger.warning("%s: damaged, and left out: %s", name, numbered(damaged))
    return lines


def numbered(numbers: list[int]) -> str:
    """The first five of some lines' numbers, and how many more there are."""
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:5]))}{more}"


def format_lines(lines: Iterable[Mapping[str, object]]) -> bytes:
    """What `parse_lines` takes."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def read_lines(path: Path) -> list[dict[str, Any] | None]:
    """The lines of the file, as `parse_lines` gives them; none if there is none."""
    try:
        return parse_lines(path.read_bytes(), name=path)
    except FileNotFoundError:
        return []


def add_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    """Add lines, and return when they are on the disk."""
    with path.open("ab") as file:
        file.write(format_lines(lines))
        file.flush()
        os.fsync(file.fileno())


def drop_half_line(path: Path) -> None:
    """Cut off what a killed process had written of a line."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
