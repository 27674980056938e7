"""JPEG files with a fault that every viewer passes over: copies without it, which decoders read without a word.

libjpeg tells of the first thing that is wrong and of nothing after it, so a harmless fault in a file would hide that
its picture is cut short. In a copy without harmless faults whatever it tells of is damage.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hat_sr.errors import InputError
from hat_sr.image.bounds import Edit

_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # where 00 means that the FF is data, and RST0–7 belong
_SOI, _EOI, _SOS, _JPEG_LS = 0xD8, 0xD9, 0xDA, 0xF7
_ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers without a segment."""
_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_UNREAD = (_JPEG_LS, 0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)
_WHOLE_SPECTRUM = bytes((0, 63, 0))
"""First and last coefficient, and bits left for later scans: the only values that a sequential scan may have."""

_MOST_SCANS = 100
"""Programs write some ten. Each costs a decoder a pass over the whole picture, however few bytes it has."""


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """From `start`, where its marker stands, to before `stop`; a scan's ends with its data, its header at `data`."""

    marker: int
    start: int
    data: int
    stop: int
    body: bytes


@dataclass(kw_only=True)
class Mending:
    """What must be done to a JPEG file. `said`: what people should know of it."""

    edits: list[Edit] = field(default_factory=list)
    """In the order of the file; a file without any needs no copy."""
    said: list[str] = field(default_factory=list)


def is_jpeg(path: Path) -> bool:
    """Whether the file begins as JPEG does."""
    with path.open("rb") as file:
        return file.read(2) == bytes((0xFF, _SOI))


def examine(path: Path) -> Mending:
    """See what must be mended in a JPEG file. What is wrong beyond mending is for a decoder to say.

    Raises InputError for a kind of JPEG that is not read, and for one that lacks scans or has too many.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Examination().run(_segments(data), len(data))
        except IndexError:  # a segment shorter than it must be
            return Mending()


def _segments(data: mmap.mmap) -> Iterator[_Segment]:
    """The segments up to the end of the picture, as far as they make sense."""
    at = 0
    while (match := _MARKER.search(data, at)) is not None:
        start, marker, stop = match.start(), match.group()[-1], match.end()
        body = b""
        if marker not in (*_ALONE, _EOI):
            length = int.from_bytes(data[stop : stop + 2], "big")
            if length < 2 or stop + length > len(data):
                return
            body, stop = data[stop + 2 : stop + length], stop + length
        after = stop
        if marker == _SOS:
            end = _MARKER_IN_SCAN.search(data, stop)
            after = len(data) if end is None else end.start()
        yield _Segment(marker=marker, start=start, data=stop, stop=after, body=body)
        if marker == _EOI:
            return
        at = after


class _Examination:
    def __init__(self) -> None:
        self._found = Mending()
        self._frame, self._num_scans = 0, 0
        self._sent: dict[int, dict[int, int]] = {}
        """For each component the coefficients that scans held, and how many of their last bits are still to come."""

    def run(self, segments: Iterator[_Segment], size: int) -> Mending:
        """size: bytes of the file."""
        found, at, has_end, num_stray = self._found, 0, False, 0
        for segment in segments:
            if segment.start > at:
                num_stray += segment.start - at
                found.edits.append(Edit("extraneous bytes", at, segment.start))
            at = segment.stop
            if segment.marker in (*_FRAMES, _JPEG_LS):
                self._take_frame(segment)
            if segment.marker == _SOS:
                self._take_scan(segment)
            has_end = segment.marker == _EOI
        if not self._sent:
            return Mending()
        self._check_scans(has_end)
        if num_stray:
            found.said.append(f"{num_stray} extraneous bytes between its parts are passed over")
        if not has_end:
            found.said.append("the mark at its end is missing")
        if found.edits or not has_end:
            found.edits.append(Edit("what follows", at, size, b"" if has_end else bytes((0xFF, _EOI))))
        return found

    def _take_frame(self, segment: _Segment) -> None:
        if segment.marker in _UNREAD:
            raise InputError("a kind of JPEG that is not read (JPEG-LS or hierarchical): save it anew, as PNG")
        bits = segment.body[0]
        if bits != 8:
            raise InputError(f"a JPEG of {bits} bits, which is not read: save it as PNG or TIFF of 16 bits")
        self._frame, self._sent = segment.marker, {number: {} for number in segment.body[6::3]}

    def _take_scan(self, segment: _Segment) -> None:
        self._num_scans += 1
        if self._num_scans > _MOST_SCANS:
            raise InputError(
                f"its picture comes in more than {_MOST_SCANS} scans, as no program writes it: save it anew"
            )
        spectrum = segment.body[-3:]
        if self._frame in _SEQUENTIAL and spectrum != _WHOLE_SPECTRUM:
            self._found.edits.append(Edit("spectrum", segment.data - 3, segment.data, _WHOLE_SPECTRUM))
        first, last, bits = (spectrum[0], spectrum[1], spectrum[2] & 15) if self._frame in _PROGRESSIVE else (0, 63, 0)
        for number in segment.body[1:-3:2]:
            self._sent.get(number, {}).update(dict.fromkeys(range(first, min(last, 63) + 1), bits))

    def _check_scans(self, has_end: bool) -> None:
        if not all(0 in bits for bits in self._sent.values()):
            raise InputError("damaged or cut short: a part of its scans is missing")
        if all(len(bits) == 64 and not any(bits.values()) for bits in self._sent.values()):
            return
        if not has_end:
            raise InputError("damaged or cut short: its last scans are missing")
        self._found.said.append("it may be cut short: not all of its details were sent")
