"""The errors that hat-sr raises on purpose.

::

    HatError
    ├── ConfigError (ValueError)         settings that cannot be: says which, and what is accepted
    ├── InputError (ValueError)          a tensor or an argument of the wrong shape, dtype or range
    ├── WeightsError                     a file that is not weights, is cut short, or is of another network
    ├── ExportError                      a network that another runtime does not compute as torch does
    ├── ImageError                       an image file that cannot be read or written
    │   └── OutputError                  a result that cannot be written, whatever its input: no right, in use
    │       └── NoRoomError              the disk is full
    ├── DataError                        training or benchmark data that is missing or does not fit together
    ├── TrainingError                    a training that cannot go on
    ├── RefusedError, BadFileError        what a server refuses, and a file that it cannot read (`hat_sr.serve`)
    └── MissingExtraError (ImportError)  an optional dependency that is not installed

Catch `HatError` for all of them. Each message says what came, what is accepted and what to do.
"""

import importlib
from types import ModuleType


class HatError(Exception):
    """Base of every error raised on purpose by hat-sr."""


class ConfigError(HatError, ValueError):
    """Settings that cannot be, alone or together."""


class InputError(HatError, ValueError):
    """A tensor or an argument of the wrong shape, dtype or range."""


class WeightsError(HatError):
    """A file that is not weights, is cut short, or belongs to another network."""


class ExportError(HatError):
    """A network that cannot be exported, or that another runtime does not compute as torch does."""


class ImageError(HatError):
    """An image file that cannot be read or written."""


class OutputError(ImageError):
    """A result that cannot be written now, which is no fault of its input: no room, no right, another process at it."""


class NoRoomError(OutputError):
    """A result for which the disk has too little room."""


class DataError(HatError):
    """Training or benchmark data that is missing or does not fit together."""


class TrainingError(HatError):
    """A training that cannot go on."""


class MissingExtraError(HatError, ImportError):
    """An optional dependency that is not installed."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which the optional dependency group `extra` installs.

    Raises MissingExtraError with the install command if it is not there.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{module} is not installed, and this needs it: pip install 'hat-sr[{extra}]'"
        ) from error
