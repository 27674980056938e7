"""`hat-sr train`."""

import logging
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hat_sr.train.loop import train as run_training
from hat_sr.train.recipe import load_recipe


def train(
    recipe: Path,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True)],
    output: Annotated[Path, Parameter(alias="-o")],
) -> None:
    """Train a HAT by a recipe, going on from where a training in the same folder stopped.

    Parameters
    ----------
    recipe
        A TOML file, such as those in recipes/.
    overrides
        Settings that win over the recipe's, such as --data.root DATA --optim.learning-rate 1e-4.
    output
        The run's folder: state.pt to go on from, weights.safetensors (the averaged network), log.jsonl.
    """
    logging.getLogger("hat_sr").setLevel(logging.INFO)
    settings = load_recipe(recipe, overrides)
    total_steps = settings.optim.total_steps
    since = time.monotonic()

    def report(step: int, record: dict[str, float]) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in record.items())
        if "steps_per_second" in record:
            values += f"  {(total_steps - step) / record['steps_per_second'] / 60:.0f} min left"
        print(f"step {step} of {total_steps}  {values}", flush=True)

    run_training(settings, output, on_progress=report)
    print(f"{output / 'weights.safetensors'} written after {(time.monotonic() - since) / 60:.0f} min")
