"""Quirks of PACS: what real ones do that a harvester must survive, as data.

One field of `Quirks`, one deviation, off by default. `CATALOGUE` names each quirk, says what it looks like and who met
it. Those of the wire are enacted by `behaviour`, those of what lies in the archive by `virtual`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Literal

from radlake.errors import ConfigInvalid

__all__ = ["CATALOGUE", "CatalogueEntry", "Quirks", "combined", "quirks_from_json"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a simulated PACS deviates.

    Attributes
    ----------
    answer_charset : str
        Specific Character Set of every answer to a query, whatever the question's was.
    is_charset_mislabelled : bool
        Answers and objects are GB 18030 and say ISO_IR 100.
    omit_counts : bool
        Answers carry no NumberOf…Related… attributes.
    omit_sop_classes : bool
        Answers carry no SOP Class UID.
    result_cap : int
        Queries stop after so many answers and report success; 0: they do not.
    refuse_above : int
        Queries with more answers are refused as too broad; 0: they are not.
    empty_success : int
        The first so many retrieves of each study succeed with no sub-operations.
    fail_one_in : int
        One of so many instances can never be sent; 0: none.
    fail_instances : tuple of str
        SOP Instance UIDs that can never be sent.
    hide_failures : bool
        Sub-operations that failed are counted as completed.
    answer_first : bool
        C-MOVE is answered before anything is sent.
    association_per_image : bool
        C-MOVE opens an association for each instance.
    needs_series : bool
        Instances are listed and sent only when Study and Series Instance UID are named.
    offline_one_in, offline_asks : int
        One of so many studies lies on tape (0: none) and comes after so many retrieves.
    drop_after_n : int
        The connection is cut once, when so many instances have been sent; 0: it is not.
    twins : {"", "same", "other", "series"}
        Some studies hold a SOP Instance UID twice: with the same bytes, with others, or in two series.
    late_one_in : int
        One of so many studies gets a further series after it was first listed; 0: none.
    skew_days : int
        Its clock is so many days ahead: what it answers as study date is wrong.
    delay_ms : int
        It waits so long before each answer.
    flap : int
        Every so many-th association or request is refused; 0: none.
    """

    answer_charset: str = "ISO_IR 192"
    is_charset_mislabelled: bool = False
    omit_counts: bool = False
    omit_sop_classes: bool = False
    result_cap: int = 0
    refuse_above: int = 0
    empty_success: int = 0
    fail_one_in: int = 0
    fail_instances: tuple[str, ...] = ()
    hide_failures: bool = False
    answer_first: bool = False
    association_per_image: bool = False
    needs_series: bool = False
    offline_one_in: int = 0
    offline_asks: int = 0
    drop_after_n: int = 0
    twins: Literal["", "same", "other", "series"] = ""
    late_one_in: int = 0
    skew_days: int = 0
    delay_ms: int = 0
    flap: int = 0


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A quirk that somebody met in the wild: its name, what it looks like, and the thread that tells of it."""

    name: str
    meaning: str
    source: str
    quirks: Quirks


CATALOGUE = (
    CatalogueEntry(
        "cap-silent", "lists end at 200 and say success", "ADIT: 200; pynetdicom#467: 500", Quirks(result_cap=200)
    ),
    CatalogueEntry("cap-refused", "a list above 500 is refused", "dcm4chee-arc#1446", Quirks(refuse_above=500)),
    CatalogueEntry(
        "empty-success", "SUCCESS with no sub-operations when overwhelmed", "ADIT on IMPAX", Quirks(empty_success=1)
    ),
    CatalogueEntry(
        "failed-success",
        "SUCCESS though sub-operations failed",
        "pynetdicom#552, #577; ADIT on GE",
        Quirks(fail_one_in=9, hide_failures=True),
    ),
    CatalogueEntry("partial-warning", "0xB000: some sub-operations failed", "openradx/adit#415", Quirks(fail_one_in=7)),
    CatalogueEntry(
        "answers-first", "C-MOVE is answered before it sends", "RSNA anonymizer on VNAs", Quirks(answer_first=True)
    ),
    CatalogueEntry(
        "association-per-image",
        "an association for each instance",
        "dicomweb-proxy#23",
        Quirks(association_per_image=True),
    ),
    CatalogueEntry("no-counts", "no numbers of instances", "pynetdicom#369, #750", Quirks(omit_counts=True)),
    CatalogueEntry("no-sop-class", "no SOP Class UID in answers", "RSNA anonymizer#11", Quirks(omit_sop_classes=True)),
    CatalogueEntry("needs-series", "wants Study and Series UID", "ChRIS_ui#1133 on FUJI", Quirks(needs_series=True)),
    CatalogueEntry(
        "mislabelled",
        "GB 18030 that says ISO_IR 100",
        "fo-dicom#530, OHIF#2716",
        Quirks(is_charset_mislabelled=True),
    ),
    CatalogueEntry(
        "nearline", "on tape: fails now, comes later", "ADIT TODO", Quirks(offline_one_in=3, offline_asks=1)
    ),
    CatalogueEntry("abort", "the connection is cut in mid-transfer", "fo-dicom#1464", Quirks(drop_after_n=5)),
    CatalogueEntry("twin-same", "a SOP Instance UID twice, same bytes", "dcm4chee-arc#4754", Quirks(twins="same")),
    CatalogueEntry("twin-other", "a SOP Instance UID twice, other bytes", "GCP adapter#153", Quirks(twins="other")),
    CatalogueEntry("twin-series", "a SOP Instance UID in two series", "dcm4chee-arc#4518", Quirks(twins="series")),
    CatalogueEntry(
        "late-series", "a series comes after the study was listed", "mercure#32, MIG#347", Quirks(late_one_in=3)
    ),
    CatalogueEntry("clock-skew", "its clock is a day ahead", "Niffler: 5 scanners", Quirks(skew_days=1)),
    CatalogueEntry("slow", "each answer takes a while", "pynetdicom#382", Quirks(delay_ms=15)),
    CatalogueEntry("flapping", "refuses now and then", "dicomweb-proxy#110", Quirks(flap=7)),
)


def combined(*entries: CatalogueEntry) -> Quirks:
    """All quirks of some entries; where two set the same field the later one counts."""
    default = Quirks()
    given = {
        field.name: value
        for entry in entries
        for field in fields(Quirks)
        if (value := getattr(entry.quirks, field.name)) != getattr(default, field.name)
    }
    return Quirks(**given)


def quirks_from_json(text: str) -> Quirks:
    """Read quirks from a JSON object.

    >>> quirks_from_json('{"result_cap": 200}').result_cap
    200
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ConfigInvalid(path="quirks", problems=[str(exc)]) from exc
    unknown = set(given) - {field.name for field in fields(Quirks)}
    if unknown:
        raise ConfigInvalid(path="quirks", problems=[f"{name}: no such quirk" for name in sorted(unknown)])
    return Quirks(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})  # pyright: ignore[reportArgumentType]
