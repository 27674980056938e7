"""What `hat-sr upscale` and `hat-sr batch` have in common besides their options: what those mean, and what is said."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID

from hat_sr.cli.messages import say
from hat_sr.cli.options import Options
from hat_sr.cli.progress import progress_bars
from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.manifest import Manifest, Outcome, Planned, Verdict
from hat_sr.inference.sizing import parse_size
from hat_sr.inference.upscaler import Progress

Item = TypeVar("Item")


def settings_of(options: Options) -> Settings:
    """The settings for each picture. Raises ConfigError or InputError for what cannot be."""
    if options.overwrite and options.skip_existing:
        raise ConfigError("--overwrite and --skip-existing contradict each other: give one")
    return Settings(
        model=options.model,
        scale=options.scale,
        size=None if options.size is None else parse_size(options.size),
        tile=options.tile,
        memory=None if options.memory is None else parse_bytes(options.memory),
        precision=options.precision,
        self_ensemble=options.self_ensemble,
        device=options.device,
        quality=options.quality,
    )


def verdict(manifest: Manifest, planned: Planned, options: Options) -> Verdict:
    """What becomes of a planned result by these options. See `Manifest.verdict`."""
    return manifest.verdict(
        planned,
        overwrite=options.overwrite,
        skip_existing=options.skip_existing,
        retry_failed=options.retry_failed,
    )


def by_verdict(items: Iterable[Item], verdict: Callable[[Item], Verdict]) -> dict[Verdict, list[Item]]:
    """What is planned, by what becomes of it."""
    found: dict[Verdict, list[Item]] = {"do": [], "done": [], "failed": [], "skip": [], "refuse": []}
    for item in items:
        found[verdict(item)].append(item)
    return found


def carry_out(
    make: Callable[[Bars, TaskID, TaskID], Iterable[Outcome]],
    *,
    total: int,
    enlarger: Enlarger,
    where: str,
    num_before: int,
    failed_before: Sequence[str],
    num_left_out: int,
    quiet: bool,
) -> int:
    """Have results made, and say at the end, after Ctrl-C too, what became of it. Returns how many there are not.

    make: yields what became of each of `total` results; takes bars, of which one counts images and one shows what is
    done of one. where: a phrase on where results are. num_before, failed_before, num_left_out: of earlier runs, as for
    `_before`. quiet: say nothing if all went well, there was nothing before, and stderr is no terminal.
    """
    console, since = Console(stderr=True), time.monotonic()
    reasons: list[str] = []
    num_done = 0
    try:
        with progress_bars(console) as bars:
            images = bars.add_task("images", total=total)
            tiles = bars.add_task("tiles", total=1, visible=False)
            for outcome in make(bars, images, tiles):
                if outcome.reason is None:
                    num_done += 1
                else:
                    reasons.append(outcome.reason)
                bars.advance(images)
    finally:
        for reason in reasons:
            say(f"failed: {reason}")
        before = _before(num_before, failed_before, num_left_out)
        if not quiet or console.is_terminal or num_done < total or before:
            how = f"{num_done} of {total} done in {time.monotonic() - since:.1f} s by {enlarger}"
            say(f"{how}{f', {where}' if num_done or not total else ''}{before}")
    return len(reasons) + len(failed_before)


def _before(num_done: int, failed: Sequence[str], num_left_out: int) -> str:
    """A phrase about what earlier runs did; empty if that is nothing.

    failed: the reasons of what failed then. num_left_out: results beside their inputs, which are no inputs.
    """
    phrases = []
    if num_done:
        phrases.append(f"{num_done} done before")
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        phrases.append(f"{len(failed)} failed before ({failed[0]}{more}), which --retry-failed tries again")
    if num_left_out:
        phrases.append(f"{num_left_out} {'results' if num_left_out > 1 else 'result'} of earlier calls left out")
    return "".join(f"; {phrase}" for phrase in phrases)


def reporter(bars: Bars, task: TaskID) -> Progress:
    """Shows forward passes or tiles on a bar, whose rate does not count those that were done before."""
    begun = False

    def report(done: int, total: int) -> None:
        nonlocal begun
        show = bars.update if begun else bars.reset
        show(task, completed=done, total=total, visible=total > 1)
        begun = True

    return report
