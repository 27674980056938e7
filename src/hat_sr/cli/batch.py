"""`hat-sr batch`."""

from collections.abc import Iterator
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.cli.enlarging import Aside, by_verdict, carry_out, settings_of, verdict
from hat_sr.cli.messages import say
from hat_sr.cli.options import Options
from hat_sr.cli.progress import PictureBars
from hat_sr.cluster.batch import Task, plan_batch, run_here
from hat_sr.cluster.places import Place
from hat_sr.cluster.ray import run_on_ray
from hat_sr.errors import ConfigError
from hat_sr.inference.enlarge import Enlarger
from hat_sr.inference.manifest import Manifest, Outcome

_DEFAULTS = Options()


def batch(
    source: str,
    destination: str,
    /,
    *,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    cpus: Annotated[float, Parameter(validator=Number(gt=0))] = 1.0,
    gpus: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
    options: Options = _DEFAULTS,
) -> int:
    """Make all images of a folder larger and sharper, here or on a Ray cluster, from and to any kind of store.

    Results keep their inputs' relative paths and names. It is written down in the destination what was done: the same
    call again does what is missing or has changed since.

    Parameters
    ----------
    source
        A folder, or the URL of one that fsspec opens: s3://BUCKET/PHOTOS, gs://…, memory://…
    destination
        Likewise. It may be inside the source.
    engine
        local: one file after the other, in this process. ray: by workers on a Ray cluster.
    address
        Of the cluster: auto for the one this machine belongs to, HOST:PORT, ray://HOST:10001. Default: one on this
        machine, for as long as the command runs.
    workers
        How many there are, each with a network of its own.
    cpus
        Cores of each worker.
    gpus
        Of each worker; parts such as 0.5 are shared.
    """
    if engine == "local" and address is not None:
        raise ConfigError(f"address {address} is that of a Ray cluster: give --engine ray, too")
    enlarger = Enlarger(settings_of(options), say=say)
    task = Task(source=source, destination=destination, settings=enlarger.settings)
    place = Place(destination)
    plan = plan_batch(Place(source), place, image_format=options.format)
    with Manifest(place.lines(), enlarger.identity()) as manifest:
        found = by_verdict(plan.planned, lambda one: verdict(manifest, one, options))
        if existing := found["refuse"]:
            raise ConfigError(
                f"{place.shown(existing[0].result)} and {len(existing) - 1} more results are already there, of which "
                "nothing is known: use --overwrite, --skip-existing or another destination"
            )
        manifest.begin(found["do"], done=found["done"])
        place.remove_leftovers(one.result for one in found["do"])

        def make(bars: PictureBars) -> Iterator[Outcome]:
            if engine == "ray":
                outcomes = run_on_ray(
                    task, found["do"], address=address, num_workers=workers, num_cpus=cpus, num_gpus=gpus
                )
            else:
                outcomes = run_here(task, found["do"], enlarger, report=bars)
            for outcome in outcomes:
                manifest.add(outcome)
                yield outcome

        aside = Aside(
            num_done=len(found["done"]),
            failed=[manifest.reason(one.result) for one in found["failed"]],
            num_left_out=plan.num_left_out,
            unread=plan.unread,
        )
        code = carry_out(make, total=len(found["do"]), enlarger=enlarger, where=f"in {destination}", aside=aside)
        manifest.end()
    return code
