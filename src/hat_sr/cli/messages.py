"""What people are told besides a command's results."""

import sys
from contextlib import suppress


def say(sentence: str) -> None:
    """Tell people, on stderr. If nobody reads that any more the work goes on."""
    if sys.stderr is not None:  # in a process that was started without one; print would take stdout
        with suppress(BrokenPipeError):
            print(sentence, file=sys.stderr)
