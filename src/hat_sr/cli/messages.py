"""What people are told besides a command's results."""

import sys
from contextlib import suppress


def say(sentence: str) -> None:
    """Tell people, on stderr. If nobody reads that any more the work goes on."""
    with suppress(BrokenPipeError):
        print(sentence, file=sys.stderr)
