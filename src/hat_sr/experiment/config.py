"""An experiment, read from a TOML file: a recipe that its arms share, what each arm changes, and groups to compare.

::

    title = "Pre-training"
    sets = ["Set5", "Set14"]          # benchmark sets on which each arm is scored
    [recipe]                          # as in recipes/*.toml, without data.root and log.validation_folder
    [[arms]]
    name = "large"
    compared = false                  # trained only for others to start from
    [arms.changes.optim]              # settings in place of the recipe's
    total_steps = 3000
    [[arms]]
    name = "same-task"
    after = "large"                   # starts from that arm's weights
    [[groups]]
    name = "pre-training"
    arms = ["scratch", "same-task"]   # the others are compared with the first
    [scale_up.recipe.model]           # with --scale-up: whole tables in place of the recipe's,
    [scale_up.changes.same-task]      # and changes in place of an arm's

A change to a list, such as data.sources, replaces the list.
"""

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hat_sr.errors import ConfigError
from hat_sr.train.config import Recipe
from hat_sr.train.recipe import merged, parse_toml, read_recipe

_KEYS = {
    "": {"title", "sets", "recipe", "arms", "groups", "scale_up"},
    "arms": {"name", "after", "compared", "seeds", "changes", "tasks"},
    "groups": {"name", "arms"},
    "scale_up": {"recipe", "changes"},
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training of an experiment, once for each seed."""

    name: str
    recipe: Recipe
    tasks: tuple[Recipe, ...] = ()
    """If there are any, steps are of these recipes in turn, which share the network's body; the first is `recipe`."""
    after: str | None = None
    """The arm from whose weights, of the same seed, this one starts."""
    compared: bool = True
    """False for an arm that is there for others to start from: it is not scored."""
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Arms that belong into one table; the others are compared with the first."""

    name: str
    arms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All of it, in the order in which it is run."""

    name: str
    title: str
    sets: tuple[str, ...]
    arms: tuple[Arm, ...]
    groups: tuple[Group, ...]

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def chain(self, arm: Arm) -> tuple[Arm, ...]:
        """What is trained for an arm, in order: the arms it comes after, and itself last."""
        return (arm,) if arm.after is None else (*self.chain(self.arm(arm.after)), arm)


def experiment_names() -> tuple[str, ...]:
    """Those in the package."""
    files = importlib.resources.files("hat_sr.experiment").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_experiment(name: str, overrides: Sequence[str] = (), *, scale_up: bool = False) -> Experiment:
    """Read the experiment of that name in the package, or the TOML file of that path.

    overrides are those of `load_stages`, for every arm. scale_up: with the settings of its [scale_up].
    Raises ConfigError for a name or file that is not there, an unknown key, arms that do not fit together, and as
    `read_recipe`.
    """
    path, text = _read(name)
    content = parse_toml(text, path)
    _check_keys(content, path)
    if scale_up and "scale_up" not in content:
        raise ConfigError(f"{path} has no [scale_up]: run it without")
    larger = content["scale_up"] if scale_up else {}
    base = {**content["recipe"], **larger.get("recipe", {})}
    arms = []
    for table in content["arms"]:
        own = merged(base, larger.get("changes", {}).get(table["name"], table.get("changes", {})))
        arms.append(
            Arm(
                name=table["name"],
                recipe=read_recipe(own, path, overrides),
                tasks=tuple(read_recipe(merged(own, task), path, overrides) for task in table.get("tasks", [])),
                after=table.get("after"),
                compared=table.get("compared", True),
                seeds=tuple(table.get("seeds", [0])),
            )
        )
    experiment = Experiment(
        name=path.stem,
        title=content["title"],
        sets=tuple(content["sets"]),
        arms=tuple(arms),
        groups=tuple(Group(name=table["name"], arms=tuple(table["arms"])) for table in content["groups"]),
    )
    _check(experiment, path)
    return experiment


def _read(name: str) -> tuple[Path, bytes]:
    if name in experiment_names():
        file = importlib.resources.files("hat_sr.experiment") / f"{name}.toml"
        return Path(f"{name}.toml"), file.read_bytes()
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"no experiment is named {name}: {', '.join(experiment_names())} are in the package, or give a TOML file"
        )
    return path, path.read_bytes()


def _check_keys(content: Mapping[str, Any], path: Path) -> None:
    tables = {"": [content], "scale_up": [content["scale_up"]] if "scale_up" in content else []}
    tables |= {key: content.get(key, []) for key in ("arms", "groups")}
    for place, found in tables.items():
        for key in (key for table in found for key in table):
            if key not in _KEYS[place]:
                known = ", ".join(sorted(_KEYS[place]))
                raise ConfigError(f"unknown key '{f'{place}.{key}'.lstrip('.')}' in {path}; known there: {known}")
    required = {"": ("title", "sets", "recipe", "arms", "groups"), "arms": ("name",), "groups": ("name", "arms")}
    for place, keys in required.items():
        for key in keys:
            if any(key not in table for table in tables[place]):
                raise ConfigError(f"{path} has no '{f'{place}.{key}'.lstrip('.')}'")
    names = {table["name"] for table in tables["arms"]}
    for table in tables["scale_up"]:
        if unknown := set(table.get("changes", {})) - names:
            raise ConfigError(f"scale_up.changes in {path} is of arms that are not there: {', '.join(sorted(unknown))}")


def _check(experiment: Experiment, path: Path) -> None:
    """Every arm must be there before what starts from it, for the same seeds, and before what compares it."""
    done: dict[str, Arm] = {}
    for arm in experiment.arms:
        if arm.name in done:
            raise ConfigError(f"{path} has two arms {arm.name!r}: give each a name of its own")
        if arm.after is not None and (arm.after not in done or not set(arm.seeds) <= set(done[arm.after].seeds)):
            raise ConfigError(
                f"arm {arm.name!r} in {path} is after {arm.after!r}: that must stand above, with its seeds"
            )
        if arm.tasks and arm.tasks[0] != arm.recipe:
            raise ConfigError(f"the first of arms.tasks of {arm.name!r} in {path} must be empty: the arm's own recipe")
        done[arm.name] = arm
    for group in experiment.groups:
        for name in group.arms:
            if name not in done or not done[name].compared:
                raise ConfigError(f"group {group.name!r} in {path} names {name!r}, which is no arm that is compared")
