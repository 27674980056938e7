"""A network as a folder, as the Hugging Face Hub has it: `model.safetensors`, `config.json` and a model card."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path

from hat_sr.checkpoints.checkpoint import Checkpoint, config_from, save_model
from hat_sr.checkpoints.hub import CONFIG_NAME, WEIGHTS_NAME, is_repo
from hat_sr.errors import InputError, WeightsError
from hat_sr.files import PART_PREFIX, what_blocks_writing
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT

CARD_NAME = "README.md"

_NAMES = (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME)
"""In the order in which they take their places: the weights, which do without the others, first."""

LIBRARY = "hat-sr"
"""How the Hub names what a model is for."""

LICENCES = frozenset(
    {
        "agpl-3.0",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-4.0",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-3.0",
        "mit",
        "openrail",
        "unlicense",
    }
)
"""The Hub's identifiers of common licences; any other text is "other" in the metadata, and in full in the card."""

_CARD = """\
---
license: {licence}
library_name: {library}
pipeline_tag: image-to-image
tags:
- image-super-resolution
- image-to-image
- hat
---

# {title}

{task} with HAT, the Hybrid Attention Transformer ([paper](https://arxiv.org/abs/2205.04437),
[journal version](https://arxiv.org/abs/2309.05239)), for hat-sr.

## Use

```
pip install 'hat-sr[hub]'
hat-sr upscale photo.jpg --model hf://{repo}
```

```python
import torch
from hat_sr import HAT, Upscaler

upscaler = Upscaler(HAT.from_pretrained("{repo}"))
sr = upscaler(torch.rand(1, {channels}, 100, 75))  # (B, C, H, W) in [0, 1] → (1, {channels}, {height}, {width})
```
{note}
## Network

| setting | value |
|---|---|
| parameters | {num_parameters:,} |
{settings}

## Where the weights come from

{origin}
"""

_NOTE = """
OWNER/REPO is the name of the repository that this file is in. The path of a folder with its files does as well, without
hf:// before it.
"""

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


def model_card(model: HAT, provenance: Mapping[str, str], *, repo_id: str | None = None) -> str:
    """The text of the card: how to use the network, what it is, where the weights come from as `provenance` says.

    `provenance["title"]` is the heading and `provenance["licence"]` the licence, if they are there. `repo_id` is the
    OWNER/REPO in the examples, which is spelt so and explained if it is None.
    """
    config = model.config
    scale = config.upscale
    stated = [_row(name, value) for name, value in provenance.items()]
    return _CARD.format(
        licence=_licence(provenance),
        library=LIBRARY,
        title=" ".join(provenance.get("title", f"HAT ×{scale}").split()),
        task="Image restoration (×1)" if scale == 1 else f"Image super-resolution ×{scale}",
        repo=repo_id or "OWNER/REPO",
        note="" if repo_id else _NOTE,
        channels=config.in_chans,
        height=100 * scale,
        width=75 * scale,
        num_parameters=sum(value.numel() for value in model.parameters()),
        settings="\n".join(_row(name, str(value)) for name, value in dataclasses.asdict(config).items()),
        origin="\n".join(["| | |", "|---|---|", *stated]) if stated else "Not stated.",
    )


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


def _read_config(path: Path) -> HATConfig | None:
    """What config.json states; None if it is another program's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("library_name") != LIBRARY:
            return None
        return config_from({name: value for name, value in content.items() if name not in _IDENTITY})
    except (ValueError, TypeError, WeightsError, RecursionError) as error:
        raise WeightsError(f"{path} is not as hat-sr writes it: {error}") from error


def _licence(provenance: Mapping[str, str]) -> str:
    stated = provenance.get("licence", provenance.get("license", "")).strip()
    if not stated:
        return "unknown"
    return stated.lower() if stated.lower() in LICENCES else "other"


def _row(name: str, value: str) -> str:
    """A line of a table; what would end the cell or the line is taken out of the way."""
    cells = (" ".join(text.split()).replace("|", "\\|") for text in (name, value))
    return f"| {' | '.join(cells)} |"
