"""Run the command in this process, as a person would in a shell."""

import math
import sys

import numpy as np
import pytest

from hat_sr.cli import main, progress
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image


def run(monkeypatch, *words):
    """The exit code of `hat-sr WORDS`. How long it takes changes nothing that it prints."""
    monkeypatch.setattr(sys, "argv", ["hat-sr", *map(str, words)])
    monkeypatch.setattr(progress, "_FIRST_LINE", math.inf)
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def write_noise(path, height=5, width=7, channels=3, dtype="uint8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    largest = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, largest, (height, width, channels), dtype=dtype, endpoint=True)
    write_image(path, Image(pixels))
