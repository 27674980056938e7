"""All pictures of one folder enlarged into another: what there is to do, and one file after the other on this machine.

`hat_sr.cluster.ray` does the same on many. What is called for each file is the same `Worker`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from hat_sr.cluster.places import Place, whole
from hat_sr.errors import ConfigError, HatError, InputError
from hat_sr.image.formats import IMAGE_SUFFIXES, result_suffix, suffix_of
from hat_sr.inference.baselines import BICUBIC
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.manifest import Manifest, Outcome, Planned, attempt
from hat_sr.inference.upscaler import Progress
from hat_sr.model.zoo import AUTO, names_a_path


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


def plan_batch(source: Place, destination: Place, *, image_format: str | None) -> tuple[list[Planned], int]:
    """Every picture of a folder with its result, which has its relative path and name, and the suffix as by `--format`.

    Besides, how many results of `hat-sr upscale` lie beside their inputs there: they are no inputs.

    Raises InputError if there is no picture, ConfigError if two results would have one name, a result would replace an
    input, or the format is not written.
    """
    inside, files = destination.within(source), source.files()
    if not files:
        raise InputError(f"{source.url}: there is no such folder, or nothing in it")
    if inside:
        files = {name: stamp for name, stamp in files.items() if not name.startswith(f"{inside}/")}
    images = [name for name in files if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"{source.url} holds no image among {len(files)} files")
    results = Manifest(source.lines(), {}).results_beside_inputs().intersection(images)
    images = [name for name in images if name not in results]
    wanted, there = None if image_format is None else suffix_of(image_format), destination.files()
    inputs: dict[str, str] = {}
    for name in images:
        path = PurePosixPath(name)
        result = str(path.with_name(path.stem + result_suffix(path.suffix, wanted)))
        if inside == "" and result in files:
            raise ConfigError(f"the result {result} would replace an input: use another destination")
        if result in inputs:
            raise ConfigError(f"{inputs[result]} and {name} would both become {result}: enlarge them into two folders")
        inputs[result] = name
    planned = [
        Planned(result=result, input=name, stamp=files[name], before=there.get(result))
        for result, name in inputs.items()
    ]
    return planned, len(results)


class Worker:
    """Makes results, one after the other, with its networks kept open: the enlarger's, or one of the task's settings.

    Raises as `Enlarger` and `Place`.
    """

    def __init__(self, task: Task, enlarger: Enlarger | None = None) -> None:
        self._enlarger = Enlarger(task.settings) if enlarger is None else enlarger
        self._source, self._destination = Place(task.source), Place(task.destination)

    def run(self, planned: Planned, *, progress: Progress = lambda done, total: None) -> Outcome:
        """Make a result, unless something else lies in its place than was there: then a worker that was killed did."""
        return attempt(
            planned.result,
            self._source.shown(planned.input),
            lambda: self._source.stamp(planned.input),
            lambda: self._make(planned, progress),
        )

    def _make(self, planned: Planned, progress: Progress) -> None:
        there = self._destination.stamp(planned.result)
        if there is not None and there != planned.before:
            return
        with self._source.read(planned.input) as source, self._destination.written(planned.result) as output:
            try:
                self._enlarger.enlarge(source, output, progress=progress)
            except HatError as error:  # which names files on this machine
                text = str(error).replace(str(source), self._source.shown(planned.input))
                raise type(error)(text.replace(str(output), self._destination.shown(planned.result))) from error


def run_here(task: Task, planned: Iterable[Planned], enlarger: Enlarger, *, progress: Progress) -> Iterator[Outcome]:
    """Make results one after the other, in this process. progress: of each. Raises as `Worker`."""
    worker = Worker(task, enlarger)
    for one in planned:
        yield worker.run(one, progress=progress)
