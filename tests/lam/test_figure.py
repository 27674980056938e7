import subprocess
import sys

import numpy as np
import pytest
import torch

from hat_sr.errors import ConfigError, InputError
from hat_sr.image.io import read_image
from hat_sr.lam.attribution import Window, local_attribution_map
from hat_sr.lam.figure import Panel, check_figure_path, draw_figure
from inference.doubles import blurred, nearest, random_image


def panel(lr, upscale=None, window=None, **changes):
    found = local_attribution_map(upscale or nearest(2), lr, window or Window(x=10, y=6, size=8), steps=2)
    return Panel(**{"title": "nearest", "caption": "DI 1.23\nPSNR 20.00 dB", "attribution": found, **changes})


def pixels(path):
    return read_image(path).pixels[..., :3].astype(int)


def is_red(picture):
    return (picture[..., 0] > 150) & (picture[..., 1:].max(axis=2) < 60)


def is_blue(picture):
    return (picture[..., 2] > 200) & (picture[..., :2].max(axis=2) < 60)


def test_a_network_with_a_wider_reach_is_redder(tmp_path):
    lr = random_image(1, 3, 20, 30)
    for name, upscale in (("narrow", nearest(2)), ("wide", blurred(2, 5))):
        draw_figure(tmp_path / f"{name}.png", lr=lr, hr=random_image(1, 3, 40, 60), panels=[panel(lr, upscale)])
    narrow, wide = (is_red(pixels(tmp_path / f"{name}.png")).sum() for name in ("narrow", "wide"))
    assert 0 < narrow < wide


def test_the_window_is_boxed_in_the_picture_and_on_the_map(tmp_path):
    lr = torch.full((1, 3, 24, 24), 0.4)
    lr[..., 4:9, 8:12] = 0.9
    window = Window(x=12, y=6, size=12)
    draw_figure(tmp_path / "a.png", lr=lr, hr=nearest(2)(lr), panels=[panel(lr, window=window)])
    columns = np.flatnonzero(is_blue(pixels(tmp_path / "a.png")).sum(axis=0) > 30)
    edges = [columns[0], *(columns[1:][np.diff(columns) > 5])]
    assert len(edges) == 4
    # Half a picture is 24 pixels of the result, so the box is a quarter of a picture wide: in either.
    first, second = edges[1] - edges[0], edges[3] - edges[2]
    assert abs(first - second) <= 2 and abs((edges[2] - edges[0]) - 4 * first) < 0.2 * 4 * first


@pytest.mark.parametrize("hr", [None, random_image(1, 3, 22, 14)])
def test_odd_sizes_and_windows_at_the_edge(tmp_path, hr):
    lr = random_image(1, 3, 11, 7)
    draw_figure(tmp_path / "a.png", lr=lr, hr=hr, panels=[panel(lr, window=Window(x=0, y=16, size=5))] * 3)
    assert pixels(tmp_path / "a.png").std() > 20


@pytest.mark.parametrize(("suffix", "begins"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_kinds_of_files(tmp_path, suffix, begins):
    lr = random_image(1, 3, 20, 30)
    draw_figure(tmp_path / f"a.{suffix}", lr=lr, hr=None, panels=[panel(lr)])
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{suffix}"]


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.jpg: a figure is written as \.png"):
        check_figure_path(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="there is no folder"):
        check_figure_path(tmp_path / "none/a.png")


def test_without_matplotlib(tmp_path):
    code = f"""
import sys, pathlib
sys.modules["matplotlib"] = None
from hat_sr.errors import MissingExtraError
from hat_sr.lam.figure import check_figure_path
try:
    check_figure_path(pathlib.Path({str(tmp_path)!r}) / "a.png")
except MissingExtraError as error:
    sys.exit("pip install 'hat-sr[lam]'" not in str(error))
sys.exit(2)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
