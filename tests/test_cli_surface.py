"""The commands and their options, frozen: none may vanish or change its name unnoticed."""

import pytest

from hat_sr.cli import app

SURFACE = {
    "upscale": {
        "INPUTS": "optional",
        "--output -o": "optional",
        "--engine": "optional",
        "--address": "optional",
        "--workers": "optional",
        "--cpus": "optional",
        "--gpus": "optional",
        "--scale": "optional",
        "--size": "optional",
        "--model -m": "optional",
        "--tile": "optional",
        "--memory": "optional",
        "--precision": "optional",
        "--device": "optional",
        "--runtime": "optional",
        "--self-ensemble": "optional",
        "--format": "optional",
        "--quality": "optional",
        "--keep-dpi": "optional",
        "--overwrite": "optional",
        "--skip-existing": "optional",
        "--retry-failed": "optional",
    },
    "benchmark": {
        "--data": "required",
        "--scale": "required",
        "--models --model -m": "optional",
        "--sets": "optional",
        "--lr": "optional",
        "--jpeg": "optional",
        "--degrade": "optional",
        "--seed": "optional",
        "--metrics": "optional",
        "--tile": "optional",
        "--memory": "optional",
        "--precision": "optional",
        "--device": "optional",
        "--self-ensemble": "optional",
        "--published": "optional",
        "--cache": "optional",
        "--json": "optional",
        "--markdown": "optional",
        "--html": "optional",
    },
    "lam": {
        "IMAGE": "required",
        "--window": "required",
        "--models --model -m": "optional",
        "--output -o": "optional",
        "--json": "optional",
        "--lr": "optional",
        "--steps": "optional",
        "--device": "optional",
    },
    "info": {"SOURCE": "required"},
    "export": {"MODEL": "required", "--output -o": "required", "--precision": "optional", "--overwrite": "optional"},
    "models": {},
    "train": {
        "--recipe": "required",
        "OVERRIDES": "optional",
        "--output -o": "optional",
        "--stage": "optional",
        "--dry-run": "optional",
        "--trust": "optional",
    },
    "experiment": {
        "--name": "required",
        "OVERRIDES": "optional",
        "--data": "required",
        "--benchmarks": "required",
        "--output -o": "optional",
        "--arms": "optional",
        "--page": "optional",
        "--recipes": "optional",
        "--scale-up": "optional",
        "--dry-run": "optional",
        "--trust": "optional",
    },
    "data check": {
        "--target": "required",
        "OVERRIDES": "optional",
        "--scale": "optional",
        "--patch-size": "optional",
        "--against": "optional",
        "--stage": "optional",
    },
    "data prepare": {
        "--source": "required",
        "--destination": "required",
        "--to": "optional",
        "--crop": "optional",
        "--step": "optional",
        "--shrink": "optional",
        "--max-width": "optional",
        "--shard-size": "optional",
    },
    "data label": {
        "WORDS": "optional",
        "--recipe": "required",
        "--output -o": "required",
        "--teacher": "required",
        "--samples": "required",
        "--stage": "optional",
        "--precision": "optional",
    },
    "data degrade": {
        "IMAGES": "optional",
        "--recipe": "required",
        "--output -o": "required",
        "--stage": "optional",
        "--samples": "optional",
        "--seed": "optional",
    },
    "serve": {
        "--host": "optional",
        "--port": "optional",
        "--allowed-host": "optional",
        "--model -m": "optional",
        "--folder": "optional",
        "--token": "optional",
        "--max-bytes": "optional",
        "--max-pixels": "optional",
        "--max-result-pixels": "optional",
        "--direct-pixels": "optional",
        "--max-queue": "optional",
        "--max-connections": "optional",
        "--max-uploads": "optional",
        "--max-seconds": "optional",
        "--direct-seconds": "optional",
        "--file-seconds": "optional",
        "--idle-seconds": "optional",
        "--keep-seconds": "optional",
        "--keep-bytes": "optional",
        "--memory": "optional",
        "--precision": "optional",
        "--device": "optional",
        "--root-path": "optional",
        "--page --no-page": "optional",
    },
    "import-options": {"--option-file": "required", "--output -o": "optional", "--num-gpus": "optional"},
}

CHOICES = {
    ("upscale", "--tile"): ("auto", "off"),
    ("serve", "--precision"): ("auto", "fp32", "bf16", "fp16"),
    ("upscale", "--precision"): ("auto", "fp32", "bf16", "fp16"),
    ("upscale", "--runtime"): ("auto", "torch", "onnxruntime", "openvino"),
    ("upscale", "--engine"): ("local", "ray"),
    ("export", "--precision"): ("fp32", "fp16"),
    ("data label", "--precision"): ("auto", "fp32", "bf16", "fp16"),
    ("data prepare", "--to"): ("folder", "lmdb", "webdataset"),
    ("benchmark", "--degrade"): ("real", "mild"),
    ("benchmark", "--tile"): ("auto", "off"),
    ("benchmark", "--precision"): ("auto", "fp32", "bf16", "fp16"),
}


def _app(command):
    """The app of a command, or of a command of a group of commands, such as "data check"."""
    found = app
    for name in command.split():
        found = found[name]
    return found


def _arguments(command):
    arguments = _app(command).assemble_argument_collection(parse_docstring=True)
    return [argument for argument in arguments if argument.names != ("*",)]  # a group of options


def _commands(group):
    return {name for name in group if not name.startswith("-")}


def test_commands():
    found = {f"{name} {inner}".strip() for name in _commands(app) for inner in _commands(app[name]) or {""}}
    assert found == set(SURFACE)
    assert {name for name in app if name.startswith("-")} == {"--help", "-h", "--version"}


@pytest.mark.parametrize("command", SURFACE)
def test_options(command):
    found = {
        " ".join(argument.names): "required" if argument.required else "optional" for argument in _arguments(command)
    }
    assert found == SURFACE[command]


@pytest.mark.parametrize(("command", "option"), CHOICES)
def test_choices(command, option):
    (argument,) = (argument for argument in _arguments(command) if option in argument.names)
    assert argument.get_choices() == CHOICES[command, option]


@pytest.mark.parametrize("command", SURFACE)
def test_everything_is_explained(command):
    assert _app(command).help or _app(command).default_command.__doc__
    unexplained = [argument.names for argument in _arguments(command) if not argument.parameter.help]
    assert unexplained == []


@pytest.mark.parametrize("command", SURFACE)
def test_help_is_printed(command, capsys):
    app([*command.split(), "--help"])
    printed = capsys.readouterr().out
    for names in SURFACE[command]:
        for name in names.split():
            assert name.removeprefix("--").upper() in printed.upper()
