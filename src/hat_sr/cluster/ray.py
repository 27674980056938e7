"""A batch on a Ray cluster: Ray Data hands the files to a pool of actors, each of which holds a network."""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hat_sr.cluster.batch import BatchWorker, Task
from hat_sr.errors import require
from hat_sr.inference.manifest import Outcome, Planned

_TRIES = 3
"""How often what is handed over together may end its worker: several files first, then each alone."""

_FILES_AT_ONCE = 16
"""At most so many are handed to a worker together."""


class RayWorker:
    """A `BatchWorker` for Ray Data, whose rows are dictionaries."""

    def __init__(self, task: Task) -> None:
        self._worker = BatchWorker(task)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a planned result."""
        return asdict(self._worker.run(Planned(**row)))


def run_on_ray(
    task: Task,
    planned: list[Planned],
    *,
    address: str | None = None,
    num_workers: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Iterator[Outcome]:
    """Make results on the cluster at `address`, in whatever order they are done.

    address: as for `ray.init`; None is a cluster on this machine, begun for this. num_workers: actors; num_cpus,
    num_gpus: of each. A file whose worker was killed is handed to another one; if three end with it alone, it has
    failed. Raises MissingExtraError without Ray, and what Ray raises.
    """
    ray = require("ray", extra="cluster")
    data = require("ray.data", extra="cluster")
    task = task.from_anywhere()  # actors have folders of their own
    if not ray.is_initialized():
        logging.getLogger("ray").setLevel(logging.ERROR)  # what it tells before it is configured
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # plans and times of its own
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # what is missing is seen below
    left = {one.result: one for one in planned}
    together = max(1, min(_FILES_AT_ONCE, len(planned) // (4 * num_workers)))
    # What goes missing together is tried one by one, so that a file that ends its worker takes no other with it.
    for at_once in (together, 1) if together > 1 else (1,):
        if not left:
            return
        rows = [asdict(one) for one in left.values()]
        with warnings.catch_warnings():
            # Ray has no other way yet to say how often an actor and its task are tried again.
            warnings.filterwarnings("ignore", message=".*ray_remote_args")
            outcomes = data.from_items(rows, override_num_blocks=-(-len(rows) // at_once)).map(
                RayWorker,
                fn_constructor_args=[task],
                compute=data.ActorPoolStrategy(size=min(num_workers, len(rows))),
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                max_restarts=-1,
                max_task_retries=_TRIES - 1,
            )
        for row in outcomes.iter_rows():
            if left.pop(row["result"], None) is not None:
                yield Outcome(**row)
    for name, one in left.items():
        reason = f"{task.source.rstrip('/')}/{one.input}: its worker ended {_TRIES} times: out of memory, or damaged?"
        yield Outcome(result=name, stamp=one.stamp, reason=reason)
