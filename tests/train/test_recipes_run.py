"""Every recipe in recipes/ takes three steps on made-up data, its network shrunk by overrides; dry runs too."""

import dataclasses
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from hat_sr.checkpoints.checkpoint import read_checkpoint, save_model
from hat_sr.checkpoints.named import bundled_names, read_source
from hat_sr.cli import app
from hat_sr.model.hat import HAT
from hat_sr.train.loop import compute_gradients, train
from hat_sr.train.recipe import load_recipe, load_stages
from train.small import photo, save_png, stages_of

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
STAGES = [pytest.param(path, stage or None, id=f"{path.stem}-{stage}") for path in RECIPES for stage in stages_of(path)]

SHRUNK = {
    "--model.embed-dim": 12,
    "--model.depths": 2,
    "--model.num-heads": 2,
    "--model.window-size": 4,
    "--model.compress-ratio": 3,
    "--model.squeeze-factor": 4,
    "--model.num-feat": 8,
    "--data.patch-size": 8,
    "--data.batch-size": 2,
    "--data.num-workers": 0,
    "--optim.total-steps": 3,
    "--log.report-every": 1,
}


def _words(settings):
    return [str(word) for pair in settings.items() for word in pair]


def _make_data(path, root, stage=None):
    """Photographs where the recipe has its own, the excluded ones among them; returns the overrides."""
    recipe = stages_of(path)[stage or ""]
    for source in recipe.data.sources:
        for number, name in enumerate(["a.png", "b.png", *source.exclude]):
            save_png(root / source.path / Path(name).with_suffix(Path(name).suffix or ".png"), photo(80, 96, number))
            if source.teacher_path is not None:
                save_png(root / source.teacher_path / name, photo(80, 96, number + 1))
                save_png(root / source.lr_path / name, photo(80 // recipe.upscale, 96 // recipe.upscale, number))
    return SHRUNK | {"--data.root": root}


def _make_start(path, root, overrides, stage=None):
    """Weights for `start_from`: of the scale that the recipe's own start has, which its name says."""
    if stages_of(path)[stage or ""].start_from is None:
        return overrides
    recipe = load_recipe(path, _words(overrides), stage=stage)
    upscale = int(re.search(r"-x(\d)", recipe.start_from).group(1))
    save_model(HAT(dataclasses.replace(recipe.model, upscale=upscale)), root / "start.safetensors")
    return overrides | {"--start-from": root / "start.safetensors"}


@pytest.mark.parametrize(("path", "stage"), STAGES)
def test_three_steps(path, stage, tmp_path):
    overrides = _make_start(path, tmp_path, _make_data(path, tmp_path, stage), stage)
    recipe = load_recipe(path, _words(overrides), stage=stage)
    recipe = dataclasses.replace(recipe, perceptual=None)  # it needs a package
    losses = []
    state = train(recipe, tmp_path / "run", on_progress=lambda _, record: losses.append(record["loss"]))
    assert state.step == len(losses) == 3
    assert all(0 < loss < 1 for loss in losses)
    checkpoint = read_checkpoint(tmp_path / "run" / "weights.safetensors")
    assert checkpoint.config == recipe.model
    assert checkpoint.provenance["title"] == recipe.provenance["title"]


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_network_is_that_of_its_recipe(name):
    """A training can start from it with the recipe's [model], and its card is there."""
    (path,) = (path for path in RECIPES if path.stem == name.removesuffix("-faithful"))
    assert {read_source(name).config} == {recipe.model for recipe in stages_of(path).values()}
    assert path.parents[1].joinpath(f"src/hat_sr/weights/{name}.md").is_file()


@pytest.mark.parametrize("name", ["hat-xxs-x4", "hat-x4"])
def test_a_dry_run_says_what_and_trains_nothing(name, tmp_path, capsys):
    (path,) = (path for path in RECIPES if path.stem == name)
    overrides = _make_start(path, tmp_path, _make_data(path, tmp_path))
    before = sorted(tmp_path.rglob("*"))
    app(["train", str(path), *_words(overrides), "-o", str(tmp_path / "run"), "--dry-run"])
    printed = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    recipe = load_recipe(path, _words(overrides))
    num_weights = sum(weight.numel() for weight in HAT(recipe.model).parameters())
    for part in (
        f"HAT, {num_weights:,} parameters, ×4",
        "2 images",
        "3, which is 6 patches",
        "for the 3 steps",
        "ms more to read it",
        "a new training",
    ):
        assert part in printed
    train(recipe, tmp_path / "run")
    app(["train", str(path), *_words(overrides), "-o", str(tmp_path / "run"), "--dry-run"])
    assert "would go on from step 3" in capsys.readouterr().out


def test_a_dry_run_needs_no_data(tmp_path, capsys):
    """The published fine-tuning, whole, where neither images nor the weights that it starts from are there."""
    (path,) = (path for path in RECIPES if path.stem == "hat-x4-imagenet")
    words = _words(SHRUNK | {"--data.root": tmp_path / "none", "--log.validation-folder": tmp_path / "Set5"})
    run = str(tmp_path / "run")
    assert app(["train", str(path), *words, "-o", run, "--stage", "finetune", "--dry-run"]) == 1
    printed = capsys.readouterr()
    assert "(folder): not there" in printed.out
    assert re.search(r"time +about \d+ seconds for the 3 steps.*: \d+ ms\nmachine +\S.* threads, torch", printed.out)
    assert "rate " in printed.out
    missing = [line for line in printed.err.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 3
    assert "log.validation_folder" in missing[0]
    assert f"start_from {run}/pretrain/" in missing[-1]


def test_a_dry_run_of_all_stages(tmp_path, capsys):
    """What the stage before will have written is not missing."""
    (path,) = (path for path in RECIPES if path.stem == "hat-x4-imagenet")
    overrides = SHRUNK | {"--data.root": tmp_path}
    save_png(tmp_path / "ImageNet/train/a.png", photo(80, 96, 0))
    save_png(tmp_path / "DF2K/a.png", photo(80, 96, 1))
    assert app(["train", str(path), *_words(overrides), "-o", str(tmp_path / "run"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^stage +(\w+)$", printed, re.MULTILINE) == ["pretrain", "finetune"]
    assert f"from {tmp_path / 'run' / 'pretrain' / 'weights.safetensors'}" in printed


def test_a_dry_run_of_all_stages_names_weights_that_no_stage_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = TEACHER.replace(', kind = "pairs", lr_path = "lr", teacher_path = "teacher"', "")
    text = text.replace("teacher_weight = 0.5", "")
    save_png(tmp_path / "hr/a.png", photo(40, 40))
    starts = ("", 'start_from = "other/weights.safetensors"', 'start_from = "run/one/weights.safetensors"')
    for name, start in zip(("one", "two", "three"), starts, strict=True):
        text += f'[[stages]]\nname = "{name}"\n{start}\n'
    Path("recipe.toml").write_text(text)
    assert app(["train", "recipe.toml", "-o", "run", "--dry-run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("missing: start_from other/weights.safetensors is not there")


TEACHER = """
[model]
upscale = 2
embed_dim = 12
depths = [2]
num_heads = [2]
window_size = 8
squeeze_factor = 4
[data]
patch_size = 8
batch_size = 3
sources = [{ path = "hr", kind = "pairs", lr_path = "lr", teacher_path = "teacher" }]
[optim]
total_steps = 3
teacher_weight = 0.5
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_dry_run_times_one_patch_with_its_teachers_answer(there, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(TEACHER)
    if there:
        for folder, factor in (("lr", 1), ("hr", 2), ("teacher", 2)):
            save_png(tmp_path / folder / "a.png", photo(16 * factor, 16 * factor))
    seen = []

    def spied(state, batch, **settings):
        seen.append((batch.lr.shape, batch.hr.shape, batch.teacher.shape))
        return compute_gradients(state, batch, **settings)

    monkeypatch.setattr("hat_sr.train.describe.compute_gradients", spied)
    assert app(["train", "recipe.toml", "--dry-run"]) == (0 if there else 1)
    assert "time       about" in capsys.readouterr().out
    assert seen == [((1, 3, 8, 8), (1, 3, 16, 16), (1, 3, 16, 16))] * 2


SPY = """
from pathlib import Path
from torch import nn
Path("imported").touch()
make = lambda: nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
"""

NETWORK = """
[network]
entry = "spy:make"
upscale = 2
[data]
patch_size = 8
batch_size = 2
sources = [{ path = "photos" }]
[optim]
total_steps = 3
"""


def test_a_dry_run_imports_nothing_that_a_recipe_names(tmp_path, monkeypatch, capsys):
    """Not before --trust says that it may."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("spy.py").write_text(SPY)
    Path("recipe.toml").write_text(NETWORK)
    save_png(tmp_path / "photos/a.png", photo(40, 40))
    assert app(["train", "recipe.toml", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "spy:make, not built: the recipe names code, which --trust runs" in printed
    assert "1 images" in printed
    assert not Path("imported").exists()
    model = "[model]\nupscale = 2\nembed_dim = 12\ndepths = [2]\nnum_heads = [2]\nwindow_size = 8\nsqueeze_factor = 4\n"
    extractor = '[perceptual]\nextractor = "spy:make"\nlayers = [["0", 1.0]]\n'
    Path("extractor.toml").write_text(model + extractor + NETWORK[NETWORK.index("[data]") :])
    assert app(["train", "extractor.toml", "--dry-run"]) == 0
    assert "HAT, not built" in capsys.readouterr().out
    assert not Path("imported").exists()
    assert app(["train", "recipe.toml", "--dry-run", "--trust"]) == 0
    assert "spy:make, 336 parameters" in capsys.readouterr().out
    assert Path("imported").exists()


def test_stages_are_trained_in_turn_and_a_stop_between_or_within_them_goes_on(tmp_path, monkeypatch, capsys):
    """Stopped in the second stage, the same command leaves the first alone and ends with the same weights."""
    monkeypatch.chdir(tmp_path)
    (path,) = (path for path in RECIPES if path.stem == "hat-x4-imagenet")
    words = _words(SHRUNK | {"--data.root": tmp_path, "--log.save-every": 1})
    save_png(tmp_path / "ImageNet/train/a.png", photo(80, 96, 0))
    save_png(tmp_path / "DF2K/a.png", photo(80, 96, 1))
    assert app(["train", str(path), *words, "-o", "whole"]) == 0
    assert "whole/finetune/weights.safetensors written" in capsys.readouterr().out

    app(["train", str(path), *words, "-o", "stopped", "--stage", "pretrain"])
    stages = load_stages(path, words, folder=Path("stopped"))

    def stop(step, record):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of the tests ignores it
    with pytest.raises(KeyboardInterrupt):
        train(stages["finetune"], Path("stopped/finetune"), on_progress=stop)
    signal.signal(signal.SIGINT, before)
    first = Path("stopped/pretrain/state.pt").stat().st_mtime_ns
    assert app(["train", str(path), *words, "-o", "stopped"]) == 0
    printed = capsys.readouterr().out
    assert "stage pretrain: stopped/pretrain/weights.safetensors is there" in printed
    assert Path("stopped/pretrain/state.pt").stat().st_mtime_ns == first
    monkeypatch.setenv("RANK", "1")  # of several processes the first alone tells
    assert app(["train", str(path), *words, "-o", "stopped"]) == 0
    assert capsys.readouterr().out == ""
    states = [read_checkpoint(Path(folder, "finetune/weights.safetensors")).state for folder in ("whole", "stopped")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
