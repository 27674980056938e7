"""`hat-sr experiment`."""

import logging
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hat_sr.allocator import keep_freed_memory
from hat_sr.cli.messages import print_description
from hat_sr.cli.parsing import parse_names
from hat_sr.errors import require
from hat_sr.experiment.config import load_experiment
from hat_sr.experiment.report import write_page, write_report
from hat_sr.experiment.run import describe_all, results, run, write_recipes


def experiment(
    name: str,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True)],
    data: Path,
    benchmarks: Path,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    arms: str | None = None,
    page: Path | None = None,
    recipes: Path | None = None,
    scale_up: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    trust: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a set of trainings alike, score them alike, and write a table and a plot of them.

    Stopped, the same command goes on. What is done already is only read.

    Parameters
    ----------
    name
        pretraining, ablations or networks, or a TOML file of the same kind.
    overrides
        Settings that win over those of every arm, such as --optim.total-steps 20.
    data
        Folder of the training images.
    benchmarks
        Folder of the benchmark sets; Set5 in it is also what is validated on.
    output
        Folder of all runs, of table.md and plot.png. Default: runs/NAME, with --scale-up runs/NAME-scale-up.
    arms
        Which to train, with commas between them. Default: all, in order. One that starts from another needs that done.
    page
        Put the tables into this Markdown page too, between its marks, and the plot into pictures/ beside it.
    recipes
        Train nothing: write the recipe of each arm into this folder, and print the commands that train all, in order.
    scale_up
        The published sizes and numbers of steps, on DF2K and ImageNet, instead of small ones.
    dry_run
        Say what would be trained on what and for how long, and train nothing. What is missing, such as data, is named
        with the arms that need it, and the exit code is then 1.
    trust
        Let --dry-run import and build the [network] of a recipe, which is code and runs.
    """
    if not dry_run:  # which says of each arm what it would read
        logging.getLogger("hat_sr").setLevel(logging.INFO)
    keep_freed_memory(everything=True)
    own = ("--data.root", str(data), "--log.validation-folder", str(benchmarks / "Set5"))
    settings = load_experiment(name, (*own, *overrides), scale_up=scale_up)
    folder = output or Path("runs") / (settings.name + ("-scale-up" if scale_up else ""))
    if recipes is not None:
        words = ["hat-sr", "experiment", name, *overrides, "--data", data, "--benchmarks", benchmarks, "-o", folder]
        command = shlex.join(map(str, [*words, *(["--scale-up"] if scale_up else [])]))
        for line in write_recipes(settings, folder, recipes, command=command):
            print(line)
        return 0
    if dry_run:
        return print_description(describe_all(settings, folder, benchmarks, trust=trust))
    require("matplotlib.figure", extra="lam")  # before hours of training, not behind them

    def report(title: str, step: int, record: dict[str, float]) -> None:
        values = "  ".join(f"{key} {value:.4g}" for key, value in record.items())
        print(f"{title}: step {step}  {values}", flush=True)

    def write() -> None:
        found = results(settings, folder)
        write_report(settings, found, folder)
        if page is not None:
            write_page(settings, found, page)

    only = None if arms is None else parse_names([arms])
    run(settings, folder, benchmarks, only=only, on_progress=report, on_result=write)
    write()
    print((folder / "table.md").read_text(encoding="utf-8"))
    return 0
