"""The retention class of a study, from what its identified headers tell: outpatient, inpatient, both, or unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from radlake.dicom.values import texts

__all__ = ["RetentionClass", "Rule", "class_of", "class_of_headers"]


class RetentionClass(StrEnum):
    """As the law tells records apart."""

    OUTPATIENT = "outpatient"
    INPATIENT = "inpatient"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rule:
    """A value of an attribute that is evidence of a class.

    Attributes
    ----------
    matches : str
        Regular expression for the whole value, whatever its case.
    """

    keyword: str
    matches: str
    retention_class: RetentionClass

    def is_met(self, header: Dataset) -> bool:
        values = texts(header, tag_for_keyword(self.keyword) or 0)
        return any(re.fullmatch(self.matches, value.strip(), re.IGNORECASE | re.DOTALL) for value in values)


def class_of(evidence: Iterable[str]) -> RetentionClass:
    """What follows from evidence of several instances, or of several harvests.

    >>> class_of(["outpatient", "unknown"]).value, class_of(["outpatient", "inpatient"]).value, class_of([]).value
    ('outpatient', 'mixed', 'unknown')
    """
    kinds = {RetentionClass(item) for item in evidence} - {RetentionClass.UNKNOWN}
    if not kinds:
        return RetentionClass.UNKNOWN
    return kinds.pop() if len(kinds) == 1 else RetentionClass.MIXED


def class_of_headers(headers: Iterable[Dataset], *, rules: Sequence[Rule]) -> RetentionClass:
    """The class of a study by every rule that any of its headers meets."""
    return class_of({rule.retention_class for header in headers for rule in rules if rule.is_met(header)})
