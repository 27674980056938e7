"""Benchmark results as tables: rows for whoever shows them, Markdown, and JSON."""

import importlib.resources
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hat_sr.evaluate.benchmark import Score, mean_score
from hat_sr.evaluate.compare import BICUBIC, Compared
from hat_sr.evaluate.dataset import Dataset


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


METRIC = "PSNR (dB) and SSIM on Y of BT.601 from 8-bit RGB, gray scored as RGB, borders of one scale cropped"
"""What the figures are, in one phrase."""

EXTRAS = {"st_lpips": "ST-LPIPS (AlexNet)", "niqe": "NIQE"}
"""What the figures after those are, where they were asked for: of whole images, lower for better ones."""

NONE = "–"
"""What stands in a table where there is no figure."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All results on one data set at one scale."""

    dataset: Dataset
    check: str
    """What its check found, as a phrase."""
    lr: str
    """Where the low-resolution images come from, as a phrase."""
    num_parameters: dict[str, int | None]
    """By entrant, in the order they were named, without bicubic."""
    images: tuple[Compared, ...]

    @property
    def title(self) -> str:
        """The set and the scale."""
        return f"{self.dataset.name} ×{self.dataset.scale}"

    @property
    def means(self) -> dict[str, Score]:
        """The mean scores, by entrant, bicubic first."""
        return {
            name: mean_score([image.scores[name] for image in self.images]) for name in (BICUBIC, *self.num_parameters)
        }

    def below_bicubic(self, name: str) -> list[str]:
        """The images on which an entrant's PSNR is lower than bicubic's."""
        return [image.name for image in self.images if image.scores[name].psnr < image.scores[BICUBIC].psnr]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network in a table."""

    name: str
    num_parameters: int | None
    reference: Reference | None
    """Where the figures are quoted from; None if they were measured."""
    cells: tuple[str, ...]
    """A text for each set."""

    @property
    def label(self) -> str:
        """The name, with the key of the paper if the figures are quoted."""
        return self.name if self.reference is None else f"{self.name}, quoted [{self.reference.key}]"

    @property
    def size(self) -> str:
        """The number of parameters, in millions."""
        return NONE if self.num_parameters is None else f"{self.num_parameters / 1e6:.2f} M"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The mean scores at one scale: a row for each network, a cell for each set."""

    scale: int
    sets: tuple[str, ...]
    rows: tuple[Row, ...]
    """By PSNR on the first set; those without a figure there are last."""


def summaries(reports: Sequence[Report], *, published: bool = False) -> list[Summary]:
    """A table for each scale, with the figures of papers in it if they are wanted."""
    return [
        _summary([report for report in reports if report.dataset.scale == scale], published)
        for scale in dict.fromkeys(report.dataset.scale for report in reports)
    ]


def _summary(reports: list[Report], published: bool) -> Summary:
    sets = [report.dataset.name for report in reports]
    rows: list[tuple[float, Row]] = []
    for name, first in reports[0].means.items():
        cells = tuple(str(report.means[name]) for report in reports)
        size = reports[0].num_parameters.get(name)
        rows.append((first.psnr, Row(name=name, num_parameters=size, reference=None, cells=cells)))
    for figures in published_figures(reports[0].dataset.scale, sets) if published else []:
        cells = tuple(f"{figures.psnr[name]:.2f}" if name in figures.psnr else NONE for name in sets)
        row = Row(name=figures.name, num_parameters=figures.num_parameters, reference=figures.reference, cells=cells)
        rows.append((figures.psnr.get(sets[0], math.inf), row))
    rows.sort(key=lambda row: row[0])
    return Summary(scale=reports[0].dataset.scale, sets=tuple(sets), rows=tuple(row for _, row in rows))


def notes(reports: Sequence[Report], *, published: bool = False) -> list[str]:
    """What belongs below the tables: what was measured on what, and which images are below bicubic."""
    lines = [f"{METRIC}."]
    score = next(iter(reports[0].means.values()))
    if extras := [phrase for name, phrase in EXTRAS.items() if getattr(score, name) is not None]:
        lines.append(f"Then {' and '.join(extras)} of whole images, lower for better ones.")
    for report in reports:
        below = "; ".join(
            f"{name}: {', '.join(images)}" for name in report.num_parameters if (images := report.below_bicubic(name))
        )
        lines.append(
            f"{report.title}: {report.check}. Low-resolution images: {report.lr}. Below bicubic: {below or 'none'}."
        )
    rows = [row for summary in summaries(reports, published=published) for row in summary.rows]
    return lines + [
        f"Quoted, PSNR alone: {line}." for line in dict.fromkeys(str(r.reference) for r in rows if r.reference)
    ]


def to_markdown(reports: Sequence[Report], *, published: bool = False) -> str:
    """Tables of means, notes, and a table for each set with a row for each image."""
    parts = []
    for summary in summaries(reports, published=published):
        header = (f"×{summary.scale}", "parameters", *summary.sets)
        parts.append(markdown_table(header, [(row.label, row.size, *row.cells) for row in summary.rows]))
    parts.append("\n".join(f"- {note}" for note in notes(reports, published=published)))
    for report in reports:
        rows = [(image.name, *map(str, image.scores.values())) for image in report.images]
        rows.append(("mean", *map(str, report.means.values())))
        parts.append(markdown_table((report.title, *report.means), rows))
    return "\n\n".join(parts) + "\n"


def to_json(reports: Sequence[Report], *, published: bool = False) -> str:
    """A JSON object with a list of data sets, each with its images and means; an infinite PSNR is null."""
    scales = dict.fromkeys(report.dataset.scale for report in reports)
    sets = [report.dataset.name for report in reports]
    quoted = [figures for scale in scales for figures in published_figures(scale, sets)] if published else []
    content = {
        "metric": METRIC,
        "datasets": [_as_dict(report) for report in reports],
        "published": [_quoted(figures, sets) for figures in quoted],
    }
    return json.dumps(content, indent=2) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table without a newline behind it: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(_line(row, widths) for row in (header, rule, *rows))


def _line(cells: Sequence[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "dataset": report.dataset.name,
        "scale": report.dataset.scale,
        "check": report.check,
        "lr": report.lr,
        "degraded": None if report.dataset.degraded is None else report.dataset.degraded._asdict(),
        "models": [
            {
                "name": name,
                "num_parameters": report.num_parameters.get(name),
                **_scores(mean),
                "below_bicubic": report.below_bicubic(name),
            }
            for name, mean in report.means.items()
        ],
        "images": [
            {"name": image.name, "scores": {name: _scores(score) for name, score in image.scores.items()}}
            for image in report.images
        ],
    }


def _quoted(figures: Published, sets: list[str]) -> dict[str, object]:
    return {
        "name": figures.name,
        "scale": figures.scale,
        "num_parameters": figures.num_parameters,
        "cite": str(figures.reference),
        "psnr": {name: value for name, value in figures.psnr.items() if name in sets},
    }


def _scores(score: Score) -> dict[str, float | None]:
    given = {name: value for name, value in asdict(score).items() if value is not None}
    return {**given, "psnr": score.psnr if math.isfinite(score.psnr) else None}
