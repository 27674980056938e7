"""`hat-sr import-options`: what it writes, says, and returns."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cli.running import run
from hat_sr.train.import_options import import_options
from hat_sr.train.recipe import load_recipe

OPTIONS = Path(__file__).parents[1] / "train" / "options"
PAIRS = OPTIONS / "pairs.yml"


def test_a_recipe_is_written(tmp_path, monkeypatch, capsys):
    options = tmp_path / "auto.yml"
    options.write_text(PAIRS.read_text().replace("num_gpu: 2", "num_gpu: auto"))
    recipe = tmp_path / "recipe.toml"
    assert run(monkeypatch, "import-options", options, "-o", recipe) == 0
    printed = capsys.readouterr()
    assert "line 5: num_gpu = auto" in printed.out
    assert f"{recipe} written" in printed.out
    assert printed.err == ""
    assert load_recipe(recipe) == import_options(options).recipe


def test_without_output_a_whole_recipe_is_printed(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "import-options", PAIRS, "--num-gpus", "4") == 0
    (tmp_path / "printed.toml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "printed.toml") == import_options(PAIRS, num_gpus=4).recipe


def test_the_file_of_a_test(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "import-options", OPTIONS / "scores.yml") == 0
    printed = capsys.readouterr()
    assert (
        "#   hat-sr benchmark --data data/Five/GTmod2 --scale 2 --model ./weights/small.pth --tile 96\n" in printed.out
    )
    assert tomllib.loads(printed.out)["model"]["embed_dim"] == 12
    assert printed.err == ""
    assert run(monkeypatch, "import-options", OPTIONS / "scores.yml", "-o", tmp_path / "r.toml") == 1
    printed = capsys.readouterr()
    assert "\n  hat-sr benchmark --data" in printed.out
    assert "data and optim must be given by you" in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("with_output", [True, False])
def test_what_cannot_be_trained(tmp_path, monkeypatch, capsys, with_output):
    output = ("-o", tmp_path / "r.toml") if with_output else ()
    assert run(monkeypatch, "import-options", OPTIONS / "real.yml", *output) == 1
    printed = capsys.readouterr()
    assert "line 35: network_d.type = UNetDiscriminatorSN" in printed.out
    assert "settings cannot be trained with" in printed.err
    assert ("r.toml is not written" in printed.err) == with_output
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.toml").write_text("mine")
    assert run(monkeypatch, "import-options", PAIRS, "-o", tmp_path / "mine.toml") == 2
    assert "exists: give another name" in capsys.readouterr().err
    assert (tmp_path / "mine.toml").read_text() == "mine"
    assert run(monkeypatch, "import-options", PAIRS, "-o", tmp_path / "no" / "r.toml") == 2
    assert "does not exist: create it first" in capsys.readouterr().err


def test_wrong_calls(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "import-options", tmp_path / "no.yml") == 2
    assert "no.yml cannot be read" in capsys.readouterr().err
    assert run(monkeypatch, "import-options", PAIRS, "--num-gpus", "0") == 2


def test_importing_options_does_not_import_torch():
    code = f"""
import sys
from hat_sr.cli import app
app(["import-options", {str(PAIRS)!r}])
sys.exit('torch' in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
