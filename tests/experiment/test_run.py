"""All arms of a tiny experiment, stopped and started again; other networks' cost."""

import json
import math
import sys
from dataclasses import replace
from types import ModuleType
from typing import ClassVar

import pytest
import torch

from experiment.small import make_data, write_experiment
from hat_sr.errors import ConfigError, DataError, WeightsError
from hat_sr.experiment.config import load_experiment
from hat_sr.experiment.run import Result, count_multiply_adds, describe_all, read_log, results, run, write_recipes
from hat_sr.model.config import HATConfig
from hat_sr.model.cost import multiply_adds
from hat_sr.train.config import NetworkConfig
from hat_sr.train.loop import train
from hat_sr.train.recipe import load_recipe
from train.small import photo, save_png, small_recipe
from train.test_recipes_run import SHRUNK


def _load(root, *overrides, scale_up=False):
    where = ("--data.root", str(root), "--log.validation-folder", str(root / "benchmarks/Set5"))
    return load_experiment(str(write_experiment(root)), (*where, *overrides), scale_up=scale_up)


class _StopError(Exception):
    pass


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An experiment and its folder, run whole."""
    root = make_data(tmp_path_factory.mktemp("experiment"))
    run(_load(root), root / "runs", root / "benchmarks")
    return root


def _weights(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("weights.safetensors"))}


def test_every_arm_with_every_seed(done):
    assert list(_weights(done / "runs")) == [
        f"{name}/weights.safetensors"
        for name in ("plain/seed-0", "plain/seed-1", "start/seed-0", "tuned/seed-0", "wide/seed-0")
    ]
    found = results(_load(done), done / "runs")
    assert {name: len(runs) for name, runs in found.items()} == {"plain": 2, "wide": 1, "start": 1, "tuned": 1}
    plain, other = found["plain"].values()
    assert set(plain.psnr) == {"Set5", "other"} and 5 < plain.psnr["Set5"] < 40
    assert plain.psnr != other.psnr
    assert [step for step, _ in plain.curve] == [2, 4]
    assert plain.curve[-1][1] == pytest.approx(plain.psnr["Set5"])  # the last validation is of the same weights
    assert plain.steps == 4 and plain.seconds > 0
    assert plain.num_parameters < found["wide"][0].num_parameters
    assert found["start"][0].psnr == {}  # not compared, so not scored


def test_an_arm_starts_from_the_one_before(done):
    recipe = (done / "runs/tuned/seed-0/recipe.toml").read_text()
    assert str(done / "runs/start/seed-0/weights.safetensors") in recipe


def test_stopped_anywhere_it_goes_on_to_the_same_weights(done, tmp_path):
    root = make_data(tmp_path)
    titles = []

    def stop_once(title, step, record):
        titles.append((title, step))
        if step == 3 and titles.count((title, step)) == 1:  # between two saved states
            raise _StopError

    experiment = _load(root)
    for _ in range(5):
        try:
            run(experiment, root / "runs", root / "benchmarks", on_progress=stop_once)
        except _StopError:
            continue
    assert titles.count(("plain, seed 1", 3)) == 2 and titles.count(("plain, seed 1", 4)) == 1
    whole, parts = _weights(done / "runs"), _weights(root / "runs")
    assert whole == parts


def test_some_arms_alone(done, tmp_path):
    root = make_data(tmp_path)
    run(_load(root), root / "runs", root / "benchmarks", only=["wide"])
    whole, found = _weights(done / "runs"), _weights(root / "runs")
    assert found == {"wide/seed-0/weights.safetensors": whole["wide/seed-0/weights.safetensors"]}
    with pytest.raises(ConfigError, match="arms wider are not in small: plain, wide, start, tuned are"):
        run(_load(root), root / "runs", root / "benchmarks", only=["plain", "wider"])
    with pytest.raises(WeightsError, match=r"start_from .*start/seed-0/weights.safetensors is not there"):
        run(_load(root), root / "runs", root / "benchmarks", only=["tuned"])


def test_recipes_train_the_same(done, tmp_path):
    """What `hat-sr train` makes of a written recipe is what `run` makes, and `run` only scores it."""
    root = make_data(tmp_path)
    experiment = _load(root)
    commands = write_recipes(experiment, root / "runs", root / "recipes", command="hat-sr experiment small")
    assert [command.split()[-1] for command in commands] == [
        *(str(root / "runs" / name) for name in ("plain/seed-0", "plain/seed-1", "wide/seed-0")),
        "start",  # before what starts from it
        str(root / "runs/tuned/seed-0"),
    ]
    assert commands[3] == "hat-sr experiment small --arms start"
    assert not (root / "recipes/start-seed-0.toml").exists()
    recipe = load_recipe(root / "recipes/plain-seed-1.toml")
    assert recipe == replace(experiment.arm("plain").recipe, seed=1)
    train(recipe, root / "runs/plain/seed-1")
    run(experiment, root / "runs", root / "benchmarks", only=["plain"], on_progress=_no_second_seed)
    assert _weights(root / "runs").items() < _weights(done / "runs").items()
    assert len(results(experiment, root / "runs")["plain"]) == 2


def _no_second_seed(title, step, record):
    assert title == "plain, seed 0"


def test_several_processes(done, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="run by one process: write its recipes"):
        run(_load(done), done / "runs", done / "benchmarks")


def test_what_is_done_is_only_read(done):
    before = _weights(done / "runs")
    called = []
    run(
        _load(done),
        done / "runs",
        done / "benchmarks",
        on_progress=lambda *what: called.append(what),
        on_result=lambda: called.append("result"),
    )
    assert called == [] and _weights(done / "runs") == before


def test_other_settings_in_the_same_folder(done):
    with pytest.raises(
        ConfigError, match=r"plain/seed-0 was trained by another recipe \(optim\.learning_rate\): give another -o"
    ):
        run(_load(done, "--optim.learning-rate", "1e-4"), done / "runs", done / "benchmarks")


def test_a_missing_set_is_told_before_training(tmp_path):
    root = make_data(tmp_path)
    for file in (root / "benchmarks/other").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"no images in .*other"):
        run(_load(root), root / "runs", root / "benchmarks")
    assert not (root / "runs").exists()


@pytest.mark.parametrize("scale_up", [False, True])
def test_a_dry_run_says_what_and_writes_nothing(tmp_path, scale_up):
    root = make_data(tmp_path)
    lines = describe_all(_load(root, scale_up=scale_up), root / "runs", root / "benchmarks").lines
    assert not (root / "runs").exists()
    assert [line for line in lines if "(seed" in line] == [
        "plain (seed 0, 1)",
        "wide (seed 0)",
        *(f"start (seed 0, task {number} of 3, whose steps take turns)" for number in (1, 2, 3)),
        "tuned (seed 0, after start)",
    ]
    assert sum(f"steps      {6 if scale_up else 4}," in line for line in lines) == 5
    common = lines[1 : lines.index("")]
    assert lines[0] == "in all arms"
    assert [line.split()[0] for line in common] == ["start", "data", "batch", "loss", "rate", "machine", "validation"]
    assert {lines.count(line) for line in common} == {1}


@pytest.mark.parametrize("name", ["ablations", "pretraining"])
def test_a_dry_run_of_what_a_lab_would_start(name, tmp_path):
    """The published settings on folders that are named like the published data, the network shrunk by overrides."""
    root = make_data(tmp_path)
    for place in ("DF2K", "ImageNet/train/n01440764"):
        save_png(root / place / "a.png", photo(80, 96))
    shrunk = SHRUNK | {"--model.window-size": 8}  # of which 0.75 is even
    words = [str(word) for pair in shrunk.items() for word in pair if pair[0] != "--optim.total-steps"]
    experiment = load_experiment(name, (*words, "--data.root", str(root)), scale_up=True)
    lines = describe_all(experiment, root / "runs", root / "benchmarks").lines
    assert not (root / "runs").exists()
    steps = {line for line in lines if line.startswith("steps")}
    total = {arm.recipe.optim.total_steps for arm in experiment.arms}
    assert steps == {f"steps      {number:,}, which is {2 * number:,} patches" for number in total}
    assert min(total) >= 200_000


class StandIn(torch.nn.Module):
    """For RCAN and SwinIR: enlarges by what it is called with."""

    called: ClassVar = []

    def __init__(self, *, scale=1, upscale=1, **arguments):
        super().__init__()
        self.called.append(arguments)
        self.body = torch.nn.Conv2d(3, 3 * (scale * upscale) ** 2, 3, padding=1)
        self.tail = torch.nn.PixelShuffle(scale * upscale)

    def forward(self, x):
        return self.tail(self.body(x))


def _shrunk(recipe):
    """The same with a HAT of one block, where it is the published one."""
    if recipe.model is None:
        return recipe
    parts = {"use_cab": recipe.model.use_cab, "use_ocab": recipe.model.use_ocab}
    assert recipe.model == HATConfig(upscale=4, **parts)
    return replace(recipe, model=replace(recipe.model, depths=(1,), num_heads=(6,)))


def test_a_dry_run_of_the_published_networks(tmp_path, monkeypatch):
    root = make_data(tmp_path)
    save_png(root / "DF2K/a.png", photo(80, 96))
    for name in ("RCAN", "SwinIR"):
        module = ModuleType(f"spandrel.architectures.{name}")
        setattr(module, name, StandIn)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(StandIn, "called", [])
    words = ("--data.root", str(root), "--data.patch-size", "16", "--data.batch-size", "2", "--data.num-workers", "0")
    experiment = load_experiment("networks", words, scale_up=True)
    arms = [replace(arm, recipe=_shrunk(arm.recipe)) for arm in experiment.arms]
    lines = describe_all(replace(experiment, arms=tuple(arms)), root / "runs", root / "benchmarks", trust=True).lines
    assert not (root / "runs").exists()
    networks = [line.split()[1].strip(",") for line in lines if line.startswith("network ")]
    assert networks == ["spandrel.architectures.RCAN:RCAN", "HAT", "HAT", "spandrel.architectures.SwinIR:SwinIR"]
    assert [line for line in lines if line.startswith("steps")] == ["steps      500,000, which is 1,000,000 patches"]
    rcan, swinir = StandIn.called
    assert (rcan["n_resgroups"], rcan["n_resblocks"], rcan["n_feats"]) == (10, 20, 64)
    assert (swinir["depths"], swinir["embed_dim"], swinir["upsampler"]) == ([6] * 6, 180, "pixelshuffle")


def test_multiply_adds_of_ours_and_of_others(tmp_path):
    recipe = small_recipe(tmp_path)
    assert count_multiply_adds(recipe) == multiply_adds(recipe.model, 64, 64)
    entry = "train.test_network:Shuffled"  # 3 → 4 → 12 channels by 3×3 convolutions
    other = replace(recipe, model=None, network=NetworkConfig(entry=entry, upscale=2, arguments={"scale": 2}))
    assert count_multiply_adds(other) == 64 * 64 * 9 * (3 * 4 + 4 * 12)


def test_results_are_read_as_they_were_written(done):
    (found,) = results(_load(done), done / "runs")["wide"].values()
    content = json.loads((done / "runs/wide/seed-0/scores.json").read_text())
    assert isinstance(found, Result) and found.psnr == content["psnr"]
    assert content["recipe"]["model"]["num_feat"] == 16
    assert torch.tensor(found.curve).shape == (2, 2)


def test_odd_lines_of_a_log_are_left_out(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    lines = [
        '{"step": 1, "loss": 0.5, "steps_per_second": 2.0}',
        "\x00\x00",
        "[]",
        '{"step": 2, "loss": 0.5}',
        '{"step": "2", "psnr": 20}',
        '{"step": 2, "psnr": 21.5}',
        '{"step": 3, "loss": 0.4, "steps_per_second": 4, "psnr": 22}',
        '{"step": 4, "psnr": 2',
    ]
    path.write_text("\n".join(lines))
    assert read_log(path) == (3.0, ((2, 21.5), (3, 22.0)))
    assert caplog.messages == [f"{path}: damaged, and left out: lines 2, 3"]
    path.write_text("")
    assert math.isnan(read_log(path)[0])
