"""Figures of other networks as their papers give them: quoted, never measured here."""

import importlib.resources
import tomllib
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A paper."""

    key: str
    arxiv: str
    title: str
    quoted_later: bool = False
    """Whether its figures are as tables of later papers have them, some of which it cannot have itself."""

    def __str__(self) -> str:
        later = ", as later papers quote it" if self.quoted_later else ""
        return f"[{self.key}] {self.title}, arXiv {self.arxiv}{later}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One network's figures at one scale."""

    name: str
    scale: int
    num_parameters: int | None
    reference: Reference
    psnr: dict[str, float]
    """PSNR on Y in dB, by set; without the sets for which none was found."""


def published_figures(scale: int, sets: list[str]) -> list[Published]:
    """The figures at a scale on at least one of these sets, as `published.toml` orders them."""
    table = tomllib.loads((importlib.resources.files("hat_sr.evaluate") / "published.toml").read_text(encoding="utf-8"))
    references = {key: Reference(key=key, **fields) for key, fields in table["references"].items()}
    return [
        Published(
            name=figures["name"],
            scale=scale,
            num_parameters=figures.get("num_parameters"),
            reference=references[figures["cite"]],
            psnr=figures["psnr"],
        )
        for figures in table["figures"]
        if figures["scale"] == scale and set(sets) & set(figures["psnr"])
    ]
