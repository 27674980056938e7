"""Directories of tags, as TIFF files have them, and EXIF blocks, which are small TIFF files (TIFF 6.0, §2; BigTIFF).

A directory is a list of entries, each a tag, a type, a number of values, and the values or where they lie. Offsets
count from the start of the file, so nothing here moves a byte: what is added goes to the end.
"""

import mmap
import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | bytearray | mmap.mmap

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, DOUBLE, LONG8 = 1, 2, 3, 4, 5, 7, 12, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {SHORT: "H", LONG: "I", RATIONAL: "II", DOUBLE: "d", LONG8: "Q"}
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
_COMPRESSION, _PHOTOMETRIC = 259, 262
_PLACES_AND_SIZES = ((273, 279), (324, 325))
"""Tags that say where strips, or tiles, lie, and of how many bytes they are."""
_OLD_JPEG, _JPEG, _YCBCR = 6, 7, 6
_END_OF_JPEG = b"\xff\xd9"


class Entry(NamedTuple):
    """One entry of a directory: `at` is where it starts, `data_at` where its values do, of `num_bytes` in all."""

    tag: int
    kind: int
    num_values: int
    at: int
    data_at: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Directory:
    """The entries of one directory, where it starts, and where the offset of the next one stands."""

    entries: tuple[Entry, ...]
    at: int
    next_at: int

    def find(self, tag: int) -> Entry | None:
        """The first entry of that tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


class Tags:
    """Access to the directories of a TIFF file or an EXIF block. Raises ValueError if it does not start like one."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        order = {b"II": "<", b"MM": ">"}.get(bytes(buffer[:2]))
        if order is None or len(buffer) < 8:
            raise ValueError("it does not start like an EXIF block")
        self.order = order
        self.is_big = bytes(buffer[2:4]) in (b"+\0", b"\0+")
        self.pointer_at = 8 if self.is_big else 4
        """Where the offset of the first directory stands."""
        self._count, self._offset, self._inline = ("Q", "Q", 8) if self.is_big else ("H", "I", 4)

    def first(self) -> Directory:
        """IFD0, which describes the image. Raises ValueError if it is not whole, as the methods below."""
        return self.directory(self.offset(self.pointer_at))

    def directory(self, start: int) -> Directory:
        """The directory at that offset."""
        head, size = struct.calcsize("=" + self._count), 4 + struct.calcsize("=" + 2 * self._offset)
        count = int(self._unpack(self._count, start)[0])
        next_at = start + head + size * count
        self.offset(next_at)
        return Directory(entries=tuple(self._entries(start + head, count)), at=start, next_at=next_at)

    def all(self) -> Iterator[tuple[Directory, ...]]:
        """The directories of each page: its own, and those of EXIF and GPS. Broken ones are passed over."""
        for page in self.pages():
            yield page, *self._below(page)

    def page(self, number: int) -> Directory:
        """The directory of a page, counted from 0. Raises ValueError if there is none."""
        page = next(islice(self.pages(), number, None), None)
        if page is None:
            raise ValueError(f"it has no page {number + 1}")
        return page

    def pages(self) -> Iterator[Directory]:
        """The directory of each page."""
        seen, start = set(), self.offset(self.pointer_at)
        while start and start not in seen:
            seen.add(start)
            page = self.directory(start)
            yield page
            start = self.offset(page.next_at)

    def offset(self, at: int) -> int:
        """The offset that stands there."""
        return int(self._unpack(self._offset, at)[0])

    def number(self, entry: Entry | None) -> int | None:
        """The first value of a SHORT or LONG."""
        if entry is None or entry.kind not in (SHORT, LONG):
            return None
        return int(self._unpack(_CODES[entry.kind], entry.data_at)[0])

    def values(self, entry: Entry) -> tuple[float, ...]:
        """The values of a SHORT, LONG, LONG8 or DOUBLE, or the first RATIONAL's two."""
        return self._unpack(
            "II" if entry.kind == RATIONAL else f"{entry.num_values}{_CODES[entry.kind]}", entry.data_at
        )

    def data(self, entry: Entry) -> bytes:
        """The bytes of all values."""
        return bytes(self.buffer[entry.data_at : entry.data_at + entry.num_bytes])

    def pack(self, kind: int, *values: float) -> bytes:
        """Values in this file's byte order."""
        return struct.pack(f"{self.order}{len(values)}{_CODES[kind][0]}", *values)

    def extended(self, pointer_at: int, new: Mapping[int, tuple[int, bytes]]) -> tuple[bytes, bytes]:
        """The directory whose offset stands at `pointer_at`, with new entries in place of those of the same tags.

        new: type and bytes of the values, by tag. Returns what comes to the end of the file, and what then stands at
        `pointer_at`. An offset of 0 is an empty directory.
        """
        tail = bytearray(len(self.buffer) % 2)
        old = self.directory(self.offset(pointer_at)) if self.offset(pointer_at) else None
        entries = {} if old is None else {entry.tag: self._raw(entry) for entry in old.entries}
        for tag, (kind, data) in new.items():
            head = struct.pack(f"{self.order}HH{self._offset}", tag, kind, len(data) // _SIZES[kind])
            if len(data) > self._inline:
                value = struct.pack(self.order + self._offset, len(self.buffer) + len(tail))
                tail += data + bytes(len(data) % 2)
            else:
                value = data.ljust(self._inline, b"\0")
            entries[tag] = head + value
        start = len(self.buffer) + len(tail)
        following = 0 if old is None else self.offset(old.next_at)
        tail += self._packed([entry for _, entry in sorted(entries.items())], following)
        return bytes(tail), struct.pack(self.order + self._offset, start)

    def without(self, directory: Directory, entries: Container[Entry]) -> bytes:
        """What takes the place of the directory, with bytes of 0 behind it, when it is to lack these entries."""
        kept = [self._raw(entry) for entry in directory.entries if entry not in entries]
        size = directory.next_at - directory.at + struct.calcsize("=" + self._offset)
        return self._packed(kept, self.offset(directory.next_at)).ljust(size, b"\0")

    def _raw(self, entry: Entry) -> bytes:
        return bytes(self.buffer[entry.at : entry.at + 4 + struct.calcsize("=" + 2 * self._offset)])

    def _packed(self, entries: Sequence[bytes], following: int) -> bytes:
        head = struct.pack(self.order + self._count, len(entries))
        return head + b"".join(entries) + struct.pack(self.order + self._offset, following)

    def _below(self, page: Directory) -> Iterator[Directory]:
        for tag in (EXIF_IFD, GPS_IFD):
            if (start := self.number(page.find(tag))) is not None:
                try:
                    yield self.directory(start)
                except ValueError:
                    continue

    def _entries(self, start: int, count: int) -> Iterator[Entry]:
        size, inline_at = 4 + struct.calcsize("=" + 2 * self._offset), 4 + struct.calcsize("=" + self._offset)
        raw = bytes(self.buffer[start : start + count * size])
        places = range(start, start + count * size, size)
        for at, (tag, kind, num, offset) in zip(
            places, struct.iter_unpack(f"{self.order}HH{2 * self._offset}", raw), strict=True
        ):
            num_bytes = num * _SIZES.get(kind, 1)
            yield Entry(tag, kind, num, at, at + inline_at if num_bytes <= self._inline else offset, num_bytes)

    def _unpack(self, codes: str, at: int) -> tuple[float, ...]:
        try:
            return struct.unpack_from(self.order + codes, self.buffer, at)
        except (struct.error, OverflowError) as error:
            raise ValueError("one of its directories points outside it") from error


@contextmanager
def open_tags(path: Path) -> Iterator[Tags]:
    """The directories of a TIFF file. Raises ValueError if it is none."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        yield Tags(buffer)


def read_tags(path: Path, wanted: Mapping[int, int]) -> dict[int, bytes]:
    """The values of the first page's tags of which `wanted` says the type, if whole; the bytes are little-endian.

    Raises ValueError if it is no TIFF file.
    """
    with open_tags(path) as tags:
        return {
            entry.tag: swapped(tags.data(entry), entry.kind, tags.order)
            for entry in tags.first().entries
            if wanted.get(entry.tag) == entry.kind and len(tags.data(entry)) == entry.num_bytes
        }


def add_tags(path: Path, new: Mapping[int, tuple[int, bytes]]) -> None:
    """Add tags to the file's first page: type and little-endian values, by tag. Raises ValueError for another file."""
    with open_tags(path) as tags:
        ordered = {tag: (kind, swapped(data, kind, tags.order)) for tag, (kind, data) in new.items()}
        tail, pointer = tags.extended(tags.pointer_at, ordered)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(tail)
        file.seek(tags.pointer_at)
        file.write(pointer)


def swapped(data: bytes, kind: int, order: str) -> bytes:
    """The bytes of values, each converted from little-endian to that byte order, or back."""
    size = _SIZES[kind]
    if order == "<" or size == 1:
        return data
    return b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))


def lacks_pixels(path: Path, page: int) -> bool:
    """Whether pixels of the page lie beyond the end of the file, or JPEG data of it has no end.

    Looks at JPEG and YCbCr alone; reading reports it for others, and for files whose tags make no sense: False.
    """
    try:
        with open_tags(path) as tags:
            return not all(_whole(tags, tags.page(page)))
    except ValueError:
        return False


def _whole(tags: Tags, page: Directory) -> Iterator[bool]:
    compression = tags.number(page.find(_COMPRESSION))
    if compression not in (_OLD_JPEG, _JPEG) and tags.number(page.find(_PHOTOMETRIC)) != _YCBCR:
        return
    for places, sizes in _PLACES_AND_SIZES:
        for start, size in zip(_numbers(tags, page, places), _numbers(tags, page, sizes), strict=False):
            stop = start + size
            yield stop <= len(tags.buffer)
            if compression == _JPEG and size > 2:  # a byte may follow, so that the next begins at an even place
                yield _END_OF_JPEG in bytes(tags.buffer[stop - 3 : stop])


def _numbers(tags: Tags, page: Directory, tag: int) -> list[int]:
    entry = page.find(tag)
    if entry is None or entry.kind not in (SHORT, LONG, LONG8):
        return []
    return [int(value) for value in tags.values(entry)]
