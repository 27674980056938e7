"""Read a TOML recipe into `Recipe`, with overrides as on the command line."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Dict

from hat_sr.errors import ConfigError
from hat_sr.train.config import Recipe


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read `path`; `overrides` are words such as `--optim.learning-rate`, `1e-4`, which win over the file.

    Raises ConfigError for a file that is missing or no TOML, an unknown key (with the nearest known one), and a value
    that cannot be.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give a recipe, a TOML file such as those in recipes/")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for table in ("data", "optim"):
        if table not in content and not any(word.startswith(f"--{table}.") for word in overrides):
            raise ConfigError(f"{path} has no [{table}]: add it, as in recipes/hat-xs-x4.toml")
    if isinstance(content.get("data"), dict) and isinstance(content["data"].get("sources"), dict):
        raise ConfigError(f"{path}: there can be several sources, so write [[data.sources]], in double brackets")
    # These have no types that words could be turned into: they are passed on as the file has them.
    network = content.get("network")
    arguments = network.pop("arguments", {}) if isinstance(network, dict) else {}
    app = App(
        config=Dict(content, use_commands_as_keys=False, source=str(path)),
        help_flags=(),
        version_flags=(),
        result_action="return_value",
    )

    @app.default
    def read(*, recipe: Annotated[Recipe, Parameter(name="*")]) -> Recipe:
        return recipe

    if any(word.startswith("--network.arguments") for word in overrides):
        raise ConfigError("network.arguments cannot be given on the command line: change them in the recipe")
    try:
        recipe: Recipe = app(list(overrides), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ConfigError(f"{path}: {error}") from error
    if recipe.network is None or not arguments:
        return recipe
    return replace(recipe, network=replace(recipe.network, arguments=arguments))
