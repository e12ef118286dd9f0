"""Rule packs of repeated exams: files under review, read strictly, as values.

A pack says which grounds excuse a repeat, in which order they are looked at. Windows are a table of their own, and so
are the grounds: their bits are in stored data. Nothing is counted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Exclusion", "Ground", "RulePack", "Windows", "load_grounds", "load_packs", "load_windows"]

_SPECIAL = {"windows.yaml", "grounds.yaml"}


@dataclass(frozen=True)
class Ground:
    """A reason on record for doing an exam again; `of` tells whose record says it."""

    code: str
    bit: int
    of: Literal["earlier", "later"]
    zh: str
    en: str
    source: str


@dataclass(frozen=True)
class Exclusion:
    """A ground that excuses a repeat.

    Attributes
    ----------
    class_ : str
        What the pair is then: `justified` or `follow_up`.
    operation_within_days : int or None
        An operation 0 to so many days after the exam counts as this ground too.
    """

    ground: Ground
    class_: Literal["justified", "follow_up"]
    operation_within_days: int | None = None


@dataclass(frozen=True)
class Windows:
    """Lengths of windows in days, ascending, those that headlines use, and what is common to all packs.

    Attributes
    ----------
    max_person_exams : int
        A person with more exams is no person but a number that many share: its exams match nothing.
    """

    version: int
    days: tuple[int, ...]
    headline_days: tuple[int, ...]
    max_person_exams: int
    source: str


@dataclass(frozen=True)
class RulePack:
    """One set of rules; `name` (id and version) stands beside every number made by it.

    Attributes
    ----------
    exclusions : tuple of Exclusion
        In the order in which they are looked at; the first that applies names the pair.
    """

    id: str
    version: int
    title: Mapping[str, str]
    source: str
    windows: Windows
    exclusions: tuple[Exclusion, ...]

    @property
    def name(self) -> str:
        return f"{self.id}_v{self.version}"


def load_windows(root: Path | None = None) -> Windows:
    """The table of windows.

    Raises
    ------
    ConfigInvalid
    """
    path = _folder(root) / "windows.yaml"
    data = _read(path, {"version", "days", "headline_days", "max_person_exams", "source"})
    data |= {name: tuple(data[name]) for name in ("days", "headline_days")}
    windows = Windows(**data)
    problems = []
    if not windows.days or list(windows.days) != sorted(set(windows.days)) or windows.days[0] < 1:
        problems.append("days must be whole numbers from 1, ascending")
    if not set(windows.headline_days) <= set(windows.days):
        problems.append("headline_days must be among days")
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return windows


def load_grounds(root: Path | None = None) -> dict[str, Ground]:
    """Every ground by its code.

    Raises
    ------
    ConfigInvalid
    """
    path = _folder(root) / "grounds.yaml"
    grounds = [Ground(**row) for row in _read(path, {"grounds"})["grounds"]]
    problems = [
        f"{ground.code}: of must be earlier or later" for ground in grounds if ground.of not in ("earlier", "later")
    ]
    if len({ground.bit for ground in grounds}) < len(grounds) or not all(0 <= ground.bit < 31 for ground in grounds):
        problems.append("every ground needs a bit of its own, 0 to 30")
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return {ground.code: ground for ground in grounds}


def load_packs(root: Path | None = None) -> dict[str, RulePack]:
    """Every rule pack by its name (`clinical_v1`), sorted.

    Raises
    ------
    ConfigInvalid
        With all problems of all packs.
    """
    return dict(_load_packs(_folder(root)))


@cache
def _load_packs(folder: Path) -> dict[str, RulePack]:
    grounds, windows = load_grounds(folder), load_windows(folder)
    packs: dict[str, RulePack] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        if path.name in _SPECIAL:
            continue
        data = _read(path, {"id", "version", "title", "source", "windows_version", "exclusions"})
        found = _pack_problems(data, grounds=grounds, windows=windows)
        problems += [f"{path.name}: {problem}" for problem in found]
        if not found:
            exclusions = tuple(
                Exclusion(grounds[row["code"]], row["class"], row.get("operation_within_days"))
                for row in data["exclusions"]
            )
            pack = RulePack(
                id=data["id"],
                version=data["version"],
                title=data["title"],
                source=data["source"],
                windows=windows,
                exclusions=exclusions,
            )
            packs[pack.name] = pack
    if problems:
        raise ConfigInvalid(path=folder, problems=problems)
    return dict(sorted(packs.items()))


def _pack_problems(data: Mapping[str, Any], *, grounds: Mapping[str, Ground], windows: Windows) -> list[str]:
    problems = []
    if data["windows_version"] != windows.version:
        problems.append(f"windows_version is {data['windows_version']}, windows.yaml is {windows.version}")
    codes = [row.get("code") for row in data["exclusions"]]
    problems += [f"there is no ground {code}" for code in codes if code not in grounds]
    problems += [f"{code} is given twice" for code in sorted(set(map(str, codes))) if codes.count(code) > 1]
    problems += [
        f"{row.get('code')}: class must be justified or follow_up"
        for row in data["exclusions"]
        if row.get("class") not in ("justified", "follow_up")
    ]
    return problems


def _folder(root: Path | None) -> Path:
    return root or schemas_root() / "rules" / "duplicates"


def _read(path: Path, fields: set[str]) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as exc:
        raise ConfigInvalid(path=path, problems=[str(exc)]) from exc
    if not isinstance(data, dict) or set(data) != fields:
        found = sorted(data) if isinstance(data, dict) else []
        raise ConfigInvalid(path=path, problems=[f"must have the fields {sorted(fields)}, has {found}"])
    return data
