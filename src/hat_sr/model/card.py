"""The model card of a network: the README.md of its folder or repo, with the metadata that the Hub reads."""

import dataclasses
from collections.abc import Mapping

from hat_sr.model.hat import HAT

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


def _licence(provenance: Mapping[str, str]) -> str:
    stated = provenance.get("licence", provenance.get("license", "")).strip()
    if not stated:
        return "unknown"
    return stated.lower() if stated.lower() in LICENCES else "other"


def _row(name: str, value: str) -> str:
    """A line of a table; what would end the cell or the line is taken out of the way."""
    cells = (" ".join(text.split()).replace("|", "\\|") for text in (name, value))
    return f"| {' | '.join(cells)} |"
