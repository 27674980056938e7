"""Benchmark results as one HTML page that needs nothing else: tables, details side by side, and sliders.

The frame, with its style and the few lines of script behind the sliders, is `page.html`.
"""

import base64
import importlib.resources
from collections.abc import Sequence
from html import escape

from hat_sr.evaluate.benchmark import Score
from hat_sr.evaluate.compare import BICUBIC, ORIGINAL, RULE, Compared
from hat_sr.evaluate.report import Report, Summary, notes, summaries

MOST_IMAGES = 12
"""How many images of a set are shown: a page of all of BSD100 would be of many MB."""


def to_html(reports: Sequence[Report], *, published: bool = False) -> str:
    """The page. Pictures are in it as data; nothing is loaded from anywhere."""
    sets = dict.fromkeys(report.dataset.name for report in reports)
    scales = dict.fromkeys(f"×{report.dataset.scale}" for report in reports)
    title = f"Benchmark: {', '.join(sets)} at {', '.join(scales)}"
    parts = [f"<h1>{escape(title)}</h1>"]
    for summary in summaries(reports, published=published):
        own = [report for report in reports if report.dataset.scale == summary.scale]
        parts += ["<section>", _table(summary), _choices(own[0]), *map(_set, own), "</section>"]
    parts.append("<h2>Notes</h2>\n<ul>")
    parts += [f"<li>{escape(note)}</li>" for note in notes(reports, published=published)]
    parts.append(f"<li>Details: {escape(RULE)}, each pixel enlarged.</li>\n</ul>")
    frame = (importlib.resources.files("hat_sr.evaluate") / "page.html").read_text(encoding="utf-8")
    return frame.replace("{{title}}", escape(title)).replace("{{body}}", "\n".join(parts))


def shown_images(report: Report) -> list[Compared]:
    """The images that are shown: all, or so many at even steps from the least to the largest gain over bicubic.

    The gain is that of the entrant that was named first. In the report's order.
    """
    if len(report.images) <= MOST_IMAGES:
        return list(report.images)
    first = next(iter(report.num_parameters), BICUBIC)
    ranked = sorted(report.images, key=lambda image: image.scores[first].psnr - image.scores[BICUBIC].psnr)
    steps = [round(index * (len(ranked) - 1) / (MOST_IMAGES - 1)) for index in range(MOST_IMAGES)]
    chosen = {ranked[step].name for step in steps}
    return [image for image in report.images if image.name in chosen]


def _table(summary: Summary) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("network", "parameters", *summary.sets))
    rows = "\n".join(
        f'<tr class="{"measured" if row.reference is None else "quoted"}"><th scope="row">{escape(row.label)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in (row.size, *row.cells))
        + "</tr>"
        for row in summary.rows
    )
    return (
        f'<h2>Scale ×{summary.scale}</h2>\n<div class="wide" tabindex="0" role="region" '
        f'aria-label="Mean scores at ×{summary.scale}">\n<table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _choices(report: Report) -> str:
    """What the sliders of a scale compare: bicubic with the network that was named last, until others are chosen."""
    names = (BICUBIC, *report.num_parameters, ORIGINAL)

    def select(label: str, chosen: int) -> str:
        options = "".join(
            f'<option value="{index}"{" selected" if index == chosen else ""}>{escape(name)}</option>'
            for index, name in enumerate(names)
        )
        return f"<label>{label} <select>{options}</select></label>"

    left, right = select("left", 0), select("right", len(names) - 2 or 1)
    return f"<fieldset hidden><legend>In the sliders</legend>{left}{right}</fieldset>"


def _set(report: Report) -> str:
    shown = shown_images(report)
    total = len(report.images)
    text = f"{len(shown)} of {total} images, at even steps from the least to the largest gain over bicubic"
    note = "" if len(shown) == total else f"<p>{escape(text)}</p>\n"
    return f"<h3>{escape(report.title)}</h3>\n{note}" + "\n".join(map(_article, shown))


def _article(image: Compared) -> str:
    figures = "\n".join(
        _figure(image.name, name, detail, image.scores.get(name)) for name, detail in image.details.items()
    )
    slider = (
        '<figure hidden><div class="slider"><img class="left" alt=""><img class="right" alt="">'
        '<input type="range" min="0" max="100" value="50" aria-label="divider"></div>'
        "<figcaption></figcaption></figure>"
    )
    return f'<article>\n<h4>{escape(image.name)}</h4>\n<div class="details">\n{slider}\n{figures}\n</div>\n</article>'


def _figure(image: str, name: str, detail: bytes, score: Score | None) -> str:
    data = base64.b64encode(detail).decode()
    scored = "" if score is None else f"<br>{score}"
    return (
        f'<figure data-name="{escape(name)}"><img src="data:image/webp;base64,{data}" '
        f'alt="{escape(f"detail of {image}: {name}")}"><figcaption>{escape(name)}{scored}</figcaption></figure>'
    )
