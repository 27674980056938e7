"""What `hat-sr upscale` and `hat-sr batch` have in common besides their options: what those mean, and what is said."""

import sys
from collections.abc import Sequence

from rich.progress import Progress as Bars
from rich.progress import TaskID

from hat_sr.cli.options import Options
from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError
from hat_sr.inference.enlarge import Settings
from hat_sr.inference.sizing import parse_size
from hat_sr.inference.upscaler import Progress


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


def say(sentence: str) -> None:
    """Tell people, on stderr."""
    print(sentence, file=sys.stderr)


def before(num_done: int, failed: Sequence[str]) -> str:
    """A phrase about what earlier runs did; empty if that is nothing. failed: the reasons of what failed then."""
    phrases = []
    if num_done:
        phrases.append(f"{num_done} done before")
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        phrases.append(f"{len(failed)} failed before ({failed[0]}{more}), which --retry-failed tries again")
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
