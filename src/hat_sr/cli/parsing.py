"""Amounts of memory, names and scales as people write them."""

import re
from collections.abc import Sequence
from pathlib import Path

from hat_sr.errors import ConfigError, InputError

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(text: str) -> int:
    """A size such as 500MB, 4GiB or 1000000, in bytes. Raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]I?|)B?", text.strip(), flags=re.IGNORECASE)
    if found is None:
        raise InputError(f"{text!r} is no size: give bytes, or such as 500MB or 4GiB")
    return int(float(found[1]) * (_DECIMAL | _BINARY)[found[2].upper()])


def parse_names(texts: Sequence[str]) -> list[str]:
    """What stands between commas, once each; but a file whose name has a comma is one name.

    Raises ConfigError if there is nothing.
    """
    parts = [part for text in texts for part in ([text] if Path(text).is_file() else text.split(","))]
    names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not names:
        raise ConfigError(f"nothing is named in {', '.join(map(repr, texts))}: give one or more, with commas between")
    return names


def parse_scales(text: str) -> list[int]:
    """Whole numbers with commas between them, each perhaps with an x: 2 or 2x. Raises ConfigError for anything else."""
    parts = parse_names([text])
    try:
        return [int(part.strip("xX×")) for part in parts]
    except ValueError as error:
        raise ConfigError(f"scale {text!r}: whole numbers are accepted, with commas between them: 2,3,4") from error
