"""Amounts of memory and disk as people write them."""

import re

from hat_sr.errors import InputError

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(text: str) -> int:
    """A size such as 500MB, 4GiB or 1000000, in bytes. Raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]I?|)B?", text.strip(), flags=re.IGNORECASE)
    if found is None:
        raise InputError(f"{text!r} is no size: give bytes, or such as 500MB or 4GiB")
    return int(float(found[1]) * (_DECIMAL | _BINARY)[found[2].upper()])
