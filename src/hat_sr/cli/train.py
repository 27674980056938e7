"""`hat-sr train`."""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter

from hat_sr.allocator import keep_freed_memory
from hat_sr.cli.messages import print_description
from hat_sr.train.config import Recipe
from hat_sr.train.describe import describe
from hat_sr.train.loop import is_finished
from hat_sr.train.loop import train as run_training
from hat_sr.train.recipe import load_stages
from hat_sr.train.record import check_run
from hat_sr.train.state import TrainState


def train(
    recipe: Path,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True)],
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    stage: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    trust: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Train a HAT by a recipe, going on from where a training in the same folder stopped.

    Started by torchrun, the processes train together.

    Parameters
    ----------
    recipe
        A TOML file, such as those in recipes/.
    overrides
        Settings that win over the recipe's, such as --data.root DATA --optim.learning-rate 1e-4.
    output
        The run's folder: state.pt to go on from, weights.safetensors (the averaged network), best.safetensors (that of
        the best validation), recipe.toml (every setting), log.jsonl, pictures. Default: runs/NAME for NAME.toml. A
        recipe with stages has such a folder for each stage in it, with the stage's name.
    stage
        Train this stage of the recipe alone. Default: all, one after the other.
    dry_run
        Say what would be trained on what data and for how long, and train nothing. What is missing is named, and the
        exit code is then 1.
    trust
        Let --dry-run import and build the [network] that the recipe names, which is code and runs.
    """
    logging.getLogger("hat_sr").setLevel(logging.INFO)
    keep_freed_memory(everything=True)
    folder = output or Path("runs") / recipe.stem
    stages = load_stages(recipe, overrides, folder=folder, stage=stage)
    if dry_run:
        return _describe(stages, folder, trust=trust)
    for name, settings in stages.items():  # all of them first: what is wrong with the last would show after days
        check_run(settings, folder / name)
    for name, settings in stages.items():
        if len(stages) > 1 and is_finished(settings, folder / name):
            _tell(f"stage {name}: {folder / name / 'weights.safetensors'} is there")
            continue
        if name:
            _tell(f"stage {name}")
        state = _train(settings, folder / name)
        if state.step < settings.optim.total_steps:
            break
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _end_process()
    return 0


def _describe(stages: dict[str, Recipe], folder: Path, *, trust: bool) -> int:
    codes, made = [], set[str | None]()
    for name, settings in stages.items():
        if name:
            _tell(f"stage      {name}")
        follows = settings.start_from in made
        codes.append(print_description(describe(settings, folder / name, trust=trust, follows=follows)))
        made.add(str(folder / name / "weights.safetensors"))
    return max(codes)


def _tell(line: str) -> None:
    """Print a line, of several processes in the first alone."""
    if os.environ.get("RANK", "0") == "0":
        print(line, flush=True)


def _train(settings: Recipe, folder: Path) -> TrainState:
    """Train by one recipe, with a line for each report."""
    total_steps = settings.optim.total_steps
    since = time.monotonic()
    first: tuple[int, float] | None = None

    def report(step: int, record: dict[str, float]) -> None:
        nonlocal first
        now = time.monotonic()
        values = "  ".join(f"{name} {value:.4g}" for name, value in record.items())
        if first is None:
            first = step, now
        elif step > first[0]:  # by the clock: validating and saving take time too
            values += f"  {_duration((total_steps - step) * (now - first[1]) / (step - first[0]))} left"
        print(f"step {step} of {total_steps}  {values}", flush=True)

    state = run_training(settings, folder, on_progress=report)
    if state.step >= total_steps and state.processes.first:
        print(f"{folder / 'weights.safetensors'} written after {_duration(time.monotonic() - since)}")
    return state


def _end_process() -> NoReturn:
    """End this process as it is, with all exchanges and files done.

    When Python takes torch apart, threads of gloo end it with SIGABRT now and then (torch 2.13, one time in eight), and
    torchrun says that the training failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
