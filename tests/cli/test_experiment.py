import shlex

import pytest

from cli.running import run
from experiment.small import make_data, write_experiment
from hat_sr.experiment.config import experiment_names


def test_tables_plot_and_page(tmp_path, monkeypatch, capsys):
    root = make_data(tmp_path)
    page = root / "page.md"
    page.write_text(
        "".join(f"<!-- experiment small: {name} -->\n<!-- end -->\n" for name in ("width", "start", "notes"))
    )
    words = ("experiment", write_experiment(root), "--data", root, "--benchmarks", root / "benchmarks")
    words += ("-o", root / "runs", "--page", page, "--optim.total-steps", 1)
    assert run(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "plain, seed 1: step 1  loss" in printed
    written = (root / "runs/table.md").read_text()
    assert printed.endswith(written + "\n") and "1 + 1" in written
    assert (root / "runs/plot.png").exists() and (root / "pictures/experiment-small.png").exists()
    assert "| tuned |" in page.read_text()

    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
    assert run(monkeypatch, *words) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")} == before


def test_dry_run(tmp_path, monkeypatch, capsys):
    root = make_data(tmp_path)
    words = ("experiment", write_experiment(root), "--data", root, "--benchmarks", root / "benchmarks")
    assert run(monkeypatch, *words, "-o", root / "runs", "--scale-up", "--dry-run") == 0
    printed = capsys.readouterr()
    assert "tuned (seed 0, after start)" in printed.out
    assert printed.out.count("validation ") == 1
    assert printed.err == ""
    assert not (root / "runs").exists()


def test_a_dry_run_names_what_is_missing(tmp_path, monkeypatch, capsys):
    file, none = write_experiment(tmp_path), tmp_path / "none"
    words = ("experiment", file, "--data", none, "--benchmarks", none / "sets", "-o", tmp_path / "runs", "--dry-run")
    assert run(monkeypatch, *words) == 1
    printed = capsys.readouterr()
    assert "tuned (seed 0, after start)" in printed.out
    assert "(folder): not there" in printed.out
    assert printed.out.count("time       about") == 6
    photos, validation, *sets = sorted(printed.err.splitlines(), key=lambda line: ("sets" in line, "Set5" not in line))
    assert photos.startswith("missing: ") and f"{none}/photos" in photos and photos.endswith("(for all arms)")
    assert "log.validation_folder" in validation and validation.endswith("(for all arms)")
    assert [f"{none}/sets/{name}" in line for name, line in zip(("Set5", "other"), sets, strict=True)] == [True, True]
    assert all(line.endswith("(to score on)") for line in sets)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_names_the_task_that_needs_a_folder(tmp_path, monkeypatch, capsys):
    root = make_data(tmp_path)
    file = write_experiment(root)
    file.write_text(
        file.read_text().replace("{ upscale = 3 } }", '{ upscale = 3 }, data = { sources = [{ path = "more" }] } }')
    )
    words = ("experiment", file, "--data", root, "--benchmarks", root / "benchmarks", "-o", root / "runs", "--dry-run")
    assert run(monkeypatch, *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{root}/more" in line and line.endswith("(for start task 2)")


def test_recipes_and_the_commands_that_train_them(tmp_path, monkeypatch, capsys):
    root = make_data(tmp_path)
    words = ("experiment", write_experiment(root), "--optim.total-steps", "1", "--data", root)
    words += ("--benchmarks", root / "benchmarks", "-o", root / "the runs")
    assert run(monkeypatch, *words, "--scale-up", "--recipes", root / "recipes") == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [command[1] for command in commands] == ["train", "train", "train", "experiment", "train"]
    assert commands[3] == ["hat-sr", *map(str, words), "--scale-up", "--arms", "start"]
    for _, *command in commands:  # each can be run as it is, in this order
        assert run(monkeypatch, *command) == 0
    folders = [path.parent.relative_to(root / "the runs") for path in (root / "the runs").rglob("weights.safetensors")]
    assert sorted(map(str, folders)) == ["plain/seed-0", "plain/seed-1", "start/seed-0", "tuned/seed-0", "wide/seed-0"]


def test_without_matplotlib_nothing_is_trained(tmp_path, monkeypatch, capsys):
    root = make_data(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    words = ("experiment", write_experiment(root), "--data", root, "--benchmarks", root / "benchmarks")
    assert run(monkeypatch, *words, "-o", root / "runs") == 1
    assert "pip install 'hat-sr[lam]'" in capsys.readouterr().err
    assert not (root / "runs").exists()


@pytest.mark.parametrize("name", experiment_names())
def test_experiments_are_named_in_the_help(name, monkeypatch, capsys):
    assert run(monkeypatch, "experiment", "--help") == 0
    assert name in capsys.readouterr().out
