"""What our codes mean in the OMOP vocabularies: schemas/omop/concepts.yaml, and concept 0 for everything else. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd
import yaml

from radlake.resources import schemas_root

__all__ = ["NO_CONCEPT", "Concepts", "concepts_file", "record_concept"]

NO_CONCEPT = 0  # "No matching concept"


@cache
def concepts_file() -> dict[str, Any]:
    """The mapping as it stands: `version`, and concepts by group and code."""
    return yaml.safe_load((schemas_root() / "omop" / "concepts.yaml").read_text(encoding="utf-8"))


@dataclass
class Concepts:
    """Looks concepts up, and counts what has none.

    Attributes
    ----------
    unmapped : dict of str to Counter
        By group, how often a source value had no concept.
    """

    unmapped: dict[str, Counter[str]] = field(default_factory=dict)

    def of(self, group: str, values: Any) -> pd.Series:
        """Concept ids of source values, 0 where there is none.

        Parameters
        ----------
        group : str
            Of schemas/omop/concepts.yaml; one that is not there maps nothing.
        """
        known = {code: concept["id"] for code, concept in concepts_file().get(group, {}).items()}
        strange = values[~values.isin(list(known))]
        self.unmapped.setdefault(group, Counter()).update(map(str, strange))
        return values.map(known).fillna(NO_CONCEPT).astype("int64")


def record_concept(code: str) -> int:
    """A concept of the group `record`: where a record comes from, and what of another one it points at."""
    return concepts_file()["record"][code]["id"]
