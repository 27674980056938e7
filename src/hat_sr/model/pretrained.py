"""A network as a folder, as the Hugging Face Hub has it: `model.safetensors`, `config.json` and a model card."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path

from hat_sr.errors import InputError, WeightsError
from hat_sr.files import PART_PREFIX, what_blocks_writing
from hat_sr.model.card import LIBRARY, model_card
from hat_sr.model.checkpoint import Checkpoint, config_from, save_model
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.model.hub import CONFIG_NAME, WEIGHTS_NAME, is_repo

CARD_NAME = "README.md"

_IDENTITY = {"library_name": LIBRARY, "architectures": ["HAT"]}
"""What config.json holds besides the fields of HATConfig."""


def save_pretrained(
    model: HAT,
    folder: str | PathLike[str],
    *,
    provenance: Mapping[str, str] | None = None,
    repo_id: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a network as a folder: `model.safetensors`, `config.json` and `README.md`, the card of it.

    `provenance` says where the weights come from (title, data, licence, …): the weights state it and the card shows it.
    `repo_id` is the OWNER/REPO that the card's examples name. The folder is made if need be; other files in it stay.
    All three are complete before the first takes its name; if writing fails, the folder is as it was.

    Raises InputError if one of the three is there already, unless `overwrite`, if the folder cannot be written to, or
    if `repo_id` has another form.
    """
    if repo_id is not None and not is_repo(repo_id):
        raise InputError(f"repo_id {repo_id!r} is not of the form OWNER/REPO")
    folder = Path(folder)
    if (path := what_blocks_writing(folder)) is not None:
        raise InputError(f"{folder} cannot be written to, because of {path}: give another folder")
    if not overwrite and (present := [name for name in _NAMES if (folder / name).exists()]):
        raise InputError(f"{folder} has {', '.join(present)} already: give another folder, or overwrite=True")
    config = {**_IDENTITY, **dataclasses.asdict(model.config)}
    card = model_card(model, provenance or {}, repo_id=repo_id)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=PART_PREFIX, dir=folder) as part:
            save_model(model, Path(part, WEIGHTS_NAME), provenance=provenance)
            Path(part, CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            Path(part, CARD_NAME).write_text(card, encoding="utf-8")
            for name in _NAMES:
                Path(part, name).replace(folder / name)
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def check_config(checkpoint: Checkpoint) -> None:
    """Compare `model.safetensors` with the config.json beside it, if that is there and of hat-sr.

    Raises WeightsError where they differ, or if config.json cannot be read.
    """
    path = checkpoint.path.with_name(CONFIG_NAME)
    if checkpoint.path.name != WEIGHTS_NAME or not path.is_file():
        return
    stated = _read_config(path)
    if stated is None or stated == checkpoint.config:
        return
    differences = [
        f"{field.name} is {getattr(stated, field.name)} there and {getattr(checkpoint.config, field.name)} here"
        for field in dataclasses.fields(HATConfig)
        if getattr(stated, field.name) != getattr(checkpoint.config, field.name)
    ]
    raise WeightsError(
        f"{path} is not of {checkpoint.path}: {'; '.join(differences)}. Take both from one save_pretrained, or remove "
        "the former: the weights state their own config"
    )


_NAMES = (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME)
"""In the order in which they take their places: the weights, which do without the others, first."""


def _read_config(path: Path) -> HATConfig | None:
    """What config.json states; None if it is another program's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("library_name") != LIBRARY:
            return None
        return config_from({name: value for name, value in content.items() if name not in _IDENTITY})
    except (ValueError, TypeError, WeightsError, RecursionError) as error:
        raise WeightsError(f"{path} is not as hat-sr writes it: {error}") from error
