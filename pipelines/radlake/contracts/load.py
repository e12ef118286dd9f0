"""Read `schemas/<layer>/<table>_v<n>.yaml` strictly: every problem of every file at once.

A contract that exists is valid: names resolve, types are ours, patterns compile.
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from radlake.contracts.check import compute
from radlake.contracts.table import Column, Disclosure, Table
from radlake.contracts.types import ARROW_TYPES, NUMERIC_TYPES
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["load_table", "load_tables"]

LAYERS = ("dicom", "core", "dose", "stats", "research", "ref", "ops")
ZONES = ("lake", "restricted")
PRIVACY_CLASSES = ("public", "technical", "clinical", "quasi_identifier", "shifted_date", "pseudonym", "identifier")

_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_FILE = re.compile(r"(?P<name>[a-z0-9_]+)_v(?P<version>[1-9][0-9]*)")
_TABLE_FIELDS = {
    "table": str, "version": int, "zone": str, "grain": str, "description": str, "key": list, "sort": list,
    "columns": list, "partition": str, "disclosure": dict,
}  # fmt: skip
_COLUMN_FIELDS = {
    "name": str, "type": str, "required": bool, "privacy": str, "description": str, "unit": str, "keyword": str,
    "values": list, "pattern": str, "minimum": (int, float), "maximum": (int, float),
    "default": (str, int),
}  # fmt: skip
_DISCLOSURE_FIELDS = {"dimensions": list, "counts": list, "dependent": list, "is_coarse": bool, "hidden": list}


def load_table(name: str, *, root: Path | None = None) -> Table:
    """The contract of `layer.table` (its latest version) or `layer.table_v1`.

    Raises
    ------
    ConfigInvalid
        If a contract is not valid, or there is none of that name.
    """
    root = root or schemas_root()
    found = [table for table in load_tables(root=root).values() if name in (table.view_name, table.full_name)]
    if not found:
        raise ConfigInvalid(path=root, problems=[f"no contract of a table named {name}"])
    return max(found, key=lambda table: table.version)


def load_tables(*, root: Path | None = None) -> dict[str, Table]:
    """Every contract, by full name (`dicom.study_v1`), sorted.

    Raises
    ------
    ConfigInvalid
        With all problems of all files.
    """
    return dict(_load_tables(root or schemas_root()))


@cache
def _load_tables(root: Path) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    problems: list[str] = []
    for path in sorted(path for layer in LAYERS for path in (root / layer).glob("*.yaml")):
        where = path.relative_to(root)
        data, found = _read(path)
        found = found or table_problems(data, layer=path.parent.name, file_name=path.stem)
        problems += [f"{where}: {problem}" for problem in found]
        if not found:
            table = table_from_yaml(data)
            tables[table.full_name] = table
    if problems or not tables:
        raise ConfigInvalid(path=root, problems=problems or ["no contract in it"])
    return tables


class _StrictLoader(yaml.CSafeLoader):
    """The safe loader, which would silently keep the last of two equal keys, made to refuse them."""


def _unique_mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        data = yaml.load(path.read_bytes(), Loader=_StrictLoader)
    except yaml.MarkedYAMLError as exc:
        line = f"line {exc.problem_mark.line + 1}: " if exc.problem_mark else ""
        return {}, [f"{line}{exc.problem}"]
    except yaml.YAMLError as exc:
        return {}, [str(exc)]
    return (data, []) if isinstance(data, dict) else ({}, ["is not a mapping"])


def table_problems(data: dict[str, Any], *, layer: str, file_name: str) -> list[str]:
    """Everything that is wrong with the YAML of one contract, in its own words."""
    problems = _field_problems(data, fields=_TABLE_FIELDS, optional={"partition", "disclosure"})
    columns: list[dict[str, Any]] = []
    for number, column in enumerate(data.get("columns") or [], 1):
        if not isinstance(column, dict):
            problems.append(f"column {number} is not a mapping")
            continue
        label = f"column {column.get('name') or number}"
        found = _field_problems(
            column,
            fields=_COLUMN_FIELDS,
            optional={"unit", "keyword", "values", "pattern", "minimum", "maximum", "default"},
        ) or _column_problems(column)
        problems += [f"{label}: {problem}" for problem in found]
        columns.append(column)
    if problems:
        return problems

    match = _FILE.fullmatch(file_name)
    expected = f"{layer}.{match['name']}, version {match['version']}" if match else f"{layer}.<name>_v<version>.yaml"
    if expected != f"{data['table']}, version {data['version']}":
        problems.append(f"says {data['table']}, version {data['version']}; its file name says {expected}")
    if data["zone"] not in ZONES:
        problems.append(f"zone is {data['zone']}, must be one of {', '.join(ZONES)}")
    names = [column["name"] for column in columns]
    problems += [f"column {name} is given twice" for name in sorted({n for n in names if names.count(n) > 1})]
    by_name = {column["name"]: column for column in columns}
    lists = {"key": data["key"], "sort": data["sort"], "partition": [data["partition"]] if "partition" in data else []}
    if "disclosure" in data:
        found = _field_problems(data["disclosure"], fields=_DISCLOSURE_FIELDS, optional={"is_coarse", "hidden"})
        problems += [f"disclosure: {problem}" for problem in found]
        lists |= {f"disclosure.{k}": v for k, v in data["disclosure"].items() if isinstance(v, list)}
    for field, members in lists.items():
        problems += [f"{field} names {member}, which is not a column" for member in members if member not in by_name]
        if len(set(map(str, members))) != len(members):
            problems.append(f"{field} names a column twice")
    if not data["key"]:
        problems.append("key is empty")
    if "default" in by_name.get(data.get("partition"), {}):
        problems.append(f"column {data['partition']} is the partition and cannot be added later")
    for member in [*data["key"], *lists["partition"]]:
        if member in by_name and not by_name[member]["required"]:
            problems.append(f"column {member} is in the key or the partition and must be required")
    if lists["partition"] and by_name.get(data["partition"], {}).get("type") != "INTEGER":
        problems.append("the partition column must be INTEGER")
    return problems


def table_from_yaml(data: dict[str, Any]) -> Table:
    """The value of a contract that `table_problems` found nothing wrong with."""
    layer, name = data["table"].split(".")
    columns = tuple(Column(**_tuples(column)) for column in data["columns"])
    return Table(
        layer=layer,
        name=name,
        version=data["version"],
        zone=data["zone"],
        grain=data["grain"],
        description=data["description"],
        key=tuple(data["key"]),
        columns=columns,
        sort=tuple(data["sort"]),
        partition=data.get("partition"),
        disclosure=Disclosure(**_tuples(data["disclosure"])) if "disclosure" in data else None,
    )


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def _field_problems(data: dict[str, Any], *, fields: dict[str, Any], optional: set[str]) -> list[str]:
    problems = [f"unknown field {name}" for name in data if name not in fields]
    problems += [f"{name} is missing" for name in fields if name not in data and name not in optional]
    for name, value in data.items():
        wanted = fields.get(name)
        if wanted is None:
            continue
        is_bool_for_number = isinstance(value, bool) and wanted is not bool
        if not isinstance(value, wanted) or is_bool_for_number or value == "":
            names = " or ".join(t.__name__ for t in (wanted if isinstance(wanted, tuple) else (wanted,)))
            problems.append(f"{name} must be a {names}, and not empty")
    return problems


def _column_problems(column: dict[str, Any]) -> list[str]:
    kind, privacy = column["type"], column["privacy"]
    has_limits = "minimum" in column or "maximum" in column
    rules = [
        (not _SNAKE.fullmatch(column["name"]), "name is not snake_case"),
        (kind not in ARROW_TYPES, f"type {kind} is not one of {', '.join(ARROW_TYPES)}"),
        (privacy not in PRIVACY_CLASSES, f"privacy {privacy} is not one of {', '.join(PRIVACY_CLASSES)}"),
        ("pattern" in column and kind != "VARCHAR", "pattern needs type VARCHAR"),
        ("pattern" in column and not _compiles(column["pattern"]), "pattern is not an RE2 expression"),
        (has_limits and kind not in NUMERIC_TYPES, "minimum and maximum need a number type"),
        (column.get("minimum", -math.inf) > column.get("maximum", math.inf), "minimum is above maximum"),
        (
            "default" in column and not _are_values([column["default"]], kind=kind),
            f"default must fit type {kind}",
        ),
        (
            "default" in column and column["default"] not in column.get("values", [column["default"]]),
            "default is not one of values",
        ),
        (not _are_values(column.get("values"), kind=kind), f"values must be distinct and fit type {kind}"),
    ]
    return [sentence for is_broken, sentence in rules if is_broken]


def _compiles(pattern: str) -> bool:
    try:
        compute.match_substring_regex(pa.nulls(1, pa.string()), pattern=pattern)  # a list would load pandas
    except pa.ArrowInvalid:
        return False
    return True


def _are_values(values: list[Any] | None, *, kind: str) -> bool:
    if values is None:
        return True
    wanted = {"VARCHAR": str, "SMALLINT": int, "INTEGER": int, "BIGINT": int}.get(kind)
    return bool(values) and len(set(values)) == len(values) and all(type(value) is wanted for value in values)
