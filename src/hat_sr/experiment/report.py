"""What the runs of an experiment wrote, as tables, as a plot, and in a page between marks."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from hat_sr.errors import ConfigError, require
from hat_sr.evaluate.report import NONE, markdown_table
from hat_sr.experiment.config import Arm, Experiment, Group
from hat_sr.experiment.run import Result
from hat_sr.files import replacing

Results = Mapping[str, Mapping[int, Result]]
"""By arm, and by seed if that one is done."""

_ENOUGH_SEEDS = 3
"""From so many on their range says how far they lie apart."""

_DOTS_PER_INCH = 110
_PANEL_INCHES = (4.8, 3.6)
_COLUMNS = 2


def spread(results: Results) -> float | None:
    """How far seeds lie apart: the largest difference between two of one arm, of their means over the sets.

    None if no arm was trained with more than one.
    """
    means = [[_mean(result) for result in runs.values() if result.psnr] for runs in results.values()]
    ranges = [max(values) - min(values) for values in means if len(values) > 1]
    return max(ranges, default=None)


def table(experiment: Experiment, group: Group, results: Results) -> str:
    """A Markdown table of a group: PSNR by set, the difference to the first arm, size, cost, steps and time.

    With several seeds, PSNR is their mean, and the smallest and largest are in brackets. The difference is that of the
    means over the sets, of runs with the same seed, which see the same patches. "not resolved" stands beside it if it
    is no larger than the range of these differences or, of fewer than three seeds, than `spread`. Arms that are not
    done have no figures.
    """
    first, *_ = group.arms
    apart = spread(results)
    header = ("", *experiment.sets, f"to {first}", "parameters", "multiply-adds", "steps", "minutes")
    rows = []
    for name in group.arms:
        runs = results[name]
        chain = experiment.chain(experiment.arm(name))
        steps = " + ".join(f"{arm.recipe.optim.total_steps:,}" for arm in chain)
        if not runs:
            rows.append((name, *[NONE] * (len(header) - 3), steps, NONE))
            continue
        seconds = sum(fmean(result.seconds for result in results[arm.name].values()) for arm in chain)
        size, *_ = runs.values()
        rows.append(
            (
                name,
                *(_over_seeds([result.psnr[one] for result in runs.values()]) for one in experiment.sets),
                NONE if name == first else _difference(runs, results[first], apart),
                f"{size.num_parameters / 1e3:.0f} K",
                f"{size.multiply_adds / 1e9:.2f} G",
                steps,
                f"{seconds / 60:.1f}",
            )
        )
    return markdown_table(header, rows)


def notes(experiment: Experiment, results: Results) -> str:
    """What belongs below the tables, in a few sentences."""
    what = "PSNR-Y in dB; multiply-adds of 64×64 low-resolution pixels; minutes are of the steps, at their median rate."
    apart = spread(results)
    if apart is None:
        return f"{what} No arm has more than one seed, so how far seeds lie apart is not known."
    return (
        f"{what} Differences are in the mean over the sets, between runs with the same seed, which see the same "
        "patches: the mean of the seeds, with the smallest and the largest in brackets. It is not resolved if it "
        "is no larger than the distance between those two. Of fewer than three seeds it is not if it is no larger than "
        f"what seeds of one arm lie apart, {apart:.3f} dB at the most."
    )


def draw(experiment: Experiment, results: Results, path: Path) -> None:
    """Write a PNG with the PSNR of the validations over steps, a panel for each group.

    Of an arm with several seeds their mean is drawn, and from the smallest to the largest a pale band. An arm that
    starts from another one has that one's before its own. Raises MissingExtraError without matplotlib.
    """
    num_rows = -(-len(experiment.groups) // _COLUMNS)
    num_columns = min(_COLUMNS, len(experiment.groups))
    new_figure = require("matplotlib.figure", extra="lam").Figure
    size = (_PANEL_INCHES[0] * num_columns, _PANEL_INCHES[1] * num_rows)
    figure = new_figure(size, dpi=_DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).flat
    folder = experiment.arms[0].recipe.log.validation_folder
    validated = "PSNR-Y" if folder is None else f"PSNR-Y on {Path(folder).name}"
    for group, axes in zip(experiment.groups, panels, strict=False):
        lowest, highest = [], []
        for name in group.arms:
            points = curve(experiment, experiment.arm(name), results)
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            means = [fmean(each) for each in values]
            (line,) = axes.plot(steps, means, marker=".", linewidth=1, label=name)
            if len(values[0]) > 1:
                axes.fill_between(steps, [*map(min, values)], [*map(max, values)], color=line.get_color(), alpha=0.2)
            lowest.append(means[len(means) // 4])
            highest.append(max(max(each) for each in values))
        if highest:  # the first steps are far below the rest, which is what matters
            margin = 0.05 * (max(highest) - min(lowest)) + 0.01
            axes.set_ylim(min(lowest) - margin, max(highest) + margin)
            axes.legend(fontsize="small")
        axes.set_title(group.name, fontsize="medium")
        axes.set_xlabel("steps")
        axes.set_ylabel(f"{validated}, dB")
        axes.grid(alpha=0.3)
    for axes in list(figure.axes)[len(experiment.groups) :]:
        axes.set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="png")


def curve(experiment: Experiment, arm: Arm, results: Results) -> list[tuple[int, tuple[float, ...]]]:
    """Steps of an arm's validations, after those of the arms it starts from, with the PSNR of each seed.

    Empty if an arm of these is not done.
    """
    chain = experiment.chain(arm)
    seeds = sorted(set.intersection(*(set(results[part.name]) for part in chain)))
    points, done = [], 0
    for part in chain:
        curves = [results[part.name][seed].curve for seed in seeds]
        points += [(done + each[0][0], tuple(psnr for _, psnr in each)) for each in zip(*curves, strict=True)]
        done += part.recipe.optim.total_steps
    return points


def write_report(experiment: Experiment, results: Results, folder: Path) -> None:
    """Write table.md and plot.png into `folder`. Raises as `draw`."""
    parts = [f"# {experiment.title}"]
    parts += [f"## {group.name}\n\n{table(experiment, group, results)}" for group in experiment.groups]
    parts.append(notes(experiment, results))
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "table.md") as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw(experiment, results, folder / "plot.png")


def marks(experiment: Experiment) -> dict[str, str]:
    """What stands before each table, and before the notes, in a page; `END` behind it."""
    names = [*(group.name for group in experiment.groups), "notes"]
    return {name: f"<!-- experiment {experiment.name}: {name} -->" for name in names}


END = "<!-- end -->"


def write_page(experiment: Experiment, results: Results, page: Path) -> None:
    """Put the tables and notes between their marks in a Markdown page, and the plot into pictures/ beside it.

    What is outside the marks stays. Raises ConfigError if marks are missing.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    content = {group.name: table(experiment, group, results) for group in experiment.groups}
    content["notes"] = notes(experiment, results)
    for name, mark in marks(experiment).items():
        before, found, rest = text.partition(f"{mark}\n")
        _, ended, behind = rest.partition(END)
        if not found or not ended or mark in rest:
            raise ConfigError(f"{page} needs the lines {mark} and {END}, once, for the tables to be put between")
        text = f"{before}{mark}\n\n{content[name]}\n\n{END}{behind}"
    pictures = page.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    draw(experiment, results, pictures / f"experiment-{experiment.name}.png")
    with replacing(page) as part:
        part.write_text(text, encoding="utf-8")


def _mean(result: Result) -> float:
    return fmean(result.psnr.values())


def _over_seeds(values: list[float]) -> str:
    mean = f"{fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f}–{max(values):.2f})"


def _difference(runs: Mapping[int, Result], reference: Mapping[int, Result], apart: float | None) -> str:
    differences = [_mean(result) - _mean(reference[seed]) for seed, result in runs.items() if seed in reference]
    if not differences:
        return NONE
    mean, smallest, largest = fmean(differences), min(differences), max(differences)
    text = f"{mean:+.3f}"
    if len(differences) > 1:
        text += f" ({smallest:+.3f} to {largest:+.3f})"
    if len(differences) >= _ENOUGH_SEEDS:
        apart = largest - smallest
    return text.replace("-", "−") + (", not resolved" if apart is not None and abs(mean) <= apart else "")
