"""Which networks a file goes through, and what is said of that."""

import re
from unittest.mock import patch

import numpy as np
import pytest
import torch

from hat_sr.checkpoints.named import FOR_PHOTOS
from hat_sr.errors import InputError
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from hat_sr.image.resize import resize
from hat_sr.inference.enlarge import Enlarger, Settings, enlarge_file
from hat_sr.inference.upscaler import Upscaler
from inference.doubles import tiny_hat

OPEN = "hat_sr.inference.enlarge.open_upscaler"


class Recorder:
    """Opens small networks in place of the bundled ones, and keeps the names of those that run."""

    def __init__(self):
        self.ran = []

    def __call__(self, name, settings, *, say):
        upscaler = Upscaler(tiny_hat(upscale=int(re.search(r"x(\d)", name)[1])), memory=settings.memory, device="cpu")
        forward = upscaler.for_tiles

        def recorded(*arguments):
            self.ran.append(name)
            return forward(*arguments)

        upscaler.for_tiles = recorded
        return upscaler


def slope(height=40, width=48):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([50 + x, 60 + y, 70 + x], axis=-1).astype(np.uint8)


def noisy(sigma, height=40, width=48, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (height, width, 3))
    return (slope(height, width) + noise).round().clip(0, 255).astype(np.uint8)


def enlarge(path, pixels=None, **settings):
    """→ the names of the networks that ran, what was said, and the result's (height, width)."""
    if pixels is not None:
        write_image(path, Image(pixels))
    recorder, said = Recorder(), []
    output = path.with_name("result.png")
    with patch(OPEN, recorder):
        Enlarger(Settings(**settings), say=said.append).enlarge(path, output)
    return list(dict.fromkeys(recorder.ran)), said, read_image(output).pixels.shape[:2]


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3, 4, 6])
def test_lossy_files_get_the_network_for_photos_at_every_factor(tmp_path, scale):
    names, said, size = enlarge(tmp_path / "a.jpg", slope(), scale=scale)
    assert names == [FOR_PHOTOS]
    assert "a.jpg is compressed with loss" in said[0]
    assert size == (40 * scale, 48 * scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_noisy_file_does_too_and_it_is_said_how_to_have_another(tmp_path, scale):
    names, said, _ = enlarge(tmp_path / "a.png", noisy(6), scale=scale)
    assert names == [FOR_PHOTOS]
    (sentence,) = said
    assert re.search(rf"a\.png: noise of about [567] of 255 levels was found, so {FOR_PHOTOS} is used", sentence)
    assert sentence.endswith(f"--model hat-xs-x{scale} takes the network for clean pictures")


@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_a_clean_file_does_not(tmp_path, sigma):
    names, said, _ = enlarge(tmp_path / "a.png", noisy(sigma), scale=2)
    assert names == ["hat-xs-x2"]
    assert said == []


def test_each_noisy_file_is_named_and_lossy_ones_once(tmp_path):
    said = []
    with patch(OPEN, Recorder()):
        enlarger = Enlarger(Settings(scale=2), say=said.append)
        for name in ("a.png", "b.png", "c.jpg", "d.jpg"):
            write_image(tmp_path / name, Image(noisy(8)))
            enlarger.enlarge(tmp_path / name, tmp_path / f"x2_{name}")
    assert [sum(name in sentence for sentence in said) for name in ("a.png", "b.png", "c.jpg", "d.jpg")] == [1, 1, 1, 0]


def test_a_network_that_is_named_runs_whatever_the_file_is(tmp_path):
    names, said, size = enlarge(tmp_path / "a.png", noisy(9), scale=3, model="hat-xs-x2")
    assert names == ["hat-xs-x2"]
    assert said == []
    assert size == (120, 144)


def test_a_result_resized_is_that_of_the_network_for_photos_made_smaller(tmp_path):
    names, _, _ = enlarge(tmp_path / "a.jpg", slope(), scale=2)
    lossy = torch.from_numpy(read_image(tmp_path / "a.jpg").pixels).permute(2, 0, 1)[None] / 255
    large = Upscaler(tiny_hat(upscale=4), device="cpu")(lossy).clamp(0, 1)
    wanted = resize(large, (80, 96))[0].permute(1, 2, 0).clamp(0, 1) * 255
    np.testing.assert_allclose(read_image(tmp_path / "result.png").pixels, wanted, atol=0.51)
    assert names == [FOR_PHOTOS]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"size": (None, 96)}, ["hat-xs-x2"]),
        ({"size": (None, 140)}, ["hat-xs-x3"]),
        ({"size": (None, 6 * 48)}, ["hat-xs-x4"]),
        ({"size": (None, 7 * 48)}, ["hat-xs-x4", "hat-xs-x2"]),
        ({"scale": 5}, ["hat-xs-x4"]),
        ({"scale": 6}, ["hat-xs-x4"]),
        ({"scale": 8}, ["hat-xs-x4", "hat-xs-x2"]),
        ({"scale": 12}, ["hat-xs-x4", "hat-xs-x3"]),
        ({"scale": 6, "model": "x4"}, ["x4"]),
    ],
)
def test_the_smallest_chain_of_networks(tmp_path, settings, names):
    found, _, size = enlarge(tmp_path / "a.png", slope(), **settings)
    assert found == names
    assert size[1] == settings.get("size", (0, 48 * settings.get("scale", 1)))[1]


def test_after_the_network_for_photos_come_those_for_clean_pictures(tmp_path):
    names, _, size = enlarge(tmp_path / "a.jpg", slope(), scale=8)
    assert names == [FOR_PHOTOS, "hat-xs-x2"]
    assert size == (320, 384)


def test_the_choice_is_the_same_when_it_is_made_on_disk(tmp_path):
    """And so is the size, with one resize at the end."""
    write_image(tmp_path / "a.png", Image(noisy(7)))
    whole = enlarge(tmp_path / "a.png", scale=2)
    in_memory = read_image(tmp_path / "result.png").pixels.astype(float)
    names, said, size = enlarge(tmp_path / "a.png", scale=2, memory=100_000)
    assert any("strip by strip" in sentence for sentence in said)
    assert (names, said[0], size) == (whole[0], whole[1][0], whole[2])
    assert np.abs(read_image(tmp_path / "result.png").pixels - in_memory).mean() < 1  # of tiles: not quite the same


def test_several_networks_do_not_run_on_disk(tmp_path):
    write_image(tmp_path / "a.png", Image(slope()))
    with pytest.raises(InputError, match=r"through 2 networks take .* use --scale 4, and enlarge it again"):
        enlarge(tmp_path / "a.png", scale=8, memory=100_000)


def test_the_identity_names_every_network_that_may_run():
    def identity(**settings):
        with patch(OPEN, Recorder()):
            return Enlarger(Settings(**settings)).identity()["network"]

    assert identity(scale=2).count(",") == 1  # ×2 and the one for photos
    assert identity(scale=8).count(",") == 2
    assert identity(size=(None, 500)).count(",") == 3
    assert "noise from" in identity(scale=2)
    assert "noise" not in identity(scale=2, model="hat-xs-x2")


def test_one_call_from_file_to_file(tmp_path, caplog):
    write_image(tmp_path / "a.png", Image(noisy(7, 40, 40)))
    caplog.set_level("INFO", "hat_sr")
    enlarge_file(str(tmp_path / "a.png"), tmp_path / "new" / "b.tif", size=(None, 60), device="cpu")
    assert read_image(tmp_path / "new" / "b.tif").pixels.shape == (60, 60, 3)
    assert f"{FOR_PHOTOS} is used" in caplog.text
