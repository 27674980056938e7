"""All pictures of one folder enlarged into another: what there is to do, and one file after the other on this machine.

`hat_sr.cluster.ray` does the same on many. What is called for each file is the same `BatchWorker`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from hat_sr.checkpoints.named import AUTO, names_a_path
from hat_sr.cluster.places import Place, whole
from hat_sr.errors import ConfigError, HatError, InputError
from hat_sr.files import cannot_read
from hat_sr.image.formats import IMAGE_SUFFIXES, result_suffix, suffix_of
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.manifest import Manifest, Outcome, Planned, attempt
from hat_sr.inference.open import BICUBIC
from hat_sr.model.banded import Report


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is made of what: all that a worker is told once."""

    source: str
    destination: str
    settings: Settings

    def from_anywhere(self) -> "Task":
        """The same task for processes that were started in other folders: with whole paths."""
        model = self.settings.model
        is_path = model not in (AUTO, BICUBIC) and names_a_path(model)
        return Task(
            source=whole(self.source),
            destination=whole(self.destination),
            settings=replace(self.settings, model=whole(model) if is_path else model),
        )


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What a batch is to make."""

    planned: list[Planned]
    num_left_out: int
    """Results of `hat-sr upscale` beside their inputs: they are no inputs."""
    unread: list[str]
    """A sentence for each folder that cannot be read."""


def plan_batch(source: Place, destination: Place, *, image_format: str | None) -> BatchPlan:
    """Every picture of a folder with its result, which has its relative path and name, and the suffix as by `--format`.

    Raises InputError if there is no picture, ConfigError if two results would have one name, a result would replace an
    input, or the format is not written.
    """
    unread: list[str] = []
    files = source.files(onerror=lambda error: unread.append(cannot_read(error)), leave_out=destination)
    images = [name for name in files if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if not files and not unread:
        raise InputError(f"{source.url}: there is no such folder, or nothing in it")
    if not images and not unread:
        raise InputError(f"{source.url} holds no image among {len(files)} files")
    results = Manifest(source.lines(), {}).results_beside_inputs().intersection(images)
    wanted = None if image_format is None else suffix_of(image_format)
    inputs: dict[str, str] = {}
    in_place = destination.within(source) == ""
    for name in (name for name in images if name not in results):
        path = PurePosixPath(name)
        result = str(path.with_name(path.stem + result_suffix(path.suffix, wanted)))
        if in_place and result in files:
            raise ConfigError(f"the result {result} would replace an input: use another destination")
        if result in inputs:
            raise ConfigError(f"{inputs[result]} and {name} would both become {result}: enlarge them into two folders")
        inputs[result] = name
    before = destination.stamps(inputs)
    return BatchPlan(
        planned=[
            Planned(result=result, input=name, stamp=files[name], before=before[result])
            for result, name in inputs.items()
        ],
        num_left_out=len(results),
        unread=unread,
    )


class BatchWorker:
    """Makes results, one after the other, with its networks kept open: the enlarger's, or one of the task's settings.

    Raises as `Enlarger` and `Place`.
    """

    def __init__(self, task: Task, enlarger: Enlarger | None = None) -> None:
        self._enlarger = Enlarger(task.settings) if enlarger is None else enlarger
        self._source, self._destination = Place(task.source), Place(task.destination)

    def run(self, planned: Planned, *, report: Report = lambda part: None) -> Outcome:
        """Make a result, unless something else lies in its place than was there: then a worker that was killed did."""
        return attempt(
            planned.result,
            self._source.shown(planned.input),
            lambda: self._source.stamp(planned.input),
            lambda: self._make(planned, report),
        )

    def _make(self, planned: Planned, report: Report) -> None:
        there = self._destination.stamp(planned.result)
        if there is not None and there != planned.before:
            return
        with self._source.read(planned.input) as source, self._destination.written(planned.result) as output:
            try:
                self._enlarger.enlarge(source, output, report=report)
            except HatError as error:  # which names files on this machine
                text = str(error).replace(str(source), self._source.shown(planned.input))
                raise type(error)(text.replace(str(output), self._destination.shown(planned.result))) from error


def run_here(
    task: Task, planned: Iterable[Planned], enlarger: Enlarger, *, report: Callable[[str, float], None]
) -> Iterator[Outcome]:
    """Make results one after the other, in this process. Raises as `BatchWorker`.

    report: called with an input's name and the part of its result that is done.
    """
    worker = BatchWorker(task, enlarger)
    for one in planned:
        report(one.input, 0)
        yield worker.run(one, report=partial(report, one.input))
