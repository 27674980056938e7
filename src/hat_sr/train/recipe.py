"""Read a TOML recipe into `Recipe`, with overrides as on the command line."""

import copy
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError
from cyclopts.config import Dict

from hat_sr.degradation.config import expanded
from hat_sr.errors import ConfigError
from hat_sr.train.config import Recipe

_TABLES = ("model", "network", "data", "optim", "perceptual", "adversary", "log", "provenance")


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
    return read_recipe(content, path, overrides)


def read_recipe(content: dict[str, object], path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that a TOML file's `content` is, with overrides as for `load_recipe`; errors name `path`.

    Raises as `load_recipe`.
    """
    content = copy.deepcopy(content)
    data = content.get("data")
    if isinstance(data, dict) and isinstance(data.get("sources"), dict):
        raise ConfigError(f"{path}: there can be several sources, so write [[data.sources]], in double brackets")
    if isinstance(data, dict) and "degradation" in data:
        data["degradation"] = expanded(data["degradation"])
    _check_keys(content, Recipe, path)
    for table in ("data", "optim"):
        if table not in content and not any(word.startswith(f"--{table}.") for word in overrides):
            raise ConfigError(f"{path} has no [{table}]: add it, as in recipes/hat-xs-x4.toml")
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

    for word in overrides:
        name = word.partition("=")[0].removeprefix("--")
        if name.startswith(("network.arguments", "data.sources")) or name in _TABLES:
            raise ConfigError(f"{name} cannot be given on the command line: change it in the recipe")
    try:
        recipe: Recipe = app(list(overrides), exit_on_error=False, print_error=False)
    except UnknownOptionError as error:  # of the command line: the file's keys are checked
        raise ConfigError(str(error)) from error
    except CycloptsError as error:
        raise ConfigError(f"{path}: {error}") from error
    if recipe.network is None or not arguments:
        return recipe
    return replace(recipe, network=replace(recipe.network, arguments=arguments))


def _check_keys(table: Mapping[str, object], kind: type, path: Path, where: str = "") -> None:
    """Raise ConfigError for a key that the dataclass `kind` has no field for, and for a value in a table's place.

    `where` leads to the table: "data.".
    """
    known = get_type_hints(kind)
    for key, value in table.items():
        name = f"{where}{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{where}{near[0]}'?" if near else f"known there: {', '.join(known)}"
            raise ConfigError(f"unknown key '{name}' in {path}; {hint}")
        inner, outer = _dataclass_in(known[key]), get_origin(known[key])
        if inner is None:
            if isinstance(value, Mapping) and outer is not dict:
                raise ConfigError(f"'{name}' in {path} is a table: it must be a value, {name} = …")
            continue
        brackets = f"[[{name}]]" if outer is tuple else f"[{name}]"
        for item in value if outer is tuple and isinstance(value, list) else [value]:
            if not isinstance(item, Mapping):
                raise ConfigError(f"'{name}' in {path} is {item!r}: it must be a table, {brackets}")
            _check_keys(item, inner, path, f"{name}.")


def _dataclass_in(hint: object) -> type | None:
    """The dataclass that a type is, or is made of, such as X of `tuple[X, ...]` and `X | None`."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _dataclass_in(part)) is not None), None)
