import itertools
import json
import re
import sys
from functools import partial

import pytest
from rich.console import Console

from cli.running import run, write_noise
from hat_sr import save_model
from hat_sr.cli import main
from hat_sr.image.io import read_image
from model.tiny import tiny_model


@pytest.fixture
def files(tmp_path):
    save_model(tiny_model(), tmp_path / "tiny.safetensors")
    save_model(tiny_model(upscale=3), tmp_path / "other.safetensors")
    write_noise(tmp_path / "photo.png", 33, 41)
    return tmp_path


def test_figure_json_and_table(files, monkeypatch, capsys):
    words = ("--models", f"bicubic,{files / 'tiny.safetensors'}", "-o", files / "lam.png", "--json", files / "lam.json")
    assert run(monkeypatch, "lam", files / "photo.png", "--window", "20,9,12", "--steps", "3", *words) == 0
    report = json.loads((files / "lam.json").read_text())
    assert [model["model"] for model in report["models"]] == ["bicubic", "tiny"]
    assert report["window"] == {"x": 20, "y": 9, "size": 12} and report["settings"]["steps"] == 3
    assert report["lr_size"] == {"width": 20, "height": 16}
    rows = {row.split()[1]: row.split() for row in capsys.readouterr().out.splitlines()}
    for model in report["models"]:
        row = rows[model["model"]]
        assert f"{model['diffusion_index']:.2f}" in row
        assert f"{model['psnr']:.2f}" in row and f"{model['window_psnr']:.2f}" in row
    assert read_image(files / "lam.png").pixels.std() > 20


def test_a_low_resolution_picture(files, monkeypatch, capsys):
    words = ("--models", files / "tiny.safetensors", "--lr", "-o", files / "lam.png", "--json", files / "lam.json")
    assert run(monkeypatch, "lam", files / "photo.png", "--window", "60,40", "--steps", "2", *words) == 0
    report = json.loads((files / "lam.json").read_text())
    assert report["given"] == "lr" and report["lr_size"] == {"width": 41, "height": 33}
    assert report["models"][0]["psnr"] is None and report["window"]["size"] == 16
    assert "| – |" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "words",
    [
        ("--models", "bicubic,tiny.safetensors"),
        ("--model", "bicubic", "-m", "tiny.safetensors"),
        ("-m", "bicubic", "-m", "tiny.safetensors, tiny.safetensors"),
    ],
)
def test_networks_are_named_as_in_a_benchmark(files, monkeypatch, capsys, words):
    monkeypatch.chdir(files)
    assert run(monkeypatch, "lam", "photo.png", "--window", "20,9,12", "--steps", "1", *words) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["bicubic", "tiny"]


def test_a_file_whose_name_has_a_comma(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    (files / "tiny.safetensors").rename(files / "a,b.safetensors")
    words = ("--window", "20,9,12", "--steps", "1", "--model", "a,b.safetensors")
    assert run(monkeypatch, "lam", "photo.png", *words) == 0
    assert "| a,b " in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--models", "auto"), ("--models", "bicubic,auto")])
def test_auto_is_the_one_in_the_package(files, monkeypatch, capsys, words):
    monkeypatch.chdir(files)
    monkeypatch.setattr("hat_sr.cli.lam.bundled_for", lambda scale: f"hat-xxs-x{scale}")  # a quick one
    assert run(monkeypatch, "lam", "photo.png", "--window", "4,5,12", "--steps", "1", *words) == 0
    rows = [row.split()[1] for row in capsys.readouterr().out.splitlines()[2:]]
    assert rows[-1] == "hat-xxs-x4" and len(rows) == (2 if "bicubic,auto" in words else 1)


@pytest.mark.parametrize(("largest", "told"), [(0.0, 2), (1e9, 0)])
def test_an_inexact_map_is_told(files, monkeypatch, capsys, largest, told):
    monkeypatch.chdir(files)
    monkeypatch.setattr("hat_sr.cli.lam.LARGEST_ERROR", largest)
    words = ("--window", "20,9,12", "--steps", "2", "--models", "bicubic,tiny.safetensors")
    assert run(monkeypatch, "lam", "photo.png", *words) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "completeness error" in line]
    assert len(lines) == told
    assert all("more --steps than 2" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window", "24,9,16"), "x from 0 to 23 and y from 0 to 15 are accepted"),
        (("--window", "1"), "X,Y or X,Y,SIZE"),
        (("--window", "1,2,3,4"), "X,Y or X,Y,SIZE"),
        (("--window", "1,b"), "X,Y or X,Y,SIZE"),
        (("--window=-1,0",), "from 0"),
        (("--window", "0,0", "-o", "lam.jpg"), "lam.jpg: a figure is written as"),
        (("--window", "0,0", "-o", "none/lam.png"), "there is no folder none"),
        (("--window", "0,0", "--json", "none/lam.json"), "there is no folder none"),
        (("--window", "0,0", "--steps", "0"), "steps 0"),
        (("--window", "0,0", "--models", "tiny.safetensors,other.safetensors"), "enlarges by 3: networks of one"),
        (("--window", "0,0", "--models", "bicubic"), "bicubic takes the factor of others"),
        (("--window", "0,0", "--models", ","), "nothing is named in ','"),
    ],
)
def test_refusals(files, monkeypatch, capsys, words, said):
    monkeypatch.chdir(files)
    if "--models" not in words:
        words = (*words, "--models", "tiny.safetensors")
    before = sorted(files.iterdir())
    assert run(monkeypatch, "lam", "photo.png", *words) == 2
    assert said in capsys.readouterr().err
    assert sorted(files.iterdir()) == before


class SlowConsole(Console):
    """One whose clock is seven seconds further at every look."""

    def __init__(self, **settings):
        super().__init__(**settings, get_time=itertools.count(0, 7).__next__)


def test_progress_outside_a_terminal(files, monkeypatch, capsys):
    monkeypatch.setattr("hat_sr.cli.lam.Console", SlowConsole)
    words = ("--window", "20,9,12", "--steps", "60", "-m", f"bicubic,{files / 'tiny.safetensors'}")
    monkeypatch.setattr(sys, "argv", ["hat-sr", "lam", str(files / "photo.png"), *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " done" in line]
    counts = [int(re.fullmatch(r"(bicubic|tiny): (\d+)/122 done(, \S+ left)?", line)[2]) for line in lines]
    assert len(counts) > 3 and counts == sorted(set(counts))
    assert {line.partition(":")[0] for line in lines} == {"bicubic", "tiny"}


def test_progress_in_a_terminal(files, monkeypatch, capsys):
    monkeypatch.setattr("hat_sr.cli.lam.Console", partial(Console, force_terminal=True, width=100))
    words = ("--window", "20,9,12", "--steps", "3", "-m", files / "tiny.safetensors")
    assert run(monkeypatch, "lam", files / "photo.png", *words) == 0
    assert re.search(r"tiny.*4/4", capsys.readouterr().err)
