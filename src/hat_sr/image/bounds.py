"""Metadata kept within bounds: a file with more is read as a copy in which the rest is hidden.

OpenImageIO reads all metadata when it opens a file, and builds lists of it that grow with the square of their length,
so that a file of a megabyte can take gigabytes. It has no limit of its own.
"""

import logging
import mmap
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hat_sr.files import temporary
from hat_sr.image import png, tiff
from hat_sr.image.containers import APP13, JPEG_EXIF, announces_gain_map, segments, webp_chunks
from hat_sr.image.signature import HEAD_BYTES, kind_of

logger = logging.getLogger(__name__)

MAX_BYTES = 16 << 20
"""Of all metadata in a file, inflated."""
MAX_ENTRIES = 10_000

_EXR_NEEDED = frozenset(
    b"channels chunkCount compression dataWindow displayWindow lineOrder name pixelAspectRatio screenWindowCenter "
    b"screenWindowWidth tiles type version view".split()
)
_EXR_PARTS = 0x1000
# Where the pixels of a TIFF file lie, and what Photoshop keeps there for itself, which is nowhere read.
_TIFF_UNCOUNTED = frozenset((258, 273, 279, 320, 324, 325, 338, 339, 34377, 37724))


class Edit(NamedTuple):
    """Bytes of a file that are left out, and what takes their place."""

    name: str
    start: int
    end: int
    replacement: bytes = b""


class _Budget:
    """How many bytes and entries of metadata are still accepted."""

    def __init__(self) -> None:
        self.num_bytes, self.num_entries = MAX_BYTES, MAX_ENTRIES

    def takes(self, num_bytes: int, num_entries: int = 1) -> bool:
        """Subtract so much and return True, or return False if it is more than is left."""
        if num_bytes > self.num_bytes or num_entries > self.num_entries:
            return False
        self.num_bytes -= num_bytes
        self.num_entries -= num_entries
        return True


@contextmanager
def within_bounds(path: Path, *, name: Path, warn: bool = True) -> Iterator[Path]:
    """The file, or a copy without the metadata that is too much, while the block lasts. Warns of what is left out.

    Raises OSError as reading and writing do.
    """
    with path.open("rb") as file:
        try:
            edits = _excess(file)
            first = next(edits, None)
        except (struct.error, ValueError):  # damaged: who reads it says so
            first = None
        if first is None:
            yield path
            return
        with temporary(path.suffix) as copy:
            names = edited(path, copy, chain([first], edits))
            if warn:
                limits = f"{MAX_BYTES >> 20} MB or {MAX_ENTRIES} entries"
                logger.warning("%s: metadata beyond %s is dropped: %s", name, limits, ", ".join(sorted(names)))
            yield copy


def edited(path: Path, copy: Path, edits: Iterable[Edit]) -> set[str]:
    """Copy the file with edits, which come in its order. Returns their names."""
    names, at = set(), 0
    with path.open("rb") as source, copy.open("wb") as target:
        try:
            for name, start, end, replacement in edits:
                if start < at:  # of what two pages share, and gone
                    continue
                _copy(source, target, at, start)
                target.write(replacement)
                at = end
                names.add(name)
        except (struct.error, ValueError):  # damaged from there on
            pass
        source.seek(at)
        shutil.copyfileobj(source, target, 1 << 20)
    return names


def without_gain_map(path: Path, copy: Path) -> None:
    """Copy a JPEG without the segments that announce a gain map, so that it reads as the plain picture it also is."""
    with path.open("rb") as file:
        found = (Edit("gain map", one.start, one.end) for one in segments(file) if announces_gain_map(one))
        edited(path, copy, found)


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    while start < end and (data := source.read(min(end - start, 1 << 20))):
        target.write(data)
        start += len(data)


def _excess(file: BinaryIO) -> Iterator[Edit]:
    of_kind = {"jpeg": _of_jpeg, "png": _of_png, "webp": _of_webp, "tiff": _of_tiff, "openexr": _of_exr}
    find = of_kind.get(kind_of(file.read(HEAD_BYTES)) or "")
    return iter(()) if find is None else find(file)


def _of_jpeg(file: BinaryIO) -> Iterator[Edit]:
    budget = _Budget()
    for marker, payload, start, end in segments(file):
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE):
            continue
        weight = len(payload), 1
        if marker == APP13:  # lists, each entry of which repeats those before it
            num_records = payload.count(b"\x1c\x02")
            weight = len(payload) * max(1, num_records), 1 + num_records
        elif payload.startswith(JPEG_EXIF):
            weight = _weight(payload[len(JPEG_EXIF) :])
        if not budget.takes(*weight):
            yield Edit(f"APP{marker - 0xE0}" if marker < 0xF0 else "COM", start, end)


def _of_png(file: BinaryIO) -> Iterator[Edit]:
    budget = _Budget()
    for kind, start, length in png.chunks(file):
        if kind not in (*png.TEXT, *png.COLOR, "eXIf", "sPLT", "hIST"):
            continue
        weight = length, 1
        if kind in (*png.TEXT, "iCCP", "eXIf") and length <= budget.num_bytes:
            file.seek(start)
            payload = file.read(length)
            if kind == "eXIf":
                weight = _weight(payload)
            else:
                weight = len(payload) + len(png.content(kind, payload, budget.num_bytes) or b""), 1
        if not budget.takes(*weight):
            yield Edit(kind, start - 8, start + length + 4)


def _of_webp(file: BinaryIO) -> Iterator[Edit]:
    budget = _Budget()
    for kind, length in webp_chunks(file):
        if kind in (b"EXIF", b"XMP ", b"ICCP"):
            start = file.tell()
            is_exif = kind == b"EXIF" and length <= MAX_BYTES
            weight = _weight(file.read(length).removeprefix(JPEG_EXIF)) if is_exif else (length, 1)
            if not budget.takes(*weight):
                yield Edit(kind.decode().strip(), start - 8, start - 4, b"none")


def _of_tiff(file: BinaryIO) -> Iterator[Edit]:
    """Directories without some of their entries. The bounds are those of each page by itself."""
    edits = []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        tags = tiff.Tags(buffer)
        try:
            for directories in tags.all():
                budget = _Budget()
                for directory in directories:
                    counted = [entry for entry in directory.entries if entry.tag not in _TIFF_UNCOUNTED]
                    hidden = {entry for entry in counted if not budget.takes(entry.num_bytes)}
                    if hidden:
                        place = tags.without(directory, hidden)
                        name = ", ".join(f"tag {tag}" for tag in sorted({entry.tag for entry in hidden})[:3])
                        name += f" and {len(hidden) - 3} more" if len(hidden) > 3 else ""
                        edits.append(Edit(name, directory.at, directory.at + len(place), place))
        except ValueError:
            pass
    yield from sorted(edits, key=lambda edit: edit.start)


def _of_exr(file: BinaryIO) -> Iterator[Edit]:
    """Runs of attributes, each of which becomes one attribute of the same length, of a type that is passed over."""
    budget, number, run = _Budget(), 0, None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        for name, start, end in _exr_attributes(buffer):
            if name and name not in _EXR_NEEDED and not budget.takes(end - start):
                run = start if run is None else run
                continue
            head = b"h%d\0h\0" % number
            if run is not None and (size := start - run - len(head) - 4) >= 0:
                yield Edit("attributes", run, run + len(head) + 4, head + struct.pack("<i", size))
                number += 1
            run = None


def _exr_attributes(buffer: mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each attribute; at the end of a part's header one without a name."""
    at, has_parts = 8, bool(struct.unpack_from("<I", buffer, 4)[0] & _EXR_PARTS)
    while True:
        while (name := buffer[at : max(at, buffer.find(b"\0", at))]) != b"":
            size_at = buffer.find(b"\0", at + len(name) + 1) + 1
            (size,) = struct.unpack_from("<i", buffer, size_at)
            if size_at == 0 or size < 0:
                raise ValueError("an attribute without an end")
            yield name, at, size_at + 4 + size
            at = size_at + 4 + size
        yield b"", at, at + 1
        at += 1
        if not has_parts or buffer[at : at + 1] in (b"\0", b""):
            return


def _weight(exif: bytes) -> tuple[int, int]:
    """Bytes and entries of an EXIF block, whose entries may share bytes."""
    try:
        entries = [entry for page in tiff.Tags(exif).all() for directory in page for entry in directory.entries]
    except ValueError:
        entries = []
    return max(len(exif), sum(entry.num_bytes for entry in entries)), 1 + len(entries)
