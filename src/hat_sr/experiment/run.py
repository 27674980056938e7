"""Run an experiment: train and score arm after arm, going on from whatever is there."""

import json
import logging
import math
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from hat_sr.checkpoints.wrappers import read_state
from hat_sr.errors import ConfigError, DataError
from hat_sr.evaluate.benchmark import benchmark, mean_score
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.experiment.config import Arm, Experiment
from hat_sr.experiment.tasks import check_tasks, train_tasks
from hat_sr.files import replacing
from hat_sr.inference.lines import read_lines
from hat_sr.inference.upscale import padded
from hat_sr.model.cost import multiply_adds
from hat_sr.train.config import Recipe
from hat_sr.train.describe import Description, describe
from hat_sr.train.loop import train
from hat_sr.train.network import build_network, filled_network
from hat_sr.train.recipe import differences
from hat_sr.train.record import recipe_text
from hat_sr.train.state import TrainState

logger = logging.getLogger(__name__)

COST_SIZE = 64
"""Multiply-adds are those of an image with sides of so many low-resolution pixels."""

Progress = Callable[[str, int, dict[str, float]], None]
"""Called with "arm, seed n", the number of steps done, and what is known then."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of one arm with one seed, once it is trained."""

    psnr: dict[str, float]
    """By set, in dB on Y."""
    ssim: dict[str, float]
    num_parameters: int
    multiply_adds: int
    steps: int
    seconds: float
    """Of the steps alone, at the median rate: pauses, and other programs' work if it was now and then, do not count."""
    curve: tuple[tuple[int, float], ...]
    """Steps and PSNR of each validation."""


def run_folder(folder: Path, arm: Arm, seed: int) -> Path:
    """Where an arm is trained with a seed."""
    return folder / arm.name / f"seed-{seed}"


def recipe_of(experiment: Experiment, arm: Arm, seed: int, folder: Path) -> Recipe:
    """The arm's recipe with that seed, and with the weights that it starts from."""
    if arm.after is None:
        return replace(arm.recipe, seed=seed)
    start = run_folder(folder, experiment.arm(arm.after), seed) / "weights.safetensors"
    return replace(arm.recipe, seed=seed, start_from=str(start))


def run(
    experiment: Experiment,
    folder: Path,
    benchmarks: Path,
    *,
    only: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    on_result: Callable[[], None] | None = None,
) -> None:
    """Train and score every arm with each of its seeds in `folder`; what is done already is left as it is.

    benchmarks: the folder of the experiment's sets. only: the arms to train, others are left out. on_result is called
    after each training. Stopped and started again it goes on as `hat_sr.train.train` does, to the same weights.

    Raises ConfigError and DataError before any training if sets or settings cannot be, and as `train`.
    """
    for name in experiment.sets:
        find_datasets(benchmarks / name, experiment.arms[0].recipe.upscale)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "an experiment is run by one process: write its recipes with --recipes, start each with torchrun and "
            "hat-sr train, and then this command without torchrun, which scores them"
        )
    names = [arm.name for arm in experiment.arms]
    if unknown := set(only or names) - set(names):
        raise ConfigError(f"arms {', '.join(sorted(unknown))} are not in {experiment.name}: {', '.join(names)} are")
    arms = [arm for arm in experiment.arms if arm.name in (only or names)]
    for arm in arms:
        if arm.tasks:
            check_tasks(arm.tasks)
    for arm in arms:
        for seed in arm.seeds:
            recipe, place = recipe_of(experiment, arm, seed, folder), run_folder(folder, arm, seed)
            if _is_done(recipe, place):
                continue
            state = _train(arm, recipe, place, on_progress)
            if state.step < recipe.optim.total_steps:
                return  # stopped by a signal that does not end this process
            _keep(score(recipe, place, benchmarks, experiment.sets if arm.compared else ()), recipe, place)
            if on_result is not None:
                on_result()


def _train(arm: Arm, recipe: Recipe, place: Path, on_progress: Progress | None) -> TrainState:
    def report(step: int, record: dict[str, float]) -> None:
        if on_progress is not None:
            on_progress(f"{arm.name}, seed {recipe.seed}", step, record)

    if arm.tasks:
        return train_tasks([replace(task, seed=recipe.seed) for task in arm.tasks], place, on_progress=report)
    return train(recipe, place, on_progress=report)


def write_recipes(experiment: Experiment, folder: Path, recipes: Path, *, command: str) -> list[str]:
    """Write the recipe of every training into the folder `recipes`, to be trained by `hat-sr train`.

    command: what calls `run` for this experiment and folder; with --arms behind it, it trains arms with tasks.
    Returns the commands that train all arms in the places where `run` looks, in an order in which they can be run.
    """
    recipes.mkdir(parents=True, exist_ok=True)
    commands = []
    for arm in experiment.arms:
        if arm.tasks:
            commands.append(f"{command} --arms {arm.name}")
            continue
        for seed in arm.seeds:
            file = recipes / f"{arm.name}-seed-{seed}.toml"
            with replacing(file) as part:
                part.write_text(recipe_text(recipe_of(experiment, arm, seed, folder)), encoding="utf-8")
            commands.append(shlex.join(["hat-sr", "train", str(file), "-o", str(run_folder(folder, arm, seed))]))
    return commands


def describe_all(experiment: Experiment, folder: Path, benchmarks: Path, *, trust: bool = False) -> Description:
    """What `run` would train, as `describe` says it of each arm, with `trust`; nothing is trained or written.

    What is the same in all arms is said once, at the beginning. What is missing is told with the arms that need it,
    benchmark sets included. Raises as `describe`.
    """
    arms: list[tuple[str, Sequence[str]]] = []
    needed_by: dict[str, list[str]] = {}
    for arm in experiment.arms:
        for number, recipe in enumerate(arm.tasks or (arm.recipe,), start=1):
            seeds = ", ".join(map(str, arm.seeds))
            task = f", task {number} of {len(arm.tasks)}, whose steps take turns" if arm.tasks else ""
            after = f", after {arm.after}" if arm.after else ""
            place = run_folder(folder, arm, arm.seeds[0])
            description = describe(replace(recipe, seed=arm.seeds[0]), place, trust=trust)
            arms.append((f"{arm.name} (seed {seeds}{after}{task})", description.lines))
            for sentence in description.missing:
                needed_by.setdefault(sentence, []).append(arm.name + (f" task {number}" if arm.tasks else ""))
    common = [line for line in arms[0][1] if all(line in lines for _, lines in arms)] if len(arms) > 1 else []
    paragraphs = [["in all arms", *common]] if common else []
    paragraphs += [[title, *(line for line in lines if line not in common)] for title, lines in arms]
    missing = [
        f"{sentence} (for {'all arms' if len(names) == len(arms) else ', '.join(names)})"
        for sentence, names in needed_by.items()
    ]
    for name in experiment.sets:
        try:
            find_datasets(benchmarks / name, experiment.arms[0].recipe.upscale)
        except DataError as error:
            missing.append(f"{error} (to score on)")
    return Description(
        lines=tuple(line for paragraph in paragraphs for line in ("", *paragraph))[1:], missing=tuple(missing)
    )


def score(recipe: Recipe, place: Path, benchmarks: Path, sets: tuple[str, ...]) -> Result:
    """Score what was trained in `place` on the sets, on the CPU. Raises as `benchmark` and `read_state`."""
    network = filled_network(recipe, read_state(place / "weights.safetensors")[0])
    upscale = padded(network, multiple=recipe.size_multiple, scale=recipe.upscale)
    scores = {}
    for name in sets:
        (dataset,) = find_datasets(benchmarks / name, recipe.upscale)
        scores[name] = mean_score([result.score for result in benchmark(upscale, dataset)])
    rate, curve = read_log(place / "log.jsonl")
    return Result(
        psnr={name: found.psnr for name, found in scores.items()},
        ssim={name: found.ssim for name, found in scores.items()},
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        multiply_adds=count_multiply_adds(recipe),
        steps=recipe.optim.total_steps,
        seconds=recipe.optim.total_steps / rate,
        curve=curve,
    )


def read_log(path: Path) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The median of a training's steps a second, and steps and PSNR of each validation.

    Damaged lines are left out. NaN if none says how fast it was.
    """
    rates, curve = [], []
    for line in read_lines(path):
        match line:
            case {"loss": _, "steps_per_second": int() | float() as rate}:
                rates.append(float(rate))
        match line:
            case {"step": int(step), "psnr": int() | float() as psnr}:
                curve.append((step, float(psnr)))
    return (median(rates) if rates else math.nan), tuple(curve)


def count_multiply_adds(recipe: Recipe) -> int:
    """Of one image with sides of COST_SIZE: convolutions, linear layers and the products of attention.

    HAT's are counted by `multiply_adds`, another network's by torch's counter, in which only such operations are.
    """
    if recipe.model is not None:
        return multiply_adds(recipe.model, COST_SIZE, COST_SIZE)
    network = build_network(replace(recipe, start_from=None)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, COST_SIZE, COST_SIZE))
    return int(counter.get_total_flops()) // 2


def results(experiment: Experiment, folder: Path) -> dict[str, dict[int, Result]]:
    """What is there so far of every arm: a result for each seed that is done."""
    found: dict[str, dict[int, Result]] = {}
    for arm in experiment.arms:
        files = {seed: run_folder(folder, arm, seed) / "scores.json" for seed in arm.seeds}
        found[arm.name] = {seed: _read(file) for seed, file in files.items() if file.exists()}
    return found


def _keep(result: Result, recipe: Recipe, place: Path) -> None:
    content = {"recipe": asdict(recipe), **asdict(result)}
    with replacing(place / "scores.json") as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(file: Path) -> Result:
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["recipe"]
    return Result(**content | {"curve": tuple((step, psnr) for step, psnr in content["curve"])})


def _is_done(recipe: Recipe, place: Path) -> bool:
    """Whether this training was scored; ConfigError if it was another one."""
    file = place / "scores.json"
    if not file.exists():
        return False
    before = json.loads(file.read_text(encoding="utf-8"))["recipe"]
    if changed := differences(before, recipe):
        raise ConfigError(
            f"{place} was trained by another recipe ({', '.join(changed)}): give another -o, or delete it"
        )
    return True
