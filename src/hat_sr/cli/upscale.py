"""`hat-sr upscale`."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hat_sr.cli.enlarging import Aside, carry_out, settings_of, verdict
from hat_sr.cli.jobs import FilePlan, Job, Sorted, plan_jobs, sort_jobs
from hat_sr.cli.messages import say
from hat_sr.cli.options import Options
from hat_sr.cli.progress import PictureBars
from hat_sr.files import remove_leftovers
from hat_sr.inference.enlarge import Enlarger
from hat_sr.inference.manifest import FileLines, Manifest, Outcome, Planned, Verdict, attempt, stamp
from hat_sr.inference.open import RuntimeName
from hat_sr.inference.sizing import format_size

_DEFAULTS = Options()


def upscale(
    *inputs: Annotated[str, Parameter(help="Image files, folders (searched recursively) and glob patterns.")],
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    runtime: RuntimeName = "auto",
    options: Options = _DEFAULTS,
) -> int:
    """Make images larger and sharper.

    A result is written beside its input as NAME_x4.EXT, or under --output. One bad file does not stop the rest. A
    folder has a manifest: the same call again makes what is missing or has changed since.

    Parameters
    ----------
    output
        A folder, in which results keep the relative paths and names of their inputs, or a file if there is one input. A
        name with a slash at the end is a folder.
    runtime
        torch, or a runtime on the CPU, for which weights are exported at each call (hat-sr export does it once). auto
        is torch, or for an exported file its own runtime.
    """
    settings = replace(settings_of(options), runtime=runtime)
    enlarger = Enlarger(settings, say=say)
    identity = enlarger.identity()
    suffix = f"_x{enlarger.factor:g}" if settings.size is None else f"_{format_size(settings.size)}"
    with ExitStack() as stack:
        manifests: dict[Path, Manifest] = {}

        def manifest(folder: Path) -> Manifest:
            if folder not in manifests:
                manifests[folder] = stack.enter_context(Manifest(FileLines(folder), identity))
            return manifests[folder]

        plan = plan_jobs(
            inputs,
            output=output,
            suffix=suffix,
            image_format=options.format,
            quality=options.quality,
            manifest=manifest,
        )
        for folder in {job.folder for job in plan.jobs if job.folder is not None}:
            manifest(folder)
        found = sort_jobs(plan.jobs, lambda job: _verdict(job, manifests, options))
        _begin(found, manifests)
        return _run(found, enlarger, manifests, plan)


def _planned(job: Job) -> Planned:
    return Planned(result=job.result, input=job.relative.as_posix(), stamp=stamp(job.source), before=stamp(job.output))


def _verdict(job: Job, manifests: dict[Path, Manifest], options: Options) -> Verdict:
    planned = _planned(job)
    if job.folder is not None:
        return verdict(manifests[job.folder], planned, options)
    if planned.before is None or options.overwrite:
        return "do"
    return "skip" if options.skip_existing else "refuse"


def _begin(found: Sorted, manifests: dict[Path, Manifest]) -> None:
    """Write down what is planned, if anything is, and tidy up after earlier runs."""
    to_do: dict[Path, list[Planned]] = {folder: [] for folder in manifests}
    done: dict[Path, list[Planned]] = {folder: [] for folder in manifests}
    for jobs, planned in ((found.to_do, to_do), (found.done, done)):
        for job in jobs:
            if job.folder is not None:
                planned[job.folder].append(_planned(job))
    for folder, manifest in manifests.items():
        manifest.begin(to_do[folder], done=done[folder])
    for place in {job.output.parent for job in found.to_do if job.folder is not None}:
        remove_leftovers(place)


def _run(found: Sorted, enlarger: Enlarger, manifests: dict[Path, Manifest], plan: FilePlan) -> int:
    """Do what there is to do. Returns the exit code."""

    def make(bars: PictureBars) -> Iterator[Outcome]:
        for job in found.to_do:
            report = partial(bars, str(job.source))
            report(0)
            work = partial(enlarger.enlarge, job.source, job.output, report=report)
            outcome = attempt(job.result, str(job.source), partial(stamp, job.source), work)
            if job.folder is not None:
                manifests[job.folder].add(outcome)
            yield outcome

    failed = [manifests[job.folder].reason(job.result) for job in found.failed if job.folder is not None]
    aside = Aside(num_done=len(found.done), failed=failed, num_left_out=len(plan.left_out), unread=plan.unread)
    code = carry_out(make, total=len(found.to_do), enlarger=enlarger, where=_where(found.to_do), aside=aside)
    for manifest in manifests.values():
        manifest.end()
    return code


def _where(jobs: list[Job]) -> str:
    if not jobs:
        return "nothing to do"
    return str(jobs[0].output) if len(jobs) == 1 else f"in {jobs[0].output.parent}"
