"""Files upscaled one after the other, in this process. `hat_sr.batch.ray` has a `BatchWorker` in each of its own."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from hat_sr.batch.ledger import Outcome, attempt
from hat_sr.batch.places import Place
from hat_sr.batch.plan import FileJob
from hat_sr.errors import HatError
from hat_sr.inference.enlarge import Enlarger
from hat_sr.model.banded import Report


class BatchWorker:
    """Does one job after the other, with its networks and places kept open."""

    def __init__(self, enlarger: Enlarger) -> None:
        self._enlarger = enlarger
        self._places: dict[str, Place] = {}

    def run(self, job: FileJob, *, report: Report = lambda part: None) -> Outcome:
        """Make a result, unless something else lies in its place than was there: then a worker that was killed did.

        Whatever goes wrong is only noted in the outcome.
        """
        return attempt(
            job.result,
            job.shown_input,
            lambda: self._place(job.source).stamp(job.input),
            lambda: self._make(job, report),
        )

    def _place(self, folder: str) -> Place:
        if folder not in self._places:
            self._places[folder] = Place(folder)
        return self._places[folder]

    def _make(self, job: FileJob, report: Report) -> None:
        destination = self._place(job.destination)
        there = destination.stamp(job.result)
        if there is not None and there != job.before:
            return
        with self._place(job.source).read(job.input) as source, destination.written(job.result) as output:
            try:
                self._enlarger.enlarge(source, output, report=report)
            except HatError as error:  # which names files on this machine
                text = str(error).replace(str(source), job.shown_input)
                raise type(error)(text.replace(str(output), job.shown_result)) from error


def run_here(
    jobs: Iterable[FileJob], enlarger: Enlarger, *, report: Callable[[str, float], None]
) -> Iterator[tuple[FileJob, Outcome]]:
    """Do the jobs, and tell what became of each.

    report: called with an input's path or URL and the part of its result that is done.
    """
    worker = BatchWorker(enlarger)
    for job in jobs:
        report(job.shown_input, 0)
        yield job, worker.run(job, report=partial(report, job.shown_input))
