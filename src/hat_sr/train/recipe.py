"""Read a TOML recipe into `Recipe`, with overrides as on the command line."""

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError
from cyclopts.config import Dict

from hat_sr.degradation.config import expanded
from hat_sr.errors import ConfigError
from hat_sr.train.config import Recipe

T = TypeVar("T")

_TABLES = ("model", "network", "data", "optim", "perceptual", "adversary", "log", "provenance")


def load_recipe(path: Path, overrides: Sequence[str] = (), *, stage: str | None = None) -> Recipe:
    """Read the one training of `path`, or its stage of that name; arguments and errors as for `load_stages`.

    Raises ConfigError if there are several stages and none is named.
    """
    stages = load_stages(path, overrides, stage=stage)
    if len(stages) > 1:
        raise ConfigError(f"{path} has the stages {', '.join(stages)}: name one with --stage")
    return next(iter(stages.values()))


def load_stages(
    path: Path, overrides: Sequence[str] = (), *, folder: Path | None = None, stage: str | None = None
) -> dict[str, Recipe]:
    """Read `path`: the trainings of its [[stages]] by name, in order. A file without stages is one training, named "".

    A stage has the settings of the file, with its own in their place. Every stage but the first starts from the
    averaged weights of the one before, in that one's folder below `folder` (default: runs/<name of the file>), unless
    it has a start_from. `overrides` are words such as `--optim.learning-rate`, `1e-4`, which win over the file in all
    stages; `--start-from` is for the first. `stage` selects one.

    Raises ConfigError for a file that is missing or no TOML, an unknown key (with the nearest known one), an unknown
    stage, and a value that cannot be.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give a recipe, a TOML file such as those in recipes/")
    content = parse_toml(path.read_bytes(), path)
    tables = content.pop("stages", None)
    if tables is None:
        if stage:
            raise ConfigError(f"{path} has no stages: leave --stage {stage} out")
        return {"": read_recipe(content, path, overrides)}
    names = _stage_names(tables, path)
    if stage is not None and stage not in names:
        raise ConfigError(f"{path} has no stage {stage!r}; it has {', '.join(names)}")
    recipes: dict[str, Recipe] = {}
    for number, (name, table) in enumerate(zip(names, tables, strict=True)):
        own = merged(content, {key: value for key, value in table.items() if key != "name"})
        if number and "start_from" not in table:
            own["start_from"] = str((folder or Path("runs") / path.stem) / names[number - 1] / "weights.safetensors")
        try:
            recipe = read_recipe(own, path, overrides)
        except ConfigError as error:
            raise ConfigError(f"stage {name}: {error}") from error
        if number and stage is None:
            recipe = replace(recipe, start_from=own["start_from"])
        if stage in (None, name):
            recipes[name] = recipe
    return recipes


def _stage_names(tables: object, path: Path) -> list[str]:
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: there can be several stages, so write [[stages]], in double brackets")
    names = [table.get("name") for table in tables]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(
                f"{path}: the name of a stage is {name!r}: give [[stages]] a name of letters, digits, dots, dashes and "
                "underscores, which is also that of its folder"
            )
    if len(set(names)) < len(names):
        raise ConfigError(f"{path} has two stages of one name: {', '.join(names)}")
    return names


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes` in place of its own, table by table."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result


def parse_toml(content: bytes, path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises ConfigError, which names `path`, if it is none."""
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # of a number with too many digits, too, which is no TOMLDecodeError
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested without end: give a recipe such as those in recipes/") from error


def read_recipe(content: dict[str, object], path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that a TOML file's `content` is, with overrides as for `load_stages`; errors name `path`.

    Raises as `load_stages`.
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
        if not word.startswith("--"):  # a value, such as a folder called data
            continue
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


def differences(saved: Mapping[str, object], recipe: Recipe) -> dict[str, str]:
    """What differs between a recipe that was saved, as JSON has its `asdict`, and `recipe`: "before → now" by name.

    Values are compared as they take effect: a setting that the saved one does not have has its default, and a path is
    that of a file, however it is written. Raises ConfigError if the saved settings cannot be.
    """
    try:
        saved_recipe = _built(saved, Recipe)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"the recipe saved there is not one of hat-sr: {error}") from error
    known = dict(_leaves(asdict(saved_recipe)))
    gone = {name: value for name, value in _leaves(saved) if name not in known}
    before, now = _in_effect(saved_recipe) | gone, _in_effect(recipe)
    return {
        name: f"{name} {before.get(name, 'not there')} → {now.get(name, 'not there')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    }


def _built(value: Mapping[str, object], kind: type[T]) -> T:
    """The dataclass `kind` of its `asdict`, with defaults for what is missing, and without what it has no field for."""
    hints = get_type_hints(kind)

    def part(name: str, given: Any) -> object:
        inner = _dataclass_in(hints[name])
        if inner is None or given is None:
            return given
        return tuple(_built(one, inner) for one in given) if isinstance(given, list) else _built(given, inner)

    return kind(**{name: part(name, given) for name, given in value.items() if name in hints})


def _in_effect(recipe: Recipe) -> dict[str, object]:
    """Every setting by its dotted name, paths resolved; `data.root` is in those of the sources."""
    content = json.loads(json.dumps(asdict(recipe)))
    root = content["data"].pop("root")
    for source in content["data"]["sources"]:
        for name in ("path", "lr_path", "teacher_path"):
            if source[name] is not None and "://" not in source[name]:
                source[name] = str(Path(root, source[name]).resolve())
    if content["log"]["validation_folder"] is not None:
        content["log"]["validation_folder"] = str(Path(content["log"]["validation_folder"]).resolve())
    from hat_sr.checkpoints.named import names_a_path  # it needs torch, which reading a recipe does not

    if recipe.start_from is not None and names_a_path(recipe.start_from):
        content["start_from"] = str(Path(recipe.start_from).resolve())
    return dict(_leaves(content))


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every setting with its dotted name."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


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
