"""Files of JSON lines that only grow: after a kill at any moment all lines but the last are whole."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """The lines of such a file, up to the first that is cut short or damaged."""
    lines = []
    for line in data.split(b"\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def format_lines(lines: Iterable[Mapping[str, object]]) -> bytes:
    """What `parse_lines` takes."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of the file; none if there is none."""
    try:
        return parse_lines(path.read_bytes())
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
