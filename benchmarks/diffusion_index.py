"""Measure how far networks look: the mean diffusion index of local attribution maps over 20 fixed windows.

    python benchmarks/diffusion_index.py --data ROOT --models bicubic hat-xxs-x4 hat-xs-x4 --json FILE
    python benchmarks/diffusion_index.py --data ROOT --models experiments/networks/*.safetensors --json FILE

ROOT holds Set14 and BSD100. The windows (16×16) are those of diffusion_index_windows.tsv, each with the 256×256 pixels
of the original around it, from which the low-resolution image is made: the index depends on the image's size, so it is
the same for all. How they were chosen, by the originals alone: in every image, of the windows on a grid of 16 that
have those pixels around them, the one in which the detector finds most in the original; then the ten images of each set
where that is most. `--choose` writes that table anew.

The JSON file keeps every result: stopped, the script goes on where it was, and networks can be added
later. A file of weights goes by its name without folder and suffix. Files of other networks need spandrel: see
official_network.py.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from torch import Tensor

from hat_sr.evaluate.dataset import find_datasets
from hat_sr.evaluate.explain import Scene, as_dict, explain, open_explained, settings
from hat_sr.evaluate.pairs import read_rgb
from hat_sr.evaluate.report import markdown_table
from hat_sr.files import replacing
from hat_sr.inference.engine import Network
from hat_sr.lam.attribution import STEPS, WINDOW_SIZE, Window, detect_edges

TABLE = Path(__file__).with_name("diffusion_index_windows.tsv")

SETS = ("Set14", "BSD100")

NUM_IMAGES = 10
"""Of each set."""

CROP = 256
"""Side of the part of the original that is made smaller, in its pixels."""

MARGIN = (CROP - WINDOW_SIZE) // 2
"""The window is in the middle."""


class Place(NamedTuple):
    """A row of the table: x and y are the window's first column and row, in pixels of the whole original."""

    dataset: str
    image: str
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.image} {self.x},{self.y}"


def main() -> None:
    """Choose windows, or measure and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Set14 and BSD100")
    parser.add_argument("--models", nargs="+", default=[], help="names as for hat-sr lam, all of one factor")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", type=Path, help="file of all figures, read first if there is one")
    parser.add_argument("--choose", action="store_true", help="write the table of windows and measure nothing")
    arguments = parser.parse_args()
    originals = find_originals(arguments.data)
    if arguments.choose:
        write_places([place for name in SETS for place in chosen(name, originals)])
    elif arguments.models:
        networks = open_explained(arguments.models)
        print(means(measured(originals, networks, steps=arguments.steps, file=arguments.json)))
    else:
        parser.error("name networks with --models, or choose windows with --choose")


def find_originals(root: Path) -> dict[tuple[str, str], Path]:
    """The files of both sets by set and name."""
    return {(name, pair.name): pair.hr for name in SETS for pair in find_datasets(root / name, 1)[0].pairs}


def chosen(dataset: str, originals: dict[tuple[str, str], Path]) -> list[Place]:
    """The windows of a set, by the rule above, in the order of the images."""
    best = []
    for (name, image), path in originals.items():
        if name == dataset:
            hr = read_rgb(path) / 255
            found = [(detect_edges(hr, window).item(), Place(name, image, window.x, window.y)) for window in grid(hr)]
            best += [max(found)] if found else []
    return sorted(place for _, place in sorted(best)[-NUM_IMAGES:])


def grid(hr: Tensor) -> list[Window]:
    """The windows of an image that have enough pixels around them."""
    height, width = hr.shape[-2:]
    return [
        Window(x=x, y=y)
        for y in range(0, height - WINDOW_SIZE - MARGIN + 1, WINDOW_SIZE)
        for x in range(0, width - WINDOW_SIZE - MARGIN + 1, WINDOW_SIZE)
        if min(x, y) >= MARGIN
    ]


def write_places(places: list[Place]) -> None:
    """Write the table."""
    with TABLE.open("w", newline="") as file:
        csv.writer(file, "excel-tab", lineterminator="\n").writerows([Place._fields, *places])


def read_places() -> list[Place]:
    """Read the table."""
    with TABLE.open(newline="") as file:
        rows = list(csv.reader(file, "excel-tab"))[1:]
    return [Place(dataset, image, int(x), int(y)) for dataset, image, x, y in rows]


def scene_at(place: Place, originals: dict[tuple[str, str], Path], scale: int) -> Scene:
    """What lies around a window, made smaller. The window's first column and row are MARGIN there."""
    top, left = place.y - MARGIN, place.x - MARGIN
    return Scene.of_hr(
        read_rgb(originals[place.dataset, place.image])[..., top : top + CROP, left : left + CROP], scale
    )


def measured(
    originals: dict[tuple[str, str], Path], networks: Sequence[Network], *, steps: int, file: Path | None
) -> dict[str, dict[str, dict]]:
    """The figures of each network at each place, kept in the file as they come."""
    kept = {"settings": settings(steps), "crop": CROP, "scale": networks[0].scale, "models": {}}
    if file is not None and file.exists():
        old = json.loads(file.read_text())
        if {**old, "models": {}} != kept:
            raise SystemExit(f"{file} was made with other settings or another factor: give another file")
        kept = old
    for network in networks:
        figures = kept["models"].setdefault(network.name, {})
        for place in read_places():
            if str(place) in figures:
                continue
            scene = scene_at(place, originals, network.scale)
            figures[str(place)] = as_dict(explain(network, scene, Window(x=MARGIN, y=MARGIN), steps=steps))
            print(f"{network.name} {place}: {figures[str(place)]['diffusion_index']:.2f}", flush=True)
            if file is not None:
                with replacing(file) as part:
                    part.write_text(json.dumps(kept, indent=1) + "\n")
    return {network.name: kept["models"][network.name] for network in networks}


def means(results: dict[str, dict[str, dict]]) -> str:
    """A Markdown table: means over the windows, and the largest completeness error."""
    header = [
        "",
        "DI",
        *(f"DI, {name}" for name in SETS),
        "area of 95 %",
        "of 99 %",
        "PSNR",
        "of window",
        "error up to",
    ]
    rows = []
    for model, figures in results.items():
        indices = [
            fmean(each["diffusion_index"] for place, each in figures.items() if place.startswith(beginning))
            for beginning in ("", *SETS)
        ]
        areas = [fmean(each["contribution_area"][share] for each in figures.values()) for share in ("95%", "99%")]
        scores = [fmean(each[name] for each in figures.values()) for name in ("psnr", "window_psnr")]
        error = max(each["completeness_error"] for each in figures.values())
        rows.append(
            [model]
            + [f"{value:.2f}" for value in indices]
            + [f"{value:.2f} %" for value in areas]
            + [f"{value:.2f}" for value in scores]
            + [f"{error:.2%}"]
        )
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
