"""A BasicSR option file (YAML) as a flat list of settings, and rules that say what becomes of each."""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hat_sr.errors import ConfigError, require

MOST_CHARACTERS, MOST_VALUES = 1_000_000, 10_000
"""Of an option file; published ones have 3,000 and 100."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One setting of the file that was not carried over as it stands."""

    line: int
    """In the file, from 1."""
    key: str
    """The keys that lead to it, joined by dots: train.optim_g.lr."""
    value: str
    why: str
    blocks: bool = False
    """Whether what the file asks for cannot be trained because of it."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.key} = {self.value}"


def listed_notes(notes: Iterable[Note]) -> list[str]:
    """Lines of text that name every note under its reason, the reasons in the order of the file."""
    reasons: dict[str, list[str]] = {}
    for note in notes:
        reasons.setdefault(note.why, []).append(f"  {note}")
    return [line for why, lines in reasons.items() for line in (f"{why}:", *lines)]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What becomes of the settings whose key is `key` or matches it (* stands for anything)."""

    key: str
    to: str = ""
    """The recipe's setting that it becomes, such as optim.gamma; empty if it becomes none."""
    like: Any = None
    """A value of the type that the recipe's setting has; None: any."""
    default: Any = None
    """What the recipe's setting is if the file has no such key; None: left out."""
    needed: bool = False
    """Whether there is no recipe without it."""
    how: Callable[[Any], Any] | None = None
    """The file's value → the recipe's, None to leave it out; raises ValueError with what it must be. None: as it is."""
    accepted: Sequence[object] | None = None
    """The values that are not noted; None: all."""
    why: str = ""
    """What the note on any other value says."""
    blocks: bool = False
    """Whether any other value keeps the file from being a recipe; else it is carried over all the same."""


@dataclass(frozen=True, kw_only=True)
class OptionFile:
    """The settings of an option file."""

    values: dict[str, object]
    """Key, such as train.optim_g.lr → value; those that are not null, in the order of the file."""
    lines: dict[str, int]
    """Key → line of the file, from 1; null ones too."""

    def value(self, key: str, default: Any) -> Any:
        """The value of `key`; `default` if there is none of its type."""
        try:
            return _fitted(self.values[key], default)
        except (KeyError, ValueError):
            return default

    def groups(self, prefix: str) -> list[str]:
        """The keys of the sections in section `prefix`: datasets.train and datasets.val in datasets."""
        depth = prefix.count(".") + 2
        parts = [key.split(".") for key in self.lines if key.startswith(f"{prefix}.")]
        return list(dict.fromkeys(".".join(names[:depth]) for names in parts if len(names) > depth))


@dataclass(kw_only=True)
class Applied:
    """What rules made of an option file."""

    settings: dict[str, Any] = field(default_factory=dict)
    """The recipe's settings, such as optim.gamma."""
    notes: list[Note] = field(default_factory=list)
    """In the order of the file."""
    missing: dict[str, str] = field(default_factory=dict)
    """Settings of a recipe that the file does not give, and why."""


def apply(rules: Sequence[Rule], file: OptionFile) -> Applied:
    """Let the first rule that matches decide on each setting; one that no rule matches is noted."""
    outcome = Applied()
    of_key = {key: next((rule for rule in rules if _matches(rule, key)), None) for key in file.values}
    found = {rule.key for rule in of_key.values() if rule is not None}
    for rule in rules:
        for key in [key for key, other in of_key.items() if other is rule]:
            _decide(rule, key, file, outcome)
        if rule.key in found:
            continue
        if rule.needed:
            outcome.missing[rule.to] = f"the file has no {rule.key}"
        elif rule.to and rule.default is not None:
            outcome.settings[rule.to] = rule.how(rule.default) if rule.how else rule.default
    for key in [key for key, rule in of_key.items() if rule is None]:
        near = _near(key, rules)
        slip = f"; did you mean {near}? Then mend the file" if near else ""
        why = f"cannot be carried over: its name is not known here{slip}"
        _note(key, file, outcome, why, blocks=bool(near))
    for setting in outcome.missing:
        outcome.settings.pop(setting, None)
    outcome.notes.sort(key=lambda note: note.line)
    return outcome


def _matches(rule: Rule, key: str) -> bool:
    return key == rule.key or fnmatchcase(key, rule.key)


def _decide(rule: Rule, key: str, file: OptionFile, outcome: Applied) -> None:
    value = file.values[key]
    if rule.accepted is not None and not any(_same(value, one) for one in rule.accepted):
        _note(key, file, outcome, rule.why, blocks=rule.blocks)
        if rule.blocks:
            return
    try:
        value = value if rule.like is None else _fitted(value, rule.like)
        made = rule.how(value) if rule.how else value
    except ValueError as error:
        _note(key, file, outcome, f"cannot be carried over: it must be {error}", blocks=True)
        if rule.needed:
            outcome.missing[rule.to] = f"{key} must be {error}, not {_shown(file.values[key])}"
        return
    if rule.to and made is not None:
        outcome.settings[rule.to] = made


def _note(key: str, file: OptionFile, outcome: Applied, why: str, *, blocks: bool) -> None:
    shown = _shown(file.values[key])
    outcome.notes.append(Note(line=file.lines[key], key=_shown(key), value=shown, why=why, blocks=blocks))


def _near(key: str, rules: Sequence[Rule]) -> str | None:
    """A known key, or the start of one, whose first part that `key` does not have is spelt nearly the same."""
    parts = key.split(".")
    known = [rule.key.split(".") for rule in rules]
    for depth, part in enumerate(parts):
        siblings = {other[depth] for other in known if len(other) > depth and other[:depth] == parts[:depth]}
        if part not in siblings:
            near = difflib.get_close_matches(part, siblings, n=1, cutoff=0.75)
            return ".".join([*parts[:depth], near[0]]) if near else None
    return None


def _fitted(value: object, like: Any) -> Any:
    """`value` as the type of `like`; raises ValueError with what it must be."""
    if isinstance(like, list):
        if not isinstance(value, list):
            raise ValueError("a list of numbers")
        return [_fitted(item, like[0]) for item in value]
    if isinstance(like, (str, bool)):
        if not isinstance(value, type(like)):
            raise ValueError("text" if isinstance(like, str) else "true or false")
        return value
    if isinstance(value, str):
        try:
            value = float(value)  # YAML takes 2e-4 for text: it wants a point in a number
        except ValueError:
            raise ValueError("a number") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number")
    if not isinstance(like, int):
        return float(value)
    if not math.isfinite(value) or int(value) != value:
        raise ValueError("a whole number")
    return int(value)


def _same(value: object, accepted: object) -> bool:
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)


def _shown(value: object) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_option_file(path: Path) -> OptionFile:
    """The settings of the YAML file `path`. Raises ConfigError if it is missing, no YAML, or no mapping of settings."""
    yaml = require("yaml", extra="train")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text: give a BasicSR option file (.yml)") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give a BasicSR option file (.yml)") from error
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{path} has more than {MOST_CHARACTERS:,} characters: it is no option file")
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path} holds no settings: give a BasicSR option file, with network_g and so on")
        if _num_values(root, {}) > MOST_VALUES:
            raise ConfigError(
                f"{path} has more than {MOST_VALUES:,} values once its aliases (*name) are written out: it is no "
                "option file"
            )
        leaves = _leaves(path, yaml, loader, root, "")
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}") from error
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path} has a value that is not what its tag says: {_one_line(error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested without end: give a BasicSR option file") from error
    return OptionFile(
        values={key: value for key, (_, value) in leaves.items() if value is not None},
        lines={key: line for key, (line, _) in leaves.items()},
    )


def _leaves(path: Path, yaml: Any, loader: Any, mapping: Any, prefix: str) -> dict[str, tuple[int, object]]:
    """Key → (line, value) of every setting in a YAML mapping and those within it."""
    seen: dict[str, int] = {}
    leaves: dict[str, tuple[int, object]] = {}
    for key_node, node in mapping.value:
        key = f"{prefix}{key_node.value}"
        line = key_node.start_mark.line + 1
        if "." in str(key_node.value):
            raise ConfigError(f"{path} has a dot in the name {key!r}, line {line}: no BasicSR option has one")
        if key in seen:
            raise ConfigError(f"{path} sets {key} in line {seen[key]} and again in line {line}: keep one of them")
        seen[key] = line
        if isinstance(node, yaml.MappingNode):
            leaves |= _leaves(path, yaml, loader, node, f"{key}.")
        else:
            leaves[key] = (line, loader.construct_object(node, deep=True))
    return leaves


def _num_values(node: Any, known: dict[int, int]) -> int:
    """How many values a YAML node has in it, those of aliases each time that one stands there."""
    if id(node) not in known:
        parts = node.value if isinstance(node.value, list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_num_values(one, known) for one in inner)
    return known[id(node)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
