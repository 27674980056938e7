"""Files upscaled on a Ray cluster: Ray Data hands them to a pool of actors, each of which holds a network."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from hat_sr.batch.ledger import Outcome
from hat_sr.batch.local import BatchWorker
from hat_sr.batch.places import whole
from hat_sr.batch.plan import FileJob
from hat_sr.checkpoints.named import AUTO, names_a_path
from hat_sr.errors import require
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.open import BICUBIC

_TRIES = 3
"""How often what is handed over together may end its worker: several files first, then each alone."""

_FILES_AT_ONCE = 16
"""At most so many are handed to a worker together."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the workers are, and how many."""

    address: str | None = None
    """As for `ray.init`; None is a cluster on this machine, begun for this."""
    num_workers: int = 1
    num_cpus: float = 1
    """Of each worker, as num_gpus."""
    num_gpus: float = 0


class RayWorker:
    """A `BatchWorker` for Ray Data, whose rows are dictionaries."""

    def __init__(self, settings: Settings) -> None:
        self._worker = BatchWorker(Enlarger(settings))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a job, under its number."""
        number = row.pop("number")
        return {"number": number, **asdict(self._worker.run(FileJob(**row)))}


def anywhere(jobs: list[FileJob]) -> list[FileJob]:
    """The same jobs for processes that were started in other folders: with whole paths."""
    return [replace(job, source=whole(job.source), destination=whole(job.destination)) for job in jobs]


def settings_anywhere(settings: Settings) -> Settings:
    """The same settings for processes that were started in other folders."""
    is_path = settings.model not in (AUTO, BICUBIC) and names_a_path(settings.model)
    return replace(settings, model=whole(settings.model)) if is_path else settings


def run_on_ray(jobs: list[FileJob], settings: Settings, cluster: Cluster) -> Iterator[tuple[FileJob, Outcome]]:
    """Do the jobs on the cluster, and tell what became of each, in whatever order they are done.

    A file whose worker was killed is handed to another one; if three end with it alone, it has failed. Raises
    MissingExtraError without Ray, and what Ray raises.
    """
    ray = require("ray", extra="cluster")
    data = require("ray.data", extra="cluster")
    if not ray.is_initialized():
        logging.getLogger("ray").setLevel(logging.ERROR)  # what it tells before it is configured
        ray.init(
            address=cluster.address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if cluster.address is None else None,
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # plans and times of its own
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # what is missing is seen below
    rows = [{"number": number, **asdict(job)} for number, job in enumerate(anywhere(jobs))]
    left = {number: jobs[number] for number in range(len(jobs))}
    together = max(1, min(_FILES_AT_ONCE, len(jobs) // (4 * cluster.num_workers)))
    # What goes missing together is tried one by one, so that a file that ends its worker takes no other with it.
    for at_once in (together, 1) if together > 1 else (1,):
        if not left:
            return
        with warnings.catch_warnings():
            # Ray has no other way yet to say how often an actor and its task are tried again.
            warnings.filterwarnings("ignore", message=".*ray_remote_args")
            outcomes = data.from_items(
                [rows[number] for number in left], override_num_blocks=-(-len(left) // at_once)
            ).map(
                RayWorker,
                fn_constructor_args=[settings_anywhere(settings)],
                compute=data.ActorPoolStrategy(size=min(cluster.num_workers, len(left))),
                num_cpus=cluster.num_cpus,
                num_gpus=cluster.num_gpus,
                max_restarts=-1,
                max_task_retries=_TRIES - 1,
            )
        for row in outcomes.iter_rows():
            if (job := left.pop(row.pop("number"), None)) is not None:
                yield job, Outcome(**row)
    for job in left.values():
        reason = f"{job.shown_input}: its worker ended {_TRIES} times: out of memory, or damaged?"
        yield job, Outcome(result=job.result, stamp=job.stamp, reason=reason)
