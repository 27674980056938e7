"""A teacher's answers to degraded patches, made once and kept in three folders: lr, teacher and hr.

A source of kind "pairs" reads them: path = "DEST/hr", lr_path = "DEST/lr", teacher_path = "DEST/teacher".
"""

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from hat_sr.errors import ConfigError
from hat_sr.files import remove_leftovers, replacing
from hat_sr.image.convert import to_pixels
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.upscale import Upscale
from hat_sr.train.data.batches import PatchDataset
from hat_sr.train.data.store import claimed

DESCRIPTION = "labels.json"
"""File in the destination that says what the patches are of, how they were degraded, and who the teacher is."""

FOLDERS = ("lr", "hr", "teacher")
"""In the order in which a patch's three files are written: if the last is there, all are."""


def label(
    patches: PatchDataset,
    destination: Path,
    teacher: Upscale,
    *,
    num_samples: int,
    description: dict[str, object],
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write patches 0 … num_samples − 1, with the teacher's answers, as PNG below `destination`. Returns how many.

    Patch k depends on the seed and k alone: a call that was stopped goes on where it was, to the same files, and a call
    with more samples adds the rest. description: what the files depend on, in what JSON has.

    Raises ConfigError if the destination holds something else, or another call writes to it; DataError as `patches`.
    """
    with claimed(destination, record=DESCRIPTION, command="hat-sr data label"):
        _describe(destination, description)
        for folder in FOLDERS:
            (destination / folder).mkdir(exist_ok=True)
            remove_leftovers(destination / folder)
        missing = [number for number in range(num_samples) if not (destination / FOLDERS[-1] / _name(number)).exists()]
        for done, number in enumerate(missing, start=num_samples - len(missing) + 1):
            sample = patches[number]
            answer = teacher(sample.lr[None])[0]
            for folder, picture in zip(FOLDERS, (sample.lr, sample.hr, answer), strict=True):
                _write(destination / folder / _name(number), picture)
            if on_progress is not None:
                on_progress(done, num_samples)
    return len(missing)


def _name(number: int) -> str:
    return f"{number:07d}.png"


def _write(path: Path, picture_CHW: Tensor) -> None:
    write_image(path, Image(to_pixels(picture_CHW[None].clamp(0, 1), "uint8")))


def _describe(destination: Path, description: dict[str, object]) -> None:
    """Write the description, or raise ConfigError if there is another one."""
    file = destination / DESCRIPTION
    if not file.exists():
        with replacing(file) as part:
            part.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({error}): label into a new folder") from error
    now = json.loads(json.dumps(description))
    if before != now:
        keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        raise ConfigError(f"{destination} was labelled with another {', '.join(keys)}: name a new folder")
