"""What people are told besides a command's results."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which loads torch
    from hat_sr.train.describe import Description

_CONTROLS = {code: " " for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Characters that a name of a file, or a text in one, must not send to a terminal."""


def say(sentence: str) -> None:
    """Tell people, on stderr. If nobody reads that any more the work goes on."""
    if sys.stderr is not None:  # in a process that was started without one; print would take stdout
        with suppress(BrokenPipeError):
            print(sentence.translate(_CONTROLS), file=sys.stderr)


def print_description(description: "Description") -> int:
    """Print what a training would do, and on stderr what it needs that is not there. Returns the exit code."""
    if description.lines:
        print("\n".join(description.lines))
    for sentence in description.missing:
        say(f"missing: {sentence}")
    return 1 if description.missing else 0
