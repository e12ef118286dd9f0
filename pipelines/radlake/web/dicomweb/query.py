"""A search as its URL asks for it, checked whole before a table is read (PS3.18 8.3.4, PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from radlake.dicom.uids import is_uid
from radlake.web.dicomweb.attributes import ATTRIBUTES, OF_SEQUENCES, Attribute, Kind, Level
from radlake.web.dicomweb.refusals import BadRequest

__all__ = ["MOST_RESULTS", "Condition", "Search", "search_from_url"]

MOST_RESULTS = 1000
_MOST_PARAMETERS = 200
_MOST_TOLD = 10
_COUNTS = {"limit": str(MOST_RESULTS), "offset": "0"}
# PS3.18 8.3.4.2, .5 and .6: what is done instead, for whoever asked for it.
_NOT_DONE = {
    "fuzzymatching": "Only literal matching has been performed.",
    "emptyvaluematching": "An empty value matched every value.",
    "multiplevaluematching": "Values were matched as those of one value.",
}
_CHARSETS = {"utf-8", "utf8"}
_HEX = re.compile(r"[0-9A-Fa-f]{8}")
_DATE = re.compile(r"\d{8}")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_PERSON = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Condition:
    """SQL over rows, and the parameters that it names."""

    sql: str
    parameters: dict[str, object]


@dataclass(frozen=True)
class Search:
    """What is searched for.

    Attributes
    ----------
    conditions : tuple of Condition
        All must hold.
    returned : tuple of Attribute
        In the order of their tags.
    warnings : tuple of str
        What was asked for and is not done: the answer must say so.
    """

    level: Level
    conditions: tuple[Condition, ...]
    returned: tuple[Attribute, ...]
    limit: int
    offset: int
    warnings: tuple[str, ...] = ()


def search_from_url(level: Level, pairs: Iterable[tuple[str, str]], *, in_path: int = 0) -> Search:
    """Read the query of a URL. A parameter that is not supported is passed over and told; a value that is none is
    refused (PS3.18 8.3).

    Parameters
    ----------
    pairs : iterable of (str, str)
        Names and values, decoded, in their order.
    in_path : int
        How many levels the path names: of those only the UIDs are returned, unless more is asked for.

    Raises
    ------
    BadRequest
        With all problems at once.
    """
    asked = list(pairs)
    if len(asked) > _MOST_PARAMETERS:
        raise BadRequest(f"A search has at most {_MOST_PARAMETERS} parameters, this one {len(asked):,}.")
    problems: list[str] = []
    conditions: list[Condition] = []
    included: list[str] = []
    matched: list[Attribute] = []
    passed_over: list[str] = []
    others = {**_COUNTS, **dict.fromkeys(_NOT_DONE, "false")}
    for name, value in asked:
        if name == "includefield":
            included += value.split(",")
        elif name in others:
            others[name] = value
        elif name == "charset":
            if value.lower() not in _CHARSETS:
                problems.append("charset: answers are in utf-8")
        elif name == "accept":
            continue
        elif (attribute := _attribute(name)) is None or attribute.level > level:
            passed_over.append(name)
        else:
            matched.append(attribute)
            try:
                if condition := _condition(attribute, value, number=len(conditions)):
                    conditions.append(condition)
            except ValueError as exc:
                problems.append(f"{name}: {exc}")
    counts = {}
    for name in _COUNTS:
        if re.fullmatch(r"[0-9]{1,9}", others[name]):
            counts[name] = int(others[name])
        else:
            problems.append(f"{name}: give a number from 0")
    problems += [f"{name}: give true or false" for name in _NOT_DONE if others[name] not in ("true", "false")]
    returned = {a.keyword: a for a in ATTRIBUTES.values() if _is_returned(a, level, in_path=in_path)}
    returned |= {attribute.keyword: attribute for attribute in matched}
    for name in included:
        if name == "all":
            returned |= {a.keyword: a for a in ATTRIBUTES.values() if a.level <= level}
        elif not _is_known(name):
            problems.append(f"includefield: {name} is no attribute of the DICOM dictionary")
        elif (attribute := _attribute(name)) and attribute.level <= level:
            returned[attribute.keyword] = attribute
    if problems:
        raise BadRequest(_told(problems, separator="; "))
    warnings = [f"The {name} parameter is not supported. {done}" for name, done in _NOT_DONE.items()
                if others[name] == "true"]  # fmt: skip
    if passed_over:
        names = _told([re.sub(r"[^\w.-]", "?", name, flags=re.ASCII)[:64] for name in passed_over], separator=", ")
        warnings.append(f"These parameters are not supported here and were passed over: {names}")
    return Search(
        level=level,
        conditions=tuple(conditions),
        returned=tuple(sorted(returned.values(), key=lambda one: one.tag)),
        limit=min(counts["limit"], MOST_RESULTS),
        offset=counts["offset"],
        warnings=tuple(warnings),
    )


def _told(texts: list[str], *, separator: str) -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(texts) - _MOST_TOLD:,} more"] if len(texts) > _MOST_TOLD else []
    return separator.join(texts[:_MOST_TOLD] + more)


def _is_returned(attribute: Attribute, level: Level, *, in_path: int) -> bool:
    if attribute.level < in_path:
        return attribute.keyword == attribute.level.uid
    return attribute.level <= level and attribute.is_default


def _attribute(name: str) -> Attribute | None:
    """By keyword or tag; an attribute of a sequence by the path to it."""
    parts = [keyword_for_tag(part) if _HEX.fullmatch(part) else part for part in name.split(".")]
    return ATTRIBUTES.get(OF_SEQUENCES.get(".".join(parts), parts[0] if len(parts) == 1 else ""))


def _is_known(name: str) -> bool:
    """Private attributes are, by tag; sequences are named by their items' attributes too."""
    parts = name.split(".")
    return all(_HEX.fullmatch(part) is not None or tag_for_keyword(part) is not None for part in parts)


def _condition(attribute: Attribute, value: str, *, number: int) -> Condition | None:
    """None when every value matches."""
    if value in ("", "*") or (value == "-" and attribute.kind in (Kind.DATE, Kind.TIME)):
        return None
    name, sql = f"p{number}", attribute.sql
    if not sql:
        return Condition("false", {})
    match attribute.kind:
        case Kind.UID:
            uids = re.split(r"[,\\]", value)
            if not all(map(is_uid, uids)):
                raise ValueError("give UIDs, separated by commas")
            return Condition(f"{sql} IN (SELECT unnest(${name}))", {name: uids})
        case Kind.DATE:
            return _dates(sql, value, name=name)
        case Kind.TIME:
            return _times(sql, value, name=name)
        case Kind.NUMBER:
            if not re.fullmatch(r"-?\d{1,18}", value):
                raise ValueError("give a whole number")
            return Condition(f"{sql} = ${name}", {name: int(value)})
        case Kind.PERSON_KEY:
            if _PERSON.fullmatch(value):
                return Condition(f"{sql} = {int(value, 16)}", {})  # a literal: files tell which keys they hold
            return _text(f"printf('%016x', {sql})", value, name=name)
        case Kind.TEXTS:
            values = re.split(r"[,\\]", value)
            return Condition(rf"list_has_any(string_split({sql}, '\'), ${name})", {name: values})
        case Kind.TEXT:
            return _text(sql, value, name=name)


def _text(sql: str, value: str, *, name: str) -> Condition:
    """`*` stands for any characters, `?` for one (PS3.4 C.2.2.2.4)."""
    if not set("*?") & set(value):
        return Condition(f"{sql} = ${name}", {name: value})
    pattern = re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%").replace("?", "_")
    return Condition(rf"{sql} LIKE ${name} ESCAPE '\'", {name: pattern})


def _dates(sql: str, value: str, *, name: str) -> Condition:
    first, last = _ends(value)
    if not all(_DATE.fullmatch(end) for end in (first, last) if end):
        raise ValueError("give a date as YYYYMMDD, or a range of two with -")
    terms, parameters = [], {}
    if first:
        day = _day(first)
        terms.append(f"{sql} >= ${name}a")
        parameters[f"{name}a"] = day
        terms += [f"study.study_month >= {day:%Y%m}"] if sql == "study.study_at" else []
    if last:
        day = _day(last)
        terms.append(f"CAST({sql} AS DATE) <= ${name}b")
        parameters[f"{name}b"] = day
        terms += [f"study.study_month <= {day:%Y%m}"] if sql == "study.study_at" else []
    return Condition(" AND ".join(terms), parameters)


def _times(sql: str, value: str, *, name: str) -> Condition:
    first, last = _ends(value)
    if not all(_TIME.fullmatch(end) for end in (first, last) if end):
        raise ValueError("give a time as HHMMSS, or a range of two with -")
    terms, parameters = [], {}
    text = f"strftime({sql}, '%H%M%S.%f')"
    if first:
        terms.append(f"{text} >= ${name}a")
        parameters[f"{name}a"] = first
    if last:
        terms.append(f"{text} <= ${name}b")
        parameters[f"{name}b"] = f"{last}~"  # all times that begin with it
    return Condition(" AND ".join(terms), parameters)


def _ends(value: str) -> tuple[str, str]:
    first, dash, last = value.partition("-")
    return first, last if dash else first


def _day(text: str) -> date:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise ValueError(f"there is no day {text}") from None
