"""Descriptions of a TIFF's pages by ImageJ, OME and tifffile, on which these programs rely."""

import math
import re

_SIZE, _PHYSICAL_SIZE = r'(?<=\bSize{}=")\d{{1,9}}(?=")', r'(?<=\bPhysicalSize{}=")[\d.eE+-]{{1,30}}(?=")'


def promised_pages(description: str) -> int:
    """The number of pages in a description by ImageJ; 0 for any other description.

    Of a large stack ImageJ writes one page, and the others as raw pixels behind it.
    """
    found = re.search(r"^images=(\d{1,9})$", description, re.MULTILINE) if _is_of_imagej(description) else None
    return 0 if found is None else int(found[1])


def fitted_description(description: str, *, width: int, height: int, channels: int, num_pages: int) -> str | None:
    """The description for a file of so many pages of that size; None if it cannot be made to fit.

    ImageJ's stays if there are all pages. OME's takes the new sizes, also those of a pixel. tifffile's note of the
    array's shape is dropped. Others stay as they are.
    """
    if _is_of_imagej(description):
        return description if promised_pages(description) in (0, num_pages) else None
    if is_note_of_tifffile(description):
        return None
    if "<OME" in description[:2000]:
        return _fitted_ome(description, width, height, channels, num_pages)
    return description


def is_note_of_tifffile(description: str) -> bool:
    """True for the note of the array's shape that tifffile writes, which need not be kept."""
    return description.startswith('{"shape":')


def _is_of_imagej(description: str) -> bool:
    return description.startswith("ImageJ=")


def _fitted_ome(text: str, width: int, height: int, channels: int, num_pages: int) -> str | None:
    pixels = re.findall(r"<Pixels\b[^<>]*>", text)  # [^>] would look through the rest at each of many beginnings
    if len(pixels) != 1 or "FileName=" in text:  # several pictures, or files that point at each other by name
        return None
    (old,) = pixels
    sizes = {axis: re.search(_SIZE.format(axis), old) for axis in "XYZCT"}
    counts = {axis: int(size[0]) for axis, size in sizes.items() if size is not None}
    if len(counts) < 5 or not all(counts.values()) or math.prod(counts[axis] for axis in "ZCT") != channels * num_pages:
        return None
    new = old
    for axis, side in (("X", width), ("Y", height)):
        new = re.sub(_SIZE.format(axis), str(side), new)
        physical = re.search(_PHYSICAL_SIZE.format(axis), new)
        try:
            if physical is not None:
                size = float(physical[0]) * counts[axis] / side
                new = new[: physical.start()] + f"{size:.9g}" + new[physical.end() :]
        except ValueError:
            return None
    return text.replace(old, new)
