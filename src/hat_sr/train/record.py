"""What a run's folder holds besides the state: the recipe in effect, the log, TensorBoard's files, pictures."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from hat_sr.errors import ConfigError, DataError, OutputError, TrainingError, require
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.files import locked, remove_leftovers, replacing, what_blocks_writing
from hat_sr.image.convert import to_pixels
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.train.config import Recipe


class RunRecord:
    """Writes log.jsonl, and TensorBoard's event files if the recipe says so, from a step on.

    Two trainings in one folder are refused with TrainingError.

    Lines of steps that are about to be done again, after a stop between two saved states, are taken out first.
    """

    def __init__(self, folder: Path, recipe: Recipe, first_step: int) -> None:
        make_folder(folder)
        lock = locked(folder / ".lock")
        if lock is None:
            raise TrainingError(f"another training is running in {folder}: wait for it, or train into another folder")
        self.folder = folder
        self.log = folder / "log.jsonl"
        self.board = None
        with ExitStack() as opened:
            opened.enter_context(lock)
            remove_leftovers(folder, only_abandoned=False)  # of a training, an export, that was killed while it wrote
            opened.enter_context(_without_tracebacks_of_writers())
            with written_to(folder):
                _write(folder / "recipe.toml", recipe_text(recipe).encode())
                if self.log.exists():
                    lines = self.log.read_bytes().splitlines(keepends=True)
                    _write(self.log, b"".join(line for line in lines if _step(line) <= first_step))
                if recipe.log.tensorboard:
                    tensorboard = require("torch.utils.tensorboard", extra="train")
                    self.board = tensorboard.SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)
            self._opened = opened.pop_all()

    def write(self, step: int, record: Mapping[str, float]) -> None:
        """Add what is known after `step` steps. Raises TrainingError if the system refuses."""
        with written_to(self.folder):
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **record}) + "\n")
            if self.board is not None:
                for name, value in record.items():
                    self.board.add_scalar(name, value, step)
                self.board.flush()

    def close(self) -> None:
        """Close TensorBoard's files, and let another training have the folder."""
        with self._opened, written_to(self.folder):
            if self.board is not None:
                self.board.close()

    def write_pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Write validation results, (1, 3, H, W) in [0, 1] by name, to pictures/<name>/<step>.png.

        Raises TrainingError if the system refuses.
        """
        with written_to(self.folder):
            for name, picture in pictures.items():
                folder = self.folder / "pictures" / name
                folder.mkdir(parents=True, exist_ok=True)
                write_image(folder / f"{step:08}.png", Image(to_pixels(picture, "uint8")))
                if self.board is not None:
                    self.board.add_image(name, picture[0].clamp(0, 1), step)


@contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """Turn an error of writing into a run's folder, such as a full disk, into a TrainingError."""
    try:
        yield
    except (OSError, OutputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"the run in {folder} cannot be written ({reason}): make room there, then start the same command again; it "
            "goes on from the last saved state"
        ) from error


@contextmanager
def _without_tracebacks_of_writers() -> Iterator[None]:
    """Print no traceback of an OSError in TensorBoard's writing thread: the next call of the board raises it again."""
    before = threading.excepthook

    def told(ended: threading.ExceptHookArgs) -> None:
        if not isinstance(ended.exc_value, OSError) or type(ended.thread).__module__.partition(".")[0] != "tensorboard":
            before(ended)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = before


def check_run(recipe: Recipe, folder: Path) -> None:
    """Refuse, before any work, a folder that cannot be written to and a validation folder without images.

    Raises ConfigError and DataError.
    """
    if (path := what_blocks_writing(folder)) is not None:
        raise ConfigError(
            f"the run cannot be written to {folder}: {path} is no folder, or not writable; give another -o"
        )
    if recipe.log.validation_folder is not None:
        try:
            find_datasets(Path(recipe.log.validation_folder), recipe.upscale)
        except DataError as error:
            raise DataError(f"log.validation_folder: {error}") from error


def make_folder(folder: Path) -> None:
    """Make the run's folder. Raises ConfigError if the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the run's folder {folder} cannot be made ({error.strerror}): give another -o") from error


def recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML, every setting with its value; what is None, for which TOML has no word, is left out."""
    text: str = require("tomli_w", extra="train").dumps(_without_none(asdict(recipe)))
    return text


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list | tuple) else value


def _step(line: bytes) -> float:
    """The step of a line of the log; infinite for a line that was cut short or damaged."""
    try:
        return float(json.loads(line.decode())["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)
