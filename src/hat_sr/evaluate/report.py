"""Benchmark results as text: a Markdown table, which also reads well in a terminal, and JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hat_sr.evaluate.benchmark import ImageResult, Score, mean_score
from hat_sr.evaluate.dataset import Dataset

METRIC = "PSNR (dB) and SSIM on Y of BT.601 from 8-bit RGB, gray scored as RGB, borders of one scale cropped"
"""What the figures are, in one phrase."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All results on one data set."""

    model: str
    """A label for what was scored."""
    dataset: Dataset
    results: tuple[ImageResult, ...]

    @property
    def mean(self) -> Score:
        """The model's mean score."""
        return mean_score([result.model for result in self.results])

    @property
    def mean_bicubic(self) -> Score:
        """Bicubic's mean score."""
        return mean_score([result.bicubic for result in self.results])

    @property
    def below_bicubic(self) -> tuple[str, ...]:
        """Names of the images on which the model's PSNR is lower than bicubic's."""
        return tuple(result.name for result in self.results if result.model.psnr < result.bicubic.psnr)


def to_markdown(report: Report) -> str:
    """One aligned Markdown table with a row per image and the mean, and what was measured and how around it."""
    rows = [(result.name, result.model, result.bicubic) for result in report.results]
    rows.append(("mean", report.mean, report.mean_bicubic))
    header = ("image", "PSNR", "SSIM", "bicubic PSNR", "bicubic SSIM")
    cells = [
        (name, f"{model.psnr:.2f}", f"{model.ssim:.4f}", f"{bicubic.psnr:.2f}", f"{bicubic.ssim:.4f}")
        for name, model, bicubic in rows
    ]
    table = markdown_table(header, cells)
    data = report.dataset
    below = ", ".join(report.below_bicubic) or "none"
    return (
        f"{data.name} ×{data.scale}, {report.model}. Low-resolution images: {data.lr_source}.\n\n"
        f"{table}\n\n{METRIC}. Images below bicubic: {below}.\n"
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table without a newline behind it: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(_row(row, widths) for row in (header, rule, *rows))


def to_json(reports: list[Report]) -> str:
    """A JSON object with a list of data sets, each with its images and mean; an infinite PSNR is null."""
    return json.dumps({"metric": METRIC, "datasets": [_as_dict(report) for report in reports]}, indent=2) + "\n"


def _row(cells: Sequence[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"


def _as_dict(report: Report) -> dict[str, object]:
    return {
        "dataset": report.dataset.name,
        "scale": report.dataset.scale,
        "lr": report.dataset.lr_source,
        "model": report.model,
        "mean": _scores(report.mean, report.mean_bicubic),
        "images": [{"name": result.name, **_scores(result.model, result.bicubic)} for result in report.results],
        "below_bicubic": list(report.below_bicubic),
    }


def _scores(model: Score, bicubic: Score) -> dict[str, float | None]:
    return {
        "psnr": _finite(model.psnr),
        "ssim": model.ssim,
        "bicubic_psnr": _finite(bicubic.psnr),
        "bicubic_ssim": bicubic.ssim,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
