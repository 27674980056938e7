"""`hat-sr lam`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from hat_sr.checkpoints.named import AUTO, DEFAULT_SCALE, bundled_for
from hat_sr.cli.messages import say
from hat_sr.cli.parsing import parse_names
from hat_sr.cli.progress import progress_bars
from hat_sr.errors import InputError
from hat_sr.evaluate.explain import SHARES, Explained, Scene, explain, open_explained, to_json
from hat_sr.evaluate.report import markdown_table
from hat_sr.files import replacing
from hat_sr.lam.attribution import STEPS, WINDOW_SIZE, Window
from hat_sr.lam.figure import Panel, check_figure_path, draw_figure

LARGEST_ERROR = 0.01
"""Completeness error above which people are told."""


def lam(
    image: Path,
    /,
    *,
    window: str,
    models: Annotated[Sequence[str], Parameter(alias=("--model", "-m"), negative="")] = (AUTO,),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    json: Path | None = None,
    lr: Annotated[bool, Parameter(negative="")] = False,
    steps: int = STEPS,
    device: str = "auto",
) -> None:
    """Show which pixels networks use for a part of a picture: local attribution maps (arXiv 2011.11036).

    Parameters
    ----------
    image
        The high-resolution picture. The low-resolution one is made from it by MATLAB's bicubic, as in papers.
    window
        X,Y or X,Y,SIZE: the part to explain, in pixels of the high-resolution picture; its first column and row are X
        and Y, and its side is SIZE or 16.
    models
        As in hat-sr upscale but for exported files, with commas between several, or the option several times; all of
        one factor. auto is the bundled one for ×4.
    output
        Where to draw the figure: .png, .pdf or .svg. Without it none is drawn. An existing file is replaced.
    json
        Where to write all figures as JSON. An existing file is replaced.
    lr
        The picture given is itself the low-resolution one: there is no PSNR, and the window is in pixels of the result.
    steps
        Steps from the blurred picture to the picture itself: more take longer and are more exact.
    device
        As in hat-sr upscale.
    """
    square = _window(window)
    if output is not None:
        check_figure_path(output)
    if json is not None and not json.parent.is_dir():
        raise InputError(f"{json}: there is no folder {json.parent}: make it first")
    names = [bundled_for(DEFAULT_SCALE) if name == AUTO else name for name in parse_names(models)]
    names = list(dict.fromkeys(names))
    networks = open_explained(names, device=device)
    scale = networks[0].scale
    scene = Scene.read(image, scale, is_lr=lr)
    square.check(*(scale * side for side in scene.lr.shape[-2:]))

    results = []
    with progress_bars(Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(networks) * (steps + 1))
        for network in networks:
            progress.update(task, description=network.name)
            results.append(
                explain(network, scene, square, steps=steps, progress=lambda _done, _total: progress.advance(task))
            )
    print(_table(results))
    for each in results:
        if (error := each.attribution.completeness_error) > LARGEST_ERROR:
            say(
                f"{each.name}: the completeness error is {error:.2%}, so its map is not exact: more --steps than "
                f"{steps} make it smaller"
            )
    if json is not None:
        with replacing(json) as part:
            part.write_text(to_json(results, scene, image=image, scale=scale, window=square, steps=steps))
    if output is not None:
        panels = [Panel(title=each.name, attribution=each.attribution, caption=_caption(each)) for each in results]
        hr = None if scene.hr is None else scene.hr / 255
        draw_figure(output, lr=scene.lr / 255, hr=hr, panels=panels)


def _window(text: str) -> Window:
    numbers = text.split(",")
    try:
        x, y, size = (int(number) for number in (*numbers, str(WINDOW_SIZE))[: max(3, len(numbers))])
    except ValueError as error:
        raise InputError(f"window {text!r}: X,Y or X,Y,SIZE is accepted, whole numbers such as 120,80,16") from error
    return Window(x=x, y=y, size=size)


def _caption(explained: Explained) -> str:
    index = f"DI {explained.attribution.diffusion_index:.2f}"
    if explained.psnr is None:
        return index
    return f"{index}, PSNR {explained.psnr:.2f} dB\n(window {explained.window_psnr:.2f} dB)"


def _table(results: list[Explained]) -> str:
    areas = [f"area of {share:.0%}" for share in SHARES]
    header = ["model", "DI", *areas, "PSNR", "PSNR of window", "completeness error"]
    rows = [
        [
            each.name,
            f"{each.attribution.diffusion_index:.2f}",
            *(f"{each.attribution.contribution_area(share):.2f} %" for share in SHARES),
            "–" if each.psnr is None else f"{each.psnr:.2f}",
            "–" if each.window_psnr is None else f"{each.window_psnr:.2f}",
            f"{each.attribution.completeness_error:.2%}",
        ]
        for each in results
    ]
    return markdown_table(header, rows)
