"""Read a TOML recipe into `Recipe`, with overrides as on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Toml

from hat_sr.errors import ConfigError
from hat_sr.train.config import Recipe


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read `path`; `overrides` are words such as `--optim.learning-rate`, `1e-4`, which win over the file.

    Raises ConfigError for a file that is missing or no TOML, an unknown key (with the nearest known one), and a value
    that cannot be.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give a recipe, a TOML file such as those in recipes/")
    app = App(
        config=Toml(path, use_commands_as_keys=False),
        help_flags=(),
        version_flags=(),
        result_action="return_value",
    )

    @app.default
    def read(*, recipe: Annotated[Recipe, Parameter(name="*")]) -> Recipe:
        return recipe

    try:
        result: Recipe = app(list(overrides), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ConfigError(f"{path}: {error}") from error
    return result
