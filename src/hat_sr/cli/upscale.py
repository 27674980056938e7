"""`hat-sr upscale`."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from hat_sr.batch.ledger import Ledger, Outcome, Verdict
from hat_sr.batch.local import run_here
from hat_sr.batch.places import Place, is_url
from hat_sr.batch.plan import FileJob, FilePlan, plan_jobs, sort_jobs
from hat_sr.batch.ray import Cluster, run_on_ray
from hat_sr.cli.messages import say
from hat_sr.cli.options import EngineOptions, Options
from hat_sr.cli.parsing import parse_bytes
from hat_sr.cli.progress import PictureBars, progress_bars
from hat_sr.errors import ConfigError
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.sizing import format_size, parse_scale, parse_size

_ENGINE, _OPTIONS = EngineOptions(), Options()


def upscale(
    *inputs: Annotated[
        str, Parameter(help="Image files, folders (searched recursively), glob patterns, and URLs of these: s3://…")
    ],
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    engine: EngineOptions = _ENGINE,
    options: Options = _OPTIONS,
) -> int:
    """Make images larger and sharper.

    A result is written beside its input as NAME_x4.EXT, or under --output. One bad file does not stop the rest. A
    folder has a ledger of what is done: the same call again makes what is missing or has changed since.

    Parameters
    ----------
    output
        A folder, in which results keep the relative paths and names of their inputs, or a file if there is one input;
        or the URL of one. A name with a slash at the end is a folder.
    """
    if engine.engine == "local" and engine.address is not None:
        raise ConfigError(f"address {engine.address} is that of a Ray cluster: give --engine ray, too")
    settings = _settings(options)
    enlarger = Enlarger(settings, say=say)
    identity = enlarger.identity()
    suffix = f"_x{enlarger.factor:g}" if settings.size is None else f"_{format_size(settings.size)}"
    with ExitStack() as stack:
        ledgers: dict[str, Ledger] = {}

        def ledger(folder: str) -> Ledger:
            if folder not in ledgers:
                ledgers[folder] = stack.enter_context(Ledger(Place(folder).lines(), identity))
            return ledgers[folder]

        plan = plan_jobs(
            inputs,
            output=output,
            suffix=suffix,
            image_format=options.format,
            quality=options.quality,
            ledger=ledger,
        )
        for job in plan.jobs:
            if job.in_ledger:
                ledger(job.destination)
        found = sort_jobs(plan.jobs, lambda job: _verdict(job, ledgers, options))
        _begin(found, ledgers)
        code = _carry_out(plan, found, ledgers, enlarger, engine)
        for one in ledgers.values():
            one.end()
        return code


def _settings(options: Options) -> Settings:
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
        runtime=options.runtime,
        quality=options.quality,
        keep_dpi=options.keep_dpi,
    )


def _verdict(job: FileJob, ledgers: dict[str, Ledger], options: Options) -> Verdict:
    if job.in_ledger:
        return ledgers[job.destination].verdict(
            job,
            overwrite=options.overwrite,
            skip_existing=options.skip_existing,
            retry_failed=options.retry_failed,
        )
    if job.before is None or options.overwrite:
        return "do"
    return "skip" if options.skip_existing else "refuse"


def _begin(found: dict[Verdict, list[FileJob]], ledgers: dict[str, Ledger]) -> None:
    """Write down what is planned, if anything is, and tidy up after earlier runs."""

    def by_folder(verdict: Verdict) -> dict[str, list[FileJob]]:
        jobs: dict[str, list[FileJob]] = {folder: [] for folder in ledgers}
        for job in found[verdict]:
            if job.in_ledger:
                jobs[job.destination].append(job)
        return jobs

    to_do, done = by_folder("do"), by_folder("done")
    for folder, ledger in ledgers.items():
        ledger.begin(to_do[folder], done=done[folder])
        Place(folder).remove_leftovers(job.result for job in to_do[folder])


def _carry_out(
    plan: FilePlan,
    found: dict[Verdict, list[FileJob]],
    ledgers: dict[str, Ledger],
    enlarger: Enlarger,
    engine: EngineOptions,
) -> int:
    """Do what there is to do, and say at the end, after Ctrl-C too, what became of it. Returns the exit code."""
    jobs, since = found["do"], time.monotonic()
    reasons, num_done = list(plan.unread), 0
    try:
        with progress_bars(Console(stderr=True)) as bars:
            pictures = PictureBars(bars, total=len(jobs))
            for job, outcome in _outcomes(jobs, enlarger, engine, pictures):
                if job.in_ledger:
                    ledgers[job.destination].add(outcome)
                if outcome.reason is None:
                    num_done += 1
                else:
                    reasons.append(outcome.reason)
                pictures.ended()
    finally:
        for reason in reasons:
            say(f"failed: {reason}")
        failed = [ledgers[job.destination].reason(job.result) for job in found["failed"]]
        how = f"{num_done} of {len(jobs)} done in {time.monotonic() - since:.1f} s by {enlarger}"
        where = f", {_where(jobs)}" if num_done or not jobs else ""
        say(f"{how}{where}{_aside(len(found['done']), failed, len(plan.left_out))}")
    return 1 if reasons or failed else 0


def _outcomes(
    jobs: list[FileJob], enlarger: Enlarger, engine: EngineOptions, bars: PictureBars
) -> Iterator[tuple[FileJob, Outcome]]:
    if engine.engine == "local":
        return run_here(jobs, enlarger, report=bars)
    cluster = Cluster(address=engine.address, num_workers=engine.workers, num_cpus=engine.cpus, num_gpus=engine.gpus)
    return run_on_ray(jobs, enlarger.settings, cluster)


def _where(jobs: list[FileJob]) -> str:
    """Where results are."""
    if not jobs:
        return "nothing to do"
    first = jobs[0].shown_result
    if len(jobs) == 1:
        return first
    return f"in {jobs[0].destination}" if is_url(first) else f"in {Path(first).parent}"


def _aside(num_done: int, failed: list[str], num_left_out: int) -> str:
    """What the call found and did not make: phrases, each with a separator in front."""
    text = f"; {num_done} done before" if num_done else ""
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        text += f"; {len(failed)} failed before ({failed[0]}{more}), which --retry-failed tries again"
    if num_left_out:
        text += f"; {num_left_out} {'results' if num_left_out > 1 else 'result'} of earlier calls left out"
    return text
