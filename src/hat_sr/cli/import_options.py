"""`hat-sr import-options`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.train.import_options import ImportedOptions, check_free, write_recipe
from hat_sr.train.import_options import import_options as read_options
from hat_sr.train.option_file import listed_notes


def import_options(
    option_file: Path,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    num_gpus: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
) -> int:
    """Turn an official (BasicSR) option file for HAT into a recipe, or name each line that could not be carried over.

    Of the option file of a test, the commands that do the same are printed instead.

    Parameters
    ----------
    option_file
        A .yml file of options/train or options/test.
    output
        The recipe to write, a TOML file. Default: print it.
    num_gpus
        GPUs that the batch size of one is multiplied by. Default: the file's num_gpu, and for auto 8, as published.
    """
    if output is not None:
        check_free(output)
    imported = read_options(option_file, num_gpus=num_gpus)
    if output is None:
        sys.stdout.write(imported.text)
    else:
        print(f"{option_file}: {imported.num_carried} settings carried over, {len(imported.notes)} named:")
        print("\n".join(listed_notes(imported.notes)))
    if imported.commands:
        mark = "# " if output is None else ""
        print(f"{mark}What the file asks for, as commands:")
        print("\n".join(f"{mark}  {command}" for command in imported.commands))
    if imported.recipe is None:
        return _why_no_recipe(option_file, output, imported)
    if output is not None:
        write_recipe(imported, output)
        print(f"{output} written")
    return 0


def _why_no_recipe(option_file: Path, output: Path | None, imported: ImportedOptions) -> int:
    """Say on stderr what is in the way; returns the exit code."""
    if output is None and not imported.trains:
        return 0
    print(f"hat-sr: {option_file} makes no recipe{f'; {output} is not written' if output else ''}:", file=sys.stderr)
    for reason in imported.missing:
        print(f"  {reason}", file=sys.stderr)
    blocking = [note.line for note in imported.notes if note.blocks]
    if blocking:
        print(
            f"  {len(blocking)} settings cannot be trained with, listed_notes above: the first in line {blocking[0]}",
            file=sys.stderr,
        )
    if output is not None:
        print("Without -o, what there is of a recipe is printed.", file=sys.stderr)
    return 1
