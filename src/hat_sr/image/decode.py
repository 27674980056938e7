"""Image files, opened: headers, and pixels whole or in blocks of rows."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hat_sr.errors import ImageError, InputError
from hat_sr.files import temporary
from hat_sr.image.bounds import edited, within_bounds, without_gain_map
from hat_sr.image.mending import examine, is_jpeg
from hat_sr.image.pixels import Pixels
from hat_sr.image.reader import Header, ImageFile

__all__ = ["Header", "open_image", "read_header", "sampled"]

logger = logging.getLogger(__name__)


def read_header(path: str | os.PathLike[str], *, page: int | None = None) -> Header:
    """Look at the file's header alone. Raises ImageError as `open_image` does, for as much as a header shows."""
    path = Path(path)
    name = _called(path, page)
    with _explained(path, name):
        if is_jpeg(path):
            examine(path)
        with within_bounds(path, name=path, warn=False) as bounded, ImageFile(bounded, name=name, page=page) as file:
            return file.header


@contextmanager
def open_image(path: str | os.PathLike[str], *, page: int | None = None) -> Iterator[ImageFile]:
    """The image file, open while the block lasts. Warns of what is left out: a gain map, further pictures.

    page: of a TIFF, counted from 0; None is the first, with a warning if there are more.
    Raises ImageError, also for what goes wrong with the file in the block, if there is no such file, or it is empty,
    cut short, of an unknown kind, too large, has no such page, or holds NaN or infinity.
    """
    path = Path(path)
    name = _called(path, page)
    with _explained(path, name), ExitStack() as stack:
        bounded = stack.enter_context(within_bounds(path, name=path))
        source = _mended(bounded, path, stack) if is_jpeg(path) else bounded
        file = stack.enter_context(ImageFile(source, name=name, page=page))
        if file.has_gain_map:
            # OpenImageIO insists on applying the gain map; without it this is the picture that any screen shows.
            logger.warning("%s: an Ultra HDR photo: its gain map is left out, and the standard picture taken", path)
            plain = stack.enter_context(temporary(".jpg"))
            without_gain_map(source, plain)
            file = stack.enter_context(ImageFile(plain, name=name, page=None))
        if page is None:
            file.warn_of_others()
        yield file


@contextmanager
def sampled(path: str | os.PathLike[str], *, page: int | None = None) -> Iterator[Iterator[Pixels]]:
    """Some bands of rows of a file that is no JPEG, of a small one all, while the block lasts; without warnings.

    page, and errors: as for `open_image`.
    """
    path = Path(path)
    name = _called(path, page)
    with (
        _explained(path, name),
        within_bounds(path, name=path, warn=False) as bounded,
        ImageFile(bounded, name=name, page=page) as file,
    ):
        yield file.sample()


def _called(path: Path, page: int | None) -> Path:
    """What messages call the page."""
    return path if page is None else path.with_name(f"{path.name}, page {page + 1}")


def _mended(path: Path, name: Path, stack: ExitStack) -> Path:
    """The JPEG file, or a copy without its harmless faults."""
    mending = examine(path)
    for sentence in mending.said:
        logger.warning("%s: %s", name, sentence)
    if not mending.edits:
        return path
    copy = stack.enter_context(temporary(".jpg"))
    edited(path, copy, mending.edits)
    return copy


@contextmanager
def _explained(path: Path, name: Path) -> Iterator[None]:
    """Says of an error in the block which file it is about, in our words."""
    if not path.is_file():
        raise ImageError(f"{path}: " + ("is a folder, not an image file" if path.is_dir() else "no such file"))
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        yield
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: too large for the memory there is") from error
    except (InputError, UnicodeError) as error:
        raise ImageError(f"{name}: {error}") from error
