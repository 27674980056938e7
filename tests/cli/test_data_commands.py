"""`hat-sr data`: what is printed, and the exit codes."""

import numpy as np
import pytest
import torch

from cli.running import run, write_noise
from hat_sr.checkpoints.named import load_model
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.upscaler import Upscaler
from train.small import make_photos

RECIPE = """
[model]
upscale = 2
embed_dim = 12
depths = [2]
num_heads = [2]
window_size = 8
squeeze_factor = 4

[data]
patch_size = 8
sources = [{path = "a"}, {path = "b"}]

[optim]
total_steps = 1
"""


@pytest.fixture
def photos(tmp_path):
    write_noise(tmp_path / "photos" / "a.png", 20, 30)
    write_noise(tmp_path / "photos" / "n01" / "a.png", 24, 18)
    return tmp_path / "photos"


def test_check_of_a_good_folder(photos, monkeypatch, capsys):
    assert run(monkeypatch, "data", "check", photos, "--scale", "2", "--patch-size", "9") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{photos}: 2 images can be used, 0 cannot; 0.0 megapixels".split()
    assert lines[1] == ["width", "18", "to", "30", "pixels,", "median", "18"]
    assert lines[2] == ["height", "20", "to", "24", "pixels,", "median", "20"]
    assert len(lines) == 3


def test_check_names_what_cannot_be_used_and_what_is_there_twice(photos, monkeypatch, capsys):
    (photos / "copy.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "b.jpg").write_text("no image")
    assert run(monkeypatch, "data", "check", photos, "--scale", "2", "--patch-size", "10") == 1
    out = capsys.readouterr().out
    assert "2 images can be used, 2 cannot" in out
    assert f"cannot be used: {photos}/b.jpg: " in out
    assert f"cannot be used: {photos}/n01/a.png is 18×24: a side is below 20 pixels" in out
    assert f"  {photos}/a.png = {photos}/copy.png\n" in out


def test_check_against_a_benchmark(photos, tmp_path, monkeypatch, capsys):
    """A flipped copy, compressed with loss, is found; the exit code says so."""
    pixels = read_image(photos / "a.png").pixels
    (tmp_path / "bench").mkdir()
    write_noise(tmp_path / "bench" / "b.png", 40, 40)
    words = ("data", "check", photos, "--against", tmp_path / "bench")
    assert run(monkeypatch, *words) == 0
    assert f"look like one of 1 images of {tmp_path}/bench: none" in capsys.readouterr().out
    write_image(tmp_path / "bench" / "copy.jpg", Image(np.ascontiguousarray(pixels[:, ::-1])), quality=90)
    assert run(monkeypatch, *words) == 1
    out = capsys.readouterr().out
    assert f"look like one of 2 images of {tmp_path}/bench: 1" in out
    assert f"{photos}/a.png = {tmp_path}/bench/copy.jpg (their hashes differ in " in out
    (tmp_path / "bench" / "copy.jpg").write_text("no image")
    assert run(monkeypatch, *words) == 1
    assert f"not compared: {tmp_path}/bench/copy.jpg: " in capsys.readouterr().out


def test_check_of_a_folder_of_nothing_usable(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("no image")
    assert run(monkeypatch, "data", "check", tmp_path / "photos") == 1
    assert "0 images can be used, 1 cannot" in capsys.readouterr().out


def test_check_of_a_recipe_reads_all_its_sources(tmp_path, monkeypatch, capsys):
    write_noise(tmp_path / "a" / "1.png", 20, 30)
    write_noise(tmp_path / "b" / "2.png", 15, 30)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    assert run(monkeypatch, "data", "check", recipe, "--data.root", tmp_path) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path}/a: 1 images can be used, 0 cannot" in out
    assert f"{tmp_path}/b: 0 images can be used, 1 cannot" in out
    assert "2.png is 30×15: a side is below 16 pixels" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere"], 1, "nowhere does not exist or is empty"),
        (["nowhere.toml"], 2, "nowhere.toml does not exist"),
        (["{000..001}.tar"], 1, "2 of 2 shards do not exist"),
        (["photos", "--scale", "2"], 2, "go together"),
        (["photos", "--data.root", "x"], 2, "settings are for a recipe"),
        (["recipe.toml", "--scale", "2"], 2, "are in the recipe"),
    ],
    ids=str,
)
def test_checks_that_cannot_be(photos, monkeypatch, capsys, words, code, says):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "recipe.toml").write_text(RECIPE)
    assert run(monkeypatch, "data", "check", *words) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "lmdb", "webdataset"])
def test_prepare_and_check(photos, tmp_path, monkeypatch, capsys, kind):
    words = ["data", "prepare", photos, tmp_path / "out", "--to", kind, "--crop", "16", "--step", "8"]
    assert run(monkeypatch, *words) == 0
    # 20×30 has 2 rows of 3; 24×18 has 2 rows of 2.
    assert f"2 of 2 images done: 10 image files in {tmp_path}/out" in capsys.readouterr().out
    assert run(monkeypatch, *words) == 0
    assert "2 of 2 images done, 2 of them before: 10 image files" in capsys.readouterr().out
    stored = tmp_path / "out" / "000000.tar" if kind == "webdataset" else tmp_path / "out"
    assert run(monkeypatch, "data", "check", stored) == 0
    assert "10 images can be used" in capsys.readouterr().out


def test_prepare_tells_the_pattern_of_shards(photos, tmp_path, monkeypatch, capsys):
    words = ["data", "prepare", photos, tmp_path / "out", "--to", "webdataset", "--shard-size", "1KB"]
    assert run(monkeypatch, *words) == 0
    pattern = f"{tmp_path}/out/{{000000..000001}}.tar"
    assert f'path = "{pattern}"' in capsys.readouterr().out
    assert run(monkeypatch, "data", "check", pattern) == 0


def test_prepare_makes_smaller(photos, tmp_path, monkeypatch, capsys):
    words = ["data", "prepare", photos, tmp_path / "out", "--shrink", "1.5", "--max-width", "15"]
    assert run(monkeypatch, *words) == 0
    assert run(monkeypatch, "data", "check", tmp_path / "out") == 0
    assert "width   12 to 15 pixels" in capsys.readouterr().out


def test_prepare_goes_on_after_an_unusable_image(photos, tmp_path, monkeypatch, capsys):
    (photos / "b.jpg").write_text("no image")
    assert run(monkeypatch, "data", "prepare", photos, tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "2 of 3 images done" in printed.out
    assert f"failed: {photos}/b.jpg: " in printed.err
    assert (tmp_path / "out" / "n01" / "a.png").is_file()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere", "out"], 1, "nowhere does not exist or is empty"),
        (["photos", "photos/out"], 2, "outside of it"),
        (["photos", "."], 2, "not empty"),
        (["photos", "out", "--shard-size", "much"], 2, "'much' is no size"),
        (["photos", "out", "--shrink", "0.5"], 2, "shrink 0.5"),
        (["photos", "out", "--to", "zip"], 2, ""),
        (["x.tar", "out"], 2, "shards are prepared already"),
    ],
    ids=str,
)
def test_preparations_that_cannot_be(photos, monkeypatch, capsys, words, code, says):
    monkeypatch.chdir(photos.parent)
    assert run(monkeypatch, "data", "prepare", *words) == code
    assert says in capsys.readouterr().err
    assert not (photos.parent / "out").exists()


def test_label_writes_what_a_teacher_makes_of_patches(photos, tmp_path, monkeypatch, capsys):
    """Folders in place of the recipe's sources; a second call with more samples adds the rest."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    words = ["data", "label", photos, "--recipe", recipe, "-o", tmp_path / "out", "--teacher", "hat-xxs-x2"]
    assert run(monkeypatch, *words, "--samples", "2", "--data.patch-size", "9") == 2  # no multiple of the window
    assert "multiple of" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--samples", "2") == 0
    assert f"2 patches in {tmp_path / 'out'}, 2 of them made by this call" in capsys.readouterr().out
    assert run(monkeypatch, *words, "--samples", "3") == 0
    assert "1 of them made by this call" in capsys.readouterr().out
    lr, teacher = (read_image(tmp_path / "out" / part / "0000002.png").pixels for part in ("lr", "teacher"))
    assert (lr.shape, teacher.shape) == ((8, 8, 3), (16, 16, 3))
    upscaled = Upscaler(load_model("hat-xxs-x2"), faithful=False)(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255)
    np.testing.assert_allclose(teacher, upscaled[0].permute(1, 2, 0).clamp(0, 1) * 255, atol=2)
    assert run(monkeypatch, *words, "--samples", "3", "--seed", "1") == 2
    assert "labelled with another seed" in capsys.readouterr().err
    assert run(monkeypatch, *words[:-1], "hat-xxs-x4", "--samples", "3") == 2
    assert "enlarges by 4, and the recipe is for 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("--data.root", "more"), "root"),
        (("--data.flats", "0.5"), "flats"),
        (("--data.patch-size", "16"), "patch_size"),
        (("photos/n01",), "root, sources"),
    ],
)
def test_labels_of_other_patches_are_refused(photos, tmp_path, monkeypatch, capsys, words, key):
    monkeypatch.chdir(tmp_path)
    for place in ("data/a", "data/b", "more/a", "more/b"):
        write_noise(tmp_path / place / "a.png", 40, 40)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    call = ("--recipe", "recipe.toml", "-o", "out", "--teacher", "hat-xxs-x2", "--samples", "1")
    assert run(monkeypatch, "data", "label", *call, "--data.root", "data") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    settings = words if "--data.root" in words or not words[0].startswith("-") else ("--data.root", "data", *words)
    assert run(monkeypatch, "data", "label", *settings, *call) == 2
    assert f"out was labelled with another {key}: name a new folder" in capsys.readouterr().err.replace("\n", " ")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


@pytest.mark.parametrize("command", ["check", "prepare", "label"])
def test_help(monkeypatch, capsys, command):
    assert run(monkeypatch, "data", command, "--help") == 0
    assert "Usage: hat-sr data" in capsys.readouterr().out


def test_a_folder_of_shards(tmp_path, monkeypatch, capsys):
    """Is named; one with an archive beside the images is a folder of images."""
    make_photos(tmp_path)
    assert run(monkeypatch, "data", "prepare", tmp_path / "photos", tmp_path / "out", "--to", "webdataset") == 0
    assert run(monkeypatch, "data", "check", tmp_path / "out") == 2
    assert "is a folder of tar shards: name the shards, from" in capsys.readouterr().err
    (tmp_path / "out" / "000000.tar").rename(tmp_path / "photos" / "archive.tar")
    assert run(monkeypatch, "data", "check", tmp_path / "photos") == 1
    assert "3 images can be used, 1 cannot" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["photos/trip", "photos"])
def test_a_folder_that_cannot_be_read_is_named(photos, closed, monkeypatch, capsys, name):
    (photos / "trip").mkdir()
    closed(photos.parent / name)
    assert run(monkeypatch, "data", "check", photos) == 1
    assert f"{name} cannot be read: Permission denied" in capsys.readouterr().err


def test_degrade_draws_a_sheet(photos, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("[data]", '[data]\ndegradation = {preset = "real", sharpen = true}'))
    images = (photos / "a.png", photos / "n01" / "a.png")
    words = ("data", "degrade", *images, "--recipe", recipe, "--samples", "5", "-o")
    assert run(monkeypatch, *words, tmp_path / "sheet.png") == 0
    pixels = read_image(tmp_path / "sheet.png").pixels
    assert pixels.shape == (4 * (256 + 64 + 8), 6 * (256 + 8), 3)  # two rows for seven cells of each image
    original = read_image(images[0]).pixels
    assert np.array_equal(pixels[:20, :30], original)
    lr = pixels[:20, 2 * 264 : 2 * 264 + 30]
    assert np.array_equal(lr, lr[::2, ::2].repeat(2, 0).repeat(2, 1))
    assert (pixels[256:320, 2 * 264 : 3 * 264] < 128).any()  # the settings

    assert run(monkeypatch, *words, tmp_path / "sheet.jpg") == 2
    recipe.write_text(RECIPE)
    assert run(monkeypatch, *words, tmp_path / "sheet.png") == 2
    assert 'write degradation = "real"' in capsys.readouterr().err
