"""Fields of a YAML file under review, read strictly: each problem with its line and the nearest name that exists."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from radlake.errors import ConfigInvalid

__all__ = ["Fields", "fields_of", "is_whole", "nearest"]


def fields_of(text: str, *, path: Path | str) -> Fields:
    """The fields of a text.

    Raises
    ------
    ConfigInvalid
        If it is no YAML, or no mapping.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigInvalid(path=path, problems=[f"{line}{getattr(exc, 'problem', exc)}"]) from exc
    if not isinstance(node, yaml.MappingNode):
        raise ConfigInvalid(path=path, problems=["line 1: is not a mapping of fields"])
    return Fields(node)


class Fields:
    """Fields of a YAML mapping with the line of each; problems are collected, not raised."""

    def __init__(self, node: yaml.MappingNode, *, where: str = "", problems: list[tuple[int, str]] | None = None):
        self.where = where
        self.problems: list[tuple[int, str]] = [] if problems is None else problems
        self.line = node.start_mark.line + 1
        self.lines: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self._nodes: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in self.values:
                self.tell(name, f"{where}{name} is given twice", line=key.start_mark.line + 1)
                continue
            self.lines[name] = key.start_mark.line + 1
            try:
                self.values[name] = yaml.SafeLoader("").construct_object(value, deep=True)
            except (ValueError, yaml.YAMLError) as exc:  # 2026-13-45 is a date by its form, !!x is a type
                self.tell(name, f"{where}{name} cannot be read: {getattr(exc, 'problem', exc)}")
                continue
            self._nodes[name] = value

    def tell(self, name: str, problem: str, *, line: int | None = None) -> None:
        line = line or self.lines.get(name, self.line)
        self.problems.append((line, f"line {line}: {problem}"))

    def only(self, names: Collection[str], *, required: Collection[str] = ()) -> None:
        for name in self.values:
            if name not in names:
                self.tell(name, f"unknown field {self.where}{name}.{nearest(name, names)}")
        for name in required:
            if name not in self.values:
                self.tell(name, f"{self.where}{name} is missing")

    def get(self, name: str, is_valid: Callable[[Any], bool], kind: str, default: Any = None) -> Any:
        if name not in self.values:
            return default
        value = self.values[name]
        if is_valid(value):
            return value
        self.tell(name, f"{self.where}{name} is {value!r}, must be {kind}")
        return default

    def one_of(self, name: str, choices: Collection[str], default: Any = None) -> Any:
        value = self.values.get(name, default)
        if value != default and value not in list(choices):  # a list is no key of a mapping
            self.tell(name, f"{self.where}{name} is {value!r}.{nearest(str(value), choices)}")
            return default
        return value

    def several(self, name: str, choices: Collection[str] | None) -> tuple[Any, ...]:
        value = self.values.get(name, [])
        values = value if isinstance(value, list) else [value]
        if choices is not None:
            for one in values:
                if one not in list(choices):
                    self.tell(name, f"{self.where}{name} has {one!r}.{nearest(str(one), choices)}")
        if name in self.values and (not values or len(set(map(str, values))) < len(values)):
            self.tell(name, f"{self.where}{name} is empty or names something twice")
        return tuple(values)

    def inside(self, name: str) -> Fields | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            self.tell(name, f"{self.where}{name} must be a mapping of fields")
            return None
        return Fields(node, where=f"{self.where}{name}.", problems=self.problems)

    def each(self, name: str) -> list[Fields]:
        """The mappings of a list."""
        node = self._nodes.get(name)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.tell(name, f"{self.where}{name} must be a list of mappings of fields")
            return []
        found = []
        for number, item in enumerate(node.value, 1):
            where = f"{self.where}{name}[{number}]"
            if isinstance(item, yaml.MappingNode):
                found.append(Fields(item, where=f"{where}.", problems=self.problems))
            else:
                self.tell(name, f"{where} must be a mapping of fields", line=item.start_mark.line + 1)
        return found


def is_whole(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def nearest(name: str, names: Collection[str]) -> str:
    """The end of a problem: what may have been meant, or what there is when it is little."""
    exact = {known.lower(): known for known in names}
    if close := difflib.get_close_matches(name.lower(), exact, n=3, cutoff=0.6):
        return f" Did you mean {' or '.join(exact[one] for one in close)}?"
    return f" There are {', '.join(sorted(names))}." if 0 < len(names) <= 12 else ""
