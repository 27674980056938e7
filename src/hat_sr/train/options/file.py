"""A BasicSR option file (YAML) as a flat list of its settings, each of which must be accounted for."""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from hat_sr.errors import ConfigError, require

T = TypeVar("T", bool, int, float, str, list[int], list[float])


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


def listed(notes: Iterable[Note]) -> list[str]:
    """Lines of text that name every note under its reason, the reasons in the order of the file."""
    reasons: dict[str, list[str]] = {}
    for note in notes:
        reasons.setdefault(note.why, []).append(f"  {note}")
    return [line for why, lines in reasons.items() for line in (f"{why}:", *lines)]


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    line: int
    value: object


class OptionFile:
    """The settings of one option file that nothing has asked for yet, and notes on those that do not fit.

    Whoever asks for a setting takes it out; what `finish` still finds was not expected. So none is dropped silently.
    """

    def __init__(self, path: Path) -> None:
        """Read `path`. Raises ConfigError if it is missing, no YAML, or no mapping of settings."""
        self.notes: list[Note] = []
        self.missing: dict[str, str] = {}
        """Settings of a recipe, such as optim.total_steps, that the file does not give, and why."""
        self.num_carried = 0
        self._leaves: dict[str, _Leaf] = {}
        self._expected: set[str] = set()
        self._path = path
        self._read(path)
        self.keys = tuple(self._leaves)
        """Every setting of the file, in its order."""

    def has(self, key: str) -> bool:
        """Whether the file sets `key`, to anything but null, and nothing has asked for it yet."""
        self._expected.add(key)
        return key in self._leaves and self._leaves[key].value is not None

    def peek(self, key: str) -> object:
        """The value of `key`, which stays to be accounted for; None if it is absent."""
        return self._leaves[key].value if self.has(key) else None

    def take(self, key: str, default: T) -> T:
        """The value of `key`, of the type of `default`, which is what an absent or null one counts as."""
        if not self.has(key):
            self._carried(key)
            return default
        try:
            fitted = _fitted(self._leaves[key].value, default)
        except ValueError as error:
            self.note(key, f"cannot be carried over: it must be {error}", blocks=True)
            return default
        self._carried(key)
        return fitted

    def need(self, key: str, like: T, *, setting: str) -> T:
        """As `take`; if the file does not have it, or not of the type of `like`, `setting` of the recipe is missing."""
        before = len(self.notes)
        if not self.has(key):
            self.missing[setting] = f"the file has no {key}"
        value = self.take(key, like)
        if len(self.notes) > before:
            self.missing[setting] = f"{key} cannot be read"
        return value

    def expect(self, key: str, accepted: Sequence[object], why: str, *, blocks: bool = False) -> None:
        """Note `key` with `why` unless it is absent, null, or one of the values that are accepted."""
        if self.has(key) and not any(_same(self._leaves[key].value, value) for value in accepted):
            self.note(key, why, blocks=blocks)
        else:
            self._carried(key)

    def note(self, pattern: str, why: str, *, blocks: bool = False) -> None:
        """Note every setting whose key matches `pattern` (with * for anything); null ones ask for nothing."""
        self._expected.add(pattern)
        for key in [key for key in self._leaves if key == pattern or fnmatchcase(key, pattern)]:
            leaf = self._leaves[key]
            if leaf.value is None:
                self._carried(key)
                continue
            del self._leaves[key]
            self._add(key, leaf, why, blocks=blocks)

    def remark(self, key: str, why: str) -> None:
        """Note what differs about `key`, if the file has it, and leave it to be carried over."""
        if self.has(key):
            self._add(key, self._leaves[key], why)

    def finish(self) -> tuple[Note, ...]:
        """All notes in the order of the file, those on settings that nothing has asked for among them.

        One that is spelt nearly as a known one blocks: it would have been left out by a slip.
        """
        for key in list(self._leaves):
            near = self._near(key)
            slip = f"; did you mean {near}? Then mend the file" if near else ""
            self.note(key, f"cannot be carried over: its name is not known here{slip}", blocks=bool(near))
        return tuple(sorted(self.notes, key=lambda note: note.line))

    def _near(self, key: str) -> str | None:
        """A known key, or the start of one, whose first part that `key` does not have is spelt nearly the same."""
        parts = key.split(".")
        known = [other.split(".") for other in self._expected]
        for depth, part in enumerate(parts):
            siblings = {other[depth] for other in known if len(other) > depth and other[:depth] == parts[:depth]}
            if part not in siblings:
                near = difflib.get_close_matches(part, siblings, n=1, cutoff=0.75)
                return ".".join([*parts[:depth], near[0]]) if near else None
        return None

    def _add(self, key: str, leaf: _Leaf, why: str, *, blocks: bool = False) -> None:
        self.notes.append(Note(line=leaf.line, key=_shown(key), value=_shown(leaf.value), why=why, blocks=blocks))

    def _carried(self, key: str) -> None:
        self.num_carried += self._leaves.pop(key, None) is not None

    def _read(self, path: Path) -> None:
        yaml = require("yaml", extra="train")
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MOST_CHARACTERS + 1)
            if len(text) > MOST_CHARACTERS:
                raise ConfigError(f"{path} has more than {MOST_CHARACTERS:,} characters: it is no option file")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not text: give a BasicSR option file (.yml)") from error
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}): give a BasicSR option file (.yml)") from error
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
            self._walk(yaml, loader, root, "")
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}") from error
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path} has a value that is not what its tag says: {_one_line(error)}") from error
        except RecursionError as error:
            raise ConfigError(f"{path} is nested without end: give a BasicSR option file") from error

    def _walk(self, yaml: Any, loader: Any, mapping: Any, prefix: str) -> None:
        seen: dict[str, int] = {}
        for key_node, node in mapping.value:
            key = f"{prefix}{key_node.value}"
            line = key_node.start_mark.line + 1
            if "." in str(key_node.value):
                raise ConfigError(f"{self._path} has a dot in the name {key!r}, line {line}: no BasicSR option has one")
            if key in seen:
                raise ConfigError(
                    f"{self._path} sets {key} in line {seen[key]} and again in line {line}: keep one of them"
                )
            seen[key] = line
            if isinstance(node, yaml.MappingNode):
                self._walk(yaml, loader, node, f"{key}.")
            else:
                self._leaves[key] = _Leaf(line=line, value=loader.construct_object(node, deep=True))


def _num_values(node: Any, known: dict[int, int]) -> int:
    """How many values a YAML node has in it, those of aliases each time that one stands there."""
    if id(node) not in known:
        parts = node.value if isinstance(node.value, list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_num_values(one, known) for one in inner)
    return known[id(node)]


def _fitted(value: object, like: T) -> T:
    """`value` as the type of `like`; raises ValueError with what it must be."""
    if isinstance(like, list):
        if not isinstance(value, list):
            raise ValueError("a list of numbers")
        return [_fitted(item, like[0]) for item in value]
    if isinstance(like, str):
        if not isinstance(value, str):
            raise ValueError("text")
        return value
    if isinstance(like, bool):
        if not isinstance(value, bool):
            raise ValueError("true or false")
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
