"""Names of training images: which files a folder has, which of them a recipe leaves out, many in little memory."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hat_sr.errors import DataError
from hat_sr.files import cannot_read, list_files


def list_training_files(folder: Path) -> list[str]:
    """Paths of the files below `folder`, as `hat_sr.files.list_files` lists them.

    Raises DataError if it is missing, empty, or a folder in it cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(cannot_read(error)) from error

    found = list_files(folder, onerror=refuse)
    if not found:
        raise DataError(
            f"{folder} does not exist or is empty: name a folder of images (in a recipe, data.root is the folder that "
            "the sources' paths start from)"
        )
    return found


def without(exclude: Iterable[str], names: list[str], where: Path) -> list[str]:
    """The names, found in `where`, whose last part is not in `exclude`.

    Raises DataError if one that is to be left out is not there.
    """
    unwanted = set(exclude)
    if not unwanted:
        return names
    missing = unwanted - {name.rpartition("/")[2] for name in names}
    if missing:
        raise DataError(
            f"{where} does not hold {', '.join(sorted(missing))}, which the recipe excludes: take them out of exclude"
        )
    return [name for name in names if name.rpartition("/")[2] not in unwanted]


class Names:
    """Many names in two blocks of memory. Processes forked from this one share them, where each would copy a list of
    strings bit by bit, as it counts references to them."""

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._text[self._ends[index] : self._ends[index + 1]])
