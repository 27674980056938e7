"""Official (BasicSR) option files turned into recipes; every setting is carried over or named with the reason."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hat_sr.errors import ConfigError, require
from hat_sr.files import replacing
from hat_sr.train.config import Recipe
from hat_sr.train.option_file import Note, apply, listed_notes, read_option_file
from hat_sr.train.option_rules import test_commands, test_rules, training_rules
from hat_sr.train.recipe import load_recipe


@dataclass(frozen=True, kw_only=True)
class ImportedOptions:
    """What became of an option file."""

    recipe: Recipe | None
    """The training it asks for; None if it asks for none, or for one that cannot be run: see missing and notes."""
    text: str
    """The recipe as TOML, with the notes as comments above it; of a file without a recipe, the settings there are."""
    notes: tuple[Note, ...]
    """Each setting that was not carried over as it stands, in the order of the file."""
    missing: tuple[str, ...]
    """What else keeps it from being a recipe, each a sentence."""
    num_carried: int
    """How many settings were carried over."""
    commands: tuple[str, ...]
    """What does here what a test file asks for: lines for a shell."""
    trains: bool
    """Whether it is the option file of a training; else of a test."""


def import_options(path: Path, *, num_gpus: int | None = None) -> ImportedOptions:
    """Read a BasicSR option file for HAT, of a training or a test.

    num_gpus: by how many the file's batch size, which is that of one GPU, is multiplied; None takes the file's
    num_gpu, and 8, as published, where that says auto.

    Raises ConfigError if there is no such file, or it is no YAML mapping.
    """
    file = read_option_file(path)
    trains = any(key.startswith("train.") for key in file.lines)
    rules = training_rules(file, path, num_gpus) if trains else test_rules(file)
    outcome = apply(rules, file)
    if trains:
        outcome.settings |= {"provenance.recipe": f"imported from {path.name}", "optim.ema_warmup": False}
    else:
        outcome.missing["data and optim"] = "it is the option file of a test, which has no training in it"
    missing = [f"{setting} must be given by you: {why}" for setting, why in outcome.missing.items()]
    text = _toml(path, _tables(outcome.settings), outcome.notes)
    recipe = None
    if not missing and not any(note.blocks for note in outcome.notes):
        try:
            recipe = _read_back(text)
        except ConfigError as error:
            missing.append(str(error))
    return ImportedOptions(
        recipe=recipe,
        text=text,
        notes=tuple(outcome.notes),
        missing=tuple(missing),
        num_carried=len(file.lines) - len(outcome.notes),
        commands=() if trains else test_commands(file, path.stem),
        trains=trains,
    )


def write_recipe(imported: ImportedOptions, path: Path) -> None:
    """Write the recipe to `path`, whole or not at all.

    Raises ConfigError if there is no recipe, or `path` exists or is in no folder.
    """
    if imported.recipe is None:
        raise ConfigError(f"{path} is not written: what was imported is not a whole recipe")
    check_free(path)
    with replacing(path) as part:
        part.write_text(imported.text, encoding="utf-8")


def check_free(path: Path) -> None:
    """Raise ConfigError if a recipe cannot be written to `path`: it exists, or its folder does not."""
    if path.exists():
        raise ConfigError(f"{path} exists: give another name, or remove it first")
    if not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} does not exist: create it first")


def _tables(settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe's tables from settings named such as optim.gamma."""
    tables: dict[str, Any] = {}
    for setting, value in settings.items():
        table, _, name = setting.rpartition(".")
        (tables.setdefault(table, {}) if table else tables)[name] = value
    return tables


def _toml(path: Path, settings: dict[str, Any], notes: list[Note]) -> str:
    tomli_w = require("tomli_w", extra="train")
    head = [f"Imported from {path.name!r} by hat-sr import-options."]
    head += ["Not carried over as they stand, with line numbers of that file:"] if notes else []
    comments = "".join(f"# {line}\n" for line in [*head, *listed_notes(notes)])
    # A list of numbers goes into one line: tomli_w takes one for each.
    table = re.sub(r"\[\n(?:    [-+.\w]+,\n)+\]", lambda found: _in_one_line(found.group()), tomli_w.dumps(settings))
    return f"{comments}\n{table}"


def _in_one_line(array: str) -> str:
    return " ".join(array.split()).replace("[ ", "[").replace(", ]", "]")


def _read_back(text: str) -> Recipe:
    """The recipe that `text` is, read as any other; raises ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        try:
            return load_recipe(path)
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix(f"{path}: ")) from error
