"""A figure as in the paper: the picture with the window; beside it what each network used, below what it made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hat_sr.errors import ConfigError, InputError, require
from hat_sr.files import replacing
from hat_sr.lam.attribution import Attribution, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".pdf", ".svg")
"""Kinds of files that are written."""

DETAIL_WINDOWS = 4
"""Side of the details, in windows."""

FAINTEST = 1e-3
"""Contributions of this part of the largest, and smaller ones, have no colour."""

_COLUMN_INCHES = 2.2
_TEXT_INCHES = 0.9
_DOTS_PER_INCH = 120
_RED = (0.8, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One network's column."""

    title: str
    attribution: Attribution
    caption: str
    """Written beneath; may have several lines."""


def check_figure_path(path: Path) -> None:
    """Raise what `draw_figure` would raise for this path, before any work.

    ConfigError for another suffix, InputError if the folder is missing, MissingExtraError without matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: a figure is written as {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: make it first")
    require("matplotlib.figure", extra="lam")


def draw_figure(path: Path, *, lr: Tensor, hr: Tensor | None, panels: Sequence[Panel]) -> None:
    """Write the figure.

    lr: (1, 3, h, w) and hr: (1, 3, s·h, s·w), float in [0, 1]; without hr, the first column shows lr. panels: one or
    more, of this lr and one window. Above, each map in red over the gray lr, on a logarithmic scale: full for the
    map's largest contribution, nothing from FAINTEST times it down. Below, the details around the window.

    Raises as `check_figure_path`, and OSError if the file cannot be written.
    """
    check_figure_path(path)
    window = panels[0].attribution.window
    scale = panels[0].attribution.sr.shape[-1] // lr.shape[-1]
    picture = lr.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1) if hr is None else hr

    aspect = lr.shape[-2] / lr.shape[-1]
    size = (_COLUMN_INCHES * (len(panels) + 1), _COLUMN_INCHES * (aspect + 1) + _TEXT_INCHES)
    new_figure = require("matplotlib.figure", extra="lam").Figure
    figure = new_figure(size, dpi=_DOTS_PER_INCH, layout="compressed")
    above, below = figure.subplots(2, len(panels) + 1, height_ratios=(aspect, 1))
    _show(above[0], picture, title="low resolution" if hr is None else "original", box=window)
    _show(below[0], _detail(picture, window))
    for number, panel in enumerate(panels, start=1):
        over_lr = _in_red(lr, panel.attribution.map_HW)
        _show(above[number], over_lr, title=panel.title, box=window, box_scale=scale)
        _show(below[number], _detail(panel.attribution.sr, window), caption=panel.caption)
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), bbox_inches="tight")


def _in_red(lr: Tensor, map_HW: Tensor) -> Tensor:
    """The image, gray and pale, with the map over it: (1, 3, h, w)."""
    relative = (map_HW / map_HW.max()).clamp(min=FAINTEST)
    opacity = 1 - relative.log() / torch.tensor(FAINTEST).log()
    red = torch.tensor(_RED).view(3, 1, 1)
    return (0.4 + 0.6 * lr.mean(dim=1, keepdim=True)) * (1 - opacity) + red * opacity


def _detail(x: Tensor, window: Window) -> Tensor:
    """What lies around the window, as much of it as there is."""
    height, width = x.shape[-2:]
    side = min(DETAIL_WINDOWS * window.size, height, width)
    margin = (side - window.size) // 2
    top = max(0, min(window.y - margin, height - side))
    left = max(0, min(window.x - margin, width - side))
    return x[..., top : top + side, left : left + side]


def _show(
    axes: "Axes",
    x: Tensor,
    *,
    title: str = "",
    caption: str = "",
    box: Window | None = None,
    box_scale: int = 1,
) -> None:
    """Draw (1, 3, H, W), and a box where a pixel of the image is `box_scale` pixels of the box's image."""
    axes.imshow(x[0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel(caption, fontsize="small")
    if box is not None:
        patches = require("matplotlib.patches", extra="lam")
        corner = (box.x / box_scale - 0.5, box.y / box_scale - 0.5)
        side = box.size / box_scale
        axes.add_patch(patches.Rectangle(corner, side, side, edgecolor="blue", facecolor="none"))
