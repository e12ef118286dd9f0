"""When two pseudonyms are of one person: schemas/linkage/policy.yaml, read and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root

__all__ = ["Policy", "load_policy"]


class _Weight(BaseModel):
    model_config = ConfigDict(extra="forbid")

    m: float = Field(gt=0, lt=1)
    u: float = Field(gt=0, lt=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1)
    threshold: float = Field(gt=0.5, lt=1)
    most_keys: int = Field(ge=2)
    least_records: int = Field(ge=1)
    training_pairs: int = Field(ge=10_000)
    seed: int
    rule_recall: float = Field(gt=0, le=1)
    prior: float = Field(gt=0, lt=1)
    weights: dict[str, dict[str, _Weight]]


@dataclass(frozen=True)
class Policy:
    """The policy; `weights` by comparison and level, as (m, u) of Fellegi and Sunter (JASA 1969;64:1183)."""

    version: int
    threshold: float
    most_keys: int
    least_records: int
    training_pairs: int
    seed: int
    rule_recall: float
    prior: float
    weights: Mapping[str, Mapping[str, tuple[float, float]]]
    digest: str

    @property
    def name(self) -> str:
        """How history and published tables name it: version and the beginning of the file's digest."""
        return f"v{self.version}-{self.digest[:8]}"


LEVELS = {
    "name": ("same_characters", "same_sound", "other"),
    "birth_date": ("same", "mistyped", "other"),
    "sex": ("same", "other"),
    "phone": ("same", "mistyped", "other"),
}


@cache
def load_policy() -> Policy:
    """The policy of this release.

    Raises
    ------
    ConfigInvalid
        With every problem of the file.
    """
    path = schemas_root() / "linkage" / "policy.yaml"
    text = path.read_text(encoding="utf-8")
    try:
        read = _File.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as exc:
        raise ConfigInvalid(path=path, problems=[str(exc)]) from exc
    problems = [f"weights: {name} needs {', '.join(levels)}, in this order" for name, levels in LEVELS.items()
                if tuple(read.weights.get(name, ())) != levels]  # fmt: skip
    if problems or read.weights.keys() != LEVELS.keys():
        raise ConfigInvalid(path=path, problems=problems or [f"weights: only {', '.join(LEVELS)} are compared"])
    weights = {name: {level: (one.m, one.u) for level, one in levels.items()} for name, levels in read.weights.items()}
    given = {name: value for name, value in read.model_dump().items() if name != "weights"}
    return Policy(**given, weights=weights, digest=hashlib.sha256(text.encode()).hexdigest())
