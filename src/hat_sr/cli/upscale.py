"""`hat-sr upscale`."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress as Bars
from rich.progress import TaskID

from hat_sr.cli.enlarging import carry_out, reporter, settings_of, verdict
from hat_sr.cli.jobs import Job, Sorted, plan_jobs, sort_jobs
from hat_sr.cli.messages import say
from hat_sr.cli.networks import RuntimeName, open_in_runtime
from hat_sr.cli.options import Options
from hat_sr.files import remove_leftovers
from hat_sr.inference.enlarge import Enlarger
from hat_sr.inference.manifest import FileLines, Manifest, Outcome, Planned, Verdict, attempt, stamp
from hat_sr.inference.sizing import format_size

_DEFAULTS = Options()


def upscale(
    *inputs: Annotated[str, Parameter(help="Image files, folders (searched recursively) and glob patterns.")],
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    runtime: RuntimeName = "auto",
    options: Options = _DEFAULTS,
) -> int:
    """Make images larger and sharper.

    A result is written beside its input as NAME_x4.EXT, or under --output. One bad file never stops the rest. Of a
    folder it is written down what was done: the same call again does what is missing or has changed since.

    Parameters
    ----------
    output
        A folder, in which results keep their inputs' relative paths and names, or a file if there is one input. What
        ends with a slash is a folder.
    runtime
        What runs the network: torch, or another on the CPU, for which weights are exported first (hat-sr export does so
        once and for all). auto is torch, and for an exported file its own.
    """
    settings = settings_of(options)
    enlarger = Enlarger(settings, open_named=partial(open_in_runtime, runtime=runtime), say=say)
    suffix = f"_x{enlarger.factor:g}" if settings.size is None else f"_{format_size(settings.size)}"
    plan = plan_jobs(inputs, output=output, suffix=suffix, image_format=options.format, quality=options.quality)
    with ExitStack() as stack:
        folders = {job.folder for job in plan.jobs if job.folder is not None}
        manifests = {
            folder: stack.enter_context(Manifest(FileLines(folder), enlarger.identity())) for folder in folders
        }
        found = sort_jobs(plan.jobs, lambda job: _verdict(job, manifests, options))
        for folder, manifest in manifests.items():
            _begin(manifest, folder, found)
        num_failed = _run(found, enlarger, manifests, num_left_out=len(plan.left_out))
    return 1 if num_failed else 0


def _planned(job: Job) -> Planned:
    return Planned(result=job.result, input=job.relative.as_posix(), stamp=stamp(job.source), before=stamp(job.output))


def _verdict(job: Job, manifests: dict[Path, Manifest], options: Options) -> Verdict:
    if job.folder is not None:
        return verdict(manifests[job.folder], _planned(job), options)
    if not job.output.exists() or options.overwrite:
        return "do"
    return "skip" if options.skip_existing else "refuse"


def _begin(manifest: Manifest, folder: Path, found: Sorted) -> None:
    """Write down what is planned, if anything is, and tidy up after earlier runs."""
    to_do, done = ([_planned(job) for job in jobs if job.folder == folder] for jobs in (found.to_do, found.done))
    manifest.begin(to_do, done=done)
    for place in {job.output.parent for job in found.to_do if job.folder == folder}:
        remove_leftovers(place)


def _run(found: Sorted, enlarger: Enlarger, manifests: dict[Path, Manifest], *, num_left_out: int) -> int:
    """Do what there is to do. num_left_out: see `carry_out`. Returns how many results there are not."""

    def make(bars: Bars, images: TaskID, tiles: TaskID) -> Iterator[Outcome]:
        for job in found.to_do:
            bars.update(images, description=job.source.name)
            bars.reset(tiles, visible=False)
            work = partial(enlarger.enlarge, job.source, job.output, progress=reporter(bars, tiles))
            outcome = attempt(job.result, str(job.source), partial(stamp, job.source), work)
            if job.folder is not None:
                manifests[job.folder].add(outcome)
            yield outcome

    num_failed = carry_out(
        make,
        total=len(found.to_do),
        enlarger=enlarger,
        where=_where(found.to_do),
        num_before=len(found.done),
        failed_before=[manifests[job.folder].reason(job.result) for job in found.failed if job.folder is not None],
        num_left_out=num_left_out,
        quiet=True,
    )
    for manifest in manifests.values():
        manifest.end()
    return num_failed


def _where(jobs: list[Job]) -> str:
    if not jobs:
        return "nothing to do"
    return str(jobs[0].output) if len(jobs) == 1 else f"in {jobs[0].output.parent}"
