"""What `hat-sr upscale` and `hat-sr batch` have in common besides their options: what those mean, and what is said."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console

from hat_sr.cli.messages import say
from hat_sr.cli.options import Options
from hat_sr.cli.parsing import parse_bytes
from hat_sr.cli.progress import PictureBars, progress_bars
from hat_sr.errors import ConfigError
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.manifest import Manifest, Outcome, Planned, Verdict
from hat_sr.inference.sizing import parse_scale, parse_size

Item = TypeVar("Item")


def settings_of(options: Options) -> Settings:
    """The settings for each picture. Raises ConfigError or InputError for what cannot be."""
    if options.overwrite and options.skip_existing:
        raise ConfigError("--overwrite and --skip-existing contradict each other: give one")
    return Settings(
        model=options.model,
        scale=None if options.scale is None else parse_scale(options.scale),
        size=None if options.size is None else parse_size(options.size),
        tile=options.tile,
        memory=None if options.memory is None else parse_bytes(options.memory),
        precision=options.precision,
        self_ensemble=options.self_ensemble,
        device=options.device,
        quality=options.quality,
        keep_dpi=options.keep_dpi,
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


@dataclass(frozen=True, kw_only=True)
class Aside:
    """What a call finds and does not make."""

    num_done: int
    """Results that are there already."""
    failed: Sequence[str]
    """Why others could not be made before, and so are not tried again."""
    num_left_out: int
    """Results beside their inputs, which are no inputs."""
    unread: Sequence[str]
    """A sentence for each folder that cannot be read."""

    def __str__(self) -> str:
        """A phrase, with the separator in front; empty if there is nothing to say."""
        phrases = []
        if self.num_done:
            phrases.append(f"{self.num_done} done before")
        if self.failed:
            more = f", and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
            phrases.append(
                f"{len(self.failed)} failed before ({self.failed[0]}{more}), which --retry-failed tries again"
            )
        if self.num_left_out:
            phrases.append(
                f"{self.num_left_out} {'results' if self.num_left_out > 1 else 'result'} of earlier calls left out"
            )
        return "".join(f"; {phrase}" for phrase in phrases)


def carry_out(
    make: Callable[[PictureBars], Iterable[Outcome]], *, total: int, enlarger: Enlarger, where: str, aside: Aside
) -> int:
    """Have results made, and say at the end, after Ctrl-C too, what became of it. Returns the exit code.

    make: yields what became of each of `total` results; tells the bars how far each is. where: a phrase on where
    results are.
    """
    console, since = Console(stderr=True), time.monotonic()
    reasons = list(aside.unread)
    num_done = 0
    try:
        with progress_bars(console) as bars:
            pictures = PictureBars(bars, total=total)
            for outcome in make(pictures):
                if outcome.reason is None:
                    num_done += 1
                else:
                    reasons.append(outcome.reason)
                pictures.ended()
    finally:
        for reason in reasons:
            say(f"failed: {reason}")
        how = f"{num_done} of {total} done in {time.monotonic() - since:.1f} s by {enlarger}"
        say(f"{how}{f', {where}' if num_done or not total else ''}{aside}")
    return 1 if reasons or aside.failed else 0
